/**
 * The conversation at hand and all the others: what is shown, and what can be done.
 * Knows no DOM: the face reads its signals and calls its methods.
 */

import { batch, computed, signal } from "@preact/signals";
import { branch, leafOf, type Messages, siblings } from "../chat/branches.ts";
import type { Whole } from "../chat/exchange.ts";
import { chatBody } from "../chat/question.ts";
import {
  type AnswerMessage,
  type Conversation,
  type Message,
  NO_SETTINGS,
  newId,
  type Picture,
  type Settings,
  type TextFile,
  type UserMessage,
} from "../chat/types.ts";
import { titleFrom } from "../chat/words.ts";
import {
  type Answer,
  type Ask,
  type Connection,
  json,
  type Kept,
  type ListedModel,
} from "../connection.ts";
import type { Chats } from "../store/chats.ts";
import type { KeptRun, Runs } from "../store/runs.ts";
import type { Remembered, Speeds } from "./remembered.ts";
import { Lost, Running, type Source } from "./running.ts";
import { lookAt } from "./standing.ts";
import type { Tabs, Told } from "./tabs.ts";

export interface Draft {
  readonly text: string;
  readonly pictures: readonly Picture[];
  readonly files: readonly TextFile[];
}

/** Where a question goes: null leaves it as the conversation has it. */
export interface Wish {
  readonly model?: string;
  readonly pin?: string | null;
}

export interface Parts {
  readonly connection: Connection;
  readonly chats: Chats;
  readonly runs: Runs;
  readonly tabs: Tabs;
  readonly memory: Remembered;
  readonly speeds: Speeds;
  readonly frame: (work: () => void) => void;
  readonly now: () => number;
}

export class Chat {
  readonly conversations = signal<readonly Conversation[]>([]);
  /** The one that is shown; one without a message is not kept yet. */
  readonly current = signal<Conversation>(fresh("", 0));
  readonly messages = signal<Messages>(new Map());
  readonly running = signal<ReadonlyMap<string, Running>>(new Map());
  /** Answers that another tab is at work on. */
  readonly elsewhere = signal<ReadonlySet<string>>(new Set());
  readonly models = signal<readonly ListedModel[]>([]);

