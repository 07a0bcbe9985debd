/** Who is there, and who answers. */

import { expect, test } from "vitest";
import { NotAllowed, TrustError } from "../../src/errors.ts";
import { order, type Warmth } from "../../src/routing/choose.ts";
import { fullName, isSameName } from "../../src/routing/names.ts";
import { findModel, type Provider, pinned, Roster } from "../../src/routing/roster.ts";
import { admit } from "../../src/trust/admission.ts";
import type { PeerId } from "../../src/trust/keys.ts";
import { announcement, MESH, NOW } from "../fakes/mesh.ts";
import { idOf } from "../vectors.ts";

const connected = new Set<string>();
const revoked = new Set<string>();

function roster(): Roster {
  connected.clear();
  revoked.clear();
  return new Roster(
    (chain, id) => {
      if (revoked.has(id)) throw new NotAllowed("revoked");
      return admit(chain, id, MESH, NOW);
    },
    (id) => connected.has(id),
  );
}

const names = (all: readonly Provider[]) => all.map(({ name }) => name);

test("an older announcement never replaces a newer", async () => {
  const all = roster();
  all.put(await announcement("bob", { models: ["new"], ts: NOW + 1 }));
  all.put(await announcement("bob", { models: ["old"] }));
  const bob = all.get(idOf("bob") as PeerId);
  expect(bob?.announcement.models.map(({ name }) => name)).toEqual(["new"]);
  expect(bob?.announcement.models[0]?.details).toEqual({ family: "llama", scale: 0.5 });
});

test("what does not hold is not put", async () => {
  const all = roster();
  const [body = "", signature = ""] = (await announcement("bob")).split(".");
  const forged = `${body}.${signature.replace(/^./, (c) => (c === "A" ? "B" : "A"))}`;
  expect(() => all.put(forged)).toThrow(TrustError);
  expect(all.providers).toEqual([]);
});

test("whoever we are connected with stays through a restart of the server", async () => {
  const all = roster();
  all.put(await announcement("bob", { models: ["a"] }));
  all.put(await announcement("carol"));
  connected.add(idOf("bob"));
  all.beginAgain();
  expect(names(all.providers)).toEqual(["bob"]);
  connected.clear();
  expect(all.providers).toEqual([]);
  expect(all.knows("A:latest")).toBe(true);
  expect(all.knows("b")).toBe(false);
});

test("who is refused now is taken out", async () => {
  const all = roster();
  all.put(await announcement("bob"));
  revoked.add(idOf("bob"));
  all.recheck();
  expect(all.providers).toEqual([]);
});

test("a model is found by its exact name first", async () => {
  const all = roster();
  all.put(await announcement("bob", { models: ["llama:latest", "Llama"] }));
  const bob = all.get(idOf("bob") as PeerId) as Provider;
  expect(findModel(bob, "Llama")?.name).toBe("Llama");
  expect(findModel(bob, "llama")?.name).toBe("llama:latest");
  expect(findModel(bob, "other")).toBeUndefined();
});

test("names mean the same without case and tag", () => {
  expect(fullName(" Org/Model ")).toBe("org/model:latest");
  expect(fullName("host:80/model")).toBe("host:80/model:latest");
  expect(isSameName("a:1b", "a")).toBe(false);
});

test("a pin is a name, or the start of an id", async () => {
  const all = roster();
  all.put(await announcement("bob"));
  all.put(await announcement("carol"));
  expect(names(pinned(all.providers, "BOB"))).toEqual(["bob"]);
  expect(names(pinned(all.providers, idOf("carol").slice(0, 6)))).toEqual(["carol"]);
  expect(pinned(all.providers, "nobody")).toEqual([]);
});

test("who has not failed, has a slot free, is connected and near comes first", async () => {
  const all = roster();
  for (const name of ["ann", "bob", "carol"]) all.put(await announcement(name));
  const cold = { isWarm: false, openStreams: 0, rttS: 0, hasFailedLately: false };
  const ordered = (known: Readonly<Record<string, Partial<Warmth>>>) => {
    const warmth = new Map(
      Object.entries(known).map(([name, some]) => [idOf(name), { ...cold, ...some }]),
    );
    return names(order(all.providers, (id) => warmth.get(id) ?? cold));
  };
  expect(ordered({ bob: { isWarm: true } })[0]).toBe("bob");
  expect(ordered({ bob: { isWarm: true, openStreams: 1 } })[2]).toBe("bob");
  const near = { isWarm: true, rttS: 0.01 };
  expect(
    ordered({
      ann: { ...near, rttS: 0.2 },
      bob: near,
      carol: { hasFailedLately: true },
    }),
  ).toEqual(["bob", "ann", "carol"]);
});
