/** Wires and links: silence, back-pressure, cancelling, going over to another path. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Bytes, concat, utf8 } from "../../src/bytes.ts";
import { Code, PeerUnreachable, StreamReset } from "../../src/errors.ts";
import { Link, type Stream } from "../../src/transport/link.ts";
import { GIVEN_UP_S, LOW_BYTES, SILENT_S } from "../../src/transport/wire.ts";
import { carrierOf, wires } from "../fakes/carriers.ts";
import { MemoryProvider } from "../fakes/provider.ts";

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ["setTimeout", "clearTimeout", "setInterval", "performance"],
  });
});
afterEach(() => {
  vi.useRealTimers();
});

const FOREVER = new AbortController().signal;

async function started() {
  const [client, server] = await wires();
  const provider = new MemoryProvider();
  provider.take(server);
  const link = new Link();
  await link.start(client);
  return { link, provider, client, server };
}

async function readAll(stream: Stream): Promise<Bytes> {
  const parts: Bytes[] = [];
  for (;;) {
    const data = await stream.read();
    if (data.length === 0) return concat(parts);
    parts.push(data);
  }
}

function bulk(size: number): Bytes {
  return Uint8Array.from({ length: size }, (_, at) => at % 251);
}

test("a question and its answer", async () => {
  const { link, provider } = await started();
  provider.onQuestion = (stream) => {
    provider.write(stream, utf8("answer"));
    provider.finish(stream);
  };
  const stream = await link.openStream(FOREVER);
  stream.write(utf8("question"));
  stream.finish();
  expect(await readAll(stream)).toEqual(utf8("answer"));
  expect(provider.received.get(stream.id)).toEqual(utf8("question"));
  await vi.advanceTimersByTimeAsync(100); // the last ACK is in no hurry
  expect(link.load).toBe(0);
  await link.close(Code.CANCELLED, "done");
});

test("who does not read is sent no more than its credit", async () => {
  const { link, provider } = await started();
  const stream = await link.openStream(FOREVER);
  stream.finish();
  await vi.advanceTimersByTimeAsync(10);
  const all = bulk(400_000);
  provider.write(stream.id, all);
  provider.finish(stream.id);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(provider.session?.mux.held).toBe(400_000);
  expect(await readAll(stream)).toEqual(all);
  await link.close(Code.CANCELLED, "done");
});

test("a silent path is told at 4 s, and given up at 10 s", async () => {
  const { link, client } = await started();
  const silent = vi.fn();
  const lost = vi.fn();
  link.onSilent = silent;
  link.onDetached = lost;
  await link.openStream(FOREVER);
  await vi.advanceTimersByTimeAsync(8_000);
  expect(silent).not.toHaveBeenCalled(); // its pings are answered
  carrierOf(client).isCut = true;
  await vi.advanceTimersByTimeAsync(SILENT_S * 1_000 - 2_001);
  expect(silent).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(2_100);
  expect(silent).toHaveBeenCalled();
  expect(lost).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync((GIVEN_UP_S - SILENT_S) * 1_000);
  expect(lost).toHaveBeenCalledOnce();
  expect(carrierOf(client).isClosed).toBe(true);
  await link.close(Code.CANCELLED, "done");
});

test("an answer goes on over another path, byte for byte", async () => {
  const { link, provider, client } = await started();
  const stream = await link.openStream(FOREVER);
  stream.finish();
  await vi.advanceTimersByTimeAsync(10);
  const all = bulk(150_000);
  provider.write(stream.id, all.slice(0, 50_000));
  carrierOf(client).isCut = true; // no ACK of ours arrives any more
  const first = await stream.read();
  provider.write(stream.id, all.slice(50_000));
  provider.finish(stream.id);
  const [other, server] = await wires();
  provider.take(server);
  await link.start(other);
  expect(client.isClosed).toBe(true);
  expect(concat([first, await readAll(stream)])).toEqual(all);
  await link.close(Code.CANCELLED, "done");
});

test("a reset ends reader and writer, and reaches the provider", async () => {
  const { link, provider } = await started();
  const stream = await link.openStream(FOREVER);
  stream.write(utf8("question"));
  const reading = stream.read();
  const seen = expect(reading).rejects.toThrow(StreamReset);
  await vi.advanceTimersByTimeAsync(10);
  stream.reset(Code.CANCELLED, "enough");
  await seen;
  await expect(stream.drain()).rejects.toThrow("enough");
  await vi.advanceTimersByTimeAsync(10);
  expect(provider.ended).toEqual([stream.id]);
  expect(link.load).toBe(0);
  await link.close(Code.CANCELLED, "done");
});

test("a busy carrier is given nothing until it is low", async () => {
  const { link, client } = await started();
  const carrier = carrierOf(client);
  await vi.advanceTimersByTimeAsync(100);
  const before = carrier.sent.length;
  carrier.buffered = LOW_BYTES + 1;
  const stream = await link.openStream(FOREVER);
  stream.write(bulk(10_000));
  stream.write(bulk(1_000));
  await vi.advanceTimersByTimeAsync(100);
  expect(carrier.sent.length).toBe(before);
  carrier.buffered = 0;
  carrier.onLow();
  await vi.advanceTimersByTimeAsync(0);
  expect(carrier.sent.length).toBe(before + 1); // all of it as one message
  await link.close(Code.CANCELLED, "done");
});

test("a provider that does not say READY is not waited for", async () => {
  const [client] = await wires();
  const link = new Link();
  const begun = expect(link.start(client)).rejects.toThrow(PeerUnreachable);
  await vi.advanceTimersByTimeAsync(3_100);
  await begun;
  await link.close(Code.CANCELLED, "done");
});

test("the 65th question waits for one of the 64 to end", async () => {
  const { link } = await started();
  const streams: Stream[] = [];
  for (let count = 0; count < 64; count++) streams.push(await link.openStream(FOREVER));
  const waiting = link.openStream(FOREVER);
  let isOpen = false;
  void waiting.then(() => {
    isOpen = true;
  });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(isOpen).toBe(false);
  const abort = new AbortController();
  const another = expect(link.openStream(abort.signal)).rejects.toThrow("no more");
  abort.abort(new Error("no more"));
  await another;
  streams[0]?.reset(Code.CANCELLED, "enough");
  expect((await waiting).id).toBe(65);
  await link.close(Code.CANCELLED, "done");
});

test("what is closed ends every reader", async () => {
  const { link } = await started();
  const stream = await link.openStream(FOREVER);
  const reading = expect(stream.read()).rejects.toThrow("the page was closed");
  await link.close(Code.CANCELLED, "the page was closed");
  await reading;
  await expect(link.openStream(FOREVER)).rejects.toThrow(PeerUnreachable);
});

test("who writes too fast waits until it may go on", async () => {
  const { link, provider, client } = await started();
  const stream = await link.openStream(FOREVER);
  carrierOf(client).buffered = LOW_BYTES + 1; // nothing leaves
  stream.write(bulk(70_000));
  let isFree = false;
  const draining = stream.drain().then(() => {
    isFree = true;
  });
  await vi.advanceTimersByTimeAsync(100);
  expect(isFree).toBe(false);
  carrierOf(client).buffered = 0;
  carrierOf(client).onLow();
  await draining;
  stream.finish();
  await vi.advanceTimersByTimeAsync(100);
  expect(provider.received.get(stream.id)).toEqual(bulk(70_000));
  await link.close(Code.CANCELLED, "done");
});
