import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { beforeEach, expect, test } from "vitest";
import { Chat } from "../../src/app/chat.ts";
import { type Remembered, Speeds } from "../../src/app/remembered.ts";
import type { Tabs, Told } from "../../src/app/tabs.ts";
import type { AnswerMessage } from "../../src/chat/types.ts";
import { NoRoute, StreamReset } from "../../src/errors.ts";
import { Chats } from "../../src/store/chats.ts";
import { openDatabase } from "../../src/store/database.ts";
import { Runs } from "../../src/store/runs.ts";
import { end, model, ScriptedConnection, say, think } from "./connection.ts";

/** Tabs of one browser. */
class Neighbours {
  readonly listeners: ((told: Told) => void)[] = [];
  readonly #claims = new Map<string, { tab: object; gone: () => void }>();
  readonly #ends = new Map<string, Promise<void>>();
  #alone: Promise<unknown> = Promise.resolve();

  tab(): Tabs {
    let own: (told: Told) => void = () => {};
    const tab: Tabs = {
      tell: (told) => {
        for (const listener of this.listeners) if (listener !== own) listener(told);
      },
      listen: (listener) => {
        own = listener;
        this.listeners.push(listener);
      },
      claim: async (id) => {
        if (this.#claims.has(id)) return null;
        const ended = new Promise<void>((gone) => this.#claims.set(id, { tab, gone }));
        this.#ends.set(id, ended);
        return () => this.#end(id, tab);
      },
      free: async (id) => this.#ends.get(id),
      alone: (work) => {
        const after = this.#alone.then(work, work);
        this.#alone = after;
        return after;
      },
    };
    return tab;
  }

  /** As the browser frees the locks of a closed tab, which says nothing any more. */
  close(): void {
    this.listeners.length = 0;
    for (const [id, { tab }] of this.#claims) this.#end(id, tab);
  }

  #end(id: string, tab: object): void {
    const claim = this.#claims.get(id);
    if (claim?.tab !== tab) return;
    this.#claims.delete(id);
    claim.gone();
  }
}

function memory(): Remembered {
  const kept = new Map<string, string>();
  return {
    get: (key) => kept.get(key) ?? null,
    set: (key, value) => void kept.set(key, value),
  };
}

let connection: ScriptedConnection;
let chats: Chats;
let database: IDBDatabase;
let neighbours: Neighbours;
let chat: Chat;
let clock = 1_000;

function openChat(its: Chats = chats): Chat {
  const kept = memory();
  return new Chat({
    connection,
    chats: its,
    runs: new Runs(database),
    tabs: neighbours.tab(),
    memory: kept,
    speeds: new Speeds(kept),
    frame: (work) => queueMicrotask(work),
    now: () => (clock += 1_000),
  });
}

beforeEach(async () => {
  connection = new ScriptedConnection(
    model("llama"),
    model("seer", { capabilities: ["completion", "vision"] }),
  );
  database = await openDatabase(new IDBFactory());
  chats = new Chats(database);
  neighbours = new Neighbours();
  chat = openChat();
});

const draft = (text: string) => ({ text, pictures: [], files: [] });
const last = (of = chat) => of.path.value.at(-1) as AnswerMessage;
const texts = (of = chat) => of.path.value.map(({ text }) => text);

function makeGate(): { readonly wait: Promise<void>; readonly open: () => void } {
  let open = () => {};
  const wait = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { wait, open };
}

async function until(ready: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await ready())) await new Promise((resolve) => setTimeout(resolve, 1));
}

test("a question is kept with its answer, and measured", async () => {
  connection.script(say("Hel"), say("lo"), end());
  await chat.send(draft("Hi there"));
  expect(texts()).toEqual(["Hi there", "Hello"]);
  expect(last()).toMatchObject({
    state: "done",
    provider: { id: "ada-key", name: "ada" },
    way: "direct",
    measures: { tokens: 10, perSecond: 10, queueMs: 3 },
  });
  expect(chat.current.value.title).toBe("Hi there");
  expect(chat.speeds.of("ada-key", "llama")).toBe(10);
  const again = openChat();
  await again.load();
  expect(again.conversations.value.map(({ title }) => title)).toEqual(["Hi there"]);
  await again.open(chat.current.value.id);
  expect(texts(again)).toEqual(["Hi there", "Hello"]);
});

test("thoughts are apart, in either form", async () => {
  connection.script(think("hm"), say("yes"), end());
  await chat.send(draft("one"));
  expect(last()).toMatchObject({ text: "yes", thinking: "hm" });
  expect(last().thinkingMs).not.toBeNull();
  connection.script(say("<think>h"), say("m</think>\n\nno"), end());
  await chat.send(draft("two"));
  expect(last()).toMatchObject({ text: "no", thinking: "hm" });
});

