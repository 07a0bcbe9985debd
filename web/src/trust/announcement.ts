/**
 * A provider's announcement: who it is, where its offers go, and what it has.
 * Signed by the node itself; docs/protocol.md §2. A page reads them and makes none.
 */

import type { Bytes } from "../bytes.ts";
import { RemoteProtocolError } from "../errors.ts";
import { MODEL_NAME_MAX } from "./grants.ts";
import { type PeerId, readPeerId } from "./keys.ts";
import * as signed from "./signed.ts";
import { b64, integer, listed, nested, type Reader, take, text } from "./strict.ts";
import { type Json, type JsonObject, plain } from "./strictJson.ts";

export const MODELS_MAX = 256;
export const CHAIN_MAX = 3;
export const DETAILS_MAX = 32;

/** Protocol versions, lowest and highest. */
export type Versions = readonly [number, number];

/** One model, in the terms of Ollama's `/api/tags`. `size` in bytes. */
export interface ModelCard {
  readonly name: string;
  readonly digest: string;
  readonly size: number;
  readonly modifiedAt: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly capabilities: readonly string[];
  readonly contextLength: number;
}

/** `conn` takes the offers, sealed to `box`; `chain` says who it is in the mesh. */
export interface Announcement {
  readonly mesh: PeerId;
  readonly id: PeerId;
  readonly conn: Bytes;
  readonly box: Bytes;
  readonly versions: Versions;
  readonly backend: string;
  readonly parallel: number;
  readonly models: readonly ModelCard[];
  readonly chain: readonly string[];
  readonly ts: number;
}

/** Signed by the node it names. The chain in it is not verified here. */
export function readAnnouncement(token: string): Announcement {
  return take(signed.readNaming("announcement", token, "id"), {
    mesh: readPeerId,
    id: readPeerId,
    conn: b64(16),
    box: b64(32),
    versions,
    backend: text(32, 1),
    parallel: integer(1, 10_000),
    models: listed(nested(readModel), MODELS_MAX),
    chain,
    ts: integer(),
  });
}

export function versions(value: Json): Versions {
  const [low = 0, high = 0] = listed(integer(1, 1_000), 2, 2)(value);
  if (low > high) throw new RemoteProtocolError("versions are [min, max]");
  return [low, high];
}

/** The tokens of a chain, not yet verified. */
export const chain: Reader<readonly string[]> = listed(
  text(signed.TOKEN_MAX, 1),
  CHAIN_MAX,
  1,
);

function readModel(fields: JsonObject): ModelCard {
  const read = take(fields, {
    name: text(MODEL_NAME_MAX, 1),
    digest: text(128),
    size: integer(),
    modified_at: text(64),
    details: nested(details),
    capabilities: listed(text(32, 1), 16),
    context_length: integer(),
  });
  const { modified_at: modifiedAt, context_length: contextLength, ...rest } = read;
  return { ...rest, modifiedAt, contextLength };
}

function details(value: JsonObject): Readonly<Record<string, unknown>> {
  if (Object.keys(value).length > DETAILS_MAX) {
    throw new RemoteProtocolError(`more than ${DETAILS_MAX} details`);
  }
  return plain(value) as Record<string, unknown>;
}
