/**
 * Who this page is: an Ed25519 key that signs and an X25519 key that receives.
 *
 * Where WebCrypto has both, the private halves never leave it: whoever reads this page's
 * storage, or runs a script in it once, cannot take them away. On plain http there is no
 * WebCrypto, and in old browsers these curves are missing: then they are bytes.
 */

import type { Bytes } from "./bytes.ts";
import { randomBytes } from "./transport/random.ts";
import {
  type BoxKey,
  boxKey,
  type PeerId,
  peerId,
  type SigningKey,
  signingKey,
} from "./trust/keys.ts";

export interface Identity {
  readonly id: PeerId;
  readonly signing: SigningKey;
  readonly box: BoxKey;
  /** Whether the browser keeps the private halves from us too. */
  readonly isGuarded: boolean;
}

/** What is stored of an identity: both can be cloned into IndexedDB. */
export type StoredIdentity =
  | {
      readonly kind: "guarded";
      readonly signing: CryptoKey;
      readonly signingPublic: Bytes;
      readonly box: CryptoKey;
      readonly boxPublic: Bytes;
    }
  | { readonly kind: "plain"; readonly signing: Bytes; readonly box: Bytes };

export async function makeIdentity(): Promise<StoredIdentity> {
  return (
    (await makeGuarded()) ?? {
      kind: "plain",
      signing: randomBytes(32),
      box: randomBytes(32),
    }
  );
}

export function openIdentity(stored: StoredIdentity): Identity {
  const signing =
    stored.kind === "guarded" ? guardedSigning(stored) : signingKey(stored.signing);
  return {
    id: peerId(signing.publicKey),
    signing,
    box: stored.kind === "guarded" ? guardedBox(stored) : boxKey(stored.box),
    isGuarded: stored.kind === "guarded",
  };
}

/** null where the browser cannot. */
async function makeGuarded(): Promise<StoredIdentity | null> {
  // undefined on plain http, whatever TypeScript says
  const subtle = crypto.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) return null;
  try {
    const [signing, box] = await Promise.all([
      subtle.generateKey("Ed25519", false, ["sign", "verify"]),
      subtle.generateKey("X25519", false, ["deriveBits"]),
    ]);
    if (!("privateKey" in signing) || !("privateKey" in box)) return null;
    return {
      kind: "guarded",
      signing: signing.privateKey,
      signingPublic: await raw(signing.publicKey),
      box: box.privateKey,
      boxPublic: await raw(box.publicKey),
    };
  } catch {
    return null; // an older browser: NotSupportedError
  }
}

type Guarded = Extract<StoredIdentity, { readonly kind: "guarded" }>;

function guardedSigning(stored: Guarded): SigningKey {
  return {
    publicKey: stored.signingPublic,
    sign: async (data) =>
      new Uint8Array(await crypto.subtle.sign("Ed25519", stored.signing, data)),
  };
}

function guardedBox(stored: Guarded): BoxKey {
  return {
    publicKey: stored.boxPublic,
    agree: async (other) => {
      const theirs = await crypto.subtle.importKey("raw", other, "X25519", true, []);
      const algorithm = { name: "X25519", public: theirs };
      const shared = await crypto.subtle.deriveBits(algorithm, stored.box, 256);
      return new Uint8Array(shared);
    },
  };
}

async function raw(key: CryptoKey): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.exportKey("raw", key));
}
