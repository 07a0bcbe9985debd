/**
 * What one side says about its end of a peer connection (docs/protocol.md §4).
 *
 * A Description is the part of an SDP offer or answer that a data channel needs. Others'
 * SDP text is never passed on: it is read into these fields, and written from them.
 */

import { type Bytes, toHex } from "../bytes.ts";
import { LocalProtocolError, RemoteProtocolError } from "../errors.ts";
import { b64encode } from "../trust/keys.ts";
import {
  b64,
  boolean,
  choice,
  integer,
  listed,
  nested,
  nullable,
  type Reader,
  take,
} from "../trust/strict.ts";
import { type JsonObject, parseObject } from "../trust/strictJson.ts";
import { isOneMachine, readAddress } from "./address.ts";

export const CANDIDATES_MAX = 40;
export const SCTP_PORT = 5_000;
export const MESSAGE_MAX = 16_384; // of a data channel message (docs/protocol.md §6)
export const SDP_MAX = 65_536; // characters
const HOST_MAX = 69; // a label of 63 and .local

const MDNS = /^[A-Za-z0-9-]{1,63}\.local$/;
const CANDIDATE =
  /^(?:a=)?candidate:(\S+) 1 (\S+) (\d{1,10}) (\S+) (\d{1,5}) typ (\S+)(?: raddr (\S+))?(?: rport (\d{1,5}))?(?: .*)?$/;

/**
 * An address where a peer may be reached (RFC 8445 §5.1.1). `host` is an IP address, or
 * the `.local` name a browser hides it behind. The related address is the one behind a
 * reflexive or relayed one. The fields are those of the wire, in its order.
 */
export interface Candidate {
  readonly foundation: string;
  readonly transport: "udp" | "tcp";
  readonly priority: number;
  readonly host: string;
  readonly port: number;
  readonly kind: "host" | "srflx" | "prflx" | "relay";
  readonly related_host: string | null;
  readonly related_port: number | null;
}

export type Setup = "actpass" | "active" | "passive";

/**
 * `fingerprint` is the SHA-256 of the certificate; `setup` is the DTLS role. An offer is
 * `actpass`; an answer chose `active` (DTLS client) or `passive`. While it is not
 * complete more candidates follow (RFC 8838).
 */
export interface Description {
  readonly fingerprint: Bytes;
  readonly ufrag: string;
  readonly pwd: string;
  readonly setup: Setup;
  readonly candidates: readonly Candidate[];
  readonly isComplete: boolean;
}

/** Whether it is a `.local` name, that has to be asked for on the LAN. */
export function isMdns(host: string): boolean {
  return MDNS.test(host);
}

function iceChars(least: number, most: number): Reader<string> {
  const form = new RegExp(`^[A-Za-z0-9+/]{${least},${most}}$`); // RFC 8839 §5.1, §5.4
  return (value) => {
    if (typeof value === "string" && form.test(value)) return value;
    throw new RemoteProtocolError(`${least} to ${most} ice-chars expected`);
  };
}

/** An address in its shortest spelling, or a `.local` name. */
const host: Reader<string> = (value) => {
  if (typeof value === "string" && value.length <= HOST_MAX) {
    const found = isMdns(value) ? value : readAddress(value);
    if (found !== null) return found;
  }
  throw new RemoteProtocolError("an address expected");
};

/** A host that packets may be sent to. */
const target: Reader<string> = (value) => {
  const found = host(value);
  if (isMdns(found) || isOneMachine(found)) return found;
  throw new RemoteProtocolError("an address of one machine expected");
};

const fingerprint = b64(32);
const ufrag = iceChars(4, 256);
const pwd = iceChars(22, 256);
const setup: Reader<Setup> = choice("actpass", "active", "passive");

function readCandidate(fields: JsonObject): Candidate {
  return take(fields, {
    foundation: iceChars(1, 32),
    transport: choice("udp", "tcp"),
    priority: integer(1, 2 ** 31 - 1), // RFC 8445 §5.1.2
    host: target,
    port: integer(1, 65_535),
    kind: choice("host", "srflx", "prflx", "relay"),
    related_host: nullable(host),
    related_port: nullable(integer(0, 65_535)),
  });
}

export const candidates: Reader<readonly Candidate[]> = listed(
  nested(readCandidate),
  CANDIDATES_MAX,
);

/** RemoteProtocolError for whatever is not exactly a description. */
export function readDescription(fields: JsonObject): Description {
  const { complete, ...rest } = take(fields, {
    fingerprint,
    ufrag,
    pwd,
    setup,
    candidates,
    complete: boolean,
  });
  return { ...rest, isComplete: complete };
}

export function writeDescription(said: Description): Record<string, unknown> {
  return {
    fingerprint: b64encode(said.fingerprint),
    ufrag: said.ufrag,
    pwd: said.pwd,
    setup: said.setup,
    candidates: said.candidates.map(writeCandidate),
    complete: said.isComplete,
  };
}

