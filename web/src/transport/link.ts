/**
 * A link: one session at work, with streams for those who ask.
 *
 * The pure `Session` decides; a link feeds it frames, time and paths, and turns its
 * events into waiting readers and writers. It lives as long as the session, over any
 * number of wires. A page is always the client.
 */

import { type Bytes, concat, EMPTY } from "../bytes.ts";
import { Code, NotAllowed, PeerUnreachable, StreamReset } from "../errors.ts";
import type { Event, SessionClosed } from "../protocol/events.ts";
import type { Frame } from "../protocol/frames.ts";
import { Session } from "../protocol/session.ts";
import { nowS } from "./clock.ts";
import { randomBytes } from "./random.ts";
import type { Wire } from "./wire.ts";

const TICK_MS = 1_000; // detached sessions are judged in whole seconds
const READY_S = 3;

type Waiter = () => void;

/** One exchange. Bytes count as consumed when the next ones are asked for. */
export class Stream {
  readonly id: number;
  onInfo: (json: Bytes) => void = () => {};
  readonly #link: Link;
  #chunks: Bytes[] = [];
  #hasFin = false;
  #handedOut = 0;
  #error: StreamReset | null = null;
  #reader: Waiter | null = null;
  #writer: Waiter | null = null;

  constructor(link: Link, id: number) {
    this.#link = link;
    this.id = id;
  }

