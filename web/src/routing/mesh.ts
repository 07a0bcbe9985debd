/** From a question to the provider that answers it. */

import { type Bytes, fromUtf8, toHex } from "../bytes.ts";
import type { Answer, Ask, Holder, ListedModel, PathKind } from "../connection.ts";
import {
  Code,
  MeshError,
  NoRoute,
  NotAllowed,
  PeerGone,
  PeerUnreachable,
  StreamReset,
} from "../errors.ts";
import {
  encodeRequestHead,
  HeadReader,
  type ResponseHead,
  readResponseHead,
} from "../protocol/exchange.ts";
import { nowS, unlessAborted } from "../transport/clock.ts";
import type { Link, Stream } from "../transport/link.ts";
import { randomBytes } from "../transport/random.ts";
import type { ModelCard } from "../trust/announcement.ts";
import { order } from "./choose.ts";
import type { Links } from "./links.ts";
import { fullName } from "./names.ts";
import { findModel, type Provider, pinned, type Roster } from "./roster.ts";

const WRITE_BYTES = 65_536;
const RETRY_AFTER_S = 5;
const WENT_AWAY = "The program went away.";
const ELSEWHERE: ReadonlySet<Code> = new Set<Code>([
  Code.GONE,
  Code.UNKNOWN_SESSION,
  Code.DRAINING,
  Code.BUSY,
]);

export class MeshRouter {
  readonly #roster: Roster;
  readonly #links: Links;

  constructor(roster: Roster, links: Links) {
    this.#roster = roster;
    this.#links = links;
  }

  models(): readonly ListedModel[] {
    const found = new Map<string, { model: ModelCard; providers: Holder[] }>();
    for (const { id, name, announcement } of this.#roster.providers) {
      const path = this.#links.peek(id)?.wire?.carrier.kind ?? null;
      for (const model of announcement.models) {
        const entry = found.get(fullName(model.name)) ?? { model, providers: [] };
        found.set(fullName(model.name), entry);
        entry.providers.push({ id, name, path });
      }
    }
    return [...found.values()].map(({ model, providers }) => ({ ...model, providers }));
  }

  async ask(ask: Ask): Promise<Answer> {
    const signal = ask.signal ?? new AbortController().signal;
    signal.throwIfAborted();
    const tried = new Set<string>(); // by connection: after a restart it is another
    let failure: NoRoute | null = null;
    let provider = this.#best(this.#candidates(ask), tried);
    while (provider !== undefined) {
      tried.add(keyOf(provider));
      try {
        const answer = await this.#askOne(provider, ask, signal, tried);
        // else it draws questions by failing fast
        if (answer.status === 502) this.#links.noteFailure(provider.id);
        const isAway = answer.status === 502 || answer.status === 503;
        if (!isAway || this.#another(ask, tried) === undefined) return answer;
        answer.cancel();
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof MeshError)) throw error;
        failure ??= noRoute(provider, error);
        if (error instanceof StreamReset && !mayAskAnother(error)) break;
      }
      provider = this.#another(ask, tried);
    }
    throw failure ?? new NoRoute(503, "No provider is in the mesh now.");
  }

  /** Somebody who was not asked yet, of those who are there by now. */
  #another(ask: Ask, tried: ReadonlySet<string>): Provider | undefined {
    try {
      return this.#best(this.#candidates(ask), tried);
    } catch (error) {
      if (error instanceof NoRoute) return undefined;
      throw error;
    }
  }

  #best(
    candidates: readonly Provider[],
    tried: ReadonlySet<string>,
  ): Provider | undefined {
    const left = candidates.filter((provider) => !tried.has(keyOf(provider)));
    return order(left, (id) => this.#links.warmth(id))[0];
  }

  #candidates(ask: Ask): readonly Provider[] {
    let { providers } = this.#roster;
    if (ask.provider !== undefined) {
      providers = pinned(providers, ask.provider);
      if (providers.length === 0) {
        const text = `No provider '${ask.provider}' is in the mesh now.`;
        throw new NoRoute(404, text, "provider_not_found");
      }
    }
    if (providers.length === 0) {
      const text = "No provider is in the mesh now. On the machine with the models: ";
      throw new NoRoute(503, `${text}\`meshllm share\`.`, "no_provider", RETRY_AFTER_S);
    }
    const name = ask.model;
    if (name === null) return providers;
    const holders = providers.filter((one) => findModel(one, name) !== undefined);
    if (holders.length > 0) return holders;
    if (this.#roster.knows(name)) {
      const text = `The model ${name} is away: no provider that has it is here now.`;
      throw new NoRoute(503, text, "no_provider", RETRY_AFTER_S);
    }
    throw new NoRoute(404, `No provider has the model ${name}.`, "model_not_found");
  }

  async #askOne(
    provider: Provider,
    ask: Ask,
    signal: AbortSignal,
    tried: ReadonlySet<string>,
  ): Promise<StreamAnswer> {
    const began = nowS();
    const link = await unlessAborted(this.#links.get(provider), signal);
    const stream = await link.openStream(signal);
    const connectMs = (nowS() - began) * 1_000;
    const onAbort = () => stream.reset(Code.CANCELLED, WENT_AWAY);
    signal.addEventListener("abort", onAbort, { once: true });
    if (ask.onQueue !== undefined) stream.onInfo = placeReader(ask.onQueue);
    const settle = this.#links.impatient(link, () => {
      // Nothing was answered yet, and the path is lost: do not wait for it.
      if (this.#another(ask, tried) === undefined) return;
      stream.reset(Code.GONE, "The path to the provider was lost.");
    });
    try {
      signal.throwIfAborted();
      const sending = send(stream, ask);
      const { head, rest } = await readHead(stream, sending);
      return new StreamAnswer({
        provider,
        link,
        stream,
        head,
        rest,
        connectMs,
        signal,
      });
    } catch (error) {
      stream.reset(Code.CANCELLED, WENT_AWAY);
      signal.removeEventListener("abort", onAbort);
      throw error;
    } finally {
      settle();
    }
  }
}

