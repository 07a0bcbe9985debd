/** One answer while it comes: asks, reads, measures, and keeps what came. */

import { signal } from "@preact/signals";
import {
  asRecord,
  type Chunk,
  type End,
  LineReader,
  readChunk,
  readError,
  ThoughtSplitter,
} from "../chat/lines.ts";
import { problemOf, refusal } from "../chat/problems.ts";
import type { AnswerMessage, AnswerState, Measures, Problem } from "../chat/types.ts";
import { type Way, wayOf } from "../chat/words.ts";
import type { Answer, Connection } from "../connection.ts";

const SAVE_MS = 1000; // what a closed tab loses at most
const RATE_MS = 2000; // over which the rate is told
const REFUSAL_LIMIT = 64 * 1024;

export type Phase = "asking" | "queued" | "loading" | "thinking" | "writing";

/** Where the answer's bytes come from. */
export interface Source {
  /** Called once, at once. */
  readonly begin: (
    signal: AbortSignal,
    onQueue: (place: number) => void,
  ) => Promise<Answer>;
  /** Bytes that came before a reload. */
  readonly pieces: readonly Uint8Array[];
  /** Resolves once they are kept; only then the next ones are asked for. */
  readonly keep: ((n: number, bytes: Uint8Array) => Promise<void>) | null;
}

export interface Surroundings {
  readonly connection: Connection;
  /** Calls back before the next frame is drawn, or soon where nothing is drawn. */
  readonly frame: (work: () => void) => void;
  readonly save: (message: AnswerMessage) => Promise<void>;
}

export class Running {
  /** As it is now; changes at most once per frame. */
  readonly message;
  readonly phase = signal<Phase>("asking");
  /** Place in the provider's line; null while in none. */
  readonly place = signal<number | null>(null);
  /** Tokens per second, over the last moments. */
  readonly rate = signal<number | null>(null);
  /** Resolves with the message as it was kept. Never rejects. */
  readonly done: Promise<AnswerMessage>;

  readonly #around: Surroundings;
  readonly #abort = new AbortController();
  readonly #splitter: ThoughtSplitter | null;
  readonly #started = performance.now();
  readonly #lines = new LineReader();
  readonly #isTakenUp: boolean;
  #next: AnswerMessage;
  #isDrawing = false;
  #saveTimer: ReturnType<typeof setTimeout> | undefined;
  #saving: Promise<void> = Promise.resolve();
  #firstMs: number | null = null;
  #thinkingSince: number | null = null;
  #came: number[] = [];
  #count = 0;
  #end: End | null = null;
  #queueMs: number | null = null;

  /** `message` may already have a text, to which what comes is added. */
  constructor(around: Surroundings, source: Source, message: AnswerMessage) {
    this.#around = around;
    this.#next = message;
    this.#splitter = message.text ? null : new ThoughtSplitter();
    this.#isTakenUp = source.pieces.length > 0;
    this.message = signal(message);
    this.done = this.#run(source);
  }

  stop(): void {
    this.#abort.abort(new Stopped());
  }

  /** As much as has come, drawn or not. */
  get latest(): AnswerMessage {
    return this.#next;
  }

  async #run(source: Source): Promise<AnswerMessage> {
    try {
      const onQueue = (place: number) => this.#onQueue(place);
      const begun = source.begin(this.#abort.signal, onQueue);
      begun.catch(() => undefined); // heard of below
      for (const bytes of source.pieces) this.#feed(bytes);
      const answer = await begun;
      this.#change({ provider: answer.provider, way: this.#way(answer) });
      this.#queueMs = answer.timing["queue"] ?? null;
      if (answer.status >= 400)
        return await this.#finish("failed", await readRefusal(answer));
      this.place.value = null;
      if (!this.#isTakenUp) this.phase.value = "loading";
      await this.#read(answer, source);
      this.#flushSplitter();
      return await this.#finish(this.#state(), null);
    } catch (error) {
      this.#flushSplitter();
      if (error instanceof Stopped) return await this.#finish("stopped", null);
      if (error instanceof Lost) return await this.#finish("cut", null);
      const hasBegun = this.#next.text !== "" || this.#next.thinking !== "";
      return await this.#finish(hasBegun ? "cut" : "failed", problemIn(error));
    }
  }

  async #read(answer: Answer, source: Source): Promise<void> {
    let kind = answer.path;
    let n = source.pieces.length;
    for await (const bytes of answer) {
      await source.keep?.(n++, bytes);
      this.#feed(bytes);
      if (answer.path !== kind) {
        kind = answer.path; // the session moved to another path meanwhile
        this.#change({ way: this.#way(answer) });
      }
    }
    for (const line of this.#lines.end()) this.#take(readChunk(line));
  }

  #feed(bytes: Uint8Array): void {
    for (const line of this.#lines.feed(bytes)) this.#take(readChunk(line));
  }

  #way(answer: Answer): Way {
    const paths = this.#around.connection.paths();
    const path = paths.find(({ provider }) => provider.id === answer.provider.id);
    return wayOf(answer.path, path?.candidates?.remote ?? null);
  }

