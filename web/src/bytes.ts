/** Bytes and text, as every room needs them. */

export type Bytes = Uint8Array<ArrayBuffer>;

const ENCODER = new TextEncoder();
const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const EMPTY: Bytes = new Uint8Array(0);

export function utf8(text: string): Bytes {
  return ENCODER.encode(text);
}

/** Throws TypeError for what is not UTF-8. A byte order mark is kept. */
export function fromUtf8(data: Uint8Array): string {
  return STRICT.decode(data);
}

export function concat(parts: readonly Uint8Array[]): Bytes {
  let size = 0;
  for (const part of parts) size += part.length;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

/** The part with its length in two bytes before it, as transcripts have it. */
export function prefixed(part: Uint8Array): Bytes {
  return concat([Uint8Array.of(part.length >> 8, part.length & 0xff), part]);
}

export function toHex(data: Uint8Array): string {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
