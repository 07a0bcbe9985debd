/** The address bar and the title: `#/ID` is the conversation that is shown. */

import { effect } from "@preact/signals";
import type { Chat } from "../app/chat.ts";

/**
 * The whole address, if it is an invitation's; it is taken out of the address bar and of
 * the history at once.
 */
export function takeLink(): string | null {
  const { hash, href, pathname } = location;
  if (hash.length < 2 || hash.startsWith("#/")) return null;
  history.replaceState(null, "", pathname);
  return href;
}

const PLACE = /^#\/([0-9a-f]{24})$/;

/** Opens what the address names, and keeps both in step from then on. */
export async function followAddress(chat: Chat): Promise<void> {
  const open = async () => {
    const id = PLACE.exec(location.hash)?.[1];
    if (id === undefined) {
      if (chat.path.peek().length > 0) chat.begin();
    } else if (id !== chat.current.peek().id && !(await chat.open(id))) {
      history.replaceState(null, "", location.pathname);
    }
  };
  await open();
  addEventListener("popstate", () => void open());
  effect(() => {
    const { id, title } = chat.current.value;
    const isKept = chat.path.value.length > 0;
    document.title = isKept && title ? `${title} · meshllm` : "meshllm";
    const wanted = isKept ? `#/${id}` : "";
    if (location.hash !== wanted)
      history.pushState(null, "", wanted || location.pathname);
  });
}
