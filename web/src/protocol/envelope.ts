/**
 * Offers, answers, candidates, refusals: signed by who sends, sealed to who receives.
 *
 * Whoever carries an envelope sees from, to, size and time (docs/protocol.md §4). Keys
 * and nonces come in as values, so that the examples in tests/vectors can be repeated.
 */

import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, fromUtf8, utf8 } from "../bytes.ts";
import {
  Code,
  LocalProtocolError,
  NotAllowed,
  readCode,
  TrustError,
} from "../errors.ts";
import { chain, type Versions, versions } from "../trust/announcement.ts";
import {
  type BoxKey,
  b64encode,
  type PeerId,
  readPeerId,
  type SigningKey,
  short,
} from "../trust/keys.ts";
import * as signed from "../trust/signed.ts";
import { b64, boolean, integer, nested, take, text } from "../trust/strict.ts";
import type { JsonObject } from "../trust/strictJson.ts";
import { boxSecret } from "./box.ts";
import {
  type Candidate,
  candidates,
  type Description,
  readDescription,
  writeCandidate,
  writeDescription,
} from "./description.ts";

export const STEP = 4_096;
export const ENVELOPE_MAX = 12_288;
export const OVERHEAD = 32 + 24 + 16; // ephemeral key, nonce, authenticator
export const SKEW_S = 300;
export const TEXT_MAX = 256;

interface Common {
  readonly path: Bytes;
  readonly sender: PeerId;
  readonly to: PeerId;
  readonly ts: number;
}

/** `conn` and `box` say where the answer goes and to which key it is sealed. */
export interface Offer extends Common {
  readonly type: "offer";
  readonly conn: Bytes;
  readonly box: Bytes;
  readonly commit: Bytes;
  readonly versions: Versions;
  readonly description: Description;
  readonly chain: readonly string[];
}

/** `prev`: SHA-256 of the offer's signed form. */
export interface Answer extends Common {
  readonly type: "answer";
  readonly prev: Bytes;
  readonly nonce: Bytes;
  readonly version: number;
  readonly description: Description;
  readonly chain: readonly string[];
}

/** More of whoever offered or answered; the last ones are `isComplete`. */
export interface Candidates extends Common {
  readonly type: "candidates";
  readonly prev: Bytes;
  readonly candidates: readonly Candidate[];
  readonly isComplete: boolean;
}

export interface Refusal extends Common {
  readonly type: "refusal";
  readonly prev: Bytes;
  readonly code: Code;
  readonly text: string;
}

export type Signal = Offer | Answer | Candidates | Refusal;

/** A signal, and the SHA-256 of its signed form. */
export interface Opened {
  readonly signal: Signal;
  readonly digest: Bytes;
}

/**
 * The envelope, and the SHA-256 of the signed form inside.
 *
 * `toBox`: the receiver's X25519 key. `ephemeral` and the 24-byte `nonce` are made for
 * this envelope alone. LocalProtocolError when it would be beyond 12,288 bytes,
 * TrustError when `toBox` is no key.
 */
export async function seal(
  signal: Signal,
  key: SigningKey,
  toBox: Bytes,
  ephemeral: BoxKey,
  nonce: Bytes,
): Promise<{ readonly envelope: Bytes; readonly digest: Bytes }> {
  const form = utf8(await signed.sign(signal.type, write(signal), key));
  const size = Math.ceil((OVERHEAD + 2 + form.length) / STEP) * STEP;
  if (size > ENVELOPE_MAX) {
    throw new LocalProtocolError(`an envelope of ${size} bytes is too large`);
  }
  const inside = new Uint8Array(size - OVERHEAD);
  new DataView(inside.buffer).setUint16(0, form.length);
  inside.set(form, 2);
  const secret = await boxSecret(ephemeral, toBox);
  if (secret === null) {
    throw new TrustError("a box key that nothing can be sealed to");
  }
  const box = xsalsa20poly1305(secret, nonce).encrypt(inside);
  return {
    envelope: concat([ephemeral.publicKey, nonce, box]),
    digest: Uint8Array.from(sha256(form)),
  };
}

/**
 * TrustError, RemoteProtocolError or NotAllowed (`clock_skew`) when it is not for us, not
 * from whom it claims, or too old. `outerSender`: who delivered it, null if unknown.
 */
