/**
 * Signaling messages between a client and a hub, as values and as strict JSON
 * (docs/protocol.md §3). `t` is the message's kind, as on the wire.
 */

import { type Bytes, utf8 } from "../bytes.ts";
import { type Code, MeshError, RemoteProtocolError } from "../errors.ts";
import { type Versions, versions } from "../trust/announcement.ts";
import { b64decode, b64encode, type PeerId, readPeerId } from "../trust/keys.ts";
import { type Kind, limit } from "../trust/signed.ts";
import {
  b64,
  boolean,
  integer,
  listed,
  nested,
  nullable,
  type Reader,
  take,
  text,
} from "../trust/strict.ts";
import { type JsonObject, parseObject } from "../trust/strictJson.ts";

export const HUB_MESSAGE_BYTES = 4 << 20; // a welcome carries the whole roster
export const CLIENT_MESSAGE_BYTES = 65_536;
export const VERSIONS: Versions = [1, 1];
const SEALED_TICKET_CHARS = 40_960;
const ROSTER_MAX = 4_096;
const LETTER_MAX = 8_192;
const TEXT_CHARS = 512;
const RE_MAX = 2 ** 31 - 1;

/** One entry of RTCConfiguration.iceServers. */
export interface Ice {
  readonly urls: readonly string[];
  readonly username: string | null;
  readonly credential: string | null;
}

export interface Challenge {
  readonly t: "challenge";
  readonly server: PeerId;
  readonly nonce: Bytes;
  readonly ts: number;
  readonly versions: Versions;
}
export interface Welcome {
  readonly t: "welcome";
  readonly sig: Bytes;
  readonly roster: readonly string[];
  readonly ice: readonly Ice[];
  readonly statement: string | null;
  readonly revocations: string | null;
}
export interface Roster {
  readonly t: "roster";
  readonly joined: readonly string[];
  readonly left: readonly PeerId[];
}
/** `sealed` is opened by whom it is for; a bad one is its sender's fault alone. */
export interface Signal {
  readonly t: "signal";
  readonly sender: PeerId;
  readonly conn: Bytes;
  readonly sealed: string;
}
export interface SealedTicket {
  readonly t: "ticket";
  readonly re: number;
  readonly sealed: string;
}
export interface CardLeft {
  readonly t: "card";
  readonly chain: readonly string[];
  readonly conflict: boolean;
}
export interface Granted {
  readonly t: "membership";
  readonly membership: string;
  readonly statement: string;
}
export interface Revoked {
  readonly t: "revoked";
  readonly revocations: string;
}
export interface NewStatement {
  readonly t: "statement";
  readonly statement: string;
}
/** From the other one in the mailbox. */
export interface Letter {
  readonly t: "letter";
  readonly letter: Bytes;
}
export interface MailboxClosed {
  readonly t: "mailbox_closed";
  readonly code: Code;
}
export interface Done {
  readonly t: "done";
  readonly re: number;
}
export interface Refused {
  readonly t: "error";
  readonly re: number | null;
  readonly code: Code;
  readonly text: string;
}
export interface Ping {
  readonly t: "ping";
  readonly re: number;
}
export interface Pong {
  readonly t: "pong";
  readonly re: number;
}
/** A kind that is not ours to know: a newer version speaks. */
export interface Unknown {
  readonly t: "?";
  readonly kind: string;
}

export type HubMessage =
  | Challenge
  | Welcome
  | Roster
  | Signal
  | SealedTicket
  | CardLeft
  | Granted
  | Revoked
  | NewStatement
  | Letter
  | MailboxClosed
  | Done
  | Refused
  | Ping
  | Pong;

export interface Login {
  readonly t: "login";
  readonly id: PeerId;
  readonly nonce: Bytes;
  readonly conn: Bytes;
  readonly sig: Bytes;
  readonly chain: readonly string[];
}
/** To the announcing connection when `conn` is null. */
export interface Send {
  readonly t: "send";
  readonly to: PeerId;
  readonly conn: Bytes | null;
  readonly sealed: Bytes;
}
export interface GetTicket {
  readonly t: "get_ticket";
  readonly id: Bytes;
}

/** Where somebody waits to pair (§3.3). */
export interface JoinMailbox {
  readonly t: "join_mailbox";
  readonly number: number;
}
export interface Post {
  readonly t: "post";
  readonly letter: Bytes;
}

/** What a page asks; whoever sends it puts `re` beside it. */
export type Request = Send | GetTicket | JoinMailbox | Post | { readonly t: "ping" };

