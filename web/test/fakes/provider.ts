/** A provider in memory: a session that answers what a test tells it to. */

import { type Bytes, concat, EMPTY } from "../../src/bytes.ts";
import type { Event } from "../../src/protocol/events.ts";
import { Session } from "../../src/protocol/session.ts";
import type { Wire } from "../../src/transport/wire.ts";

export class MemoryProvider {
  session: Session | null = null;
  readonly received = new Map<number, Bytes>();
  readonly ended: number[] = [];
  /** What it does when a question has come whole. */
  onQuestion: (stream: number) => void = () => {};
  #wire: Wire | null = null;

  take(wire: Wire): void {
    wire.onFrames = (from, frames) => {
      const [first] = frames;
      if (first?.type === "OPEN") this.session = new Session(first.session, false);
      if (first?.type === "OPEN" || first?.type === "RESUME") this.#wire = from;
      if (this.session === null) throw new Error("no session was opened");
      for (const event of this.session.receive(from.path, frames)) this.#on(event);
      from.wake();
    };
  }

  write(stream: number, data: Bytes): void {
    this.session?.mux.write(stream, data);
    this.#wire?.wake();
  }

  finish(stream: number): void {
    this.session?.mux.finish(stream);
    this.#wire?.wake();
  }

  #on(event: Event): void {
    if (event.type === "ended") this.ended.push(event.stream);
    if (event.type !== "received") return;
    const { stream, data, fin } = event;
    this.received.set(stream, concat([this.received.get(stream) ?? EMPTY, data]));
    this.session?.mux.consume(stream, data.length);
    if (fin) this.onQuestion(stream);
  }
}
