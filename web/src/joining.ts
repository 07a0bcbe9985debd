/**
 * Joining by a link (docs/protocol.md §2.1). Whoever has the link from the address bar
 * takes it away from there first: it is a secret, and works once.
 */

import {
  Code,
  MeshError,
  NotAllowed,
  PeerUnreachable,
  reason,
  TrustError,
} from "./errors.ts";
import type { Home } from "./home.ts";
import type { Identity } from "./identity.ts";
import { type Known, ownAdmission, withMembership } from "./known.ts";
import { unixS } from "./transport/clock.ts";
import { randomBytes } from "./transport/random.ts";
import { fetchTicket } from "./transport/signaling.ts";
import { SignalingSocket } from "./transport/signalingSocket.ts";
import { type Admission, admit } from "./trust/admission.ts";
import { readTicket, signCard } from "./trust/grants.ts";
import { type PeerId, signingKey } from "./trust/keys.ts";
import {
  type Invitation,
  openInvitation,
  parseLink,
  type ShortLink,
} from "./trust/link.ts";

const MEMBERSHIP_MS = 3_000; // an owner's node that is online answers in a round trip

export interface Joined {
  readonly known: Known;
  readonly admission: Admission;
  /** Why the server could not be told; the next login tells it. */
  readonly problem: string | null;
}

/**
 * Uses an invitation, and waits a little for the membership that replaces its card. A
 * refusal (used, expired, forged) leaves nothing of it behind.
 *
 * `isSecure` is the page's `isSecureContext`: over plain http anybody on the way could
 * have changed this code, so only guests join there.
 */
export async function join(
  home: Home,
  link: string,
  isSecure: boolean,
): Promise<Joined> {
  const { identity } = home;
  const parsed = parseLink(link);
  if (parsed.kind === "setup") {
    throw new TrustError(
      "This is a server's link, to make a mesh there: `meshllm init LINK`.",
    );
  }
  const { hub } = parsed;
  if (hub === null) {
    throw new TrustError(
      "This invitation is for a mesh without a server, which a browser cannot reach. " +
        "Use `meshllm join LINK`.",
    );
  }
  const invitation =
    parsed.kind === "short" ? await fetched(parsed, identity) : parsed.invitation;
  const known = await begun(identity, invitation, hub, isSecure);
  await home.begin(known);
  const problem = await shown(home, known);
  const after = (await home.known()) ?? known;
  return { known: after, admission: ownAdmission(after, unixS()), problem };
}

/** The ticket that the hub keeps. It must name the hub that gave it. */
async function fetched(link: ShortLink, identity: Identity): Promise<Invitation> {
  const who = {
    url: link.hub,
    server: null,
    identity,
    conn: randomBytes(16),
    chain: [],
  };
  const { sealed, server } = await fetchTicket(who, link.id);
  const invitation = openInvitation(sealed, link.key);
  if (invitation.server !== server) {
    throw new TrustError(
      `The server at ${link.hub} is not the one that this invitation names: somebody ` +
        "else may have its address now. Ask for a new link.",
    );
  }
  return invitation;
}

/** What we know from now on: a card that the ticket's seed signs. */
async function begun(
  identity: Identity,
  invitation: Invitation,
  hub: string,
  isSecure: boolean,
): Promise<Known> {
  const now = unixS();
  const ticket = readTicket(invitation.ticket);
  if (!isSecure && ticket.role !== "guest") {
    throw new NotAllowed(
      `This page came over plain http, where only guests may join; this link is for a ` +
        `${ticket.role}. Use https, or \`meshllm join LINK\`.`,
      Code.FORBIDDEN,
    );
  }
  const card = await signCard(
    { mesh: ticket.mesh, ticket: ticket.id, id: identity.id, ts: now },
    signingKey(invitation.seed),
  );
  const chain = [invitation.statement, invitation.ticket, card];
  admit(chain, identity.id, ticket.mesh, now);
  return {
    mesh: ticket.mesh,
    id: identity.id,
    hub,
    hubKey: named(invitation),
    chain,
    statement: invitation.statement,
    revocations: null,
  };
}

function named(invitation: Invitation): PeerId {
  if (invitation.server !== null) return invitation.server;
  throw new TrustError("This invitation does not name its server's key.");
}

/** Shows the card to the hub, which hands it to its issuer; why it could not. */
async function shown(home: Home, known: Known): Promise<string | null> {
  const { hub: url, hubKey: server, chain } = known;
  const who = { url, server, identity: home.identity, conn: randomBytes(16), chain };
  try {
    const socket = await SignalingSocket.connect(who);
    try {
      await membership(home, socket);
    } finally {
      socket.close();
    }
    return null;
  } catch (error) {
    if (error instanceof PeerUnreachable) return reason(error);
    if (error instanceof MeshError) await home.leave();
    throw error;
  }
}

/** Until the membership is here, or has not come in time. */
function membership(home: Home, socket: SignalingSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(resolve, MEMBERSHIP_MS);
    const settle = (act: () => void) => {
      clearTimeout(late);
      act();
    };
    socket.onClosed = (why) => settle(() => reject(why));
    socket.onNews = (news) => {
      if (news.t !== "membership") return;
      const { membership: token, statement } = news;
      home
        .learn((known) => withMembership(known, token, statement, unixS()))
        .then(
          () => settle(resolve),
          (error: Error) => settle(() => reject(error)),
        );
    };
  });
}
