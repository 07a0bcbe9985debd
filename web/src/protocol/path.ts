/**
 * One path of a session: HELLO first, the path window, liveness, whole messages.
 *
 * Pure: bytes in and time in (seconds), frames and bytes out. docs/protocol.md §5, §6.2,
 * §6.3.
 */

import { type Bytes, concat } from "../bytes.ts";
import { RemoteProtocolError } from "../errors.ts";
import {
  ACK_SIZE,
  type Ack,
  DATA_OVERHEAD,
  type Data,
  decode,
  encode,
  type Frame,
  HELLO_SIZE,
  type Hello,
  MESSAGE_MAX,
} from "./frames.ts";

export const WINDOW = 262_144; // more than a default UDP receive buffer holds is lost
export const WINDOW_STEP = 32_768;
export const HELLO_S = 3;
export const PING_S = 2; // also while much comes in: the provider judges by what it hears
export const PAD_S = 0.01;
export const PADS = 3; // after FIN: a lost last packet else waits SCTP's 1 s timeout
export const CONTROL_PER_S = 1_000;
export const CONTROL_HELD_MAX = 262_144; // answers to a peer that asks but never reads

export type PathState = "hello" | "standby" | "active" | "closed";

/** What fills messages: the session while the path is its active one. */
export interface Source {
  readonly hasData: boolean;
  takeControl(): Ack | null;
  takeData(room: number): Data | null;
}

/** `verify` throws when the peer's HELLO does not hold. */
export class Path {
  state: PathState = "hello";
  source: Source | null = null;
  rttS: number | null = null;
  readonly #verify: (hello: Hello) => void;
  readonly #isClient: boolean;
  #control: Bytes[] = [];
  #controlSize = 0;
  #isAlone = true; // HELLO travels in a message of its own
  #sent = 0; // bytes of DATA frames, as the next three
  #acked = 0;
  #received = 0;
  #reported = 0;
  #heardAt: number | null = null;
  #startedAt: number | null = null;
  #pingId = 0;
  #pingAt: number | null = null;
  #padsLeft = 0;
  #padAt = 0;
  #rateAt = 0;
  #rate = 0;

  constructor(hello: Hello, verify: (hello: Hello) => void, isClient: boolean) {
    this.#verify = verify;
    this.#isClient = isClient;
    this.#control.push(encode(hello));
  }

