/** Why there is no answer, and what can be done now. */

import type { JSX } from "preact";
import { canChat } from "../app/chat.ts";
import { alternatives, problemAdvice, problemTitle } from "../chat/problems.ts";
import type { AnswerMessage } from "../chat/types.ts";
import { shortModel } from "../chat/words.ts";
import { useWorld } from "./context.ts";

export function ProblemCard({
  message,
}: {
  message: AnswerMessage;
}): JSX.Element | null {
  const { chat, face } = useWorld();
  const { problem } = message;
  if (problem === null) return null;
  const { code, text, retryAfterS } = problem;
  const failed = message.provider?.id ?? chat.current.value.pin;
  const models = chat.models.value.filter(canChat);
  const others = alternatives(problem, message.model, failed, models);
  const isHere = models.some(({ name }) => name === message.model);
  const advice = problemAdvice(code);
  const isBusy = chat.busy.value !== null;
  const isPinned = chat.current.value.pin !== null;
  return (
    <div class="problem" role="alert">
      <strong>{problemTitle(code)}</strong>
      <p>
        {sentence(text)} {advice}
      </p>
      <div class="row">
        {message.text && isHere && (
          <button
            type="button"
            class="button main"
            disabled={isBusy}
            onClick={() => void chat.goOn(message)}
          >
            Continue the answer
          </button>
        )}
        {others.map(({ model, provider: { id, name } }) => (
          <button
            key={`${model} ${id}`}
            type="button"
            class="button"
            disabled={isBusy}
            onClick={() => void chat.regenerate(message, { model, pin: id })}
          >
            {model === message.model
              ? `Ask ${name}`
              : `Ask ${shortModel(model)} at ${name}`}
          </button>
        ))}
        <button
          type="button"
          class="button"
          disabled={isBusy}
          onClick={() =>
            void chat.regenerate(
              message,
              isPinned && others.length === 0 ? { pin: null } : {},
            )
          }
        >
          Try again
        </button>
        <button type="button" class="button" onClick={() => face.show("models")}>
          Choose a model
        </button>
        {retryAfterS !== null && (code === "busy" || code === "quota") && (
          <span class="hint">It may work in {retryAfterS} s.</span>
        )}
      </div>
    </div>
  );
}

/** Servers' sentences begin small, and end without a stop. */
function sentence(text: string): string {
  const whole = text.trim();
  const begun = whole.charAt(0).toUpperCase() + whole.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
