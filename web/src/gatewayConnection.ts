/**
 * The seam over a gateway's HTTP: the page's own machine is the peer, holds the keys and
 * chooses the way. What is private (`/page/…`) needs the cookie of the one-time link.
 */

import { asRecord, readError } from "./chat/lines.ts";
import {
  type Answer,
  type Ask,
  type Connection,
  type ConnectionEvent,
  type ConnectionState,
  type Holder,
  type ListedModel,
  type Me,
  type PathKind,
  type PathView,
  readLoad,
} from "./connection.ts";
import { Code, NoRoute, PeerUnreachable, StreamReset } from "./errors.ts";

const LOOK_MS = 2_000; // how often we look while the page is in front
const QUEUE_MS = 400; // and while a question waits
const HIDDEN_MS = 30_000;
const REFUSED_MS = 5_000;

const GONE =
  "The gateway on this machine does not answer. Start it with `meshllm gateway`.";
const NO_COOKIE =
  "This browser is not let in (any more). `meshllm status` shows a link that opens this page.";

type Fetch = typeof fetch;

/** `url` is the gateway's own, where this page came from. `isHidden`: whether nobody looks,
 * so that we need not either. */
export function connectGateway(
  url: string,
  isHidden: () => boolean = () => false,
  ask: Fetch = fetch,
): Connection {
  return new GatewayConnection(url, isHidden, ask);
}

class GatewayConnection implements Connection {
  readonly kind = "gateway";
  readonly url: string;

  #state: ConnectionState = { phase: "connecting", problem: null };
  #me: Me | null = null;
  #models: readonly ListedModel[] = [];
  #paths: readonly PathView[] = [];
  #told = { state: "", models: "", paths: "", me: "" };
  readonly #listeners = new Set<(event: ConnectionEvent) => void>();
  /** Questions whose head has not come, by the word we gave them. */
  readonly #waiting = new Map<string, (place: number) => void>();
  readonly #isHidden: () => boolean;
  readonly #fetch: Fetch;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looking: Promise<void> | null = null;

  constructor(url: string, isHidden: () => boolean, ask: Fetch) {
    this.url = url.replace(/\/$/, "");
    this.#isHidden = isHidden;
    // A browser's fetch refuses to be called as a method of anything else.
    this.#fetch = (input, init) => ask(input, init);
    this.probe();
  }

  state(): ConnectionState {
    return this.#state;
  }

  me(): Me | null {
    return this.#me;
  }

  models(): readonly ListedModel[] {
    return this.#models;
  }

  paths(): readonly PathView[] {
    return this.#paths;
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
    clearTimeout(this.#timer);
    this.#setState("closed", null);
  }

  async ask(ask: Ask): Promise<Answer> {
    const word = crypto.getRandomValues(new Uint32Array(2)).join("-");
    if (ask.onQueue) {
      this.#waiting.set(word, ask.onQueue);
      this.#lookIn(QUEUE_MS);
    }
    try {
      return await this.#put(ask, word);
    } finally {
      this.#waiting.delete(word);
    }
  }

  async #put(ask: Ask, word: string): Promise<Answer> {
    const isWhole = ask.method === "GET" && ask.provider !== undefined;
    const path = isWhole
      ? `/page/ps?provider=${encodeURIComponent(ask.provider ?? "")}`
      : ask.path;
    let response: Response;
    try {
      response = await this.#fetch(this.url + path, {
        method: ask.method,
        headers: {
          "Meshllm-Ask": word,
          ...(ask.provider === undefined ? {} : { "Meshllm-Pin": ask.provider }),
          ...(ask.method === "POST" ? { "Content-Type": "application/json" } : {}),
        },
        ...(ask.method === "POST" ? { body: ask.body as Uint8Array<ArrayBuffer> } : {}),
        ...(ask.signal ? { signal: ask.signal } : {}),
        cache: "no-store",
      });
    } catch {
      ask.signal?.throwIfAborted();
      this.probe();
      throw new PeerUnreachable(GONE);
    }
    const load = readLoad(parsed(response.headers.get("Meshllm-Load")));
    if (load !== null) ask.onLoad?.(load);
    const provider = response.headers.get("Meshllm-Provider");
    if (!response.ok && provider === null) throw await noRoute(response);
    return new HttpAnswer(response, this.#holder(provider ?? ""), ask.signal);
  }

  #holder(id: string): { id: string; name: string } {
    const holders = this.#models.flatMap((model) => model.providers);
    return { id, name: holders.find((holder) => holder.id === id)?.name ?? "" };
  }

  #lookIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), ms);
  }

  #look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = null;
      if (this.#state.phase === "closed") return;
      const isRefused = this.#state.phase === "refused";
      const restMs = this.#isHidden() ? HIDDEN_MS : isRefused ? REFUSED_MS : LOOK_MS;
      this.#lookIn(this.#waiting.size > 0 ? QUEUE_MS : restMs);
    });
    return this.#looking;
  }

  async #lookOnce(): Promise<void> {
    let found: Record<string, unknown>;
    try {
      const response = await this.#fetch(`${this.url}/page/state`, {
        cache: "no-store",
      });
      if (response.status === 401 || response.status === 403) {
        this.#setState("refused", NO_COOKIE);
        return;
      }
      if (!response.ok) throw new Error(response.statusText);
      found = asRecord(await response.json());
    } catch {
      this.#setState("connecting", GONE);
      return;
    }
    this.#learn(found);
  }

  #learn(found: Record<string, unknown>): void {
    const { models, paths, me, waiting, problem } = found;
    this.#changed("models", models, () => {
      this.#models = list(models).map(readModel);
    });
    this.#changed("paths", paths, () => {
      this.#paths = list(paths).map(readPath);
    });
    this.#changed("me", me, () => {
      this.#me = readMe(me);
    });
    this.#setState("ready", typeof problem === "string" ? problem : null);
    for (const [word, place] of Object.entries(asRecord(waiting))) {
      if (typeof place === "number") this.#waiting.get(word)?.(place);
    }
  }

  #changed(event: "models" | "paths" | "me", value: unknown, take: () => void): void {
    const now = JSON.stringify(value) ?? "";
    if (now === this.#told[event]) return;
    this.#told[event] = now;
    take();
    this.#tell(event);
  }

  #setState(phase: ConnectionState["phase"], problem: string | null): void {
    if (phase === this.#state.phase && problem === this.#state.problem) return;
    this.#state = { phase, problem };
    this.#tell("state");
  }

  #tell(event: ConnectionEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

