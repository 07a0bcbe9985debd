/** Pure: finding words in conversations, without regard to case and accents. */

/** Folded text has the same length as its source, so that places in both agree. */
export function fold(text: string): string {
  let folded = "";
  for (const char of text) {
    const plain = char.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
    folded += plain.length === char.length ? plain : char;
  }
  return folded;
}

export function wordsOf(query: string): string[] {
  return fold(query).split(/\s+/).filter(Boolean);
}

/** Whether every word is in it; `folded` is what `fold` made. */
export function hasWords(folded: string, words: readonly string[]): boolean {
  return words.every((word) => folded.includes(word));
}

export interface Piece {
  readonly text: string;
  readonly isHit: boolean;
}

const BEFORE = 32;
const AFTER = 120;

/** A line around the first word that is found, cut into what is a hit and what is not. */
export function snippet(text: string, words: readonly string[]): Piece[] {
  const flat = text.replace(/\s+/g, " ");
  const folded = fold(flat);
  const places = words.map((word) => folded.indexOf(word)).filter((at) => at >= 0);
  const first = Math.max(0, Math.min(...places, flat.length) - BEFORE);
  const start = first > 0 ? flat.indexOf(" ", first) + 1 : 0;
  const shown = flat.slice(start, start + BEFORE + AFTER);
  const pieces = marked(shown, words);
  if (start > 0) pieces.unshift({ text: "… ", isHit: false });
  return pieces;
}

export function marked(text: string, words: readonly string[]): Piece[] {
  const folded = fold(text);
  const pieces: Piece[] = [];
  let at = 0;
  while (at < text.length) {
    const next = words
      .map((word) => ({ from: folded.indexOf(word, at), size: word.length }))
      .filter(({ from }) => from >= 0)
      .sort((a, b) => a.from - b.from || b.size - a.size)[0];
    if (next === undefined) break;
    if (next.from > at) pieces.push({ text: text.slice(at, next.from), isHit: false });
    pieces.push({ text: text.slice(next.from, next.from + next.size), isHit: true });
    at = next.from + next.size;
  }
  if (at < text.length) pieces.push({ text: text.slice(at), isHit: false });
  return pieces;
}
