/**
 * The seam between the page's face and what answers it: the mesh, over a data channel of
 * the page's own (`meshConnection.ts`), or a gateway's HTTP API (`gatewayConnection.ts`).
 *
 * Nothing here knows the DOM. Everything a face needs comes through `Connection`; it
 * parses the answers' bytes itself (Ollama's NDJSON, from `/api/chat`).
 */

/** How the bytes travel now. `lan` and `gateway` are only seen behind a gateway:
 * `gateway` is said until an answer told more. */
export type PathKind = "host" | "srflx" | "prflx" | "relay" | "lan" | "gateway";

/** A provider that has a model; `path` is null while nothing connects us. */
export interface Holder {
  /** Peer id, 52 characters; empty when the gateway does not tell. */
  readonly id: string;
  readonly name: string;
  readonly path: PathKind | null;
  /** Answers that it gives at once. */
  readonly parallel: number;
  /** Exchanges of ours that run there. */
  readonly streams: number;
}

/** A model as Ollama's `/api/tags` has it, and who of the mesh has it. */
export interface ListedModel {
  readonly name: string;
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly modifiedAt: string;
  readonly details: Readonly<Record<string, unknown>>;
  /** `completion`, `vision`, `tools`, `thinking`, `embedding`, … */
  readonly capabilities: readonly string[];
  /** Tokens; 0 when unknown. */
  readonly contextLength: number;
  readonly providers: readonly Holder[];
}

/** Everybody's questions at one provider. */
export interface Load {
  readonly running: number;
  readonly waiting: number;
}

/** One HTTP exchange that a provider shall answer (docs/protocol.md §6.4). */
export interface Ask {
  readonly method: "GET" | "POST";
  /** An exact path of the API, `/api/chat` above all. */
  readonly path: string;
  readonly model: string | null;
  /** Pins one provider: its name, or the start of its id. */
  readonly provider?: string;
  /** JSON; `json(value)` makes it. Empty for GET. */
  readonly body: Uint8Array;
  /** Aborting cancels the exchange: the provider's model stops. */
  readonly signal?: AbortSignal;
  /** Our place in the provider's line, 1 being next; only while we wait there, and only
   * over the mesh. */
  readonly onQueue?: (place: number) => void;
  /** How busy the provider is; with the answer to `/api/ps`, if it says so. */
  readonly onLoad?: (load: Load) => void;
  /** Under this the answer can be taken up after a reload (`resume`); used once. */
  readonly key?: string;
}

/** An answer under way when the page went, as the page kept it. */
export interface Kept {
  /** Bytes of its body that are held safely: it goes on after them. */
  readonly received: number;
  readonly signal?: AbortSignal;
}

/**
 * A provider's answer, from the moment its head is known.
 *
 * Iterate it once. What an iteration returned counts as read when the next one is asked
 * for, and only then may the provider send more: a slow reader slows the model. Leaving
 * the loop early, or aborting, cancels the exchange. It throws StreamReset or
 * PeerUnreachable when it breaks off, and the signal's reason when that aborted it.
 */
export interface Answer extends AsyncIterable<Uint8Array> {
  readonly status: number;
  readonly contentType: string;
  readonly provider: { readonly id: string; readonly name: string };
  /** As it is now: it may change while the answer runs. */
  readonly path: PathKind;
  /** Milliseconds by name (queue, connect, rtt, load, prefill), as far as known. */
  readonly timing: Readonly<Record<string, number>>;
}

/** A live path to one provider. */
export interface PathView {
  readonly provider: { readonly id: string; readonly name: string };
  readonly kind: PathKind;
  readonly rttMs: number | null;
  /** `host 192.0.2.7:50000` and the like; null when the browser does not tell. */
  readonly candidates: { readonly local: string; readonly remote: string } | null;
  /** Whether this browser shows the certificate it saw, so that HELLO proved it; else it
   * is the one of the signed answer, which the browser enforces (docs/protocol.md §5). */
  readonly isObserved: boolean;
  /** Exchanges that run on it. */
  readonly streams: number;
}

/** Who we are in the mesh; null behind a gateway, which is it for us. */
export interface Me {
  readonly id: string;
  readonly mesh: string;
  readonly name: string;
  readonly role: "owner" | "member" | "guest";
  /** A card stands in for the membership: a guest, until the invitation ends. */
  readonly isProvisional: boolean;
  /** Seconds since 1970; null without end. */
  readonly until: number | null;
}

export interface ConnectionState {
  /**
   * `connecting`: not yet, or not any more, and trying. `ready`: the server (or gateway)
   * answers. `refused`: somebody has to mend something; `problem` says what.
   * `closed`: by us.
   */
  readonly phase: "connecting" | "ready" | "refused" | "closed";
  /** One sentence for people, why it is not ready; null when it is. */
  readonly problem: string | null;
}

/** What has changed: ask for it. */
export type ConnectionEvent = "state" | "models" | "paths" | "me";

export interface Connection {
  readonly kind: "mesh" | "gateway";
  /** The signaling server's or the gateway's address. */
  readonly url: string;

  state(): ConnectionState;
  me(): Me | null;
  /** All models of all providers that we trust, from what is known now. */
  models(): readonly ListedModel[];
  paths(): readonly PathView[];

  /**
   * Resolves when the answer's head is known. Throws NoRoute (`status`, `code`,
   * `retryAfterS`; the message is for people) when nobody answers, and the signal's
   * reason when that aborts it. A provider's own refusal (400, 404, 503 …) is an answer.
   */
  ask(ask: Ask): Promise<Answer>;

  /**
   * Takes up answers that ran when the page went away, by the `key` they were asked with.
   * What is missing in the outcome is lost: its provider is gone, or had not begun to
   * answer, or the page was away for longer than some seconds. Call it once, with all that
   * are of interest; a provider stops what is not among them. For this an answer's bytes
   * are to be stored before the next ones are asked for, and `close` is not to be called
   * when the page goes.
   */
  resume(
    kept: Readonly<Record<string, Kept>>,
  ): Promise<Readonly<Record<string, Answer>>>;

  /** The network may have changed, the page is back in front: look at once whether we are
   * still connected. Browsers' `online` and `visibilitychange` are the caller's to hear. */
  probe(): void;

  /** Calls `listener` after every change; returns what ends that. */
  subscribe(listener: (event: ConnectionEvent) => void): () => void;

  /** Ends every exchange and path. */
  close(): Promise<void>;
}

/** A JSON body for `Ask`. */
export function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Null: somebody else's JSON. */
export function readLoad(value: unknown): Load | null {
  if (typeof value !== "object" || value === null) return null;
  const { running, waiting } = value as Record<string, unknown>;
  const isLoad = typeof running === "number" && typeof waiting === "number";
  return isLoad ? { running, waiting } : null;
}
