/** One WebSocket to a signaling server: the login, questions, and what it tells. */

import type { Bytes } from "../bytes.ts";
import {
  Code,
  NotAllowed,
  PeerGone,
  PeerUnreachable,
  RemoteProtocolError,
  reason,
  TrustError,
} from "../errors.ts";
import type { Identity } from "../identity.ts";
import * as login from "../protocol/login.ts";
import {
  type Challenge,
  decodeHub,
  encodeLogin,
  encodePong,
  encodeRequest,
  type HubMessage,
  type Refused,
  type Request,
  VERSIONS,
  type Welcome,
} from "../protocol/signals.ts";
import { type PeerId, short } from "../trust/keys.ts";
import { randomBytes } from "./random.ts";

const CONNECT_MS = 10_000;
const REQUEST_MS = 10_000;
const LOST = "The connection to the signaling server was lost.";

/** What the hub tells of its own accord, as it comes and unverified. */
export type News = Exclude<
  HubMessage,
  {
    readonly t: "challenge" | "welcome" | "ping" | "pong" | "done" | "ticket" | "error";
  }
>;

/** What a login needs. `server` is the hub's pinned key; null takes the one it shows: for
 * a short link, whose ticket then says which it must be. */
export interface Credentials {
  readonly url: string;
  readonly server: PeerId | null;
  readonly identity: Identity;
  readonly conn: Bytes;
  readonly chain: readonly string[];
}

interface Waiting {
  readonly resolve: (answer: HubMessage) => void;
  readonly reject: (error: Error) => void;
  readonly late: ReturnType<typeof setTimeout>;
}

/** A socket that is logged in; `connect` makes one. */
export class SignalingSocket {
  readonly server: PeerId;
  readonly welcome: Welcome;
  /** The connection has ended, and why: called once. */
  onClosed: (why: Error) => void = () => {};
  readonly #lines: Lines;
  readonly #waiting = new Map<number, Waiting>();
  #onNews: ((news: News) => void) | null = null;
  #early: News[] = [];
  #lastRe = 0;

  private constructor(lines: Lines, server: PeerId, welcome: Welcome) {
    this.#lines = lines;
    this.server = server;
    this.welcome = welcome;
    lines.onMessage = (message) => this.#onMessage(message);
    lines.onClosed = (why) => this.#onLost(why);
  }

  /** PeerUnreachable when there is no hub, TrustError when it is another one, NotAllowed
   * when it refuses us. */
  static async connect(who: Credentials): Promise<SignalingSocket> {
    const lines = new Lines(login.signalUrl(who.url), who.url);
    const late = setTimeout(
      () => lines.fail(unreached(who.url, "no answer")),
      CONNECT_MS,
    );
    try {
      const challenge = await lines.next();
      if (challenge.t !== "challenge") throw refusalOf(challenge);
      checkChallenge(challenge, who);
      const welcome = await logIn(lines, challenge, who);
      return new SignalingSocket(lines, challenge.server, welcome);
    } catch (error) {
      lines.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** Who hears the news; what came before waits. */
  set onNews(listener: (news: News) => void) {
    this.#onNews = listener;
    for (const news of this.#early.splice(0)) listener(news);
  }

  /**
   * Sends it with a fresh `re`, returns the answer. Throws PeerGone when what was asked
   * for is not there, PeerUnreachable when no answer comes, else NotAllowed with the
   * hub's code and text.
   */
  request(message: Request, timeoutMs: number = REQUEST_MS): Promise<HubMessage> {
    this.#lastRe = (this.#lastRe % (2 ** 31 - 1)) + 1;
    const re = this.#lastRe;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiting.delete(re);
        reject(new PeerUnreachable("The signaling server did not answer."));
      }, timeoutMs);
      this.#waiting.set(re, { resolve, reject, late });
      this.#lines.send(encodeRequest(message, re));
    });
  }

  close(): void {
    this.#lines.close();
    this.#onLost(new PeerUnreachable(LOST));
  }

  #onMessage(message: HubMessage): void {
    switch (message.t) {
      case "ping":
        this.#lines.send(encodePong({ t: "pong", re: message.re }));
        break;
      case "done":
      case "ticket":
      case "pong":
        this.#answer(message.re)?.resolve(message);
        break;
      case "error":
        if (message.re === null) this.#lines.fail(refusalOf(message));
        else this.#answer(message.re)?.reject(refusalOf(message));
        break;
      case "challenge":
      case "welcome":
        this.#lines.fail(
          new RemoteProtocolError("The signaling server begins its login anew."),
        );
        break;
      default:
        if (this.#onNews === null) this.#early.push(message);
        else this.#onNews(message);
    }
  }

  #answer(re: number): Waiting | undefined {
    const waiting = this.#waiting.get(re);
    this.#waiting.delete(re);
    clearTimeout(waiting?.late);
    return waiting;
  }

  #onLost(why: Error): void {
    for (const re of [...this.#waiting.keys()]) {
      this.#answer(re)?.reject(new PeerUnreachable(LOST));
    }
    const tell = this.onClosed;
    this.onClosed = () => {};
    tell(why);
  }
}