test("to stop keeps what came, and to continue goes on from there", async () => {
  connection.script(say("Once upon"), { wait: new Promise(() => {}) });
  const sent = chat.send(draft("A story"));
  await until(() => chat.active.value?.message.value.text === "Once upon");
  chat.stop(last().id);
  await sent;
  expect(last()).toMatchObject({ text: "Once upon", state: "stopped", problem: null });
  connection.script(say(" a time"), end());
  await chat.goOn(last());
  expect(texts()).toEqual(["A story", "Once upon a time"]);
  expect(last().state).toBe("done");
  expect(connection.body(1).messages.at(-1)).toEqual({
    role: "assistant",
    content: "Once upon",
  });
});

test("answering again makes a second answer beside the first", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q"));
  const first = last();
  connection.script(say("two"), end());
  await chat.regenerate(first);
  expect(texts()).toEqual(["Q", "two"]);
  expect(chat.siblings(last()).map(({ text }) => text)).toEqual(["one", "two"]);
  await chat.turnTo(first);
  expect(texts()).toEqual(["Q", "one"]);
});

test("editing a question begins a branch, and the first one stays", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q"));
  const [question] = chat.path.value;
  if (question?.role !== "user") throw new Error("no question");
  connection.script(say("two"), end());
  await chat.edit(question, draft("Q, better"));
  expect(texts()).toEqual(["Q, better", "two"]);
  expect(connection.body(1).messages).toHaveLength(1);
  await chat.turnTo(question);
  expect(texts()).toEqual(["Q", "one"]);
});

test("the whole branch is asked, with its instructions", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q1"));
  await chat.set({ ...chat.current.value.settings, system: "Be brief." });
  connection.script(say("two"), end());
  await chat.send(draft("Q2"));
  expect(connection.body(1).messages.map(({ content }) => content)).toEqual([
    "Be brief.",
    "Q1",
    "one",
    "Q2",
  ]);
});

test("an answer that was not allowed to go on says so", async () => {
  connection.script(say("long"), end("length"));
  await chat.send(draft("Q"));
  expect(last().state).toBe("length");
});

test.each([
  [new NoRoute(503, "nobody", "no_provider", 5), "failed", "no_provider"],
  [new TypeError("oh"), "failed", "other"],
])("%s before the first word fails", async (error, state, code) => {
  connection.script(error);
  await chat.send(draft("Q"));
  expect(last()).toMatchObject({ state, text: "", problem: { code } });
});

test("what breaks off later keeps its words", async () => {
  connection.script(say("half"), new StreamReset(13, "gone"));
  await chat.send(draft("Q"));
  expect(last()).toMatchObject({
    state: "cut",
    text: "half",
    problem: { code: "provider_lost" },
  });
  connection.script(say("half"), '{"error":"out of memory"}\n');
  await chat.send(draft("Q"));
  expect(last()).toMatchObject({
    state: "cut",
    problem: { code: "model", text: "out of memory" },
  });
  connection.script(say("half"));
  await chat.send(draft("Q"));
  expect(last()).toMatchObject({ state: "cut", problem: null });
});

test("a provider's refusal is told in its words", async () => {
  connection.refuse(429, '{"error":"no tokens left today"}');
  await chat.send(draft("Q"));
  expect(last()).toMatchObject({
    state: "failed",
    problem: { code: "quota", text: "no tokens left today" },
  });
});

test("another model may be chosen, and a provider pinned", async () => {
  await chat.choose({ model: "seer", pin: "ada-key" });
  connection.script(say("I see"), end());
  await chat.send(draft("Q"));
  expect(connection.asked[0]).toMatchObject({ model: "seer", provider: "ada-key" });
  expect(last().model).toBe("seer");
  chat.begin();
  expect(chat.model.value?.name).toBe("seer"); // remembered for the next conversation
});

test("a model that left is not silently replaced in its conversation", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q"));
  connection.listed = [model("seer")];
  connection.tell("models");
  expect(chat.model.value).toBeNull();
  chat.begin();
  expect(chat.model.value?.name).toBe("seer");
});

test("an answer whose tab was closed is cut, not running for ever", async () => {
  connection.script(say("begun"), { wait: new Promise(() => {}) });
  void chat.send(draft("Q"));
  await until(() => chat.active.value?.message.value.text === "begun");
  const id = chat.current.value.id;
  neighbours.close();
  const other = openChat();
  await other.open(id);
  expect(last(other)).toMatchObject({ state: "cut" });
});

