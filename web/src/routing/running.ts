/**
 * Answers under way, as a page that is loaded again finds them: enough to take them up.
 * Nothing of what was asked or answered is in it.
 */

import { type Bytes, isEqual, toHex } from "../bytes.ts";
import type { Provider } from "./roster.ts";

/** All of it can be stored. */
export interface Place {
  readonly provider: string;
  /** Which process of the provider. */
  readonly conn: Bytes;
  readonly session: Bytes;
  readonly epoch: number;
  readonly stream: number;
}

export interface Running extends Place {
  /** Bytes of the question's stream, and of its answer's head. */
  readonly sent: number;
  readonly head: number;
  readonly status: number;
  readonly contentType: string;
}

/** Where they are kept, by their keys. */
export interface Shelf {
  keep(key: string, running: Running): Promise<void>;
  drop(key: string): Promise<void>;
  /** Those there are; they are taken from the shelf. */
  take(keys: readonly string[]): Promise<Group>;
}

/** More than one page resumes a session in its life: an epoch must not be used again. */
export const EPOCHS_A_PAGE = 65_536;

/** Those of one session, with their keys. */
export type Group = ReadonlyMap<string, Running>;

export function bySession(all: Group): readonly Group[] {
  const groups = new Map<string, Map<string, Running>>();
  for (const [key, running] of all) {
    const name = toHex(running.session);
    const group = groups.get(name) ?? new Map<string, Running>();
    groups.set(name, group.set(key, running));
  }
  return [...groups.values()];
}

/** Whether this is the process that answers it. */
export function isOf(running: Running, provider: Provider): boolean {
  const { id, announcement } = provider;
  return running.provider === id && isEqual(running.conn, announcement.conn);
}
