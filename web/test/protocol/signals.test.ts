/** Signaling messages: strictly by the tables of docs/protocol.md §3. */

import { describe, expect, test } from "vitest";
import { RemoteProtocolError } from "../../src/errors.ts";
import {
  decodeHub,
  encodeLogin,
  encodePong,
  encodeRequest,
} from "../../src/protocol/signals.ts";
import type { PeerId } from "../../src/trust/keys.ts";
import { idOf } from "../vectors.ts";

const ID = idOf("ann") as PeerId;
const B16 = "AAECAwQFBgcICQoLDA0ODw";
const B32 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const B64 = "A".repeat(86);
const ICE = { urls: ["turn:turn.example.org"], username: "u", credential: null };

const MESSAGES: Readonly<Record<string, Record<string, unknown>>> = {
  challenge: { server: ID, nonce: B32, ts: 1_800_000_000, versions: [1, 1] },
  welcome: {
    sig: B64,
    roster: ["a.b"],
    ice: [ICE],
    statement: null,
    revocations: "r.s",
  },
  roster: { joined: ["a.b"], left: [ID] },
  signal: { from: ID, conn: B16, sealed: "AAAA" },
  ticket: { re: 1, sealed: "AAAA" },
  card: { chain: ["a.b", "c.d", "e.f"], conflict: false },
  membership: { membership: "a.b", statement: "c.d" },
  revoked: { revocations: "a.b" },
  statement: { statement: "a.b" },
  letter: { letter: "AAAA" },
  mailbox_closed: { code: 10 },
  done: { re: 2 ** 31 - 1 },
  error: { re: null, code: 13, text: "gone" },
  ping: { re: 7 },
  pong: { re: 7 },
};

function said(t: string, change: Record<string, unknown> = {}): string {
  return JSON.stringify({ t, ...MESSAGES[t], ...change });
}

describe.each(Object.keys(MESSAGES))("a hub's %s", (t) => {
  test("is read", () => {
    expect(decodeHub(said(t)).t).toBe(t);
  });

  test("is refused with a field more, or one less", () => {
    expect(() => decodeHub(said(t, { more: 1 }))).toThrow(RemoteProtocolError);
    const [first = ""] = Object.keys(MESSAGES[t] ?? {});
    expect(() => decodeHub(said(t, { [first]: undefined }))).toThrow(
      RemoteProtocolError,
    );
  });
});

test.each([
  ["challenge", { nonce: B16 }],
  ["challenge", { versions: [2, 1] }],
  ["challenge", { ts: 1.5 }],
  ["welcome", { ice: [{ ...ICE, more: 1 }] }],
  ["welcome", { roster: ["a b"] }],
  ["roster", { left: [ID.toUpperCase()] }],
  ["signal", { sealed: "AA==" }],
  ["letter", { letter: "AA==" }],
  ["letter", { letter: "" }],
  ["letter", { letter: "A".repeat(10_924) }],
  ["mailbox_closed", { code: 0 }],
  ["done", { re: 0 }],
  ["done", { re: 2 ** 31 }],
  ["error", { code: 19 }],
  ["card", { conflict: 0 }],
  ["card", { chain: ["a.b", "a.b", "a.b", "a.b"] }],
])("a %s is refused with %o", (t, change) => {
  expect(() => decodeHub(said(t, change))).toThrow(RemoteProtocolError);
});

test("a kind of a newer version is no error", () => {
  expect(decodeHub('{"t":"news","re":1}')).toEqual({ t: "?", kind: "news" });
  expect(decodeHub('{"t":"toString"}')).toEqual({ t: "?", kind: "toString" });
});

test.each(["", "[]", '{"t":1}', '{"t":"done","re":1,"re":1}'])("%j is none", (data) => {
  expect(() => decodeHub(data)).toThrow(RemoteProtocolError);
});

test("what a page says", () => {
  const bytes = Uint8Array.from({ length: 16 }, (_, at) => at);
  const sealed = Uint8Array.of(255, 254);
  const send = { t: "send", to: ID, conn: bytes, sealed } as const;
  expect(encodeRequest(send, 5)).toBe(
    `{"t":"send","re":5,"to":"${ID}","conn":"${B16}","sealed":"__4"}`,
  );
  expect(encodeRequest({ ...send, conn: null }, 5)).toContain('"conn":null');
  const ticket = { t: "get_ticket", id: bytes.slice(0, 8) } as const;
  expect(encodeRequest(ticket, 1)).toBe('{"t":"get_ticket","re":1,"id":"AAECAwQFBgc"}');
  expect(encodeRequest({ t: "join_mailbox", number: 412 }, 2)).toBe(
    '{"t":"join_mailbox","re":2,"number":412}',
  );
  expect(encodeRequest({ t: "post", letter: sealed }, 2)).toBe(
    '{"t":"post","re":2,"letter":"__4"}',
  );
  expect(encodeRequest({ t: "ping" }, 3)).toBe('{"t":"ping","re":3}');
  expect(encodePong({ t: "pong", re: 3 })).toBe('{"t":"pong","re":3}');
  const login = { t: "login", id: ID, nonce: bytes, conn: bytes, sig: sealed } as const;
  expect(JSON.parse(encodeLogin({ ...login, chain: ["a.b"] }))).toEqual({
    t: "login",
    id: ID,
    nonce: B16,
    conn: B16,
    sig: "__4",
    chain: ["a.b"],
  });
});
