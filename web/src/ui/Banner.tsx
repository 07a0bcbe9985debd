/** What stands in the way of asking at all. */

import type { JSX } from "preact";
import { useWorld } from "./context.ts";
import { useConnectionState } from "./paths.ts";

export function Banner(): JSX.Element | null {
  const { chat } = useWorld();
  const { phase, problem } = useConnectionState();
  const isInsecure = location.protocol === "http:" && !isThisMachine(location.hostname);
  if (isInsecure && chat.connection.kind === "mesh") {
    return (
      <p class="banner bad" role="alert">
        This page came over plain http: anybody on the way may have changed it, and
        could read what you write. Use it over https.
      </p>
    );
  }
  if (phase === "connecting" && problem === null) return null;
  if (problem === null) return null;
  const goesOn = chat.connection.kind === "mesh" && chat.connection.paths().length > 0;
  return (
    <p class={phase === "refused" ? "banner bad" : "banner"} role="status">
      {problem}
      {goesOn && " Connected providers go on answering."}
    </p>
  );
}

function isThisMachine(host: string): boolean {
  return (
    host === "localhost" ||
    host.endsWith(".localhost") ||
    host === "[::1]" ||
    /^127\./.test(host)
  );
}
