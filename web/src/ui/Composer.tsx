/** Where people write: text, pictures and files, by keyboard, paste, drop and camera. */

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { canChat } from "../app/chat.ts";
import type { Picture, TextFile } from "../chat/types.ts";
import { hasTouchKeyboard, useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";
import { takeIn } from "./intake.ts";
import { Menu, type MenuItem } from "./Menu.tsx";
import { PictureView } from "./UserTurn.tsx";

const TALLEST = 0.4; // of the window

export function Composer(): JSX.Element {
  const { chat, face } = useWorld();
  const conversation = chat.current.value.id;
  const [text, setText] = useState("");
  const [pictures, setPictures] = useState<readonly Picture[]>([]);
  const [files, setFiles] = useState<readonly TextFile[]>([]);
  const [isOver, setOver] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const busy = chat.busy.value;
  const isEmpty = !text.trim() && pictures.length + files.length === 0;
  const canAsk = chat.model.value !== null;

  // What was begun in a conversation waits there, also over a reload.
  const draftKey = `draft.${chat.conversations.value.some(({ id }) => id === conversation) ? conversation : "new"}`;
  useLayoutEffect(() => {
    setText(face.memory.get(draftKey) ?? "");
    setPictures([]);
    setFiles([]);
    if (!hasTouchKeyboard()) field.current?.focus();
  }, [conversation]);
  const write = (value: string) => {
    if (value) chat.prepare();
    setText(value);
    face.memory.set(draftKey, value);
  };

  useLayoutEffect(() => {
    const { current } = field;
    if (!current) return;
    current.style.height = "auto";
    current.style.height = `${Math.min(current.scrollHeight, innerHeight * TALLEST)}px`;
  }, [text]);

  const add = async (list: Iterable<File> | null | undefined) => {
    const taken = await takeIn([...(list ?? [])]);
    if (taken.pictures.length > 0)
      setPictures((before) => [...before, ...taken.pictures]);
    if (taken.files.length > 0) setFiles((before) => [...before, ...taken.files]);
    for (const sentence of taken.refused) face.tell(sentence);
    field.current?.focus();
  };
  useDrop(setOver, (dropped) => void add(dropped));

  const send = () => {
    if (isEmpty || busy !== null || !canAsk) return;
    const draft = { text: text.trim(), pictures, files };
    write("");
    setPictures([]);
    setFiles([]);
    void chat.send(draft);
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.isComposing) return; // Enter there chooses a character
    if (event.key === "Enter" && !event.shiftKey && !hasTouchKeyboard()) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "" && busy === null) {
      const last = chat.path.value.findLast((message) => message.role === "user");
      if (!last) return;
      event.preventDefault();
      face.editing.value = last.id;
    }
  };
  return (
    <form
      class={isOver ? "composer over" : "composer"}
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <Chips
        pictures={pictures}
        files={files}
        onRemovePicture={(gone) => setPictures(pictures.filter((one) => one !== gone))}
        onRemoveFile={(gone) => setFiles(files.filter((one) => one !== gone))}
      />
      <BlindModel hasPictures={pictures.length > 0} />
      <AwayModel />
      <div class="field">
        <AttachMenu onFiles={(chosen) => void add(chosen)} />
        <textarea
          ref={field}
          rows={1}
          aria-label="Message"
          placeholder="Write a message"
          enterkeyhint={hasTouchKeyboard() ? "enter" : "send"}
          value={text}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={onKey}
          onPaste={(event) => {
            const pasted = [...(event.clipboardData?.files ?? [])];
            if (pasted.length === 0) return;
            event.preventDefault();
            void add(pasted);
          }}
        />
        {busy !== null ? (
          <button
            type="button"
            class="send"
            aria-label="Stop the answer"
            title="Stop (Esc)"
            onClick={() => chat.stop(busy)}
          >
            <Icon name="stop" />
          </button>
        ) : (
          <button
            type="submit"
            class="send"
            aria-label="Send"
            title="Send"
            disabled={isEmpty || !canAsk}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
      {isOver && (
        <p class="drop" aria-hidden="true">
          Drop pictures and text files here
        </p>
      )}
    </form>
  );
}

/** Files may be dropped anywhere on the page. */
function useDrop(
  onOver: (is: boolean) => void,
  onFiles: (files: File[]) => void,
): void {
  const latest = useRef(onFiles);
  latest.current = onFiles;
  useEffect(() => {
    const hasFiles = (event: DragEvent) =>
      event.dataTransfer?.types.includes("Files") === true;
    const over = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      onOver(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) onOver(false);
    };
    const drop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      onOver(false);
      latest.current([...(event.dataTransfer?.files ?? [])]);
    };
    addEventListener("dragover", over);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  }, [onOver]);
}

