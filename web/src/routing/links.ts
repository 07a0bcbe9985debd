/**
 * Sessions with providers, kept warm: one each, dialled once however many ask.
 *
 * A path that falls silent for 4 s is raced by another, beside it: whichever is heard
 * first goes on. A session whose path is lost is given another while somebody waits for
 * it. That a provider has ended shows in two ways together: the roster no longer lists it
 * as it was dialled, and its path is silent; then nobody is kept waiting.
 */

import { isEqual } from "../bytes.ts";
import { Code, MeshError, PeerGone, reason } from "../errors.ts";
import type { Session } from "../protocol/session.ts";
import { nowS, pause } from "../transport/clock.ts";
import { Link, type Stream } from "../transport/link.ts";
import { SILENT_S, type Wire } from "../transport/wire.ts";
import type { PeerId } from "../trust/keys.ts";
import type { Warmth } from "./choose.ts";
import type { Provider } from "./roster.ts";

const REDIAL_S = 30; // how long a lost path is looked for while answers are under way
const REDIAL_PAUSE_MS = 1_000;
const MISSING_S = 5; // a provider may be absent so long: after a restart of the server
const DOUBT_S = 3; // longer than between two pings, and than SCTP's first repetition
const FAILED_S = 10; // a provider that could not be reached comes last for so long
const RACE_EVERY_S = 3; // from 4 to 10 s of silence: two at most

export type Dial = (provider: Provider, signal: AbortSignal) => Promise<Wire>;
type Leave = () => void;

/** A session, with the provider as it was dialled. */
interface Held {
  readonly provider: Provider;
  readonly link: Link;
  readonly end: AbortController;
  readonly impatient: Set<Leave>;
  isDoubted: boolean;
  isReviving: boolean;
  racedAtS: number;
}

export class Links {
  onChange: () => void = () => {};
  readonly #dial: Dial;
  readonly #find: (id: PeerId) => Provider | undefined;
  readonly #held = new Map<PeerId, Held>();
  readonly #replaced = new Set<Held>(); // answers of theirs may still come
  readonly #dialling = new Map<PeerId, { provider: Provider; link: Promise<Link> }>();
  readonly #failedAt = new Map<PeerId, number>();
  readonly #end = new AbortController();

  constructor(dial: Dial, find: (id: PeerId) => Provider | undefined) {
    this.#dial = dial;
    this.#find = find;
  }

  /** A session that is up. PeerUnreachable or NotAllowed: why there is none. */
  async get(provider: Provider): Promise<Link> {
    const held = this.#held.get(provider.id);
    if (held !== undefined && isSame(held.provider, provider)) return held.link;
    const under = this.#dialling.get(provider.id);
    if (under !== undefined && isSame(under.provider, provider)) return under.link;
    // One asker that goes away does not take the connection from the others.
    const dialling = { provider, link: this.#connect(provider) };
    this.#dialling.set(provider.id, dialling);
    try {
      return await dialling.link;
    } finally {
      if (this.#dialling.get(provider.id) === dialling) {
        this.#dialling.delete(provider.id);
      }
    }
  }

  /** A session that another page began, for what runs in it and nothing new. */
  async revive(
    provider: Provider,
    session: Session,
    streams: readonly { readonly stream: number }[],
  ): Promise<{ readonly link: Link; readonly taken: readonly Stream[] }> {
    const link = new Link(session);
    const taken = streams.map(({ stream }) => link.takeUp(stream));
    try {
      await link.start(await this.#dial(provider, this.#end.signal));
    } catch (error) {
      await link.close(Code.CANCELLED, "the session did not go on");
      throw error;
    }
    this.#replaced.add(this.#watch(provider, link));
    return { link, taken };
  }

  /** Every session there is, with its provider. */
  get all(): readonly { readonly provider: Provider; readonly link: Link }[] {
    return [...this.#held.values(), ...this.#replaced];
  }

  peek(id: PeerId): Link | undefined {
    const link = this.#held.get(id)?.link;
    return link?.isActive ? link : undefined;
  }

  warmth(id: PeerId): Warmth {
    const link = this.peek(id);
    const failedAt = this.#failedAt.get(id);
    return {
      isWarm: link?.wire != null,
      openStreams: link?.load ?? 0,
      rttS: link?.wire?.path.rttS ?? 0,
      hasFailedLately: failedAt !== undefined && nowS() - failedAt < FAILED_S,
    };
  }

  /** It is reached and cannot answer: it comes last. */
  noteFailure(id: PeerId): void {
    this.#failedAt.set(id, nowS());
  }

  /** `leave` is called when the path is lost and not soon found again, until what is
   * returned is called. */
  impatient(link: Link, leave: Leave): () => void {
    const held = this.#all().find((one) => one.link === link);
    held?.impatient.add(leave);
    return () => held?.impatient.delete(leave);
  }

  /** The roster has changed. */
  onRoster(): void {
    for (const held of this.#all()) {
      if (!held.isDoubted && !this.#isListed(held)) void this.#doubt(held);
    }
  }

  /** Sessions that may not be any more end. */
  closeUnless(isAllowed: (provider: Provider) => boolean): void {
    for (const held of this.#all()) {
      if (isAllowed(held.provider)) continue;
      void held.link.close(Code.REVOKED, "The provider may not answer any more.");
    }
  }

  /** The network may have changed: do not wait for silence to be noticed. */
  probe(): void {
    for (const held of this.#all()) {
      if (held.link.silenceS >= SILENT_S / 2) void this.#race(held);
    }
  }

  async close(): Promise<void> {
    this.#end.abort();
    const text = "The page was closed.";
    await Promise.all(this.all.map(({ link }) => link.close(Code.CANCELLED, text)));
  }

  #all(): Held[] {
    return [...this.#held.values(), ...this.#replaced];
  }

  #isListed(held: Held): boolean {
    const latest = this.#find(held.provider.id);
    return latest !== undefined && isSame(latest, held.provider);
  }

  async #connect(provider: Provider): Promise<Link> {
    const link = new Link();
    try {
      await link.start(await this.#dial(provider, this.#end.signal));
    } catch (error) {
      await link.close(Code.CANCELLED, "the session did not begin");
      this.noteFailure(provider.id);
      throw error;
    }
    this.#failedAt.delete(provider.id);
    this.#hold(provider, link);
    return link;
  }

  #hold(provider: Provider, link: Link): void {
    const held = this.#watch(provider, link);
    const former = this.#held.get(provider.id);
    if (former !== undefined) this.#replaced.add(former);
    this.#held.set(provider.id, held);
    if (!this.#isListed(held)) this.onRoster(); // it left while we dialled
  }

  #watch(provider: Provider, link: Link): Held {
    const held: Held = {
      provider,
      link,
      end: new AbortController(),
      impatient: new Set(),
      isDoubted: false,
      isReviving: false,
      racedAtS: Number.NEGATIVE_INFINITY,
    };
    link.onClosed = () => this.#drop(held);
    link.onGoingAway = () => this.#retire(held);
    link.onDetached = () => this.#onLost(held);
    link.onSilent = () => void this.#race(held);
    link.onChange = () => this.onChange();
    this.onChange();
    return held;
  }

  /** For no new question; what runs goes on. */
  #retire(held: Held): void {
    if (this.#held.get(held.provider.id) === held) {
      this.#held.delete(held.provider.id);
      this.#replaced.add(held);
    }
  }

  #drop(held: Held): void {
    this.#retire(held);
    this.#replaced.delete(held);
    held.end.abort();
    this.onChange();
  }

