/** Work once per frame; in a tab that nobody sees there are none, so at a slow pace. */

const HIDDEN_MS = 250;

export function frame(work: () => void): void {
  if (document.visibilityState === "hidden") {
    setTimeout(work, HIDDEN_MS);
    return;
  }
  // A tab that is hidden before the frame is drawn must not hold the work back.
  let isDone = false;
  const once = () => {
    if (isDone) return;
    isDone = true;
    work();
  };
  requestAnimationFrame(once);
  setTimeout(once, HIDDEN_MS);
}
