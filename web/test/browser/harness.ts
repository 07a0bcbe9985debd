/**
 * What a test in a real browser calls: the page's own modules, under `window.harness`.
 * It has no face; tests/browser drives it.
 */

import type { Answer, Connection } from "../../src/connection.ts";
import { json } from "../../src/connection.ts";
import { connectGateway } from "../../src/gatewayConnection.ts";
import { Home } from "../../src/home.ts";
import { join } from "../../src/joining.ts";
import { connectMesh } from "../../src/meshConnection.ts";

/** An answer under way, read by a test bit by bit. */
interface Reading {
  readonly answer: Answer;
  readonly reader: AsyncIterator<Uint8Array>;
  readonly abort: AbortController;
  readonly chunks: Uint8Array[];
}

const made: RTCPeerConnection[] = [];
// So that a test can lose a path as a browser does, without being told by the page.
globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(configuration?: RTCConfiguration) {
    super(configuration);
    made.push(this);
  }
};

let home: Home;
let connection: Connection;
const readings = new Map<string, Reading>();
const places: number[] = [];

/** Once `ready` holds, looked at after each event of the connection. */
function until(ready: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!ready()) return;
      end();
      resolve();
    };
    const end = connection.subscribe(look);
    look();
  });
}

function reading(name: string): Reading {
  const found = readings.get(name);
  if (found === undefined) throw new Error(`nothing is read as ${name}`);
  return found;
}

function base64(chunks: readonly Uint8Array[]): string {
  const parts = chunks.flatMap((chunk) =>
    Array.from(chunk, (b) => String.fromCharCode(b)),
  );
  return btoa(parts.join(""));
}

const harness = {
  async join(link: string, isSecure = isSecureContext) {
    home = await Home.open();
    const { admission, problem } = await join(home, link, isSecure);
    const { isGuarded, id } = home.identity;
    const { name, role, ticket } = admission;
    return { id, name, role, isProvisional: ticket !== null, isGuarded, problem };
  },

  /** As after a reload: what is stored is enough. */
  async connect() {
    home = await Home.open();
    const known = await home.known();
    if (known === null) throw new Error("in no mesh");
    connection = connectMesh(home, known);
    await until(() => connection.state().phase === "ready");
    return connection.me();
  },

  async connectGateway(url: string) {
    connection = connectGateway(url);
    await until(() => connection.state().phase === "ready");
  },

  untilPhase: (phase: string) => until(() => connection.state().phase === phase),

  paths: () => connection.paths(),
  places: () => places,
  peerConnections: () => made.length,

  async models() {
    await until(() => connection.models().length > 0);
    return connection.models();
  },

  /** `name` is also the key to take it up with. */
  async ask(name: string, model: string, prompt: string, provider?: string) {
    const abort = new AbortController();
    const body = json({ model, messages: [{ role: "user", content: prompt }] });
    const answer = await connection.ask({
      method: "POST",
      path: "/api/chat",
      model,
      body,
      signal: abort.signal,
      key: name,
      onQueue: (place) => places.push(place),
      ...(provider === undefined ? {} : { provider }),
    });
    const reader = answer[Symbol.asyncIterator]();
    readings.set(name, { answer, reader, abort, chunks: [] });
    const { status, contentType, path, timing } = answer;
    return { status, contentType, path, timing, provider: answer.provider };
  },

  /** At least `count` bytes of it. */
  async readSome(name: string, count: number) {
    const { reader, chunks } = reading(name);
    let size = chunks.reduce((total, chunk) => total + chunk.length, 0);
    while (size < count) {
      const { done, value } = await reader.next();
      if (done) break;
      chunks.push(value);
      size += value.length;
    }
    return size;
  },

  soFar: (name: string) => base64(reading(name).chunks),

  /** Those of another page, from so many bytes on; the names of what is not lost. */
  async resume(received: Readonly<Record<string, number>>) {
    const abort = new AbortController();
    const { signal } = abort;
    const kept = Object.entries(received).map(([key, count]) => {
      return [key, { received: count, signal }] as const;
    });
    const answers = await connection.resume(Object.fromEntries(kept));
    for (const [name, answer] of Object.entries(answers)) {
      const reader = answer[Symbol.asyncIterator]();
      readings.set(name, { answer, reader, abort, chunks: [] });
    }
    return Object.keys(answers);
  },

  /** All of it, in base64, from its first byte. */
  async read(name: string) {
    await harness.readSome(name, Number.POSITIVE_INFINITY);
    return base64(reading(name).chunks);
  },

  async cancel(name: string) {
    const { abort, reader } = reading(name);
    abort.abort(new DOMException("Stopped.", "AbortError"));
    return reader.next().then(
      () => "it went on",
      (error: Error) => error.name,
    );
  },

  /** What leaving a loop does. */
  async leave(name: string) {
    await reading(name).reader.return?.();
  },

  /** The newest peer connection is gone, without a word of the page's. */
  killPath() {
    made.at(-1)?.close();
  },

  probe: () => connection.probe(),
  close: () => connection.close(),
};

Object.assign(globalThis, { harness });
export type Harness = typeof harness;
