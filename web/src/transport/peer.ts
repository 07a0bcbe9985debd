/**
 * A peer connection, as the browser has it: always the offerer, one negotiated channel.
 *
 * Nothing waits for gathering to complete: behind a UDP block it never does. Candidates
 * trickle both ways (docs/protocol.md §4).
 */

import { sha256 } from "@noble/hashes/sha2.js";
import type { Bytes } from "../bytes.ts";
import type { PathKind } from "../connection.ts";
import { MeshError, PeerUnreachable } from "../errors.ts";
import {
  CANDIDATES_MAX,
  type Candidate,
  type Description,
  fromCandidateLine,
  fromSdp,
  toCandidateLine,
  toSdp,
} from "../protocol/description.ts";
import type { Ice } from "../protocol/signals.ts";
import { type Carrier, LOW_BYTES } from "./wire.ts";

const FIRST_MS = 50; // a machine knows its own addresses sooner than this
const EARLY_MAX = 4;
const CHANNEL = "meshllm";
const MID = "0";

/** Candidates that were found together. */
export interface Found {
  readonly candidates: readonly Candidate[];
  readonly isComplete: boolean;
}

interface Pair {
  readonly kind: PathKind;
  readonly candidates: { readonly local: string; readonly remote: string };
}

export class Peer implements Carrier {
  onLow: () => void = () => {};
  onClosed: (reason: string) => void = () => {};
  onMoved: () => void = () => {};
  readonly #pc: RTCPeerConnection;
  readonly #channel: RTCDataChannel;
  #description: Description | null = null;
  #answer: Description | null = null;
  #onMessage: ((message: Bytes) => void) | null = null;
  #early: Bytes[] = []; // the peer's HELLO may come before ours is signed
  #found: Candidate[] = [];
  #told = 0;
  #isGathered = false;
  #isClosed = false;
  #news: () => void = () => {};
  #pair: Pair | null = null;
  #settle: { resolve: () => void; reject: (error: Error) => void } | null = null;