  /**
   * Frames for the session; those of the path itself are dealt with here.
   * RemoteProtocolError, or what `verify` throws: the path must be closed.
   */
  receive(message: Bytes, now: number): Frame[] {
    if (this.state === "closed") return []; // fenced: a newer path has taken over
    this.#heardAt = now;
    if (this.state === "hello") {
      this.#onHello(message, now);
      return [];
    }
    const out = decode(message).filter((frame) => !this.#isOurs(frame, now));
    if (this.#received - this.#reported >= WINDOW_STEP) {
      this.#reported = this.#received;
      this.queue({ type: "PATHACK", rx: this.#received });
    }
    if (this.#controlSize > CONTROL_HELD_MAX) {
      throw new RemoteProtocolError("a peer that asks on but does not read");
    }
    const [first] = out;
    if (first !== undefined && this.state === "standby") this.#checkFirst(first);
    return out;
  }

  /** A control frame, sent before any DATA and outside the window. */
  queue(frame: Frame): void {
    const bytes = encode(frame);
    this.#control.push(bytes);
    this.#controlSize += bytes.length;
  }

  /** Something waits that is not only an ACK, which may wait for company. */
  get isDue(): boolean {
    return this.#control.length > 0 || (this.source?.hasData ?? false);
  }

  /** The next message to send, or null when there is nothing or no window. */
  nextMessage(now: number): Bytes | null {
    this.#startedAt ??= now;
    if (this.state === "closed") return null;
    const parts: Bytes[] = [];
    let room = this.#takeQueued(parts, MESSAGE_MAX);
    // While a queued frame waits for the next message nothing may overtake it: READY,
    // above all, comes before the first DATA.
    if (this.source !== null && this.#control.length === 0) {
      room = takeAcks(this.source, parts, room);
      this.#takeData(this.source, parts, room, now);
    }
    if (parts.length === 0 && this.#padsLeft > 0 && now >= this.#padAt) {
      this.#padsLeft--;
      this.#padAt = now + PAD_S;
      parts.push(encode({ type: "PAD" }));
    }
    return parts.length > 0 ? concat(parts) : null;
  }

  /** Queues the PING of the client that is due every 2 s. */
  onTime(now: number): void {
    const due = this.#pingDue();
    if (due !== null && now >= due) this.#ping(now);
  }

  /** When `onTime` or `nextMessage` has something to do by itself. */
  nextTime(): number | null {
    const ping = this.#pingDue();
    if (this.#padsLeft === 0) return ping;
    return ping === null ? this.#padAt : Math.min(this.#padAt, ping);
  }

  silenceS(now: number): number {
    const since = this.#heardAt ?? this.#startedAt;
    return since === null ? 0 : now - since;
  }

  isHelloLate(now: number): boolean {
    return this.state === "hello" && this.silenceS(now) >= HELLO_S;
  }

  /** Bytes of DATA frames that may be sent now. */
  get window(): number {
    return WINDOW - (this.#sent - this.#acked);
  }

  #pingDue(): number | null {
    if (this.#pingAt === null || this.state === "closed") return null;
    return this.#pingAt + PING_S;
  }

  #ping(now: number): void {
    this.#pingId = (this.#pingId + 1) % 2 ** 32;
    this.#pingAt = now;
    this.queue({ type: "PING", id: this.#pingId });
  }

  #onHello(message: Bytes, now: number): void {
    const frames = message.length === HELLO_SIZE ? decode(message) : [];
    const [hello] = frames;
    if (hello?.type !== "HELLO" || frames.length > 1) {
      throw new RemoteProtocolError("the first message is not one HELLO");
    }
    this.#verify(hello);
    this.state = "standby";
    // its round trip is how paths and providers compare
    if (this.#isClient) this.#ping(now);
  }

  #checkFirst(frame: Frame): void {
    if (this.#isClient || (frame.type !== "OPEN" && frame.type !== "RESUME")) {
      throw new RemoteProtocolError("a path that carries no session yet");
    }
  }

  /** Whether a frame was the path's own to deal with. */
  #isOurs(frame: Frame, now: number): boolean {
    switch (frame.type) {
      case "DATA":
        this.#received += DATA_OVERHEAD + frame.payload.length;
        return false;
      case "ACK":
      case "INFO":
        return false;
      case "PATHACK":
        this.#onPathAck(frame.rx);
        return true;
      default:
        this.#countControl(now);
        return this.#onControl(frame, now);
    }
  }

  #onControl(frame: Frame, now: number): boolean {
    switch (frame.type) {
      case "HELLO":
        throw new RemoteProtocolError("a second HELLO");
      case "PING":
        this.queue({ type: "PONG", id: frame.id });
        return true;
      case "PONG":
        if (frame.id === this.#pingId && this.#pingAt !== null) {
          this.rttS = now - this.#pingAt;
        }
        return true;
      case "PAD":
        return true;
      default:
        return false;
    }
  }

  #onPathAck(rx: number): void {
    if (rx > this.#sent) throw new RemoteProtocolError("PATHACK beyond what was sent");
    this.#acked = Math.max(this.#acked, rx);
  }

  #countControl(now: number): void {
    if (now - this.#rateAt >= 1) {
      this.#rateAt = now;
      this.#rate = 0;
    }
    this.#rate++;
    if (this.#rate > CONTROL_PER_S) {
      throw new RemoteProtocolError("more than 1,000 control frames in a second");
    }
  }

  #takeQueued(parts: Bytes[], room: number): number {
    let count = 0;
    for (const part of this.#control) {
      if (part.length > room) break;
      parts.push(part);
      room -= part.length;
      count++;
      if (this.#isAlone) break;
    }
    this.#control.splice(0, count);
    if (count > 0 && this.#isAlone) {
      this.#isAlone = false; // nothing but HELLO in the first message,
      return 0; // which `#controlSize` never counted
    }
    this.#controlSize -= MESSAGE_MAX - room;
    return room;
  }

  #takeData(source: Source, parts: Bytes[], room: number, now: number): void {
    let hasData = false;
    let hasFin = false;
    let payload = Math.min(room, this.window) - DATA_OVERHEAD;
    while (payload > 0) {
      const frame = source.takeData(payload);
      if (frame === null) break;
      const part = encode(frame);
      parts.push(part);
      room -= part.length;
      this.#sent += part.length;
      hasData = true;
      hasFin ||= frame.fin;
      payload = Math.min(room, this.window) - DATA_OVERHEAD;
    }
    if (!hasData) return;
    this.#padsLeft = hasFin ? PADS : 0; // a later message repairs an earlier one's loss
    this.#padAt = now + PAD_S;
  }
}

/** They are small and let the peer go on: outside the window. */
function takeAcks(source: Source, parts: Bytes[], room: number): number {
  while (room >= ACK_SIZE) {
    const frame = source.takeControl();
    if (frame === null) break;
    parts.push(encode(frame));
    room -= ACK_SIZE;
  }
  return room;
}
