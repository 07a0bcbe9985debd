/**
 * The streams of one session: who may send next, who owes an ACK, who has ended.
 *
 * Knows nothing of paths or epochs: the session says whether one is there (`isLive`) and
 * passes frames. docs/protocol.md §6.1.
 */

import { Code, LocalProtocolError, RemoteProtocolError } from "../errors.ts";
import type { Event, StreamEnded } from "./events.ts";
import {
  type Ack,
  type Data,
  FIN_STATE,
  OPEN_STATE,
  RESET_STATE,
  RESUME_STREAMS_MAX,
  type Reset,
  type StreamState,
} from "./frames.ts";
import { REPLAY_MAX, type SendHalf, Stream, UNSENT_MAX } from "./streams.ts";

export const STREAMS_MAX = 64;
export const PEER_REPLAY_MAX = 4 << 20;
export const SLOW_READER_S = 60;
const RESETS_KEPT = 64; // told again after a RESUME, should the first telling be lost

/** A stream as another process left it: bytes sent with their FIN, bytes held safely. */
export interface RevivedStream {
  readonly stream: number;
  readonly sent: number;
  readonly received: number;
}

/** `say` sends a RESET now, or loses it when no path is there. */
export class Mux {
  isLive = false;
  lastStream = 0;
  /** Bytes kept for replay, over all streams. */
  held = 0;
  readonly #isClient: boolean;
  readonly #say: (frame: Reset) => void;
  readonly #streams = new Map<number, Stream>();
  readonly #resets = new Map<number, Reset>();
  #refusal: { readonly code: Code; readonly text: string } | null = null;
  // Ordered sets of ids: who has DATA to send, who owes the peer an ACK, and whose writer
  // was told to wait (also when the stream has gone meanwhile).
  readonly #sendable = new Set<number>();
  readonly #ackable = new Set<number>();
  readonly #paused = new Set<number>();

  constructor(isClient: boolean, say: (frame: Reset) => void) {
    this.#isClient = isClient;
    this.#say = say;
  }

  has(stream: number): boolean {
    return this.#streams.has(stream);
  }

  get size(): number {
    return this.#streams.size;
  }

  // What writers and readers do

  /** Client: a new stream's id. */
  open(): number {
    if (this.#streams.size >= STREAMS_MAX) {
      throw new LocalProtocolError(`more than ${STREAMS_MAX} streams`);
    }
    const id = this.lastStream + 1;
    const stream = new Stream(id, false);
    this.#add(id, stream);
    this.#markSendable(id, stream);
    return id;
  }

