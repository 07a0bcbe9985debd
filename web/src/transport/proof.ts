/**
 * From an open channel to a proven wire: HELLO over the certificates really seen.
 * docs/protocol.md §5.
 */

import type { Bytes } from "../bytes.ts";
import type { Answer, Offer } from "../protocol/envelope.ts";
import { ANSWERER, OFFERER, prove, transcript, verify } from "../protocol/hello.ts";
import { Path } from "../protocol/path.ts";
import { publicKey, type SigningKey } from "../trust/keys.ts";
import type { Peer } from "./peer.ts";
import { Wire } from "./wire.ts";

/** An offer and its answer, each with the SHA-256 of its signed form. */
export interface Exchanged {
  readonly offer: Offer;
  readonly offerDigest: Bytes;
  readonly answer: Answer;
  readonly answerDigest: Bytes;
}

/**
 * The wire on an open peer connection, once the other side proved who it is. `nonce` is
 * the one that our offer committed to. Closes the connection and throws NotAllowed or
 * PeerUnreachable when it does not.
 */
export async function proven(
  peer: Peer,
  key: SigningKey,
  said: Exchanged,
  nonce: Bytes,
): Promise<Wire> {
  const seen = transcript({
    path: said.offer.path,
    offerer: said.offer.sender,
    answerer: said.answer.sender,
    commit: said.offer.commit,
    answerNonce: said.answer.nonce,
    offererFingerprint: peer.ownFingerprint,
    answererFingerprint: peer.observedFingerprint,
    offerDigest: said.offerDigest,
    answerDigest: said.answerDigest,
  });
  const sig = await prove(OFFERER, seen, key);
  const expected = {
    role: ANSWERER,
    transcript: seen,
    publicKey: publicKey(said.answer.sender),
    commit: null,
  } as const;
  const hello = { type: "HELLO", role: OFFERER, nonceReveal: nonce, sig } as const;
  const wire = new Wire(
    peer,
    new Path(hello, (heard) => verify(heard, expected), true),
  );
  try {
    await wire.saidHello();
  } catch (error) {
    wire.close("HELLO failed");
    throw error;
  }
  return wire;
}
