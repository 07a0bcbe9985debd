/**
 * What a page knows of its mesh, and how news changes that. Pure: values in, values out.
 * Statements and revocations are never lowered (docs/protocol.md §2).
 */

import { Code, NotAllowed } from "./errors.ts";
import { type Admission, admit, newest, supersedes } from "./trust/admission.ts";
import {
  ownerOf,
  type Revocations,
  readMembership,
  readRevocations,
  readStatement,
  type Statement,
} from "./trust/grants.ts";
import type { PeerId } from "./trust/keys.ts";

/** Tokens, as they came; all of it can be stored. */
export interface Known {
  readonly mesh: PeerId;
  readonly id: PeerId;
  readonly hub: string;
  readonly hubKey: PeerId;
  /** Who we are. */
  readonly chain: readonly string[];
  /** The newest. */
  readonly statement: string;
  readonly revocations: string | null;
}

/** What the chain of a peer makes of it; NotAllowed and others when nothing. */
export function decide(
  known: Known,
  chain: readonly string[],
  id: PeerId,
  now: number,
): Admission {
  const { statement, revoked } = kept(known);
  return admit(chain, id, known.mesh, now, { statement, revoked });
}

/**
 * The same for who answers questions. A guest shares nothing; so a card, which makes
 * guests only, never has to be bound to a node here.
 */
export function decideProvider(
  known: Known,
  chain: readonly string[],
  id: PeerId,
  now: number,
): Admission {
  const admission = decide(known, chain, id, now);
  if (admission.role === "guest") {
    const text = `${admission.name} may use models, not share any.`;
    throw new NotAllowed(text, Code.FORBIDDEN);
  }
  return admission;
}

/** Our own place. NotAllowed when it has ended. */
export function ownAdmission(known: Known, now: number): Admission {
  return decide(known, known.chain, known.id, now);
}

/** A newer statement also introduces our own chain, and makes us an owner when it says
 * so. TrustError: it is of another mesh. */
export function withStatement(known: Known, token: string): Known {
  const statement = readStatement(token, known.mesh);
  if (newest(statement, kept(known).statement) !== statement) return known;
  const isOwner = ownerOf(statement, known.id) !== undefined;
  const rest = isOwner ? [] : known.chain.slice(1);
  return { ...known, statement: token, chain: [token, ...rest] };
}

/** Another list, when it is by an owner and newer than ours. */
export function withRevocations(known: Known, token: string): Known {
  const { statement, revoked } = kept(known);
  const isNewer = supersedes(readRevocations(token), revoked, statement);
  return isNewer ? { ...known, revocations: token } : known;
}

/** Our membership has come: it replaces the card, or one that is older. Owners need none.
 * NotAllowed when it is not for us. */
export function withMembership(
  before: Known,
  token: string,
  statement: string,
  now: number,
): Known {
  const known = withStatement(before, statement);
  decide(known, [statement, token], known.id, now);
  const [, ours] = known.chain;
  if (ours === undefined) return known;
  // whoever carries them may repeat an old one
  const isOlder =
    known.chain.length === 2 && readMembership(ours).ts > readMembership(token).ts;
  return isOlder ? known : { ...known, chain: [known.statement, token] };
}

interface Kept {
  readonly statement: Statement;
  readonly revoked: Revocations | null;
}

const READ = new WeakMap<Known, Kept>(); // two signatures for every provider else

function kept(known: Known): Kept {
  const { statement, revocations, mesh } = known;
  const read = READ.get(known) ?? {
    statement: readStatement(statement, mesh),
    revoked: revocations === null ? null : readRevocations(revocations),
  };
  READ.set(known, read);
  return read;
}
