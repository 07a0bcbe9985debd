/** `2 of 3`: the other ways a conversation went from here. */

import type { JSX } from "preact";
import type { Message } from "../chat/types.ts";
import { useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";

export function BranchButtons({ message }: { message: Message }): JSX.Element | null {
  const { chat } = useWorld();
  const all = chat.siblings(message);
  if (all.length < 2) return null;
  const at = all.findIndex(({ id }) => id === message.id);
  const turn = (step: number) => {
    const other = all[at + step];
    if (other) void chat.turnTo(other);
  };
  const what = message.role === "user" ? "question" : "answer";
  return (
    <span
      class="branches"
      role="group"
      aria-label={`${what} ${at + 1} of ${all.length}`}
    >
      <button
        type="button"
        class="icon small"
        aria-label={`Previous ${what}`}
        disabled={at === 0}
        onClick={() => turn(-1)}
      >
        <Icon name="left" size={16} />
      </button>
      <span aria-hidden="true">
        {at + 1}/{all.length}
      </span>
      <button
        type="button"
        class="icon small"
        aria-label={`Next ${what}`}
        disabled={at === all.length - 1}
        onClick={() => turn(1)}
      >
        <Icon name="right" size={16} />
      </button>
    </span>
  );
}
