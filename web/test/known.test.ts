/** What a page keeps of its mesh: never lowered, never another's. */

import { describe, expect, test } from "vitest";
import { NotAllowed, TrustError } from "../src/errors.ts";
import {
  decideProvider,
  type Known,
  ownAdmission,
  withMembership,
  withRevocations,
  withStatement,
} from "../src/known.ts";
import { signCard } from "../src/trust/grants.ts";
import { b64encode, type PeerId } from "../src/trust/keys.ts";
import { type Kind, sign } from "../src/trust/signed.ts";
import { idOf, keyOf } from "./vectors.ts";

const NOW = 1_800_000_000;
const TICKET = new Uint8Array(16);
const CAPS = { models: null, parallel: null, tokens_per_day: null, invite: null };
const MESH = idOf("root") as PeerId;

const signed = (kind: Kind, by: string, body: object) =>
  sign(kind, { mesh: MESH, ...body, ts: NOW }, keyOf(by));
const statement = (version: number, owners: string[]) =>
  signed("statement", "root", {
    version,
    owners: owners.map((name) => ({ id: idOf(name), name })),
  });
const membership = (name: string, role: string, change: object = {}) =>
  sign(
    "membership",
    {
      mesh: MESH,
      issuer: idOf("ann"),
      id: idOf(name),
      name,
      role,
      caps: CAPS,
      ticket: null,
      until: NOW + 100,
      ts: NOW,
      ...change,
    },
    keyOf("ann"),
  );
const revocations = (version: number, out: string[], by = "ann") =>
  signed("revocations", by, {
    issuer: idOf(by),
    version,
    revoked: out.map((name) => ({ id: idOf(name), ts: NOW })),
  });

/** Bob, with his card. */
async function joined(): Promise<Known> {
  const first = await statement(1, ["ann"]);
  const ticket = await signed("ticket", "ann", {
    issuer: idOf("ann"),
    id: "AAAAAAAAAAAAAAAAAAAAAA",
    seed: b64encode(keyOf("seed").publicKey),
    name: "bob",
    role: "member",
    caps: CAPS,
    until: NOW + 100,
  });
  const card = { mesh: MESH, ticket: TICKET, id: idOf("bob") as PeerId, ts: NOW };
  const chain = [first, ticket, await signCard(card, keyOf("seed"))];
  return {
    mesh: MESH,
    id: idOf("bob") as PeerId,
    hub: "http://127.0.0.1:1",
    hubKey: idOf("hub") as PeerId,
    chain,
    statement: first,
    revocations: null,
  };
}

describe("a membership", () => {
  test("replaces the card, and a newer one an older one", async () => {
    const before = await joined();
    const first = await membership("bob", "member");
    const known = withMembership(before, first, before.statement, NOW);
    expect(known.chain).toEqual([before.statement, first]);
    expect(ownAdmission(known, NOW)).toMatchObject({ role: "member", name: "bob" });
    const newer = await membership("bob", "guest", { ts: NOW + 1 });
    const renewed = withMembership(known, newer, before.statement, NOW);
    expect(ownAdmission(renewed, NOW).role).toBe("guest");
    expect(withMembership(renewed, first, before.statement, NOW)).toEqual(renewed);
  });

  test("of somebody else is none of ours", async () => {
    const before = await joined();
    const eves = await membership("eve", "member");
    expect(() => withMembership(before, eves, before.statement, NOW)).toThrow(
      NotAllowed,
    );
  });

  test("is not for who is an owner", async () => {
    const before = await joined();
    const known = withStatement(before, await statement(2, ["ann", "bob"]));
    expect(known.chain).toHaveLength(1);
    const token = await membership("bob", "member");
    expect(withMembership(known, token, known.statement, NOW)).toEqual(known);
  });
});

test("a statement is never lowered, and none of another mesh is taken", async () => {
  const before = await joined();
  const known = withStatement(before, await statement(3, ["ann", "carol"]));
  expect(known.chain[0]).toBe(known.statement);
  expect(withStatement(known, await statement(2, ["eve"]))).toBe(known);
  expect(withStatement(known, await statement(3, ["eve"]))).toBe(known);
  const other = await sign(
    "statement",
    {
      mesh: idOf("eve"),
      version: 9,
      owners: [{ id: idOf("eve"), name: "Eve" }],
      ts: NOW,
    },
    keyOf("eve"),
  );
  expect(() => withStatement(known, other)).toThrow(TrustError);
});

test("who is revoked answers nothing any more", async () => {
  const before = await joined();
  const chain = [before.statement, await membership("carol", "member")];
  const carol = idOf("carol") as PeerId;
  expect(decideProvider(before, chain, carol, NOW).role).toBe("member");
  const known = withRevocations(before, await revocations(1, ["carol"]));
  expect(() => decideProvider(known, chain, carol, NOW)).toThrow(/revoked/);
  expect(withRevocations(known, await revocations(1, []))).toBe(known);
  expect(withRevocations(known, await revocations(2, [], "eve"))).toBe(known);
});

test("a guest shares nothing", async () => {
  const known = await joined();
  const chain = [known.statement, await membership("carol", "guest")];
  const carol = idOf("carol") as PeerId;
  expect(() => decideProvider(known, chain, carol, NOW)).toThrow(/not share/);
});

test("a card is a guest's until it ends", async () => {
  const known = await joined();
  expect(ownAdmission(known, NOW).role).toBe("guest");
  expect(() => ownAdmission(known, NOW + 100)).toThrow(/expired/);
});
