/** One path: HELLO, windows, liveness (docs/protocol.md §5, §6.2, §6.3). */

import { describe, expect, test } from "vitest";
import { concat, EMPTY } from "../../src/bytes.ts";
import { NotAllowed, RemoteProtocolError } from "../../src/errors.ts";
import {
  type Ack,
  type Data,
  decode,
  encode,
  type Frame,
  HELLO_SIZE,
  MESSAGE_MAX,
} from "../../src/protocol/frames.ts";
import { Path, type Source, WINDOW, WINDOW_STEP } from "../../src/protocol/path.ts";
import { greetedPaths } from "../fakes/network.ts";

const HELLO: Frame = {
  type: "HELLO",
  role: 2,
  nonceReveal: new Uint8Array(32),
  sig: new Uint8Array(64),
};

/** As much DATA as a path takes, and the ACKs it is given. */
class Endless implements Source {
  readonly hasData = true;
  readonly acks: Ack[] = [];
  off = 0;
  fin = false;
  isDry = false;

  takeControl(): Ack | null {
    return this.acks.shift() ?? null;
  }

  takeData(room: number): Data | null {
    if (this.isDry) return null;
    const payload = new Uint8Array(room);
    const { off, fin } = this;
    this.off += room;
    this.isDry = fin;
    return { type: "DATA", stream: 1, off, fin, payload };
  }
}

function fresh(verify: () => void = () => {}): Path {
  return new Path(HELLO as never, verify, true);
}

function active(): readonly [Path, Endless] {
  const [path] = greetedPaths();
  path.nextMessage(0); // its first PING
  const source = new Endless();
  path.source = source;
  path.state = "active";
  return [path, source];
}

/** The frames of every message until there is none. */
function said(path: Path, now = 0): Frame[][] {
  const messages: Frame[][] = [];
  for (let next = path.nextMessage(now); next !== null; next = path.nextMessage(now)) {
    messages.push(decode(next));
  }
  return messages;
}

const types = (messages: Frame[][]) =>
  messages.map((one) => one.map(({ type }) => type));

describe("HELLO", () => {
  test("is alone in its message", () => {
    const path = fresh();
    path.queue({ type: "PAD" });
    path.queue({ type: "PAD" });
    expect(types(said(path))).toEqual([["HELLO"], ["PAD", "PAD"]]);
  });

  test("comes first, alone and once", () => {
    const hello = encode(HELLO);
    const pad = encode({ type: "PAD" });
    for (const first of [EMPTY, pad, concat([hello, pad]), hello.slice(0, 50)]) {
      expect(() => fresh().receive(first, 0)).toThrow(RemoteProtocolError);
    }
    const path = fresh();
    path.receive(hello, 0);
    expect(path.state).toBe("standby");
    expect(() => path.receive(hello, 0)).toThrow(/second HELLO/);
    expect(hello.length).toBe(HELLO_SIZE);
  });

  test("that does not hold leaves the path as it was", () => {
    const path = fresh(() => {
      throw new NotAllowed("somebody stands between");
    });
    expect(() => path.receive(encode(HELLO), 0)).toThrow("somebody stands between");
    expect(path.state).toBe("hello");
  });

  test("is late after 3 s", () => {
    const path = fresh();
    path.nextMessage(10);
    expect([path.isHelloLate(12.9), path.isHelloLate(13)]).toEqual([false, true]);
  });
});

test("until OPEN or RESUME a path carries nothing of a session", () => {
  const ack = encode({ type: "ACK", stream: 1, ack: 0, max: 0 });
  const open = encode({ type: "OPEN", session: new Uint8Array(16), epoch: 1 });
  const [client, provider] = greetedPaths();
  expect(() => client.receive(ack, 0)).toThrow(RemoteProtocolError);
  expect(() => client.receive(open, 0)).toThrow(RemoteProtocolError);
  expect(() => provider.receive(ack, 0)).toThrow(RemoteProtocolError);
  expect(provider.receive(concat([open, ack]), 0)).toHaveLength(2);
});

test("a closed path neither hears nor speaks", () => {
  const [path] = active();
  path.state = "closed";
  expect(path.receive(encode({ type: "PING", id: 1 }), 0)).toEqual([]);
  expect(path.nextMessage(5)).toBeNull();
  expect(path.nextTime()).toBeNull();
});

test("nothing overtakes what is queued, not even in a message of its own", () => {
  const [path, source] = active();
  const envelope = new Uint8Array(9_000);
  path.queue({ type: "SIGNAL", envelope });
  path.queue({ type: "SIGNAL", envelope });
  source.acks.push({ type: "ACK", stream: 1, ack: 0, max: 0 });
  const [first, second] = types(said(path));
  expect(first).toEqual(["SIGNAL"]); // 7 KiB are left, and stay empty
  expect(second).toEqual(["SIGNAL", "ACK", "DATA"]);
});

