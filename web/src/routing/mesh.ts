/** From a question to the provider that answers it. */

import { type Bytes, fromUtf8, toHex } from "../bytes.ts";
import {
  type Answer,
  type Ask,
  type Holder,
  type Kept,
  type ListedModel,
  readLoad,
} from "../connection.ts";
import {
  Code,
  MeshError,
  NoRoute,
  NotAllowed,
  PeerGone,
  StreamReset,
} from "../errors.ts";
import { nowS, unlessAborted } from "../transport/clock.ts";
import type { ModelCard } from "../trust/announcement.ts";
import { headOf, readHead, StreamAnswer, send, WENT_AWAY } from "./answer.ts";
import { order } from "./choose.ts";
import type { Links } from "./links.ts";
import { fullName } from "./names.ts";
import { keep, placeOf, takeUp } from "./resume.ts";
import { findModel, type Provider, pinned, type Roster } from "./roster.ts";
import type { Shelf } from "./running.ts";

const RETRY_AFTER_S = 5;
const NEVER = new AbortController().signal;
const ELSEWHERE: ReadonlySet<Code> = new Set<Code>([
  Code.GONE,
  Code.UNKNOWN_SESSION,
  Code.DRAINING,
  Code.BUSY,
]);

export class MeshRouter {
  readonly #roster: Roster;
  readonly #links: Links;
  readonly #shelf: Shelf;

  constructor(roster: Roster, links: Links, shelf: Shelf) {
    this.#roster = roster;
    this.#links = links;
    this.#shelf = shelf;
  }

  models(): readonly ListedModel[] {
    const found = new Map<string, { model: ModelCard; providers: Holder[] }>();
    for (const { id, name, announcement } of this.#roster.providers) {
      const link = this.#links.peek(id);
      const path = link?.wire?.carrier.kind ?? null;
      const { parallel } = announcement;
      const holder = { id, name, path, parallel, streams: link?.load ?? 0 };
      for (const model of announcement.models) {
        const entry = found.get(fullName(model.name)) ?? { model, providers: [] };
        found.set(fullName(model.name), entry);
        entry.providers.push(holder);
      }
    }
    return [...found.values()].map(({ model, providers }) => ({ ...model, providers }));
  }

  async ask(ask: Ask): Promise<Answer> {
    const signal = ask.signal ?? NEVER;
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

  /** Answers that another page asked for, those that can be taken up. */
  resume(
    kept: Readonly<Record<string, Kept>>,
  ): Promise<Readonly<Record<string, Answer>>> {
    return takeUp(kept, this.#roster, this.#links, this.#shelf);
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
    stream.onInfo = (json) => tell(ask, json);
    const settle = this.#links.impatient(link, () => {
      // Nothing was answered yet, and the path is lost: do not wait for it.
      if (this.#another(ask, tried) === undefined) return;
      stream.reset(Code.GONE, "The path to the provider was lost.");
    });
    try {
      signal.throwIfAborted();
      const request = headOf(ask);
      // A stream that ended tells its reader.
      send(stream, [request, ask.body]).catch(() => {});
      const { head, size, rest } = await readHead(stream);
      const { status, type: contentType } = head;
      const timing = { ...head.timing, connect: connectMs };
      const end = await keep(this.#shelf, ask.key, {
        ...placeOf({ provider, link, stream }),
        sent: request.length + ask.body.length,
        head: size,
        status,
        contentType,
      });
      const told = { status, contentType, timing, rest, signal, end };
      return new StreamAnswer({ provider, link, stream }, told);
    } catch (error) {
      stream.reset(Code.CANCELLED, WENT_AWAY);
      signal.removeEventListener("abort", onAbort);
      throw error;
    } finally {
      settle();
    }
  }
}

/** INFO is advisory: what we do not understand is not for us. */
function tell(ask: Ask, json: Bytes): void {
  try {
    const said = JSON.parse(fromUtf8(json)) as Record<string, unknown> | null;
    if (typeof said?.["queue"] === "number") ask.onQueue?.(said["queue"]);
    const load = readLoad(said);
    if (load !== null) ask.onLoad?.(load);
  } catch {
    // not JSON
  }
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
