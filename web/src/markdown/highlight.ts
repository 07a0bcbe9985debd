/**
 * Pure: colours for code, a line at a time. What a line leaves open (a comment, a string)
 * is handed to the next, so code that is still being written costs only its last line.
 * It knows words, strings, comments and numbers of some thirty languages, not their
 * grammars: enough to read by.
 */

export type Kind =
  | "plain"
  | "comment"
  | "string"
  | "number"
  | "keyword"
  | "type"
  | "call"
  | "tag"
  | "name"
  | "added"
  | "removed";

export interface Span {
  readonly kind: Kind;
  readonly text: string;
}

/** What a line leaves open: the mark that will end it, and how it is shown. */
export interface Open {
  readonly end: string;
  readonly kind: Kind;
}

interface Language {
  readonly words: ReadonlySet<string>;
  readonly types?: ReadonlySet<string>;
  readonly line: readonly string[];
  readonly block: readonly (readonly [start: string, end: string])[];
  /** Strings of one line. */
  readonly quotes: readonly string[];
  /** Strings of several lines. */
  readonly long: readonly (readonly [start: string, end: string])[];
  readonly ignoresCase?: boolean;
}

const set = (words: string): ReadonlySet<string> => new Set(words.split(" "));

const C_COMMENTS = { line: ["//"], block: [["/*", "*/"]] as const };
const HASH = { line: ["#"], block: [] };

const SCRIPT: Language = {
  ...C_COMMENTS,
  words: set(
    "abstract any as asserts async await break case catch class const continue debugger declare default delete do else enum export extends false finally for from function get if implements import in infer instanceof interface is keyof let namespace never new null of package private protected public readonly return satisfies set static super switch this throw true try type typeof undefined unknown using var void while with yield",
  ),
  types: set(
    "string number boolean object bigint symbol Array Promise Map Set Record Partial Error Date RegExp Uint8Array",
  ),
  quotes: ['"', "'"],
  long: [["`", "`"]],
};

const PYTHON: Language = {
  ...HASH,
  words: set(
    "False None True and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try type while with yield",
  ),
  types: set("int str float bool bytes list dict set tuple object Any Exception"),
  quotes: ['"', "'"],
  long: [
    ['"""', '"""'],
    ["'''", "'''"],
  ],
};

const C: Language = {
  ...C_COMMENTS,
  words: set(
    "alignas alignof auto break case catch class concept const constexpr const_cast continue co_await co_return co_yield decltype default delete do dynamic_cast else enum explicit export extern false final for friend goto if inline mutable namespace new noexcept nullptr operator override private protected public register reinterpret_cast requires return sizeof static static_assert static_cast struct switch template this throw true try typedef typename union using virtual volatile while NULL include define ifdef ifndef endif pragma",
  ),
  types: set(
    "bool char double float int long short signed unsigned void size_t string vector map wchar_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t",
  ),
  quotes: ['"', "'"],
  long: [],
};

const JAVA: Language = {
  ...C_COMMENTS,
  words: set(
    "abstract as async await base break by case catch checked class companion const constructor continue data default delegate do else enum event explicit extends extern false final finally fixed for foreach fun get goto if implements implicit import in init inline instanceof interface internal is lateinit lock namespace native new null object open operator out override package params partial permits private protected public readonly record ref return sealed set static strictfp super suspend switch synchronized this throw throws transient true try typeof unsafe using val var virtual volatile when where while with yield",
  ),
  types: set(
    "bool boolean byte char decimal double float int long short void string String Integer Long Double List Map Set Object Any Unit Boolean Int",
  ),
  quotes: ['"', "'"],
  long: [['"""', '"""']],
};

const RUST: Language = {
  ...C_COMMENTS,
  words: set(
    "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type union unsafe use where while yield",
  ),
  types: set(
    "bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize String Vec Option Result Box Some None Ok Err",
  ),
  quotes: ['"'],
  long: [['r#"', '"#']],
};

