/**
 * Pure: Markdown that is still being written. Only the last block can still change, so
 * only that is read again when text is added; the others keep their identity, by which
 * the page knows that it need not look at them.
 */

import type { Block } from "./ast.ts";
import { type Piece, parse } from "./parse.ts";

export interface Grown {
  readonly text: string;
  /** Blocks that will not change any more. */
  readonly settled: readonly Block[];
  /** How much of `text` they are. */
  readonly settledSize: number;
  /** What may still change. */
  readonly open: readonly Block[];
}

export const EMPTY: Grown = { text: "", settled: [], settledSize: 0, open: [] };

/** `before` with the whole text as it is now. */
export function grow(before: Grown, text: string): Grown {
  const source = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
  if (source === before.text) return before;
  const base = source.startsWith(before.text) ? before : EMPTY;
  const pieces = parse(source.slice(base.settledSize));
  const count = settledCount(pieces);
  const settled = [...base.settled];
  let settledSize = base.settledSize;
  for (const piece of pieces.slice(0, count)) {
    if (piece.block !== null) settled.push(piece.block);
    settledSize += piece.raw.length;
  }
  const open = pieces.slice(count).flatMap(({ block }) => block ?? []);
  return { text: source, settled, settledSize, open };
}

/**
 * How many of the first pieces cannot change any more, whatever is added. A block ends
 * for good with a blank line and a line after it that belongs to something else: `2`
 * could still become `2.` and go on with a list, a letter could not.
 */
function settledCount(pieces: readonly Piece[]): number {
  let rest = "";
  for (let at = pieces.length - 1; at > 0; at--) {
    const piece = pieces[at];
    if (piece === undefined) break;
    rest = piece.raw + rest;
    if (piece.block === null) continue;
    const isComplete = rest.includes("\n") || /^\p{L}/u.test(rest);
    if (isComplete && BLANK_LINE.test(before(pieces, at))) return at;
  }
  return 0;
}

const BLANK_LINE = /\n[ \t]*\n\s*$/;

/** The end of the text before a piece, as far as it is needed. */
function before(pieces: readonly Piece[], at: number): string {
  return pieces
    .slice(Math.max(0, at - 2), at)
    .map(({ raw }) => raw.slice(-80))
    .join("");
}
