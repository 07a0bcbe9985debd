/**
 * A wire: one path on the carrier that moves its messages.
 *
 * Turns the carrier's callbacks and the clock into calls of the pure `Path`, and sends
 * what the path builds. Messages are built only while the carrier's buffer is low, so
 * that what piles up meanwhile leaves as one message, not many.
 */

import type { Bytes } from "../bytes.ts";
import type { PathKind } from "../connection.ts";
import { PeerUnreachable, reason } from "../errors.ts";
import type { Frame } from "../protocol/frames.ts";
import { HELLO_S, type Path } from "../protocol/path.ts";
import { nowS } from "./clock.ts";

export const LOW_BYTES = 16_384; // above it the carrier is busy: hold frames back
export const SILENT_S = 4; // then another path is tried beside this one
export const GIVEN_UP_S = 10; // pings go every 2 s, so this is four lost ones
const LAZY_MS = 20;
const FLUSH_MS = 250; // a last CLOSE or RESET may take this long to leave
const EARLY_FRAMES = 16;

/** Moves messages of up to 16,384 bytes, in order: a data channel, a memory pair. */
export interface Carrier {
  /** What comes before it is set waits. */
  set onMessage(listener: (message: Bytes) => void);
  /** The buffer has fallen to LOW_BYTES. */
  onLow: () => void;
  onClosed: (reason: string) => void;
  /** `kind` and `candidates` are others now, from relay to direct above all. */
  onMoved: () => void;
  readonly buffered: number;
  readonly kind: PathKind;
  readonly candidates: { readonly local: string; readonly remote: string } | null;
  /** Whether the peer's certificate is shown to us. */
  readonly isObserved: boolean;
  send(message: Bytes): void;
  close(): void;
  /** Looks again at `kind` and `candidates`, where a browser does not tell of a move. */
  refresh(): Promise<void>;
}

type OnFrames = (wire: Wire, frames: readonly Frame[]) => void;

/** `onFrames` gets frames for the session; `onClosed` is called once, with why. */
export class Wire {
  readonly carrier: Carrier;
  readonly path: Path;
  onClosed: (wire: Wire, reason: string) => void = () => {};
  onSent: () => void = () => {};
  onMoved: () => void = () => {};
  /** Nothing was heard for SILENT_S; called again while that lasts. */
  onSilent: (wire: Wire) => void = () => {};
  isClosed = false;
  #onFrames: OnFrames | null = null;
  #early: Frame[] = [];
  readonly #ready: Promise<void>;
  #prove: () => void = () => {};
  #refuse: (error: unknown) => void = () => {};
  #isPumpDue = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lazy: ReturnType<typeof setTimeout> | undefined;
  #flushed: (() => void) | null = null;

  constructor(carrier: Carrier, path: Path) {
    this.carrier = carrier;
    this.path = path;
    this.#ready = new Promise((resolve, reject) => {
      [this.#prove, this.#refuse] = [resolve, reject];
    });
    this.#ready.catch(() => {}); // seen by whoever waits in saidHello, if anyone
    carrier.onMessage = (message) => this.#onMessage(message);
    carrier.onLow = () => this.#onLow();
    carrier.onClosed = (why) => this.close(why);
    carrier.onMoved = () => this.onMoved();
    this.wake();
  }

  /** Who takes the frames of the session. Until this is set, they wait. */
  set onFrames(callback: OnFrames) {
    this.#onFrames = callback;
    const early = this.#early.splice(0);
    if (early.length > 0) this.#pass(early);
  }

  get silenceS(): number {
    return this.path.silenceS(nowS());
  }

  /** Until the peer proved who it is. PeerUnreachable, or what `verify` threw. */
  async saidHello(): Promise<void> {
    const late = setTimeout(() => {
      const text = "The peer did not prove who it is in time.";
      this.close("the peer did not say HELLO in time", new PeerUnreachable(text));
    }, HELLO_S * 1_000);
    try {
      await this.#ready;
    } finally {
      clearTimeout(late);
    }
  }

  /** Something may be there to send. What comes in one turn leaves together. */
  wake(): void {
    if (this.#isPumpDue || this.isClosed) return;
    this.#isPumpDue = true;
    queueMicrotask(() => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  wakeIfDue(): void {
    if (this.path.isDue) this.wake();
  }

  /** What is there to send is in no hurry: with the next message, or in 20 ms. */
  wakeLater(): void {
    if (this.isClosed) return;
    this.#lazy ??= setTimeout(() => this.wake(), LAZY_MS);
  }

  /** End the path and its carrier. Safe to call again. */
  close(why: string, error?: unknown): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.path.state = "closed";
    clearTimeout(this.#timer);
    clearTimeout(this.#lazy);
    this.#flushed?.();
    this.#refuse(error ?? new PeerUnreachable(`Path lost: ${why}.`));
    this.carrier.close();
    this.onClosed(this, why);
  }

  /** Until all that can be sent has left, or 0.25 s have gone. */
  async flush(): Promise<void> {
    this.#pump();
    if (this.isClosed || this.carrier.buffered === 0) return;
    await new Promise<void>((resolve) => {
      const late = setTimeout(resolve, FLUSH_MS);
      this.#flushed = () => {
        clearTimeout(late);
        resolve();
      };
    });
    this.#flushed = null;
  }

  #onLow(): void {
    if (this.carrier.buffered === 0) this.#flushed?.();
    this.wake();
  }

  #onMessage(message: Bytes): void {
    if (this.isClosed) return;
    const isHello = this.path.state === "hello";
    try {
      const frames = this.path.receive(message, nowS());
      if (frames.length > 0) this.#pass(frames);
    } catch (error) {
      this.close(reason(error), error);
      return;
    }
    if (isHello) this.#prove();
    this.wakeIfDue();
  }

  #pass(frames: readonly Frame[]): void {
    if (this.#onFrames === null) {
      this.#early.push(...frames);
      if (this.#early.length > EARLY_FRAMES) {
        this.close("frames before the session began");
      }
      return;
    }
    try {
      this.#onFrames(this, frames);
    } catch (error) {
      this.close(reason(error), error);
    }
  }

  #pump(): void {
    if (this.isClosed) return;
    clearTimeout(this.#lazy);
    this.#lazy = undefined;
    const now = nowS();
    let sent = false;
    while (this.carrier.buffered <= LOW_BYTES) {
      const message = this.path.nextMessage(now);
      if (message === null) break;
      this.carrier.send(message);
      sent = true;
    }
    if (sent) this.onSent();
    this.#arm(now);
  }

  /** Wake for the path's own timers, and to judge silence. */
  #arm(now: number): void {
    if (this.isClosed) return;
    const silence = this.path.silenceS(now);
    const judged = silence < SILENT_S ? SILENT_S - silence : 1;
    const isBusy = this.carrier.buffered > LOW_BYTES; // then onLow comes first
    const own = isBusy ? null : this.path.nextTime();
    const dueS = Math.max(Math.min(own === null ? judged : own - now, judged), 0.001);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onTime(), dueS * 1_000);
  }

  #onTime(): void {
    const now = nowS();
    const silence = this.path.silenceS(now);
    if (silence >= GIVEN_UP_S) {
      this.close(`nothing heard for ${GIVEN_UP_S} s`);
      return;
    }
    this.path.onTime(now);
    this.#pump();
    if (silence >= SILENT_S) this.onSilent(this);
  }
}