export async function openEnvelope(
  envelope: Bytes,
  box: BoxKey,
  me: PeerId,
  outerSender: PeerId | null,
  now: number,
): Promise<Opened> {
  const form = await unseal(envelope, box);
  const kinds = ["offer", "answer", "candidates", "refusal"] as const;
  const kind = signed.peekType(form, kinds);
  const signal = read(kind, signed.readNaming(kind, form, "from"));
  if (outerSender !== null && signal.sender !== outerSender) {
    throw new TrustError("an envelope whose sender is not who delivered it");
  }
  if (signal.to !== me) throw new TrustError("an envelope for somebody else");
  const skewS = Math.abs(now - signal.ts);
  if (skewS > SKEW_S) {
    throw new NotAllowed(
      `The clocks of this machine and ${short(signal.sender)} differ by ${skewS} s; ` +
        "set them right (300 s are allowed).",
      Code.CLOCK_SKEW,
    );
  }
  return { signal, digest: Uint8Array.from(sha256(utf8(form))) };
}

/** The body, by the table of §4. */
function write(signal: Signal): Record<string, unknown> {
  return {
    type: signal.type,
    path: b64encode(signal.path),
    from: signal.sender,
    to: signal.to,
    ts: signal.ts,
    ...own(signal),
  };
}

function own(signal: Signal): Record<string, unknown> {
  switch (signal.type) {
    case "offer":
      return {
        conn: b64encode(signal.conn),
        box: b64encode(signal.box),
        commit: b64encode(signal.commit),
        versions: signal.versions,
        sdp: writeDescription(signal.description),
        chain: signal.chain,
      };
    case "answer":
      return {
        prev: b64encode(signal.prev),
        nonce: b64encode(signal.nonce),
        version: signal.version,
        sdp: writeDescription(signal.description),
        chain: signal.chain,
      };
    case "candidates":
      return {
        prev: b64encode(signal.prev),
        candidates: signal.candidates.map(writeCandidate),
        complete: signal.isComplete,
      };
    case "refusal":
      return { prev: b64encode(signal.prev), code: signal.code, text: signal.text };
  }
}

async function unseal(envelope: Bytes, box: BoxKey): Promise<string> {
  const { length } = envelope;
  if (length % STEP !== 0 || length === 0 || length > ENVELOPE_MAX) {
    throw new TrustError(`an envelope of ${length} bytes`);
  }
  if (((envelope[31] ?? 0) & 0x80) !== 0) {
    // X25519 masks this bit: the envelope would open either way
    throw new TrustError("an envelope whose key is spelled another way");
  }
  const secret = await boxSecret(box, envelope.slice(0, 32));
  let inside: Uint8Array;
  try {
    if (secret === null) throw new TrustError("no secret is shared");
    inside = xsalsa20poly1305(secret, envelope.slice(32, 56)).decrypt(
      envelope.slice(56),
    );
  } catch {
    throw new TrustError("an envelope that is not sealed to this node");
  }
  const size = ((inside[0] ?? 0) << 8) | (inside[1] ?? 0);
  const form = inside.subarray(2, 2 + size);
  const isPadded = inside.subarray(2 + size).every((byte) => byte === 0);
  if (form.length !== size || !isPadded || form.some((byte) => byte > 0x7f)) {
    throw new TrustError("an envelope with a wrong length or padding");
  }
  return fromUtf8(form);
}

function read(kind: Signal["type"], fields: JsonObject): Signal {
  const common = {
    type: text(16),
    path: b64(16),
    from: readPeerId,
    to: readPeerId,
    ts: integer(),
  };
  const described = { sdp: nested(readDescription), chain };
  switch (kind) {
    case "offer": {
      const { from, sdp, ...rest } = take(fields, {
        ...common,
        conn: b64(16),
        box: b64(32),
        commit: b64(32),
        versions,
        ...described,
      });
      return { ...rest, type: kind, sender: from, description: sdp };
    }
    case "answer": {
      const { from, sdp, ...rest } = take(fields, {
        ...common,
        prev: b64(32),
        nonce: b64(32),
        version: integer(1, 1_000),
        ...described,
      });
      return { ...rest, type: kind, sender: from, description: sdp };
    }
    case "candidates": {
      const { from, complete, ...rest } = take(fields, {
        ...common,
        prev: b64(32),
        candidates,
        complete: boolean,
      });
      return { ...rest, type: kind, sender: from, isComplete: complete };
    }
    case "refusal": {
      const { from, code, ...rest } = take(fields, {
        ...common,
        prev: b64(32),
        code: integer(0, 65_535),
        text: text(TEXT_MAX),
      });
      return { ...rest, type: kind, sender: from, code: readCode(code) };
    }
  }
}
