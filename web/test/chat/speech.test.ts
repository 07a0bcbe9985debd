import { expect, test } from "vitest";
import { sentences } from "../../src/chat/speech.ts";

test("only whole sentences are said, and each once", () => {
  const text = "First one. Second tw";
  const first = sentences(text, 0, false);
  expect(first).toEqual({ text: "First one.", upTo: 10 });
  expect(sentences(text, first.upTo, false).text).toBe("");
  expect(sentences(`${text}o!`, first.upTo, true)).toEqual({
    text: "Second two!",
    upTo: 22,
  });
});

test("marks for the eye are not said", () => {
  const text =
    "## Title\n- **bold** and [a link](https://example.org)\n```js\ncode\n```\n";
  expect(sentences(text, 0, true).text).toBe("Title bold and a link code");
});
