/** Which path the page speaks of: the running answer's, the last one's, or the next one's. */

import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Chat } from "../app/chat.ts";
import { type Way, wayOf } from "../chat/words.ts";
import type { ConnectionState, PathView } from "../connection.ts";
import { useWorld } from "./context.ts";

export interface Seen {
  readonly provider: { readonly id: string; readonly name: string } | null;
  readonly path: PathView | null;
  readonly way: Way | null;
}

/** Renders again whenever paths change. */
export function useSeen(): Seen {
  const { chat } = useWorld();
  usePathChanges(chat);
  // Not the whole message: that changes with every frame.
  const running = {
    provider: useComputed(() => chat.active.value?.message.value.provider ?? null)
      .value,
    way: useComputed(() => chat.active.value?.message.value.way ?? null).value,
  };
  const last = chat.path.value.findLast((message) => message.role === "assistant");
  const answered =
    running.provider ?? (last?.role === "assistant" ? last.provider : null);
  const { pin } = chat.current.value;
  const holders = chat.model.value?.providers ?? [];
  const pinned = pin === null ? undefined : holders.find((holder) => holder.id === pin);
  const next = pinned ?? holders.find(({ path }) => path !== null) ?? holders[0];
  const isStillThere =
    answered !== null && holders.some(({ id }) => id === answered.id);
  const provider =
    running.provider ?? (isStillThere && !pinned ? answered : (next ?? answered));
  if (!provider) return { provider: null, path: null, way: null };
  const path =
    chat.connection.paths().find((one) => one.provider.id === provider.id) ?? null;
  const way = path ? wayOf(path.kind, path.candidates?.remote ?? null) : running.way;
  return { provider: { id: provider.id, name: provider.name }, path, way };
}

export function usePathChanges(chat: Chat): void {
  const changes = useSignal(0);
  void changes.value;
  useEffect(() => {
    changes.value += 1; // something may have come between the drawing and now
    return chat.connection.subscribe((event) => {
      if (event === "paths" || event === "models") changes.value += 1;
    });
  }, [chat, changes]);
}

export function useConnectionState(): ConnectionState {
  const { chat } = useWorld();
  const state = useSignal(chat.connection.state());
  useEffect(() => {
    const read = () => (state.value = chat.connection.state());
    read(); // it may have changed between the drawing and now
    return chat.connection.subscribe((event) => {
      if (event === "state") read();
    });
  }, [chat, state]);
  return state.value;
}
