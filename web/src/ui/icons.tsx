/** Our own icons: twenty pixels, one line. Decorations: what they mean is said in words. */

import type { JSX } from "preact";

const PATHS = {
  plus: "M10 4v12M4 10h12",
  menu: "M3.5 6.5h13M3.5 13.5h8",
  search: "M8.75 14a5.25 5.25 0 1 0 0-10.5 5.25 5.25 0 0 0 0 10.5ZM12.6 12.6l4 4",
  send: "M10 16V4.5M5 9.2l5-5 5 5",
  copy: "M7 7V4.5A1.5 1.5 0 0 1 8.5 3h7A1.5 1.5 0 0 1 17 4.5v7a1.5 1.5 0 0 1-1.5 1.5H13M4.5 7h7A1.5 1.5 0 0 1 13 8.5v7a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 3 15.5v-7A1.5 1.5 0 0 1 4.5 7Z",
  check: "M4.5 10.5 8.2 14.2 15.5 6.5",
  again: "M16 10a6 6 0 1 1-1.9-4.4M16.2 3v3.4h-3.4",
  pencil:
    "M12.6 4.4l3 3M4 16l.8-3.6 8.6-8.6a1.4 1.4 0 0 1 2 0l.8.8a1.4 1.4 0 0 1 0 2L7.6 15.2 4 16Z",
  left: "M12 4.5 6.5 10l5.5 5.5",
  right: "M8 4.5 13.5 10 8 15.5",
  down: "M4.5 7.5 10 13l5.5-5.5",
  trash: "M3.5 5.5h13M8 5.5V3.5h4v2M5.3 5.5l.7 11h8l.7-11M8.5 9v4.5M11.5 9v4.5",
  download: "M10 3.5v9M6 9l4 4 4-4M4 16.5h12",
  upload: "M10 13V3.8M6 7.5l4-4 4 4M4 16.5h12",
  sliders:
    "M3.5 6.5h7.5M15 6.5h1.5M3.5 13.5h1.5M9 13.5h7.5M13 8.3a1.8 1.8 0 1 0 0-3.6 1.8 1.8 0 0 0 0 3.6ZM7 15.3a1.8 1.8 0 1 0 0-3.6 1.8 1.8 0 0 0 0 3.6Z",
  picture:
    "M4.5 3.5h11a1 1 0 0 1 1 1v11a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1v-11a1 1 0 0 1 1-1ZM3.7 13.5l3.5-3.5 3 3 2.3-2.3 3.8 3.8M12.8 7.8a.9.9 0 1 0 0-1.8.9.9 0 0 0 0 1.8Z",
  camera:
    "M3.5 6.5h2.8l1.2-2h5l1.2 2h2.8v9.5h-13V6.5ZM10 13.5a2.7 2.7 0 1 0 0-5.4 2.7 2.7 0 0 0 0 5.4Z",
  file: "M5.5 3.5h6l3.5 3.5v9.5h-9.5v-13ZM11.3 3.7V7.2h3.5M7.7 10.5h5M7.7 13.3h3.5",
  close: "M5 5l10 10M15 5 5 15",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  eye: "M2.5 10S5.2 5 10 5s7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5ZM10 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z",
  thought:
    "M10 3.2a4.8 4.8 0 0 1 2.6 8.8c-.5.4-.8.8-.8 1.4v.400H8.2v-.4c0-.6-.3-1-.8-1.4A4.8 4.8 0 0 1 10 3.2ZM8.4 16.4h3.2",
  tools:
    "M12.3 4a3.7 3.7 0 0 0-3.5 4.9L3.7 14a1.6 1.6 0 0 0 2.3 2.3l5.1-5.1A3.7 3.7 0 0 0 15.9 6.5l-2.2 2.2-2.4-2.4L13.5 4.2a3.7 3.7 0 0 0-1.2-.2Z",
  bolt: "M11 3 5 11.5h4.3L8.7 17 15 8.5h-4.3L11 3Z",
  keyboard:
    "M3 5.5h14v9H3v-9ZM5.8 8.3h.01M8.6 8.3h.01M11.4 8.3h.01M14.2 8.3h.01M7 11.7h6",
  lock: "M5.5 9h9v7.5h-9V9ZM7.3 9V6.7a2.7 2.7 0 0 1 5.4 0V9",
  side: "M3.5 4.5h13v11h-13v-11ZM8 4.7v10.6",
  edit: "M9 4.5H4.5v11h11V11M8.5 11.5l.5-2.5 6-6 2 2-6 6-2.5.5Z",
} as const;

export type IconName = keyof typeof PATHS | "stop" | "dots";

export function Icon({
  name,
  size = 20,
}: {
  name: IconName;
  size?: number;
}): JSX.Element {
  if (name === "stop") {
    return (
      <svg viewBox="0 0 20 20" width={size} height={size} aria-hidden="true">
        <rect x="5.5" y="5.5" width="9" height="9" rx="1.8" fill="currentColor" />
      </svg>
    );
  }
  const isDots = name === "dots" || name === "more" || name === "keyboard";
  return (
    <svg
      viewBox="0 0 20 20"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      stroke-width={isDots && name !== "keyboard" ? 2.2 : 1.5}
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name === "dots" ? "more" : name]} />
    </svg>
  );
}
