/** Fields that strangers send, at both ends of every limit. */

import { expect, test } from "vitest";
import { utf8 } from "../../src/bytes.ts";
import { RemoteProtocolError, TrustError } from "../../src/errors.ts";
import {
  b64,
  boolean,
  choice,
  integer,
  listed,
  nested,
  nullable,
  type Reader,
  take,
  text,
} from "../../src/trust/strict.ts";
import { type Json, parseObject } from "../../src/trust/strictJson.ts";

function value(json: string): Json {
  return parseObject(utf8(`{"v":${json}}`), 1_000)["v"] as Json;
}

const readers: Readonly<Record<string, Reader<unknown>>> = {
  integer: integer(1, 5),
  text: text(3, 1),
  boolean,
  b64: b64(3),
  nullable: nullable(integer()),
  listed: listed(integer(), 2, 1),
  nested: nested((fields) => fields),
  choice: choice("a", "b"),
};

test.each([
  ["integer", "1"],
  ["integer", "5"],
  ["text", '"a"'],
  ["text", '"🐝🐝🐝"'], // characters, not UTF-16 units
  ["text", '"äöü"'],
  ["boolean", "false"],
  ["b64", '"AAAA"'],
  ["nullable", "null"],
  ["nullable", "0"],
  ["listed", "[1]"],
  ["listed", "[1,2]"],
  ["nested", "{}"],
  ["choice", '"b"'],
])("%s reads %s", (name, json) => {
  expect(() => readers[name]?.(value(json))).not.toThrow();
});

test.each([
  ["integer", "0"],
  ["integer", "6"],
  ["integer", "1.0"],
  ["integer", "1e0"],
  ["integer", '"1"'],
  ["integer", "true"],
  ["integer", "null"],
  ["text", '""'],
  ["text", '"abcd"'],
  ["text", '"🐝🐝🐝🐝"'],
  ["text", '"a\\u0000"'],
  ["text", '"\\u009f"'],
  ["text", "1"],
  ["boolean", "0"],
  ["boolean", "null"],
  ["nullable", '""'],
  ["listed", "[]"],
  ["listed", "[1,2,3]"],
  ["listed", '["1"]'],
  ["listed", "{}"],
  ["nested", "[]"],
  ["nested", "null"],
  ["nested", "1.5"],
  ["choice", '"c"'],
  ["choice", "null"],
])("%s refuses %s", (name, json) => {
  expect(() => readers[name]?.(value(json))).toThrow(RemoteProtocolError);
});

test("base64url of another size is refused", () => {
  expect(() => readers["b64"]?.(value('"AAA"'))).toThrow(TrustError);
});

test("an object has exactly its keys", () => {
  const one = { a: integer() };
  expect(take(parseObject(utf8('{"a":1}'), 99), one)).toEqual({ a: 1 });
  for (const json of ["{}", '{"a":1,"b":2}', '{"a":1,"__proto__":2}', '{"A":1}']) {
    expect(() => take(parseObject(utf8(json), 99), one)).toThrow(/fields/);
  }
});

test("what a stranger calls its keys does not fill a log", () => {
  const json = utf8(`{"${"x".repeat(5_000)}":1}`);
  const read = () => take(parseObject(json, 9_999), { a: integer() });
  expect(read).toThrow(RemoteProtocolError);
  expect(read).not.toThrow(/x{300}/);
});

test("JSON has its size and depth", () => {
  expect(() => parseObject(utf8('{"a":1}'), 6)).toThrow(/6 are allowed/);
  expect(() => parseObject(utf8('{"a":[]}'), 99, 1)).toThrow(RemoteProtocolError);
  expect(() => parseObject(Uint8Array.of(0x7b, 0xff, 0x7d), 99)).toThrow(/UTF-8/);
});
