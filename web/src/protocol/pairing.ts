/**
 * Pairing, as the newcomer that a page is: the twin of meshllm/protocol/pairing.py's
 * NewcomerSide (docs/protocol.md §3.3).
 *
 * It is a state machine of one attempt. Whatever is wrong ends it for good: whoever
 * stands between has one guess, and has committed to it before it can be known.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, isEqual } from "../bytes.ts";
import { Code, NotAllowed, RemoteProtocolError, TrustError } from "../errors.ts";
import { type Admission, admit } from "../trust/admission.ts";
import { readStatement } from "../trust/grants.ts";
import { type BoxKey, type PeerId, peerId, type SigningKey } from "../trust/keys.ts";
import {
  type Boxed,
  commit,
  digits,
  type Grant,
  NEWCOMER,
  readAnswer,
  Seals,
  signOffer,
} from "./pairingMessages.ts";

export const LIFE_S = 600;
export const AGAIN =
  "Start again: `meshllm pair` on the owner’s machine, and its new number here.";
export const LATE = `The ten minutes have passed. ${AGAIN}`;
export const LEFT = `The owner’s machine has gone away. ${AGAIN}`;
const MISTYPED =
  "These are not the two digits that the owner’s machine shows: one was mistyped, or " +
  `somebody stands between the two. ${AGAIN}`;
const CANCELLED = `The pairing was stopped on the owner’s machine. ${AGAIN}`;
const STOPPED: ReadonlyMap<Code, string> = new Map([
  [
    Code.AUTH,
    `On the owner’s machine other digits were typed than the six shown here. ${AGAIN}`,
  ],
  [Code.TIMEOUT, LATE],
]);

/** Named by what has to come next. */
export type Stage =
  | "the offer"
  | "the owner’s answer"
  | "two digits typed here"
  | "the membership"
  | "the membership kept here"
  | "nothing more"
  | "nothing: it failed";

/** What an attempt is made of: `box` and the 32 bytes of `nonce` are fresh. `mailbox` is
 * where the two meet; null on a LAN. */
export interface Attempt {
  readonly key: SigningKey;
  readonly box: BoxKey;
  readonly nonce: Bytes;
  readonly mailbox: number | null;
  /** Seconds since 1970. */
  readonly until: number;
}

/** The machine that comes in: it shows the code, and the owner's receipt is typed here, so
 * that nobody but who saw the code typed can take it into a mesh. Once a method has thrown
 * the pairing is over. */
export class NewcomerSide {
  readonly id: PeerId;
  readonly #attempt: Attempt;
  #stage: Stage = "the offer";
  #offer: Bytes | null = null;
  #owner: PeerId | null = null;
  #seals: Seals | null = null;
  #digits = { code: "", receipt: "" };

  constructor(attempt: Attempt) {
    this.id = peerId(attempt.key.publicKey);
    this.#attempt = attempt;
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** To be shown, once the owner has answered. */
  get code(): string {
    return this.#digits.code;
  }

  /** What it says first. */
  async offer(): Promise<Bytes> {
    const { mailbox, box, nonce, key } = this.#attempt;
    const said = {
      mailbox,
      sender: this.id,
      box: box.publicKey,
      commit: commit(nonce),
    };
    this.#offer = await signOffer(said, key);
    this.#stage = "the owner’s answer";
    return this.#offer;
  }

  /** The owner's answer; what to send back. */
  answered(letter: Bytes, now: number): Promise<Bytes> {
    return this.#try(now, async () => {
      if (this.#stage !== "the owner’s answer") throw this.#unexpected();
      return this.#reveal(letter);
    });
  }

  /** What to send once the person has typed `receipt`. NotAllowed: it is not the owner's. */
  typeReceipt(receipt: string, now: number): Promise<Bytes> {
    return this.#try(now, async () => {
      if (this.#stage !== "two digits typed here") throw this.#unexpected();
      if (receipt !== this.#digits.receipt) throw new NotAllowed(MISTYPED, Code.AUTH);
      this.#stage = "the membership";
      return this.#seal({ type: "ready" });
    });
  }

