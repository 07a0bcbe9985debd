/**
 * The owner's side of a pairing, which no page is: meshllm/protocol/pairing.py's OwnerSide,
 * held to the same examples.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, isEqual, utf8 } from "../../src/bytes.ts";
import { Code, NotAllowed, RemoteProtocolError, TrustError } from "../../src/errors.ts";
import type { Attempt } from "../../src/protocol/pairing.ts";
import {
  ascii,
  commit,
  digits,
  type Grant,
  OWNER,
  Seals,
} from "../../src/protocol/pairingMessages.ts";
import { b64encode, type PeerId, peerId, readPeerId } from "../../src/trust/keys.ts";
import * as signed from "../../src/trust/signed.ts";
import { b64, integer, nullable, take } from "../../src/trust/strict.ts";

export class OwnerSide {
  readonly id: PeerId;
  receipt = "";
  readonly #attempt: Attempt;
  #stage: "offer" | "reveal" | "code" | "ready" | "admit" | "accepted" | "paired" =
    "offer";
  #offer: Offer | null = null;
  #seals: Seals | null = null;
  #code = "";

  constructor(attempt: Attempt) {
    this.id = peerId(attempt.key.publicKey);
    this.#attempt = attempt;
  }

  get stage(): string {
    return this.#stage;
  }

  async receive(letter: Bytes, now: number): Promise<Bytes | null> {
    if (now >= this.#attempt.until) throw new NotAllowed("late", Code.TIMEOUT);
    if (this.#stage === "offer") return this.#answer(letter);
    const message = this.#opener.open(letter);
    if (message.type === "stop") throw new NotAllowed("stopped", message.code);
    switch (`${this.#stage} ${message.type}`) {
      case "reveal reveal":
        this.#meet(message.type === "reveal" ? message.nonce : new Uint8Array());
        this.#stage = "code";
        return null;
      case "ready ready":
        this.#stage = "admit";
        return null;
      case "accepted accepted":
        this.#stage = "paired";
        return null;
      default:
        throw new RemoteProtocolError(`${this.#stage} was next`);
    }
  }

  typeCode(typed: string): void {
    if (this.#stage !== "code") throw new RemoteProtocolError("no code was next");
    if (typed !== this.#code) throw new NotAllowed("mistyped", Code.AUTH);
    this.#stage = "ready";
  }

  grant(grant: Grant): Bytes {
    this.#stage = "accepted";
    return this.#opener.seal(grant);
  }

  stop(code: Code): Bytes {
    return this.#opener.seal({ type: "stop", code });
  }

  get #opener(): Seals {
    if (this.#seals === null) throw new RemoteProtocolError("nobody is there");
    return this.#seals;
  }

  async #answer(letter: Bytes): Promise<Bytes> {
    const offer = readOffer(letter);
    const { mailbox, box, nonce, key } = this.#attempt;
    if (offer.mailbox !== mailbox) throw new TrustError("another mailbox");
    if (offer.from === this.id) throw new TrustError("two homes with one key");
    this.#seals = await Seals.between(box, offer.box, OWNER);
    this.#offer = offer;
    this.#stage = "reveal";
    const body = {
      mailbox,
      from: this.id,
      to: offer.from,
      prev: b64encode(sha256(letter)),
      box: b64encode(box.publicKey),
      nonce: b64encode(nonce),
    };
    return utf8(await signed.sign("pairing-answer", body, key));
  }

  #meet(nonce: Bytes): void {
    const offer = this.#offer;
    if (offer === null || !isEqual(commit(nonce), offer.commit)) {
      throw new RemoteProtocolError("another nonce than it committed to");
    }
    const both = digits({
      newcomer: offer.from,
      owner: this.id,
      newcomerBox: offer.box,
      ownerBox: this.#attempt.box.publicKey,
      newcomerNonce: nonce,
      ownerNonce: this.#attempt.nonce,
    });
    this.#code = both.code;
    this.receipt = both.receipt;
  }
}

type Offer = ReturnType<typeof readOffer>;

function readOffer(letter: Bytes) {
  return take(signed.readNaming("pairing-offer", ascii(letter), "from"), {
    mailbox: nullable(integer(100, 999)),
    from: readPeerId,
    box: b64(32),
    commit: b64(32),
  });
}
