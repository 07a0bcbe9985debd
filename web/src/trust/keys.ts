/**
 * Names of keys: peer ids, and the one spelling of base64url that we accept.
 * docs/protocol.md §1.
 */

import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import type { Bytes } from "../bytes.ts";
import { TrustError } from "../errors.ts";

/** Lower-case base32 of a whole Ed25519 public key: 52 characters. */
export type PeerId = string & { readonly __brand: "PeerId" };

export const KEY_BYTES = 32;
export const PEER_ID_CHARS = 52;
export const SHORT_CHARS = 8;

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUE_32 = values(BASE32);
const VALUE_64 = values(BASE64);
const NO_ID = "this is no peer id: 52 lower-case letters and digits 2 to 7";

/** Signs as a node, a root or a ticket's seed: a browser's key never leaves it. */
export interface SigningKey {
  readonly publicKey: Bytes;
  sign(data: Bytes): Promise<Bytes>;
}

/** Receives what is sealed: the X25519 half of an identity. */
export interface BoxKey {
  readonly publicKey: Bytes;
  /** The 32 raw bytes shared with another public key. Throws when there are none. */
  agree(other: Bytes): Promise<Bytes>;
}

/** A key whose 32 private bytes are known: a ticket's seed, or one without WebCrypto. */
export function signingKey(seed: Bytes): SigningKey {
  return {
    publicKey: copied(ed25519.getPublicKey(seed)),
    sign: async (data) => copied(ed25519.sign(data, seed)),
  };
}

/** The same for an X25519 key. */
export function boxKey(secret: Bytes): BoxKey {
  return {
    publicKey: copied(x25519.getPublicKey(secret)),
    agree: async (other) => copied(x25519.getSharedSecret(secret, other)),
  };
}

/** Whether a signature holds, by RFC 8032: no other spelling of keys or points. */
export function isSignedBy(publicKey: Bytes, data: Bytes, signature: Bytes): boolean {
  try {
    return ed25519.verify(signature, data, publicKey, { zip215: false });
  } catch {
    return false; // a key or signature of another length, or off the curve
  }
}

export function peerId(publicKey: Bytes): PeerId {
  if (publicKey.length !== KEY_BYTES) {
    throw new TrustError(`a key of ${publicKey.length} bytes; an Ed25519 key has 32`);
  }
  return regroup(publicKey, 8, 5, BASE32) as PeerId;
}

/** The 32 bytes that an id spells. TrustError when it is no id. */
export function publicKey(id: string): Bytes {
  const read = degroup(id, 5, VALUE_32);
  if (read === null || read.length !== KEY_BYTES || peerId(read) !== id) {
    throw new TrustError(NO_ID);
  }
  return read;
}

/** A peer id from parsed JSON. TrustError when it is none. */
export function readPeerId(value: unknown): PeerId {
  if (typeof value !== "string" || value.length !== PEER_ID_CHARS) {
    throw new TrustError(NO_ID);
  }
  publicKey(value);
  return value as PeerId;
}

/** For people; nothing compares it. */
export function short(id: string): string {
  return id.slice(0, SHORT_CHARS);
}

/** Base64url without padding. */
export function b64encode(data: Uint8Array): string {
  return regroup(data, 8, 6, BASE64);
}

/** The bytes of canonical base64url, `size` of them when given. TrustError else. */
export function b64decode(text: unknown, size?: number): Bytes {
  if (typeof text !== "string") throw new TrustError("base64url text expected");
  const data = degroup(text, 6, VALUE_64);
  if (data === null || b64encode(data) !== text) {
    throw new TrustError("this is not canonical base64url without padding");
  }
  if (size !== undefined && data.length !== size) {
    throw new TrustError(`${size} bytes expected, ${data.length} found`);
  }
  return data;
}

function values(alphabet: string): Map<number, number> {
  return new Map(Array.from(alphabet, (char, at) => [char.charCodeAt(0), at]));
}

/** Bytes in groups of bits as characters; the last group is filled up with zeros. */
function regroup(data: Uint8Array, from: 8, to: 5 | 6, alphabet: string): string {
  const out: string[] = [];
  let held = 0;
  let bits = 0;
  for (const byte of data) {
    held = (held << from) | byte;
    bits += from;
    while (bits >= to) {
      bits -= to;
      out.push(alphabet.charAt((held >> bits) & ((1 << to) - 1)));
    }
    held &= (1 << bits) - 1;
  }
  if (bits > 0) out.push(alphabet.charAt((held << (to - bits)) & ((1 << to) - 1)));
  return out.join("");
}

/** null for another character; bits that fill no byte are dropped. */
function degroup(text: string, from: 5 | 6, table: Map<number, number>): Bytes | null {
  const out = new Uint8Array(Math.floor((text.length * from) / 8));
  let held = 0;
  let bits = 0;
  let at = 0;
  for (let index = 0; index < text.length; index++) {
    const value = table.get(text.charCodeAt(index));
    if (value === undefined) return null;
    held = (held << from) | value;
    bits += from;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (held >> bits) & 0xff;
    }
    held &= (1 << bits) - 1;
  }
  return out;
}

/** Bytes of our own, whatever buffer a library gave them. */
function copied(data: Uint8Array): Bytes {
  return Uint8Array.from(data);
}