const GO: Language = {
  ...C_COMMENTS,
  words: set(
    "break case chan const continue default defer else fallthrough false for func go goto if import interface iota map nil package range return select struct switch true type var",
  ),
  types: set(
    "any bool byte complex64 complex128 error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 uintptr",
  ),
  quotes: ['"', "'"],
  long: [["`", "`"]],
};

const SWIFT: Language = {
  ...C_COMMENTS,
  words: set(
    "actor any as async await break case catch class continue default defer deinit do else enum extension fallthrough false fileprivate for func get guard if import in init inout internal is lazy let mutating nil open operator override private protocol public repeat required rethrows return self Self set some static struct subscript super switch throw throws true try typealias var weak where while",
  ),
  types: set(
    "Int String Double Float Bool Character Array Dictionary Set Optional Any Void Error",
  ),
  quotes: ['"'],
  long: [['"""', '"""']],
};

const SHELL: Language = {
  ...HASH,
  words: set(
    "alias break case cd continue declare do done echo elif else esac eval exec exit export fi for function if in local printf read return select set shift source sudo test then trap unset until while",
  ),
  quotes: ["'", '"'],
  long: [],
};

const RUBY: Language = {
  ...HASH,
  words: set(
    "alias and begin break case class def defined? do else elsif end ensure false for if in module next nil not or private protected public redo require rescue retry return self super then true undef unless until when while yield",
  ),
  quotes: ['"', "'", "`"],
  long: [],
};

const PHP: Language = {
  line: ["//", "#"],
  block: [["/*", "*/"]],
  words: set(
    "abstract and array as break callable case catch class clone const continue declare default do echo else elseif empty enum extends false final finally fn for foreach function global goto if implements include instanceof interface isset list match namespace new null or print private protected public readonly require return static switch this throw trait true try unset use var while yield",
  ),
  quotes: ['"', "'"],
  long: [],
};

const SQL: Language = {
  line: ["--"],
  block: [["/*", "*/"]],
  words: set(
    "add all alter and as asc begin between by case check column commit constraint create cross database default delete desc distinct drop else end exists explain false foreign from full group having if in index inner insert intersect into is join key left like limit not null offset on or order outer over partition primary references returning right rollback select set table then transaction true union unique update using values view when where with",
  ),
  types: set(
    "bigint blob boolean char date decimal float int integer json jsonb numeric real serial text timestamp uuid varchar",
  ),
  quotes: ["'", '"'],
  long: [],
  ignoresCase: true,
};

const LUA: Language = {
  line: ["--"],
  block: [["--[[", "]]"]],
  words: set(
    "and break do else elseif end false for function goto if in local nil not or repeat return then true until while",
  ),
  quotes: ['"', "'"],
  long: [["[[", "]]"]],
};

const HASKELL: Language = {
  line: ["--"],
  block: [["{-", "-}"]],
  words: set(
    "as case class data default deriving do else family forall hiding if import in infix infixl infixr instance let module newtype of qualified then type where",
  ),
  quotes: ['"'],
  long: [],
};

const CONFIG: Language = {
  ...HASH,
  words: set("true false null yes no on off"),
  quotes: ['"', "'"],
  long: [['"""', '"""']],
};
const INI: Language = { ...CONFIG, line: ["#", ";"] };
const JSON_: Language = {
  ...C_COMMENTS,
  words: set("true false null"),
  quotes: ['"'],
  long: [],
};
const CSS: Language = {
  line: [],
  block: [["/*", "*/"]],
  words: set(
    "important media supports keyframes import layer container font-face from to and not only var calc",
  ),
  quotes: ['"', "'"],
  long: [],
};
const SCSS: Language = { ...CSS, line: ["//"] };
const DOCKER: Language = {
  ...HASH,
  words: set(
    "add arg as cmd copy entrypoint env expose from healthcheck label run shell user volume workdir",
  ),
  quotes: ['"', "'"],
  long: [],
  ignoresCase: true,
};
const R: Language = {
  ...HASH,
  words: set(
    "break else FALSE for function if in Inf library NA NaN next NULL repeat return TRUE while",
  ),
  quotes: ['"', "'"],
  long: [],
};

