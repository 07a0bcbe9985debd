/** A mailbox of a signaling server, as the newcomer in it (docs/protocol.md §3.2). */

import type { Bytes } from "../bytes.ts";
import { Code, NotAllowed, PeerGone, PeerUnreachable, reason } from "../errors.ts";
import type { Identity } from "../identity.ts";
import { AGAIN, LATE, LEFT } from "../protocol/pairing.ts";
import type { PeerId } from "../trust/keys.ts";
import { randomBytes } from "./random.ts";
import { type News, SignalingSocket } from "./signalingSocket.ts";

interface Waiting {
  readonly resolve: (letter: Bytes) => void;
  readonly reject: (why: Error) => void;
}

export class Mailbox {
  readonly #socket: SignalingSocket;
  readonly #letters: Bytes[] = [];
  #waiting: Waiting | null = null;
  #end: Error | null = null;

  private constructor(socket: SignalingSocket) {
    this.#socket = socket;
    socket.onNews = (news) => this.#take(news);
    socket.onClosed = (why) => this.end(new PeerUnreachable(`${reason(why)} ${AGAIN}`));
  }

  /** Throws PeerGone when there is none by that number, NotAllowed when two are in it
   * already, PeerUnreachable when there is no server. */
  static async join(url: string, number: number, identity: Identity): Promise<Mailbox> {
    const who = { url, server: null, identity, conn: randomBytes(16), chain: [] };
    const mailbox = new Mailbox(await SignalingSocket.connect(who));
    try {
      await mailbox.#socket.request({ t: "join_mailbox", number });
    } catch (error) {
      mailbox.close();
      throw error;
    }
    return mailbox;
  }

  /** The key that the server showed. */
  get server(): PeerId {
    return this.#socket.server;
  }

  async send(letter: Bytes, timeoutMs?: number): Promise<void> {
    try {
      await this.#socket.request({ t: "post", letter }, timeoutMs);
    } catch (error) {
      throw error instanceof PeerGone ? new PeerUnreachable(LEFT) : error;
    }
  }

  /** The owner's next letter; throws what ended the mailbox. One asks at a time. */
  receive(): Promise<Bytes> {
    const letter = this.#letters.shift();
    if (letter !== undefined) return Promise.resolve(letter);
    if (this.#end !== null) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** Whoever waits for a letter hears why there will be none. Letters still go out. */
  end(why: Error): void {
    this.#end ??= why;
    this.#waiting?.reject(this.#end);
    this.#waiting = null;
  }

  close(): void {
    this.#socket.close();
  }

  #take(news: News): void {
    if (news.t === "mailbox_closed") {
      const isLate = news.code === Code.TIMEOUT;
      this.end(isLate ? new NotAllowed(LATE, news.code) : new PeerUnreachable(LEFT));
    } else if (news.t === "letter") {
      if (this.#waiting === null) this.#letters.push(news.letter);
      else this.#waiting.resolve(news.letter);
      this.#waiting = null;
    }
  }
}
