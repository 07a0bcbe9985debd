/** What a model said, or is saying, and how it came here. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Phase, Running } from "../app/running.ts";
import type { AnswerMessage } from "../chat/types.ts";
import { duration, measuresParts, rate, wayName } from "../chat/words.ts";
import { BranchButtons } from "./BranchButtons.tsx";
import { copy } from "./clipboard.ts";
import { useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";
import { Markdown, useBriefly } from "./Markdown.tsx";
import { ProblemCard } from "./ProblemCard.tsx";
import { Waiting } from "./Waiting.tsx";

interface Props {
  readonly message: AnswerMessage;
  readonly isLast: boolean;
}

/**
 * Follows its answer frame by frame while it runs: nothing else on the page does. One
 * component for both times, so that what is shown stays when the answer ends.
 */
export function AnswerTurn({ message: kept, isLast }: Props): JSX.Element {
  const { chat } = useWorld();
  const running = chat.running.value.get(kept.id) ?? null;
  const message = running?.message.value ?? kept;
  const isElsewhere = chat.elsewhere.value.has(message.id);
  // Between being kept and being asked it is running, though nobody works on it yet.
  const isBusy = running !== null || isElsewhere || message.state === "running";
  const isEmpty = message.text === "" && message.thinking === "";
  return (
    <article
      class="turn theirs"
      id={`m-${message.id}`}
      aria-label={`Answer of ${message.model}`}
      aria-busy={isBusy}
    >
      {message.thinking && <Thinking message={message} isBusy={isBusy} />}
      {message.text && <Markdown text={message.text} isGrowing={isBusy} />}
      {running && isEmpty && <Coming running={running} />}
      {isElsewhere && isEmpty && (
        <p class="waiting">Another tab is at work on this answer …</p>
      )}
      {message.problem && !isBusy && <ProblemCard message={message} />}
      {!message.problem && !isBusy && <Ending message={message} />}
      <footer>
        {isBusy ? (
          <Progress message={message} running={running} />
        ) : (
          <Done message={message} isLast={isLast} />
        )}
      </footer>
    </article>
  );
}

const PHASES: Record<Phase, string> = {
  asking: "Asking",
  queued: "Waiting",
  loading: "Reading what you wrote",
  thinking: "Thinking",
  writing: "Writing",
};

function Coming({ running }: { running: Running }): JSX.Element {
  const seconds = useSeconds(running);
  const phase = running.phase.value;
  const place = running.place.value;
  const { provider } = running.message.value;
  let words = PHASES[phase];
  if (phase === "queued" && place !== null) {
    words = place === 1 ? "You are next in line" : `${place - 1} before you in line`;
  } else if (phase === "asking" && seconds >= 2) {
    words = "Finding a way to a provider";
  } else if (phase === "loading" && seconds >= 4) {
    words = `${provider?.name ?? "The provider"} is loading the model, or reading what you wrote`;
  }
  return (
    <Waiting>
      {words}
      {seconds >= 3 && <span class="seconds"> {seconds} s</span>}
    </Waiting>
  );
}

/** Whole seconds since this was first shown. */
function useSeconds(of: unknown): number {
  const [seconds, set] = useState(0);
  useEffect(() => {
    set(0);
    const timer = setInterval(() => set((now) => now + 1), 1000);
    return () => clearInterval(timer);
  }, [of]);
  return seconds;
}

function Thinking({
  message,
  isBusy,
}: {
  message: AnswerMessage;
  isBusy: boolean;
}): JSX.Element {
  const isThinking = isBusy && message.text === "";
  const took = message.thinkingMs;
  return (
    <details class={isThinking ? "thinking now" : "thinking"}>
      <summary>
        <Icon name="thought" size={18} />
        <span>
          {isThinking
            ? "Thinking"
            : took === null
              ? "Thoughts"
              : `Thought for ${took < 500 ? "a moment" : duration(took)}`}
        </span>
        <Icon name="down" size={15} />
      </summary>
      <div class="thoughts" tabIndex={0}>
        {message.thinking}
      </div>
    </details>
  );
}

function Ending({ message }: { message: AnswerMessage }): JSX.Element | null {
  const { chat } = useWorld();
  const words = {
    stopped: "You stopped this answer.",
    length: "The model was not allowed to say more.",
    cut: "This answer was cut short.",
  }[message.state as "stopped" | "length" | "cut"];
  if (words === undefined) return null;
  return (
    <p class="ending">
      {words}
      <button type="button" class="button" onClick={() => void chat.goOn(message)}>
        {message.text ? "Continue" : "Ask again"}
      </button>
    </p>
  );
}

function Progress({
  message,
  running,
}: {
  message: AnswerMessage;
  running: Running | null;
}): JSX.Element {
  const perSecond = running?.rate.value ?? null;
  return (
    <Carried
      parts={[
        message.provider?.name,
        message.way && wayName(message.way).toLowerCase(),
        perSecond !== null && rate(perSecond),
      ]}
    />
  );
}

/** Each part stays on one line. */
function Carried({
  parts,
}: {
  parts: readonly (string | false | null | undefined)[];
}): JSX.Element {
  const said = parts.filter((part) => typeof part === "string" && part !== "");
  return (
    <span class="carried">
      {said.flatMap((part, index) => [
        index > 0 ? " · " : "",
        <span key={index}>{part}</span>,
      ])}
    </span>
  );
}

function Done({ message, isLast }: Props): JSX.Element {
  const { chat } = useWorld();
  const [isCopied, tellCopied] = useBriefly();
  const { measures, provider, way } = message;
  const parts = [
    message.model.replace(/:latest$/, ""),
    provider?.name,
    way && wayName(way).toLowerCase(),
    ...(measures === null ? [] : measuresParts(measures)),
  ];
  return (
    <>
      <div class={isLast ? "actions shown" : "actions"}>
        <BranchButtons message={message} />
        {message.text && (
          <button
            type="button"
            class="icon small"
            aria-label="Copy answer"
            title="Copy"
            onClick={() => void copy(message.text).then(tellCopied)}
          >
            <Icon name={isCopied ? "check" : "copy"} size={17} />
          </button>
        )}
        <button
          type="button"
          class="icon small"
          aria-label="Answer again"
          title="Answer again"
          disabled={chat.busy.value !== null}
          onClick={() => void chat.regenerate(message)}
        >
          <Icon name="again" size={17} />
        </button>
      </div>
      <Carried parts={parts} />
    </>
  );
}
