/**
 * Introductions: from a sealed offer to a wire whose peer has proven who it is.
 *
 * A page always dials (docs/protocol.md §4, §5). How envelopes travel is the caller's:
 * `Deliver` takes one, `receive` brings one.
 */

import { type Bytes, isEqual, toHex } from "../bytes.ts";
import { NotAllowed, PeerUnreachable } from "../errors.ts";
import type { Identity } from "../identity.ts";
import {
  type Answer,
  type Candidates,
  type Offer,
  openEnvelope,
  type Refusal,
  type Signal,
  seal,
} from "../protocol/envelope.ts";
import { commit } from "../protocol/hello.ts";
import { type Ice, VERSIONS } from "../protocol/signals.ts";
import type { Announcement } from "../trust/announcement.ts";
import { boxKey, type PeerId, short } from "../trust/keys.ts";
import { unixS, unlessAborted } from "./clock.ts";
import { type Found, Peer } from "./peer.ts";
import { proven } from "./proof.ts";
import { randomBytes } from "./random.ts";
import type { Wire } from "./wire.ts";

export const CONNECT_S = 10;
const EARLY_MAX = 8; // messages kept until the answer is in the browser

/** To a node, at this connection of it (null: whichever announces). */
export type Deliver = (
  to: PeerId,
  conn: Bytes | null,
  envelope: Bytes,
) => Promise<void>;

export interface Settings {
  readonly identity: Identity;
  readonly conn: Bytes;
  readonly deliver: Deliver;
  /** Who we are, for the peer. */
  readonly chain: () => readonly string[];
  readonly servers: () => readonly Ice[];
  /** Throws unless this chain makes `id` somebody who may answer us. */
  readonly decide: (chain: readonly string[], id: PeerId) => void;
  readonly isRelayOnly: boolean;
}

const NO_RELAY =
  "This page hides your address behind a relay, and the signaling server has none. Its " +
  "owner can add a TURN server; or show your address.";

function isRelay(server: Ice): boolean {
  return server.urls.some((url) => /^turns?:/.test(url));
}

/** A path that is being introduced. */
class Dialling {
  readonly path = randomBytes(16);
  readonly target: Announcement;
  offerDigest: Bytes | null = null;
  readonly answered: Promise<{ readonly answer: Answer; readonly digest: Bytes }>;
  #answer!: (found: { readonly answer: Answer; readonly digest: Bytes }) => void;
  #refuse!: (error: Error) => void;
  #peer: Peer | null = null;
  #early: Found[] = [];

  constructor(target: Announcement) {
    this.target = target;
    this.answered = new Promise((resolve, reject) => {
      [this.#answer, this.#refuse] = [resolve, reject];
    });
    this.answered.catch(() => {}); // whoever dials may have given up
  }

  take(signal: Answer | Candidates | Refusal, digest: Bytes): void {
    const isOurs =
      signal.sender === this.target.id &&
      this.offerDigest !== null &&
      isEqual(signal.prev, this.offerDigest);
    if (!isOurs) return; // it names another offer, or comes from another peer
    if (signal.type === "answer") this.#answer({ answer: signal, digest });
    else if (signal.type === "candidates") this.#flow(signal);
    else this.#refuse(new NotAllowed(signal.text, signal.code));
  }

  /** Candidates go into this connection, which has the answer now. */
  flowInto(peer: Peer): void {
    this.#peer = peer;
    for (const found of this.#early.splice(0)) peer.add(found);
  }

  #flow(found: Found): void {
    if (this.#peer !== null) this.#peer.add(found);
    else if (this.#early.length < EARLY_MAX) this.#early.push(found);
  }
}

/** One for each running page. */
export class Introducer {
  readonly #settings: Settings;
  readonly #dialling = new Map<string, Dialling>();

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** A proven wire to this provider. PeerUnreachable or NotAllowed, with why. */
  async dial(target: Announcement, signal: AbortSignal): Promise<Wire> {
    const late = new PeerUnreachable(
      `No connection to ${short(target.id)} within ${CONNECT_S} s. Where no direct path ` +
        "exists, the signaling server needs a TURN server.",
    );
    const given = new AbortController();
    const timer = setTimeout(() => given.abort(late), CONNECT_S * 1_000);
    const either = AbortSignal.any([signal, given.signal]);
    const dialling = new Dialling(target);
    this.#dialling.set(toHex(dialling.path), dialling);
    try {
      return await this.#dial(dialling, either);
    } finally {
      clearTimeout(timer);
      this.#dialling.delete(toHex(dialling.path));
    }
  }

  /** An envelope came. MeshError says why it was none for us. */
  async receive(sender: PeerId, envelope: Bytes): Promise<void> {
    const { identity } = this.#settings;
    const { box, id } = identity;
    const { signal, digest } = await openEnvelope(envelope, box, id, sender, unixS());
    if (signal.type === "offer") return; // a page shares no models
    this.#dialling.get(toHex(signal.path))?.take(signal, digest);
  }

  async #dial(dialling: Dialling, signal: AbortSignal): Promise<Wire> {
    const { servers, isRelayOnly } = this.#settings;
    signal.throwIfAborted();
    if (isRelayOnly && !servers().some(isRelay)) throw new PeerUnreachable(NO_RELAY);
    const peer = await Peer.offer(servers(), isRelayOnly);
    const onAbort = () => peer.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await unlessAborted(this.#introduce(dialling, peer), signal);
    } catch (error) {
      peer.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #introduce(dialling: Dialling, peer: Peer): Promise<Wire> {
    const { identity, deliver, decide } = this.#settings;
    const { target } = dialling;
    const nonce = randomBytes(32);
    const offer = this.#offer(dialling, peer, nonce);
    const sealed = await this.#seal(offer, target);
    const offerDigest = sealed.digest;
    dialling.offerDigest = offerDigest;
    await deliver(target.id, target.conn, sealed.envelope);
    // What a slow server tells may still improve a path that is open.
    this.#tell(dialling, peer, offerDigest).catch(() => {});
    const { answer, digest: answerDigest } = await dialling.answered;
    decide(answer.chain, answer.sender);
    await peer.accept(answer.description);
    dialling.flowInto(peer);
    await peer.opened();
    const said = { offer, offerDigest, answer, answerDigest };
    return proven(peer, identity.signing, said, nonce);
  }

  #offer(dialling: Dialling, peer: Peer, nonce: Bytes): Offer {
    const { identity, conn, chain } = this.#settings;
    return {
      type: "offer",
      ...this.#head(dialling),
      conn,
      box: identity.box.publicKey,
      commit: commit(nonce),
      versions: VERSIONS,
      description: peer.local(),
      chain: chain(),
    };
  }

  /** Our candidates that are found meanwhile go after the offer. */
  async #tell(dialling: Dialling, peer: Peer, prev: Bytes): Promise<void> {
    const { target } = dialling;
    const head = this.#head(dialling);
    for await (const found of peer.trickle()) {
      const more: Candidates = { type: "candidates", ...head, prev, ...found };
      const { envelope } = await this.#seal({ ...more, ts: unixS() }, target);
      await this.#settings.deliver(target.id, target.conn, envelope);
    }
  }

  #head({ path, target }: Dialling) {
    return { path, sender: this.#settings.identity.id, to: target.id, ts: unixS() };
  }

  #seal(signal: Signal, target: Announcement) {
    const ephemeral = boxKey(randomBytes(32));
    const { signing } = this.#settings.identity;
    return seal(signal, signing, target.box, ephemeral, randomBytes(24));
  }
}
