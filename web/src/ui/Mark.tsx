/** Our mark: an m that is two machines and the way between them. */

import type { JSX } from "preact";

export function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <path d="M5 23V12.5a5.5 5.5 0 0 1 11 0V18M16 12.5a5.5 5.5 0 0 1 11 0V23" />
      <circle cx="5" cy="24" r="3.2" />
      <circle class="far" cx="27" cy="24" r="3.2" />
    </svg>
  );
}
