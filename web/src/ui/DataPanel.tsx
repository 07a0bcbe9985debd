/** What is kept here: taking it out, bringing it in, deleting it. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { fromJson, toJson } from "../chat/exchange.ts";
import { bytes } from "../chat/words.ts";
import { save } from "./clipboard.ts";
import { useWorld } from "./context.ts";
import { Dialog } from "./Dialog.tsx";
import { Icon } from "./icons.tsx";

export function DataPanel(): JSX.Element {
  const { chat, face } = useWorld();
  const file = useRef<HTMLInputElement>(null);
  const [used, setUsed] = useState<number | null>(null);
  const [isSure, setSure] = useState(false);
  const count = chat.conversations.value.length;
  useEffect(() => {
    void navigator.storage?.estimate().then(({ usage }) => setUsed(usage ?? null));
  }, [count]);
  const close = () => (face.panel.value = null);

  const exportAll = async () => {
    const day = new Date().toISOString().slice(0, 10);
    save(
      `meshllm-conversations-${day}.json`,
      "application/json",
      toJson(await chat.wholes()),
    );
  };
  const importFile = async (chosen: File | undefined) => {
    if (!chosen) return;
    try {
      const wholes = fromJson(await chosen.text());
      await chat.add(wholes);
      face.tell(
        wholes.length === 1
          ? "One conversation was added."
          : `${wholes.length} conversations were added.`,
      );
      close();
    } catch (error) {
      face.tell(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <Dialog name="data" title="Kept in this browser only" onClose={close}>
      <p>
        {count === 0
          ? "No conversation is"
          : count === 1
            ? "One conversation is"
            : `${count} conversations are`}{" "}
        kept in this browser, for this address. No server has a copy, and clearing the
        browser’s data for this page deletes them.
        {used !== null && ` They use about ${bytes(used)}.`}
      </p>
      <div class="stack">
        <button
          type="button"
          class="button"
          disabled={count === 0}
          onClick={() => void exportAll()}
        >
          <Icon name="download" size={18} />
          Save all as one file
        </button>
        <button type="button" class="button" onClick={() => file.current?.click()}>
          <Icon name="upload" size={18} />
          Add from a file
        </button>
        <input
          ref={file}
          type="file"
          hidden
          aria-label="File with conversations"
          accept="application/json,.json"
          onChange={(event) => void importFile(event.currentTarget.files?.[0])}
        />
        {isSure ? (
          <button
            type="button"
            class="button danger"
            onClick={() =>
              void chat
                .removeAll()
                .then(() => face.tell("Everything was deleted."))
                .then(close)
            }
          >
            <Icon name="trash" size={18} />
            Yes, delete all {count}
          </button>
        ) : (
          <button
            type="button"
            class="button danger"
            disabled={count === 0}
            onClick={() => setSure(true)}
          >
            <Icon name="trash" size={18} />
            Delete everything
          </button>
        )}
      </div>
      {face.leave && <Leaving />}
    </Dialog>
  );
}

function Leaving(): JSX.Element {
  const { chat, face } = useWorld();
  const [isSure, setSure] = useState(false);
  const me = chat.connection.me();
  const leave = async () => {
    await chat.connection.close();
    await face.leave?.();
    location.assign("/");
  };
  return (
    <section class="leaving">
      <h3>Your mesh</h3>
      <p>
        {me ? `You are ${me.name} there, a ${me.role}. ` : ""}Leaving it keeps your
        conversations here; to come back you need a new invitation.
      </p>
      <button
        type="button"
        class="button danger"
        onClick={() => (isSure ? void leave() : setSure(true))}
      >
        {isSure ? "Yes, leave this mesh" : "Leave this mesh"}
      </button>
    </section>
  );
}
