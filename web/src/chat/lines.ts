/** Pure: bytes of a streamed answer into what they say (Ollama's `/api/chat`). */

const LINE_LIMIT = 4 * 1024 * 1024;

/** Feeds bytes in, takes whole NDJSON lines out. */
export class LineReader {
  #decoder = new TextDecoder();
  #rest = "";

  feed(bytes: Uint8Array): unknown[] {
    return this.#take(this.#rest + this.#decoder.decode(bytes, { stream: true }));
  }

  /** What is left at the end of the stream: a last line without its newline. */
  end(): unknown[] {
    return this.#take(`${this.#rest}${this.#decoder.decode()}\n`);
  }

  #take(text: string): unknown[] {
    const lines = text.split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > LINE_LIMIT) throw new SyntaxError("a line beyond 4 MiB");
    return lines.filter((line) => line.trim() !== "").map((line) => JSON.parse(line));
  }
}

export interface Chunk {
  readonly text: string;
  readonly thinking: string;
  /** Set by the last chunk only. */
  readonly end: End | null;
  readonly error: string | null;
}

export interface End {
  /** `stop`, `length`, `load`, … */
  readonly reason: string;
  readonly tokens: number | null;
  readonly promptTokens: number | null;
  readonly evalMs: number | null;
  readonly loadMs: number | null;
}

/** One line as a chunk. What is no chunk at all says nothing. */
export function readChunk(line: unknown): Chunk {
  const chunk = asRecord(line);
  const message = asRecord(chunk["message"]);
  return {
    text: asText(message["content"]),
    thinking: asText(message["thinking"]) || asText(message["reasoning_content"]),
    end: chunk["done"] === true ? readEnd(chunk) : null,
    error: readError(chunk["error"]),
  };
}

function readEnd(chunk: Record<string, unknown>): End {
  return {
    reason: asText(chunk["done_reason"]) || "stop",
    tokens: asNumber(chunk["eval_count"]),
    promptTokens: asNumber(chunk["prompt_eval_count"]),
    evalMs: inMs(chunk["eval_duration"]),
    loadMs: inMs(chunk["load_duration"]),
  };
}

/** `{"error": "text"}`, or OpenAI's object with a message. */
export function readError(error: unknown): string | null {
  if (typeof error === "string") return error || null;
  return asText(asRecord(error)["message"]) || null;
}

/**
 * Takes `<think>…</think>` at the beginning of an answer apart from the answer itself:
 * servers that know no thinking send it so. Tags may be cut anywhere by the stream.
 */
export class ThoughtSplitter {
  #state: "start" | "inside" | "after" = "start";
  #held = "";

  feed(text: string): { text: string; thinking: string } {
    if (this.#state === "after") return { text, thinking: "" };
    this.#held += text;
    if (this.#state === "start") {
      const begun = this.#held.trimStart();
      if (!begun.startsWith(OPEN)) {
        if (OPEN.startsWith(begun)) return NOTHING;
        return { text: this.#release("after"), thinking: "" };
      }
      this.#held = begun.slice(OPEN.length);
      this.#state = "inside";
    }
    const close = this.#held.indexOf(CLOSE);
    if (close >= 0) {
      const thinking = this.#held.slice(0, close);
      const rest = this.#held.slice(close + CLOSE.length).trimStart();
      this.#release("after");
      return { text: rest, thinking };
    }
    const keep = overlap(this.#held, CLOSE);
    const thinking = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(this.#held.length - keep);
    return { text: "", thinking };
  }

  /** What was held back, once nothing more comes. */
  end(): { text: string; thinking: string } {
    const inside = this.#state === "inside";
    const rest = this.#release("after");
    return inside ? { text: "", thinking: rest } : { text: rest, thinking: "" };
  }

  #release(next: "after"): string {
    const held = this.#held;
    this.#held = "";
    this.#state = next;
    return held;
  }
}

const OPEN = "<think>";
const CLOSE = "</think>";
const NOTHING = { text: "", thinking: "" };

/** How many of the last characters may be the start of `tag`. */
function overlap(text: string, tag: string): number {
  for (let size = Math.min(text.length, tag.length - 1); size > 0; size--) {
    if (text.endsWith(tag.slice(0, size))) return size;
  }
  return 0;
}

export function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null
    ? (value as Record<string, unknown>)
    : {};
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function asNumber(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0
    ? value
    : null;
}

function inMs(nanoseconds: unknown): number | null {
  const value = asNumber(nanoseconds);
  return value === null ? null : value / 1e6;
}
