/** A mesh of people of the vectors, with announcements as real as any. */

import { b64encode, type PeerId, signingKey } from "../../src/trust/keys.ts";
import { sign } from "../../src/trust/signed.ts";
import { idOf, keyOf } from "../vectors.ts";

export const NOW = 1_800_000_000;
export const MESH = idOf("root") as PeerId;
const CAPS = { models: null, parallel: null, tokens_per_day: null, invite: null };

export function statementOf(...owners: string[]): Promise<string> {
  const listed = owners.map((name) => ({ id: idOf(name), name }));
  const body = { mesh: MESH, version: 1, owners: listed, ts: NOW };
  return sign("statement", body, keyOf("root"));
}

export interface Announced {
  readonly models?: readonly string[];
  readonly ts?: number;
  /** Which process of the node it is. */
  readonly conn?: number;
  readonly role?: string;
}

/** A provider whom ann let in. */
export async function announcement(
  name: string,
  said: Announced = {},
): Promise<string> {
  const { models = [], ts = NOW, conn = 1, role = "member" } = said;
  const [id, key] = [idOf(name), keyOf(name)];
  const membership = {
    mesh: MESH,
    issuer: idOf("ann"),
    id,
    name,
    role,
    caps: CAPS,
    ticket: null,
    until: NOW + 1_000,
    ts: NOW,
  };
  const chain = [await statementOf("ann")];
  if (name !== "ann") chain.push(await sign("membership", membership, keyOf("ann")));
  const listed = models.map((model) => ({
    name: model,
    digest: "",
    size: 0,
    modified_at: "",
    details: { family: "llama", scale: 0.5 },
    capabilities: [],
    context_length: 0,
  }));
  const body = {
    mesh: MESH,
    id,
    conn: b64encode(new Uint8Array(16).fill(conn)),
    box: b64encode(signingKey(new Uint8Array(32)).publicKey),
    versions: [1, 1],
    backend: "ollama",
    parallel: 1,
    models: listed,
    chain,
    ts,
  };
  return sign("announcement", body, key);
}
