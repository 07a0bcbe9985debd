/**
 * The two halves of a stream: bytes to send and bytes received, by offset.
 *
 * Everything here is absolute and monotone (docs/protocol.md §6.1), so a repeated or late
 * frame changes nothing. FIN takes one offset: n bytes are complete at n + 1.
 */

import { type Bytes, EMPTY } from "../bytes.ts";
import { LocalProtocolError, RemoteProtocolError } from "../errors.ts";
import { type Ack, DATA_MAX, type Data, OFFSET_MAX } from "./frames.ts";

export const INITIAL_CREDIT = 65_536; // before the reader has said anything
export const CREDIT = 262_144; // beyond what it consumed
export const CREDIT_STEP = 32_768; // an ACK a step: 8 in a full window
export const UNSENT_MAX = 65_536; // a writer pauses here: what is unsent is only delay
export const REPLAY_MAX = 1 << 20; // what a writer may run ahead of `ack` without a path

/** Bytes from an offset on, added at the end and dropped at the start. */
class Replay {
  #room: Bytes = EMPTY;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  push(data: Uint8Array): void {
    if (this.#end + data.length > this.#room.length) this.#makeRoom(data.length);
    this.#room.set(data, this.#end);
    this.#end += data.length;
  }

  drop(count: number): void {
    this.#start = Math.min(this.#start + count, this.#end);
  }

  slice(at: number, size: number): Bytes {
    return this.#room.slice(this.#start + at, this.#start + at + size);
  }

  #makeRoom(count: number): void {
    const held = this.#room.subarray(this.#start, this.#end);
    const size = Math.max(held.length + count, 2 * held.length, 1_024);
    this.#room = new Uint8Array(size);
    this.#room.set(held);
    this.#end = held.length;
    this.#start = 0;
  }
}

/** Bytes written here, kept until the peer acknowledged them. */
export class SendHalf {
  readonly stream: number;
  acked = 0;
  /** First offset not sent on the present path. */
  next = 0;
  /** First offset not written. */
  end = 0;
  fin = false;
  limit = INITIAL_CREDIT;
  /** The peer may know of this stream. Else its first frame is due, if need be an empty
   * one: the peer takes a skipped id for one that will never come. */
  isAnnounced: boolean;
  readonly #replay = new Replay(); // from `acked` on

  constructor(stream: number, isAnnounced: boolean) {
    this.stream = stream;
    this.isAnnounced = isAnnounced;
  }

  write(data: Uint8Array): void {
    if (this.fin) throw new LocalProtocolError("a write after FIN");
    if (this.end + data.length >= OFFSET_MAX) {
      throw new LocalProtocolError("a stream of 2^48 bytes");
    }
    this.#replay.push(data);
    this.end += data.length;
  }

  finish(): void {
    this.fin = true;
  }

  get unsent(): number {
    return Math.max(0, this.end - this.next);
  }

  /** Bytes held for replay. */
  get unacked(): number {
    return this.#replay.length;
  }

  get isComplete(): boolean {
    return this.fin && this.acked > this.end;
  }

  get isSendable(): boolean {
    if (this.next < this.end) return this.next < this.limit;
    return !this.isAnnounced || (this.fin && this.next === this.end);
  }

  /** Bytes wait and only the reader's credit is missing. */
  get isBlocked(): boolean {
    return this.limit <= this.next && this.next < this.end;
  }

  /** The next DATA frame with at most `room` (>= 1) bytes of payload. */
  take(room: number): Data | null {
    if (!this.isSendable) return null;
    const most = Math.min(this.end - this.next, this.limit - this.next, room, DATA_MAX);
    const size = Math.max(0, most); // FIN needs no credit
    const payload = this.#replay.slice(this.next - this.acked, size);
    const fin = this.fin && this.next + size === this.end;
    const off = this.next;
    this.next += size + (fin ? 1 : 0);
    this.isAnnounced = true;
    return { type: "DATA", stream: this.stream, off, fin, payload };
  }

  /** RemoteProtocolError for an acknowledgement of what was never sent. */
  onAck(ack: number, limit: number): void {
    if (ack > this.next) {
      throw new RemoteProtocolError(`stream ${this.stream}: ack beyond what was sent`);
    }
    this.limit = Math.max(this.limit, limit);
    if (ack > this.acked) {
      this.#replay.drop(ack - this.acked); // FIN's offset holds no byte
      this.acked = ack;
    }
  }