test("a second tab sees an answer come, and may stop it", async () => {
  connection.script(say("begun"), { wait: new Promise(() => {}) });
  const sent = chat.send(draft("Q"));
  await until(() => chat.active.value?.message.value.text === "begun");
  const other = openChat();
  await other.load();
  await other.open(chat.current.value.id);
  expect(last(other)).toMatchObject({ state: "running" });
  expect(other.elsewhere.value.size).toBe(1);
  other.stop(last(other).id);
  await sent;
  await until(() => last(other).state === "stopped");
  expect(last(other).text).toBe("begun");
  expect(other.elsewhere.value.size).toBe(0);
});

test("an answer that ends while another tab opens it stays whole", async () => {
  const gate = makeGate();
  const read = chats.whole.bind(chats);
  const reading = new Chats(database);
  const other = openChat(reading);
  connection.script(say("all of it"), { wait: gate.wait }, end());
  const sent = chat.send(draft("Q"));
  await until(() => chat.running.value.size === 1);
  const { id } = chat.current.value;
  reading.whole = async (wanted) => {
    const whole = await read(wanted); // as it was then: running
    gate.open();
    await sent;
    return whole;
  };
  await other.open(id);
  expect(last(other)).toMatchObject({ state: "done", text: "all of it" });
  expect(await chats.message(last().id)).toMatchObject({ state: "done" });
});

test("what came while another tab opened the conversation is shown there", async () => {
  const gate = makeGate();
  connection.script({ wait: gate.wait }, say("begun"), { wait: new Promise(() => {}) });
  void chat.send(draft("Q"));
  await until(() => chat.running.value.size === 1);
  const { id } = chat.current.value;
  const reading = new Chats(database);
  const other = openChat(reading);
  const kept = new Promise<void>((resolve) => {
    neighbours.listeners.push((told) => told.type === "message" && resolve());
  });
  const read = reading.whole.bind(reading);
  reading.whole = async (wanted) => {
    const whole = await read(wanted);
    gate.open();
    await until(() => chat.active.value?.message.value.text === "begun");
    await kept; // told to a tab that shows nothing yet
    return whole;
  };
  await other.open(id);
  expect(last(other)).toMatchObject({ state: "running", text: "begun" });
});

test("two tabs that are loaded at once do not both take an answer up", async () => {
  connection.script(say("Once"), { wait: new Promise(() => {}) });
  void chat.send(draft("A story"));
  await until(() => chat.active.value?.message.value.text === "Once");
  const { id } = chat.current.value;
  neighbours.close();
  connection.script(say(" upon a time"), end());
  const [one, two] = [openChat(), openChat()];
  await Promise.all([one.takeUp(), two.takeUp()]);
  expect(connection.resumed).toHaveLength(1);
  await Promise.all([one.open(id), two.open(id)]);
  await until(() => last(one).state === "done" && last(two).state === "done");
  expect(texts(two)).toEqual(["A story", "Once upon a time"]);
});

test("an answer of a tab that is closed goes on in the one that shows it", async () => {
  connection.script(say("Once"), { wait: new Promise(() => {}) });
  void chat.send(draft("A story"));
  await until(() => chat.active.value?.message.value.text === "Once");
  const other = openChat();
  await other.open(chat.current.value.id);
  expect(other.busy.value).toBe(last().id);
  connection.script(say(" upon a time"), end());
  neighbours.close();
  await until(() => last(other).state === "done");
  expect(texts(other)).toEqual(["A story", "Once upon a time"]);
  expect(other.elsewhere.value.size).toBe(0);
});

test("what is asked in one tab is shown in another that has the conversation", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q1"));
  const other = openChat();
  await other.load();
  await other.open(chat.current.value.id);
  connection.script(say("two"), end());
  await chat.send(draft("Q2"));
  await until(() => last(other).state === "done" && texts(other).length === 4);
  expect(texts(other)).toEqual(["Q1", "one", "Q2", "two"]);
  await chat.rename(chat.current.value.id, "Named");
  await until(() => other.current.value.title === "Named");
});

test("renaming, deleting and bringing back", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q"));
  const { id } = chat.current.value;
  await chat.rename(id, "  Named  ");
  await chat.rename(id, "   ");
  expect(chat.current.value.title).toBe("Named");
  const whole = await chat.remove(id);
  expect(chat.conversations.value).toEqual([]);
  expect(chat.path.value).toEqual([]);
  expect(await chat.open(id)).toBe(false);
  if (whole) await chat.add([whole]);
  expect(await chat.open(id)).toBe(true);
  expect(texts()).toEqual(["Q", "one"]);
});

