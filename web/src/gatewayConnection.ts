/** A gateway's HTTP API as a `Connection`: its node is the peer, this page its program. */

import type {
  Answer,
  Ask,
  Connection,
  ConnectionEvent,
  ConnectionState,
  ListedModel,
  PathKind,
  PathView,
} from "./connection.ts";
import { Code, NoRoute, PeerUnreachable, reason, StreamReset } from "./errors.ts";

const LOOK_MS = 10_000;
const KINDS: readonly string[] = ["host", "srflx", "prflx", "relay", "lan"];
const HUNG_UP = "The gateway broke the answer off.";

type Fetch = typeof fetch;

/** `url` is the gateway's own, where this page came from; `ask` is the browser's fetch. */
export function connectGateway(url: string, ask: Fetch = fetch): Connection {
  return new GatewayConnection(url, ask);
}

class GatewayConnection implements Connection {
  readonly kind = "gateway";
  readonly url: string;
  readonly #fetch: Fetch;
  readonly #listeners = new Set<(event: ConnectionEvent) => void>();
  readonly #end = new AbortController();
  readonly #timer = setInterval(() => this.probe(), LOOK_MS);
  #state: ConnectionState = { phase: "connecting", problem: null };
  #models: readonly ListedModel[] = [];

  constructor(url: string, ask: Fetch) {
    this.url = url.replace(/\/$/, "");
    // a browser's fetch refuses to be called as a method of anything else
    this.#fetch = (input, init) => ask(input, init);
    this.probe();
  }

  state(): ConnectionState {
    return this.#state;
  }

  me(): null {
    return null;
  }

  models(): readonly ListedModel[] {
    return this.#models;
  }

  /** The gateway's own; it does not tell us. */
  paths(): readonly PathView[] {
    return [];
  }

  async ask(ask: Ask): Promise<Answer> {
    const response = await this.#request(ask);
    const provider = response.headers.get("Meshllm-Provider");
    if (provider === null && !response.ok) throw await noRoute(response);
    return new GatewayAnswer(response, provider ?? "", ask.signal);
  }

  /** A gateway's program cannot take an answer up: its connection was the question. */
  async resume(): Promise<Readonly<Record<string, Answer>>> {
    return {};
  }

  probe(): void {
    void this.#look();
  }

  subscribe(listener: (event: ConnectionEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#end.abort(new PeerUnreachable("The page has closed its connection."));
    this.#setState({ phase: "closed", problem: null });
  }

  async #request(ask: Ask): Promise<Response> {
    const { method, path } = ask;
    const end = this.#end.signal;
    const signal = ask.signal === undefined ? end : AbortSignal.any([ask.signal, end]);
    const body =
      ask.body.length > 0
        ? { body: pinned(ask), headers: { "Content-Type": "application/json" } }
        : {};
    try {
      return await this.#fetch(this.url + path, { method, signal, ...body });
    } catch (error) {
      signal.throwIfAborted();
      throw new NoRoute(502, `The gateway does not answer: ${reason(error)}.`);
    }
  }

  async #look(): Promise<void> {
    try {
      const signal = AbortSignal.any([this.#end.signal, AbortSignal.timeout(LOOK_MS)]);
      const response = await this.#fetch(`${this.url}/api/tags`, { signal });
      if (!response.ok) throw await noRoute(response);
      this.#models = readTags(await response.json());
      if (!this.#end.signal.aborted) this.#setState({ phase: "ready", problem: null });
      this.#tell("models");
    } catch (error) {
      if (this.#end.signal.aborted) return;
      const isRefused =
        error instanceof NoRoute && (error.status === 401 || error.status === 403);
      const phase = isRefused ? "refused" : "connecting";
      const problem =
        error instanceof NoRoute ? error.message : "The gateway does not answer.";
      this.#setState({ phase, problem });
    }
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#tell("state");
  }

  #tell(event: ConnectionEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}

class GatewayAnswer implements Answer {
  readonly status: number;
  readonly contentType: string;
  readonly provider: { readonly id: string; readonly name: string };
  readonly path: PathKind;
  readonly timing: Readonly<Record<string, number>>;
  readonly #response: Response;
  readonly #signal: AbortSignal | undefined;

  constructor(response: Response, provider: string, signal: AbortSignal | undefined) {
    const { headers } = response;
    const path = headers.get("Meshllm-Path") ?? "";
    this.status = response.status;
    this.contentType = headers.get("Content-Type") ?? "";
    this.provider = { id: provider, name: provider.slice(0, 8) };
    this.path = KINDS.includes(path) ? (path as PathKind) : "gateway";
    this.timing = readTiming(headers.get("Server-Timing") ?? "");
    this.#response = response;
    this.#signal = signal;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    const reader = this.#response.body?.getReader();
    if (reader === undefined) return;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch {
      this.#signal?.throwIfAborted();
      throw new StreamReset(Code.GONE, HUNG_UP);
    } finally {
      // Of a whole answer there is nothing left to cancel.
      await reader.cancel().catch(() => {});
    }
  }
}

/** A gateway is told whom to ask by the model's name. */
function pinned(ask: Ask): BodyInit {
  if (ask.provider === undefined || ask.model === null) {
    return Uint8Array.from(ask.body);
  }
  const body = JSON.parse(new TextDecoder().decode(ask.body)) as object;
  return JSON.stringify({ ...body, model: `${ask.model}@${ask.provider}` });
}

/** Both APIs' errors, or text. */
async function noRoute(response: Response): Promise<NoRoute> {
  const text = await response.text().catch(() => "");
  const { message, code } = readError(text);
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new NoRoute(
    response.status,
    message || `The gateway answered with status ${response.status}.`,
    code,
    Number.isNaN(after) ? null : after,
  );
}

function readError(text: string): {
  readonly message: string;
  readonly code: string | null;
} {
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error === "string") return { message: error, code: null };
    const { message, code } = error as {
      readonly message?: unknown;
      readonly code?: unknown;
    };
    return { message: String(message), code: typeof code === "string" ? code : null };
  } catch {
    return { message: text.trim(), code: null };
  }
}

type Row = Readonly<Record<string, unknown>>;

function readTags(value: unknown): readonly ListedModel[] {
  const rows = (value as { readonly models?: readonly Row[] }).models ?? [];
  return rows.map((row) => ({
    name: String(row["name"]),
    digest: String(row["digest"] ?? ""),
    size: Number(row["size"] ?? 0),
    modifiedAt: String(row["modified_at"] ?? ""),
    details: (row["details"] ?? {}) as Row,
    capabilities: Array.isArray(row["capabilities"])
      ? row["capabilities"].map(String)
      : [],
    contextLength: Number(row["context_length"] ?? 0),
    providers: [],
  }));
}

/** `queue;dur=1.0, connect;dur=20.5` */
function readTiming(header: string): Readonly<Record<string, number>> {
  const found = header.matchAll(/([\w-]+);dur=([0-9.]+)/g);
  return Object.fromEntries(Array.from(found, ([, name, ms]) => [name, Number(ms)]));
}
