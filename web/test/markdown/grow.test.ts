import fc from "fast-check";
import { expect, test } from "vitest";
import { EMPTY, type Grown, grow } from "../../src/markdown/grow.ts";
import { parseBlocks } from "../../src/markdown/parse.ts";
import { RICH } from "../page/words.ts";

function grown(pieces: readonly string[]): Grown {
  let text = "";
  let now = EMPTY;
  for (const piece of pieces) {
    text += piece;
    now = grow(now, text);
  }
  return now;
}

const blocks = (of: Grown) => [...of.settled, ...of.open];

test("growing by one character at a time ends where reading at once does", () => {
  expect(blocks(grown([...RICH]))).toEqual(parseBlocks(RICH));
});

test("however it is cut, the end is the same", () => {
  const piece = fc.constantFrom(
    "a ",
    "\n",
    "\n\n",
    "- b\n",
    "  c\n",
    "```\n",
    "> q\n",
    "|x|y|\n|-|-|\n",
    "$$",
    "**",
    "# h\n",
    "    code\n",
    "---\n",
    "\r\n",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      const whole = pieces.join("").replace(/\r\n?/g, "\n");
      expect(blocks(grown(pieces))).toEqual(parseBlocks(whole));
    }),
    { numRuns: 1000 },
  );
});

test("what is settled keeps its identity", () => {
  const before = grow(EMPTY, "one\n\ntwo\n\nthr");
  const after = grow(before, "one\n\ntwo\n\nthree\n\nfour");
  expect(before.settled).toHaveLength(2);
  expect(after.settled.slice(0, 2)).toEqual(before.settled);
  expect(after.settled[0]).toBe(before.settled[0]);
  expect(grow(after, after.text)).toBe(after);
});

test("another text begins anew", () => {
  expect(blocks(grow(grow(EMPTY, "one\n\ntwo"), "three"))).toEqual(
    parseBlocks("three"),
  );
});