const LANGUAGES: Readonly<Record<string, Language>> = {
  javascript: SCRIPT,
  js: SCRIPT,
  jsx: SCRIPT,
  mjs: SCRIPT,
  typescript: SCRIPT,
  ts: SCRIPT,
  tsx: SCRIPT,
  python: PYTHON,
  py: PYTHON,
  python3: PYTHON,
  c: C,
  h: C,
  cpp: C,
  "c++": C,
  cc: C,
  hpp: C,
  cuda: C,
  arduino: C,
  glsl: C,
  zig: C,
  java: JAVA,
  kotlin: JAVA,
  kt: JAVA,
  csharp: JAVA,
  "c#": JAVA,
  cs: JAVA,
  scala: JAVA,
  dart: JAVA,
  groovy: JAVA,
  rust: RUST,
  rs: RUST,
  go: GO,
  golang: GO,
  swift: SWIFT,
  bash: SHELL,
  sh: SHELL,
  shell: SHELL,
  zsh: SHELL,
  fish: SHELL,
  console: SHELL,
  powershell: SHELL,
  ruby: RUBY,
  rb: RUBY,
  elixir: RUBY,
  php: PHP,
  sql: SQL,
  postgresql: SQL,
  mysql: SQL,
  sqlite: SQL,
  lua: LUA,
  haskell: HASKELL,
  hs: HASKELL,
  elm: HASKELL,
  json: JSON_,
  json5: JSON_,
  jsonc: JSON_,
  yaml: CONFIG,
  yml: CONFIG,
  toml: CONFIG,
  ini: INI,
  conf: INI,
  nginx: CONFIG,
  make: CONFIG,
  makefile: CONFIG,
  hcl: CONFIG,
  terraform: CONFIG,
  css: CSS,
  scss: SCSS,
  less: SCSS,
  dockerfile: DOCKER,
  docker: DOCKER,
  r: R,
};
const MARKUP = new Set(["html", "xml", "svg", "vue", "svelte", "xhtml"]);

/** A line in colours, and what it leaves open. Spans together are the line. */
export function highlightLine(
  line: string,
  language: string,
  open: Open | null,
): { spans: Span[]; open: Open | null } {
  if (language === "diff" || language === "patch")
    return { spans: [diffLine(line)], open: null };
  if (MARKUP.has(language)) return markupLine(line, open);
  const known = Object.hasOwn(LANGUAGES, language) ? LANGUAGES[language] : undefined;
  if (known === undefined)
    return { spans: [{ kind: "plain", text: line }], open: null };
  return new LineScanner(line, known).scan(open);
}

function diffLine(text: string): Span {
  if (text.startsWith("+")) return { kind: "added", text };
  if (text.startsWith("-")) return { kind: "removed", text };
  return { kind: text.startsWith("@@") ? "keyword" : "plain", text };
}

