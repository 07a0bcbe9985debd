import fc from "fast-check";
import { expect, test } from "vitest";
import {
  LineReader,
  readChunk,
  readError,
  ThoughtSplitter,
} from "../../src/chat/lines.ts";

const encode = (text: string) => new TextEncoder().encode(text);

test("lines are whole however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: "grapheme" })),
      fc.integer({ min: 1, max: 7 }),
      (texts, size) => {
        const bytes = encode(
          texts.map((text) => `${JSON.stringify({ text })}\n`).join(""),
        );
        const reader = new LineReader();
        const lines: unknown[] = [];
        for (let at = 0; at < bytes.length; at += size) {
          lines.push(...reader.feed(bytes.subarray(at, at + size)));
        }
        lines.push(...reader.end());
        expect(lines).toEqual(texts.map((text) => ({ text })));
      },
    ),
  );
});

test("a last line may lack its newline, and blank lines say nothing", () => {
  const reader = new LineReader();
  expect(reader.feed(encode('{"a":1}\n\n{"b":'))).toEqual([{ a: 1 }]);
  expect(reader.feed(encode("2}"))).toEqual([]);
  expect(reader.end()).toEqual([{ b: 2 }]);
});

test("what is no JSON throws", () => {
  expect(() => new LineReader().feed(encode("<html>\n"))).toThrow(SyntaxError);
});

test("a chunk says text, thinking, an error, or how it ended", () => {
  expect(readChunk({ message: { content: "a", thinking: "b" } })).toMatchObject({
    text: "a",
    thinking: "b",
    end: null,
    error: null,
  });
  expect(readChunk({ error: "no" }).error).toBe("no");
  expect(readChunk({ error: { message: "no" } }).error).toBe("no");
  const end = {
    done: true,
    done_reason: "length",
    eval_count: 7,
    eval_duration: 2e9,
    load_duration: 5e6,
  };
  expect(readChunk(end).end).toEqual({
    reason: "length",
    tokens: 7,
    promptTokens: null,
    evalMs: 2000,
    loadMs: 5,
  });
});

test.each([null, 3, "x", [], { message: 3 }, { message: { content: {} } }])(
  "%j is a chunk that says nothing",
  (line) => {
    expect(readChunk(line)).toEqual({ text: "", thinking: "", end: null, error: null });
  },
);

test("errors have a text in both APIs' shapes, and none otherwise", () => {
  expect(readError("away")).toBe("away");
  expect(readError({ message: "away" })).toBe("away");
  expect(readError("")).toBeNull();
  expect(readError(undefined)).toBeNull();
});

function split(pieces: readonly string[]): { text: string; thinking: string } {
  const splitter = new ThoughtSplitter();
  const parts = [...pieces.map((piece) => splitter.feed(piece)), splitter.end()];
  return {
    text: parts.map((part) => part.text).join(""),
    thinking: parts.map((part) => part.thinking).join(""),
  };
}

test("thoughts in tags are taken apart wherever the tags are cut", () => {
  const whole = "\n<think>first < second</think>\n\nThe answer </think> stays.";
  for (let cut = 1; cut < whole.length; cut++) {
    const pieces = [
      whole.slice(0, cut),
      whole.slice(cut, cut + 3),
      whole.slice(cut + 3),
    ];
    const { text, thinking } = split(pieces);
    expect(thinking).toBe("first < second");
    expect(text.trim()).toBe("The answer </think> stays.");
  }
});

test("text that only begins like a tag is text", () => {
  expect(split(["<thi", "s is <b>"])).toEqual({ text: "<this is <b>", thinking: "" });
  expect(split(["<thin"])).toEqual({ text: "<thin", thinking: "" });
  expect(split(["Say <think> aloud"])).toEqual({
    text: "Say <think> aloud",
    thinking: "",
  });
});

test("thoughts without an end are thoughts all the same", () => {
  expect(split(["<think>cut sho", "rt</thi"])).toEqual({
    text: "",
    thinking: "cut short</thi",
  });
});
