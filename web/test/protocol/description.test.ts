/** Descriptions: read strictly, written as SDP, read back the same. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../../src/bytes.ts";
import { LocalProtocolError, RemoteProtocolError } from "../../src/errors.ts";
import { isOneMachine, readAddress } from "../../src/protocol/address.ts";
import {
  CANDIDATES_MAX,
  type Candidate,
  type Description,
  fromCandidateLine,
  fromSdp,
  readDescription,
  toCandidateLine,
  toSdp,
  writeDescription,
} from "../../src/protocol/description.ts";
import { origin, signalUrl } from "../../src/protocol/login.ts";
import { parseObject } from "../../src/trust/strictJson.ts";

const FINGERPRINT = Uint8Array.from({ length: 32 }, (_, at) => at);
const LAN: Candidate = {
  foundation: "1f",
  transport: "udp",
  priority: 2_130_706_431,
  host: "192.168.1.7",
  port: 50_000,
  kind: "host",
  related_host: null,
  related_port: null,
};
const NAMED = { ...LAN, foundation: "2", host: "7b3e9d52-a1.local" };
const RELAY: Candidate = {
  ...LAN,
  foundation: "r+/",
  priority: 16_777_215,
  host: "2001:db8::9",
  kind: "relay",
  related_host: "192.0.2.4",
  related_port: 0,
};
const OFFER: Description = {
  fingerprint: FINGERPRINT,
  ufrag: "q8Xz",
  pwd: "0123456789abcdefghijKL",
  setup: "actpass",
  candidates: [LAN, NAMED, RELAY],
  isComplete: true,
};
// What Chromium says, cut down to one candidate of each sort.
const CHROMIUM = `v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS
m=application 50001 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 198.51.100.3
a=candidate:2823455 1 udp 2113937151 7b3e9d52-a1.local 50001 typ host generation 0 network-cost 999
a=candidate:842163049 1 udp 1677729535 198.51.100.3 50001 typ srflx raddr 0.0.0.0 rport 0 generation 0
a=candidate:995 1 tcp 1518214911 7b3e9d52-a1.local 9 typ host tcptype active
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=ice-options:trickle
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:actpass
a=mid:0
a=sctp-port:5000
a=max-message-size:262144
`;

function read(fields: unknown): Description {
  return readDescription(parseObject(utf8(JSON.stringify(fields)), 1 << 20));
}

describe("a description", () => {
  test("says the same again as JSON and as SDP", () => {
    const ice = (minLength: number) =>
      fc.string({
        unit: fc.constantFrom(..."abcXYZ019+/"),
        minLength,
        maxLength: minLength + 9,
      });
    const host = fc.oneof(fc.ipV4(), fc.constantFrom("2001:db8::9", "a1-b.local"));
    const candidate: fc.Arbitrary<Candidate> = fc.record({
      foundation: ice(1),
      transport: fc.constant("udp" as const),
      priority: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      host: host.filter((one) => one.includes("o") || isOneMachine(one)),
      port: fc.integer({ min: 1, max: 65_535 }),
      kind: fc.constantFrom("host", "srflx", "prflx", "relay"),
      related_host: fc.option(fc.ipV4()),
      related_port: fc.option(fc.nat(65_535)),
    });
    const description: fc.Arbitrary<Description> = fc.record({
      fingerprint: fc.constant(FINGERPRINT),
      ufrag: ice(4),
      pwd: ice(22),
      setup: fc.constantFrom("actpass", "active", "passive"),
      candidates: fc.array(candidate, { maxLength: 6 }),
      isComplete: fc.boolean(),
    });
    fc.assert(
      fc.property(description, (said) => {
        expect(read(writeDescription(said))).toEqual(said);
        const kind = said.setup === "actpass" ? "offer" : "answer";
        expect(fromSdp(toSdp(said, kind))).toEqual(said);
      }),
    );
  });

  test("is read from what Chromium says", () => {
    const said = fromSdp(CHROMIUM.replaceAll("\n", "\r\n"));
    expect(said.fingerprint).toEqual(FINGERPRINT);
    expect(said.candidates.map((one) => [one.kind, one.host])).toEqual([
      ["host", "7b3e9d52-a1.local"],
      ["srflx", "198.51.100.3"],
    ]);
    expect(said.isComplete).toBe(false);
    expect(fromSdp(CHROMIUM)).toEqual(said);
  });

  test.each<[string, Record<string, unknown>]>([
    ["another setup", { setup: "holdconn" }],
    ["a short password", { pwd: "short" }],
    ["an ufrag with a line break", { ufrag: "abcd\r\na=x" }],
    [
      "a fingerprint of 31 bytes",
      { fingerprint: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg" },
    ],
    ["an unknown field", { more: 1 }],
    ["complete, but not said so", { complete: 1 }],
    [
      "41 candidates",
      { candidates: Array.from({ length: CANDIDATES_MAX + 1 }, () => LAN) },
    ],
    ["a candidate without a port", { candidates: [{ ...LAN, port: 0 }] }],
    ["a candidate to many", { candidates: [{ ...LAN, host: "224.0.0.251" }] }],
    ["a candidate to none", { candidates: [{ ...LAN, host: "0.0.0.0" }] }],
    ["a candidate to all", { candidates: [{ ...LAN, host: "255.255.255.255" }] }],
    ["IPv4 as IPv6", { candidates: [{ ...LAN, host: "::ffff:192.0.2.7" }] }],
    ["an address with a scope", { candidates: [{ ...LAN, host: "fe80::1%eth0" }] }],
    ["a name of the Internet", { candidates: [{ ...LAN, host: "example.org" }] }],
    ["a name with more behind it", { candidates: [{ ...LAN, host: "a.local\r\nx" }] }],
    ["a number as text", { candidates: [{ ...LAN, port: "1" }] }],
  ])("is refused with %s", (_, change) => {
    expect(() => read({ ...writeDescription(OFFER), ...change })).toThrow(
      RemoteProtocolError,
    );
  });

  test.each([
    ["no fingerprint", /a=fingerprint.*\n/, ""],
    ["two fingerprints", /(a=fingerprint.*\n)/, "$1$1"],
    ["another hash", /sha-256/, "sha-1"],
    ["no password", /a=ice-pwd.*\n/, ""],
    ["a second section", /(m=application.*\n)/, "$1m=audio 9 RTP/AVP 0\n"],
    ["half a byte", /00:01:/, "0:01:"],
    ["a malformed candidate", /typ srflx/, "type srflx"],
  ])("SDP is refused with %s", (_, pattern, replacement) => {
    expect(() => fromSdp(CHROMIUM.replace(pattern, replacement))).toThrow(
      RemoteProtocolError,
    );
  });

  test("as an answer has chosen its role", () => {
    expect(() => toSdp(OFFER, "answer")).toThrow(LocalProtocolError);
    expect(() => toSdp({ ...OFFER, setup: "active" }, "offer")).toThrow(
      LocalProtocolError,
    );
  });
});

test("a candidate's line is read back, with `a=` and without", () => {
  for (const one of [LAN, NAMED, RELAY]) {
    expect(fromCandidateLine(toCandidateLine(one))).toEqual(one);
    expect(fromCandidateLine(`a=${toCandidateLine(one)}`)).toEqual(one);
  }
  expect(fromCandidateLine("candidate:1 1 tcp 5 10.0.0.1 9 typ host")).toBeNull();
  expect(fromCandidateLine("candidate:1 2 udp 5 10.0.0.1 9 typ host")).toBeNull();
});

test.each([
  ["10.0.0.1", "10.0.0.1"],
  ["2001:DB8:0:0:0:0:0:9", "2001:db8::9"],
  ["::", "::"],
  ["10.0.0.01", null],
  ["10.0.0", null],
  ["256.0.0.1", null],
  ["0x7f.0.0.1", null],
  ["1::2::3", null],
  ["fe80::1%25eth0", null],
  ["[::1]", null],
  ["", null],
])("the address %s is read as %s", (text, address) => {
  expect(readAddress(text)).toBe(address);
});

test.each([
  ["https://Hub.Example.org:443/", "https://hub.example.org"],
  ["wss://hub.example.org", "https://hub.example.org"],
  ["ws://hub.example.org:80", "http://hub.example.org"],
  ["http://127.0.0.1:8080/path", "http://127.0.0.1:8080"],
  ["http://[::1]:8080", "http://[::1]:8080"],
])("the origin of %s is %s", (url, expected) => {
  expect(origin(url)).toBe(expected);
});

test("the WebSocket of a hub", () => {
  expect(signalUrl("https://hub.example.org")).toBe("wss://hub.example.org/v1/signal");
  expect(signalUrl("http://127.0.0.1:8080")).toBe("ws://127.0.0.1:8080/v1/signal");
  expect(() => origin("ftp://hub.example.org")).toThrow(/not an address/);
});
