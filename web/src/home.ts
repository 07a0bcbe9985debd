/** This page's home: its identity, what it knows of its one mesh, and what runs. */

import { ConfigError } from "./errors.ts";
import {
  type Identity,
  makeIdentity,
  openIdentity,
  type StoredIdentity,
} from "./identity.ts";
import type { Known } from "./known.ts";
import type { Group, Running, Shelf } from "./routing/running.ts";
import { Store } from "./store.ts";

const IDENTITY = "identity";
const MESH = "mesh";
const RUNNING = "running";
const RUNNING_MAX = 64; // the oldest are of pages that never came back
const SECOND_MESH = "This browser is in a mesh already. Leave it first.";

export class Home {
  readonly identity: Identity;
  readonly #store: Store;

  private constructor(store: Store, identity: Identity) {
    this.#store = store;
    this.identity = identity;
  }

  /** Makes the identity on the first visit. `name` is the database's. */
  static async open(name?: string): Promise<Home> {
    const store = await Store.open(name);
    let stored = (await store.get(IDENTITY)) as StoredIdentity | undefined;
    if (stored === undefined) {
      const made = await makeIdentity(); // another tab may have been faster
      stored = (await store.update(
        IDENTITY,
        (before) => before ?? made,
      )) as StoredIdentity;
    }
    return new Home(store, openIdentity(stored));
  }

  /** null: in no mesh. */
  async known(): Promise<Known | null> {
    return ((await this.#store.get(MESH)) as Known | undefined) ?? null;
  }

  /** ConfigError: there is a mesh already. */
  async begin(known: Known): Promise<void> {
    await this.#store.update(MESH, (before) => {
      if (before !== undefined) throw new ConfigError(SECOND_MESH);
      return known;
    });
  }

  /** What is known after `change`; null when this browser has left the mesh. */
  async learn(change: (known: Known) => Known): Promise<Known | null> {
    const after = await this.#store.update(MESH, (before) =>
      before === undefined ? undefined : change(before as Known),
    );
    return after ?? null;
  }

  /** Answers under way, of every tab. */
  get running(): Shelf {
    const change = (act: (all: Map<string, Running>) => void) =>
      this.#store.update(RUNNING, (before) => {
        const all = new Map(before as Group | undefined);
        act(all);
        return new Map([...all].slice(-RUNNING_MAX));
      });
    return {
      keep: async (key, running) => {
        await change((all) => all.set(key, running));
      },
      drop: async (key) => {
        await change((all) => all.delete(key));
      },
      take: async (keys) => {
        const taken = new Map<string, Running>();
        await change((all) => {
          for (const key of keys) {
            const running = all.get(key);
            if (running !== undefined) taken.set(key, running);
            all.delete(key);
          }
        });
        return taken;
      },
    };
  }

  /** Forgets the mesh. The identity stays. */
  async leave(): Promise<void> {
    await this.#store.update(MESH, () => undefined);
  }

  close(): void {
    this.#store.close();
  }
}
