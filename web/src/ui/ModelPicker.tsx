/** Which model answers, and at whose machine: what is known of its speed and its load. */

import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { type Chat, canChat } from "../app/chat.ts";
import { asRecord } from "../chat/lines.ts";
import { fold } from "../chat/search.ts";
import { modelLine, rate, rtt, shortKey, wayName, wayOf } from "../chat/words.ts";
import { type Connection, type Holder, json, type ListedModel } from "../connection.ts";
import { useWorld } from "./context.ts";
import { Dialog } from "./Dialog.tsx";
import { Icon } from "./icons.tsx";
import { PathGlyph } from "./PathGlyph.tsx";
import { usePathChanges } from "./paths.ts";

const SEARCH_FROM = 8; // models; fewer are looked through at a glance

export function ModelPicker(): JSX.Element {
  const { chat, face } = useWorld();
  usePathChanges(chat);
  const loaded = useLoaded(chat);
  const [query, setQuery] = useState("");
  const close = () => (face.panel.value = null);
  const models = chat.models.value.filter(canChat);
  const shown = models.filter(({ name }) => fold(name).includes(fold(query.trim())));
  const choose = (model: string, pin: string | null) => {
    void chat.choose({ model, pin });
    close();
  };
  return (
    <Dialog name="picker" title="Models" onClose={close}>
      {models.length >= SEARCH_FROM && (
        <label class="search">
          <Icon name="search" size={18} />
          <span class="visually-hidden">Find a model</span>
          <input
            type="search"
            placeholder="Find a model"
            value={query}
            onInput={(event) => setQuery(event.currentTarget.value)}
          />
        </label>
      )}
      {models.length === 0 && (
        <p class="nothing">
          No provider is in your mesh now. On the machine with the models:{" "}
          <code>meshllm share</code>
        </p>
      )}
      <ul class="models">
        {shown.map((model) => (
          <ModelRow key={model.name} model={model} loaded={loaded} onChoose={choose} />
        ))}
      </ul>
      <button
        type="button"
        class="button only-narrow"
        onClick={() => face.show("settings")}
      >
        <Icon name="sliders" size={18} />
        Instructions and options
      </button>
      <p class="fine">
        Speeds are what this browser measured. “Loaded” is what providers say of
        themselves; a model that is not loaded takes a moment longer for its first word.
      </p>
    </Dialog>
  );
}

interface RowProps {
  readonly model: ListedModel;
  readonly loaded: ReadonlyMap<string, ReadonlySet<string>>;
  readonly onChoose: (model: string, pin: string | null) => void;
}

function ModelRow({ model, loaded, onChoose }: RowProps): JSX.Element {
  const { chat } = useWorld();
  const { pin } = chat.current.value;
  const isChosen = chat.model.value?.name === model.name;
  const isPinned = isChosen && model.providers.some(({ id }) => id === pin);
  const name = model.name.replace(/:latest$/, "");
  const line = modelLine(model.details, model.size);
  return (
    <li class={isChosen ? "chosen" : ""}>
      <button
        type="button"
        class="model"
        aria-pressed={isChosen && !isPinned}
        onClick={() => onChoose(model.name, null)}
      >
        <span class="name">{name}</span>
        <Abilities model={model} />
        {isChosen && !isPinned && <Icon name="check" size={18} />}
        <span class="line">{line}</span>
      </button>
      <ul class="holders" aria-label={`Who has ${name}`}>
        {model.providers.map((holder) => (
          <HolderRow
            key={holder.id}
            holder={holder}
            model={model.name}
            isLoaded={loaded.get(holder.id)?.has(model.name) ?? false}
            isPinned={isPinned && holder.id === pin}
            isAlone={model.providers.length === 1}
            onChoose={() => onChoose(model.name, holder.id)}
          />
        ))}
      </ul>
    </li>
  );
}

