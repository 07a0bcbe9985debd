/** How client and hub prove their keys to each other (docs/protocol.md §3.1). */

import { type Bytes, concat, prefixed, utf8 } from "../bytes.ts";
import { ConfigError, TrustError } from "../errors.ts";
import { isSignedBy, type PeerId, publicKey, type SigningKey } from "../trust/keys.ts";

export type Side = "client" | "server";

/** `scheme://host[:port]`, lower case, without a default port; ws counts as http. */
export function origin(url: string): string {
  const parts = URL.canParse(url) ? new URL(url) : null;
  const scheme = parts?.protocol.replace("ws", "http");
  if (parts === null || (scheme !== "http:" && scheme !== "https:")) {
    throw new ConfigError(
      `${JSON.stringify(url)} is not an address of a signaling server: it looks like ` +
        "https://signal.example.org.",
    );
  }
  return new URL(`${scheme}//${parts.host}`).origin;
}

/** Where the WebSocket of a hub is. */
export function signalUrl(url: string): string {
  return `${origin(url).replace("http", "ws")}/v1/signal`;
}

export interface Parts {
  readonly origin: string;
  readonly server: PeerId;
  readonly serverNonce: Bytes;
  readonly client: PeerId;
  readonly clientNonce: Bytes;
  readonly ts: number;
}

export function transcript(parts: Parts): Bytes {
  const said = [
    utf8(parts.origin),
    publicKey(parts.server),
    parts.serverNonce,
    publicKey(parts.client),
    parts.clientNonce,
    utf8(String(parts.ts)),
  ];
  return concat(said.map(prefixed));
}

export function signLogin(side: Side, said: Bytes, key: SigningKey): Promise<Bytes> {
  return key.sign(concat([domain(side), said]));
}

/** Throws TrustError when `signer` did not sign this transcript as this side. */
export function checkLogin(side: Side, said: Bytes, sig: Bytes, signer: PeerId): void {
  if (!isSignedBy(publicKey(signer), concat([domain(side), said]), sig)) {
    throw new TrustError("The signature over the login does not hold.");
  }
}

function domain(side: Side): Bytes {
  return utf8(`meshllm/login-${side}/v1\0`);
}