/** The messages of a WebSocket, one by one until somebody listens. */
class Lines {
  onClosed: (why: Error) => void = () => {};
  readonly #socket: WebSocket;
  readonly #early: HubMessage[] = [];
  #onMessage: ((message: HubMessage) => void) | null = null;
  #failure: Error | null = null;
  #news: () => void = () => {};

  constructor(address: string, url: string) {
    let hasOpened = false;
    try {
      this.#socket = new WebSocket(address);
    } catch (error) {
      throw unreached(url, reason(error));
    }
    this.#socket.onopen = () => {
      hasOpened = true;
    };
    this.#socket.onmessage = (event: MessageEvent<unknown>) => this.#take(event.data);
    this.#socket.onclose = () => {
      this.fail(
        hasOpened ? new PeerUnreachable(LOST) : unreached(url, "no connection"),
      );
    };
  }

  set onMessage(listener: (message: HubMessage) => void) {
    this.#onMessage = listener;
    for (const message of this.#early.splice(0)) listener(message);
    if (this.#failure !== null) queueMicrotask(() => this.#tellFailure());
  }

  /** The next message of a kind we know, before there is a listener. */
  async next(): Promise<HubMessage> {
    for (;;) {
      const message = this.#early.shift();
      if (message !== undefined) return message;
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#news = resolve;
      });
    }
  }

  /** Vanishes when the socket has closed: whoever waits for an answer is told. */
  send(line: string): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(line);
  }

  /** End it, for this reason. */
  fail(why: Error): void {
    if (this.#failure !== null) return;
    this.#failure = why;
    this.close();
    this.#news();
    this.#tellFailure();
  }

  close(): void {
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }

  #take(data: unknown): void {
    try {
      if (typeof data !== "string") throw new RemoteProtocolError("text was expected");
      const message = decodeHub(data);
      if (message.t === "?") return; // a newer version speaks
      if (this.#onMessage !== null) this.#onMessage(message);
      else this.#early.push(message);
      this.#news();
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #tellFailure(): void {
    if (this.#failure !== null && this.#onMessage !== null) {
      const tell = this.onClosed;
      this.onClosed = () => {};
      tell(this.#failure);
    }
  }
}

/** Our side of docs/protocol.md §3.1. */
async function logIn(
  lines: Lines,
  challenge: Challenge,
  who: Credentials,
): Promise<Welcome> {
  const { identity, conn, chain } = who;
  const nonce = randomBytes(32);
  const said = login.transcript({
    origin: login.origin(who.url),
    server: challenge.server,
    serverNonce: challenge.nonce,
    client: identity.id,
    clientNonce: nonce,
    ts: challenge.ts,
  });
  const sig = await login.signLogin("client", said, identity.signing);
  lines.send(encodeLogin({ t: "login", id: identity.id, nonce, conn, sig, chain }));
  const welcome = await lines.next();
  if (welcome.t !== "welcome") throw refusalOf(welcome);
  login.checkLogin("server", said, welcome.sig, challenge.server);
  return welcome;
}

function checkChallenge(challenge: Challenge, who: Credentials): void {
  if (who.server !== null && challenge.server !== who.server) {
    throw new TrustError(
      `The server at ${who.url} is not the one that this mesh was made with: its key ` +
        `is ${short(challenge.server)}, not ${short(who.server)}. Somebody else may ` +
        "have its address now; ask the owner of the mesh.",
    );
  }
  const [low, high] = challenge.versions;
  if (low > VERSIONS[1] || high < VERSIONS[0]) {
    throw new NotAllowed(
      `The signaling server speaks versions ${low} to ${high} of the protocol, which ` +
        "this page does not. Load the page again.",
      Code.VERSION,
    );
  }
}

function refusalOf(message: HubMessage): Error {
  if (message.t !== "error") {
    return new RemoteProtocolError("The signaling server breaks the protocol.");
  }
  return refused(message);
}

function refused({ code, text }: Refused): Error {
  return code === Code.GONE ? new PeerGone(text) : new NotAllowed(text, code);
}

function unreached(url: string, why: string): PeerUnreachable {
  return new PeerUnreachable(
    `The signaling server at ${url} cannot be reached: ${why}.`,
  );
}
