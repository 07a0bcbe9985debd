/** Several tabs of one page: they tell each other what changed, and who works on what. */

export type Told =
  | { readonly type: "conversations" }
  | { readonly type: "message"; readonly id: string; readonly conversation: string }
  | { readonly type: "stop"; readonly id: string };

export interface Tabs {
  tell(what: Told): void;
  listen(listener: (what: Told) => void): void;
  /** An answer to be at work on, alone, until what is returned is called. Null: somebody
   * is, another tab or this one. */
  claim(id: string): Promise<(() => void) | null>;
  /** Resolves when whoever was at work on it is not any more, closed tabs included. */
  free(id: string): Promise<void>;
  /** Not while another tab does. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

const CHANNEL = "meshllm-chats";
const LOCK = "meshllm-answer-";
const ALONE = "meshllm-alone";

/** With Web Locks, which browsers have on https and on localhost, and free when a tab is
 * closed. On plain http elsewhere each tab knows of its own work only. */
export class BrowserTabs implements Tabs {
  readonly #channel = new BroadcastChannel(CHANNEL);
  readonly #own = new Set<string>();

  tell(what: Told): void {
    this.#channel.postMessage(what);
  }

  listen(listener: (what: Told) => void): void {
    this.#channel.onmessage = (event: MessageEvent<Told>) => listener(event.data);
  }

  claim(id: string): Promise<(() => void) | null> {
    if (this.#own.has(id)) return Promise.resolve(null);
    this.#own.add(id);
    return new Promise((resolve) => {
      const work = (lock?: Lock | null): Promise<void> | undefined => {
        if (lock !== null)
          return new Promise((end) => resolve(() => this.#end(id, end)));
        this.#own.delete(id);
        resolve(null);
        return undefined;
      };
      if (navigator.locks === undefined) void work();
      else void navigator.locks.request(LOCK + id, { ifAvailable: true }, work);
    });
  }

  async free(id: string): Promise<void> {
    await navigator.locks?.request(LOCK + id, () => undefined);
  }

  async alone<T>(work: () => Promise<T>): Promise<T> {
    if (navigator.locks === undefined) return work();
    return navigator.locks.request(ALONE, work);
  }

  #end(id: string, end: () => void): void {
    this.#own.delete(id);
    end();
  }
}