const WORD = /[\p{L}_$@][\p{L}\p{N}_$]*/uy;
const NUMBER = /(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)\w*/y;
const OTHER = /[^\p{L}\p{N}_$@"'`/#\-;{[(]+|./uy;

class LineScanner {
  readonly #line: string;
  readonly #language: Language;
  readonly #spans: Span[] = [];
  #at = 0;

  constructor(line: string, language: Language) {
    this.#line = line;
    this.#language = language;
  }

  scan(open: Open | null): { spans: Span[]; open: Open | null } {
    let rest = open === null ? null : this.#until(open, 0);
    while (rest === null && this.#at < this.#line.length) rest = this.#next();
    return { spans: this.#spans, open: rest };
  }

  /** Something that ends at a mark, on this line or on a later one. */
  #until(open: Open, skip: number): Open | null {
    const end = this.#line.indexOf(open.end, this.#at + skip);
    this.#take(open.kind, end < 0 ? this.#line.length : end + open.end.length);
    return end < 0 ? open : null;
  }

  #next(): Open | null {
    const language = this.#language;
    for (const [start, end] of language.block) {
      if (this.#is(start)) return this.#until({ end, kind: "comment" }, start.length);
    }
    for (const [start, end] of language.long) {
      if (this.#is(start)) return this.#until({ end, kind: "string" }, start.length);
    }
    if (language.line.some((mark) => this.#is(mark) && this.#mayComment(mark))) {
      this.#take("comment", this.#line.length);
    } else if (language.quotes.some((quote) => this.#is(quote))) {
      this.#take("string", this.#stringEnd());
    } else if (
      !this.#match(NUMBER, () => "number") &&
      !this.#match(WORD, (word) => this.#kindOf(word))
    ) {
      this.#match(OTHER, () => "plain");
    }
    return null;
  }

  /** `#` begins a comment only where a word could: not in `$#` or `a#b`. */
  #mayComment(mark: string): boolean {
    return (
      mark !== "#" || this.#at === 0 || /[\s;({]/.test(this.#line[this.#at - 1] ?? "")
    );
  }

  #stringEnd(): number {
    const quote = this.#line[this.#at];
    for (let at = this.#at + 1; at < this.#line.length; at++) {
      if (this.#line[at] === "\\") at++;
      else if (this.#line[at] === quote) return at + 1;
    }
    return quote === "'" ? this.#at + 1 : this.#line.length; // an apostrophe, or a lifetime
  }

  #kindOf(word: string): Kind {
    const { words, types, ignoresCase } = this.#language;
    const folded = ignoresCase ? word.toLowerCase() : word;
    if (words.has(folded)) return "keyword";
    if (types?.has(folded)) return "type";
    if (word.startsWith("@")) return "name";
    const next = this.#line[this.#at + word.length];
    if (next === "(") return "call";
    if (/^[A-Z]\w*[a-z]/.test(word)) return "type";
    const rest = this.#line.slice(this.#at + word.length);
    return /^\s*[:=](?![:=>])/.test(rest) && this.#line.slice(0, this.#at).trim() === ""
      ? "name"
      : "plain";
  }

  #is(mark: string): boolean {
    return this.#line.startsWith(mark, this.#at);
  }

  #match(pattern: RegExp, kind: (text: string) => Kind): boolean {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#line)?.[0];
    if (!found) return false;
    this.#take(kind(found), this.#at + found.length);
    return true;
  }

  #take(kind: Kind, end: number): void {
    const text = this.#line.slice(this.#at, end);
    const last = this.#spans.at(-1);
    if (last?.kind === kind)
      this.#spans[this.#spans.length - 1] = { kind, text: last.text + text };
    else if (text) this.#spans.push({ kind, text });
    this.#at = end;
  }
}

const MARKUP_PART =
  /<!--[\s\S]*?(?:-->|$)|<\/?[\w:.-]+|\/?>|"[^"]*"|'[^']*'|[\w:@.-]+(?==)|[^<>"'\s]+|\s+|./gy;

function markupLine(
  line: string,
  open: Open | null,
): { spans: Span[]; open: Open | null } {
  if (open?.kind === "comment") {
    const end = line.indexOf(open.end);
    if (end < 0) return { spans: [{ kind: "comment", text: line }], open };
    const rest = markupLine(line.slice(end + 3), null);
    return {
      spans: [{ kind: "comment", text: line.slice(0, end + 3) }, ...rest.spans],
      open: rest.open,
    };
  }
  const spans: Span[] = [];
  let inTag = open?.kind === "tag";
  let unfinished = false;
  for (const [text] of line.matchAll(MARKUP_PART)) {
    const kind = markupKind(text, inTag);
    if (kind === "comment") unfinished = !text.endsWith("-->");
    if (kind === "tag") inTag = text.startsWith("<");
    spans.push({ kind, text });
  }
  if (unfinished) return { spans, open: { end: "-->", kind: "comment" } };
  return { spans, open: inTag ? { end: ">", kind: "tag" } : null };
}

function markupKind(text: string, inTag: boolean): Kind {
  if (text.startsWith("<!--")) return "comment";
  if (/^<\/?[\w:.-]/.test(text) || (inTag && /^\/?>$/.test(text))) return "tag";
  if (!inTag) return "plain";
  if (/^["']/.test(text)) return "string";
  return /^[\w:@.-]+$/.test(text) ? "name" : "plain";
}