class HttpAnswer implements Answer {
  readonly status: number;
  readonly contentType: string;
  readonly provider: { readonly id: string; readonly name: string };
  readonly path: PathKind;
  readonly timing: Readonly<Record<string, number>>;
  readonly #body: ReadableStream<Uint8Array> | null;
  readonly #signal: AbortSignal | undefined;

  constructor(
    response: Response,
    provider: { id: string; name: string },
    signal?: AbortSignal,
  ) {
    this.status = response.status;
    this.contentType = response.headers.get("Content-Type") ?? "";
    this.provider = provider;
    this.path = readKind(response.headers.get("Meshllm-Path")) ?? "gateway";
    this.timing = readTiming(response.headers.get("Server-Timing") ?? "");
    this.#body = response.body;
    this.#signal = signal;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = this.#body?.getReader();
    if (reader === undefined) return;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch {
      this.#signal?.throwIfAborted();
      throw new StreamReset(
        Code.GONE,
        "The gateway broke off. It may have been stopped.",
      );
    } finally {
      reader.cancel().catch(() => undefined);
    }
  }
}

function parsed(json: string | null): unknown {
  try {
    return JSON.parse(json ?? "null");
  } catch {
    return null;
  }
}

async function noRoute(response: Response): Promise<NoRoute> {
  let message = "";
  try {
    message = readError(asRecord(await response.json())["error"]) ?? "";
  } catch {
    // No JSON: the status says what there is to say.
  }
  const retry = Number(response.headers.get("Retry-After"));
  return new NoRoute(
    response.status,
    message || `The gateway answered with status ${response.status}.`,
    response.headers.get("Meshllm-Error"),
    retry > 0 ? retry : null,
  );
}

/** `queue;dur=1.0, rtt;dur=12.5` */
function readTiming(header: string): Record<string, number> {
  const timing: Record<string, number> = {};
  for (const [, name, value] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) {
    if (name !== undefined) timing[name] = Number(value);
  }
  return timing;
}

const KINDS: readonly PathKind[] = [
  "host",
  "srflx",
  "prflx",
  "relay",
  "lan",
  "gateway",
];

function readKind(kind: unknown): PathKind | null {
  return KINDS.find((known) => known === kind) ?? null;
}

function readModel(value: unknown): ListedModel {
  const model = asRecord(value);
  return {
    name: String(model["name"] ?? ""),
    digest: String(model["digest"] ?? ""),
    size: Number(model["size"] ?? 0),
    modifiedAt: String(model["modified_at"] ?? ""),
    details: asRecord(model["details"]),
    capabilities: list(model["capabilities"]).map(String),
    contextLength: Number(model["context_length"] ?? 0),
    providers: list(model["providers"]).map(readHolder),
  };
}

function readHolder(value: unknown): Holder {
  const holder = asRecord(value);
  return {
    id: String(holder["id"] ?? ""),
    name: String(holder["name"] ?? ""),
    path: readKind(holder["path"]),
    parallel: Number(holder["parallel"] ?? 1),
    streams: Number(holder["streams"] ?? 0),
  };
}

function readPath(value: unknown): PathView {
  const path = asRecord(value);
  const candidates = asRecord(path["candidates"]);
  const hasBoth =
    candidates["local"] !== undefined && candidates["remote"] !== undefined;
  return {
    provider: { id: String(path["id"] ?? ""), name: String(path["name"] ?? "") },
    kind: readKind(path["path"]) ?? "gateway",
    rttMs: typeof path["rtt_ms"] === "number" ? path["rtt_ms"] : null,
    candidates: hasBoth
      ? { local: String(candidates["local"]), remote: String(candidates["remote"]) }
      : null,
    isObserved: true, // nodes must (docs/protocol.md §5)
    streams: Number(path["streams"] ?? 0),
  };
}

function readMe(value: unknown): Me | null {
  const me = asRecord(value);
  const role = (["owner", "member", "guest"] as const).find(
    (known) => known === me["role"],
  );
  if (role === undefined) return null;
  return {
    id: String(me["id"] ?? ""),
    mesh: String(me["mesh"] ?? ""),
    name: String(me["name"] ?? ""),
    role,
    isProvisional: me["provisional"] === true,
    until: null,
  };
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
