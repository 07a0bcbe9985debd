/**
 * Heads: how one HTTP exchange is laid out on a stream, `headlen:u32 | head | body`.
 * docs/protocol.md §6.1 and §6.4.
 */

import { type Bytes, concat, EMPTY, fromUtf8, utf8 } from "../bytes.ts";
import { LocalProtocolError, RemoteProtocolError } from "../errors.ts";

export const HEAD_MAX = 12_288;
export const VERSION = 1;
export const TIMINGS_MAX = 32;
const LENGTH = 4;

const ID = /^[!-~]{1,128}$/;
const METHOD = /^[A-Z]{1,16}$/;
const PATH = /^\/[!-~]{0,2047}$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is the rule
const MODEL = /^[^\u0000-\u001f\u007f]{1,512}$/u;
const TYPE = /^[ -~]{0,256}$/;
const TIMING = /^[A-Za-z0-9_-]{1,32}$/;

/** `id` runs once. `path` is an absolute path of ASCII; `type` may be empty. */
export interface RequestHead {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly model: string | null;
  readonly type: string;
}

/** `status` is 200 to 599; `timing` holds milliseconds by name. */
export interface ResponseHead {
  readonly status: number;
  readonly type: string;
  readonly timing: Readonly<Record<string, number>>;
}

type Fields = Readonly<Record<string, unknown>>;

export function encodeRequestHead(head: RequestHead): Bytes {
  const { id, method, path, model, type } = head;
  return encodeHead({ v: VERSION, id, method, path, model, type });
}

export function encodeResponseHead(head: ResponseHead): Bytes {
  return encodeHead({ status: head.status, type: head.type, timing: head.timing });
}

export function readRequestHead(fields: Fields): RequestHead {
  if (fields["v"] !== VERSION)
    throw new RemoteProtocolError("a head of another version");
  return {
    id: text(fields, "id", ID),
    method: text(fields, "method", METHOD),
    path: text(fields, "path", PATH),
    model: fields["model"] === null ? null : text(fields, "model", MODEL),
    type: text(fields, "type", TYPE),
  };
}

export function readResponseHead(fields: Fields): ResponseHead {
  const status = fields["status"];
  if (
    typeof status !== "number" ||
    !Number.isInteger(status) ||
    status < 200 ||
    status > 599
  ) {
    throw new RemoteProtocolError("a head whose status is not 200 to 599");
  }
  return { status, type: text(fields, "type", TYPE), timing: timing(fields["timing"]) };
}

export interface Found<Head> {
  readonly head: Head;
  readonly size: number;
  readonly rest: Bytes;
}

/** Finds the head in a stream's bytes, however they are cut; `read` checks it. */
export class HeadReader<Head> {
  readonly #read: (fields: Fields) => Head;
  #buffer: Bytes = EMPTY;
  #isDone = false;

  constructor(read: (fields: Fields) => Head) {
    this.#read = read;
  }

  /**
   * The head, its `size` on the stream and the first bytes of the body, once; null while
   * it is incomplete.
   * RemoteProtocolError when it is too long or malformed, whichever shows first.
   */
  feed(data: Bytes): Found<Head> | null {
    if (this.#isDone) throw new LocalProtocolError("this stream's head has been read");
    const buffer = concat([this.#buffer, data]);
    this.#buffer = buffer;
    if (buffer.length < LENGTH) return null;
    const size = new DataView(buffer.buffer).getUint32(0);
    if (size > HEAD_MAX) {
      throw new RemoteProtocolError(`a head of ${size} bytes; 12,288 are allowed`);
    }
    const end = LENGTH + size;
    if (buffer.length < end) return null;
    this.#isDone = true;
    this.#buffer = EMPTY;
    const head = this.#read(parse(buffer.subarray(LENGTH, end)));
    return { head, size: end, rest: buffer.slice(end) };
  }
}

function encodeHead(fields: Fields): Bytes {
  const data = utf8(JSON.stringify(fields));
  if (data.length > HEAD_MAX) {
    throw new LocalProtocolError(`a head of ${data.length} bytes; 12,288 are allowed`);
  }
  const length = new Uint8Array(LENGTH);
  new DataView(length.buffer).setUint32(0, data.length);
  return concat([length, data]);
}

/** Repeated keys: the last counts, as everywhere that JSON is read plainly. */
function parse(data: Bytes): Fields {
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(data));
  } catch {
    throw new RemoteProtocolError("a head that is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new RemoteProtocolError("a head that is not a JSON object");
  }
  return value as Fields;
}

function text(fields: Fields, name: string, pattern: RegExp): string {
  const value = fields[name];
  if (typeof value !== "string" || !pattern.test(value)) {
    throw new RemoteProtocolError(`a head whose ${name} is missing or malformed`);
  }
  return value;
}

function timing(value: unknown): Readonly<Record<string, number>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new RemoteProtocolError("a head whose timing is missing");
  }
  const entries = Object.entries(value as Fields);
  if (entries.length > TIMINGS_MAX) {
    throw new RemoteProtocolError("a head whose timing is too long");
  }
  return Object.fromEntries(
    entries.map(([name, ms]) => [timed(name), milliseconds(ms)]),
  );
}

function timed(name: string): string {
  if (TIMING.test(name)) return name;
  throw new RemoteProtocolError("a head whose timing has a malformed name");
}

function milliseconds(value: unknown): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw new RemoteProtocolError("a head whose timing is not in milliseconds");
}
