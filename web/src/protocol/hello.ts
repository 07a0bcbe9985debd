/**
 * HELLO: both peers prove, inside the path, which certificates they really saw.
 *
 * Whoever altered an offer, an answer or a fingerprint on the way fails here, whatever
 * the DTLS library checked (docs/protocol.md §5).
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, isEqual, prefixed, utf8 } from "../bytes.ts";
import { Code, NotAllowed } from "../errors.ts";
import { isSignedBy, type PeerId, publicKey, type SigningKey } from "../trust/keys.ts";
import type { Hello } from "./frames.ts";

export const OFFERER = 1;
export const ANSWERER = 2;
export type HelloRole = typeof OFFERER | typeof ANSWERER;
const DOMAIN = utf8("meshllm/hello/v1\0");
const NOTHING = new Uint8Array(32);

/** What the offer carries of the offerer's nonce: its SHA-256, 32 bytes. */
export function commit(nonce: Bytes): Bytes {
  return Uint8Array.from(sha256(nonce));
}

/**
 * Fingerprints are SHA-256: one's own of the certificate in use, the peer's of the one
 * observed. Digests are SHA-256 of the signed forms of offer and answer.
 */
export interface Parts {
  readonly path: Bytes;
  readonly offerer: PeerId;
  readonly answerer: PeerId;
  readonly commit: Bytes;
  readonly answerNonce: Bytes;
  readonly offererFingerprint: Bytes;
  readonly answererFingerprint: Bytes;
  readonly offerDigest: Bytes;
  readonly answerDigest: Bytes;
}

/** 32 bytes over everything both sides must agree on. */
export function transcript(parts: Parts): Bytes {
  const said = [
    parts.path,
    publicKey(parts.offerer),
    publicKey(parts.answerer),
    parts.commit,
    parts.answerNonce,
    parts.offererFingerprint,
    parts.answererFingerprint,
    parts.offerDigest,
    parts.answerDigest,
  ];
  return Uint8Array.from(sha256(concat(said.map(prefixed))));
}

/** Our signature, 64 bytes. */
export function prove(role: HelloRole, seen: Bytes, key: SigningKey): Promise<Bytes> {
  return key.sign(proven(role, seen));
}

/** What is expected of the peer. */
export interface Expected {
  readonly role: HelloRole;
  readonly transcript: Bytes;
  readonly publicKey: Bytes;
  /** What the offer promised of the nonce that an offerer reveals now; null for an
   * answerer, whose field is zeros. */
  readonly commit: Bytes | null;
}

/** NotAllowed (auth) unless the peer has this role, key and view of the path. */
export function verify(hello: Hello, expected: Expected): void {
  const isRevealed =
    expected.commit === null
      ? isEqual(hello.nonceReveal, NOTHING)
      : isEqual(commit(hello.nonceReveal), expected.commit);
  const isSigned = isSignedBy(
    expected.publicKey,
    proven(expected.role, expected.transcript),
    hello.sig,
  );
  if (hello.role !== expected.role || !isRevealed || !isSigned) {
    throw new NotAllowed(
      "The peer saw another connection than we did: somebody stands between, or it " +
        "is not who it claims to be.",
      Code.AUTH,
    );
  }
}

function proven(role: HelloRole, seen: Bytes): Bytes {
  return concat([DOMAIN, Uint8Array.of(role), seen]);
}
