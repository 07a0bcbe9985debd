/**
 * Frames: the smallest things two peers say to each other on a path.
 *
 * A message is one or more whole frames, at most 16,384 bytes; a frame is
 * `type:u8 len:u16 payload`, big-endian. docs/protocol.md §6 has the table that this file
 * follows line by line.
 */

import { type Bytes, concat, EMPTY, fromUtf8 } from "../bytes.ts";
import {
  type Code,
  LocalProtocolError,
  MeshError,
  RemoteProtocolError,
  readCode,
} from "../errors.ts";

export const MESSAGE_MAX = 16_384; // above it some SCTP stacks interleave badly
export const HEADER = 3;
export const OFFSET_MAX = 2 ** 48;
export const TEXT_MAX = 512;
export const INFO_MAX = 4_096;
export const ENVELOPE_MAX = 12_288;
export const RESUME_STREAMS_MAX = 128;
export const DATA_OVERHEAD = HEADER + 4 + 8 + 1;
export const DATA_MAX = MESSAGE_MAX - DATA_OVERHEAD;
export const HELLO_SIZE = HEADER + 1 + 32 + 64;
export const ACK_SIZE = HEADER + 4 + 8 + 8;

export const OPEN_STATE = 0;
export const FIN_STATE = 1;
export const RESET_STATE = 2;
const STATE_SIZE = 4 + 8 + 8 + 1;
const U32 = 2 ** 32;

export interface Hello {
  readonly type: "HELLO";
  readonly role: number;
  readonly nonceReveal: Bytes;
  readonly sig: Bytes;
}
export interface Open {
  readonly type: "OPEN";
  readonly session: Bytes;
  readonly epoch: number;
}
/** One stream in RESUME and READY: what the sender holds and grants. */
export interface StreamState {
  readonly stream: number;
  readonly rx: number;
  readonly max: number;
  readonly state: number;
}
export interface Resume {
  readonly type: "RESUME";
  readonly session: Bytes;
  readonly epoch: number;
  readonly streams: readonly StreamState[];
}
export interface Ready {
  readonly type: "READY";
  readonly epoch: number;
  readonly streams: readonly StreamState[];
}
export interface Data {
  readonly type: "DATA";
  readonly stream: number;
  readonly off: number;
  readonly fin: boolean;
  readonly payload: Bytes;
}
export interface Ack {
  readonly type: "ACK";
  readonly stream: number;
  readonly ack: number;
  readonly max: number;
}
export interface Reset {
  readonly type: "RESET";
  readonly stream: number;
  readonly code: Code;
  readonly retryable: boolean;
  readonly text: string;
}
export interface PathAck {
  readonly type: "PATHACK";
  readonly rx: number;
}
export interface Ping {
  readonly type: "PING";
  readonly id: number;
}
export interface Pong {
  readonly type: "PONG";
  readonly id: number;
}
/** Carries nothing: its arrival makes the peer acknowledge what came before. */
export interface Pad {
  readonly type: "PAD";
}
export interface GoAway {
  readonly type: "GOAWAY";
  readonly lastStream: number;
  readonly code: Code;
  readonly text: string;
}
export interface Signal {
  readonly type: "SIGNAL";
  readonly envelope: Bytes;
}
export interface Close {
  readonly type: "CLOSE";
  readonly code: Code;
  readonly text: string;
}
export interface Info {
  readonly type: "INFO";
  readonly stream: number;
  readonly json: Bytes;
}

export type Frame =
  | Hello
  | Open
  | Resume
  | Ready
  | Data
  | Ack
  | Reset
  | PathAck
  | Ping
  | Pong
  | Pad
  | GoAway
  | Signal
  | Close
  | Info;

/** The frame with its header. LocalProtocolError when no peer would take it. */
export function encode(frame: Frame): Bytes {
  switch (frame.type) {
    case "DATA":
      return encodeData(frame);
    case "ACK":
      return packed(0x11, 20, (out) =>
        out.u32(frame.stream).u64(frame.ack).u64(frame.max),
      );
    case "PATHACK":
      return packed(0x13, 8, (out) => out.u64(frame.rx));
    case "HELLO": {
      const body = concat([Uint8Array.of(frame.role), frame.nonceReveal, frame.sig]);
      return sized(0x01, body, 97, 97);
    }
    case "OPEN":
      return packed(0x02, 20, (out) => out.bytes(frame.session).u32(frame.epoch));
    case "RESUME":
      return withStates(0x03, frame.streams, 21, (out) =>
        out.bytes(frame.session).u32(frame.epoch),
      );
    case "READY":
      return withStates(0x04, frame.streams, 5, (out) => out.u32(frame.epoch));
    case "RESET": {
      const text = textBytes(frame.text);
      const retryable = frame.retryable ? 1 : 0;
      return packed(0x12, 7 + text.length, (out) =>
        out.u32(frame.stream).u16(frame.code).u8(retryable).bytes(text),
      );
    }
    case "PING":
      return packed(0x20, 4, (out) => out.u32(frame.id));
    case "PONG":
      return packed(0x21, 4, (out) => out.u32(frame.id));
    case "PAD":
      return packed(0x22, 0, (out) => out);
    case "GOAWAY": {
      const text = textBytes(frame.text);
      return packed(0x23, 6 + text.length, (out) =>
        out.u32(frame.lastStream).u16(frame.code).bytes(text),
      );
    }
    case "SIGNAL":
      return sized(0x24, frame.envelope, 1, ENVELOPE_MAX);
    case "CLOSE": {
      const text = textBytes(frame.text);
      return packed(0x25, 2 + text.length, (out) => out.u16(frame.code).bytes(text));
    }
    case "INFO": {
      const stream = new Writer(4).u32(frame.stream).whole;
      return sized(0x80, concat([stream, frame.json]), 4, INFO_MAX);
    }
  }
}

