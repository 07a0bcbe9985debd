import { expect, test } from "vitest";
import { fold, hasWords, marked, snippet, wordsOf } from "../../src/chat/search.ts";

test("case and accents do not count, and places stay the same", () => {
  expect(fold("Café ÅNGSTRÖM 😀 İ")).toHaveLength("Café ÅNGSTRÖM 😀 İ".length);
  expect(hasWords(fold("Ein Café in Ångström"), wordsOf("  ANGSTROM cafe "))).toBe(
    true,
  );
  expect(hasWords(fold("Ein Café"), wordsOf("cafe bar"))).toBe(false);
});

test("hits are marked as they were written", () => {
  expect(marked("The Café", ["cafe"])).toEqual([
    { text: "The ", isHit: false },
    { text: "Café", isHit: true },
  ]);
  expect(marked("nothing", ["else"])).toEqual([{ text: "nothing", isHit: false }]);
});

test("a snippet begins near the hit, at a word", () => {
  const pieces = snippet(`${"before ".repeat(30)}the needle ${"after ".repeat(60)}`, [
    "needle",
  ]);
  expect(pieces[0]).toEqual({ text: "… ", isHit: false });
  expect(pieces.map(({ text }) => text).join("")).toMatch(/^… before .*needle after/);
  expect(pieces.filter(({ isHit }) => isHit)).toEqual([
    { text: "needle", isHit: true },
  ]);
});
