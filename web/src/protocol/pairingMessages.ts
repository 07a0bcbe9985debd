/**
 * What two machines that pair say to each other, and the digits that people compare:
 * the twin of meshllm/protocol/pairing_messages.py, as far as a newcomer needs it.
 *
 * Offer and answer are signed forms: they introduce the keys. All that follows is boxed
 * between the two keys they brought (docs/protocol.md §3.3). Chance comes in as values.
 */

import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, fromUtf8, prefixed, toHex, utf8 } from "../bytes.ts";
import {
  type Code,
  LocalProtocolError,
  RemoteProtocolError,
  readCode,
  TrustError,
} from "../errors.ts";
import {
  type BoxKey,
  b64encode,
  type PeerId,
  publicKey,
  readPeerId,
  type SigningKey,
} from "../trust/keys.ts";
import { URL_MAX } from "../trust/link.ts";
import * as signed from "../trust/signed.ts";
import { b64, integer, nullable, take, text } from "../trust/strict.ts";
import { type JsonObject, parseObject } from "../trust/strictJson.ts";
import { boxSecret } from "./box.ts";

export const LETTER_MAX = 8_192; // a statement and a membership, which stay below 6,000
export const [MAILBOX_MIN, MAILBOX_MAX] = [100, 999] as const;
export const CODE_DIGITS = 6; // one guess in a million, once
export const RECEIPT_DIGITS = 2; // only whoever saw the right code typed can show any
const SAS = utf8("meshllm/sas/v1\0");

/** The number that a side's letters carry in their nonces. */
export const NEWCOMER = 1;
export const OWNER = 2;
export type Role = typeof NEWCOMER | typeof OWNER;

/** The newcomer's. `commit`: SHA-256 of its nonce, which it reveals later. */
export interface Offer {
  readonly mailbox: number | null;
  readonly sender: PeerId;
  readonly box: Bytes;
  readonly commit: Bytes;
}

/** The owner's. `prev`: SHA-256 of the offer as it came. */
export interface Answer {
  readonly mailbox: number | null;
  readonly sender: PeerId;
  readonly to: PeerId;
  readonly prev: Bytes;
  readonly box: Bytes;
  readonly nonce: Bytes;
}

/** What the newcomer becomes. `hub` and `server`: where its mesh meets, if it does, and
 * the key to find there. */
export interface Grant {
  readonly type: "grant";
  readonly hub: string | null;
  readonly server: PeerId | null;
  readonly statement: string;
  readonly membership: string;
}

export type Boxed =
  | { readonly type: "reveal"; readonly nonce: Bytes }
  /** The newcomer's person typed the owner's receipt. */
  | { readonly type: "ready" }
  | Grant
  /** The newcomer keeps it. */
  | { readonly type: "accepted" }
  /** Either side's last word. */
  | { readonly type: "stop"; readonly code: Code };

export async function signOffer(offer: Offer, key: SigningKey): Promise<Bytes> {
  const body = {
    mailbox: offer.mailbox,
    from: offer.sender,
    box: b64encode(offer.box),
    commit: b64encode(offer.commit),
  };
  return utf8(await signed.sign("pairing-offer", body, key));
}

/** Throws TrustError when the signature does not hold, RemoteProtocolError when it is
 * malformed. */
export function readAnswer(data: Bytes): Answer {
  const fields = signed.readNaming("pairing-answer", ascii(data), "from");
  const { from, ...rest } = take(fields, {
    mailbox,
    from: readPeerId,
    to: readPeerId,
    prev: b64(32),
    box: b64(32),
    nonce: b64(32),
  });
  return { ...rest, sender: from };
}

/** The two keys at work. Each side counts what it sends, so that nothing opens twice or
 * out of turn, nor at whoever sent it. */
export class Seals {
  readonly #secret: Uint8Array;
  readonly #role: Role;
  #sent = 0;
  #opened = 0;

  private constructor(secret: Uint8Array, role: Role) {
    this.#secret = secret;
    this.#role = role;
  }

