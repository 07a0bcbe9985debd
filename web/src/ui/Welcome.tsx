/** An empty conversation: who would answer, and who is in between. */

import type { JSX } from "preact";
import { wayName } from "../chat/words.ts";
import { useWorld } from "./context.ts";
import { useConnectionState, useSeen } from "./paths.ts";

export function Welcome(): JSX.Element {
  const { chat, face } = useWorld();
  const { provider, way } = useSeen();
  const { phase } = useConnectionState();
  const isGateway = chat.connection.kind === "gateway";
  if (provider === null) {
    return (
      <div class="welcome">
        <Line far="nobody yet" label="" isOpen={true} />
        <h1>
          {phase === "ready" ? "Nobody shares a model yet" : "Looking for your mesh"}
        </h1>
        <p>
          {phase === "ready"
            ? "As soon as a provider of your mesh runs meshllm share, its models are here."
            : "Your conversations are here all the same."}
        </p>
      </div>
    );
  }
  return (
    <div class="welcome">
      <Line
        far={provider.name}
        label={way === null ? "" : wayName(way)}
        isOpen={way === null}
      />
      <h1>What would you like to ask?</h1>
      <p>
        {way === "relay"
          ? `Your words go to ${provider.name} through a relay, which passes on what it cannot read.`
          : `Your words go from this ${isGateway ? "machine" : "browser"} ${way === null ? "" : "straight "}to ${provider.name}. No server in between can read them.`}{" "}
        <button type="button" class="link" onClick={() => face.show("path")}>
          Who sees what
        </button>
      </p>
    </div>
  );
}

function Line({
  far,
  label,
  isOpen,
}: {
  far: string;
  label: string;
  isOpen: boolean;
}): JSX.Element {
  return (
    <div
      class={isOpen ? "wire open" : "wire"}
      role="img"
      aria-label={`You, ${label || "not connected"}, ${far}`}
    >
      <span class="node">You</span>
      <span class="strand">
        <span>{label}</span>
      </span>
      <span class="node far">{far}</span>
    </div>
  );
}