  /** The branch that is shown. */
  readonly path = computed(() => branch(this.messages.value, this.current.value.leaf));
  /** The answer of the shown branch that is under way here. */
  readonly active = computed(() => {
    const last = this.path.value.at(-1);
    return (last && this.running.value.get(last.id)) ?? null;
  });
  /** The answer that the shown branch waits for, here or in another tab. */
  readonly busy = computed(() => {
    const last = this.path.value.at(-1);
    return last?.role === "assistant" && last.state === "running" ? last.id : null;
  });
  readonly model = computed(() => this.#chosen(this.current.value.model));

  readonly #parts: Parts;
  /** Answers of other tabs, of which we will hear when nobody is at work on them. */
  readonly #awaited = new Set<string>();
  /** Answers whose page was gone. */
  readonly #cut = new Set<string>();
  #prepared: string | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.models.value = parts.connection.models();
    parts.connection.subscribe((event) => {
      if (event === "models") this.models.value = parts.connection.models();
    });
    parts.tabs.listen((told) => void this.#onTold(told));
    this.current.value = this.#fresh();
  }

  get speeds(): Speeds {
    return this.#parts.speeds;
  }

  get connection(): Connection {
    return this.#parts.connection;
  }

  async load(): Promise<void> {
    this.conversations.value = await this.#parts.chats.conversations();
  }

  // Which conversation

  begin(): void {
    batch(() => {
      this.current.value = this.#fresh();
      this.messages.value = new Map();
    });
  }

  /** False when it is gone. `message` chooses the branch that leads to it. */
  async open(id: string, message: string | null = null): Promise<boolean> {
    const whole = await this.#parts.chats.whole(id);
    if (whole === null) return false;
    const messages = new Map(whole.messages.map((one) => [one.id, one]));
    const leaf =
      message !== null && messages.has(message) ? leafOf(messages, message) : null;
    const elsewhere = new Set<string>();
    for (const one of whole.messages) {
      if (one.role !== "assistant" || one.state !== "running") continue;
      if (this.running.value.has(one.id)) continue;
      const now = await this.#markCut(one);
      messages.set(one.id, now);
      if (now.state === "running") elsewhere.add(one.id);
    }
    batch(() => {
      this.current.value =
        leaf === null ? whole.conversation : { ...whole.conversation, leaf };
      this.messages.value = messages;
      this.elsewhere.value = elsewhere;
    });
    // What was told while this was read concerned no conversation that was shown.
    await Promise.all([...elsewhere].map((one) => this.#readAgain(one, id)));
    return true;
  }

  /** One that nobody is at work on, because its tab was closed or the machine slept, keeps
   * what came; one that somebody is, stays as it is. */
  async #markCut(answer: AnswerMessage): Promise<AnswerMessage> {
    const end = await this.#parts.tabs.claim(answer.id);
    if (end === null) return answer;
    const now = await this.#parts.chats.message(answer.id); // it may have ended meanwhile
    const cut: AnswerMessage = now?.role === "assistant" ? now : answer;
    if (cut.state !== "running") {
      end();
      return cut;
    }
    await this.#save({ ...cut, state: "cut" });
    end();
    this.#cut.add(cut.id);
    return { ...cut, state: "cut" };
  }

  // Asking

  async send(draft: Draft): Promise<void> {
    const question = this.#question(draft, this.current.value.leaf);
    await this.#ask([question], question.id, {});
  }

  /** The same question put differently: a branch beside the first. */
  async edit(message: UserMessage, draft: Draft): Promise<void> {
    const question = this.#question(draft, message.parent);
    await this.#ask([question], question.id, {});
  }

  /** Another answer to the same question; of one without a word nothing is kept. */
  async regenerate(answer: AnswerMessage, wish: Wish = {}): Promise<void> {
    const isEmpty = answer.text === "" && answer.thinking === "";
    await this.#ask([], answer.parent, wish, isEmpty ? answer.id : newId());
  }

  /** An answer that ended too early goes on where it ended. */
  async goOn(answer: AnswerMessage): Promise<void> {
    if (!answer.text) return this.#ask([], answer.parent, {}, answer.id);
    const end = await this.#parts.tabs.claim(answer.id);
    if (end === null) return; // another tab was faster
    const again: AnswerMessage = { ...answer, state: "running", problem: null };
    await this.#keep([again], again.id);
    await this.#start(again, branch(this.messages.value, again.id), end);
  }

  /**
   * Behind a gateway an answer ends with the page that asked for it. Once what was shown is
   * shown again, the model is asked to go on from what was kept.
   */
  async goOnAfterReload(): Promise<void> {
    const { connection } = this.#parts;
    const last = this.path.value.at(-1);
    if (connection.kind !== "gateway" || last?.role !== "assistant") return;
    if (!this.#cut.delete(last.id)) return;
    await new Promise<void>((resolve) => {
      const look = () => {
        if (connection.state().phase !== "ready") return;
        unsubscribe();
        resolve();
      };
      const unsubscribe = connection.subscribe(look);
      look();
    });
    if (this.path.value.at(-1) === last) await this.goOn(last);
  }

  /** The page goes: what came is kept at once. */
  keep(): void {
    const latest = [...this.running.value.values()].map((running) => running.latest);
    if (latest.length > 0) this.#parts.chats.putAtOnce(latest);
  }

  /** Somebody is about to ask: the way to whoever will answer is made meanwhile. */
  prepare(): void {
    const holders = this.model.value?.providers ?? [];
    const { pin } = this.current.value;
    const next = holders.find(({ id }) => id === pin) ?? holders[0];
    if (next === undefined || next.path !== null || this.#prepared === next.id) return;
    this.#prepared = next.id;
    // Any question makes the way; this one costs the model nothing.
    void lookAt(this.connection, next.id).catch(() => undefined);
  }

  stop(id: string): void {
    const running = this.running.value.get(id);
    if (running) running.stop();
    else this.#parts.tabs.tell({ type: "stop", id });
  }

  #question(draft: Draft, parent: string | null): UserMessage {
    return {
      role: "user",
      id: newId(),
      conversation: this.current.value.id,
      parent,
      at: this.#parts.now(),
      ...draft,
    };
  }

  async #ask(
    before: readonly UserMessage[],
    parent: string,
    wish: Wish,
    id = newId(),
  ): Promise<void> {
    if (wish.model !== undefined || wish.pin !== undefined) await this.choose(wish);
    // Before it is kept: what is kept as running and nobody's, other tabs take for cut.
    const end = await this.#parts.tabs.claim(id);
    if (end === null) return; // another tab was faster
    const { id: conversation, model } = this.current.value;
    const answer: AnswerMessage = {
      role: "assistant",
      id,
      conversation,
      parent,
      at: this.#parts.now() + 1,
      text: "",
      thinking: "",
      thinkingMs: null,
      model: this.model.value?.name ?? model,
      provider: null,
      way: null,
      state: "running",
      problem: null,
      measures: null,
    };
    await this.#keep([...before, answer], answer.id);
    await this.#start(answer, branch(this.messages.value, parent), end);
  }

  /** Shows and stores messages, the last of which ends the branch from now on. */
  async #keep(added: readonly Message[], leaf: string): Promise<void> {
    const messages = new Map(this.messages.value);
    for (const message of added) messages.set(message.id, message);
    const before = this.current.value;
    const now = this.#parts.now();
    const first = added.find((message) => message.role === "user");
    const conversation: Conversation = {
      ...before,
      title:
        before.title || titleFrom(first?.text || first?.files[0]?.name || "A picture"),
      createdAt: before.createdAt || now,
      updatedAt: now,
      model: this.model.value?.name ?? before.model,
      leaf,
    };
    batch(() => {
      this.messages.value = messages;
      this.current.value = conversation;
      this.#putInList(conversation);
    });
    await this.#parts.chats.put(conversation, ...added);
    this.#parts.tabs.tell({ type: "conversations" });
  }

  async #start(
    answer: AnswerMessage,
    path: readonly Message[],
    end: (() => void) | null,
  ): Promise<void> {
    const { connection } = this.#parts;
    const { settings, pin } = this.current.value;
    const capabilities = this.#chosen(answer.model)?.capabilities ?? [];
    const key = connection.kind === "mesh" ? newId() : null;
    const ask: Ask = {
      method: "POST",
      path: "/api/chat",
      model: answer.model,
      ...(pin === null ? {} : { provider: pin }),
      ...(key === null ? {} : { key }),
      body: json(chatBody(answer.model, settings, path, capabilities)),
    };
    if (key !== null) await this.#parts.runs.begin({ key, message: answer });
    const source: Source = {
      begin: (signal, onQueue) => connection.ask({ ...ask, signal, onQueue }),
      pieces: [],
      keep: key === null ? null : (n, bytes) => this.#parts.runs.append(key, n, bytes),
    };
    await this.#follow(source, answer, key, end);
  }

