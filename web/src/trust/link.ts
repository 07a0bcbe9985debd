/**
 * Links that admit: short (the hub keeps the ticket), offline, and a hub's setup link.
 * Everything is in the fragment, which browsers never send. docs/protocol.md §2.1.
 */

import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, utf8 } from "../bytes.ts";
import { MeshError, TrustError } from "../errors.ts";
import { b64decode, b64encode, type PeerId, readPeerId } from "./keys.ts";
import { TOKEN_MAX } from "./signed.ts";
import { b64, nullable, take, text } from "./strict.ts";
import { type JsonObject, parseObject } from "./strictJson.ts";

export const PAYLOAD_MAX = 40_960;
export const URL_MAX = 512;
const NONCE_BYTES = 24;
const NOT_A_LINK =
  "This is no meshllm link. It looks like https://HUB/#v1.… and has to be whole.";

// Neither a name and password, nor anything that a browser would read another way.
const HUB =
  /^(https?):\/\/((?:[\p{L}\p{N}_.~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?)\/?$/iu;

/**
 * What a join link carries: the ticket, its seed, and what to trust. `server` is the
 * hub's key, null when the mesh has no hub.
 */
export interface Invitation {
  readonly server: PeerId | null;
  readonly statement: string;
  readonly ticket: string;
  /** The private half. */
  readonly seed: Bytes;
}

export interface ShortLink {
  readonly kind: "short";
  readonly hub: string;
  readonly id: Bytes;
  readonly key: Bytes;
}

/** Carries the invitation itself; `hub` is null for a LAN. */
export interface OfflineLink {
  readonly kind: "offline";
  readonly hub: string | null;
  readonly invitation: Invitation;
}

/** A hub's one-time link: whoever has it may register a mesh there. */
export interface SetupLink {
  readonly kind: "setup";
  readonly hub: string;
  readonly token: Bytes;
  readonly server: PeerId;
}

export type Link = ShortLink | OfflineLink | SetupLink;

/** TrustError says that it is none, and what one looks like. */
export function parseLink(link: string): Link {
  const whole = link.trim();
  const hash = whole.indexOf("#");
  const before = hash < 0 ? whole : whole.slice(0, hash);
  const [kind, ...parts] = hash < 0 ? [] : whole.slice(hash + 1).split(".");
  const [first = "", second = ""] = parts;
  try {
    if (kind === "v1" && parts.length === 2) {
      const [id, key] = [b64decode(first, 8), b64decode(second, 16)];
      return { kind: "short", hub: readHub(before), id, key };
    }
    if (kind === "s1" && parts.length === 2) {
      const [token, server] = [b64decode(first, 16), readPeerId(second)];
      return { kind: "setup", hub: readHub(before), token, server };
    }
    if (kind === "v1o" && parts.length === 1) return offline(first);
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
  }
  throw new TrustError(NOT_A_LINK);
}

/** The link again, as `parseLink` reads it. */
export function formatLink(link: Link): string {
  switch (link.kind) {
    case "short":
      return `${link.hub}/#v1.${b64encode(link.id)}.${b64encode(link.key)}`;
    case "setup":
      return `${link.hub}/#s1.${b64encode(link.token)}.${link.server}`;
    case "offline": {
      const payload = dump({ ...writeInvitation(link.invitation), hub: link.hub });
      return `${link.hub ?? "meshllm:"}/#v1o.${b64encode(payload)}`;
    }
  }
}

/** What the hub keeps: secretbox under the link's key; `nonce` has 24 bytes. */
export function sealInvitation(
  invitation: Invitation,
  key: Bytes,
  nonce: Bytes,
): Bytes {
  const cipher = xsalsa20poly1305(secret(key), nonce);
  return concat([nonce, cipher.encrypt(dump(writeInvitation(invitation)))]);
}

/**
 * TrustError: the hub gave something else than what was left there.
 * RemoteProtocolError: what was left there is no invitation.
 */
export function openInvitation(sealed: Bytes, key: Bytes): Invitation {
  let data: Uint8Array;
  try {
    const nonce = sealed.slice(0, NONCE_BYTES);
    data = xsalsa20poly1305(secret(key), nonce).decrypt(sealed.slice(NONCE_BYTES));
  } catch {
    throw new TrustError(
      "The invitation does not open with this link. Copy the link again; if that " +
        "does not help, ask for a new one.",
    );
  }
  return readInvitation(parseObject(data, PAYLOAD_MAX));
}

export function readInvitation(fields: JsonObject): Invitation {
  return take(fields, {
    server: nullable(readPeerId),
    statement: text(TOKEN_MAX, 1),
    ticket: text(TOKEN_MAX, 1),
    seed: b64(32),
  });
}

export function writeInvitation(invitation: Invitation): Record<string, unknown> {
  const { server, statement, ticket, seed } = invitation;
  return { server, statement, ticket, seed: b64encode(seed) };
}

function offline(payload: string): OfflineLink {
  const { hub = "", ...rest } = parseObject(b64decode(payload), PAYLOAD_MAX);
  const found = nullable(text(URL_MAX, 1))(hub); // it has to be there
  return {
    kind: "offline",
    hub: found === null ? null : readHub(found),
    invitation: readInvitation(rest),
  };
}

/** scheme://host[:port], without the slash that follows. */
function readHub(url: string): string {
  const [, scheme, host, port] = HUB.exec(url) ?? [];
  if (scheme === undefined || host === undefined || !URL.canParse(url)) {
    throw new TrustError(NOT_A_LINK);
  }
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) {
    throw new TrustError(NOT_A_LINK);
  }
  return `${scheme.toLowerCase()}://${host.toLowerCase()}`;
}

function secret(key: Bytes): Uint8Array {
  return sha256(concat([utf8("meshllm/link/v1\0"), key]));
}

function dump(fields: Readonly<Record<string, unknown>>): Bytes {
  return utf8(JSON.stringify(fields));
}
