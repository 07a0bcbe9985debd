/** That something is on its way, while there is nothing to do. */

import type { JSX } from "preact";

export function Waiting({ text }: { text: string }): JSX.Element {
  return (
    <p class="waiting" role="status">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {text}
    </p>
  );
}
