/**
 * Two sessions on a network of our own: time is a number and every fault is scripted.
 *
 * A lane carries whole messages in order, as a data channel does, until its fault
 * strikes. Programs at both ends write what they were told to and take whatever arrives;
 * the edge between them and the session is as thin as it can be, so that a lost event is
 * a hang. The twin of tests/fakes/wire.py.
 */

import { type Bytes, concat, EMPTY, utf8 } from "../../src/bytes.ts";
import { Code, MeshError } from "../../src/errors.ts";
import type { Event, StreamEnded } from "../../src/protocol/events.ts";
import type { Frame, Hello } from "../../src/protocol/frames.ts";
import { Path } from "../../src/protocol/path.ts";
import { Session } from "../../src/protocol/session.ts";

export const SESSION: Bytes = Uint8Array.from({ length: 16 }, (_, at) => at);
const IN_FLIGHT = 4; // messages a lane holds before its sender has to wait
const TURN_S = 0.01;
const TICK_S = 1;

export const FAULTS = ["cut", "torn", "twice"] as const;

/** Strikes the message that holds byte `at` of its lane. cut: it and all after it are
 * lost. torn: it ends before that byte. twice: it comes again. */
export interface Fault {
  readonly kind: (typeof FAULTS)[number];
  readonly at: number;
}

function newPath(isClient: boolean): Path {
  const hello: Hello = {
    type: "HELLO",
    role: isClient ? 1 : 2,
    nonceReveal: new Uint8Array(32),
    sig: new Uint8Array(64),
  };
  // Who the peer is, is another room's business.
  return new Path(hello, () => {}, isClient);
}

/** Client's and provider's, after HELLO. */
export function greetedPaths(now = 0): readonly [Path, Path] {
  const [client, provider] = [newPath(true), newPath(false)];
  const [hello, answer] = [client.nextMessage(now), provider.nextMessage(now)];
  provider.receive(hello ?? EMPTY, now);
  client.receive(answer ?? EMPTY, now);
  return [client, provider];
}

const COUNTING = utf8(Array.from({ length: 90_000 }, (_, at) => at).join(","));

/** Bytes that are wrong wherever they are moved by a few places. */
export function pattern(stream: number, side: string, size: number): Bytes {
  return concat([utf8(`${side}${stream}:`), COUNTING.subarray(0, size)]).slice(0, size);
}

class Lane {
  readonly inFlight: Bytes[] = [];
  readonly #fault: Fault | null;
  #sent = 0;
  #isCut = false;

  constructor(fault: Fault | null) {
    this.#fault = fault;
  }

  put(message: Bytes): void {
    const start = this.#sent;
    this.#sent += message.length;
    if (this.#isCut) return;
    const fault = this.#fault;
    if (fault === null || fault.at < start || fault.at >= this.#sent) {
      this.inFlight.push(message);
    } else if (fault.kind === "cut") {
      this.#isCut = true;
    } else if (fault.kind === "torn") {
      this.inFlight.push(message.slice(0, fault.at - start));
    } else {
      this.inFlight.push(message, message);
    }
  }
}

/** One peer: its session and its programs. */
export class Side {
  readonly session: Session;
  readonly opened: number[] = [];
  readonly ended = new Map<number, StreamEnded>();
  readonly fins = new Set<number>();
  readonly stalled = new Set<number>();
  readonly events: Event[] = [];
  readonly #read = new Map<number, Bytes[]>();
  readonly #unread = new Map<number, number>();
  readonly #unwritten = new Map<number, Bytes[]>();

  constructor(session: Session) {
    this.session = session;
  }

  /** Write these, as fast as the stream takes them, then FIN. */
  write(stream: number, chunks: readonly Bytes[]): void {
    this.#unwritten.set(stream, [...chunks]);
    this.#writeOn(stream);
  }

  read(stream: number): Bytes {
    return concat(this.#read.get(stream) ?? []);
  }

  /** Streams whose program has still something to write. */
  get waiting(): ReadonlySet<number> {
    return new Set(this.#unwritten.keys());
  }

  handle(events: readonly Event[]): void {
    for (const event of events) {
      this.events.push(event);
      switch (event.type) {
        case "opened":
          this.opened.push(event.stream);
          break;
        case "received":
          this.#onReceived(event.stream, event.data, event.fin);
          break;
        case "writable":
          this.#writeOn(event.stream);
          break;
        case "ended":
          if (this.ended.has(event.stream)) throw new Error("ended twice");
          this.ended.set(event.stream, event);
          this.#unwritten.delete(event.stream);
      }
    }
  }

  stall(stream: number): void {
    this.stalled.add(stream);
  }

  goOn(stream: number): void {
    this.stalled.delete(stream);
    this.#readOn(stream);
  }

  reset(stream: number, code: Code): void {
    this.#unwritten.delete(stream);
    this.session.mux.reset(stream, code, "as scripted", false);
  }

  has(type: Event["type"]): boolean {
    return this.events.some((event) => event.type === type);
  }

  #onReceived(stream: number, data: Bytes, fin: boolean): void {
    if (this.fins.has(stream)) throw new Error("bytes after FIN");
    if (this.ended.has(stream)) throw new Error("bytes after the end");
    const read = this.#read.get(stream);
    if (read === undefined) this.#read.set(stream, [data]);
    else read.push(data);
    this.#unread.set(stream, (this.#unread.get(stream) ?? 0) + data.length);
    if (fin) this.fins.add(stream);
    this.#readOn(stream);
  }

  #readOn(stream: number): void {
    const count = this.#unread.get(stream) ?? 0;
    if (this.stalled.has(stream) || count === 0) return;
    this.#unread.delete(stream);
    this.session.mux.consume(stream, count);
  }

