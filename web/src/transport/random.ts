/** Chance, as the pure rooms take it. */

import type { Bytes } from "../bytes.ts";

/** Also there on plain http, unlike `crypto.subtle`. */
export function randomBytes(count: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(count));
}
