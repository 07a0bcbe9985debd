/** Which model answers, and at whose machine: what is known of its speed and its load. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { canChat } from "../app/chat.ts";
import type { Standing } from "../app/standing.ts";
import { fold } from "../chat/search.ts";
import {
  loadWords,
  modelLine,
  rate,
  rtt,
  shortKey,
  wayName,
  wayOf,
} from "../chat/words.ts";
import type { Holder, ListedModel } from "../connection.ts";
import { useWorld } from "./context.ts";
import { Dialog } from "./Dialog.tsx";
import { Icon } from "./icons.tsx";
import { PathGlyph } from "./PathGlyph.tsx";
import { usePathChanges } from "./paths.ts";
import { type Standings, useStandings } from "./standings.ts";

const SEARCH_FROM = 8; // models; fewer are looked through at a glance

export function ModelPicker(): JSX.Element {
  const { chat, face } = useWorld();
  usePathChanges(chat);
  const [query, setQuery] = useState("");
  const close = () => (face.panel.value = null);
  const models = chat.models.value
    .filter(canChat)
    .sort((one, other) => one.name.localeCompare(other.name));
  const standings = useStandings(chat, models);
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
          <ModelRow
            key={model.name}
            model={model}
            standings={standings}
            onChoose={choose}
          />
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
        Speeds are what this browser measured; how busy they are and what is loaded,
        providers say themselves. A model that is not loaded takes longer for its first
        word.
      </p>
    </Dialog>
  );
}

interface RowProps {
  readonly model: ListedModel;
  readonly standings: Standings;
  readonly onChoose: (model: string, pin: string | null) => void;
}

function ModelRow({ model, standings, onChoose }: RowProps): JSX.Element {
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
            standing={standings.get(holder.id)}
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
  readonly standing: Standing | "silent" | undefined;
  readonly isPinned: boolean;
  readonly isAlone: boolean;
  readonly onChoose: () => void;
}

function HolderRow({
  holder,
  model,
  standing,
  isPinned,
  isAlone,
  onChoose,
}: HolderProps): JSX.Element {
  const { chat } = useWorld();
  const path = chat.connection
    .paths()
    .find(({ provider }) => provider.id === holder.id);
  const kind = path?.kind ?? holder.path;
  const way = kind === null ? null : wayOf(kind, path?.candidates?.remote ?? null);
  const speed = chat.speeds.of(holder.id, model);
  const told = standing === "silent" ? undefined : standing;
  const isLoaded = told?.loaded.has(model);
  const facts = [
    way !== null
      ? wayName(way).toLowerCase()
      : standing === "silent"
        ? "no connection"
        : "connecting …",
    path?.rttMs != null && rtt(path.rttMs),
    speed !== null && rate(speed),
    told?.load && loadWords(told.load, holder.parallel),
    isLoaded === false && "not loaded",
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
        <PathGlyph way={way} isBusy={(told?.load?.running ?? 0) > 0} />
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