  #writeOn(stream: number): void {
    const chunks = this.#unwritten.get(stream);
    if (chunks === undefined) return;
    while (chunks.length > 0) {
      if (!this.session.mux.canWrite(stream)) return;
      this.session.mux.write(stream, chunks.shift() ?? EMPTY);
    }
    this.#unwritten.delete(stream);
    this.session.mux.finish(stream);
  }
}

/** A pair of paths and the two lanes between them. */
interface Wire {
  readonly client: Path;
  readonly provider: Path;
  readonly up: Lane;
  readonly down: Lane;
}

/** The client attaches its session to each new wire as soon as HELLO is done. */
export class Network {
  now = 0;
  readonly client = new Side(new Session(SESSION, true));
  readonly provider = new Side(new Session(SESSION, false));
  readonly errors: MeshError[] = [];
  #wires: Wire[] = [];
  #tickedAt = 0;

  /** A new wire. Those there are live on until they are lost or fenced. */
  connect(up: Fault | null = null, down: Fault | null = null): void {
    this.#wires.push({
      client: newPath(true),
      provider: newPath(false),
      up: new Lane(up),
      down: new Lane(down),
    });
  }

  /** Every wire is gone; who does not notice stays attached to it. */
  lose(client = true, provider = true): void {
    for (const wire of this.#wires) {
      if (client) this.client.session.detach(wire.client, this.now);
      if (provider) this.provider.session.detach(wire.provider, this.now);
    }
    this.#wires = [];
  }

  /** Everyone sends what they may and one message arrives a lane. False: quiet. */
  turn(): boolean {
    this.now += TURN_S;
    if (this.now - this.#tickedAt >= TICK_S) this.tick();
    let moved = false;
    for (const wire of [...this.#wires]) {
      moved = this.#fill(this.client, wire.client, wire.up) || moved;
      moved = this.#fill(this.provider, wire.provider, wire.down) || moved;
      moved = this.#deliver(wire, wire.up, this.provider, wire.provider) || moved;
      moved = this.#deliver(wire, wire.down, this.client, wire.client) || moved;
      this.#attach(wire);
    }
    return moved;
  }

  tick(): void {
    this.#tickedAt = this.now;
    for (const side of [this.client, this.provider]) {
      side.handle(side.session.onTime(this.now));
    }
  }

  /** Until nothing moves, also when a second has passed. */
  settle(): void {
    for (let turns = 0; turns < 10_000; turns++) {
      if (this.turn()) continue;
      this.now += TICK_S;
      this.tick();
      if (!this.turn()) return;
    }
    throw new Error("the network never came to rest");
  }

  /** A wire without faults, and all that was still to be said. */
  heal(): void {
    this.lose();
    this.connect();
    for (const side of [this.client, this.provider]) {
      for (const stream of [...side.stalled]) side.goOn(stream);
    }
    this.settle();
  }

  /** A new stream of the client. */
  ask(request: readonly Bytes[]): number {
    const stream = this.client.session.mux.open();
    this.client.write(stream, request);
    return stream;
  }

  #fill(side: Side, path: Path, lane: Lane): boolean {
    let sent = false;
    while (lane.inFlight.length < IN_FLIGHT) {
      const message = path.nextMessage(this.now);
      if (message === null) break;
      if (message.length === 0 || message.length > 16_384) throw new Error("its size");
      lane.put(message);
      sent = true;
    }
    if (sent) side.handle(side.session.mux.takeWritable());
    return sent;
  }

  #deliver(wire: Wire, lane: Lane, side: Side, path: Path): boolean {
    const message = this.#wires.includes(wire) ? lane.inFlight.shift() : undefined;
    if (message === undefined) return false;
    try {
      const frames = path.receive(message, this.now);
      if (this.#isUnknown(side, frames)) {
        const text = "This session is not known.";
        path.queue({ type: "CLOSE", code: Code.UNKNOWN_SESSION, text });
      } else {
        side.handle(side.session.receive(path, frames));
      }
    } catch (error) {
      if (!(error instanceof MeshError)) throw error;
      this.errors.push(error);
      this.#drop(wire);
    }
    return true;
  }

  /** RESUME of a session whose OPEN was lost: the provider's edge says so. */
  #isUnknown(side: Side, frames: readonly Frame[]): boolean {
    const isNew = side === this.provider && side.session.state === "new";
    return isNew && frames[0]?.type === "RESUME";
  }

  #drop(wire: Wire): void {
    this.#wires = this.#wires.filter((one) => one !== wire);
    wire.client.state = "closed";
    wire.provider.state = "closed";
    this.client.session.detach(wire.client, this.now);
    this.provider.session.detach(wire.provider, this.now);
  }

  #attach(wire: Wire): void {
    const { session } = this.client;
    if (wire.client.state !== "standby") return;
    if (session.state === "new") session.openOn(wire.client);
    else if (session.state !== "closed") session.resumeOn(wire.client);
  }
}

/** Both sessions active on a wire without faults. */
export function connected(): Network {
  const network = new Network();
  network.connect();
  network.settle();
  if (!network.client.has("activated") || !network.provider.has("activated")) {
    throw new Error("the sessions did not begin");
  }
  return network;
}
