/** What the person said; editing it begins another branch. */

import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Picture, UserMessage } from "../chat/types.ts";
import { BranchButtons } from "./BranchButtons.tsx";
import { copy } from "./clipboard.ts";
import { isMac, useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";
import { useBriefly } from "./Markdown.tsx";

const LONG = 1200; // characters; longer ones begin folded

export const UserTurn = memo(({ message }: { message: UserMessage }): JSX.Element => {
  const { chat, face } = useWorld();
  const [isCopied, tellCopied] = useBriefly();
  const [isFolded, setFolded] = useState(message.text.length > LONG);
  const isEditing = face.editing.value === message.id;
  const isBusy = chat.busy.value !== null;
  return (
    <article class="turn mine" id={`m-${message.id}`} aria-label="You">
      <Attachments message={message} />
      {isEditing ? (
        <Editor message={message} />
      ) : (
        message.text && (
          <div class={isFolded ? "bubble folded" : "bubble"}>
            {message.text}
            {isFolded && (
              <button type="button" class="unfold" onClick={() => setFolded(false)}>
                Show all
              </button>
            )}
          </div>
        )
      )}
      {!isEditing && (
        <div class="actions">
          <BranchButtons message={message} />
          <button
            type="button"
            class="icon small"
            aria-label="Copy"
            title="Copy"
            onClick={() => void copy(message.text).then(tellCopied)}
          >
            <Icon name={isCopied ? "check" : "copy"} size={17} />
          </button>
          <button
            type="button"
            class="icon small"
            aria-label="Edit"
            title="Edit (begins another branch)"
            disabled={isBusy}
            onClick={() => (face.editing.value = message.id)}
          >
            <Icon name="pencil" size={17} />
          </button>
        </div>
      )}
    </article>
  );
});

function Attachments({ message }: { message: UserMessage }): JSX.Element | null {
  const { pictures, files } = message;
  if (pictures.length + files.length === 0) return null;
  return (
    <ul class="attached" aria-label="Sent along">
      {pictures.map((picture, index) => (
        <li key={index}>
          <PictureView picture={picture} />
        </li>
      ))}
      {files.map(({ name, text }) => (
        <li key={name}>
          <details class="file">
            <summary>
              <Icon name="file" size={17} />
              {name}
            </summary>
            <pre tabIndex={0}>{text}</pre>
          </details>
        </li>
      ))}
    </ul>
  );
}

export function PictureView({ picture }: { picture: Picture }): JSX.Element {
  const url = useMemo(
    () => URL.createObjectURL(new Blob([picture.bytes], { type: picture.type })),
    [picture],
  );
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  return (
    <img src={url} alt={picture.name} width={picture.width} height={picture.height} />
  );
}

function Editor({ message }: { message: UserMessage }): JSX.Element {
  const { chat, face } = useWorld();
  const [text, setText] = useState(message.text);
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  const end = () => (face.editing.value = null);
  const send = () => {
    if (!text.trim() && message.pictures.length + message.files.length === 0) return;
    end();
    void chat.edit(message, {
      text: text.trim(),
      pictures: message.pictures,
      files: message.files,
    });
  };
  const onKey = (event: KeyboardEvent) => {
    const isSend = event.key === "Enter" && (isMac ? event.metaKey : event.ctrlKey);
    if (isSend) send();
    else if (event.key === "Escape") end();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="editor">
      <textarea
        ref={field}
        aria-label="Your message"
        rows={Math.min(12, text.split("\n").length + 1)}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={onKey}
      />
      <div class="row">
        <span class="hint">The first version stays, as another branch.</span>
        <button type="button" class="button" onClick={end}>
          Cancel
        </button>
        <button type="button" class="button main" onClick={send}>
          Send
        </button>
      </div>
    </div>
  );
}
