/**
 * A session: two authenticated peers and their streams; it outlives its paths.
 *
 * Pure: frames and time in, frames and events out, by the table of docs/protocol.md §6.2.
 * The edge reads and writes through `mux`, gives the session to a path (`openOn`,
 * `resumeOn`, or by passing OPEN and RESUME to `receive`), and sends what it builds.
 */

import { type Bytes, isEqual } from "../bytes.ts";
import { Code, LocalProtocolError, RemoteProtocolError } from "../errors.ts";
import type { Event } from "./events.ts";
import {
  type Ack,
  type Close,
  type Data,
  type Frame,
  type GoAway,
  type Open,
  RESET_STATE,
  type Ready,
  type Resume,
} from "./frames.ts";
import { Mux, type RevivedStream, STREAMS_MAX } from "./mux.ts";
import type { Path } from "./path.ts";

export const DETACHED_S = 60;

export type SessionState =
  | "new"
  | "opening"
  | "active"
  | "detached"
  | "resuming"
  | "closed";

/** `id` is 16 random bytes, made by the client. */
export class Session {
  readonly id: Bytes;
  readonly isClient: boolean;
  state: SessionState = "new";
  epoch = 0;
  path: Path | null = null;
  readonly mux: Mux;
  #goAway: GoAway | null = null;
  #detachedAt: number | null = null;
  #events: Event[] = []; // not told yet; see `receive`

  constructor(id: Bytes, isClient: boolean) {
    this.id = id;
    this.isClient = isClient;
    this.mux = new Mux(isClient, (frame) => this.#queue(frame));
  }

  /**
   * Client: a session that another process of this peer began, after that has ended. Its
   * questions were sent whole; `lastStream` may be too low, so that it is for no new ones.
   */
  static revive(id: Bytes, epoch: number, streams: readonly RevivedStream[]): Session {
    const session = new Session(id, true);
    session.state = "detached";
    session.epoch = epoch;
    session.mux.revive(streams);
    return session;
  }

  // Paths

  /** Client: begin, on the first path. */
  openOn(path: Path): void {
    if (this.state !== "new") {
      throw new LocalProtocolError(`OPEN in state ${this.state}`);
    }
    this.#attach(path);
    this.epoch = 1;
    this.state = "opening";
    path.queue({ type: "OPEN", session: this.id, epoch: this.epoch });
  }

  /** Client: go on, on another path. Also while an earlier RESUME is under way. */
  resumeOn(path: Path): void {
    if (this.state === "new" || this.state === "closed") {
      throw new LocalProtocolError(`RESUME in state ${this.state}`);
    }
    this.#attach(path);
    this.epoch += 1;
    this.state = "resuming";
    const streams = this.mux.states();
    path.queue({ type: "RESUME", session: this.id, epoch: this.epoch, streams });
  }

  /** The path is gone. Another may take over within the limits of §7. */
  detach(path: Path, now: number): void {
    if (path !== this.path) return;
    this.#letGo();
    if (this.state === "closed") return;
    this.#detachedAt ??= now; // a RESUME that failed gains no time
    this.state = "detached";
  }

  /**
   * What happened. RemoteProtocolError: close the path; the session lives on.
   *
   * What happened before an error is told by the next call that returns events: bytes
   * that were received once are never sent again.
   */
  receive(path: Path, frames: readonly Frame[]): Event[] {
    for (const frame of frames) this.#events.push(...this.#onFrame(path, frame));
    return this.#takeEvents();
  }

  // The session

  /** Client: a stream may be opened now, whether or not a path is there. */
  get canOpen(): boolean {
    return this.state !== "closed" && !this.isGoingAway && this.mux.size < STREAMS_MAX;
  }

  /** The provider takes no new stream. */
  get isGoingAway(): boolean {
    return this.#goAway !== null;
  }

  /** Provider: advisory; lost when no path is there. */
  inform(stream: number, json: Bytes): void {
    if (this.mux.has(stream)) this.#queue({ type: "INFO", stream, json });
  }

  /** Introduce a new path through the present one. */
  signal(envelope: Bytes): void {
    this.#queue({ type: "SIGNAL", envelope });
  }

  /** Provider: finish what runs, take nothing new. */
  goAway(code: Code, text: string): void {
    this.#goAway = { type: "GOAWAY", lastStream: this.mux.lastStream, code, text };
    this.mux.refuseNew(code, text);
    this.#queue(this.#goAway);
  }

  close(code: Code, text: string): Event[] {
    if (this.state !== "closed") {
      this.#queue({ type: "CLOSE", code, text });
      this.#events.push(...this.#close(code, text));
    }
    return this.#takeEvents();
  }

  /** Ends slow readers, and the session when no path came back in time. */
  onTime(now: number): Event[] {
    const since = this.#detachedAt;
    if (since !== null && now - since >= DETACHED_S) {
      return this.close(Code.GONE, "No path came back within 60 seconds.");
    }
    if (this.state === "active") this.#events.push(...this.mux.endSlow(now));
    this.#events.push(...this.mux.takeWritable());
    return this.#takeEvents();
  }

  // What the path asks for

  get hasData(): boolean {
    return this.state === "active" && this.mux.hasData;
  }

  takeControl(): Ack | null {
    return this.state === "active" ? this.mux.takeAck() : null;
  }

  takeData(room: number): Data | null {
    return this.state === "active" ? this.mux.takeData(room) : null;
  }

  // Inside

  #onFrame(path: Path, frame: Frame): Event[] {
    if (!this.isClient && (frame.type === "OPEN" || frame.type === "RESUME")) {
      return this.#onAttach(path, frame);
    }
    // fenced: a newer path has taken over, or all is over
    if (path !== this.path || this.state === "closed") return [];
    if (this.isClient && frame.type === "READY") return this.#onReady(frame);
    if (frame.type === "CLOSE") return this.#onClose(frame);
    if (this.state !== "active") {
      throw new RemoteProtocolError(`${frame.type} before READY`);
    }
    switch (frame.type) {
      case "DATA":
        return this.mux.onData(frame);
      case "ACK":
        return this.mux.onAck(frame);
      case "RESET":
        return this.mux.onReset(frame);
      case "SIGNAL":
        return [{ type: "signalled", envelope: frame.envelope }];
      case "INFO":
        if (this.isClient) {
          return [{ type: "informed", stream: frame.stream, json: frame.json }];
        }
        break;
      case "GOAWAY":
        if (this.isClient) return this.#onGoAway(frame);
    }
    throw new RemoteProtocolError(`${frame.type} is not for us`);
  }

