/** Mathematics: KaTeX is fetched with the first formula; until then its source is shown. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

type Render = (tex: string, into: HTMLElement, isDisplay: boolean) => void;

let render: Render | null = null;
let loading: Promise<Render> | null = null;

function load(): Promise<Render> {
  loading ??= import("./katex.ts").then((module) => {
    render = module.renderFormula;
    return render;
  });
  return loading;
}

export function Formula({
  tex,
  isDisplay,
}: {
  tex: string;
  isDisplay: boolean;
}): JSX.Element {
  const place = useRef<HTMLSpanElement>(null);
  const [isReady, setReady] = useState(render !== null);
  useEffect(() => {
    if (isReady && render !== null && place.current) {
      render(tex, place.current, isDisplay);
    } else if (!isReady) {
      // Also when it has come between the drawing and now.
      load().then(
        () => setReady(true),
        () => undefined, // offline, and never seen before: the source stays
      );
    }
  }, [tex, isDisplay, isReady]);
  const style = isDisplay ? "formula display" : "formula";
  // Two keys: what KaTeX put into the second is none of ours to change.
  return isReady ? (
    <span key="ready" class={style} ref={place} />
  ) : (
    <span key="source" class={style}>
      <code>{tex}</code>
    </span>
  );
}
