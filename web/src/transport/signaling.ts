/** The client of a signaling server: stays logged in, comes back, asks. */

import type { Bytes } from "../bytes.ts";
import {
  Code,
  NotAllowed,
  PeerUnreachable,
  RemoteProtocolError,
  reason,
  TrustError,
} from "../errors.ts";
import type { Identity } from "../identity.ts";
import type { Ice, Request, Welcome } from "../protocol/signals.ts";
import { b64decode, type PeerId } from "../trust/keys.ts";
import { nowS, pause } from "./clock.ts";
import { type Credentials, type News, SignalingSocket } from "./signalingSocket.ts";

const PROBE_MS = 1_500;
const PING_MS = 20_000; // a browser does not show us the server's own pings
const STABLE_S = 5; // a connection that lasted less counts as one more failure
const BACKOFF_S = 30;
const RENEW_MS = 45 * 60_000; // TURN credentials live 1 h
const LASTING_FAILURES = 8;
// These pass by themselves; all other refusals need a person to mend something.
const PASSING: ReadonlySet<Code> = new Set<Code>([
  Code.BUSY,
  Code.QUOTA,
  Code.TIMEOUT,
  Code.DRAINING,
  Code.INTERNAL,
]);

export interface Handlers {
  readonly onWelcome: (welcome: Welcome) => void;
  readonly onNews: (news: News) => void;
  /** Connected, or why not. */
  readonly onState: (problem: Error | null) => void;
}

export interface SignalingOptions {
  readonly url: string;
  readonly server: PeerId | null;
  readonly identity: Identity;
  readonly conn: Bytes;
  /** Asked for at every login. */
  readonly chain: () => readonly string[];
  readonly handlers: Handlers;
}

/** Connects, and reconnects, from `run` on until `close`. */
export class SignalingClient {
  readonly #options: SignalingOptions;
  readonly #end = new AbortController();
  #live: SignalingSocket | null = null;
  #ice: readonly Ice[] = [];
  #failure: Error | null = null;
  #hurry = new AbortController();

  constructor(options: SignalingOptions) {
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#live !== null;
  }

  /** Those of the last login. */
  get iceServers(): readonly Ice[] {
    return this.#ice;
  }

  /** Pass an envelope on. PeerGone when `to` is not there. */
  async send(to: PeerId, conn: Bytes | null, sealed: Bytes): Promise<void> {
    const live = this.#live;
    if (live === null) {
      throw new PeerUnreachable(
        reason(this.#failure ?? "Not connected to the signaling server yet."),
      );
    }
    await live.request({ t: "send", to, conn, sealed });
  }

  /** Whether the hub answers within 1.5 s. If not, or without a connection, reconnects at
   * once: for when the network changed or the page is back in front. */
  async probe(): Promise<boolean> {
    const live = this.#live;
    if (live !== null && (await isAnswering(live))) return true;
    live?.close();
    this.#hurry.abort();
    return false;
  }

  async run(): Promise<void> {
    let failures = 0;
    while (!this.#end.signal.aborted) {
      const since = nowS();
      this.#hurry = new AbortController();
      const why = await this.#stay();
      if (this.#end.signal.aborted) return;
      failures = nowS() - since > STABLE_S ? 1 : failures + 1;
      this.#failure = why;
      this.#options.handlers.onState(why);
      const slow = isLasting(why) ? LASTING_FAILURES : 0; // as slow as it gets
      const delayS = retryDelayS(failures + slow, Math.random());
      const either = AbortSignal.any([this.#end.signal, this.#hurry.signal]);
      await pause(delayS * 1_000, either).catch(() => {});
    }
  }

  close(): void {
    this.#end.abort();
    this.#live?.close();
    this.#live = null;
  }

  /** Logged in until that ends; why it did. */
  async #stay(): Promise<Error> {
    try {
      let socket = await this.#logIn();
      for (;;) {
        const why = await this.#untilEnded(socket);
        if (why !== null) return why;
        socket = (await this.#renewed(socket)) ?? socket;
      }
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#live?.close();
      this.#live = null;
    }
  }

  /** Why the connection ended; null when it is time to renew its credentials. */
  #untilEnded(socket: SignalingSocket): Promise<Error | null> {
    return new Promise((resolve) => {
      const renews = socket.welcome.ice.some((ice) => ice.credential !== null);
      const renewal = renews ? setTimeout(() => done(null), RENEW_MS) : undefined;
      const pings = setInterval(() => void closeUnlessAnswering(socket), PING_MS);
      const done = (why: Error | null) => {
        clearTimeout(renewal);
        clearInterval(pings);
        resolve(why);
      };
      socket.onClosed = done;
    });
  }

  /** A second login with the same conn: the hub moves us over to it and closes the
   * first, which is read to its end, so that nothing is lost. */
  async #renewed(old: SignalingSocket): Promise<SignalingSocket | null> {
    try {
      const fresh = await this.#logIn();
      setTimeout(() => old.close(), PROBE_MS);
      return fresh;
    } catch {
      return null;
    }
  }

  async #logIn(): Promise<SignalingSocket> {
    const { chain, handlers, ...rest } = this.#options;
    const who: Credentials = { ...rest, chain: chain() };
    const socket = await SignalingSocket.connect(who);
    if (this.#end.signal.aborted) {
      socket.close();
      throw new PeerUnreachable("The page has closed its connection.");
    }
    this.#live = socket;
    this.#ice = socket.welcome.ice;
    this.#failure = null;
    handlers.onWelcome(socket.welcome);
    handlers.onState(null);
    socket.onNews = handlers.onNews;
    return socket;
  }
}

/** The sealed ticket of a short link, and the key of the hub that gave it. */
export async function fetchTicket(
  who: Credentials,
  id: Bytes,
): Promise<{ readonly sealed: Bytes; readonly server: PeerId }> {
  const socket = await SignalingSocket.connect(who);
  try {
    const answer = await socket.request({ t: "get_ticket", id } satisfies Request);
    if (answer.t !== "ticket") {
      throw new RemoteProtocolError("The signaling server sent no ticket.");
    }
    return { sealed: b64decode(answer.sealed), server: socket.server };
  } finally {
    socket.close();
  }
}

/** Whether a person has to mend something: trying again soon is useless. */
export function isLasting(why: Error): boolean {
  if (why instanceof NotAllowed) return !PASSING.has(why.code);
  return why instanceof TrustError;
}

/**
 * How long to wait after so many failures in a row. `jitter` is from 0 to 1.
 *
 * The first retry is at once: most losses are a changed network or a restarted hub. From
 * the second on, jitter spreads the clients of a hub that went away.
 */
export function retryDelayS(failures: number, jitter: number): number {
  if (failures <= 1) return 0;
  const doubled = 2 ** Math.min(failures - 2, 10);
  return Math.min(BACKOFF_S, doubled) * (0.5 + jitter / 2);
}

async function closeUnlessAnswering(socket: SignalingSocket): Promise<void> {
  if (!(await isAnswering(socket, PING_MS / 2))) socket.close();
}

async function isAnswering(
  socket: SignalingSocket,
  timeoutMs: number = PROBE_MS,
): Promise<boolean> {
  try {
    await socket.request({ t: "ping" }, timeoutMs);
    return true;
  } catch {
    return false;
  }
}
