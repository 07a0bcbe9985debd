/** Frames and heads: the bytes of docs/protocol.md §6, and nothing else. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Bytes, concat, toHex } from "../../src/bytes.ts";
import { RemoteProtocolError } from "../../src/errors.ts";
import {
  encodeRequestHead,
  encodeResponseHead,
  HeadReader,
  readRequestHead,
  readResponseHead,
} from "../../src/protocol/exchange.ts";
import { decode, encode, type Frame } from "../../src/protocol/frames.ts";
import { frames } from "../fakes/frames.ts";
import { hex, load } from "../vectors.ts";

interface Message {
  readonly name: string;
  readonly hex: string;
  readonly repeat?: number;
  readonly frame: Readonly<Record<string, unknown>>;
  readonly types: readonly string[];
}
interface Head {
  readonly name: string;
  readonly kind: "request" | "response";
  readonly hex: string;
  readonly head: Readonly<Record<string, unknown>>;
}
interface File {
  readonly frames: readonly Message[];
  readonly messages: readonly Message[];
  readonly malformed: readonly Message[];
  readonly heads: readonly Head[];
  readonly malformed_heads: readonly Head[];
}
const FILE = load<File>("frames.json");

function messageOf(one: Message): Bytes {
  return hex(one.hex.repeat(one.repeat ?? 1));
}

/** As the file writes it: snake case, bytes in hex. */
function shown(frame: Frame): unknown {
  const named = Object.entries(frame).map(([key, value]) => [
    key.replace(/[A-Z]/g, (char) => `_${char.toLowerCase()}`),
    value instanceof Uint8Array ? toHex(value) : value,
  ]);
  return Object.fromEntries(named);
}

describe("frames", () => {
  test.each(FILE.frames)("$name", (one) => {
    const found = decode(messageOf(one));
    expect(found.map(shown)).toEqual([one.frame]);
    expect(found.map(encode).map(toHex)).toEqual([one.hex]);
  });

  test.each(FILE.messages)("a message: $name", (one) => {
    expect(decode(messageOf(one)).map((frame) => frame.type)).toEqual(one.types);
  });

  test.each(FILE.malformed)("malformed: $name", (one) => {
    expect(() => decode(messageOf(one))).toThrow(RemoteProtocolError);
  });

  test("come out of a message as they went in", () => {
    fc.assert(
      fc.property(fc.array(frames(), { maxLength: 6 }), (said) => {
        expect(decode(concat(said.map(encode)))).toEqual(said);
      }),
    );
  });

  test("raise nothing but an error of the peer, whatever is changed in them", () => {
    const changes = fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 });
    const some = fc.array(frames(), { maxLength: 4 });
    fc.assert(
      fc.property(some, changes, fc.nat(400), (said, changed, cut) => {
        const message = concat(said.map(encode)).slice(0, cut);
        for (const [at, byte] of changed) if (at < message.length) message[at] = byte;
        try {
          expect(concat(decode(message).map(encode)).length).toBeLessThanOrEqual(
            message.length,
          );
        } catch (error) {
          expect(error).toBeInstanceOf(RemoteProtocolError);
        }
      }),
    );
  });
});

function reader(kind: Head["kind"]): HeadReader<object> {
  return kind === "request"
    ? new HeadReader<object>(readRequestHead)
    : new HeadReader<object>(readResponseHead);
}

describe("heads", () => {
  test.each(FILE.heads)("$name, cut at every byte", (one) => {
    const bytes = hex(`${one.hex}0102`);
    for (let at = 0; at <= bytes.length; at++) {
      const heads = reader(one.kind);
      const first = heads.feed(bytes.slice(0, at));
      const found = first ?? heads.feed(bytes.slice(at));
      expect(found?.head).toEqual(one.head);
      const later = first === null ? [] : [bytes.slice(at)];
      expect(toHex(concat([found?.rest ?? bytes, ...later]))).toBe("0102");
    }
  });

  test.each(FILE.heads)("$name, made again", (one) => {
    const fields = one.head as never;
    const made =
      one.kind === "request" ? encodeRequestHead(fields) : encodeResponseHead(fields);
    const read = reader(one.kind).feed(made);
    expect(read?.head).toEqual(one.head);
  });

  test.each(FILE.malformed_heads)("malformed: $name", (one) => {
    expect(() => reader(one.kind).feed(hex(one.hex))).toThrow(RemoteProtocolError);
  });
});
