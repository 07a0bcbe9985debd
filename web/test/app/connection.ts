/** A connection that answers as a test wrote down, piece by piece. */

import type {
  Answer,
  Ask,
  Connection,
  ConnectionEvent,
  ConnectionState,
  Kept,
  ListedModel,
} from "../../src/connection.ts";
import { json } from "../../src/connection.ts";

export type Piece = string | Error | { readonly wait: Promise<unknown> };

const ADA = { id: "ada-key", name: "ada" };

export function model(name: string, more: Partial<ListedModel> = {}): ListedModel {
  return {
    name,
    digest: "",
    size: 1,
    modifiedAt: "",
    details: {},
    capabilities: ["completion"],
    contextLength: 0,
    providers: [{ ...ADA, path: "srflx", parallel: 1, streams: 0 }],
    ...more,
  };
}

export class ScriptedConnection implements Connection {
  kind: Connection["kind"] = "mesh";
  phase: ConnectionState["phase"] = "ready";
  readonly url = "https://hub.example";
  readonly asked: Ask[] = [];
  readonly #answers: {
    status: number;
    pieces: readonly Piece[];
    head?: Promise<unknown>;
  }[] = [];
  readonly #listeners = new Set<(event: ConnectionEvent) => void>();
  readonly resumed: Readonly<Record<string, Kept>>[] = [];
  canResume = true;
  listed: readonly ListedModel[];

  constructor(...models: ListedModel[]) {
    this.listed = models;
  }

  script(...pieces: readonly Piece[]): void {
    this.#answers.push({ status: 200, pieces });
  }

  refuse(status: number, text: string): void {
    this.#answers.push({ status, pieces: [text] });
  }

  hold(head: Promise<unknown>, ...pieces: readonly Piece[]): void {
    this.#answers.push({ status: 200, pieces, head });
  }

  tell(event: ConnectionEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  async ask(ask: Ask): Promise<Answer> {
    this.asked.push(ask);
    const answer = this.#answers.shift() ?? { status: 200, pieces: [] };
    const aborted = new Promise<never>((_, fail) => {
      ask.signal?.addEventListener("abort", () => fail(ask.signal?.reason));
    });
    aborted.catch(() => undefined);
    if (answer.head) await Promise.race([answer.head, aborted]);
    const first = answer.pieces[0];
    if (first instanceof Error) throw first;
    return {
      status: answer.status,
      contentType: "application/x-ndjson",
      provider: ADA,
      path: "srflx",
      timing: { queue: 3 },
      async *[Symbol.asyncIterator]() {
        for (const piece of answer.pieces) {
          ask.signal?.throwIfAborted();
          if (piece instanceof Error) throw piece;
          if (typeof piece === "string") yield new TextEncoder().encode(piece);
          else await Promise.race([piece.wait, aborted]);
        }
      },
    };
  }

  async resume(kept: Readonly<Record<string, Kept>>): Promise<Record<string, Answer>> {
    this.resumed.push(kept);
    if (!this.canResume) return {};
    const [key] = Object.keys(kept);
    if (key === undefined) return {};
    const answer = await this.ask({
      method: "POST",
      path: "/api/chat",
      model: null,
      body: json({}),
    });
    return { [key]: answer };
  }

  body(
    at: number,
  ): Record<string, unknown> & { messages: { role: string; content: string }[] } {
    return JSON.parse(new TextDecoder().decode(this.asked[at]?.body));
  }

  state(): ConnectionState {
    return { phase: this.phase, problem: null };
  }
  me() {
    return null;
  }
  models() {
    return this.listed;
  }
  paths() {
    return [];
  }
  probe(): void {}
  subscribe(listener: (event: ConnectionEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  async close(): Promise<void> {}
}

export const say = (content: string) =>
  `${JSON.stringify({ message: { content }, done: false })}\n`;
export const think = (thinking: string) =>
  `${JSON.stringify({ message: { content: "", thinking }, done: false })}\n`;
export const end = (reason = "stop") =>
  `${JSON.stringify({ message: { content: "" }, done: true, done_reason: reason, eval_count: 10, eval_duration: 1e9 })}\n`;