  canRewind(rx: number): boolean {
    return this.acked <= rx && rx <= this.end + (this.fin ? 1 : 0);
  }

  /** A new path: continue from what the peer received on the former ones. */
  rewind(rx: number, limit: number): void {
    this.limit = Math.max(this.limit, limit);
    this.next = rx;
  }
}

/** Bytes received here, in order; what the reader consumed grants credit. */
export class RecvHalf {
  readonly stream: number;
  /** Contiguous bytes received, and one more for FIN. */
  rx = 0;
  size: number | null = null;
  max = INITIAL_CREDIT;
  consumed = 0;
  #reportedAck = 0;
  #reportedMax = INITIAL_CREDIT;

  constructor(stream: number) {
    this.stream = stream;
  }

  /** What is new in the frame. RemoteProtocolError: a gap, or beyond credit. */
  onData(frame: Data): Bytes {
    const end = frame.off + frame.payload.length;
    const received = this.size ?? this.rx;
    if (frame.off > received) this.#refuse(`a gap at ${received}`);
    if (end > this.max) this.#refuse("beyond its credit");
    if (this.size !== null) {
      if (end > this.size || (frame.fin && end !== this.size)) {
        this.#refuse("bytes after FIN");
      }
      return EMPTY;
    }
    if (frame.fin && end < received) this.#refuse("FIN before its bytes");
    this.rx = Math.max(received, end);
    if (frame.fin) {
      this.size = this.rx;
      this.rx += 1;
    }
    return frame.payload.subarray(received - frame.off);
  }

  /** The reader took `count` bytes and can survive without us. */
  consume(count: number): void {
    if (this.consumed + count > (this.size ?? this.rx)) {
      throw new LocalProtocolError("consumed more than was received");
    }
    this.consumed += count;
    if (this.consumed > 0) this.max = Math.min(this.consumed + CREDIT, OFFSET_MAX);
  }

  /** Everything consumed; with FIN once nothing is left before it. */
  get ack(): number {
    return this.consumed + (this.isComplete ? 1 : 0);
  }

  get isComplete(): boolean {
    return this.consumed === this.size;
  }

  get isReportDue(): boolean {
    if (this.isComplete) return this.#reportedAck <= this.consumed;
    return (
      this.max - this.#reportedMax >= CREDIT_STEP ||
      this.consumed - this.#reportedAck >= CREDIT_STEP
    );
  }

  /** The peer was told, on the present path, that all has arrived. */
  get isReported(): boolean {
    return this.isComplete && this.#reportedAck === this.ack;
  }

  report(): Ack {
    this.#reportedAck = this.ack;
    this.#reportedMax = this.max;
    return { type: "ACK", stream: this.stream, ack: this.ack, max: this.max };
  }

  /** Reports may have been lost with the old one. */
  onNewPath(): void {
    this.#reportedAck = -1;
  }

  #refuse(why: string): never {
    throw new RemoteProtocolError(`stream ${this.stream}: ${why}`);
  }
}

/** Both halves, as one side sees them. */
export class Stream {
  readonly send: SendHalf;
  readonly recv: RecvHalf;
  /** Waits for the reader's credit since; in seconds. */
  blockedAt: number | null = null;

  constructor(id: number, isAnnounced: boolean) {
    this.send = new SendHalf(id, isAnnounced);
    this.recv = new RecvHalf(id);
  }

  /** All of `sent` was acknowledged, `received` is held safely. */
  static revive(id: number, sent: number, received: number): Stream {
    const stream = new Stream(id, true);
    const { send, recv } = stream;
    send.fin = true;
    send.end = sent;
    send.next = sent + 1;
    send.acked = sent + 1;
    recv.rx = received;
    recv.consume(received);
    return stream;
  }

  /** Written and received to the end: whoever uses it waits for nothing more. */
  get isDone(): boolean {
    return this.send.fin && this.recv.size !== null;
  }

  /** Acknowledged by the peer and consumed here: only our last ACK may be due. */
  get isComplete(): boolean {
    return this.send.isComplete && this.recv.isComplete;
  }
}
