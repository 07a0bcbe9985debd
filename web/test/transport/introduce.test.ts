/** Offers that are not made. */

import { expect, test } from "vitest";
import { PeerUnreachable } from "../../src/errors.ts";
import type { Identity } from "../../src/identity.ts";
import type { Ice } from "../../src/protocol/signals.ts";
import { Roster } from "../../src/routing/roster.ts";
import { Introducer } from "../../src/transport/introduce.ts";
import { admit } from "../../src/trust/admission.ts";
import type { PeerId } from "../../src/trust/keys.ts";
import { announcement, MESH, NOW } from "../fakes/mesh.ts";
import { idOf } from "../vectors.ts";

const STUN: Ice = { urls: ["stun:192.0.2.1:3478"], username: null, credential: null };

test("an address that shall stay hidden is not offered where no relay is", async () => {
  const roster = new Roster(
    (chain, id) => admit(chain, id, MESH, NOW),
    () => false,
  );
  roster.put(await announcement("bob"));
  const bob = roster.get(idOf("bob") as PeerId);
  if (bob === undefined) throw new Error("bob announces");
  const delivered: PeerId[] = [];
  const introducer = new Introducer({
    identity: {} as Identity, // nothing is sealed for want of a relay
    conn: new Uint8Array(16),
    deliver: async (to) => void delivered.push(to),
    chain: () => [],
    servers: () => [STUN],
    decide: () => {},
    isRelayOnly: true,
  });
  const dialled = introducer.dial(bob.announcement, new AbortController().signal);
  await expect(dialled).rejects.toThrow(PeerUnreachable);
  await expect(dialled).rejects.toThrow(/hides your address .* has none/);
  expect(delivered).toEqual([]);
});