describe("the window", () => {
  test("is what may be sent before PATHACK", () => {
    const [path] = active();
    const messages = said(path);
    const sizes = messages.flat().map((frame) => encode(frame).length);
    expect(sizes.reduce((total, size) => total + size, 0)).toBe(WINDOW);
    expect(sizes.every((size) => size <= MESSAGE_MAX)).toBe(true);
    path.receive(encode({ type: "PATHACK", rx: 100_000 }), 0);
    expect(path.window).toBe(100_000);
    path.receive(encode({ type: "PATHACK", rx: 50_000 }), 0); // late, and harmless
    expect(path.window).toBe(100_000);
    expect(() => path.receive(encode({ type: "PATHACK", rx: WINDOW + 1 }), 0)).toThrow(
      RemoteProtocolError,
    );
  });

  test("ACKs pass outside of it", () => {
    const [path, source] = active();
    said(path);
    source.acks.push({ type: "ACK", stream: 1, ack: 5, max: 10 });
    expect(types(said(path))).toEqual([["ACK"]]);
  });

  test("is reported each 32 KiB of DATA frames", () => {
    const [path, source] = active();
    source.isDry = true;
    const data = (off: number): Frame => {
      return {
        type: "DATA",
        stream: 1,
        off,
        fin: false,
        payload: new Uint8Array(16_368),
      };
    };
    path.receive(encode(data(0)), 0);
    expect(path.isDue).toBe(true); // the source says so
    expect(said(path)).toEqual([]);
    path.receive(encode(data(16_368)), 0);
    expect(said(path)).toEqual([[{ type: "PATHACK", rx: WINDOW_STEP }]]);
  });
});

describe("liveness", () => {
  test("a client pings right after HELLO and every 2 s", () => {
    const [path] = greetedPaths();
    expect(types(said(path))).toEqual([["PING"]]);
    path.onTime(1.9);
    expect(said(path, 1.9)).toEqual([]);
    expect(path.nextTime()).toBe(2);
    path.onTime(2);
    expect(said(path, 2)).toEqual([[{ type: "PING", id: 2 }]]);
    path.receive(encode({ type: "PONG", id: 1 }), 2.05); // of the one before
    expect(path.rttS).toBeNull();
    path.receive(encode({ type: "PONG", id: 2 }), 2.05);
    expect(path.rttS).toBeCloseTo(0.05);
  });

  test("a ping is answered", () => {
    const [path, source] = active();
    source.isDry = true;
    path.receive(encode({ type: "PING", id: 7 }), 0);
    expect(said(path)).toEqual([[{ type: "PONG", id: 7 }]]);
  });

  test("silence counts from the last message", () => {
    const [path] = active();
    expect(path.silenceS(3)).toBe(3);
    path.receive(encode({ type: "PAD" }), 3);
    expect(path.silenceS(5)).toBe(2);
  });
});

test("three PADs follow a FIN, 10 ms apart, unless something else does", () => {
  const [path, source] = active();
  source.fin = true;
  expect(types(said(path))).toEqual([["DATA"]]);
  expect(path.nextTime()).toBeCloseTo(0.01);
  for (const now of [0.011, 0.022, 0.033])
    expect(types(said(path, now))).toEqual([["PAD"]]);
  expect(said(path, 0.05)).toEqual([]);
  [source.isDry, source.fin] = [false, true];
  said(path, 0.06);
  [source.isDry, source.fin] = [false, false];
  expect(types([decode(path.nextMessage(0.061) ?? EMPTY)])).toEqual([["DATA"]]);
  source.isDry = true;
  expect(said(path, 0.08)).toEqual([]);
});

describe("a peer that asks too much is closed", () => {
  test("at the 1,001st control frame of a second", () => {
    const [path] = active();
    const pads = (count: number) =>
      concat(Array.from({ length: count }, () => encode({ type: "PAD" })));
    path.receive(pads(1_000), 0.5);
    path.receive(pads(1_000), 1.5);
    expect(() => path.receive(pads(1), 1.6)).toThrow(RemoteProtocolError);
  });

  test("when it asks on and does not read", () => {
    const [path] = active();
    const ping = concat(
      Array.from({ length: 900 }, (_, id) => encode({ type: "PING", id })),
    );
    const flood = () => {
      for (let second = 1; second < 60; second++) path.receive(ping, second);
    };
    expect(flood).toThrow(/does not read/);
  });
});