interface Arrived {
  readonly provider: Provider;
  readonly link: Link;
  readonly stream: Stream;
  readonly head: ResponseHead;
  readonly rest: Bytes;
  readonly connectMs: number;
  readonly signal: AbortSignal;
}

/** An answer that arrives on a stream. */
class StreamAnswer implements Answer {
  readonly status: number;
  readonly contentType: string;
  readonly provider: { readonly id: string; readonly name: string };
  readonly timing: Readonly<Record<string, number>>;
  readonly #from: Arrived;

  constructor(from: Arrived) {
    const { head, provider, link, connectMs } = from;
    const rttS = link.wire?.path.rttS;
    this.#from = from;
    this.status = head.status;
    this.contentType = head.type;
    this.provider = { id: provider.id, name: provider.name };
    this.timing = {
      ...head.timing,
      connect: connectMs,
      ...(rttS == null ? {} : { rtt: rttS * 1_000 }),
    };
  }

  get path(): PathKind {
    return this.#from.link.wire?.carrier.kind ?? "host";
  }

  cancel(): void {
    this.#from.stream.reset(Code.CANCELLED, WENT_AWAY);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    const { rest, stream, signal } = this.#from;
    try {
      if (rest.length > 0) yield rest;
      for (;;) {
        signal.throwIfAborted();
        const data = await stream.read();
        if (data.length === 0) return;
        yield data;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      this.cancel(); // of a whole answer there is nothing left to cancel
    }
  }
}

async function send(stream: Stream, ask: Ask): Promise<void> {
  const { method, path, model } = ask;
  const id = toHex(randomBytes(16));
  const type = ask.body.length > 0 ? "application/json" : "";
  stream.write(encodeRequestHead({ id, method, path, model, type }));
  for (let at = 0; at < ask.body.length; at += WRITE_BYTES) {
    await stream.drain();
    stream.write(ask.body.subarray(at, at + WRITE_BYTES));
  }
  stream.finish();
}

/** A provider may refuse, and so answer, before it has read all that is sent. */
async function readHead(
  stream: Stream,
  sending: Promise<void>,
): Promise<{ readonly head: ResponseHead; readonly rest: Bytes }> {
  sending.catch(() => {}); // a stream that ended tells its reader
  const reader = new HeadReader(readResponseHead);
  for (;;) {
    const data = await stream.read();
    if (data.length === 0) {
      throw new PeerUnreachable("The provider's answer ended before it began.");
    }
    const found = reader.feed(data);
    if (found !== null) return found;
  }
}

/** INFO is advisory: what we do not understand is not for us. */
function placeReader(onQueue: (place: number) => void): (json: Bytes) => void {
  return (json) => {
    try {
      const said = JSON.parse(fromUtf8(json)) as { readonly queue?: unknown } | null;
      if (typeof said?.queue === "number") onQueue(said.queue);
    } catch {
      // not JSON
    }
  };
}

function keyOf(provider: Provider): string {
  return `${provider.id} ${toHex(provider.announcement.conn)}`;
}

/** Another provider may run it: this one never began, or is no more. */
function mayAskAnother(error: StreamReset): boolean {
  return error.isRetryable || ELSEWHERE.has(error.code);
}

function noRoute(provider: Provider, error: MeshError): NoRoute {
  const text = `${provider.name}: ${error.message}`;
  const code = "code" in error ? error.code : null;
  if (error instanceof PeerGone) {
    return new NoRoute(503, text, "no_provider", RETRY_AFTER_S);
  }
  if (error instanceof NotAllowed || error instanceof StreamReset) {
    if (code === Code.BUSY || code === Code.DRAINING) {
      return new NoRoute(503, text, "unavailable", RETRY_AFTER_S);
    }
  }
  if (error instanceof NotAllowed) {
    return code === Code.GONE
      ? new NoRoute(503, text, "unavailable", RETRY_AFTER_S)
      : new NoRoute(403, text, "forbidden");
  }
  if (code === Code.TIMEOUT) return new NoRoute(504, text, "timeout");
  if (code === Code.TOO_LARGE) return new NoRoute(413, text, "too_large");
  return new NoRoute(502, text, "provider_lost");
}
