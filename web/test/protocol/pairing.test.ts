/** Pairing without any socket: the examples of pairing.json, and every way it is bent. */

import { describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { Code, MeshError } from "../../src/errors.ts";
import { type Attempt, LIFE_S, NewcomerSide } from "../../src/protocol/pairing.ts";
import type { Grant } from "../../src/protocol/pairingMessages.ts";
import { boxKey } from "../../src/trust/keys.ts";
import { OwnerSide } from "../fakes/pairing.ts";
import { hex, keyOf, load, refusal } from "../vectors.ts";

type Step = "offer" | "answer" | "reveal" | "ready" | "grant" | "accepted";
interface Chance {
  readonly id: string;
  readonly box: string;
  readonly nonce: string;
}
interface File {
  readonly mailbox: number;
  readonly now: number;
  readonly newcomer: Chance;
  readonly owner: Chance;
  readonly code: string;
  readonly receipt: string;
  readonly grant: Omit<Grant, "type">;
  readonly letters: Readonly<Record<Step, string>>;
  readonly heard: readonly {
    readonly name: string;
    readonly side: "owner" | "newcomer";
    readonly heard: readonly (Step | "code" | "receipt")[];
    readonly letter: string;
    readonly now: number;
    readonly back?: string | null;
    readonly code?: string;
  }[];
}
const file = load<File>("pairing.json");
const { now } = file;
const letters = new Map(
  Object.entries(file.letters).map(([name, letter]) => [name, hex(letter)]),
);

function letter(name: string) {
  const found = letters.get(name);
  if (found === undefined) throw new Error(`no letter ${name}`);
  return found;
}

function attempt(name: string, chance: Chance): Attempt {
  return {
    key: keyOf(name),
    box: boxKey(hex(chance.box)),
    nonce: hex(chance.nonce),
    mailbox: file.mailbox,
    until: now + LIFE_S,
  };
}
const owner = () => new OwnerSide(attempt("ann", file.owner));
const newcomer = () => new NewcomerSide(attempt("bob", file.newcomer));

/** Both, where the newcomer shows its code. */
async function met() {
  const [ann, bob] = [owner(), newcomer()];
  const answer = await ann.receive(await bob.offer(), now);
  if (answer === null) throw new Error("the owner says nothing");
  await ann.receive(await bob.answered(answer, now), now);
  return { ann, bob };
}

test("the newcomer says byte for byte what it does in Python", async () => {
  const bob = newcomer();
  expect(bob.id).toBe(file.newcomer.id);
  expect(toHex(await bob.offer())).toBe(file.letters.offer);
  expect(toHex(await bob.answered(letter("answer"), now))).toBe(file.letters.reveal);
  expect(bob.code).toBe(file.code);
  expect(toHex(await bob.typeReceipt(file.receipt, now))).toBe(file.letters.ready);
  const { grant, admission } = await bob.granted(letter("grant"), now);
  expect(grant).toEqual({ type: "grant", ...file.grant });
  expect(admission).toMatchObject({
    id: bob.id,
    issuer: file.owner.id,
    role: "guest",
  });
  expect(toHex(bob.accept())).toBe(file.letters.accepted);
  expect(bob.stage).toBe("nothing more");
  expect(bob.stop(Code.CANCELLED)).toBeNull();
});

test.each(file.heard)("$side: $name", async (one) => {
  const hear = one.side === "owner" ? asOwner : asNewcomer;
  const { act } = await hear(one.heard);
  let back: string | null | undefined;
  const code = await refusal(async () => {
    const said = await act(hex(one.letter), one.now);
    back = said === null ? null : toHex(said);
  });
  expect({ back, code }).toEqual({ back: one.back, code: one.code });
});

async function asOwner(heard: readonly string[]) {
  const ann = owner();
  for (const step of heard) {
    if (step === "code") ann.typeCode(file.code);
    else await ann.receive(letter(step), now);
  }
  return { act: (data: ReturnType<typeof hex>, at: number) => ann.receive(data, at) };
}

async function asNewcomer(heard: readonly string[]) {
  const bob = newcomer();
  await bob.offer();
  for (const step of heard) {
    if (step === "receipt") await bob.typeReceipt(file.receipt, now);
    else await bob.answered(letter(step), now);
  }
  const act = async (data: ReturnType<typeof hex>, at: number) => {
    if (heard.length === 0) return bob.answered(data, at);
    if (heard.length === 1) return bob.interrupted(data, at);
    await bob.granted(data, at);
    return null;
  };
  return { act };
}

test("a page and an owner pair", async () => {
  const { ann, bob } = await met();
  ann.typeCode(bob.code);
  await ann.receive(await bob.typeReceipt(ann.receipt, now), now);
  const { grant } = await bob.granted(
    ann.grant({ type: "grant", ...file.grant }),
    now + 1,
  );
  expect(grant.membership).toBe(file.grant.membership);
  await ann.receive(bob.accept(), now);
  expect(ann.stage).toBe("paired");
});

describe("one attempt, one guess", () => {
  test("wrong digits end it, and the right ones come too late", async () => {
    const { ann, bob } = await met();
    ann.typeCode(bob.code);
    const other = ann.receipt === "17" ? "18" : "17";
    await expect(bob.typeReceipt(other, now)).rejects.toMatchObject({
      code: Code.AUTH,
      message: expect.stringContaining("Start again"),
    });
    await expect(bob.typeReceipt(ann.receipt, now)).rejects.toMatchObject({
      code: Code.GONE,
    });
    const last = bob.stop(Code.AUTH);
    expect(last).not.toBeNull();
    if (last !== null) {
      await expect(ann.receive(last, now)).rejects.toMatchObject({ code: Code.AUTH });
    }
  });

  test.each([
    [Code.AUTH, /other digits were typed/],
    [Code.TIMEOUT, /ten minutes/],
    [Code.CANCELLED, /was stopped/],
    [Code.INTERNAL, /was stopped/],
  ])("the owner's end with code %i is told", async (code, text) => {
    const { ann, bob } = await met();
    const failed = bob.interrupted(ann.stop(code), now);
    await expect(failed).rejects.toThrow(text);
    await expect(failed).rejects.toMatchObject({ code });
    expect(bob.stop(Code.CANCELLED)).toBeNull(); // the owner knows
  });

  test("ten minutes are enough and no more", async () => {
    const { ann, bob } = await met();
    ann.typeCode(bob.code);
    await expect(bob.typeReceipt(ann.receipt, now + LIFE_S)).rejects.toMatchObject({
      code: Code.TIMEOUT,
    });
  });

  test("nothing is said out of turn", async () => {
    const bob = newcomer();
    expect(() => bob.accept()).toThrow(MeshError);
    await expect(bob.typeReceipt("00", now)).rejects.toThrow(MeshError);
    await expect(newcomer().answered(letter("answer"), now)).rejects.toThrow(MeshError);
    await expect(newcomer().granted(letter("grant"), now)).rejects.toThrow(MeshError);
    const { bob: early } = await met();
    await expect(early.granted(letter("grant"), now)).rejects.toThrow(MeshError);
  });

  test("one's own letters, sent back by whoever carries them, do not open", async () => {
    const { ann, bob } = await met();
    ann.typeCode(bob.code);
    const ready = await bob.typeReceipt(ann.receipt, now);
    await expect(bob.granted(ready, now)).rejects.toThrow(/not the other side's next/);
  });
});
