/** The height that is really there: a phone's keyboard takes its part of the window. */

export function followWindow(): void {
  const viewport = window.visualViewport;
  if (!viewport) return;
  const { style } = document.documentElement;
  const follow = () => {
    // Zoomed in, the visual viewport is a part of the page, not the room for it.
    if (viewport.scale > 1.01) return;
    style.setProperty("--height", `${viewport.height}px`);
    if (viewport.offsetTop > 0) scrollTo(0, 0);
  };
  viewport.addEventListener("resize", follow);
  follow();
}
