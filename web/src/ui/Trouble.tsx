/** What went wrong on the way in, and what to do. */

import type { JSX } from "preact";
import { Sentence } from "./Sentence.tsx";

export function Trouble(props: { title: string; text: string }): JSX.Element {
  return (
    <div class="problem" role="alert">
      <strong>{props.title}</strong>
      <p>
        <Sentence text={props.text} />
      </p>
    </div>
  );
}
