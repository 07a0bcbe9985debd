/** What a page makes of an owner's grant: a place in its mesh, at the server it came by. */

import { describe, expect, test } from "vitest";
import { Code, TrustError } from "../src/errors.ts";
import { ownAdmission } from "../src/known.ts";
import { begun } from "../src/pairing.ts";
import type { Grant } from "../src/protocol/pairingMessages.ts";
import { admit } from "../src/trust/admission.ts";
import { readStatement } from "../src/trust/grants.ts";
import type { PeerId } from "../src/trust/keys.ts";
import { idOf, load } from "./vectors.ts";

interface File {
  readonly now: number;
  readonly newcomer: { readonly id: PeerId };
  readonly grant: Omit<Grant, "type"> & { readonly server: PeerId };
}
const file = load<File>("pairing.json");
const grant = { type: "grant", ...file.grant } as const;
const chain = [grant.statement, grant.membership];
const { mesh } = readStatement(grant.statement);
const admission = admit(chain, file.newcomer.id, mesh, file.now);
const hub = { url: "https://mesh.example", key: grant.server };

describe("a grant", () => {
  test("is a place, and pins the server's key", () => {
    const known = begun(grant, admission, hub, true);
    expect(known).toMatchObject({ mesh, hub: hub.url, hubKey: grant.server, chain });
    expect(ownAdmission(known, file.now)).toMatchObject({ name: "bob", role: "guest" });
  });

  test("of a mesh that meets at another server is refused", () => {
    const other = { ...hub, key: idOf("eve") as PeerId };
    expect(() => begun(grant, admission, other, true)).toThrow(TrustError);
    expect(() => begun({ ...grant, server: null }, admission, hub, true)).toThrow(
      /not the one that this mesh meets at/,
    );
  });

  test("over plain http is a guest's only", () => {
    expect(begun(grant, admission, hub, false).id).toBe(file.newcomer.id);
    const member = { ...admission, role: "member" } as const;
    expect(begun(grant, member, hub, true).id).toBe(file.newcomer.id);
    expect(() => begun(grant, member, hub, false)).toThrow(
      expect.objectContaining({ code: Code.FORBIDDEN }),
    );
  });
});