interface ChipsProps {
  readonly pictures: readonly Picture[];
  readonly files: readonly TextFile[];
  readonly onRemovePicture: (picture: Picture) => void;
  readonly onRemoveFile: (file: TextFile) => void;
}

function Chips({
  pictures,
  files,
  onRemovePicture,
  onRemoveFile,
}: ChipsProps): JSX.Element | null {
  if (pictures.length + files.length === 0) return null;
  return (
    <ul class="chips" aria-label="To send along">
      {pictures.map((picture, index) => (
        <li key={`p${index}`} class="chip picture">
          <PictureView picture={picture} />
          <Remove name={picture.name} onClick={() => onRemovePicture(picture)} />
        </li>
      ))}
      {files.map((file, index) => (
        <li key={`f${index}`} class="chip">
          <Icon name="file" size={17} />
          <span>{file.name}</span>
          <Remove name={file.name} onClick={() => onRemoveFile(file)} />
        </li>
      ))}
    </ul>
  );
}

function Remove({ name, onClick }: { name: string; onClick: () => void }): JSX.Element {
  return (
    <button
      type="button"
      class="remove"
      aria-label={`Remove ${name}`}
      onClick={onClick}
    >
      <Icon name="close" size={13} />
    </button>
  );
}

/** The model cannot see: say so before it guesses. */
function BlindModel({ hasPictures }: { hasPictures: boolean }): JSX.Element | null {
  const { chat } = useWorld();
  const model = chat.model.value;
  const isBlind =
    model !== null &&
    model.capabilities.length > 0 &&
    !model.capabilities.includes("vision");
  if (!hasPictures || !isBlind) return null;
  const seeing = chat.models.value.filter(
    (other) => canChat(other) && other.capabilities.includes("vision"),
  );
  return (
    <p class="note" role="status">
      {model.name.replace(/:latest$/, "")} cannot see pictures.{" "}
      {seeing.length === 0
        ? "No model that can is here now."
        : seeing.slice(0, 2).map(({ name }) => (
            <button
              key={name}
              type="button"
              class="link"
              onClick={() => void chat.choose({ model: name, pin: null })}
            >
              Use {name.replace(/:latest$/, "")}
            </button>
          ))}
    </p>
  );
}

/** The conversation's model is gone: another may go on with it. */
function AwayModel(): JSX.Element | null {
  const { chat, face } = useWorld();
  const { model: wanted } = chat.current.value;
  if (chat.model.value !== null || !wanted) return null;
  const name = wanted.replace(/:latest$/, "");
  return (
    <p class="note" role="status">
      {name} is away now.{" "}
      <button type="button" class="link" onClick={() => face.show("models")}>
        Choose another model
      </button>
    </p>
  );
}

function AttachMenu({ onFiles }: { onFiles: (files: File[]) => void }): JSX.Element {
  const picture = useRef<HTMLInputElement>(null);
  const camera = useRef<HTMLInputElement>(null);
  const file = useRef<HTMLInputElement>(null);
  const items: MenuItem[] = [
    { name: "Pictures", icon: "picture", run: () => picture.current?.click() },
    { name: "Text files", icon: "file", run: () => file.current?.click() },
  ];
  if (hasTouchKeyboard())
    items.unshift({
      name: "Camera",
      icon: "camera",
      run: () => camera.current?.click(),
    });
  const input = (ref: typeof picture, label: string, more: Record<string, string>) => (
    <input
      ref={ref}
      type="file"
      class="visually-hidden"
      tabIndex={-1}
      aria-label={label}
      multiple
      onChange={(event) => {
        onFiles([...(event.currentTarget.files ?? [])]);
        event.currentTarget.value = "";
      }}
      {...more}
    />
  );
  return (
    <>
      <Menu label="Add pictures and files" icon="plus" items={items} rises={true} />
      <span hidden>
        {input(picture, "Pictures", { accept: "image/*" })}
        {input(camera, "Camera", { accept: "image/*", capture: "environment" })}
        {input(file, "Text files", {})}
      </span>
    </>
  );
}
