/** A gateway's API as a connection: over real HTTP, from a server that says what it is
 * told to. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Connection, json } from "../src/connection.ts";
import { NoRoute, StreamReset } from "../src/errors.ts";
import { connectGateway } from "../src/gatewayConnection.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
type Server = ReturnType<typeof createServer>;

const PROVIDER = "provider-of-many-characters";
const STATE = {
  me: { id: "i", mesh: "m", name: "laptop", role: "member", provisional: false },
  models: [
    {
      name: "a:latest",
      size: 5,
      capabilities: ["vision"],
      providers: [{ id: PROVIDER, name: "ada", path: "host" }],
    },
  ],
  paths: [
    {
      id: PROVIDER,
      name: "ada",
      path: "host",
      rtt_ms: 1.5,
      candidates: { local: "host 10.0.0.1:1", remote: "host 10.0.0.2:2" },
      streams: 1,
    },
  ],
  waiting: {},
  problem: null,
};
let server: Server;
let url: string;
let connection: Connection;
let chat: Handler = () => {};
const whole: Handler = (_, response) => response.end(JSON.stringify(STATE));
let look = whole;

beforeEach(async () => {
  look = whole;
  server = createServer((request, response) => {
    if (request.url === "/page/state") look(request, response);
    else chat(request, response);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  connection = connectGateway(url);
  await until(() => connection.models().length > 0);
});
afterEach(async () => {
  await connection.close();
  server.closeAllConnections();
  await new Promise((resolve) => {
    server.close(resolve);
  });
});

function until(ready: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const end = connection.subscribe(() => {
      if (!ready()) return;
      end();
      resolve();
    });
  });
}

function ask(signal?: AbortSignal, provider?: string) {
  return connection.ask({
    method: "POST",
    path: "/api/chat",
    model: "a",
    body: json({ model: "a" }),
    ...(signal === undefined ? {} : { signal }),
    ...(provider === undefined ? {} : { provider }),
  });
}

async function text(answer: AsyncIterable<Uint8Array>): Promise<string> {
  let read = "";
  for await (const chunk of answer) read += new TextDecoder().decode(chunk);
  return read;
}

test("what the gateway tells is what there is", () => {
  expect(connection.state()).toEqual({ phase: "ready", problem: null });
  expect(connection.me()).toMatchObject({ name: "laptop", role: "member" });
  expect(connection.models()).toMatchObject([
    {
      name: "a:latest",
      size: 5,
      providers: [{ id: PROVIDER, name: "ada", path: "host" }],
    },
  ]);
  expect(connection.paths()).toMatchObject([
    {
      provider: { name: "ada" },
      kind: "host",
      rttMs: 1.5,
      streams: 1,
      isObserved: true,
    },
  ]);
});

test("events tell what has changed, and only that", async () => {
  const told: string[] = [];
  connection.subscribe((event) => told.push(event));
  look = (_, response) => response.end(JSON.stringify({ ...STATE, paths: [] }));
  connection.probe();
  await until(() => connection.paths().length === 0);
  expect(told).toEqual(["paths"]);
});

test("a browser that is not let in is told where the link is", async () => {
  look = (_, response) => response.writeHead(403).end();
  connection.probe();
  await until(() => connection.state().phase === "refused");
  expect(connection.state().problem).toContain("meshllm status");
});

test("a gateway that is away is looked for, and what it knew stays", async () => {
  look = (_, response) => response.destroy();
  connection.probe();
  await until(() => connection.state().phase === "connecting");
  expect(connection.state().problem).toContain("meshllm gateway");
  expect(connection.models()).toHaveLength(1);
});

test("the place in the line is told while a question waits", async () => {
  let word = "";
  chat = (request) => {
    word = String(request.headers["meshllm-ask"]);
  };
  look = (_, response) =>
    response.end(JSON.stringify({ ...STATE, waiting: { [word]: 2, other: 9 } }));
  const place = await new Promise<number>((onQueue) => {
    const abort = new AbortController();
    const asked = connection.ask({
      method: "POST",
      path: "/api/chat",
      model: "a",
      body: json({ model: "a" }),
      signal: abort.signal,
      onQueue: (at) => {
        onQueue(at);
        abort.abort();
      },
    });
    asked.catch(() => undefined);
  });
  expect(place).toBe(2);
});

test("an answer carries who gave it, how, and what it took", async () => {
  chat = (_, response) => {
    response.writeHead(200, {
      "Content-Type": "application/x-ndjson",
      "Meshllm-Provider": PROVIDER,
      "Meshllm-Path": "relay",
      "Server-Timing": "queue;dur=1.5, connect;dur=20.0",
    });
    response.write("one ");
    response.end("two");
  };
  const answer = await ask();
  expect(answer).toMatchObject({ status: 200, contentType: "application/x-ndjson" });
  expect(answer.provider).toEqual({ id: PROVIDER, name: "ada" });
  expect(answer.path).toBe("relay");
  expect(answer.timing).toEqual({ queue: 1.5, connect: 20 });
  expect(await text(answer)).toBe("one two");
});

test("a provider's refusal is an answer, the gateway's own is not", async () => {
  chat = (_, response) => {
    response.writeHead(404, { "Meshllm-Provider": "p" }).end('{"error":"none"}');
  };
  expect((await ask()).status).toBe(404);
  chat = (_, response) => {
    const head = { "Retry-After": "5", "Meshllm-Error": "no_provider" };
    response.writeHead(503, head).end('{"error":"all are away"}');
  };
  const refused = await ask().catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(NoRoute);
  expect(refused).toMatchObject({
    status: 503,
    message: "all are away",
    code: "no_provider",
    retryAfterS: 5,
  });
});

test.each([
  ['{"running":1,"waiting":2}', { running: 1, waiting: 2 }],
  ['{"running":"x"}', null],
  ["{", null],
])("how busy a provider is comes beside its answer: %s", async (said, heard) => {
  let path = "";
  chat = (request, response) => {
    path = request.url ?? "";
    response.writeHead(200, { "Meshllm-Load": said }).end('{"models":[]}');
  };
  let load: unknown = null;
  const answer = await connection.ask({
    method: "GET",
    path: "/api/ps",
    model: null,
    provider: PROVIDER,
    body: new Uint8Array(),
    onLoad: (one) => {
      load = one;
    },
  });
  expect(await text(answer)).toBe('{"models":[]}');
  expect(load).toEqual(heard);
  expect(path).toBe(`/page/ps?provider=${PROVIDER}`);
});

test("a pin goes beside the question", async () => {
  let pin: unknown;
  chat = (request, response) => {
    pin = request.headers["meshllm-pin"];
    response.end();
  };
  await text(await ask(undefined, "ben"));
  expect(pin).toBe("ben");
});

test.each(["abort", "leave"])("to %s hangs up", async (how) => {
  const hungUp = new Promise<void>((resolve) => {
    chat = (_, response) => {
      response.on("close", resolve);
      response.write("one ");
    };
  });
  const abort = new AbortController();
  const answer = await ask(abort.signal);
  const reading = answer[Symbol.asyncIterator]();
  expect((await reading.next()).done).toBe(false);
  if (how === "leave") {
    await reading.return?.();
  } else {
    abort.abort(new DOMException("Stopped.", "AbortError"));
    await expect(reading.next()).rejects.toThrow("Stopped.");
  }
  await hungUp;
});

test("an answer that breaks off says so", async () => {
  chat = (_, response) => {
    response.write("one ");
    response.socket?.end();
  };
  await expect(ask().then(text)).rejects.toThrow(StreamReset);
});
