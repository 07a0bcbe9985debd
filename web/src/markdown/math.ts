/** Pure: where mathematics is in Markdown: `$…$`, `$$…$$`, `\(…\)`, `\[…\]`. */

import type { TokenizerAndRendererExtension } from "marked";

const LIMIT = 4000; // characters of one formula

// As in Pandoc: no space inside the dollars, no digit after them; prices stay prices.
const DOLLAR = /^\$(?![\s$])((?:\\[^\n]|[^\\$\n])+?)(?<!\s)\$(?!\d)/;
const DOLLARS = /^\$\$((?:\\[\s\S]|[^\\$])+?)\$\$/;
const PAREN = /^\\\(([\s\S]+?)\\\)/;
const BRACKET = /^\\\[([\s\S]+?)\\\]/;
// No blank line inside: TeX allows none, and a block that is still open ends there.
const BLOCK =
  /^ {0,3}(?:\$\$((?:(?!\n[ \t]*\n)[\s\S])+?)\$\$|\\\[((?:(?!\n[ \t]*\n)[\s\S])+?)\\\]) *(?:\n|$)/;

export const mathBlock: TokenizerAndRendererExtension = {
  name: "mathBlock",
  level: "block",
  // Where a paragraph may end for it: at a new line only.
  start: (src) => /\n {0,3}(?:\$\$|\\\[)/.exec(src)?.index,
  tokenizer(src) {
    const found = BLOCK.exec(src.slice(0, LIMIT));
    if (found === null) return undefined;
    const text = (found[1] ?? found[2] ?? "").trim();
    return text ? { type: "mathBlock", raw: found[0], text } : undefined;
  },
};

export const mathInline: TokenizerAndRendererExtension = {
  name: "mathInline",
  level: "inline",
  start: (src) => /\$|\\[([]/.exec(src)?.index,
  tokenizer(src) {
    const part = src.slice(0, LIMIT);
    const display = DOLLARS.exec(part) ?? BRACKET.exec(part);
    const found = display ?? PAREN.exec(part) ?? DOLLAR.exec(part);
    if (found === null) return undefined;
    const text = (found[1] ?? "").trim();
    return { type: "mathInline", raw: found[0], text, isDisplay: display !== null };
  },
};