  #take(chunk: Chunk): void {
    if (chunk.error !== null) throw new SaidByServer(chunk.error);
    if (chunk.end !== null) this.#end = chunk.end;
    const split = this.#splitter?.feed(chunk.text) ?? {
      text: chunk.text,
      thinking: "",
    };
    this.#add(split.text, chunk.thinking + split.thinking);
  }

  #flushSplitter(): void {
    const held = this.#splitter?.end();
    if (held) this.#add(held.text, held.thinking);
  }

  #add(text: string, thinking: string): void {
    if (!text && !thinking) return;
    const now = performance.now();
    this.#firstMs ??= now - this.#started;
    this.#count += 1;
    this.#came.push(now);
    if (thinking) {
      this.#thinkingSince ??= now;
      this.phase.value = "thinking";
      this.#change({ thinking: this.#next.thinking + thinking });
    }
    if (!text) return;
    if (this.#thinkingSince !== null && this.#next.thinkingMs === null) {
      this.#change({ thinkingMs: now - this.#thinkingSince });
    }
    this.phase.value = "writing";
    const isFirst = this.#next.text === "" && this.#next.thinking !== "";
    this.#change({ text: this.#next.text + (isFirst ? text.trimStart() : text) });
  }

  #onQueue(place: number): void {
    this.place.value = place;
    this.phase.value = "queued";
  }

  #change(by: Partial<AnswerMessage>): void {
    this.#next = { ...this.#next, ...by };
    if (!this.#isDrawing) {
      this.#isDrawing = true;
      this.#around.frame(() => this.#draw());
    }
    this.#saveTimer ??= setTimeout(() => this.#save(), SAVE_MS);
  }

  #draw(): void {
    this.#isDrawing = false;
    this.message.value = this.#next;
    const now = performance.now();
    this.#came = this.#came.filter((at) => now - at < RATE_MS);
    const first = this.#came[0];
    const span = first === undefined ? 0 : now - first;
    if (span > 300) this.rate.value = ((this.#came.length - 1) * 1000) / span;
  }

  #save(): void {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = undefined;
    const message = this.#next;
    this.#saving = this.#saving
      .then(() => this.#around.save(message))
      .catch(() => undefined);
  }

  #state(): AnswerState {
    if (this.#end === null) return "cut";
    return this.#end.reason === "length" ? "length" : "done";
  }

  async #finish(state: AnswerState, problem: Problem | null): Promise<AnswerMessage> {
    const endedWhileThinking =
      this.#thinkingSince !== null && this.#next.thinkingMs === null;
    this.#next = {
      ...this.#next,
      state,
      problem,
      measures: this.#measures(),
      ...(endedWhileThinking
        ? { thinkingMs: performance.now() - (this.#thinkingSince ?? 0) }
        : {}),
    };
    this.place.value = null;
    this.rate.value = null;
    this.#save();
    await this.#saving;
    this.message.value = this.#next;
    return this.#next;
  }

  #measures(): Measures {
    const totalMs = performance.now() - this.#started;
    const tokens = this.#end?.tokens ?? (this.#count || null);
    const writingMs = this.#end?.evalMs || totalMs - (this.#firstMs ?? totalMs);
    return {
      firstMs: this.#isTakenUp ? null : this.#firstMs,
      totalMs,
      tokens,
      perSecond:
        tokens !== null && tokens > 1 && writingMs > 0
          ? (tokens * 1000) / writingMs
          : null,
      promptTokens: this.#end?.promptTokens ?? null,
      queueMs: this.#queueMs,
      loadMs: this.#end?.loadMs ?? null,
    };
  }
}

class Stopped extends Error {}

/** An answer that ran when the page went away, and cannot be taken up. */
export class Lost extends Error {}

/** An error inside the stream: the model server's, or the gateway's about the way. */
class SaidByServer extends Error {}

function problemIn(error: unknown): Problem {
  if (error instanceof SaidByServer) {
    const isLost =
      /lost|broke off|left the mesh|ended/i.test(error.message) &&
      !/model server/i.test(error.message); // the provider is there, and says so
    return {
      code: isLost ? "provider_lost" : "model",
      text: error.message,
      retryAfterS: null,
    };
  }
  if (error instanceof SyntaxError) {
    return {
      code: "model",
      text: "The answer was not what Ollama's API promises.",
      retryAfterS: null,
    };
  }
  return problemOf(error);
}

async function readRefusal(answer: Answer): Promise<Problem> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of answer) {
    text += decoder.decode(bytes, { stream: true });
    if (text.length > REFUSAL_LIMIT) break;
  }
  let said: string | null = null;
  try {
    said = readError(asRecord(JSON.parse(text))["error"]);
  } catch {
    said = text.trim().slice(0, 500);
  }
  return refusal(answer.status, said ?? "", null);
}