  /** The next bytes, empty after the last. StreamReset when the peer ended it. */
  async read(): Promise<Bytes> {
    this.consume();
    while (this.#chunks.length === 0) {
      if (this.#hasFin) return EMPTY;
      if (this.#error !== null) throw this.#error;
      await new Promise<void>((resolve) => {
        this.#reader = resolve;
      });
    }
    const [first = EMPTY] = this.#chunks;
    const data = this.#chunks.length > 1 ? concat(this.#chunks) : first;
    this.#chunks = [];
    this.#handedOut = data.length;
    return data;
  }

  /** What `read` gave last is safe with the reader: acknowledge it. */
  consume(): void {
    const count = this.#handedOut;
    if (count === 0) return;
    this.#handedOut = 0;
    if (this.#link.session.mux.consume(this.id, count)) this.#link.wake();
    else this.#link.wakeLater();
  }

  /** Queue bytes. Await `drain` between writes or memory has no bound. */
  write(data: Uint8Array): void {
    this.#link.session.mux.write(this.id, data);
    this.#link.wake();
  }

  /** Until more may be written. StreamReset when the peer ended the stream. */
  async drain(): Promise<void> {
    while (this.#error === null && !this.#link.session.mux.canWrite(this.id)) {
      await new Promise<void>((resolve) => {
        this.#writer = resolve;
      });
    }
    if (this.#error !== null) throw this.#error;
  }

  finish(): void {
    this.#link.session.mux.finish(this.id);
    this.#link.wake();
  }

  /** End it both ways, now. Nothing happens when it has ended. */
  reset(code: Code, text: string): void {
    this.#link.session.mux.reset(this.id, code, text, false);
    this.end(new StreamReset(code, text));
    this.#link.forget(this);
    this.#link.wake();
  }

  // What the link tells

  feed(data: Bytes, fin: boolean): void {
    if (data.length > 0) this.#chunks.push(data);
    this.#hasFin ||= fin;
    this.#wakeReader();
  }

  end(error: StreamReset): void {
    this.#error ??= error;
    this.#wakeReader();
    this.resumeWriting();
  }

  resumeWriting(): void {
    this.#writer?.();
    this.#writer = null;
  }

  #wakeReader(): void {
    this.#reader?.();
    this.#reader = null;
  }
}

export class Link {
  readonly session: Session;
  wire: Wire | null = null;
  onDetached: (reason: string) => void = () => {};
  onSilent: () => void = () => {};
  onGoingAway: () => void = () => {};
  onClosed: (code: Code, text: string) => void = () => {};
  /** Streams came or went, there is another wire, or it goes another way. */
  onChange: () => void = () => {};
  readonly #streams = new Map<number, Stream>();
  #mayOpen: Waiter[] = [];
  #settled: Waiter | null = null; // whoever waits for READY
  #endedBy: SessionClosed | null = null;
  readonly #tick = setInterval(() => this.#onTick(), TICK_MS);

  /** A new session, or one that another page began. */
  constructor(session = new Session(randomBytes(16), true)) {
    this.session = session;
  }

  // Paths

  /**
   * OPEN, or RESUME when the session has run before, on a proven wire. Returns at READY;
   * PeerUnreachable when it does not come within 3 s, NotAllowed when the provider will
   * not.
   */
  async start(wire: Wire): Promise<void> {
    if (wire.isClosed) throw new PeerUnreachable(LOST);
    this.#take(wire);
    if (this.session.state === "new") this.session.openOn(wire.path);
    else this.session.resumeOn(wire.path);
    wire.wake();
    await this.#untilReady(wire);
    if (this.#endedBy !== null) {
      throw new NotAllowed(this.#endedBy.text, this.#endedBy.code);
    }
    if (!this.isActive) throw new PeerUnreachable(LOST);
    this.onChange();
  }

  wake(): void {
    this.wire?.wake();
  }

  wakeLater(): void {
    this.wire?.wakeLater();
  }

  // Streams

  /**
   * A new stream; waits while 64 are open. PeerUnreachable when over, StreamReset when
   * the provider takes no more.
   */
  async openStream(signal: AbortSignal): Promise<Stream> {
    while (!this.session.canOpen) {
      if (this.isClosed) {
        throw new PeerUnreachable("The session with this provider has ended.");
      }
      if (this.session.isGoingAway) {
        throw new StreamReset(Code.DRAINING, "The provider is shutting down.", true);
      }
      await new Promise<void>((resolve) => {
        this.#mayOpen.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      signal.throwIfAborted();
    }
    const stream = new Stream(this, this.session.mux.open());
    this.#streams.set(stream.id, stream);
    this.onChange();
    return stream;
  }

  /** A stream of a revived session. */
  takeUp(id: number): Stream {
    const stream = new Stream(this, id);
    this.#streams.set(id, stream);
    return stream;
  }

  forget(stream: Stream): void {
    if (this.#streams.delete(stream.id)) this.#letOpen();
  }

  get isActive(): boolean {
    return this.session.state === "active";
  }

  get isClosed(): boolean {
    return this.session.state === "closed";
  }

  /** Streams open now. */
  get load(): number {
    return this.#streams.size;
  }

  /** How long nothing was heard on the path; 0 without one. */
  get silenceS(): number {
    return this.wire?.silenceS ?? 0;
  }

  /** Say CLOSE, end every stream, let go of the wire. */
  async close(code: Code, text: string): Promise<void> {
    const { wire } = this;
    // Whoever reads or writes is told first: the session knows no stream any more.
    const events = this.session.close(code, text);
    this.#handle(events.filter((event) => event.type !== "closed"));
    await wire?.flush();
    this.#handle(events.filter((event) => event.type === "closed"));
  }

  // Inside

  async #untilReady(wire: Wire): Promise<void> {
    const late = setTimeout(() => wire.close("no READY in time"), READY_S * 1_000);
    try {
      await new Promise<void>((resolve) => {
        this.#settled = resolve;
      });
    } finally {
      clearTimeout(late);
    }
  }

  #take(wire: Wire): void {
    const former = this.wire;
    this.wire = wire;
    wire.onClosed = (lost, why) => this.#onWireClosed(lost, why);
    wire.onSent = () => this.#onSent();
    wire.onMoved = () => this.onChange();
    wire.onSilent = () => this.onSilent();
    wire.onFrames = (from, frames) => this.#onFrames(from, frames);
    if (former !== null && former !== wire) former.close("another path took over");
  }

  #onFrames(wire: Wire, frames: readonly Frame[]): void {
    this.#handle(this.session.receive(wire.path, frames));
    this.#dropComplete();
  }

  #handle(events: readonly Event[]): void {
    for (const event of events) this.#onEvent(event);
    if (events.length > 0) this.wire?.wakeIfDue();
  }

  #onEvent(event: Event): void {
    switch (event.type) {
      case "received":
        this.#streams.get(event.stream)?.feed(event.data, event.fin);
        break;
      case "writable":
        this.#streams.get(event.stream)?.resumeWriting();
        break;
      case "informed":
        this.#streams.get(event.stream)?.onInfo(event.json);
        break;
      case "ended": {
        const stream = this.#streams.get(event.stream);
        this.#streams.delete(event.stream);
        stream?.end(new StreamReset(event.code, event.text, event.retryable));
        this.#letOpen();
        break;
      }
      case "activated":
        this.#settle();
        break;
      case "goingAway":
        this.#letOpen();
        this.onGoingAway();
        break;
      case "closed":
        this.#onSessionClosed(event);
    }
  }

  #onSessionClosed(event: SessionClosed): void {
    if (this.#endedBy !== null) return;
    this.#endedBy = event;
    clearInterval(this.#tick);
    this.#settle();
    this.#letOpen();
    this.wire?.close(event.text);
    this.onClosed(event.code, event.text);
  }

  #settle(): void {
    this.#settled?.();
    this.#settled = null;
  }

  #letOpen(): void {
    for (const waiter of this.#mayOpen.splice(0)) waiter();
    this.onChange();
  }

  #onSent(): void {
    this.#dropComplete();
    this.#handle(this.session.mux.takeWritable());
  }

  /** Streams that the session has forgotten because both sides are done. */
  #dropComplete(): void {
    if (this.#streams.size <= this.session.mux.size) return;
    for (const id of [...this.#streams.keys()]) {
      if (!this.session.mux.has(id)) this.#streams.delete(id);
    }
    this.#letOpen();
  }

  #onWireClosed(wire: Wire, why: string): void {
    if (wire !== this.wire) return;
    this.wire = null;
    if (this.isClosed) return;
    this.session.detach(wire.path, nowS());
    this.#settle();
    this.onDetached(why);
    this.onChange();
  }

  #onTick(): void {
    this.#handle(this.session.onTime(nowS()));
  }
}

const LOST = "The path was lost before the session began.";
