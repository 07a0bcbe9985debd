/**
 * Pure: Markdown into our own tree. `marked` cuts the text into tokens, and its name
 * stops at this file; its renderer, which makes HTML, is not even part of the build.
 * HTML in the text stays text, links lead to web pages and mail only, and a picture is a
 * link: nothing that a model writes is fetched.
 */

import {
  Lexer,
  Marked,
  type MarkedExtension,
  type Token as MarkedToken,
  type Tokens,
} from "marked";
import type { Align, Block, Inline, Item } from "./ast.ts";
import { decodeEntities } from "./entities.ts";
import { mathBlock, mathInline } from "./math.ts";

type Token = Tokens.Generic;

const options: MarkedExtension = {
  gfm: true,
  tokenizer: {
    html: () => undefined,
    tag: () => undefined,
  },
  extensions: [mathBlock, mathInline],
};
const marked = new Marked(options);

// A single block beyond this is shown as it is: no parser shall hold up the page.
const BLOCK_LIMIT = 200_000;
const DEPTH_LIMIT = 24;

/** A top-level block as it was written, and where it ends. */
export interface Piece {
  readonly raw: string;
  /** Null for blank lines between blocks. */
  readonly block: Block | null;
}

/** `raw` of all pieces together is the text. */
export function parse(text: string): Piece[] {
  if (text.length > BLOCK_LIMIT && !text.slice(0, BLOCK_LIMIT).includes("\n\n")) {
    return [
      { raw: text, block: { type: "paragraph", children: [{ type: "text", text }] } },
    ];
  }
  const lexer = new Lexer(marked.defaults);
  const source = text.replace(/\r\n?/g, "\n");
  return lexer
    .lex(source)
    .map((token) => ({ raw: token.raw, block: blockOf(token, 0) }));
}

export function parseBlocks(text: string): Block[] {
  return parse(text).flatMap(({ block }) => (block ? [block] : []));
}

function blocksOf(tokens: readonly MarkedToken[] | undefined, depth: number): Block[] {
  return (tokens ?? []).flatMap((token) => blockOf(token, depth) ?? []);
}

function blockOf(token: Token, depth: number): Block | null {
  if (depth > DEPTH_LIMIT)
    return { type: "paragraph", children: [{ type: "text", text: token.raw }] };
  switch (token.type) {
    case "space":
    case "def":
    case "checkbox":
      return null;
    case "heading":
      return {
        type: "heading",
        level: token["depth"],
        children: inlines(token["tokens"]),
      };
    case "code":
      return { type: "code", language: languageOf(token["lang"]), text: token["text"] };
    case "mathBlock":
      return { type: "math", text: token["text"] };
    case "hr":
      return { type: "rule" };
    case "blockquote":
      return { type: "quote", children: blocksOf(token["tokens"], depth + 1) };
    case "list":
      return listOf(token as Tokens.List, depth);
    case "table":
      return tableOf(token as Tokens.Table);
    default:
      return { type: "paragraph", children: inlines(token["tokens"] ?? [token]) };
  }
}

function languageOf(info: unknown): string {
  return /^[\w+#.-]{1,24}/.exec(String(info ?? ""))?.[0].toLowerCase() ?? "";
}

function listOf(token: Tokens.List, depth: number): Block {
  const items: Item[] = token.items.map((item) => ({
    isChecked: item.task ? item.checked === true : null,
    children: blocksOf(item.tokens, depth + 1),
  }));
  return {
    type: "list",
    start: token.ordered ? Number(token.start) || 1 : null,
    isLoose: token.loose,
    items,
  };
}

function tableOf(token: Tokens.Table): Block {
  return {
    type: "table",
    align: token.align as Align[],
    header: token.header.map((cell) => inlines(cell.tokens)),
    rows: token.rows.map((row) => row.map((cell) => inlines(cell.tokens))),
  };
}

function inlines(tokens: readonly MarkedToken[] | undefined): Inline[] {
  return (tokens ?? []).flatMap(inline);
}

function inline(token: Token): Inline[] {
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return [{ type: token.type, children: inlines(token["tokens"]) }];
    case "codespan":
      return [{ type: "code", text: token["text"] }];
    case "mathInline":
      return [{ type: "math", text: token["text"], isDisplay: token["isDisplay"] }];
    case "br":
      return [{ type: "break" }];
    case "checkbox":
      return [];
    case "link":
      return link(token["href"], inlines(token["tokens"]));
    case "image":
      return link(token["href"], [{ type: "text", text: pictureText(token) }]);
    case "escape":
      return [{ type: "text", text: token["text"] }];
    default:
      return token["tokens"]
        ? inlines(token["tokens"])
        : words(token["text"] ?? token.raw);
  }
}

function pictureText(token: Token): string {
  return `[picture: ${decodeEntities(token["text"] || token["href"])}]`;
}

/** Text, with the line breaks that are written as HTML, in tables above all. */
function words(text: string): Inline[] {
  return text.split(/<br\s*\/?>/i).flatMap((part, index): Inline[] => {
    const plain: Inline[] = part ? [{ type: "text", text: decodeEntities(part) }] : [];
    return index > 0 ? [{ type: "break" }, ...plain] : plain;
  });
}

function link(href: string, children: Inline[]): Inline[] {
  const safe = safeHref(decodeEntities(href));
  return safe === null ? children : [{ type: "link", href: safe, children }];
}

/** An address that may be followed; null for every other scheme, and for relative ones. */
export function safeHref(href: string): string | null {
  let url: URL;
  try {
    url = new URL(href);
  } catch {
    return null;
  }
  if (url.protocol === "mailto:") return url.href;
  const isWeb = url.protocol === "http:" || url.protocol === "https:";
  return isWeb && url.hostname !== "" && !url.username && !url.password
    ? url.href
    : null;
}
