/** Sessions on a hostile network: whatever happens to paths, streams stay whole. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Bytes, utf8 } from "../../src/bytes.ts";
import { Code, MeshError, RemoteProtocolError } from "../../src/errors.ts";
import type { Frame } from "../../src/protocol/frames.ts";
import type { Path } from "../../src/protocol/path.ts";
import { Session } from "../../src/protocol/session.ts";
import { INITIAL_CREDIT, REPLAY_MAX, UNSENT_MAX } from "../../src/protocol/streams.ts";
import { bytes, frames } from "../fakes/frames.ts";
import {
  connected,
  FAULTS,
  type Fault,
  greetedPaths,
  Network,
  pattern,
  SESSION,
} from "../fakes/network.ts";

type Sizes = readonly number[];
type Step =
  /** A stream: sizes of the chunks written by either side. */
  | { readonly do: "ask"; readonly request: Sizes; readonly response: Sizes }
  | { readonly do: "run"; readonly turns: number }
  /** Every path is gone; who does not notice keeps to it. */
  | { readonly do: "lose"; readonly client: boolean; readonly provider: boolean }
  /** Another path, faulty from some byte on; the client goes over to it. */
  | { readonly do: "connect"; readonly up: Fault | null; readonly down: Fault | null }
  /** One of the streams so far is reset, by its client or its provider. */
  | { readonly do: "cancel"; readonly index: number; readonly byClient: boolean }
  | { readonly do: "stall"; readonly index: number; readonly byClient: boolean };

const sizes = fc.array(fc.oneof(fc.nat(40), fc.integer({ min: 1_000, max: 20_000 })), {
  maxLength: 6,
});
const long = fc.constant(Array.from({ length: 24 }, () => 16_000));
const fault: fc.Arbitrary<Fault | null> = fc.option(
  fc.record({
    kind: fc.constantFrom(...FAULTS),
    at: fc.oneof(fc.nat(400), fc.nat(60_000)),
  }),
);
const which = { index: fc.nat(5), byClient: fc.boolean() };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant("ask" as const),
    request: sizes,
    response: fc.oneof(sizes, long),
  }),
  fc.record({
    do: fc.constant("ask" as const),
    request: fc.oneof(sizes, long),
    response: sizes,
  }),
  fc.record({
    do: fc.constant("run" as const),
    turns: fc.integer({ min: 1, max: 12 }),
  }),
  fc.record({
    do: fc.constant("lose" as const),
    client: fc.boolean(),
    provider: fc.boolean(),
  }),
  fc.record({ do: fc.constant("connect" as const), up: fault, down: fault }),
  fc.record({ do: fc.constant("cancel" as const), ...which }),
  fc.record({ do: fc.constant("stall" as const), ...which }),
);
const script = fc.array(step, { minLength: 3, maxLength: 14 });

/** A script that runs, and what was asked in it. */
class Played {
  readonly network = connected();
  readonly asked = new Map<number, { request: Sizes; response: Sizes }>();
  readonly cancelled = new Map<number, Code>();
  readonly #answered = new Set<number>();

  play(steps: readonly Step[]): this {
    for (const one of steps) this.#play(one);
    this.network.heal();
    this.#answer();
    this.network.settle();
    return this;
  }

  #play(one: Step): void {
    const { client, provider } = this.network;
    const stream = "index" in one ? [...this.asked.keys()][one.index] : undefined;
    switch (one.do) {
      case "ask":
        if (client.session.canOpen) {
          const id = client.session.mux.open();
          this.asked.set(id, one);
          client.write(id, chunks(id, "client", one.request));
        }
        break;
      case "run":
        for (let turn = 0; turn < one.turns; turn++) {
          this.network.turn();
          this.#answer();
        }
        break;
      case "lose":
        this.network.lose(one.client, one.provider);
        break;
      case "connect":
        this.network.connect(one.up, one.down);
        break;
      case "cancel":
        if (stream !== undefined) this.#cancel(stream, one.byClient);
        break;
      case "stall":
        if (stream !== undefined) (one.byClient ? client : provider).stall(stream);
    }
  }

  #cancel(stream: number, byClient: boolean): void {
    const side = byClient ? this.network.client : this.network.provider;
    if (!side.session.mux.has(stream) || this.cancelled.has(stream)) return;
    const code = byClient ? Code.CANCELLED : Code.BACKEND;
    this.cancelled.set(stream, code);
    side.reset(stream, code);
  }

  /** The provider's program: even streams before it has read the request. */
  #answer(): void {
    const { provider } = this.network;
    for (const stream of provider.opened) {
      const isReady = stream % 2 === 0 || provider.fins.has(stream);
      const isOver = this.#answered.has(stream) || provider.ended.has(stream);
      if (!isReady || isOver) continue;
      this.#answered.add(stream);
      if (provider.session.mux.has(stream)) {
        const sizes = this.asked.get(stream)?.response ?? [];
        provider.write(stream, chunks(stream, "provider", sizes));
      }
    }
  }
}

