/** All conversations, and the search through them. */

import { useComputed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { fileName, toJson, toMarkdown } from "../chat/exchange.ts";
import { marked, type Piece, wordsOf } from "../chat/search.ts";
import type { Conversation } from "../chat/types.ts";
import { byDay } from "../chat/words.ts";
import type { Found } from "../store/chats.ts";
import { save } from "./clipboard.ts";
import { useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";
import { Mark } from "./Mark.tsx";
import { Menu } from "./Menu.tsx";

const SEARCH_PAUSE_MS = 120;

export function Sidebar(): JSX.Element {
  const { chat, face } = useWorld();
  const isOpen = face.isDrawerOpen.value;
  const place = useRef<HTMLElement>(null);
  useEffect(() => {
    if (isOpen) place.current?.querySelector<HTMLElement>("button, input")?.focus();
  }, [isOpen]);
  const begin = () => {
    chat.begin();
    face.isDrawerOpen.value = false;
    focusComposer();
  };
  return (
    <>
      {isOpen && <div class="veil" onClick={() => (face.isDrawerOpen.value = false)} />}
      <nav ref={place} class={isOpen ? "side open" : "side"} aria-label="Conversations">
        <div class="side-top">
          <span class="brand">
            <Mark />
            meshllm
          </span>
          <button
            type="button"
            class="icon"
            aria-label="Hide conversations"
            title="Hide conversations"
            onClick={() => face.toggleSidebar()}
          >
            <Icon name="side" />
          </button>
        </div>
        <button type="button" class="begin" onClick={begin}>
          <Icon name="edit" />
          New conversation
        </button>
        <SearchField />
        <div class="list">{face.query.value.trim() ? <Results /> : <Days />}</div>
        <div class="side-foot">
          <button type="button" class="quiet" onClick={() => face.show("data")}>
            <Icon name="lock" size={18} />
            Kept in this browser only
          </button>
          <button
            type="button"
            class="icon not-touch"
            aria-label="Keyboard shortcuts"
            title="Keyboard shortcuts"
            onClick={() => face.show("keys")}
          >
            <Icon name="keyboard" />
          </button>
        </div>
      </nav>
    </>
  );
}

export function focusComposer(): void {
  document.querySelector<HTMLElement>(".composer textarea")?.focus();
}

function SearchField(): JSX.Element {
  const { face } = useWorld();
  return (
    <label class="search">
      <Icon name="search" size={18} />
      <span class="visually-hidden">Search conversations</span>
      <input
        type="search"
        id="search"
        placeholder="Search"
        autocomplete="off"
        value={face.query.value}
        onInput={(event) => (face.query.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") face.query.value = "";
          if (event.key === "ArrowDown") {
            event.preventDefault();
            document.querySelector<HTMLElement>(".side .list .open")?.focus();
          }
        }}
      />
    </label>
  );
}

function Days(): JSX.Element {
  const { chat } = useWorld();
  const groups = useComputed(() => byDay(chat.conversations.value, Date.now()));
  if (groups.value.length === 0)
    return <p class="nothing">What you talk about will be listed here.</p>;
  return (
    <>
      {groups.value.map(({ name, conversations }) => (
        <section key={name} aria-label={name}>
          <h2>{name}</h2>
          <ul>
            {conversations.map((one) => (
              <Row key={one.id} conversation={one} />
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}

function Row({ conversation }: { conversation: Conversation }): JSX.Element {
  const { chat, face } = useWorld();
  const [isRenaming, setRenaming] = useState(false);
  const { id, title } = conversation;
  const isCurrent = chat.current.value.id === id;
  const isBusy = [...chat.running.value.values()].some(
    (running) => running.message.peek().conversation === id,
  );
  if (isRenaming) {
    return (
      <li>
        <Rename
          title={title}
          onDone={(name) => {
            setRenaming(false);
            if (name !== null) void chat.rename(id, name);
          }}
        />
      </li>
    );
  }
  return (
    <li class={isCurrent ? "current" : ""}>
      <button
        type="button"
        class="open"
        aria-current={isCurrent ? "page" : undefined}
        onClick={() => {
          void chat.open(id);
          face.isDrawerOpen.value = false;
        }}
        onDblClick={() => setRenaming(true)}
        onKeyDown={onArrow}
      >
        <span class="title">{title}</span>
        {isBusy && <span class="busy-dot" role="img" aria-label="answering" />}
      </button>
      <Menu
        label={`More about ${title}`}
        icon="dots"
        items={[
          { name: "Rename", icon: "pencil", run: () => setRenaming(true) },
          {
            name: "Save as Markdown",
            icon: "download",
            run: () => void exportOne(chat, id, "md"),
          },
          {
            name: "Save as JSON",
            icon: "download",
            run: () => void exportOne(chat, id, "json"),
          },
          { name: "Delete", icon: "trash", isDanger: true, run: () => void remove() },
        ]}
      />
    </li>
  );

  async function remove(): Promise<void> {
    const whole = await chat.remove(id);
    if (whole === null) return;
    face.tell("Deleted.", {
      name: "Undo",
      run: () => void chat.add([whole]).then(() => chat.open(id)),
    });
  }
}

function onArrow(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  event.preventDefault();
  const all = [...document.querySelectorAll<HTMLElement>(".side .list .open")];
  const at = all.indexOf(event.currentTarget);
  all[event.key === "ArrowDown" ? at + 1 : Math.max(0, at - 1)]?.focus();
}

async function exportOne(
  chat: ReturnType<typeof useWorld>["chat"],
  id: string,
  kind: "md" | "json",
): Promise<void> {
  const whole = await chat.whole(id);
  if (whole === null) return;
  const name = fileName(whole.conversation.title, kind);
  if (kind === "md") save(name, "text/markdown", toMarkdown(whole));
  else save(name, "application/json", toJson([whole]));
}

function Rename({
  title,
  onDone,
}: {
  title: string;
  onDone: (name: string | null) => void;
}): JSX.Element {
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  return (
    <input
      ref={field}
      class="rename"
      aria-label="Name of the conversation"
      defaultValue={title}
      maxLength={200}
      onBlur={(event) => onDone(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === "Enter") event.currentTarget.blur();
        if (event.key === "Escape") {
          event.currentTarget.value = title;
          event.currentTarget.blur();
        }
        event.stopPropagation();
      }}
    />
  );
}

function Results(): JSX.Element {
  const { chat, face } = useWorld();
  const query = face.query.value;
  const [found, setFound] = useState<readonly Found[] | null>(null);
  useEffect(() => {
    let isOld = false;
    const timer = setTimeout(() => {
      void chat.search(query).then((results) => {
        if (!isOld) setFound(results);
      });
    }, SEARCH_PAUSE_MS);
    return () => {
      isOld = true;
      clearTimeout(timer);
    };
  }, [query, chat]);
  if (found === null) return <p class="nothing">Searching …</p>;
  const words = wordsOf(query);
  return (
    <>
      <p class="visually-hidden" role="status">
        {found.length} found
      </p>
      {found.length === 0 && <p class="nothing">Nothing was found.</p>}
      <ul class="found">
        {found.map(({ conversation, message, pieces }) => {
          const title =
            chat.conversations.value.find(({ id }) => id === conversation)?.title ?? "";
          return (
            <li key={conversation}>
              <button
                type="button"
                class="open"
                onKeyDown={onArrow}
                onClick={() => {
                  void chat
                    .open(conversation, message)
                    .then(() => showMessage(message));
                  face.isDrawerOpen.value = false;
                }}
              >
                <span class="title">
                  <Pieces pieces={marked(title, words)} />
                </span>
                <span class="snippet">
                  <Pieces pieces={pieces} />
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </>
  );
}

function showMessage(id: string | null): void {
  if (id === null) return;
  requestAnimationFrame(() =>
    document.getElementById(`m-${id}`)?.scrollIntoView({ block: "center" }),
  );
}

function Pieces({ pieces }: { pieces: readonly Piece[] }): JSX.Element {
  return (
    <>
      {pieces.map(({ text, isHit }, index) =>
        isHit ? <mark key={index}>{text}</mark> : text,
      )}
    </>
  );
}
