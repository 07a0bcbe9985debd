/** A sentence for people; what stands between backticks in it is code to type. */

import type { JSX } from "preact";

export function Sentence({ text }: { text: string }): JSX.Element {
  const parts = text.split("`");
  return <>{parts.map((part, at) => (at % 2 === 1 ? <code>{part}</code> : part))}</>;
}
