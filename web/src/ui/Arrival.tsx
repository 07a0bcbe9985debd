/** The first visit: an invitation by its link or its QR code, or digits without one. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Door } from "../app/door.ts";
import type { Connection } from "../connection.ts";
import { reason } from "../errors.ts";
import { Icon } from "./icons.tsx";
import { Mark } from "./Mark.tsx";
import { Pairing } from "./Pairing.tsx";
import { canScan, Scanner } from "./Scanner.tsx";
import { Trouble } from "./Trouble.tsx";
import { Waiting } from "./Waiting.tsx";

const FAILED = "That invitation did not work";

interface Props {
  readonly door: Door;
  /** The link in the address, which is no longer there. */
  readonly link: string | null;
  /** The connection to a mesh that this browser is in already. */
  readonly before: Connection | null;
  readonly onIn: (connection: Connection) => void;
}

export function Arrival({ door, link, before, onIn }: Props): JSX.Element {
  const [state, set] = useState<"idle" | "joining" | "scanning" | "pairing">("idle");
  const [problem, setProblem] = useState<string | null>(null);
  const [text, setText] = useState("");
  const [former, setFormer] = useState(before);

  const enter = async (given: string) => {
    set("joining");
    setProblem(null);
    try {
      const link = given.trim();
      onIn(await (former === null ? door.join(link) : door.change(former, link)));
    } catch (error) {
      setProblem(reason(error));
      setFormer(await door.connect());
      set("idle");
    }
  };
  useEffect(() => {
    if (link !== null && before === null) void enter(link);
  }, []);

  return (
    <main class="arrival">
      <div class="arrival-body">
        <p class="brand">
          <Mark />
          meshllm
        </p>
        {state === "joining" ? (
          <>
            <h1>Coming in</h1>
            <Waiting>Making a key in this browser, and showing it to your mesh</Waiting>
          </>
        ) : link !== null && former !== null ? (
          <Choice
            me={former.me()?.name ?? ""}
            problem={problem}
            onStay={() => onIn(former)}
            onChange={() => void enter(link)}
          />
        ) : state === "pairing" ? (
          <Pairing door={door} onIn={onIn} onBack={() => set("idle")} />
        ) : (
          <>
            <h1>Talk to a friend’s machine</h1>
            <p>
              Here you chat with the language models of people you know, straight from
              this browser to theirs. You need an invitation of somebody in a mesh: a
              link that works once. Without one, digits from its owner’s screen will do.
            </p>
            {problem !== null && <Trouble title={FAILED} text={problem} />}
            <form
              class="invitation"
              onSubmit={(event) => {
                event.preventDefault();
                if (text.trim()) void enter(text);
              }}
            >
              <input
                aria-label="Invitation link"
                placeholder="Paste the link"
                autocomplete="off"
                spellcheck={false}
                inputMode="url"
                value={text}
                onInput={(event) => setText(event.currentTarget.value)}
              />
              <button
                type="submit"
                class="send"
                aria-label="Come in"
                disabled={!text.trim()}
              >
                <Icon name="right" />
              </button>
            </form>
            {state === "scanning" ? (
              <Scanner
                onFound={(found) => void enter(found)}
                onEnd={() => set("idle")}
              />
            ) : (
              <div class="row">
                {canScan() && (
                  <button type="button" class="button" onClick={() => set("scanning")}>
                    <Icon name="camera" size={18} />
                    Scan its QR code
                  </button>
                )}
                <button
                  type="button"
                  class="button"
                  onClick={() => {
                    setProblem(null);
                    set("pairing");
                  }}
                >
                  <Icon name="keyboard" size={18} />
                  Come in by digits
                </button>
              </div>
            )}
            <p class="fine">
              No account: a key is made in this browser and stays in it. What you write
              is readable by the machine that answers, and by nobody in between.
            </p>
          </>
        )}
      </div>
    </main>
  );
}

function Choice(props: {
  me: string;
  problem: string | null;
  onStay: () => void;
  onChange: () => void;
}): JSX.Element {
  return (
    <>
      <h1>One mesh at a time</h1>
      <p>
        This browser is in a mesh already{props.me ? `, as ${props.me}` : ""}. The link
        you opened leads to another one, or is a second invitation to the same. Your
        conversations stay either way.
      </p>
      {props.problem !== null && <Trouble title={FAILED} text={props.problem} />}
      <div class="row">
        <button type="button" class="button main" onClick={props.onStay}>
          Stay
        </button>
        <button type="button" class="button" onClick={props.onChange}>
          Leave it and use the link
        </button>
      </div>
    </>
  );
}
