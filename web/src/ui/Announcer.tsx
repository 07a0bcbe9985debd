/**
 * Says the answer to those who listen, a sentence at a time: a live region that changed
 * with every token would be read as noise.
 */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../app/chat.ts";
import { sentences } from "../chat/speech.ts";
import { useWorld } from "./context.ts";

const LOOK_MS = 700;
const KEPT = 4;

interface Said {
  readonly id: number;
  readonly text: string;
}

export function Announcer(): JSX.Element {
  const { chat } = useWorld();
  const [said, say] = useState<readonly Said[]>([]);
  useEffect(() => {
    let id = 0;
    const tell = (text: string) => {
      if (text) say((before) => [...before, { id: id++, text }].slice(-KEPT));
    };
    const speaker = new Speaker(chat, tell);
    const timer = setInterval(() => speaker.look(), LOOK_MS);
    return () => clearInterval(timer);
  }, [chat]);
  return (
    <div class="visually-hidden" aria-live="polite" aria-atomic="false">
      {said.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}

/** Follows the answer that is under way, and says what of it was not said yet. */
class Speaker {
  readonly #chat: Chat;
  readonly #tell: (text: string) => void;
  #id = "";
  #upTo = 0;

  constructor(chat: Chat, tell: (text: string) => void) {
    this.#chat = chat;
    this.#tell = tell;
  }

  look(): void {
    const running = this.#chat.active.peek();
    if (running === null) {
      if (this.#id !== "") this.#end();
      return;
    }
    const { id, text } = running.message.peek();
    if (id !== this.#id) {
      if (this.#id !== "") this.#end();
      this.#id = id;
      this.#upTo = 0;
      this.#tell("Waiting for the answer.");
    }
    this.#say(text, false);
  }

  #end(): void {
    const answer = this.#chat.messages.peek().get(this.#id);
    this.#id = "";
    if (answer?.role !== "assistant") return; // another conversation is shown by now
    this.#say(answer.text, true);
    if (answer.state === "done") this.#tell("End of the answer.");
  }

  #say(text: string, isWhole: boolean): void {
    const next = sentences(text, this.#upTo, isWhole);
    this.#upTo = next.upTo;
    this.#tell(next.text);
  }
}
