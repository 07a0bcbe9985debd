/**
 * The signed form: `b64(body).b64(signature)`, one primitive for everything signed.
 *
 * The signature covers the kind and the body's bytes as received, and is checked before
 * anything but the signer's own name is taken from the body (docs/protocol.md §1.1).
 */

import { type Bytes, concat, utf8 } from "../bytes.ts";
import { LocalProtocolError, RemoteProtocolError, TrustError } from "../errors.ts";
import {
  b64decode,
  b64encode,
  isSignedBy,
  publicKey,
  type SigningKey,
} from "./keys.ts";
import { type JsonObject, parseObject } from "./strictJson.ts";

export type Kind =
  | "statement"
  | "ticket"
  | "card"
  | "membership"
  | "revocations"
  | "announcement"
  | "offer"
  | "answer"
  | "candidates"
  | "refusal"
  | "pairing-offer"
  | "pairing-answer";

export const TOKEN_MAX = 12_288;
export const LONG_TOKEN_MAX = 49_152; // an announcement of 256 models, a list of 400

/** The token. LocalProtocolError when nobody would read it. */
export async function sign(
  kind: Kind,
  body: Readonly<Record<string, unknown>>,
  key: SigningKey,
): Promise<string> {
  const data = utf8(JSON.stringify(body));
  try {
    parseObject(data, data.length);
  } catch (error) {
    if (!(error instanceof RemoteProtocolError)) throw error;
    throw new LocalProtocolError(`a ${kind} that nobody would read: ${error.message}`);
  }
  const signature = await key.sign(concat([domain(kind), data]));
  const token = `${b64encode(data)}.${b64encode(signature)}`;
  if (token.length > limit(kind)) {
    throw new LocalProtocolError(`a ${kind} of ${token.length} bytes is too large`);
  }
  return token;
}

/**
 * The body as strict JSON, once the signature of `signer` verified. TrustError when it
 * does not hold; RemoteProtocolError when the body is malformed.
 */
export function read(kind: Kind, token: string, signer: Bytes): JsonObject {
  const [data, signature] = split(kind, token);
  if (!isSignedBy(signer, concat([domain(kind), data]), signature)) {
    throw new TrustError(`the signature of this ${kind} does not hold`);
  }
  return parseObject(data, limit(kind));
}

/**
 * `read` for kinds that name their own signer, a peer id, in `field`. Who signed is then
 * known; whether that peer may say so is the caller's to decide.
 */
export function readNaming(kind: Kind, token: string, field: string): JsonObject {
  const [data] = split(kind, token);
  const named = parseObject(data, limit(kind))[field];
  if (typeof named !== "string") {
    throw new TrustError(`this ${kind} does not name its signer`);
  }
  return read(kind, token, publicKey(named));
}

/** Most characters of a token of this kind. */
export function limit(kind: Kind): number {
  return kind === "announcement" || kind === "revocations" ? LONG_TOKEN_MAX : TOKEN_MAX;
}

/** The `type` a body claims, one of `types`: the kind to verify it as. */
export function peekType<Type extends Kind>(
  token: string,
  types: readonly Type[],
): Type {
  const [body = ""] = token.split(".", 1);
  const claimed = parseObject(b64decode(body), TOKEN_MAX)["type"];
  const known = types.find((type) => type === claimed);
  if (known === undefined) {
    throw new TrustError(`signed, but not as one of: ${types.join(", ")}`);
  }
  return known;
}

function domain(kind: Kind): Bytes {
  return utf8(`meshllm/${kind}/v1\0`);
}

function split(kind: Kind, token: string): [Bytes, Bytes] {
  if (token.length > limit(kind)) {
    throw new TrustError(`this is no ${kind}: text of up to ${limit(kind)} bytes`);
  }
  const dot = token.indexOf(".");
  if (dot < 0) throw new TrustError(`this is no ${kind}: it has no signature`);
  return [b64decode(token.slice(0, dot)), b64decode(token.slice(dot + 1), 64)];
}
