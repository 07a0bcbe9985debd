/** KaTeX, and its name stops here. It builds elements itself: no HTML from a string. */

import katex from "katex";
import "katex/dist/katex.min.css";

/** What is no TeX is shown as it was written. */
export function renderFormula(
  tex: string,
  into: HTMLElement,
  isDisplay: boolean,
): void {
  try {
    draw(tex, into, isDisplay);
  } catch {
    const code = document.createElement("code");
    code.textContent = tex;
    into.replaceChildren(code);
  }
  // Reachable by keyboard when it is wider than the page, for it scrolls then.
  if (isDisplay && into.scrollWidth > into.clientWidth) into.tabIndex = 0;
}

function draw(tex: string, into: HTMLElement, isDisplay: boolean): void {
  katex.render(tex, into, {
    displayMode: isDisplay,
    // Its own way to show errors is an inline style, which the page's policy forbids.
    throwOnError: true,
    trust: false, // no links, pictures or classes of a model's making
    strict: "ignore",
    maxSize: 20,
    maxExpand: 200,
    output: "htmlAndMathml",
  });
}