  /** A letter while the person types: whatever it is, it ends the pairing. */
  interrupted(letter: Bytes, now: number): Promise<never> {
    return this.#try(now, async () => {
      this.#open(letter);
      throw this.#unexpected();
    });
  }

  /** What the owner granted, verified. */
  granted(
    letter: Bytes,
    now: number,
  ): Promise<{ readonly grant: Grant; readonly admission: Admission }> {
    return this.#try(now, async () => {
      const message = this.#open(letter);
      if (this.#stage !== "the membership" || message.type !== "grant") {
        throw this.#unexpected();
      }
      const admission = this.#verify(message, now);
      this.#stage = "the membership kept here";
      return { grant: message, admission };
    });
  }

  /** It is kept: what to tell the owner. */
  accept(): Bytes {
    if (this.#stage !== "the membership kept here") throw this.#unexpected();
    this.#stage = "nothing more";
    return this.#seal({ type: "accepted" });
  }

  /** Ends it. What to tell the owner, if it would understand. */
  stop(code: Code): Bytes | null {
    const isDone = this.#stage === "nothing more";
    const seals = this.#seals;
    this.#seals = null;
    this.#stage = "nothing: it failed";
    return isDone || seals === null ? null : seals.seal({ type: "stop", code });
  }

  async #try<Value>(now: number, act: () => Promise<Value>): Promise<Value> {
    if (this.#stage === "nothing: it failed") {
      throw new NotAllowed(`This pairing is over. ${AGAIN}`, Code.GONE);
    }
    try {
      if (now >= this.#attempt.until) throw new NotAllowed(LATE, Code.TIMEOUT);
      return await act();
    } catch (error) {
      this.#stage = "nothing: it failed";
      throw error;
    }
  }

  async #reveal(letter: Bytes): Promise<Bytes> {
    const { mailbox, box, nonce } = this.#attempt;
    const answer = readAnswer(letter);
    if (answer.mailbox !== mailbox || answer.to !== this.id) {
      throw new TrustError("Pairing: this answer is for another machine or mailbox.");
    }
    if (this.#offer === null || !isEqual(answer.prev, sha256(this.#offer))) {
      throw new TrustError("Pairing: this answer is to another offer.");
    }
    if (answer.sender === this.id) {
      throw new TrustError("Pairing: these are two homes with one key.");
    }
    this.#owner = answer.sender;
    this.#seals = await Seals.between(box, answer.box, NEWCOMER);
    this.#digits = digits({
      newcomer: this.id,
      owner: answer.sender,
      newcomerBox: box.publicKey,
      ownerBox: answer.box,
      newcomerNonce: nonce,
      ownerNonce: answer.nonce,
    });
    this.#stage = "two digits typed here";
    return this.#seal({ type: "reveal", nonce });
  }

  /** By whom it was, for us, and whole up to the root key. */
  #verify(grant: Grant, now: number): Admission {
    const { mesh } = readStatement(grant.statement);
    const chain = [grant.statement, grant.membership];
    const admission = admit(chain, this.id, mesh, Math.floor(now));
    if (admission.issuer !== this.#owner) {
      throw new TrustError("Pairing: this membership is another owner’s.");
    }
    return admission;
  }

  #seal(message: Boxed): Bytes {
    if (this.#seals === null) throw this.#unexpected();
    return this.#seals.seal(message);
  }

  /** A `stop` is thrown. */
  #open(letter: Bytes): Boxed {
    if (this.#seals === null) throw this.#unexpected();
    const message = this.#seals.open(letter);
    if (message.type !== "stop") return message;
    this.#seals = null; // nobody to tell
    throw new NotAllowed(STOPPED.get(message.code) ?? CANCELLED, message.code);
  }

  #unexpected(): RemoteProtocolError {
    return new RemoteProtocolError(`Pairing: ${this.#stage} was next. ${AGAIN}`);
  }
}
