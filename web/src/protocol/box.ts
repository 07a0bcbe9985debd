/** The secret of NaCl's `crypto_box` between two X25519 keys. */

import { hsalsa } from "@noble/ciphers/salsa.js";
import { type Bytes, utf8 } from "../bytes.ts";
import type { BoxKey } from "../trust/keys.ts";

/** NaCl's `crypto_box_beforenm`; null when the other key gives no secret. */
export async function boxSecret(key: BoxKey, other: Bytes): Promise<Uint8Array | null> {
  let shared: Bytes;
  try {
    shared = await key.agree(other);
  } catch {
    return null; // a point of small order: everybody knows the outcome
  }
  const out = new Uint32Array(8);
  hsalsa(SIGMA, words(shared), new Uint32Array(4), out);
  return unwords(out);
}

const SIGMA = words(utf8("expand 32-byte k"));

/** Little-endian, whatever this machine is. */
function words(data: Bytes): Uint32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const count = data.byteLength / 4;
  return Uint32Array.from({ length: count }, (_, at) => view.getUint32(4 * at, true));
}

function unwords(data: Uint32Array): Uint8Array {
  const out = new Uint8Array(4 * data.length);
  const view = new DataView(out.buffer);
  data.forEach((word, at) => {
    view.setUint32(4 * at, word, true);
  });
  return out;
}
