/**
 * Strict JSON: one reading for everyone. What `JSON.parse` lets through (repeated keys)
 * or hides (whether a number was written as an integer) is refused or kept here.
 * docs/protocol.md §1.
 */

import { fromUtf8 } from "../bytes.ts";
import { RemoteProtocolError } from "../errors.ts";

/** A number written with a fraction or an exponent: never an integer, whatever it is. */
export class Decimal {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

export type Json = null | boolean | number | string | Decimal | Json[] | JsonObject;
/** Without a prototype, so that every key is only a key. */
export type JsonObject = { [key: string]: Json };

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
// Up to what ends or escapes; below U+0020 nothing may stand for itself.
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is the rule
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const HEX = /[0-9a-fA-F]{4}/y;
const LONE_SURROGATE = /\p{Surrogate}/u;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};
const INTEGER_CHARS = 17; // -9007199254740991
const DEPTH = 16;

/** One JSON object. RemoteProtocolError says what is wrong with it. */
export function parseObject(
  data: Uint8Array,
  maxBytes: number,
  maxDepth = DEPTH,
): JsonObject {
  if (data.length > maxBytes) {
    throw new RemoteProtocolError(
      `${data.length} bytes of JSON; ${maxBytes} are allowed`,
    );
  }
  let text: string;
  try {
    text = fromUtf8(data);
  } catch {
    throw new RemoteProtocolError("this is not JSON: it is not UTF-8");
  }
  const value = new Reader(text, maxDepth).whole();
  if (!isObject(value)) throw new RemoteProtocolError("a JSON object was expected");
  return value;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Decimal)
  );
}

/** The same value as `JSON.parse` would give it. */
export function plain(value: Json): unknown {
  if (value instanceof Decimal) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
}

class Reader {
  readonly #text: string;
  readonly #depth: number;
  #at = 0;

  constructor(text: string, depth: number) {
    this.#text = text;
    this.#depth = depth;
  }

  whole(): Json {
    const value = this.#value(this.#depth);
    if (this.#at < this.#text.length) this.#fail();
    return value;
  }

  #value(depth: number): Json {
    this.#match(SPACE);
    const value = this.#bare(depth);
    this.#match(SPACE);
    return value;
  }

  #bare(depth: number): Json {
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(this.#deeper(depth));
      case "[":
        return this.#list(this.#deeper(depth));
      case '"':
        return this.#string();
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      case "n":
        return this.#word("null", null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): JsonObject {
    const found: JsonObject = Object.create(null) as JsonObject;
    this.#at++;
    this.#match(SPACE);
    if (this.#took("}")) return found;
    do {
      this.#match(SPACE);
      if (this.#text[this.#at] !== '"') this.#fail();
      const key = this.#string();
      this.#match(SPACE);
      if (!this.#took(":") || key in found) this.#fail();
      found[key] = this.#value(depth);
    } while (this.#took(","));
    if (!this.#took("}")) this.#fail();
    return found;
  }

  #list(depth: number): Json[] {
    const found: Json[] = [];
    this.#at++;
    this.#match(SPACE);
    if (this.#took("]")) return found;
    do found.push(this.#value(depth));
    while (this.#took(","));
    if (!this.#took("]")) this.#fail();
    return found;
  }

  #string(): string {
    this.#at++;
    let value = this.#match(PLAIN);
    while (this.#took("\\")) value += this.#escape() + this.#match(PLAIN);
    if (!this.#took('"') || LONE_SURROGATE.test(value)) this.#fail();
    return value;
  }

  #escape(): string {
    const char = this.#text[this.#at++] ?? "";
    if (char !== "u") return ESCAPES[char] ?? this.#fail();
    const digits = this.#match(HEX) || this.#fail();
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  #number(): number | Decimal {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.#text) ?? this.#fail();
    const [digits, fraction, exponent] = match;
    this.#at += digits.length;
    const value = Number(digits);
    if (fraction !== undefined || exponent !== undefined) {
      return Number.isFinite(value) ? new Decimal(value) : this.#fail();
    }
    if (digits.length > INTEGER_CHARS || !Number.isSafeInteger(value)) this.#fail();
    return value + 0; // "-0" is 0
  }

  #word<Value extends boolean | null>(word: string, value: Value): Value {
    if (!this.#text.startsWith(word, this.#at)) this.#fail();
    this.#at += word.length;
    return value;
  }

  #deeper(depth: number): number {
    return depth > 0 ? depth - 1 : this.#fail();
  }

  #took(char: string): boolean {
    const isThere = this.#text[this.#at] === char;
    if (isThere) this.#at++;
    return isThere;
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  #fail(): never {
    throw new RemoteProtocolError(`this is not strict JSON, at character ${this.#at}`);
  }
}
