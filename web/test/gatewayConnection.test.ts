/** A gateway's API as a connection: over real HTTP, from a server that says what it is
 * told to. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Connection, json } from "../src/connection.ts";
import { NoRoute, StreamReset } from "../src/errors.ts";
import { connectGateway } from "../src/gatewayConnection.ts";
import { whoServes } from "../src/served.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
type Server = ReturnType<typeof createServer>;

const TAGS = { models: [{ name: "a:latest", size: 5, capabilities: ["vision"] }] };
let server: Server;
let url: string;
let connection: Connection;
let chat: Handler = () => {};

beforeEach(async () => {
  server = createServer((request, response) => {
    if (request.url === "/api/tags") response.end(JSON.stringify(TAGS));
    else if (request.url === "/api/version") response.end("{}");
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

test("models are those of its list", () => {
  expect(connection.state()).toEqual({ phase: "ready", problem: null });
  expect(connection.models()).toMatchObject([
    { name: "a:latest", size: 5, capabilities: ["vision"], providers: [] },
  ]);
});

test("an answer carries who gave it, how, and what it took", async () => {
  chat = (_, response) => {
    response.writeHead(200, {
      "Content-Type": "application/x-ndjson",
      "Meshllm-Provider": "provider-of-many-characters",
      "Meshllm-Path": "relay",
      "Server-Timing": "queue;dur=1.5, connect;dur=20.0",
    });
    response.write("one ");
    response.end("two");
  };
  const answer = await ask();
  expect(answer).toMatchObject({ status: 200, contentType: "application/x-ndjson" });
  expect(answer.provider).toEqual({
    id: "provider-of-many-characters",
    name: "provider",
  });
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
    response.writeHead(503, { "Retry-After": "5" }).end('{"error":"all are away"}');
  };
  const refused = await ask().catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(NoRoute);
  expect(refused).toMatchObject({
    status: 503,
    message: "all are away",
    retryAfterS: 5,
  });
});

test("a pin is part of the model's name", async () => {
  let body = "";
  chat = (request, response) => {
    request.on("data", (data) => {
      body += String(data);
    });
    request.on("end", () => response.end());
  };
  await text(await ask(undefined, "ben"));
  expect(JSON.parse(body)).toEqual({ model: "a@ben" });
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

test("who serves the page is told by Ollama's API", async () => {
  expect(await whoServes(url)).toBe("gateway");
  expect(await whoServes(url, async () => new Response(null, { status: 404 }))).toBe(
    "hub",
  );
});