function chunks(stream: number, side: string, sizes: Sizes): Bytes[] {
  const whole = pattern(stream, side, sum(sizes));
  let at = 0;
  return sizes.map((size) => {
    at += size;
    return whole.slice(at - size, at);
  });
}

function sum(sizes: Sizes): number {
  return sizes.reduce((total, size) => total + size, 0);
}

/** Fast, where a difference of arrays would be shown byte by byte. */
function expectSame(one: Bytes, other: Bytes): void {
  expect(Buffer.compare(one, other)).toBe(0);
}

function everyByteAndFinArrivedOnce({ network, asked, cancelled }: Played): void {
  const { client, provider } = network;
  for (const [stream, ask] of asked) {
    const request = pattern(stream, "client", sum(ask.request));
    const response = pattern(stream, "provider", sum(ask.response));
    const [heard, answered] = [provider.read(stream), client.read(stream)];
    if (cancelled.has(stream)) {
      expectSame(heard, request.slice(0, heard.length));
      expectSame(answered, response.slice(0, answered.length));
      continue;
    }
    expectSame(heard, request);
    expectSame(answered, response);
    expect([provider.fins.has(stream), client.fins.has(stream)]).toEqual([true, true]);
  }
  expect(new Set(provider.opened).size).toBe(provider.opened.length);
}

function everyCancelReachedTheOtherSide({ network, cancelled }: Played): void {
  const { client, provider } = network;
  for (const [stream, code] of cancelled) {
    const other = code === Code.CANCELLED ? provider : client;
    if (other === provider && !provider.opened.includes(stream)) continue;
    const isDone = other.fins.has(stream) && !other.waiting.has(stream);
    expect(isDone || other.ended.get(stream)?.code === code).toBe(true);
  }
  for (const side of [client, provider]) {
    for (const stream of side.ended.keys()) expect(cancelled.has(stream)).toBe(true);
  }
}

function nothingIsLeft({ network, cancelled }: Played): void {
  const { client, provider } = network;
  for (const side of [client, provider]) {
    expect([...side.waiting].filter((stream) => !cancelled.has(stream))).toEqual([]);
    expect([side.session.mux.size, side.session.mux.held]).toEqual([0, 0]);
    expect(side.session.state).toBe("active");
  }
  expect(client.session.epoch).toBe(provider.session.epoch);
}

function isWhole(played: Played): void {
  everyByteAndFinArrivedOnce(played);
  everyCancelReachedTheOtherSide(played);
  nothingIsLeft(played);
}

test("streams stay whole whatever happens to paths", { timeout: 120_000 }, () => {
  fc.assert(
    fc.property(script, (steps) => isWhole(new Played().play(steps))),
    { numRuns: 300 },
  );
});

describe.each(FAULTS)("a path that is %s at any place of a conversation", (kind) => {
  const places = [
    ...Array.from({ length: 83 }, (_, at) => at * 29),
    ...Array.from({ length: 56 }, (_, at) => 2_400 + at * 701),
  ];
  const play = (way: "up" | "down") => {
    for (const at of places) {
      const [up, down] = way === "up" ? [{ kind, at }, null] : [null, { kind, at }];
      const played = new Played().play([
        { do: "lose", client: at % 2 === 0, provider: at % 3 === 0 },
        { do: "connect", up, down },
        { do: "run", turns: 2 },
        { do: "ask", request: [700, 700], response: [20_000, 20_000] },
        { do: "ask", request: [1], response: [] },
        { do: "run", turns: 2 },
        { do: "ask", request: [], response: [5] },
        { do: "cancel", index: 1, byClient: at % 2 === 0 },
        { do: "run", turns: 6 },
        { do: "connect", up, down },
        { do: "run", turns: 6 },
      ]);
      isWhole(played);
    }
  };

  // Also in HELLO, RESUME and READY, and the next path at the same place again.
  test("on the way up", () => play("up"));
  test("on the way down", () => play("down"));
});

test("a session that cannot begin ends, or begins later", () => {
  const one = fc.record({ isUp: fc.boolean(), fault });
  fc.assert(
    fc.property(fc.array(one, { maxLength: 3 }), (connects) => {
      const net = new Network();
      const stream = net.ask([utf8("question")]);
      for (const { isUp, fault } of connects) {
        net.connect(isUp ? fault : null, isUp ? null : fault);
        for (let turn = 0; turn < 4; turn++) net.turn();
      }
      net.heal();
      if (net.client.session.state === "closed") {
        expect(net.client.ended.get(stream)?.code).toBe(Code.UNKNOWN_SESSION);
        expect(net.provider.opened).toEqual([]);
      } else {
        expect(net.client.session.state).toBe("active");
        expectSame(net.provider.read(stream), utf8("question"));
      }
      expect(net.client.session.mux.size).toBeLessThanOrEqual(1);
    }),
  );
});

