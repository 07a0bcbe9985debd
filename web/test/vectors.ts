/** The examples that Python and TypeScript share, and what a test makes of their cases. */

import { readFileSync } from "node:fs";
import type { Bytes } from "../src/bytes.ts";
import { Code, MeshError, NotAllowed, RemoteProtocolError } from "../src/errors.ts";
import { type SigningKey, signingKey } from "../src/trust/keys.ts";

const FOLDER = new URL("../../tests/vectors/", import.meta.url);

export type Case = Readonly<Record<string, unknown>>;

export function load<File>(name: string): File {
  return JSON.parse(readFileSync(new URL(name, FOLDER), "utf8")) as File;
}

const NAMES = new Map(
  Object.entries(Code).map(([name, code]) => [code, name.toLowerCase()]),
);

/** What comes of a case: nothing, or the code of its refusal. */
export async function refusal(act: () => unknown): Promise<string | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
    if (error instanceof NotAllowed) return NAMES.get(error.code);
    return error instanceof RemoteProtocolError ? "protocol" : "auth";
  }
}

export function hex(digits: string): Bytes {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) =>
    Number.parseInt(pair, 16),
  );
}

interface Keys {
  readonly keys: Readonly<
    Record<string, { readonly seed: string; readonly id: string }>
  >;
}
const { keys } = load<Keys>("trust.json");

function person(name: string): { readonly seed: string; readonly id: string } {
  const found = keys[name];
  if (found === undefined) throw new Error(`nobody is called ${name}`);
  return found;
}

export function keyOf(name: string): SigningKey {
  return signingKey(hex(person(name).seed));
}

export function idOf(name: string): string {
  return person(name).id;
}

export const PEOPLE = Object.keys(keys);