/**
 * Every frame of one message, unknown optional types left out. Payloads are views of the
 * message. RemoteProtocolError when a frame is cut, malformed, oversized, or of an
 * unknown type below 0x80.
 */
export function decode(message: Bytes): Frame[] {
  if (message.length > MESSAGE_MAX) {
    throw new RemoteProtocolError(`a message of ${message.length} bytes`);
  }
  const frames: Frame[] = [];
  let at = 0;
  while (at < message.length) {
    if (message.length - at < HEADER) {
      throw new RemoteProtocolError("a message ends inside a frame header");
    }
    const head = new Taker(message.subarray(at, at + HEADER));
    const [kind, size] = [head.u8(), head.u16()];
    at += HEADER;
    if (message.length - at < size) {
      throw new RemoteProtocolError("a message ends inside a frame");
    }
    const frame = decodeFrame(kind, message.subarray(at, at + size));
    if (frame !== null) frames.push(frame);
    at += size;
  }
  return frames;
}

class Writer {
  readonly whole: Bytes;
  readonly #view: DataView;
  #at = 0;

  constructor(size: number) {
    this.whole = new Uint8Array(size);
    this.#view = new DataView(this.whole.buffer);
  }

  u8(value: number): this {
    this.#view.setUint8(this.#at, value);
    this.#at += 1;
    return this;
  }

  u16(value: number): this {
    this.#view.setUint16(this.#at, value);
    this.#at += 2;
    return this;
  }

  u32(value: number): this {
    this.#view.setUint32(this.#at, value);
    this.#at += 4;
    return this;
  }

  u64(value: number): this {
    return this.u32(Math.floor(value / U32)).u32(value % U32);
  }

  bytes(value: Bytes): this {
    this.whole.set(value, this.#at);
    this.#at += value.length;
    return this;
  }
}

/** Reads a payload from its start; a read beyond its end throws RangeError. */
class Taker {
  readonly #body: Bytes;
  readonly #view: DataView;
  #at = 0;