  #onGoAway(frame: GoAway): Event[] {
    this.#goAway = frame;
    const { lastStream, code, text } = frame;
    const ended = this.mux.endAbove(lastStream, code, text, true);
    return [{ type: "goingAway", lastStream, code, text }, ...ended];
  }

  #onAttach(path: Path, frame: Open | Resume): Event[] {
    const states = frame.type === "OPEN" ? [] : frame.streams;
    this.#checkAttach(path, frame);
    this.mux.check(states); // nothing has changed yet, should this throw
    this.#attach(path);
    this.epoch = frame.epoch;
    const events = this.mux.onListed(states);
    this.#activate();
    path.queue({ type: "READY", epoch: this.epoch, streams: this.mux.states() });
    for (const gone of this.mux.rewind(states)) path.queue(gone);
    if (this.#goAway !== null) path.queue(this.#goAway); // its first telling may be lost
    return [...events, { type: "activated", resumed: frame.type === "RESUME" }];
  }

  #checkAttach(path: Path, frame: Open | Resume): void {
    if (!isEqual(frame.session, this.id) || this.state === "closed") {
      throw new RemoteProtocolError("another session, or one that has ended");
    }
    if (path.state !== "standby") {
      throw new RemoteProtocolError("this path already carries the session");
    }
    if (frame.epoch <= this.epoch) {
      throw new RemoteProtocolError(`epoch ${frame.epoch} after ${this.epoch}`);
    }
    if ((frame.type === "OPEN") !== (this.epoch === 0)) {
      throw new RemoteProtocolError("OPEN is for new sessions, RESUME for known ones");
    }
    if (frame.type === "OPEN" && frame.epoch !== 1) {
      throw new RemoteProtocolError("OPEN has epoch 1");
    }
  }

  #onReady(frame: Ready): Event[] {
    if (this.state !== "opening" && this.state !== "resuming") {
      throw new RemoteProtocolError("READY twice");
    }
    if (frame.epoch !== this.epoch) {
      throw new RemoteProtocolError(`READY ${frame.epoch} for epoch ${this.epoch}`);
    }
    this.mux.check(frame.streams);
    const resumed = this.state === "resuming";
    this.#activate();
    this.mux.rewind(frame.streams);
    const text = "The provider ended it.";
    const ended = frame.streams
      .filter((one) => one.state === RESET_STATE)
      .flatMap(({ stream }) =>
        this.mux.onReset({
          type: "RESET",
          stream,
          code: Code.GONE,
          retryable: false,
          text,
        }),
      );
    return [{ type: "activated", resumed }, ...ended];
  }

  #onClose(frame: Close): Event[] {
    return this.#close(frame.code, frame.text);
  }

  #attach(path: Path): void {
    if (path.state !== "standby") {
      throw new LocalProtocolError(`a path in state ${path.state}`);
    }
    this.#letGo();
    this.path = path;
    path.source = this;
    path.state = "active";
  }

  #letGo(): void {
    if (this.path !== null) {
      this.path.source = null;
      this.path.state = "closed";
    }
    this.path = null;
    this.mux.isLive = false;
  }

  #activate(): void {
    this.state = "active";
    this.#detachedAt = null;
    this.mux.onNewPath();
  }

  #queue(frame: Frame): void {
    this.path?.queue(frame);
  }

  #takeEvents(): Event[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #close(code: Code, text: string): Event[] {
    this.state = "closed";
    this.#detachedAt = null;
    return [...this.mux.endAll(code, text), { type: "closed", code, text }];
  }
}
