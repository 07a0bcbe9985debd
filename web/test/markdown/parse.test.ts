import { expect, test } from "vitest";
import type { Block, Inline } from "../../src/markdown/ast.ts";
import { decodeEntities } from "../../src/markdown/entities.ts";
import { parseBlocks, safeHref } from "../../src/markdown/parse.ts";

function inlines(text: string): readonly Inline[] {
  const [block] = parseBlocks(text);
  if (block?.type !== "paragraph") throw new Error(`${block?.type} is no paragraph`);
  return block.children;
}

test("blocks are what they look like", () => {
  const types = parseBlocks(
    "# T\n\np\n\n- a\n\n1. b\n\n> q\n\n```js\nc\n```\n\n|a|\n|-|\n|1|\n\n---\n\n$$x$$\n",
  ).map(({ type }) => type);
  expect(types).toEqual([
    "heading",
    "paragraph",
    "list",
    "list",
    "quote",
    "code",
    "table",
    "rule",
    "math",
  ]);
});

test("code keeps its text, and a name of a language that is one", () => {
  expect(parseBlocks("```C++ title=x\n<b>&amp;\n```")).toEqual([
    { type: "code", language: "c++", text: "<b>&amp;" },
  ]);
  expect(parseBlocks("```{.evil\nx")).toEqual([
    { type: "code", language: "", text: "x" },
  ]);
});

test("lists know their first number, their boxes and their looseness", () => {
  expect(parseBlocks("3. a\n4. b")).toMatchObject([
    { type: "list", start: 3, isLoose: false },
  ]);
  expect(parseBlocks("- [x] a\n- [ ] b\n- c")).toMatchObject([
    {
      start: null,
      items: [{ isChecked: true }, { isChecked: false }, { isChecked: null }],
    },
  ]);
});

test("tables keep their alignment, and line breaks in cells", () => {
  const [table] = parseBlocks("|a|b|\n|:-:|-:|\n|1<br>2|`x`|");
  expect(table).toMatchObject({
    type: "table",
    align: ["center", "right"],
    rows: [
      [
        [{ text: "1" }, { type: "break" }, { text: "2" }],
        [{ type: "code", text: "x" }],
      ],
    ],
  });
});

test("HTML is text", () => {
  const text = "<script>alert(1)</script> and <b onclick=x>bold</b> &lt;i&gt;";
  expect(
    inlines(text)
      .map((node) => (node.type === "text" ? node.text : node.type))
      .join(""),
  ).toBe("<script>alert(1)</script> and <b onclick=x>bold</b> <i>");
  expect(parseBlocks("<div>\n<img src=x onerror=alert(1)>\n</div>")).toMatchObject([
    { type: "paragraph" },
  ]);
});

test("links lead to the web and to mail, and nowhere else", () => {
  expect(inlines("[a](https://example.org/x?y=1)")).toEqual([
    {
      type: "link",
      href: "https://example.org/x?y=1",
      children: [{ type: "text", text: "a" }],
    },
  ]);
  expect(inlines("see https://example.org now")).toMatchObject([
    {},
    { type: "link" },
    {},
  ]);
});

test.each([
  "javascript:alert(1)",
  "JaVaScRiPt:alert(1)",
  "java\nscript:alert(1)",
  "&#106;avascript:alert(1)",
  "\u0001javascript:alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "vbscript:msgbox(1)",
  "file:///etc/passwd",
  "blob:https://example.org/x",
  "//example.org/x",
  "/api/delete",
  "#/0123",
  "https://user:password@example.org/",
  "http://",
])("%j is no link", (href) => {
  expect(safeHref(decodeEntities(href))).toBeNull();
});

test("a picture is a link that says so: nothing is fetched", () => {
  expect(inlines("![cat](https://example.org/cat.png)")).toEqual([
    {
      type: "link",
      href: "https://example.org/cat.png",
      children: [{ type: "text", text: "[picture: cat]" }],
    },
  ]);
  expect(inlines("![x](data:image/png;base64,AA)")).toEqual([
    { type: "text", text: "[picture: x]" },
  ]);
});

test.each([
  ["$x^2$", "x^2", false],
  ["\\(a_1\\)", "a_1", false],
  ["inline $$y$$ here", "y", true],
  ["so \\[z*z*z\\] there", "z*z*z", true],
])("%s is mathematics", (text, tex, isDisplay) => {
  expect(inlines(text)).toContainEqual({ type: "math", text: tex, isDisplay });
});

test.each(["It costs $5 and $10.", "a $ b $ c", "`$x$`", "\\$x\\$"])(
  "%s is none",
  (text) => {
    expect(inlines(text).some(({ type }) => type === "math")).toBe(false);
  },
);

test("blocks of mathematics span lines", () => {
  expect(parseBlocks("$$\na\n= b\n$$\n\nafter")).toMatchObject([
    { type: "math", text: "a\n= b" },
    { type: "paragraph" },
  ]);
  expect(parseBlocks("\\[\nc\n\\]")).toEqual([{ type: "math", text: "c" }]);
});

test("entities are characters, known ones only", () => {
  expect(
    decodeEntities("&amp;&#65;&#x42;&hellip;&nope;&#0;&#xD800;&constructor;"),
  ).toBe("&AB…&nope;\ufffd\ufffd&constructor;");
});

function depth(block: Block | undefined): number {
  return block?.type === "quote" ? 1 + depth(block.children[0]) : 0;
}

test("depth is bounded, and so is the time for hostile text", () => {
  expect(depth(parseBlocks(`${">".repeat(500)} x`)[0])).toBeLessThan(30);
  const started = performance.now();
  for (const hostile of [
    "*a ".repeat(5000),
    "[".repeat(5000),
    "`".repeat(9000),
    "$".repeat(9000),
    "|a".repeat(3000),
    "<!--".repeat(3000),
    "[a](".repeat(3000),
    "\\[".repeat(5000),
    "_*".repeat(4000),
  ]) {
    parseBlocks(hostile);
  }
  expect(performance.now() - started).toBeLessThan(4000);
});
