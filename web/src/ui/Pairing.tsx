/** Coming in without a link: digits that a person carries between two screens. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Door } from "../app/door.ts";
import type { Connection } from "../connection.ts";
import { Code, NotAllowed, reason } from "../errors.ts";
import { Icon } from "./icons.tsx";
import { Trouble } from "./Trouble.tsx";
import { Waiting } from "./Waiting.tsx";

interface Props {
  readonly door: Door;
  readonly onIn: (connection: Connection) => void;
  /** Back to the invitation by a link. */
  readonly onBack: () => void;
}

type Step =
  | { readonly is: "number" }
  | { readonly is: "waiting"; readonly for: string }
  | { readonly is: "code"; readonly code: string; readonly until: number };

const MAILBOX = { count: 3, least: /^[1-9]/ };
const RECEIPT = { count: 2, least: /^/ };

export function Pairing({ door, onIn, onBack }: Props): JSX.Element {
  const [step, set] = useState<Step>({ is: "number" });
  const [problem, setProblem] = useState<string | null>(null);
  const typed = useRef<(receipt: string) => void>(() => {});
  const attempt = useRef<AbortController | null>(null);

  const cancel = () => {
    const why = "You stopped the pairing.";
    attempt.current?.abort(new NotAllowed(why, Code.CANCELLED));
  };
  useEffect(() => cancel, []);

  const begin = async (number: string) => {
    attempt.current = new AbortController();
    const { signal } = attempt.current;
    setProblem(null);
    set({ is: "waiting", for: "Meeting the owner’s machine" });
    const screen = {
      showCode: (code: string, until: number) => set({ is: "code", code, until }),
      askReceipt: () =>
        new Promise<string>((resolve) => {
          typed.current = resolve;
        }),
    };
    try {
      onIn(await door.pair(Number(number), screen, signal));
    } catch (error) {
      if (signal.aborted) return;
      setProblem(reason(error));
      set({ is: "number" });
    }
  };
  const back = () => {
    cancel();
    onBack();
  };

  if (step.is === "waiting") {
    return (
      <>
        <h1>Coming in</h1>
        <Waiting>{step.for}</Waiting>
        <button type="button" class="button" onClick={back}>
          Cancel
        </button>
      </>
    );
  }
  if (step.is === "code") {
    return (
      <>
        <h1>The other machine is there</h1>
        <ol class="steps">
          <li>
            <span id="code-is">Type these six digits on the owner’s machine.</span>
            <SixDigits code={step.code} />
          </li>
          <li>
            <span>It then shows two digits. Type them here.</span>
            <DigitsForm
              label="The two digits"
              of={RECEIPT}
              describedBy="code-is code"
              onDigits={(receipt) => {
                set({ is: "waiting", for: "Taking the place that the owner gives" });
                typed.current(receipt);
              }}
            />
          </li>
        </ol>
        <p class="fine">
          Until {clock(step.until)}. One try: a wrong digit ends it on both sides, so
          that nobody in between can guess.
        </p>
        <button type="button" class="button" onClick={back}>
          Cancel
        </button>
      </>
    );
  }
  return (
    <>
      <h1>Come in by digits</h1>
      <p>
        For when you see the owner’s screen, or are on the phone with the owner: nobody
        has to send a link.
      </p>
      {problem !== null && <Trouble title="You are not in" text={problem} />}
      <ol class="steps">
        <li>
          <span>
            The owner of the mesh types <code>meshllm pair</code>.
          </span>
        </li>
        <li>
          <span id="number-is">It shows a number of three digits. Type it here.</span>
          <DigitsForm
            label="The number"
            of={MAILBOX}
            describedBy="number-is"
            onDigits={(number) => void begin(number)}
          />
        </li>
      </ol>
      <button type="button" class="button" onClick={back}>
        I have a link
      </button>
    </>
  );
}

/** Read aloud digit by digit. */
function SixDigits({ code }: { code: string }): JSX.Element {
  return (
    <p class="six" id="code" role="status">
      <span class="visually-hidden">{[...code].join(" ")}</span>
      <span aria-hidden="true">{`${code.slice(0, 3)} ${code.slice(3)}`}</span>
    </p>
  );
}

interface Digits {
  readonly label: string;
  readonly of: { readonly count: number; readonly least: RegExp };
  readonly describedBy: string;
  readonly onDigits: (digits: string) => void;
}

/** So many digits, whatever parts them; nothing else can be typed. */
function DigitsForm({ label, of, describedBy, onDigits }: Digits): JSX.Element {
  const [text, setText] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const isWhole = text.length === of.count && of.least.test(text);
  useEffect(() => input.current?.focus(), []);
  return (
    <form
      class="invitation digits"
      onSubmit={(event) => {
        event.preventDefault();
        if (isWhole) onDigits(text);
      }}
    >
      <input
        ref={input}
        aria-label={label}
        aria-describedby={describedBy}
        autocomplete="off"
        inputMode="numeric"
        placeholder={"0".repeat(of.count)}
        value={text}
        onInput={({ currentTarget }) => {
          const digits = currentTarget.value.replaceAll(/[^0-9]/g, "");
          currentTarget.value = digits.slice(0, of.count);
          setText(currentTarget.value);
        }}
      />
      <button type="submit" class="send" aria-label="Go on" disabled={!isWhole}>
        <Icon name="right" />
      </button>
    </form>
  );
}

function clock(unixS: number): string {
  return new Date(unixS * 1_000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
  });
}
