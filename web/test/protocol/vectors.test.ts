/** envelope.json and hello.json: what is in the files is what we open and refuse. */

import { describe, expect, test } from "vitest";
import { toHex } from "../../src/bytes.ts";
import { Code } from "../../src/errors.ts";
import { openEnvelope, seal } from "../../src/protocol/envelope.ts";
import {
  commit,
  type HelloRole,
  transcript,
  verify,
} from "../../src/protocol/hello.ts";
import { boxKey, type PeerId } from "../../src/trust/keys.ts";
import { sign } from "../../src/trust/signed.ts";
import { hex, idOf, keyOf, load, refusal } from "../vectors.ts";

interface Envelopes {
  readonly receiver: { readonly id: PeerId; readonly box: string };
  readonly ephemeral: string;
  readonly nonce: string;
  readonly opened: readonly {
    readonly kind: "offer" | "answer" | "candidates" | "refusal";
    readonly by: string;
    readonly fields: Record<string, unknown>;
    readonly form: string;
    readonly envelope: string;
    readonly outer: string;
    readonly now: number;
    readonly digest: string;
  }[];
  readonly refused: readonly {
    readonly name: string;
    readonly envelope: string;
    readonly outer: string;
    readonly now: number;
    readonly code: string;
  }[];
  readonly unknown_code: { readonly envelope: string; readonly read: number };
}
interface Hellos {
  readonly nonce_a: string;
  readonly parts: Readonly<Record<string, string>>;
  readonly transcript: string;
  readonly checked: readonly {
    readonly name: string;
    readonly expected_role: HelloRole;
    readonly peer: string;
    readonly hello: {
      readonly role: number;
      readonly nonce: string;
      readonly sig: string;
    };
    readonly code?: string;
  }[];
}
const ENVELOPES = load<Envelopes>("envelope.json");
const HELLOS = load<Hellos>("hello.json");
const BOX = boxKey(hex(ENVELOPES.receiver.box));
const ME = ENVELOPES.receiver.id;

function open(one: { readonly envelope: string; readonly outer: string; now: number }) {
  return openEnvelope(hex(one.envelope), BOX, ME, idOf(one.outer) as PeerId, one.now);
}

describe("envelopes", () => {
  test.each(ENVELOPES.opened)("an $kind is opened and made again", async (one) => {
    const { signal, digest } = await open(one);
    expect(signal.type).toBe(one.kind);
    expect(toHex(digest)).toBe(one.digest);
    const key = keyOf(one.by);
    const ephemeral = boxKey(hex(ENVELOPES.ephemeral));
    const again = await seal(
      signal,
      key,
      BOX.publicKey,
      ephemeral,
      hex(ENVELOPES.nonce),
    );
    expect(toHex(again.envelope)).toBe(one.envelope);
    expect(toHex(again.digest)).toBe(one.digest);
    expect(await sign(one.kind, one.fields, key)).toBe(one.form);
  });

  test.each(ENVELOPES.refused)("refused: $name", async (one) => {
    expect(await refusal(() => open(one))).toBe(one.code);
  });

  test("an unknown code is read as internal", async () => {
    const { envelope, read } = ENVELOPES.unknown_code;
    const { signal } = await openEnvelope(hex(envelope), BOX, ME, null, 1_800_000_000);
    expect(signal).toMatchObject({ type: "refusal", code: Code.INTERNAL });
    expect(read).toBe(Code.INTERNAL);
  });
});

// `seen` in envelope.json is about who answers offers, which a page never does.

describe("HELLO", () => {
  const part = (name: string) => HELLOS.parts[name] ?? "";

  test("has the transcript of the example", () => {
    const made = transcript({
      path: hex(part("path")),
      offerer: part("offerer") as PeerId,
      answerer: part("answerer") as PeerId,
      commit: hex(part("commit")),
      answerNonce: hex(part("answer_nonce")),
      offererFingerprint: hex(part("offerer_fingerprint")),
      answererFingerprint: hex(part("answerer_fingerprint")),
      offerDigest: hex(part("offer_digest")),
      answerDigest: hex(part("answer_digest")),
    });
    expect(toHex(made)).toBe(HELLOS.transcript);
    expect(toHex(commit(hex(HELLOS.nonce_a)))).toBe(part("commit"));
  });

  test.each(HELLOS.checked)("$name", async (one) => {
    const { role, nonce, sig } = one.hello;
    const check = () =>
      verify(
        { type: "HELLO", role, nonceReveal: hex(nonce), sig: hex(sig) },
        {
          role: one.expected_role,
          transcript: hex(HELLOS.transcript),
          publicKey: keyOf(one.peer).publicKey,
          commit: one.expected_role === 1 ? hex(part("commit")) : null,
        },
      );
    expect(await refusal(check)).toBe(one.code);
  });
});

test("the files hold both ends of every rule", () => {
  expect(new Set(ENVELOPES.refused.map((one) => one.code))).toEqual(
    new Set(["auth", "protocol", "clock_skew"]),
  );
  expect(HELLOS.checked.filter((one) => one.code === undefined)).toHaveLength(2);
});
