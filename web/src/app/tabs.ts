/** Several tabs of one page: they tell each other what changed, and who works on what. */

export type Told =
  | { readonly type: "conversations" }
  | { readonly type: "message"; readonly id: string; readonly conversation: string }
  | { readonly type: "stop"; readonly id: string };

export interface Tabs {
  tell(what: Told): void;
  listen(listener: (what: Told) => void): void;
  /** Others see until `work` ends that this tab answers `id`. */
  hold(id: string, work: Promise<unknown>): void;
  /** Which answers a tab, this one or another, is at work on. */
  held(): Promise<ReadonlySet<string>>;
}

const CHANNEL = "meshllm-chats";
const LOCK = "meshllm-answer-";

export class BrowserTabs implements Tabs {
  readonly #channel = new BroadcastChannel(CHANNEL);
  readonly #own = new Set<string>();

  tell(what: Told): void {
    this.#channel.postMessage(what);
  }

  listen(listener: (what: Told) => void): void {
    this.#channel.onmessage = (event: MessageEvent<Told>) => listener(event.data);
  }

  hold(id: string, work: Promise<unknown>): void {
    this.#own.add(id);
    void work.finally(() => this.#own.delete(id));
    // Not on plain http beyond localhost. The browser frees it when the tab is closed.
    void navigator.locks?.request(LOCK + id, () => work.catch(() => undefined));
  }

  async held(): Promise<ReadonlySet<string>> {
    const held = new Set(this.#own);
    const state = await navigator.locks?.query();
    for (const { name } of state?.held ?? []) {
      if (name?.startsWith(LOCK)) held.add(name.slice(LOCK.length));
    }
    return held;
  }
}
