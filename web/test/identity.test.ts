/** Keys the browser keeps to itself, and keys of bytes, speak the same. */

import { afterEach, expect, test, vi } from "vitest";
import { utf8 } from "../src/bytes.ts";
import { makeIdentity, openIdentity } from "../src/identity.ts";
import { openEnvelope, type Refusal, seal } from "../src/protocol/envelope.ts";
import { boxKey, isSignedBy, publicKey } from "../src/trust/keys.ts";

afterEach(() => {
  vi.unstubAllGlobals();
});

/** What a page on plain http finds. */
function withoutWebCrypto(): void {
  const getRandomValues = <View extends ArrayBufferView>(view: View) =>
    webCrypto.getRandomValues(view as never);
  const webCrypto = globalThis.crypto;
  vi.stubGlobal("crypto", { getRandomValues });
}

async function identities() {
  const guarded = openIdentity(await makeIdentity());
  withoutWebCrypto();
  const plain = openIdentity(await makeIdentity());
  vi.unstubAllGlobals();
  return { guarded, plain };
}

test("where WebCrypto is, the private halves cannot be read", async () => {
  const stored = await makeIdentity();
  if (stored.kind !== "guarded") throw new Error("this Node.js has WebCrypto");
  for (const key of [stored.signing, stored.box]) {
    expect(key.extractable).toBe(false);
    await expect(crypto.subtle.exportKey("jwk", key)).rejects.toThrow();
  }
});

test("both sign what anybody verifies", async () => {
  const { guarded, plain } = await identities();
  expect([guarded.isGuarded, plain.isGuarded]).toEqual([true, false]);
  for (const { id, signing } of [guarded, plain]) {
    const signature = await signing.sign(utf8("said"));
    expect(isSignedBy(publicKey(id), utf8("said"), signature)).toBe(true);
    expect(isSignedBy(publicKey(id), utf8("not said"), signature)).toBe(false);
  }
});

test("each opens what is sealed to it, whoever sealed", async () => {
  const { guarded, plain } = await identities();
  for (const [from, to] of [
    [guarded, plain],
    [plain, guarded],
  ] as const) {
    const refusal: Refusal = {
      type: "refusal",
      path: new Uint8Array(16),
      sender: from.id,
      to: to.id,
      ts: 1_000,
      prev: new Uint8Array(32),
      code: 7,
      text: "later",
    };
    const ephemeral = boxKey(crypto.getRandomValues(new Uint8Array(32)));
    const nonce = new Uint8Array(24);
    const { envelope } = await seal(
      refusal,
      from.signing,
      to.box.publicKey,
      ephemeral,
      nonce,
    );
    const opened = await openEnvelope(envelope, to.box, to.id, from.id, 1_000);
    expect(opened.signal).toEqual(refusal);
    await expect(
      openEnvelope(envelope, from.box, to.id, from.id, 1_000),
    ).rejects.toThrow(/not sealed to this node/);
  }
});

test("nothing is sealed to a key that everybody shares a secret with", async () => {
  const { guarded, plain } = await identities();
  for (const { box } of [guarded, plain]) {
    await expect(box.agree(new Uint8Array(32))).rejects.toThrow();
  }
});
