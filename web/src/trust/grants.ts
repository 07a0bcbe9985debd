/**
 * What is signed about people: statement, ticket, card, membership, revocations.
 *
 * `read…` verifies the signature and the form, not the rights: whether a signer may say
 * so is `admission`'s to decide. The fields are those of docs/protocol.md §2. A page only
 * ever signs cards; the rest it reads.
 */

import type { Bytes } from "../bytes.ts";
import { RemoteProtocolError } from "../errors.ts";
import {
  b64encode,
  type PeerId,
  publicKey,
  readPeerId,
  type SigningKey,
} from "./keys.ts";
import * as signed from "./signed.ts";
import {
  b64,
  choice,
  integer,
  listed,
  name,
  nested,
  nullable,
  type Reader,
  take,
  text,
} from "./strict.ts";
import type { Json, JsonObject } from "./strictJson.ts";

export const OWNERS_MAX = 16;
export const REVOKED_MAX = 400;
export const CAP_MODELS_MAX = 64;
export const MODEL_NAME_MAX = 256;

/** Owner: everything. Member: share and use. Guest: use. */
export type Role = "owner" | "member" | "guest";

/** Limits of a grant; null is no limit of its own. */
export interface Caps {
  readonly models: readonly string[] | null;
  readonly parallel: number | null;
  readonly tokensPerDay: number | null;
}
export const NO_CAPS: Caps = { models: null, parallel: null, tokensPerDay: null };

export interface Owner {
  readonly id: PeerId;
  readonly name: string;
}

/** Who the owners of a mesh are, signed by its root key. */
export interface Statement {
  readonly mesh: PeerId;
  readonly version: number;
  readonly owners: readonly Owner[];
  readonly ts: number;
}

/** Admits whoever holds its one-time seed; signed by an owner. */
export interface Ticket {
  readonly mesh: PeerId;
  readonly issuer: PeerId;
  readonly id: Bytes;
  /** The public half. */
  readonly seed: Bytes;
  readonly name: string;
  readonly role: Role;
  readonly caps: Caps;
  readonly until: number;
  readonly ts: number;
}

/** A ticket's bearer names itself; signed by the ticket's seed. */
export interface Card {
  readonly mesh: PeerId;
  readonly ticket: Bytes;
  readonly id: PeerId;
  readonly ts: number;
}

/** A node's lasting place in a mesh; signed by an owner. */
export interface Membership {
  readonly mesh: PeerId;
  readonly issuer: PeerId;
  readonly id: PeerId;
  readonly name: string;
  readonly role: Role;
  readonly caps: Caps;
  readonly ticket: Bytes | null;
  readonly until: number;
  readonly ts: number;
}

export interface Revoked {
  readonly id: PeerId;
  readonly ts: number;
}

/** Everyone who is out, in one list whose version only grows; by an owner. */
export interface Revocations {
  readonly mesh: PeerId;
  readonly issuer: PeerId;
  readonly version: number;
  readonly revoked: readonly Revoked[];
  readonly ts: number;
}

const role: Reader<Role> = choice("owner", "member", "guest");
const caps: Reader<Caps> = nested((fields) => {
  const read = take(fields, {
    models: nullable(listed(text(MODEL_NAME_MAX, 1), CAP_MODELS_MAX)),
    parallel: nullable(integer(1, 1_000)),
    tokens_per_day: nullable(integer(1)),
    invite: nothing,
  });
  return {
    models: read.models,
    parallel: read.parallel,
    tokensPerDay: read.tokens_per_day,
  };
});
const granted = { name, caps, until: integer(), ts: integer() };

/** Signed by the root it names; TrustError when that is not `mesh`. */
export function readStatement(token: string, mesh?: PeerId): Statement {
  const fields =
    mesh === undefined
      ? signed.readNaming("statement", token, "mesh")
      : signed.read("statement", token, publicKey(mesh));
  const read = take(fields, {
    mesh: readPeerId,
    version: integer(1),
    owners,
    ts: integer(),
  });
  if (mesh !== undefined && read.mesh !== mesh) {
    throw new RemoteProtocolError("a statement about another mesh");
  }
  return read;
}

export function ownerOf(statement: Statement, id: PeerId): Owner | undefined {
  return statement.owners.find((owner) => owner.id === id);
}

export function readTicket(token: string): Ticket {
  return take(signed.readNaming("ticket", token, "issuer"), {
    mesh: readPeerId,
    issuer: readPeerId,
    id: b64(16),
    seed: b64(32),
    role: grantedRole,
    ...granted,
  });
}

export function signCard(card: Card, seed: SigningKey): Promise<string> {
  const body = {
    mesh: card.mesh,
    ticket: b64encode(card.ticket),
    id: card.id,
    ts: card.ts,
  };
  return signed.sign("card", body, seed);
}

/** `seed`: the public key of the ticket it belongs to. */
export function readCard(token: string, seed: Bytes): Card {
  return take(signed.read("card", token, seed), {
    mesh: readPeerId,
    ticket: b64(16),
    id: readPeerId,
    ts: integer(),
  });
}

export function readMembership(token: string): Membership {
  return take(signed.readNaming("membership", token, "issuer"), {
    mesh: readPeerId,
    issuer: readPeerId,
    id: readPeerId,
    role,
    ticket: nullable(b64(16)),
    ...granted,
  });
}

export function readRevocations(token: string): Revocations {
  return take(signed.readNaming("revocations", token, "issuer"), {
    mesh: readPeerId,
    issuer: readPeerId,
    version: integer(1),
    revoked: listed(
      nested((fields) => take(fields, { id: readPeerId, ts: integer() })),
      REVOKED_MAX,
    ),
    ts: integer(),
  });
}

export function covers(list: Revocations, id: PeerId): boolean {
  return list.revoked.some((entry) => entry.id === id);
}

function owners(value: Json): readonly Owner[] {
  const read = listed(nested(readOwner), OWNERS_MAX, 1)(value);
  if (new Set(read.map((owner) => owner.id)).size !== read.length) {
    throw new RemoteProtocolError("an owner who is listed twice");
  }
  return read;
}

function readOwner(fields: JsonObject): Owner {
  return take(fields, { id: readPeerId, name });
}

function grantedRole(value: Json): Role {
  const read = role(value);
  if (read === "owner") {
    throw new RemoteProtocolError("a ticket makes nobody an owner");
  }
  return read;
}

function nothing(value: Json): null {
  if (value !== null) throw new RemoteProtocolError("null expected in this version");
  return null;
}