  constructor(body: Bytes) {
    this.#body = body;
    this.#view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  }

  u8(): number {
    return this.#view.getUint8(this.#step(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#step(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#step(4));
  }

  /** Exact up to 2^53; what is larger is beyond every limit anyway. */
  u64(): number {
    return this.u32() * U32 + this.u32();
  }

  bytes(count: number): Bytes {
    const at = this.#step(count);
    if (this.#at > this.#body.length) throw new RangeError("a cut payload");
    return this.#body.subarray(at, at + count);
  }

  rest(): Bytes {
    return this.#body.subarray(this.#step(this.#body.length - this.#at));
  }

  /** Nothing may be left. */
  end(): void {
    if (this.#at !== this.#body.length) throw new RangeError("bytes left over");
  }

  #step(count: number): number {
    const at = this.#at;
    this.#at += count;
    return at;
  }
}

function packed(kind: number, size: number, fill: (out: Writer) => Writer): Bytes {
  return fill(new Writer(HEADER + size).u8(kind).u16(size)).whole;
}

function sized(kind: number, payload: Bytes, least: number, most: number): Bytes {
  if (payload.length < least || payload.length > most) {
    throw new LocalProtocolError(
      `a frame of type 0x${kind.toString(16)} and ${payload.length} bytes`,
    );
  }
  return packed(kind, payload.length, (out) => out.bytes(payload));
}

function encodeData(frame: Data): Bytes {
  const { payload } = frame;
  if (payload.length > DATA_MAX) {
    throw new LocalProtocolError(`a DATA frame of ${payload.length} bytes`);
  }
  const flags = frame.fin ? 1 : 0;
  return packed(0x10, 13 + payload.length, (out) =>
    out.u32(frame.stream).u64(frame.off).u8(flags).bytes(payload),
  );
}

function withStates(
  kind: number,
  states: readonly StreamState[],
  headSize: number,
  head: (out: Writer) => Writer,
): Bytes {
  if (states.length > RESUME_STREAMS_MAX) {
    throw new LocalProtocolError(`${states.length} streams in one RESUME`);
  }
  return packed(kind, headSize + states.length * STATE_SIZE, (out) => {
    head(out).u8(states.length);
    for (const one of states)
      out.u32(one.stream).u64(one.rx).u64(one.max).u8(one.state);
    return out;
  });
}

/** At most 512 bytes, cut between characters. */
function textBytes(text: string): Bytes {
  const room = new Uint8Array(TEXT_MAX);
  const { written } = new TextEncoder().encodeInto(text.slice(0, TEXT_MAX), room);
  return room.subarray(0, written);
}

function decodeFrame(kind: number, body: Bytes): Frame | null {
  try {
    const taker = new Taker(body);
    const frame = decodeKind(kind, taker);
    if (frame !== null) taker.end();
    return frame;
  } catch (error) {
    if (error instanceof MeshError) throw error;
    throw new RemoteProtocolError(`a malformed frame of type 0x${kind.toString(16)}`);
  }
}

function decodeKind(kind: number, body: Taker): Frame | null {
  switch (kind) {
    case 0x01:
      return {
        type: "HELLO",
        role: body.u8(),
        nonceReveal: body.bytes(32),
        sig: body.bytes(64),
      };
    case 0x02:
      return { type: "OPEN", session: body.bytes(16), epoch: body.u32() };
    case 0x03:
      return {
        type: "RESUME",
        session: body.bytes(16),
        epoch: body.u32(),
        streams: takeStates(body),
      };
    case 0x04:
      return { type: "READY", epoch: body.u32(), streams: takeStates(body) };
    case 0x10:
      return takeData(body);
    case 0x11:
      return { type: "ACK", stream: body.u32(), ack: offset(body), max: offset(body) };
    case 0x12:
      return {
        type: "RESET",
        stream: body.u32(),
        code: readCode(body.u16()),
        retryable: flag(body),
        text: takeText(body),
      };
    case 0x13:
      return { type: "PATHACK", rx: body.u64() };
    case 0x20:
      return { type: "PING", id: body.u32() };
    case 0x21:
      return { type: "PONG", id: body.u32() };
    case 0x22:
      return { type: "PAD" };
    default:
      return decodeRare(kind, body);
  }
}

function decodeRare(kind: number, body: Taker): Frame | null {
  switch (kind) {
    case 0x23:
      return {
        type: "GOAWAY",
        lastStream: body.u32(),
        code: readCode(body.u16()),
        text: takeText(body),
      };
    case 0x24:
      return { type: "SIGNAL", envelope: within(body.rest(), 1, ENVELOPE_MAX) };
    case 0x25:
      return { type: "CLOSE", code: readCode(body.u16()), text: takeText(body) };
    case 0x80:
      return {
        type: "INFO",
        stream: body.u32(),
        json: within(body.rest(), 0, INFO_MAX - 4),
      };
  }
  if (kind < 0x80) {
    throw new RemoteProtocolError(`an unknown frame type 0x${kind.toString(16)}`);
  }
  return null;
}

function takeData(body: Taker): Data {
  const [stream, off] = [body.u32(), body.u64()];
  const fin = flag(body);
  const payload = body.rest();
  if (off + payload.length >= OFFSET_MAX) throw new RangeError("beyond 2^48");
  return { type: "DATA", stream, off, fin, payload: payload.length ? payload : EMPTY };
}

function takeStates(body: Taker): readonly StreamState[] {
  const count = body.u8();
  if (count > RESUME_STREAMS_MAX) throw new RangeError("too many streams");
  const states = Array.from({ length: count }, () => takeState(body));
  if (new Set(states.map((one) => one.stream)).size !== count) {
    throw new RangeError("a stream listed twice");
  }
  return states;
}

function takeState(body: Taker): StreamState {
  const one = {
    stream: body.u32(),
    rx: offset(body),
    max: offset(body),
    state: body.u8(),
  };
  if (one.state > RESET_STATE) throw new RangeError("a stream's state");
  return one;
}

function offset(body: Taker): number {
  const value = body.u64();
  if (value > OFFSET_MAX) throw new RangeError("an offset beyond 2^48");
  return value;
}

function flag(body: Taker): boolean {
  const value = body.u8();
  if (value > 1) throw new RangeError("a flag is 0 or 1");
  return value === 1;
}

function takeText(body: Taker): string {
  return fromUtf8(within(body.rest(), 0, TEXT_MAX));
}

function within(data: Bytes, least: number, most: number): Bytes {
  if (data.length < least || data.length > most) throw new RangeError("its size");
  return data;
}
