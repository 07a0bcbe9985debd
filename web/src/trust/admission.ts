/**
 * Who somebody is in a mesh: a chain verified, offline, up to the root key.
 *
 * Default deny: whatever is not one of the three chains of docs/protocol.md §2 is refused.
 */

import type { Bytes } from "../bytes.ts";
import { Code, NotAllowed } from "../errors.ts";
import {
  type Caps,
  covers,
  type Membership,
  NO_CAPS,
  ownerOf,
  type Revocations,
  type Role,
  readCard,
  readMembership,
  readStatement,
  readTicket,
  type Statement,
  type Ticket,
} from "./grants.ts";
import { type PeerId, short } from "./keys.ts";

/**
 * The outcome. `ticket` is set while a card stands in for a membership; `until` is null
 * for owners.
 */
export interface Admission {
  readonly mesh: PeerId;
  readonly id: PeerId;
  readonly name: string;
  readonly role: Role;
  readonly caps: Caps;
  readonly until: number | null;
  readonly ticket: Bytes | null;
  readonly issuer: PeerId;
}

/** What a verifier keeps, and never lowers. */
export interface Kept {
  readonly statement?: Statement | null;
  readonly revoked?: Revocations | null;
}

/**
 * What the chain makes of `id`. That `id` holds its key is proven elsewhere.
 *
 * NotAllowed (auth, revoked) when it makes nothing of it; TrustError and
 * RemoteProtocolError when a link of it is malformed or its signature does not hold.
 */
export function admit(
  chain: readonly string[],
  id: PeerId,
  mesh: PeerId,
  now: number,
  kept: Kept = {},
): Admission {
  const [first, second, third] = chain;
  if (first === undefined) {
    throw new NotAllowed(
      "You are not in this mesh: no membership was shown.",
      Code.AUTH,
    );
  }
  const statement = newest(readStatement(first, mesh), kept.statement ?? null);
  if (chain.length > 3) {
    throw new NotAllowed("A chain has at most three links.", Code.AUTH);
  }
  let admission: Admission;
  if (second === undefined) admission = owner(statement, id);
  else if (third === undefined) admission = member(readMembership(second), id, mesh);
  else admission = bearer(readTicket(second), third, id, mesh);
  return recheck(admission, now, statement, kept.revoked ?? null);
}

/** The same admission, if it still holds: at each request, and on new lists. */
export function recheck(
  admission: Admission,
  now: number,
  statement: Statement,
  revoked: Revocations | null,
): Admission {
  if (ownerOf(statement, admission.issuer) === undefined) {
    throw new NotAllowed("Whoever issued this is no owner of the mesh.", Code.AUTH);
  }
  if (revoked !== null && binds(revoked, admission, statement)) {
    throw new NotAllowed("This membership was revoked by an owner.", Code.REVOKED);
  }
  if (admission.until !== null && now >= admission.until) {
    const what = admission.ticket === null ? "membership" : "invitation";
    throw new NotAllowed(
      `This ${what} has expired. Ask an owner of the mesh for a new link.`,
      Code.AUTH,
    );
  }
  return admission;
}

/**
 * Whether a list ends this admission. Owners are the root key's to remove, so that none
 * of them, nor a stolen key of one, can lock the others out.
 */
export function binds(
  revoked: Revocations,
  admission: Admission,
  statement: Statement,
): boolean {
  return (
    revoked.mesh === admission.mesh &&
    ownerOf(statement, revoked.issuer) !== undefined &&
    ownerOf(statement, admission.id) === undefined &&
    covers(revoked, admission.id)
  );
}

/**
 * Whether a list replaces the one kept: it is by an owner, and is newer, or the one kept
 * is by nobody who is an owner now.
 */
export function supersedes(
  fresh: Revocations,
  kept: Revocations | null,
  statement: Statement,
): boolean {
  if (fresh.mesh !== statement.mesh) return false;
  if (ownerOf(statement, fresh.issuer) === undefined) return false;
  return (
    kept === null ||
    ownerOf(statement, kept.issuer) === undefined ||
    fresh.version > kept.version
  );
}

/** The one that counts: what is kept is never lowered. */
export function newest(shown: Statement, known: Statement | null): Statement {
  return known !== null && known.version >= shown.version ? known : shown;
}

function owner(statement: Statement, id: PeerId): Admission {
  const found = ownerOf(statement, id);
  if (found === undefined) {
    throw new NotAllowed(`${short(id)} is no owner of this mesh.`, Code.AUTH);
  }
  return {
    mesh: statement.mesh,
    id,
    name: found.name,
    role: "owner",
    caps: NO_CAPS,
    until: null,
    ticket: null,
    issuer: id,
  };
}

function member(membership: Membership, id: PeerId, mesh: PeerId): Admission {
  if (membership.id !== id || membership.mesh !== mesh) {
    throw new NotAllowed("This membership belongs to another node or mesh.", Code.AUTH);
  }
  if (membership.role === "owner") {
    // no stolen owner's key can make more of them
    throw new NotAllowed("Only the mesh's root key makes owners.", Code.AUTH);
  }
  const { name, role, caps, until, issuer } = membership;
  return { mesh, id, name, role, caps, until, ticket: null, issuer };
}

function bearer(ticket: Ticket, token: string, id: PeerId, mesh: PeerId): Admission {
  const card = readCard(token, ticket.seed);
  const isTickets = card.ticket.every((byte, at) => byte === ticket.id[at]);
  if (ticket.mesh !== mesh || card.mesh !== mesh || !isTickets) {
    throw new NotAllowed("This card belongs to another ticket or mesh.", Code.AUTH);
  }
  if (card.id !== id) {
    throw new NotAllowed("This card belongs to another node.", Code.AUTH);
  }
  const { name, caps, until, issuer } = ticket;
  // A guest, whatever the ticket promises, until its membership comes.
  return { mesh, id, name, role: "guest", caps, until, ticket: ticket.id, issuer };
}
