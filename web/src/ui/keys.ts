/** The keyboard: what each combination does, told in one place and done in one place. */

import { copy } from "./clipboard.ts";
import { isMac, isNarrow, type World } from "./context.ts";
import { focusComposer } from "./Sidebar.tsx";

const COMMAND = isMac ? "⌘" : "Ctrl";

/** For people to read. */
export const KEYS: readonly (readonly [keys: readonly string[], does: string])[] = [
  [["Enter"], "Send"],
  [["Shift", "Enter"], "New line"],
  [["Esc"], "Stop the answer"],
  [["↑"], "Edit your last message (in an empty field)"],
  [[COMMAND, "K"], "Search conversations"],
  [[COMMAND, "Shift", "O"], "New conversation"],
  [[COMMAND, "Shift", "M"], "Choose a model"],
  [[COMMAND, "Shift", "L"], "Who carries your words"],
  [[COMMAND, "Shift", "C"], "Copy the last answer"],
  [[COMMAND, "Shift", "S"], "Show or hide conversations"],
  [["Shift", "Esc"], "Back to the field"],
  [[COMMAND, "/"], "These keys"],
];

export function listenToKeys({ chat, face }: World): () => void {
  const onKey = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.isComposing) return;
    const isCommand = isMac ? event.metaKey : event.ctrlKey;
    const key = event.key.toLowerCase();
    if (key === "escape" && event.shiftKey) focusComposer();
    else if (key === "escape" && face.panel.value === null) {
      if (face.isDrawerOpen.value) face.isDrawerOpen.value = false;
      else if (chat.busy.value !== null) chat.stop(chat.busy.value);
      else return;
    } else if (!isCommand || event.altKey) return;
    else if (event.shiftKey) {
      if (!withShift(key)) return;
    } else if (key === "k") search();
    else if (key === "/") face.show("keys");
    else return;
    event.preventDefault();
  };

  function withShift(key: string): boolean {
    switch (key) {
      case "o":
        chat.begin();
        focusComposer();
        return true;
      case "m":
        face.show("models");
        return true;
      case "l":
        face.show("path");
        return true;
      case "s":
        face.toggleSidebar();
        return true;
      case "c": {
        const last = chat.path.value.findLast(
          (message) => message.role === "assistant",
        );
        if (last?.text) void copy(last.text).then(() => face.tell("Copied."));
        return true;
      }
      default:
        return false;
    }
  }

  function search(): void {
    face.panel.value = null;
    const focus = () => document.getElementById("search")?.focus();
    if (isNarrow()) face.isDrawerOpen.value = true;
    else if (face.isSidebarShut.value) face.toggleSidebar();
    else {
      focus();
      return;
    }
    requestAnimationFrame(focus); // a field that is hidden takes no focus
  }

  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}
