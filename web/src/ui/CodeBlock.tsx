/** Code in colours, with its language and a button that copies it. */

import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useMemo, useRef } from "preact/hooks";
import { highlightLine, type Open, type Span } from "../markdown/highlight.ts";
import { copy } from "./clipboard.ts";
import { Icon } from "./icons.tsx";
import { useBriefly } from "./Markdown.tsx";

interface Line {
  readonly text: string;
  readonly before: Open | null;
  readonly after: Open | null;
  readonly spans: readonly Span[];
}

// Beyond this a line is shown plain: minified code is not read in colours anyway.
const LINE_LIMIT = 2000;

export function CodeBlock({
  language,
  text,
}: {
  language: string;
  text: string;
}): JSX.Element {
  const parts = useParts(useLines(text, language));
  const [isCopied, tellCopied] = useBriefly();
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "text"}</span>
        <button
          type="button"
          class="quiet"
          onClick={() => void copy(text).then(tellCopied)}
        >
          <Icon name={isCopied ? "check" : "copy"} size={16} />
          {isCopied ? "Copied" : "Copy"}
        </button>
      </figcaption>
      {/* Reachable by keyboard, because long lines scroll. */}
      <pre
        tabIndex={0}
        role="region"
        aria-label={`Code${language ? `, ${language}` : ""}`}
      >
        <code>
          {parts.map((part, index) => (
            <PartView key={index} lines={part} />
          ))}
        </code>
      </pre>
    </figure>
  );
}

/** So many lines are looked at, and laid out, together. */
const PART = 32;

/** Parts whose lines are the same stay the same objects. */
function useParts(lines: readonly Line[]): readonly (readonly Line[])[] {
  const known = useRef<readonly (readonly Line[])[]>([]);
  return useMemo(() => {
    const parts: (readonly Line[])[] = [];
    for (let at = 0; at < lines.length; at += PART) {
      const part = lines.slice(at, at + PART);
      const before = known.current[parts.length];
      const isSame =
        before?.length === part.length &&
        part.every((line, index) => line === before[index]);
      parts.push(isSame ? before : part);
    }
    known.current = parts;
    return parts;
  }, [lines]);
}

const PartView = memo(
  ({ lines }: { lines: readonly Line[] }): JSX.Element => (
    <span class="part">
      {lines.map((line, index) => (
        <LineView key={index} line={line} />
      ))}
    </span>
  ),
);

const LineView = memo(
  ({ line }: { line: Line }): JSX.Element => (
    <span class="line">
      {line.spans.map(({ kind, text }, index) =>
        kind === "plain" ? (
          text
        ) : (
          <span key={index} class={`c-${kind}`}>
            {text}
          </span>
        ),
      )}
      {"\n"}
    </span>
  ),
);

/** Lines that are the same as before stay the same objects. */
function useLines(text: string, language: string): readonly Line[] {
  const known = useRef<{ language: string; lines: Line[] }>({ language, lines: [] });
  return useMemo(() => {
    const before = known.current.language === language ? known.current.lines : [];
    const lines: Line[] = [];
    let open: Open | null = null;
    for (const one of text.split("\n")) {
      const old = before[lines.length];
      const isSame =
        old !== undefined && old.text === one && sameOpen(old.before, open);
      const line: Line = isSame ? old : readLine(one, language, open);
      lines.push(line);
      open = line.after;
    }
    known.current = { language, lines };
    return lines;
  }, [text, language]);
}

function readLine(text: string, language: string, before: Open | null): Line {
  if (text.length > LINE_LIMIT)
    return { text, before, after: before, spans: [{ kind: "plain", text }] };
  const { spans, open } = highlightLine(text, language, before);
  return { text, before, after: open, spans };
}

function sameOpen(one: Open | null, other: Open | null): boolean {
  return one?.end === other?.end && one?.kind === other?.kind;
}