function Abilities({ model }: { model: ListedModel }): JSX.Element {
  const has = (what: string) => model.capabilities.includes(what);
  return (
    <span class="abilities">
      {has("vision") && <Ability icon="eye" name="sees pictures" />}
      {has("thinking") && <Ability icon="thought" name="thinks first" />}
    </span>
  );
}

function Ability({
  icon,
  name,
}: {
  icon: "eye" | "thought";
  name: string;
}): JSX.Element {
  return (
    <span title={name}>
      <Icon name={icon} size={17} />
      <span class="visually-hidden">{name}</span>
    </span>
  );
}

interface HolderProps {
  readonly holder: Holder;
  readonly model: string;
  readonly isLoaded: boolean;
  readonly isPinned: boolean;
  readonly isAlone: boolean;
  readonly onChoose: () => void;
}

function HolderRow({
  holder,
  model,
  isLoaded,
  isPinned,
  isAlone,
  onChoose,
}: HolderProps): JSX.Element {
  const { chat } = useWorld();
  const path = chat.connection
    .paths()
    .find(({ provider }) => provider.id === holder.id);
  const way =
    holder.path === null ? null : wayOf(holder.path, path?.candidates?.remote ?? null);
  const speed = chat.speeds.of(holder.id, model);
  const { streams, parallel } = holder;
  const busy =
    streams > 0
      ? `${streams} of ${parallel} places taken by you`
      : parallel > 1 && `answers ${parallel} at once`;
  const facts = [
    way === null ? "not connected yet" : wayName(way).toLowerCase(),
    path?.rttMs != null && rtt(path.rttMs),
    speed !== null && rate(speed),
    busy,
  ].filter(Boolean);
  return (
    <li>
      <button
        type="button"
        class="holder"
        aria-pressed={isPinned}
        title={isAlone ? `Only ${holder.name} has it` : `Always ask ${holder.name}`}
        onClick={onChoose}
      >
        <PathGlyph way={way} isBusy={(path?.streams ?? 0) > 0} />
        <span class="name">{holder.name}</span>
        <span class="key">{shortKey(holder.id)}</span>
        {isLoaded && (
          <span class="loaded">
            <Icon name="bolt" size={14} />
            loaded
          </span>
        )}
        <span class="line">{facts.join(" · ")}</span>
        {isPinned && <Icon name="check" size={17} />}
      </button>
    </li>
  );
}

/** What connected providers have loaded, by their ids; asked when the panel opens. */
function useLoaded(chat: Chat): ReadonlyMap<string, ReadonlySet<string>> {
  const [loaded, set] = useState<ReadonlyMap<string, ReadonlySet<string>>>(new Map());
  const connected = chat.models.value
    .flatMap(({ providers }) => providers)
    .filter(({ path }) => path !== null)
    .map(({ id }) => id);
  const ids = useMemo(() => [...new Set(connected)].sort(), [connected.join()]);
  useEffect(() => {
    const abort = new AbortController();
    for (const id of ids) {
      loadedAt(chat.connection, id, abort.signal).then(
        (names) => {
          if (abort.signal.aborted) return;
          set((before) => new Map(before).set(id, names));
          chat.connection.probe(); // our own question counted as load meanwhile
        },
        () => undefined, // it does not say: then nothing is shown
      );
    }
    return () => abort.abort();
  }, [ids, chat]);
  return loaded;
}

async function loadedAt(
  connection: Connection,
  provider: string,
  signal: AbortSignal,
): Promise<Set<string>> {
  const ask = {
    method: "GET",
    path: "/api/ps",
    model: null,
    provider,
    body: json(null).slice(0, 0),
    signal,
  } as const;
  const answer = await connection.ask(ask);
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of answer) text += decoder.decode(bytes, { stream: true });
  const models = asRecord(JSON.parse(text))["models"];
  return new Set(
    Array.isArray(models) ? models.map((model) => String(asRecord(model)["name"])) : [],
  );
}