const re = integer(1, RE_MAX);
const spelled = (pattern: RegExp, most: number): Reader<string> => {
  const read = text(most, 1);
  return (value) => {
    const found = read(value);
    if (pattern.test(found)) return found;
    throw new RemoteProtocolError("base64url expected");
  };
};
const token = (kind: Kind) => spelled(/^[A-Za-z0-9_.-]+$/, limit(kind));
const sealed = (most: number) => spelled(/^[A-Za-z0-9_-]+$/, most);
const letter: Reader<Bytes> = (value) => {
  const found = b64decode(text(11_000, 1)(value));
  if (found.length <= LETTER_MAX) return found;
  throw new RemoteProtocolError(`a letter of up to ${LETTER_MAX} bytes expected`);
};
const short = text(TEXT_CHARS);
const statement = token("statement");
const membership = token("membership");
const revocations = token("revocations");
const roster = listed(token("announcement"), ROSTER_MAX);
const ice: Reader<Ice> = nested((fields) =>
  take(fields, {
    urls: listed(short, 16),
    username: nullable(short),
    credential: nullable(short),
  }),
);

type Readers = { [T in HubMessage["t"]]: (fields: JsonObject) => HubMessage };

/** By the table of §3.2: what a hub says. */
const READERS: Readers = {
  challenge: (fields) => ({
    t: "challenge",
    ...take(fields, { server: readPeerId, nonce: b64(32), ts: integer(), versions }),
  }),
  welcome: (fields) => ({
    t: "welcome",
    ...take(fields, {
      sig: b64(64),
      roster,
      ice: listed(ice, 16),
      statement: nullable(statement),
      revocations: nullable(revocations),
    }),
  }),
  roster: (fields) => ({
    t: "roster",
    ...take(fields, { joined: roster, left: listed(readPeerId, ROSTER_MAX) }),
  }),
  signal: (fields) => {
    const { from, ...rest } = take(fields, {
      from: readPeerId,
      conn: b64(16),
      sealed: sealed(CLIENT_MESSAGE_BYTES),
    });
    return { t: "signal", sender: from, ...rest };
  },
  ticket: (fields) => ({
    t: "ticket",
    ...take(fields, { re, sealed: sealed(SEALED_TICKET_CHARS) }),
  }),
  card: (fields) => ({
    t: "card",
    ...take(fields, { chain: listed(membership, 3), conflict: boolean }),
  }),
  membership: (fields) => ({
    t: "membership",
    ...take(fields, { membership, statement }),
  }),
  revoked: (fields) => ({ t: "revoked", ...take(fields, { revocations }) }),
  statement: (fields) => ({ t: "statement", ...take(fields, { statement }) }),
  letter: (fields) => ({ t: "letter", ...take(fields, { letter }) }),
  mailbox_closed: (fields) => {
    const { code } = take(fields, { code: integer(1, 18) });
    return { t: "mailbox_closed", code: code as Code };
  },
  done: (fields) => ({ t: "done", ...take(fields, { re }) }),
  error: (fields) => {
    const read = take(fields, { re: nullable(re), code: integer(1, 18), text: short });
    return { t: "error", ...read, code: read.code as Code };
  },
  ping: (fields) => ({ t: "ping", ...take(fields, { re }) }),
  pong: (fields) => ({ t: "pong", ...take(fields, { re }) }),
};

/** What the hub sent. Throws RemoteProtocolError. */
export function decodeHub(data: string): HubMessage | Unknown {
  const { t, ...fields } = parseObject(utf8(data), HUB_MESSAGE_BYTES);
  if (typeof t !== "string") {
    throw new RemoteProtocolError("A message without its kind in `t`.");
  }
  if (!isKnown(t)) return { t: "?", kind: t.slice(0, 64) };
  try {
    return READERS[t](fields);
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
    throw new RemoteProtocolError(`A malformed \`${t}\` message: ${error.message}`);
  }
}

export function encodeLogin(login: Login): string {
  const { t, id, nonce, conn, sig, chain } = login;
  return JSON.stringify({
    t,
    id,
    nonce: b64encode(nonce),
    conn: b64encode(conn),
    sig: b64encode(sig),
    chain,
  });
}

/** A request with the number that its answer repeats. */
export function encodeRequest(request: Request, number: number): string {
  switch (request.t) {
    case "send": {
      const { t, to } = request;
      const conn = request.conn === null ? null : b64encode(request.conn);
      return JSON.stringify({
        t,
        re: number,
        to,
        conn,
        sealed: b64encode(request.sealed),
      });
    }
    case "get_ticket":
      return JSON.stringify({ t: request.t, re: number, id: b64encode(request.id) });
    case "join_mailbox":
      return JSON.stringify({ t: request.t, re: number, number: request.number });
    case "post":
      return JSON.stringify({
        t: request.t,
        re: number,
        letter: b64encode(request.letter),
      });
    case "ping":
      return JSON.stringify({ t: request.t, re: number });
  }
}

export function encodePong(pong: Pong): string {
  return JSON.stringify({ t: pong.t, re: pong.re });
}

function isKnown(t: string): t is HubMessage["t"] {
  return Object.hasOwn(READERS, t);
}
