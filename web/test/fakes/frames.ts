/** Frames as fast-check draws them: all that can be written, wise or not. */

import fc from "fast-check";
import type { Bytes } from "../../src/bytes.ts";
import { Code } from "../../src/errors.ts";
import { type Frame, OFFSET_MAX, type StreamState } from "../../src/protocol/frames.ts";

const u32 = fc.nat(2 ** 31 - 1).map((half) => half * 2 + 1);
const streams = fc.oneof(fc.nat(5), u32);
const offsets = fc.maxSafeNat().map((value) => value % (OFFSET_MAX + 1));
const near = fc.oneof(fc.nat(300), offsets);
const epoch = fc.oneof(fc.nat(4), u32);
const code = fc.constantFrom(...Object.values(Code));
const text = fc.string({ unit: "grapheme", maxLength: 40 });

export function bytes(minLength: number, maxLength: number): fc.Arbitrary<Bytes> {
  return fc.uint8Array({ minLength, maxLength }).map((data) => Uint8Array.from(data));
}

const states: fc.Arbitrary<StreamState[]> = fc.uniqueArray(
  fc.record({ stream: streams, rx: near, max: near, state: fc.nat(2) }),
  { maxLength: 5, selector: (one) => one.stream },
);

export function frames(session = bytes(16, 16)): fc.Arbitrary<Frame> {
  const of = <Type extends Frame["type"]>(type: Type) => ({ type: fc.constant(type) });
  return fc.oneof(
    fc.record({
      ...of("HELLO"),
      role: fc.nat(255),
      nonceReveal: bytes(32, 32),
      sig: bytes(64, 64),
    }),
    fc.record({ ...of("OPEN"), session, epoch }),
    fc.record({ ...of("RESUME"), session, epoch, streams: states }),
    fc.record({ ...of("READY"), epoch, streams: states }),
    fc.record({
      ...of("DATA"),
      stream: streams,
      off: fc.oneof(
        fc.nat(60),
        offsets.map((value) => Math.max(0, value - 100)),
      ),
      fin: fc.boolean(),
      payload: bytes(0, 40),
    }),
    fc.record({ ...of("ACK"), stream: streams, ack: near, max: near }),
    fc.record({ ...of("RESET"), stream: streams, code, retryable: fc.boolean(), text }),
    fc.record({ ...of("PATHACK"), rx: near }),
    fc.record({ ...of("PING"), id: u32 }),
    fc.record({ ...of("PONG"), id: u32 }),
    fc.record(of("PAD")),
    fc.record({ ...of("GOAWAY"), lastStream: streams, code, text }),
    fc.record({ ...of("SIGNAL"), envelope: bytes(1, 40) }),
    fc.record({ ...of("CLOSE"), code, text }),
    fc.record({ ...of("INFO"), stream: streams, json: bytes(0, 40) }),
  );
}
