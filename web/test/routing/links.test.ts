/** Sessions kept warm: dialled once, raced when silent, found again when lost. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Bytes, concat, utf8 } from "../../src/bytes.ts";
import { PeerGone, PeerUnreachable } from "../../src/errors.ts";
import { Links } from "../../src/routing/links.ts";
import { type Provider, Roster } from "../../src/routing/roster.ts";
import type { Stream } from "../../src/transport/link.ts";
import type { Wire } from "../../src/transport/wire.ts";
import { admit } from "../../src/trust/admission.ts";
import type { PeerId } from "../../src/trust/keys.ts";
import { carrierOf, wires } from "../fakes/carriers.ts";
import { announcement, MESH, NOW } from "../fakes/mesh.ts";
import { MemoryProvider } from "../fakes/provider.ts";
import { idOf } from "../vectors.ts";

const BOB = idOf("bob") as PeerId;
const FOREVER = new AbortController().signal;

let roster: Roster;
let provider: MemoryProvider;
let dialled: Wire[];
let refusal: Error | null;
let delay: Promise<void>;
let attempts: number;
let links: Links;

beforeEach(async () => {
  vi.useFakeTimers({
    toFake: ["setTimeout", "clearTimeout", "setInterval", "performance"],
  });
  roster = new Roster(
    (chain, id) => admit(chain, id, MESH, NOW),
    () => false,
  );
  roster.put(await announcement("bob", { models: ["a"] }));
  provider = new MemoryProvider();
  dialled = [];
  refusal = null;
  delay = Promise.resolve();
  attempts = 0;
  links = new Links(dial, (id) => roster.get(id));
});
afterEach(async () => {
  await links.close();
  vi.useRealTimers();
});

async function dial(): Promise<Wire> {
  attempts++;
  await delay;
  if (refusal !== null) throw refusal;
  const [client, server] = await wires();
  provider.take(server);
  dialled.push(client);
  return client;
}

function bob(): Provider {
  return roster.get(BOB) as Provider;
}

async function asked(): Promise<Stream> {
  const stream = await (await links.get(bob())).openStream(FOREVER);
  stream.finish();
  await vi.advanceTimersByTimeAsync(10);
  return stream;
}

async function readAll(stream: Stream): Promise<Bytes> {
  const parts: Bytes[] = [];
  for (let data = await stream.read(); data.length > 0; data = await stream.read()) {
    parts.push(data);
  }
  return concat(parts);
}

test("one dial serves all who ask", async () => {
  const found = await Promise.all([links.get(bob()), links.get(bob())]);
  expect(found[0]).toBe(found[1]);
  expect(await links.get(bob())).toBe(found[0]);
  expect(dialled).toHaveLength(1);
  expect(links.warmth(BOB).isWarm).toBe(true);
});

test("who could not be reached comes last for a while", async () => {
  refusal = new PeerUnreachable("no path");
  await expect(links.get(bob())).rejects.toThrow("no path");
  expect(links.warmth(BOB).hasFailedLately).toBe(true);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(links.warmth(BOB).hasFailedLately).toBe(false);
});

test("a silent path is raced, and the answer goes on over the other", async () => {
  const stream = await asked();
  const [first] = dialled as [Wire];
  carrierOf(first).isCut = true;
  provider.write(stream.id, utf8("before "));
  await vi.advanceTimersByTimeAsync(6_100);
  expect(dialled).toHaveLength(2);
  expect(first.isClosed).toBe(true);
  provider.write(stream.id, utf8("after"));
  provider.finish(stream.id);
  expect(await readAll(stream)).toEqual(utf8("before after"));
});

test("a path that is heard again in time is kept", async () => {
  await asked();
  const [first] = dialled as [Wire];
  carrierOf(first).isCut = true;
  let goOn = () => {};
  delay = new Promise((resolve) => {
    goOn = resolve;
  });
  await vi.advanceTimersByTimeAsync(6_100);
  carrierOf(first).isCut = false;
  await vi.advanceTimersByTimeAsync(2_100); // a ping is answered
  goOn();
  await vi.advanceTimersByTimeAsync(10);
  expect(dialled.length).toBeGreaterThan(1);
  expect(dialled.slice(1).every((wire) => wire.isClosed)).toBe(true);
  expect(first.isClosed).toBe(false);
});

test("at most two paths are tried beside a silent one", async () => {
  await asked();
  carrierOf(dialled[0] as Wire).isCut = true;
  delay = new Promise(() => {});
  attempts = 0;
  await vi.advanceTimersByTimeAsync(9_900);
  expect(attempts).toBe(2);
});

test("a lost path is found again while somebody waits", async () => {
  const stream = await asked();
  dialled[0]?.close("the channel was closed");
  await vi.advanceTimersByTimeAsync(100);
  expect(dialled).toHaveLength(2);
  provider.write(stream.id, utf8("answer"));
  provider.finish(stream.id);
  expect(await readAll(stream)).toEqual(utf8("answer"));
});

test("a session that nobody waits for is not found again", async () => {
  await links.get(bob());
  dialled[0]?.close("the channel was closed");
  await vi.advanceTimersByTimeAsync(5_000);
  expect(dialled).toHaveLength(1);
  expect(links.all).toEqual([]);
});

test("who is gone is not waited for longer than 5 s", async () => {
  const stream = await asked();
  const reading = expect(stream.read()).rejects.toThrow(/was lost/);
  refusal = new PeerGone("not there");
  dialled[0]?.close("the channel was closed");
  await vi.advanceTimersByTimeAsync(7_000);
  await reading;
});

test("whoever is impatient is told when the path is not soon found again", async () => {
  const stream = await asked();
  stream.read().catch(() => {});
  const leave = vi.fn();
  const settle = links.impatient(await links.get(bob()), leave);
  refusal = new PeerUnreachable("no path");
  dialled[0]?.close("the channel was closed");
  await vi.advanceTimersByTimeAsync(100);
  expect(leave).toHaveBeenCalled();
  settle();
});

test("a provider that left the roster and is silent has ended", async () => {
  const stream = await asked();
  const reading = expect(stream.read()).rejects.toThrow(/left the mesh/);
  carrierOf(dialled[0] as Wire).isCut = true;
  roster.remove(BOB);
  links.onRoster();
  await vi.advanceTimersByTimeAsync(4_000);
  await reading;
});

test("a provider that was started anew is dialled anew", async () => {
  const first = await links.get(bob());
  roster.put(await announcement("bob", { models: ["a"], conn: 2, ts: NOW + 1 }));
  provider = new MemoryProvider();
  const second = await links.get(bob());
  expect(second).not.toBe(first);
  expect(dialled).toHaveLength(2);
});

test("a path that moves is told of at once", async () => {
  const { wire } = await links.get(bob());
  const seen: (string | undefined)[] = [];
  links.onChange = () => seen.push(links.peek(BOB)?.wire?.carrier.kind);
  const carrier = carrierOf(wire as Wire);
  carrier.kind = "relay";
  carrier.onMoved();
  carrier.kind = "srflx";
  carrier.onMoved();
  expect(seen).toEqual(["relay", "srflx"]);
});
