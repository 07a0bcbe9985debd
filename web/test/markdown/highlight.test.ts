import fc from "fast-check";
import { expect, test } from "vitest";
import { highlightLine, type Kind, type Open } from "../../src/markdown/highlight.ts";

function kinds(code: string, language: string): [Kind, string][] {
  let open: Open | null = null;
  const found: [Kind, string][] = [];
  for (const line of code.split("\n")) {
    const result = highlightLine(line, language, open);
    found.push(...result.spans.map(({ kind, text }): [Kind, string] => [kind, text]));
    open = result.open;
  }
  return found.filter(([kind]) => kind !== "plain");
}

test("words, strings, numbers and comments of Python", () => {
  expect(kinds("def f(x): return 'a\\'b' + str(0x1F)  # why", "python")).toEqual([
    ["keyword", "def"],
    ["call", "f"],
    ["keyword", "return"],
    ["string", "'a\\'b'"],
    ["type", "str"],
    ["number", "0x1F"],
    ["comment", "# why"],
  ]);
});

test("what a line leaves open goes on in the next", () => {
  expect(kinds('"""a\nb""" if', "python")).toEqual([
    ["string", '"""a'],
    ["string", 'b"""'],
    ["keyword", "if"],
  ]);
  expect(kinds("/* a\nb */ let", "rust")).toEqual([
    ["comment", "/* a"],
    ["comment", "b */"],
    ["keyword", "let"],
  ]);
});

test("markup, shell and diffs", () => {
  expect(kinds('<a href="x">t</a>', "html")).toEqual([
    ["tag", "<a"],
    ["name", "href"],
    ["string", '"x"'],
    ["tag", ">"],
    ["tag", "</a"],
    ["tag", ">"],
  ]);
  expect(kinds("echo $# a#b # c", "sh").at(-1)).toEqual(["comment", "# c"]);
  expect(kinds("+a\n-b\n c", "diff")).toEqual([
    ["added", "+a"],
    ["removed", "-b"],
  ]);
  expect(kinds("SELECT 1", "sql")[0]).toEqual(["keyword", "SELECT"]);
});

test("an apostrophe does not swallow the line", () => {
  expect(kinds("fn f<'a>(x: &'a str) -> u8", "rust")).toContainEqual(["type", "u8"]);
});

test("unknown languages are plain", () => {
  expect(kinds("let x = 1", "klingon")).toEqual([]);
  expect(kinds("x", "constructor")).toEqual([]);
});

test("spans together are always the line", () => {
  const language = fc.constantFrom(
    "python",
    "js",
    "html",
    "sql",
    "rust",
    "bash",
    "yaml",
    "css",
    "diff",
    "php",
    "",
  );
  const line = fc.string({ unit: fc.constantFrom(..."ab1 \"'`#/*-<>=!{}$\\é😀") });
  const open = fc.constantFrom<Open | null>(
    null,
    { end: "*/", kind: "comment" },
    { end: "-->", kind: "comment" },
    { end: ">", kind: "tag" },
  );
  fc.assert(
    fc.property(line, language, open, (text, name, before) => {
      const { spans } = highlightLine(text, name, before);
      expect(spans.map((span) => span.text).join("")).toBe(text);
    }),
  );
});
