/** One exchange on a stream: the question goes out, the answer is read. */

import { type Bytes, EMPTY, toHex } from "../bytes.ts";
import type { Answer, Ask, PathKind } from "../connection.ts";
import { Code, PeerUnreachable } from "../errors.ts";
import {
  encodeRequestHead,
  type Found,
  HeadReader,
  type ResponseHead,
  readResponseHead,
} from "../protocol/exchange.ts";
import type { Link, Stream } from "../transport/link.ts";
import { randomBytes } from "../transport/random.ts";
import type { Provider } from "./roster.ts";

export const WENT_AWAY = "The program went away.";
const WRITE_BYTES = 65_536;

/** Where an answer comes from. */
export interface Origin {
  readonly provider: Provider;
  readonly link: Link;
  readonly stream: Stream;
}

export interface Told {
  readonly status: number;
  readonly contentType: string;
  readonly timing: Readonly<Record<string, number>>;
  /** What came of the body along with the head. */
  readonly rest: Bytes;
  readonly signal: AbortSignal;
  /** It has ended, in whatever way. */
  readonly end: () => void;
}

/** An answer that arrives on a stream. */
export class StreamAnswer implements Answer {
  readonly status: number;
  readonly contentType: string;
  readonly provider: { readonly id: string; readonly name: string };
  readonly timing: Readonly<Record<string, number>>;
  readonly #from: Origin;
  readonly #told: Told;
  #rest: Bytes;

  constructor(from: Origin, told: Told) {
    const { id, name } = from.provider;
    const rttS = from.link.wire?.path.rttS;
    this.#from = from;
    this.#told = told;
    this.#rest = told.rest;
    this.status = told.status;
    this.contentType = told.contentType;
    this.provider = { id, name };
    this.timing = { ...told.timing, ...(rttS == null ? {} : { rtt: rttS * 1_000 }) };
  }

  get path(): PathKind {
    return this.#from.link.wire?.carrier.kind ?? "host";
  }

  /** Of a whole answer there is nothing left to cancel. */
  cancel(): void {
    this.#from.stream.reset(Code.CANCELLED, WENT_AWAY);
    this.#told.end();
  }

  /** No generator: one that is left before it began would cancel nothing. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return {
      next: () => this.#next(),
      return: async () => this.#done(),
    };
  }

  async #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const { signal } = this.#told;
    try {
      signal.throwIfAborted();
      const rest = this.#rest;
      this.#rest = EMPTY;
      const value = rest.length > 0 ? rest : await this.#from.stream.read();
      return value.length > 0 ? { done: false, value } : this.#done();
    } catch (error) {
      this.cancel();
      signal.throwIfAborted();
      throw error;
    }
  }

  #done(): IteratorReturnResult<undefined> {
    this.cancel();
    return { done: true, value: undefined };
  }
}

/** The head of a question's stream. */
export function headOf(ask: Ask): Bytes {
  const { method, path, model, body } = ask;
  const id = toHex(randomBytes(16));
  const type = body.length > 0 ? "application/json" : "";
  return encodeRequestHead({ id, method, path, model, type });
}

export async function send(
  stream: Stream,
  parts: readonly Uint8Array[],
): Promise<void> {
  for (const part of parts) {
    for (let at = 0; at < part.length; at += WRITE_BYTES) {
      await stream.drain();
      stream.write(part.subarray(at, at + WRITE_BYTES));
    }
  }
  stream.finish();
}

/** A provider may refuse, and so answer, before it has read all that is sent. */
export async function readHead(stream: Stream): Promise<Found<ResponseHead>> {
  const reader = new HeadReader(readResponseHead);
  for (;;) {
    const data = await stream.read();
    if (data.length === 0) {
      throw new PeerUnreachable("The provider's answer ended before it began.");
    }
    const found = reader.feed(data);
    if (found !== null) return found;
  }
}