  private constructor(servers: readonly Ice[], isRelayOnly: boolean) {
    const pc = new RTCPeerConnection({
      iceServers: servers.map(server),
      iceTransportPolicy: isRelayOnly ? "relay" : "all",
    });
    const channel = pc.createDataChannel(CHANNEL, { negotiated: true, id: 0 });
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW_BYTES;
    pc.onicecandidate = (event) => this.#onCandidate(event.candidate);
    pc.onconnectionstatechange = () => this.#onState();
    channel.onopen = () => this.#onOpen();
    channel.onclose = () => this.#lose("the channel was closed");
    channel.onbufferedamountlow = () => this.onLow();
    channel.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      if (typeof event.data === "string") this.#lose("a message of text");
      else this.#take(new Uint8Array(event.data));
    };
    this.#pc = pc;
    this.#channel = channel;
  }

  /** A connection that has something to offer: `local`, and more from `trickle`. */
  static async offer(servers: readonly Ice[], isRelayOnly: boolean): Promise<Peer> {
    let peer: Peer;
    try {
      peer = new Peer(servers, isRelayOnly);
    } catch (error) {
      throw new PeerUnreachable(`This browser makes no WebRTC connection: ${error}.`);
    }
    try {
      await peer.#pc.setLocalDescription(await peer.#pc.createOffer());
      await peer.#untilFound(FIRST_MS);
      peer.#description = fromSdp(peer.#pc.localDescription?.sdp ?? "");
    } catch (error) {
      peer.close();
      throw error;
    }
    return peer;
  }

  /** What the offer says, with the candidates found so far; they are not told again. */
  local(): Description {
    return { ...this.#said(), ...this.#untold() };
  }

  /** SHA-256 of our certificate: each connection has a fresh one. */
  get ownFingerprint(): Bytes {
    return this.#said().fingerprint;
  }

  get isObserved(): boolean {
    return this.#certificate() !== null;
  }

  /** SHA-256 of the peer's certificate; where the browser does not show it, of the one in
   * the answer, which the browser has compared with it. */
  get observedFingerprint(): Bytes {
    const certificate = this.#certificate();
    if (certificate !== null) return Uint8Array.from(sha256(certificate));
    if (this.#answer === null) throw new Error("nobody has answered");
    return this.#answer.fingerprint;
  }

  /** Candidates found after the offer was made, until all are. */
  async *trickle(): AsyncGenerator<Found, void> {
    while (!this.#isClosed) {
      const found = this.#untold();
      if (found.candidates.length > 0 || found.isComplete) yield found;
      if (found.isComplete) return;
      await new Promise<void>((resolve) => {
        this.#news = resolve;
      });
    }
  }

  async accept(answer: Description): Promise<void> {
    this.#answer = answer;
    const sdp = toSdp(answer, "answer");
    try {
      await this.#pc.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      throw new PeerUnreachable(`The browser does not take the answer: ${error}.`);
    }
  }

  /** More of the peer's candidates; one that this browser cannot use is left out. */
  add(found: Found): void {
    const lines = found.candidates
      .filter((candidate) => candidate.transport === "udp")
      .map(toCandidateLine);
    if (found.isComplete) lines.push(""); // that is how the end is said (RFC 8838)
    for (const candidate of lines) {
      const init = { candidate, sdpMid: MID, sdpMLineIndex: 0 };
      this.#pc.addIceCandidate(init).catch(() => {});
    }
  }

  /** Until the channel is open. PeerUnreachable when it will not. */
  async opened(): Promise<void> {
    if (this.#isClosed) throw new PeerUnreachable(UNREACHED);
    if (this.#channel.readyState !== "open") {
      await new Promise<void>((resolve, reject) => {
        this.#settle = { resolve, reject };
      });
    }
    await this.refresh();
  }

  // As a carrier

  set onMessage(listener: (message: Bytes) => void) {
    this.#onMessage = listener;
    for (const message of this.#early.splice(0)) listener(message);
  }

  get buffered(): number {
    return this.#channel.bufferedAmount;
  }

  get kind(): PathKind {
    return this.#pair?.kind ?? "host";
  }

  get candidates(): { readonly local: string; readonly remote: string } | null {
    return this.#pair?.candidates ?? null;
  }

  send(message: Bytes): void {
    try {
      this.#channel.send(message);
    } catch {
      this.#lose("the channel takes nothing any more");
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#news();
    this.#settle?.reject(new PeerUnreachable(UNREACHED));
    this.#channel.onclose = null;
    this.#pc.onconnectionstatechange = null;
    this.#pc.onicecandidate = null;
    this.#pc.close();
  }

  async refresh(): Promise<void> {
    const selected = this.#selected();
    const isWhole = selected !== null && !selected.candidates.remote.includes(HIDDEN);
    const told = isWhole ? null : pairOf(await this.#pc.getStats());
    const isOlder = told !== null && selected !== null && !isSame(told, selected);
    this.#pair = (isOlder ? null : told) ?? selected ?? this.#pair;
  }

  #said(): Description {
    if (this.#description === null) throw new Error("no offer was made");
    return this.#description;
  }

  #take(message: Bytes): void {
    if (this.#onMessage !== null) this.#onMessage(message);
    else if (this.#early.push(message) > EARLY_MAX) this.#lose("messages before HELLO");
  }

  #untold(): Found {
    const candidates = this.#found.slice(this.#told);
    this.#told = this.#found.length;
    return { candidates, isComplete: this.#isGathered };
  }

  #certificate(): Bytes | null {
    // Not in TypeScript's library yet, and not in every browser.
    const transport = this.#pc.sctp?.transport as
      | (RTCDtlsTransport & { getRemoteCertificates?: () => ArrayBuffer[] })
      | undefined;
    const [first] = transport?.getRemoteCertificates?.() ?? [];
    return first === undefined ? null : new Uint8Array(first);
  }

  /** Until the first candidate is there, or all are, or the time is over. */
  #untilFound(ms: number): Promise<void> {
    if (this.#found.length > 0 || this.#isGathered) return Promise.resolve();
    return new Promise((resolve) => {
      const late = setTimeout(resolve, ms);
      this.#news = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }

  #onCandidate(found: RTCIceCandidate | null): void {
    if (found === null) {
      this.#isGathered = true;
    } else if (found.candidate !== "") {
      const candidate = readOwn(found.candidate);
      if (candidate === null || this.#found.length >= CANDIDATES_MAX) return;
      this.#found.push(candidate);
    }
    this.#news();
  }

  #onOpen(): void {
    const ice = this.#pc.sctp?.transport.iceTransport;
    // A relay is often there first, and the direct way a moment later.
    if (ice !== undefined) {
      ice.onselectedcandidatepairchange = () => {
        this.#pair = this.#selected() ?? this.#pair;
        this.onMoved();
      };
    }
    this.#settle?.resolve();
    this.#settle = null;
  }

  /** As of now; statistics are up to 50 ms old. An address that the peer told after it was
   * found stays hidden here, not there. null in browsers that do not tell. */
  #selected(): Pair | null {
    const ice = this.#pc.sctp?.transport.iceTransport;
    const { local, remote } = ice?.getSelectedCandidatePair?.() ?? {};
    if (!local || !remote) return null;
    return pairFrom(
      { type: local.type, address: local.address, port: local.port },
      { type: remote.type, address: remote.address, port: remote.port },
    );
  }

  #onState(): void {
    const state = this.#pc.connectionState;
    if (state === "failed" || state === "closed") this.#lose(`ICE ${state}`);
  }

  #lose(why: string): void {
    if (this.#isClosed) return;
    this.close();
    this.onClosed(why);
  }
}

const UNREACHED = "No path to the peer was found.";

function server(ice: Ice): RTCIceServer {
  const urls = [...ice.urls];
  if (ice.username === null || ice.credential === null) return { urls };
  return { urls, username: ice.username, credential: ice.credential };
}

/** null for what we cannot say to others: TCP, or an address with a scope. */
function readOwn(line: string): Candidate | null {
  try {
    return fromCandidateLine(line);
  } catch (error) {
    if (error instanceof MeshError) return null;
    throw error;
  }
}

type Row = Readonly<Record<string, string | number | boolean | undefined>>;

function pairOf(stats: RTCStatsReport): Pair | null {
  const rows = new Map<string, Row>();
  stats.forEach((row: Row & { id: string }) => {
    rows.set(row.id, row);
  });
  const all = [...rows.values()];
  const transport = all.find((row) => row["type"] === "transport");
  const selected =
    rows.get(String(transport?.["selectedCandidatePairId"])) ??
    all.find((row) => row["type"] === "candidate-pair" && row["nominated"] === true);
  const local = rows.get(String(selected?.["localCandidateId"]));
  const remote = rows.get(String(selected?.["remoteCandidateId"]));
  if (local === undefined || remote === undefined) return null;
  return pairFrom(endOf(local), endOf(remote));
}

interface End {
  readonly type: unknown;
  readonly address: unknown;
  readonly port: unknown;
}

function endOf(row: Row): End {
  const address = row["address"] ?? row["ip"];
  return { type: row["candidateType"], address, port: row["port"] };
}

function pairFrom(local: End, remote: End): Pair {
  const kind = KINDS.find((one) => [local.type, remote.type].includes(one)) ?? "host";
  return { kind, candidates: { local: named(local), remote: named(remote) } };
}

/** The first that one end has is what the path is: a relay anywhere relays it. */
const KINDS = ["relay", "prflx", "srflx"] as const;

const HIDDEN = " ?:";

/** Whether both are one pair, should an address be hidden in one of them. */
function isSame({ candidates: one }: Pair, { candidates: other }: Pair): boolean {
  const port = (end: string) => end.slice(end.lastIndexOf(":"));
  return one.local === other.local && port(one.remote) === port(other.remote);
}

function named({ type, address, port }: End): string {
  // Chromium hides what it only found out by itself, as `redacted-ip.invalid`.
  const isKnown = typeof address === "string" && !address.endsWith(".invalid");
  return isKnown ? `${type} ${address}:${port}` : `${type}${HIDDEN}${port}`;
}