  /** Shows an answer while it comes, and keeps it. */
  async #follow(
    source: Source,
    answer: AnswerMessage,
    key: string | null,
    end: (() => void) | null,
  ): Promise<void> {
    const { connection, frame } = this.#parts;
    const save = (message: AnswerMessage) => this.#save(message);
    const running = new Running({ connection, frame, save }, source, answer);
    batch(() => {
      this.running.value = new Map(this.running.value).set(answer.id, running);
      this.elsewhere.value = without(this.elsewhere.value, answer.id);
    });
    const ended = await running.done;
    batch(() => {
      const left = new Map(this.running.value);
      left.delete(answer.id);
      this.running.value = left;
      this.#show(ended);
    });
    if (key !== null) await this.#parts.runs.end(key);
    end?.();
    const { provider, measures, model } = ended;
    if (provider && measures?.perSecond)
      this.speeds.note(provider.id, model, measures.perSecond);
  }

  /**
   * Takes up what ran in a page that went away: a reload ends no answer, nor does a tab
   * that is closed while another shows it. Resolves when they are under way again.
   */
  async takeUp(): Promise<void> {
    const { runs, connection } = this.#parts;
    const own = await this.#parts.tabs.alone(() => this.#claimRuns());
    if (own.length === 0) return;
    const kept: Record<string, Kept> = {};
    let found: (outcome: Readonly<Record<string, Answer>>) => void = () => {};
    const outcome = new Promise<Readonly<Record<string, Answer>>>((resolve) => {
      found = resolve;
    });
    for (const { key, message, pieces, end } of own) {
      const received = pieces.reduce((sum, bytes) => sum + bytes.length, 0);
      const source: Source = {
        begin: async (signal) => {
          kept[key] = { received, signal };
          const answer = (await outcome)[key];
          if (answer === undefined) throw new Lost();
          return answer;
        },
        pieces,
        keep: (n, bytes) => runs.append(key, n, bytes),
      };
      void this.#follow(source, message, key, end);
    }
    void connection.resume(kept).then(found, () => found({}));
  }

  /** All that nobody is at work on: those of one session can be taken up by one tab only. */
  async #claimRuns(): Promise<(KeptRun & { readonly end: () => void })[]> {
    const { runs, tabs } = this.#parts;
    const ends = new Map<string, () => void>();
    for (const { key, message } of await runs.all()) {
      const end = await tabs.claim(message.id);
      if (end !== null) ends.set(key, end);
    }
    if (ends.size === 0) return [];
    const left = new Map((await runs.all()).map((run) => [run.key, run]));
    return [...ends].flatMap(([key, end]) => {
      const run = left.get(key);
      if (run !== undefined) return [{ ...run, end }];
      end(); // it ended before it was claimed
      return [];
    });
  }

  async #save(message: AnswerMessage): Promise<void> {
    await this.#parts.chats.putMessage(message);
    this.#parts.tabs.tell({
      type: "message",
      id: message.id,
      conversation: message.conversation,
    });
  }

  #show(message: Message): void {
    if (message.conversation !== this.current.value.id) return;
    this.messages.value = new Map(this.messages.value).set(message.id, message);
  }

  // The conversation itself

  /** Another model or provider, for what is asked from now on. */
  async choose(wish: Wish): Promise<void> {
    if (wish.model !== undefined) this.#parts.memory.set("model", wish.model);
    await this.#change((conversation) => ({
      ...conversation,
      ...(wish.model === undefined ? {} : { model: wish.model }),
      ...(wish.pin === undefined ? {} : { pin: wish.pin }),
    }));
  }

  set(settings: Settings): Promise<void> {
    return this.#change((conversation) => ({ ...conversation, settings }));
  }

  /** Shows the branch that leads through `message`. */
  turnTo(message: Message): Promise<void> {
    const leaf = leafOf(this.messages.value, message.id);
    return this.#change((conversation) => ({ ...conversation, leaf }));
  }

  siblings(message: Message): Message[] {
    return siblings(this.messages.value, message);
  }

  async #change(by: (conversation: Conversation) => Conversation): Promise<void> {
    const before = this.current.value;
    this.current.value = by(before);
    const stored = await this.#parts.chats.change(before.id, by);
    if (stored === null) return; // not kept yet
    this.#putInList(stored);
    this.#parts.tabs.tell({ type: "conversations" });
  }

  async rename(id: string, title: string): Promise<void> {
    const name = title.trim();
    if (!name) return;
    const stored = await this.#parts.chats.change(id, (one) => ({
      ...one,
      title: name,
    }));
    if (stored === null) return;
    if (id === this.current.value.id)
      this.current.value = { ...this.current.value, title: name };
    this.#putInList(stored);
    this.#parts.tabs.tell({ type: "conversations" });
  }

  /** What is deleted, for `add` to bring back. */
  async remove(id: string): Promise<Whole | null> {
    const whole = await this.#parts.chats.whole(id);
    for (const running of this.running.value.values()) {
      if (running.message.value.conversation === id) running.stop();
    }
    await this.#parts.chats.remove(id);
    this.conversations.value = this.conversations.value.filter((one) => one.id !== id);
    if (this.current.value.id === id) this.begin();
    this.#parts.tabs.tell({ type: "conversations" });
    return whole;
  }

  async removeAll(): Promise<void> {
    for (const running of this.running.value.values()) running.stop();
    await this.#parts.chats.removeAll();
    this.conversations.value = [];
    this.begin();
    this.#parts.tabs.tell({ type: "conversations" });
  }

  async add(wholes: readonly Whole[]): Promise<void> {
    await this.#parts.chats.add(wholes);
    await this.load();
    this.#parts.tabs.tell({ type: "conversations" });
  }

  wholes(): Promise<Whole[]> {
    const wanted = this.conversations.value.map(({ id }) =>
      this.#parts.chats.whole(id),
    );
    return Promise.all(wanted).then((found) => found.filter((whole) => whole !== null));
  }

  whole(id: string): Promise<Whole | null> {
    return this.#parts.chats.whole(id);
  }

  search(query: string): ReturnType<Chats["search"]> {
    return this.#parts.chats.search(query);
  }

  // Inside

  async #onTold(told: Told): Promise<void> {
    switch (told.type) {
      case "conversations":
        await this.load();
        await this.#catchUp();
        break;
      case "message":
        await this.#readAgain(told.id, told.conversation);
        break;
      case "stop":
        this.running.value.get(told.id)?.stop();
    }
  }

  /** Another tab has changed the conversation that is shown here. */
  async #catchUp(): Promise<void> {
    const { id, title, updatedAt } = this.current.value;
    const stored = this.conversations.value.find((one) => one.id === id);
    if (stored === undefined || this.active.value !== null) return;
    if (stored.updatedAt !== updatedAt) await this.open(id);
    else if (stored.title !== title)
      this.current.value = { ...this.current.value, title: stored.title };
  }

  async #readAgain(id: string, conversation: string): Promise<void> {
    if (conversation !== this.current.value.id || this.running.value.has(id)) return;
    const message = await this.#parts.chats.message(id);
    if (message === null || message.role !== "assistant") return;
    batch(() => {
      const others = without(this.elsewhere.value, id);
      if (message.state === "running") others.add(id);
      this.elsewhere.value = others;
      this.#show(message);
    });
    if (message.state === "running") this.#await(id, conversation);
  }

  /** The tab that is at work on an answer may be closed: then it goes on here. */
  #await(id: string, conversation: string): void {
    if (this.#awaited.has(id)) return;
    this.#awaited.add(id);
    void this.#parts.tabs.free(id).then(async () => {
      this.#awaited.delete(id);
      await this.takeUp();
      if (this.running.value.has(id) || conversation !== this.current.value.id) return;
      const message = await this.#parts.chats.message(id);
      if (message?.role === "assistant" && message.state === "running")
        await this.#markCut(message);
      await this.#readAgain(id, conversation);
    });
  }

  #putInList(conversation: Conversation): void {
    const others = this.conversations.value.filter(({ id }) => id !== conversation.id);
    this.conversations.value = [conversation, ...others];
  }

  #fresh(): Conversation {
    return fresh(this.#parts.memory.get("model") ?? "", this.#parts.now());
  }

  /** The model of that name, while it is there; else one that can chat. */
  #chosen(name: string): ListedModel | null {
    const models = this.models.value;
    const same = models.find((model) => model.name === name);
    if (same !== undefined || name !== "" || models.length === 0) {
      if (same !== undefined || this.messages.value.size > 0) return same ?? null;
    }
    const chats = models.filter(canChat);
    return (
      chats.find((model) => model.providers.some(({ path }) => path !== null)) ??
      chats[0] ??
      null
    );
  }
}

function without(ids: ReadonlySet<string>, id: string): Set<string> {
  const left = new Set(ids);
  left.delete(id);
  return left;
}

export function canChat(model: ListedModel): boolean {
  return model.capabilities.length === 0 || model.capabilities.includes("completion");
}

function fresh(model: string, now: number): Conversation {
  return {
    id: newId(),
    title: "",
    createdAt: now,
    updatedAt: now,
    model,
    pin: null,
    settings: NO_SETTINGS,
    leaf: null,
  };
}