test("a stalled reader beside twenty live ones stops only itself", () => {
  const lengths = fc.array(fc.nat(60_000), { minLength: 20, maxLength: 20 });
  const stalls = fc.integer({ min: 1, max: 21 });
  fc.assert(
    fc.property(stalls, lengths, fc.boolean(), (stalled, lengths, losesPath) => {
      const net = connected();
      const asked = Array.from({ length: 21 }, () => net.ask([utf8("question")]));
      net.client.stall(stalled);
      net.settle();
      const live = asked.filter((stream) => stream !== stalled);
      const much = Array.from({ length: 80 }, () => new Uint8Array(16_000));
      net.provider.write(stalled, much);
      const sizes = lengths.map((size) => [1, 2, 3, 4].flatMap(() => [16_000, size]));
      live.forEach((stream, at) => {
        net.provider.write(stream, chunks(stream, "provider", sizes[at] ?? []));
      });
      for (let turn = 0; turn < 3; turn++) net.turn();
      if (losesPath) {
        net.lose(); // meanwhile a writer may run on to 1 MiB
        net.tick();
        net.connect();
      }
      net.settle();
      live.forEach((stream, at) => {
        const whole = pattern(stream, "provider", sum(sizes[at] ?? []));
        expectSame(net.client.read(stream), whole);
        expect(net.client.fins.has(stream)).toBe(true);
      });
      expect(net.client.read(stalled).length).toBe(INITIAL_CREDIT);
      const held = losesPath ? REPLAY_MAX : INITIAL_CREDIT + UNSENT_MAX;
      expect(net.provider.session.mux.held).toBeLessThanOrEqual(held + 16_000);
      expect([...net.provider.waiting]).toEqual([stalled]);
      net.client.goOn(stalled);
      net.settle();
      expect(net.client.read(stalled).length).toBe(16_000 * 80);
      expect(net.errors).toEqual([]);
    }),
    { numRuns: 25 },
  );
});

const BEGINNINGS = ["new", "active", "detached", "resuming"] as const;
type Beginning = (typeof BEGINNINGS)[number];

function fuzzedSession(isClient: boolean, begin: Beginning): [Session, Path[]] {
  const session = new Session(SESSION, isClient);
  const [path, other, third] = [0, 1, 2].map(
    () => greetedPaths()[isClient ? 0 : 1],
  ) as [Path, Path, Path];
  if (begin !== "new") {
    if (isClient) {
      session.openOn(path);
      session.receive(path, [{ type: "READY", epoch: 1, streams: [] }]);
    } else {
      session.receive(path, [{ type: "OPEN", session: SESSION, epoch: 1 }]);
    }
    for (let stream = 1; stream < 5; stream++) {
      const payload = new Uint8Array(0);
      if (isClient) session.mux.open();
      else {
        session.receive(path, [{ type: "DATA", stream, off: 0, fin: false, payload }]);
      }
      session.mux.write(stream, new Uint8Array(50));
    }
    path.nextMessage(0);
  }
  if (begin === "detached") session.detach(path, 0);
  if (begin === "resuming" && isClient) session.resumeOn(other);
  return [session, [path, other, third]];
}

test("no frames raise anything but errors of the peer", () => {
  const any = frames(fc.oneof(fc.constant(SESSION), bytes(16, 16)));
  const some = fc.array(any, { minLength: 1, maxLength: 4 });
  const said = fc.array(fc.tuple(fc.nat(2), some), { maxLength: 8 });
  fc.assert(fc.property(fc.boolean(), fc.constantFrom(...BEGINNINGS), said, fuzzed), {
    numRuns: 300,
  });
});

function fuzzed(
  isClient: boolean,
  begin: Beginning,
  said: readonly (readonly [number, readonly Frame[]])[],
): void {
  const [session, paths] = fuzzedSession(isClient, begin);
  let epoch = session.epoch;
  said.forEach(([index, some], now) => {
    const path = paths[index] as Path;
    try {
      session.receive(path, some);
    } catch (error) {
      if (!(error instanceof MeshError)) throw error;
      expect(error).toBeInstanceOf(RemoteProtocolError);
      session.detach(path, now);
    }
    session.onTime(now);
    for (const each of paths) each.nextMessage(now);
    expect(session.epoch).toBeGreaterThanOrEqual(epoch);
    epoch = session.epoch;
    expect(session.mux.size).toBeLessThanOrEqual(64);
    const left = [1, 2, 3, 4].filter((stream) => session.mux.has(stream));
    // Less by what was acknowledged; nothing of what is gone is counted.
    expect(session.mux.held).toBeLessThanOrEqual(50 * left.length);
    expect(session.mux.held).toBeGreaterThanOrEqual(0);
  });
}

test("no epoch is ever taken twice or taken back", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(6), { maxLength: 8 }), (epochs) => {
      const session = new Session(SESSION, false);
      const [, first] = greetedPaths();
      session.receive(first, [{ type: "OPEN", session: SESSION, epoch: 1 }]);
      let [newest, live]: [number, Path] = [1, first];
      for (const epoch of epochs) {
        const [, path] = greetedPaths();
        const resume = () =>
          session.receive(path, [
            { type: "RESUME", session: SESSION, epoch, streams: [] },
          ]);
        if (epoch > newest) {
          resume();
          [newest, live] = [epoch, path];
        } else {
          expect(resume).toThrow(RemoteProtocolError);
        }
        expect(session.epoch).toBe(newest);
        expect(session.path).toBe(live);
      }
    }),
  );
});