test("deleting a conversation stops what runs in it", async () => {
  connection.script(say("begun"), { wait: new Promise(() => {}) });
  const sent = chat.send(draft("Q"));
  await until(() => chat.active.value?.message.value.text === "begun");
  await chat.remove(chat.current.value.id);
  await sent;
  expect(await chats.conversations()).toEqual([]);
  await chat.removeAll();
});

test("titles and texts are searched, titles first", async () => {
  for (const [question, answer] of [
    ["About cats", "They purr."],
    ["About dogs", "They chase cats, in Café Purr."],
  ] as const) {
    chat.begin();
    connection.script(say(answer), end());
    await chat.send(draft(question));
  }
  const found = await chat.search("CATS");
  expect(found.map(({ message }) => message === null)).toEqual([true, false]);
  expect(await chat.search("cafe purr")).toHaveLength(1);
  expect(await chat.search("   ")).toEqual([]);
  const [, said] = found;
  await chat.open(said?.conversation ?? "", said?.message);
  expect(texts()).toContain("They chase cats, in Café Purr.");
});

test("everything can be taken along", async () => {
  connection.script(say("one"), end());
  await chat.send(draft("Q"));
  const wholes = await chat.wholes();
  expect(wholes.map(({ messages }) => messages.length)).toEqual([2]);
});

test("while somebody writes, the way to the provider is made once", async () => {
  connection.listed = [
    model("llama", {
      providers: [{ id: "bob-key", name: "bob", path: null, parallel: 1, streams: 0 }],
    }),
  ];
  connection.tell("models");
  chat.prepare();
  chat.prepare();
  expect(connection.asked).toMatchObject([
    { method: "GET", path: "/api/ps", provider: "bob-key" },
  ]);
});

test("a reload ends no answer: it goes on behind the last byte that was kept", async () => {
  const line = say(" upon a time");
  connection.script(say("Once"), line.slice(0, 20), { wait: new Promise(() => {}) });
  void chat.send(draft("A story"));
  await until(() => chat.active.value?.message.value.text === "Once");
  await new Promise((resolve) => setTimeout(resolve, 20)); // half a line is kept, too
  const id = chat.current.value.id;
  neighbours.close();

  connection.script(line.slice(20), end());
  const other = openChat();
  await other.takeUp();
  await other.open(id);
  await until(() => last(other).state === "done");
  expect(texts(other)).toEqual(["A story", "Once upon a time"]);
  expect(Object.values(connection.resumed[0] ?? {})).toMatchObject([
    { received: say("Once").length + 20 },
  ]);
  await until(() => connection.asked.length === 2);
  await other.takeUp();
  expect(connection.resumed).toHaveLength(1); // nothing of it is left
});

test("what cannot be taken up is cut, and keeps what came", async () => {
  connection.canResume = false;
  connection.script(say("Once"), { wait: new Promise(() => {}) });
  void chat.send(draft("A story"));
  await until(() => chat.active.value?.message.value.text === "Once");
  const id = chat.current.value.id;
  neighbours.close();
  const other = openChat();
  await other.takeUp();
  await other.open(id);
  await until(() => last(other).state === "cut");
  expect(last(other)).toMatchObject({ text: "Once", problem: null });
});

test("behind a gateway a reload lets the model go on from what was kept", async () => {
  connection.kind = "gateway";
  connection.script(say("Once"), { wait: new Promise(() => {}) });
  void chat.send(draft("A story"));
  await until(() => chat.active.value?.message.value.text === "Once");
  const { id } = chat.current.value;
  chat.keep(); // as a page does that goes
  await until(async () => (await chats.message(last().id))?.text === "Once");
  neighbours.close();
  connection.script(say(" upon a time"), end());
  const other = openChat();
  await other.open(id);
  expect(last(other)).toMatchObject({ state: "cut", text: "Once" });
  connection.phase = "connecting";
  const going = other.goOnAfterReload();
  expect(connection.asked).toHaveLength(1);
  connection.phase = "ready";
  connection.tell("state");
  await going;
  expect(texts(other)).toEqual(["A story", "Once upon a time"]);
  expect(connection.body(1).messages.at(-1)).toEqual({
    role: "assistant",
    content: "Once",
  });
  await other.goOnAfterReload();
  expect(connection.asked).toHaveLength(2); // what ended as it should has ended
});

test("of what never had a word another attempt takes the place", async () => {
  connection.script(new NoRoute(503, "nobody", "no_provider", 5));
  await chat.send(draft("Q"));
  connection.script(say("one"), end());
  await chat.regenerate(last());
  expect(chat.siblings(last()).map(({ text }) => text)).toEqual(["one"]);
});
