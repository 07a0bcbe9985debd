/** What every component may need: the conversation, and what of the page is open. */

import { signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Chat } from "../app/chat.ts";
import type { Remembered } from "../app/remembered.ts";

export type Panel = "models" | "path" | "settings" | "keys" | "data" | null;

export interface Toast {
  readonly text: string;
  readonly action?: { readonly name: string; readonly run: () => void };
}

/** The page itself; nothing of it is kept but what `memory` remembers. */
export class Face {
  readonly panel = signal<Panel>(null);
  /** The list of conversations over the page, on a phone. */
  readonly isDrawerOpen = signal(false);
  readonly isSidebarShut = signal(false);
  readonly toast = signal<Toast | null>(null);
  readonly query = signal("");
  /** The user's message that is being edited. */
  readonly editing = signal<string | null>(null);
  readonly memory: Remembered;
  /** Leaves the mesh; null where the gateway is in it, not this page. */
  readonly leave: (() => Promise<void>) | null;
  #toastTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(memory: Remembered, leave: (() => Promise<void>) | null) {
    this.memory = memory;
    this.leave = leave;
    this.isSidebarShut.value = memory.get("sidebar") === "shut";
  }

  show(panel: Panel): void {
    this.isDrawerOpen.value = false;
    this.panel.value = panel;
  }

  tell(text: string, action?: Toast["action"]): void {
    clearTimeout(this.#toastTimer);
    this.toast.value = action ? { text, action } : { text };
    this.#toastTimer = setTimeout(() => this.quiet(), action ? 8000 : 4000);
  }

  quiet(): void {
    this.toast.value = null;
  }

  toggleSidebar(): void {
    if (isNarrow()) {
      this.isDrawerOpen.value = !this.isDrawerOpen.value;
      return;
    }
    this.isSidebarShut.value = !this.isSidebarShut.value;
    this.memory.set("sidebar", this.isSidebarShut.value ? "shut" : "open");
  }
}

export interface World {
  readonly chat: Chat;
  readonly face: Face;
}

export const WorldContext = createContext<World | null>(null);

export function useWorld(): World {
  const world = useContext(WorldContext);
  if (world === null) throw new Error("no world around this component");
  return world;
}

export function isNarrow(): boolean {
  return matchMedia("(max-width: 760px)").matches;
}

/** Whether Enter makes a new line: on keyboards of glass it must. */
export function hasTouchKeyboard(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}

export const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
