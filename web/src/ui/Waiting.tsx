/** That something is on its way, while there is nothing to do. */

import type { ComponentChildren, JSX } from "preact";

export function Waiting({ children }: { children: ComponentChildren }): JSX.Element {
  return (
    <p class="waiting" role="status">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {children}
    </p>
  );
}