  /** Ignored when the stream has ended: its writer is told by an event. */
  write(id: number, data: Uint8Array): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || data.length === 0) return;
    stream.send.write(data);
    this.held += data.length;
    this.#markSendable(id, stream);
  }

  finish(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.send.finish();
    this.#markSendable(id, stream);
  }

  /**
   * False: wait for Writable. True for ended streams, where writes vanish.
   *
   * With a path, what is not yet sent counts; without one, what the peer has not
   * acknowledged, which would be lost with us.
   */
  canWrite(id: number): boolean {
    const stream = this.#streams.get(id);
    if (stream === undefined || this.#hasRoom(stream.send)) {
      this.#paused.delete(id);
      return true;
    }
    this.#paused.add(id);
    return false;
  }

  /**
   * The reader holds these bytes safely: acknowledge, and grant more.
   *
   * True when the peer may be waiting for that: its credit runs out. An ACK of what is
   * complete can travel with the next message.
   */
  consume(id: number, count: number): boolean {
    const stream = this.#streams.get(id);
    if (stream === undefined) return false;
    stream.recv.consume(count);
    if (!stream.recv.isReportDue) return false;
    this.#ackable.add(id);
    return !stream.recv.isComplete;
  }

  /** Both ways are done; it is forgotten once our last ACK has left. */
  isComplete(id: number): boolean {
    return this.#streams.get(id)?.isComplete ?? false;
  }

  /** End it now, both ways. Nothing to do when it has ended. */
  reset(id: number, code: Code, text: string, retryable: boolean): void {
    if (this.isComplete(id)) return; // only our last ACK is due, and says all
    const stream = this.#pop(id);
    this.#paused.delete(id);
    if (stream?.send.isAnnounced) {
      const frame: Reset = { type: "RESET", stream: id, code, retryable, text };
      this.#keep(frame);
      this.#say(frame);
    }
  }

  // What a path takes

  get hasData(): boolean {
    return this.#sendable.size > 0;
  }

  takeAck(): Ack | null {
    const id = takeFirst(this.#ackable);
    if (id === undefined) return null;
    const stream = this.#get(id);
    const ack = stream.recv.report();
    this.#forgetIfComplete(id, stream);
    return ack;
  }

  /** At most `room` bytes of the next stream in turn. */
  takeData(room: number): Data | null {
    const id = takeFirst(this.#sendable);
    if (id === undefined) return null;
    const stream = this.#get(id);
    const frame = stream.send.take(room);
    this.#markSendable(id, stream);
    return frame;
  }

  /** Writers that waited and may go on; ask when something was sent. */
  takeWritable(): Event[] {
    const free = [...this.#paused].filter((id) => this.canWrite(id));
    return free.map((stream) => ({ type: "writable", stream }));
  }

  // Frames

  onData(frame: Data): Event[] {
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) return this.#onFirst(frame);
    const hadFin = stream.recv.size !== null;
    const data = stream.recv.onData(frame);
    const fin = stream.recv.size !== null && !hadFin;
    // else receiving makes no report due, but consuming does
    if (fin || hadFin) this.#markAckable(frame.stream, stream);
    if (data.length === 0 && !fin) return [];
    return [{ type: "received", stream: frame.stream, data, fin }];
  }

  #onFirst(frame: Data): Event[] {
    const id = frame.stream;
    if (id <= this.lastStream) return []; // it ended here while this was under way
    if (this.#isClient) {
      throw new RemoteProtocolError("DATA of a stream that was never opened");
    }
    if (this.#refusal !== null) {
      this.#say(this.#refuse(id, this.#refusal));
      return [];
    }
    this.#checkLimit();
    const stream = new Stream(id, true);
    const data = stream.recv.onData(frame); // throws before anything is kept
    this.#add(id, stream);
    this.#markAckable(id, stream);
    const fin = stream.recv.size !== null;
    const opened: Event = { type: "opened", stream: id };
    if (data.length === 0 && !fin) return [opened];
    return [opened, { type: "received", stream: id, data, fin }];
  }

  onAck(frame: Ack): Event[] {
    const id = frame.stream;
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      if (id <= this.lastStream) return [];
      throw new RemoteProtocolError("ACK of a stream that was never opened");
    }
    const wasFull = this.held >= PEER_REPLAY_MAX;
    const { unacked, limit } = stream.send;
    stream.send.onAck(frame.ack, frame.max);
    this.held -= unacked - stream.send.unacked;
    if (stream.send.limit > limit) stream.blockedAt = null;
    this.#markSendable(id, stream);
    this.#forgetIfComplete(id, stream);
    // what this stream gave back may be what others wait for
    if (wasFull) return this.takeWritable();
    const isFree = this.#paused.has(id) && this.canWrite(id);
    return isFree ? [{ type: "writable", stream: id }] : [];
  }

  /** RESET of a stream that is done, or was never begun, changes nothing. */
  onReset(frame: Reset): Event[] {
    const { stream: id, code, text, retryable } = frame;
    if (this.#isClient && id > this.lastStream) {
      throw new RemoteProtocolError("RESET of a stream that was never opened");
    }
    const stream = this.#pop(id);
    if (stream === undefined) return [];
    if (stream.isDone) return this.takeWritable();
    this.#paused.delete(id);
    const ended: StreamEnded = { type: "ended", stream: id, code, text, retryable };
    return [ended, ...this.takeWritable()];
  }

  endAll(code: Code, text: string): Event[] {
    return this.endAbove(0, code, text, false);
  }

  /** Ends the streams after `last` on this side alone. */
  endAbove(last: number, code: Code, text: string, retryable: boolean): Event[] {
    return [...this.#streams.keys()]
      .filter((id) => id > last)
      .flatMap((stream) =>
        this.onReset({ type: "RESET", stream, code, retryable, text }),
      );
  }

  /** Provider: reset the streams that begin from now on, to be asked elsewhere. */
  refuseNew(code: Code, text: string): void {
    this.#refusal = { code, text };
  }

  /** Resets the streams whose reader has granted nothing for 60 s. */
  endSlow(now: number): Event[] {
    const events: Event[] = [];
    const text = "The reader took nothing for 60 seconds.";
    const code = Code.SLOW_READER;
    for (const [id, stream] of [...this.#streams]) {
      if (!stream.send.isBlocked) {
        stream.blockedAt = null;
      } else if (stream.blockedAt === null) {
        stream.blockedAt = now;
      } else if (now - stream.blockedAt >= SLOW_READER_S) {
        this.reset(id, code, text, false);
        events.push({ type: "ended", stream: id, code, text, retryable: false });
      }
    }
    return events;
  }

  // Resuming

  /** Client: these are known again. */
  revive(streams: readonly RevivedStream[]): void {
    for (const { stream: id, sent, received } of streams) {
      this.#streams.set(id, Stream.revive(id, sent, received));
      this.lastStream = Math.max(this.lastStream, id);
    }
  }

  /** What we hold of every stream, for RESUME and READY; it announces them. */
  states(): StreamState[] {
    return Array.from(this.#streams, ([id, stream]) => {
      stream.send.isAnnounced = true;
      const state = stream.recv.size === null ? OPEN_STATE : FIN_STATE;
      return { stream: id, rx: stream.recv.rx, max: stream.recv.max, state };
    });
  }

  /** RemoteProtocolError: this side cannot go on from what the peer holds. */
  check(states: readonly StreamState[]): void {
    if (!this.#isClient && states.length > STREAMS_MAX) {
      throw new RemoteProtocolError(`more than ${STREAMS_MAX} streams`);
    }
    for (const { stream: id, rx } of states) {
      const stream = this.#streams.get(id);
      const isPossible =
        stream !== undefined
          ? stream.send.canRewind(rx)
          : id <= this.lastStream || (!this.#isClient && rx === 0);
      if (!isPossible) {
        throw new RemoteProtocolError(`stream ${id}: cannot resume at ${rx}`);
      }
    }
  }

  /** Reports may have been lost with the old path; nothing is sent yet. */
  onNewPath(): void {
    this.isLive = true;
    this.#sendable.clear();
    for (const [id, stream] of this.#streams) {
      stream.recv.onNewPath();
      stream.blockedAt = null;
      this.#markAckable(id, stream);
    }
  }

  /** Go on from what the peer holds; the answer is what it should know ended. */
  rewind(states: readonly StreamState[]): Reset[] {
    const gone: Reset[] = [];
    for (const { stream: id, rx, max } of states) {
      const stream = this.#streams.get(id);
      if (stream !== undefined) stream.send.rewind(rx, max);
      else gone.push(this.#resets.get(id) ?? unknown(id));
    }
    for (const [id, stream] of this.#streams) this.#markSendable(id, stream);
    return gone;
  }

  /** Provider: the client's list in RESUME. What it left out is cancelled. */
  onListed(states: readonly StreamState[]): Event[] {
    const kept = states.filter((one) => one.state !== RESET_STATE);
    const listed = new Set(kept.map((one) => one.stream));
    const text = "The caller went on without this stream.";
    const code = Code.CANCELLED;
    const events = [...this.#streams.keys()]
      .filter((id) => !listed.has(id))
      .flatMap((stream) =>
        this.onReset({ type: "RESET", stream, code, retryable: false, text }),
      );
    const fresh = [...listed].filter((id) => id > this.lastStream);
    for (const id of fresh.sort((one, other) => one - other)) {
      if (this.#refusal !== null) {
        this.#refuse(id, this.#refusal);
      } else {
        this.#add(id, new Stream(id, true));
        events.push({ type: "opened", stream: id });
      }
    }
    return events;
  }

  // Inside

  #hasRoom(send: SendHalf): boolean {
    if (send.unacked >= REPLAY_MAX || this.held >= PEER_REPLAY_MAX) return false;
    return !this.isLive || send.unsent < UNSENT_MAX;
  }

  /** Complete streams do not count: the client may have forgotten them already, while
   * what we owe it of them waits to leave. */
  #checkLimit(): void {
    if (this.#streams.size < STREAMS_MAX) return;
    const running = [...this.#streams.values()].filter((one) => !one.isComplete).length;
    if (running >= STREAMS_MAX || this.#streams.size >= RESUME_STREAMS_MAX) {
      throw new RemoteProtocolError(`more than ${STREAMS_MAX} streams`);
    }
  }

  #refuse(stream: number, why: { readonly code: Code; readonly text: string }): Reset {
    this.lastStream = stream;
    const frame: Reset = { type: "RESET", stream, retryable: true, ...why };
    this.#keep(frame);
    return frame;
  }

  #keep(frame: Reset): void {
    this.#resets.set(frame.stream, frame);
    const [oldest] = this.#resets.keys();
    if (this.#resets.size > RESETS_KEPT && oldest !== undefined) {
      this.#resets.delete(oldest);
    }
  }

  #add(id: number, stream: Stream): void {
    this.lastStream = id;
    this.#streams.set(id, stream);
  }

  /** Of an id in one of the sets, which hold known streams only. */
  #get(id: number): Stream {
    return this.#streams.get(id) as Stream;
  }

  #pop(id: number): Stream | undefined {
    this.#sendable.delete(id);
    this.#ackable.delete(id);
    const stream = this.#streams.get(id);
    if (stream === undefined) return undefined;
    this.#streams.delete(id);
    this.held -= stream.send.unacked;
    return stream;
  }

  #markSendable(id: number, stream: Stream): void {
    if (stream.send.isSendable) this.#sendable.add(id);
  }

  #markAckable(id: number, stream: Stream): void {
    if (stream.recv.isReportDue) this.#ackable.add(id);
  }

  #forgetIfComplete(id: number, stream: Stream): void {
    if (stream.send.isComplete && stream.recv.isReported) this.#pop(id);
  }
}

function unknown(stream: number): Reset {
  const text = "This stream is not known any more.";
  return { type: "RESET", stream, code: Code.GONE, retryable: false, text };
}

function takeFirst(ids: Set<number>): number | undefined {
  const [first] = ids;
  if (first !== undefined) ids.delete(first);
  return first;
}
