/** trust.json: what is in the file is what we read and what we refuse, with its code. */

import { describe, expect, test } from "vitest";
import { toHex, utf8 } from "../../src/bytes.ts";
import { admit, supersedes } from "../../src/trust/admission.ts";
import { readAnnouncement } from "../../src/trust/announcement.ts";
import {
  readCard,
  readMembership,
  readRevocations,
  readStatement,
  readTicket,
} from "../../src/trust/grants.ts";
import {
  b64decode,
  b64encode,
  type PeerId,
  peerId,
  publicKey,
} from "../../src/trust/keys.ts";
import {
  formatLink,
  openInvitation,
  parseLink,
  readInvitation,
  sealInvitation,
  writeInvitation,
} from "../../src/trust/link.ts";
import { type Kind, read, sign } from "../../src/trust/signed.ts";
import { type JsonObject, parseObject, plain } from "../../src/trust/strictJson.ts";
import { hex, idOf, keyOf, load, PEOPLE, refusal } from "../vectors.ts";

interface Token {
  readonly kind: Kind;
  readonly by: string;
  readonly name: string;
  readonly fields: Record<string, unknown>;
  readonly token: string;
  readonly code: string;
}
interface Chain {
  readonly name: string;
  readonly id: PeerId;
  readonly mesh: PeerId;
  readonly now: number;
  readonly chain: readonly string[];
  readonly known: string | null;
  readonly revoked: string | null;
  readonly admission?: Record<string, unknown>;
  readonly code?: string;
}
interface List {
  readonly name: string;
  readonly statement: string;
  readonly kept: string | null;
  readonly new: string;
  readonly replaces: boolean;
}
interface File {
  readonly tokens: {
    readonly read: readonly Token[];
    readonly refused: readonly Token[];
  };
  readonly chains: readonly Chain[];
  readonly lists: readonly List[];
  readonly base64url: {
    readonly read: readonly (readonly [string, string])[];
    readonly refused: readonly string[];
  };
  readonly ids: {
    readonly read: readonly (readonly [string, string])[];
    readonly refused: readonly string[];
  };
  readonly json: {
    readonly depth: number;
    readonly read: readonly string[];
    readonly refused: readonly string[];
  };
  readonly links: {
    readonly read: readonly Record<string, unknown>[];
    readonly refused: readonly string[];
  };
  readonly sealed: {
    readonly key: string;
    readonly nonce: string;
    readonly invitation: JsonObject;
    readonly sealed: string;
    readonly refused: readonly string[];
  };
}
const FILE = load<File>("trust.json");

function readAs(kind: Kind, token: string): unknown {
  switch (kind) {
    case "statement":
      return readStatement(token);
    case "ticket":
      return readTicket(token);
    case "card":
      return readCard(token, keyOf("seed").publicKey);
    case "membership":
      return readMembership(token);
    case "revocations":
      return readRevocations(token);
    case "announcement":
      return readAnnouncement(token);
    default:
      throw new Error(`no vector has the kind ${kind}`);
  }
}

test("keys have their ids", () => {
  for (const name of PEOPLE) expect(peerId(keyOf(name).publicKey)).toBe(idOf(name));
});

describe("tokens", () => {
  test.each(FILE.tokens.read)("$kind is read and made again", async (one) => {
    const key = keyOf(one.by);
    expect(plain(read(one.kind, one.token, key.publicKey))).toEqual(one.fields);
    expect(await sign(one.kind, one.fields, key)).toBe(one.token);
    readAs(one.kind, one.token);
  });

  test.each(FILE.tokens.refused)("$kind is refused: $name", async (one) => {
    expect(await refusal(() => readAs(one.kind, one.token))).toBe(one.code);
  });
});

describe("chains", () => {
  test.each(FILE.chains)("$name", async (one) => {
    const kept = {
      statement: one.known === null ? null : readStatement(one.known),
      revoked: one.revoked === null ? null : readRevocations(one.revoked),
    };
    const enter = () => admit(one.chain, one.id, one.mesh, one.now, kept);
    expect(await refusal(enter)).toBe(one.code);
    if (one.admission === undefined) return;
    const { name, until, issuer, role, caps, ticket } = enter();
    expect({
      name,
      until,
      issuer,
      role,
      caps: {
        models: caps.models,
        parallel: caps.parallel,
        tokens_per_day: caps.tokensPerDay,
        invite: null,
      },
      ticket: ticket === null ? null : b64encode(ticket),
    }).toEqual(one.admission);
  });
});

test.each(FILE.lists)("revocations: $name", (one) => {
  const kept = one.kept === null ? null : readRevocations(one.kept);
  const statement = readStatement(one.statement);
  expect(supersedes(readRevocations(one.new), kept, statement)).toBe(one.replaces);
});

test("base64url", async () => {
  for (const [data, text] of FILE.base64url.read) {
    expect(toHex(b64decode(text))).toBe(data);
    expect(b64encode(hex(data))).toBe(text);
  }
  for (const text of FILE.base64url.refused) {
    expect([text, await refusal(() => b64decode(text))]).toEqual([text, "auth"]);
  }
});

test("ids", async () => {
  for (const [key, id] of FILE.ids.read) expect(toHex(publicKey(id))).toBe(key);
  for (const id of FILE.ids.refused) {
    expect([id, await refusal(() => publicKey(id))]).toEqual([id, "auth"]);
  }
});

describe("strict JSON", () => {
  test.each(FILE.json.read)("reads %s", (text) => {
    const data = utf8(text);
    const read = plain(parseObject(data, data.length, FILE.json.depth));
    expect(JSON.stringify(read)).toBe(JSON.stringify(JSON.parse(text)));
  });

  test.each(FILE.json.refused)("refuses %s", async (text) => {
    expect(await refusal(() => parseObject(utf8(text), 4_096))).toBe("protocol");
  });
});

describe("links", () => {
  test.each(FILE.links.read)("reads $link", ({ link, ...fields }) => {
    const parsed = parseLink(String(link));
    const { kind, ...found } = parsed;
    const shown = Object.entries(found).map(([key, value]) => {
      if (value instanceof Uint8Array) return [key, b64encode(value)];
      return [key, key === "invitation" ? writeInvitation(value as never) : value];
    });
    expect(Object.fromEntries(shown)).toEqual(fields);
    expect(parseLink(formatLink(parsed))).toEqual(parsed);
    expect(kind).not.toBe("");
  });

  test.each(FILE.links.refused)("refuses %s", async (link) => {
    expect(await refusal(() => parseLink(link))).toBe("auth");
  });
});

test("sealed invitations", async () => {
  const { nonce, sealed } = FILE.sealed;
  const key = b64decode(FILE.sealed.key);
  const invitation = readInvitation(FILE.sealed.invitation);
  expect(openInvitation(b64decode(sealed), key)).toEqual(invitation);
  expect(b64encode(sealInvitation(invitation, key, b64decode(nonce)))).toBe(sealed);
  for (const wrong of FILE.sealed.refused) {
    expect(await refusal(() => openInvitation(b64decode(wrong), key))).toBe("auth");
  }
});

test("the file holds both ends of every rule", () => {
  expect(new Set(FILE.chains.map((one) => one.code))).toEqual(
    new Set([undefined, "auth", "revoked"]),
  );
  expect(new Set(FILE.tokens.refused.map((one) => one.code))).toEqual(
    new Set(["auth", "protocol"]),
  );
});
