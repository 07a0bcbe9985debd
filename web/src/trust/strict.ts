/** The fields of objects that strangers send: read one by one, or refused. */

import type { Bytes } from "../bytes.ts";
import { MeshError, RemoteProtocolError } from "../errors.ts";
import { b64decode } from "./keys.ts";
import { isObject, type Json, type JsonObject } from "./strictJson.ts";

export type Reader<Value> = (value: Json) => Value;
type Readers = Readonly<Record<string, Reader<unknown>>>;
type Read<Of extends Readers> = { [Key in keyof Of]: ReturnType<Of[Key]> };

export const INTEGER_MAX = Number.MAX_SAFE_INTEGER;
export const NAME_MAX = 64;

// biome-ignore lint/suspicious/noControlCharactersInRegex: that is the rule
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** Every field read by its reader; exactly those keys. RemoteProtocolError else. */
export function take<Of extends Readers>(fields: JsonObject, readers: Of): Read<Of> {
  const odd = [
    ...Object.keys(fields).filter((key) => !Object.hasOwn(readers, key)),
    ...Object.keys(readers).filter((key) => !Object.hasOwn(fields, key)),
  ];
  if (odd.length > 0) {
    const said = JSON.stringify(odd).slice(0, 200); // a stranger chose them
    throw new RemoteProtocolError(`missing or unknown fields: ${said}`);
  }
  const read: Record<string, unknown> = {};
  for (const [key, reader] of Object.entries(readers)) {
    try {
      read[key] = reader(fields[key] as Json);
    } catch (error) {
      if (!(error instanceof MeshError)) throw error;
      throw new RemoteProtocolError(`field ${key}: ${error.message}`);
    }
  }
  return read as Read<Of>;
}

export function integer(low = 0, high: number = INTEGER_MAX): Reader<number> {
  return (value) => {
    if (typeof value !== "number" || value < low || value > high) {
      throw new RemoteProtocolError(`an integer from ${low} to ${high} expected`);
    }
    return value;
  };
}

/** `least` to `most` characters (code points), none of them a control character. */
export function text(most: number, least = 0): Reader<string> {
  return (value) => {
    if (typeof value !== "string" || !isWithin(value, least, most)) {
      throw new RemoteProtocolError(`text of ${least} to ${most} characters expected`);
    }
    if (CONTROL.test(value)) {
      throw new RemoteProtocolError("text without control characters expected");
    }
    return value;
  };
}

export const name: Reader<string> = text(NAME_MAX, 1);

export function boolean(value: Json): boolean {
  if (typeof value !== "boolean")
    throw new RemoteProtocolError("true or false expected");
  return value;
}

export function b64(size: number): Reader<Bytes> {
  return (value) => b64decode(value, size);
}

export function nullable<Value>(reader: Reader<Value>): Reader<Value | null> {
  return (value) => (value === null ? null : reader(value));
}

export function listed<Value>(
  reader: Reader<Value>,
  most: number,
  least = 0,
): Reader<readonly Value[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) {
      throw new RemoteProtocolError(`a list of ${least} to ${most} expected`);
    }
    return value.map(reader);
  };
}

/** An object inside an object. */
export function nested<Value>(build: (fields: JsonObject) => Value): Reader<Value> {
  return (value) => {
    if (!isObject(value)) throw new RemoteProtocolError("a JSON object expected");
    return build(value);
  };
}

export function choice<Word extends string>(...allowed: readonly Word[]): Reader<Word> {
  return (value) => {
    const found = allowed.find((word) => word === value);
    if (found === undefined) {
      throw new RemoteProtocolError(`one of ${allowed.join(", ")} expected`);
    }
    return found;
  };
}

/** A string has as many code points as UTF-16 units, or up to half as many. */
function isWithin(value: string, least: number, most: number): boolean {
  if (value.length < least || value.length > 2 * most) return false;
  const count = [...value].length;
  return count >= least && count <= most;
}