  #onLost(held: Held): void {
    if (held.isReviving) return; // a path that it tried was lost too; it goes on
    if (held.link.load === 0) {
      this.#drop(held);
      void held.link.close(Code.GONE, "nobody waits for this session");
      return;
    }
    void this.#revive(held);
  }

  /** Ends a session whose provider the roster lost, unless it is still heard. */
  async #doubt(held: Held): Promise<void> {
    const { link } = held;
    held.isDoubted = true;
    const waitS = DOUBT_S + 2 * (link.wire?.path.rttS ?? 0);
    await pause(waitS * 1_000, held.end.signal).catch(() => {});
    held.isDoubted = false;
    const isHeard = link.wire !== null && link.silenceS < waitS;
    if (!isHeard && !this.#isListed(held) && !link.isClosed) {
      this.#giveUp(held, "It has left the mesh, and does not answer.");
    }
  }

  /** The path is silent: another beside it, which takes over unless the old one is heard
   * again first. */
  async #race(held: Held): Promise<void> {
    const { link, provider } = held;
    const { wire } = link;
    if (wire === null || nowS() - held.racedAtS < RACE_EVERY_S || held.isReviving)
      return;
    held.racedAtS = nowS();
    const latest = this.#find(provider.id);
    if (latest === undefined || !isSame(latest, provider)) return;
    try {
      const other = await this.#dial(latest, held.end.signal);
      if (link.wire !== wire && link.wire !== null)
        other.close("another path was faster");
      else if (wire.silenceS < SILENT_S / 2) other.close("the path is heard again");
      else await link.start(other);
    } catch (error) {
      if (!(error instanceof MeshError) && !held.end.signal.aborted) throw error;
    }
  }

  /** Another path for the streams that wait; none when the provider is gone. */
  async #revive(held: Held): Promise<void> {
    held.isReviving = true;
    const why = await this.#findPath(held);
    held.isReviving = false;
    if (why !== null && !held.link.isClosed) this.#giveUp(held, why);
  }

  /** null when there is one, or nobody needs one; else why not. */
  async #findPath(held: Held): Promise<string | null> {
    const { link, provider } = held;
    const began = nowS();
    let [seenAt, why] = [began, "No path to it was found."];
    while (link.load > 0 && nowS() - began < REDIAL_S) {
      if (link.isActive || link.isClosed) return null; // a race was won meanwhile
      const latest = this.#find(provider.id);
      if (latest !== undefined && !isSame(latest, provider))
        return "It was started anew.";
      try {
        if (latest === undefined) throw new PeerGone("It has left the mesh.");
        await link.start(await this.#dial(latest, held.end.signal));
        return null;
      } catch (error) {
        if (link.isClosed) return null;
        why = reason(error);
        if (!(error instanceof PeerGone)) seenAt = nowS();
      }
      if (nowS() - seenAt >= MISSING_S) return why;
      for (const leave of [...held.impatient]) leave();
      await pause(REDIAL_PAUSE_MS, held.end.signal).catch(() => {});
    }
    return why;
  }

  #giveUp(held: Held, why: string): void {
    this.noteFailure(held.provider.id);
    this.#retire(held);
    const text = `The provider ${held.provider.name} was lost. ${why}`;
    void held.link.close(Code.GONE, text);
  }
}

/** Whether both are the same process of the node. */
function isSame(one: Provider, other: Provider): boolean {
  return isEqual(one.announcement.conn, other.announcement.conn);
}
