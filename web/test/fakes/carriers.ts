/** Two ends of a data channel, in memory: messages arrive in turns of their own. */

import type { Bytes } from "../../src/bytes.ts";
import type { PathKind } from "../../src/connection.ts";
import { Path } from "../../src/protocol/path.ts";
import { type Carrier, Wire } from "../../src/transport/wire.ts";

export class MemoryCarrier implements Carrier {
  onLow: () => void = () => {};
  onClosed: (reason: string) => void = () => {};
  onMessage: (message: Bytes) => void = () => {};
  onMoved: () => void = () => {};
  kind: PathKind = "host";
  readonly candidates = null;
  readonly isObserved = true;
  /** Nothing passes while it is set, in this direction. */
  isCut = false;
  isClosed = false;
  /** As a busy channel shows it. */
  buffered = 0;
  readonly sent: Bytes[] = [];
  #other: MemoryCarrier | null = null;

  static pair(): readonly [MemoryCarrier, MemoryCarrier] {
    const [one, other] = [new MemoryCarrier(), new MemoryCarrier()];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  send(message: Bytes): void {
    this.sent.push(message);
    const to = this.#other;
    if (this.isCut || to === null) return;
    queueMicrotask(() => {
      if (!to.isClosed) to.onMessage(message);
    });
  }

  close(): void {
    this.isClosed = true;
  }

  async refresh(): Promise<void> {}
}

function path(isClient: boolean): Path {
  const role = isClient ? 1 : 2;
  const nothing = { nonceReveal: new Uint8Array(32), sig: new Uint8Array(64) };
  return new Path({ type: "HELLO", role, ...nothing }, () => {}, isClient);
}

/** A client's wire and a provider's, both proven. */
export async function wires(): Promise<readonly [Wire, Wire]> {
  const [one, other] = MemoryCarrier.pair();
  const both = [new Wire(one, path(true)), new Wire(other, path(false))] as const;
  await Promise.all(both.map((wire) => wire.saidHello()));
  return both;
}

export function carrierOf(wire: Wire): MemoryCarrier {
  return wire.carrier as MemoryCarrier;
}