  /** TrustError when `other` is no key to box anything for. */
  static async between(box: BoxKey, other: Bytes, role: Role): Promise<Seals> {
    const secret = await boxSecret(box, other);
    if (secret === null) throw new TrustError("a key that nothing can be sealed to");
    return new Seals(secret, role);
  }

  seal(message: Boxed): Bytes {
    this.#sent += 1;
    const data = utf8(JSON.stringify(write(message)));
    const nonce = nonceOf(this.#role, this.#sent);
    const sealed = xsalsa20poly1305(this.#secret, nonce).encrypt(data);
    if (sealed.length > LETTER_MAX) {
      throw new LocalProtocolError(`a letter of ${sealed.length} bytes is too large`);
    }
    return Uint8Array.from(sealed);
  }

  /** TrustError unless it is the other side's next. */
  open(sealed: Bytes): Boxed {
    this.#opened += 1;
    const nonce = nonceOf(this.#role === OWNER ? NEWCOMER : OWNER, this.#opened);
    let data: Uint8Array;
    try {
      data = xsalsa20poly1305(this.#secret, nonce).decrypt(sealed);
    } catch {
      throw new TrustError("a letter that is not the other side's next");
    }
    return read(parseObject(Uint8Array.from(data), LETTER_MAX));
  }
}

/** What the offer says of the newcomer's nonce. */
export function commit(nonce: Bytes): Bytes {
  return Uint8Array.from(sha256(nonce));
}

export interface Compared {
  readonly newcomer: PeerId;
  readonly owner: PeerId;
  readonly newcomerBox: Bytes;
  readonly ownerBox: Bytes;
  readonly newcomerNonce: Bytes;
  readonly ownerNonce: Bytes;
}

/** The code, which the newcomer shows, and the receipt, which the owner shows. */
export function digits(of: Compared): {
  readonly code: string;
  readonly receipt: string;
} {
  const parts = [
    publicKey(of.newcomer),
    publicKey(of.owner),
    of.newcomerBox,
    of.ownerBox,
    of.newcomerNonce,
    of.ownerNonce,
  ];
  const hash = sha256(concat([SAS, ...parts.map(prefixed)]));
  const number = BigInt(`0x${toHex(hash)}`);
  const codes = 10n ** BigInt(CODE_DIGITS);
  const receipts = 10n ** BigInt(RECEIPT_DIGITS);
  return {
    code: String(number % codes).padStart(CODE_DIGITS, "0"),
    receipt: String((number / codes) % receipts).padStart(RECEIPT_DIGITS, "0"),
  };
}

const mailbox = nullable(integer(MAILBOX_MIN, MAILBOX_MAX));

function write(message: Boxed): object {
  return message.type === "reveal"
    ? { type: message.type, nonce: b64encode(message.nonce) }
    : message;
}

function read(fields: JsonObject): Boxed {
  const { type, ...rest } = fields;
  switch (type) {
    case "reveal":
      return { type, ...take(rest, { nonce: b64(32) }) };
    case "ready":
    case "accepted":
      take(rest, {});
      return { type };
    case "grant":
      return {
        type,
        ...take(rest, {
          hub: nullable(text(URL_MAX, 1)),
          server: nullable(readPeerId),
          statement: text(signed.TOKEN_MAX, 1),
          membership: text(signed.TOKEN_MAX, 1),
        }),
      };
    case "stop":
      return { type, code: readCode(take(rest, { code: integer(0, 65_535) }).code) };
    default:
      throw new RemoteProtocolError("a letter of a kind that pairing does not have");
  }
}

function nonceOf(role: Role, number: number): Bytes {
  const nonce = new Uint8Array(24);
  nonce.set([role, number]);
  return nonce;
}

/** Letters come as bytes; signed forms are text. */
export function ascii(data: Bytes): string {
  if (data.some((byte) => byte > 0x7f)) {
    throw new TrustError("a letter that is no signed form");
  }
  return fromUtf8(data);
}
