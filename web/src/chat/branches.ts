/** Pure: a conversation is a tree of messages; one branch of it is shown. */

import type { Message } from "./types.ts";

export type Messages = ReadonlyMap<string, Message>;

/** From the first message down to `leaf`; empty for null, and what is missing ends it. */
export function branch(messages: Messages, leaf: string | null): Message[] {
  const path: Message[] = [];
  const seen = new Set<string>();
  let id = leaf;
  while (id !== null && !seen.has(id)) {
    const message = messages.get(id);
    if (message === undefined) break;
    seen.add(id);
    path.push(message);
    id = message.parent;
  }
  return path.reverse();
}

/** Messages with the same parent, oldest first: the other ways it went on from there. */
export function siblings(messages: Messages, message: Message): Message[] {
  return children(messages, message.parent);
}

export function children(messages: Messages, parent: string | null): Message[] {
  const found = [...messages.values()].filter((other) => other.parent === parent);
  return found.sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
}

/** Where a branch through `id` ends: always down the newest child. */
export function leafOf(messages: Messages, id: string): string {
  const newest = new Map<string, Message>();
  for (const message of messages.values()) {
    if (message.parent === null) continue;
    const known = newest.get(message.parent);
    if (known === undefined || message.at >= known.at)
      newest.set(message.parent, message);
  }
  const seen = new Set<string>();
  let at = id;
  for (
    let next = newest.get(at);
    next !== undefined && !seen.has(at);
    next = newest.get(at)
  ) {
    seen.add(at);
    at = next.id;
  }
  return at;
}