export function writeCandidate(said: Candidate): Record<string, unknown> {
  const { foundation, transport, priority, host: at, port, kind } = said;
  const { related_host, related_port } = said;
  const related = { related_host, related_port };
  return { foundation, transport, priority, host: at, port, kind, ...related };
}

/**
 * The SDP text for another WebRTC stack: one data channel section. TCP candidates are
 * left out: they need a tcptype, and no peer of ours dials them.
 */
export function toSdp(said: Description, kind: "offer" | "answer"): string {
  const checked = rechecked(said);
  if ((checked.setup === "actpass") !== (kind === "offer")) {
    throw new LocalProtocolError(`an ${kind} with setup ${checked.setup}`);
  }
  const hex = toHex(checked.fingerprint).toUpperCase();
  const lines = [
    "v=0",
    "o=- 1 1 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=mid:0",
    `a=sctp-port:${SCTP_PORT}`,
    `a=max-message-size:${MESSAGE_MAX}`,
    `a=ice-ufrag:${checked.ufrag}`,
    `a=ice-pwd:${checked.pwd}`,
    `a=fingerprint:sha-256 ${hex.match(/../g)?.join(":")}`,
    `a=setup:${checked.setup}`,
    ...checked.candidates
      .filter((one) => one.transport === "udp")
      .map((one) => `a=${toCandidateLine(one)}`),
  ];
  if (checked.isComplete) lines.push("a=end-of-candidates");
  return `${lines.join("\r\n")}\r\n`;
}

/** `candidate:…`, as RTCIceCandidate takes it. */
export function toCandidateLine(said: Candidate): string {
  let line =
    `candidate:${said.foundation} 1 ${said.transport} ${said.priority} ` +
    `${said.host} ${said.port} typ ${said.kind}`;
  if (said.related_host !== null) line += ` raddr ${said.related_host}`;
  if (said.related_port !== null) line += ` rport ${said.related_port}`;
  return line;
}

/**
 * What another WebRTC stack's SDP says about its data channel. Attributes may stand
 * before or in the only media section. RemoteProtocolError when one is missing, stands
 * twice, or does not hold what a description demands. TCP candidates, other fingerprints
 * than sha-256, and all else are left out.
 */
export function fromSdp(sdp: string): Description {
  if (sdp.length > SDP_MAX) {
    throw new RemoteProtocolError(`SDP of ${sdp.length} characters`);
  }
  const lines = sdp.split(/\r?\n/);
  const media = lines.filter((line) => line.startsWith("m="));
  if (media.length !== 1 || !media[0]?.startsWith("m=application ")) {
    throw new RemoteProtocolError("SDP that is not of one data channel");
  }
  return rechecked({
    fingerprint: readHex(one(lines, "a=fingerprint:sha-256 ")),
    ufrag: one(lines, "a=ice-ufrag:"),
    pwd: one(lines, "a=ice-pwd:"),
    setup: setup(one(lines, "a=setup:")),
    candidates: lines
      .filter((line) => line.startsWith("a=candidate:"))
      .map(fromCandidateLine)
      .filter((found) => found !== null),
    isComplete: lines.includes("a=end-of-candidates"),
  });
}

/** null for a TCP candidate, and for another component than the first. */
export function fromCandidateLine(line: string): Candidate | null {
  const [, component, transport] = line.split(" ", 3);
  if (component !== "1" || transport?.toLowerCase() !== "udp") return null;
  const [, foundation, , priority, at, port, kind, related, relatedPort] =
    CANDIDATE.exec(line) ?? [];
  if (kind === undefined) {
    throw new RemoteProtocolError("SDP with a malformed candidate");
  }
  const fields = {
    foundation,
    transport: "udp",
    priority: Number(priority),
    host: at,
    port: Number(port),
    kind,
    related_host: related ?? null,
    related_port: relatedPort === undefined ? null : Number(relatedPort),
  };
  return readCandidate(fields as unknown as JsonObject);
}

/** What came as a value and not as JSON, checked by the same rules. */
function rechecked(said: Description): Description {
  const data = new TextEncoder().encode(JSON.stringify(writeDescription(said)));
  return readDescription(parseObject(data, SDP_MAX));
}

function one(lines: readonly string[], start: string): string {
  const found = lines.filter((line) => line.toLowerCase().startsWith(start));
  if (found.length !== 1) {
    throw new RemoteProtocolError(`SDP with ${found.length} lines '${start.trim()}'`);
  }
  return (found[0] as string).slice(start.length);
}

function readHex(pairs: string): Bytes {
  const digits = pairs.replaceAll(":", "");
  if (!/^(?:[0-9A-Fa-f]{2})+$/.test(digits)) {
    throw new RemoteProtocolError("SDP with a malformed fingerprint");
  }
  const bytes = digits.match(/../g) ?? [];
  return Uint8Array.from(bytes, (pair) => Number.parseInt(pair, 16));
}
