/** The way between two machines as a drawing: a line, or a line with a stop on it. */

import type { JSX } from "preact";
import type { Way } from "../chat/words.ts";

/** `isBusy`: something comes along it now. */
export function PathGlyph({
  way,
  isBusy,
}: {
  way: Way | null;
  isBusy: boolean;
}): JSX.Element {
  const style = `glyph ${way ?? "none"}${isBusy ? " busy" : ""}`;
  return (
    <svg class={style} viewBox="0 0 44 12" width="44" height="12" aria-hidden="true">
      <path class="line" d={way === "relay" ? "M6 6h11M27 6h11" : "M6 6h32"} />
      {way === "relay" && (
        <rect class="stop" x="18" y="2.5" width="8" height="7" rx="2" />
      )}
      <circle class="end" cx="5" cy="6" r="3" />
      <circle class="end far" cx="39" cy="6" r="3" />
      <circle class="mote" cx="39" cy="6" r="1.7" />
    </svg>
  );
}
