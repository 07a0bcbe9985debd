import { expect, test } from "vitest";
import {
  fileName,
  fromJson,
  readSettings,
  toJson,
  toMarkdown,
  type Whole,
} from "../../src/chat/exchange.ts";
import { NO_SETTINGS } from "../../src/chat/types.ts";

const WHOLE: Whole = {
  conversation: {
    id: "c",
    title: "Cats",
    createdAt: 1,
    updatedAt: 2,
    model: "llama3.2",
    pin: "someone",
    settings: { ...NO_SETTINGS, system: "Be brief.\nBe kind." },
    leaf: "a2",
  },
  messages: [
    {
      role: "user",
      id: "q",
      conversation: "c",
      parent: null,
      at: 1,
      text: "What is this?",
      pictures: [
        {
          name: "cat.png",
          type: "image/png",
          bytes: new Uint8Array([1, 2, 3]),
          width: 4,
          height: 5,
        },
      ],
      files: [{ name: "note.txt", text: "purr" }],
    },
    answer("a1", "A dog."),
    answer("a2", "A cat."),
  ],
};

function answer(id: string, text: string): Whole["messages"][number] {
  return {
    role: "assistant",
    id,
    conversation: "c",
    parent: "q",
    at: 2,
    text,
    thinking: "whiskers",
    thinkingMs: 12,
    model: "llama3.2",
    provider: { id: "k", name: "ada" },
    way: "direct",
    state: "done",
    problem: null,
    measures: {
      firstMs: 1,
      totalMs: 2,
      tokens: 3,
      perSecond: 4,
      promptTokens: 5,
      queueMs: 6,
      loadMs: 7,
    },
  };
}

test("what was exported comes back whole, under new ids", () => {
  const [back] = fromJson(toJson([WHOLE]));
  expect(back?.conversation).toMatchObject({
    title: "Cats",
    model: "llama3.2",
    settings: WHOLE.conversation.settings,
  });
  expect(back?.conversation.id).not.toBe("c");
  const [asked, , second] = back?.messages ?? [];
  expect(asked).toMatchObject({
    role: "user",
    text: "What is this?",
    files: [{ name: "note.txt", text: "purr" }],
  });
  expect(asked?.role === "user" && asked.pictures[0]?.bytes).toEqual(
    new Uint8Array([1, 2, 3]),
  );
  expect(second).toMatchObject({
    text: "A cat.",
    parent: asked?.id,
    thinking: "whiskers",
    measures: { tokens: 3 },
  });
  expect(back?.conversation.leaf).toBe(second?.id);
});

test("Markdown shows the branch at hand", () => {
  const text = toMarkdown(WHOLE);
  expect(text).toMatch(/^# Cats\n\n> Be brief\.\n> Be kind\.\n/);
  expect(text).toContain(
    "## You\n\nFile: note.txt\n```\npurr\n```\n\n*(picture: cat.png)*\n\nWhat is this?",
  );
  expect(text).toContain("## llama3.2 at ada\n\nA cat.\n");
  expect(text).not.toContain("A dog.");
});

test.each([
  ["nonsense", /not JSON/],
  ["[]", /no conversations/],
  ['{"format":"other","conversations":[]}', /no conversations/],
  [
    '{"format":"meshllm-conversations","version":2,"conversations":[]}',
    /newer version/,
  ],
])("%s is refused with a sentence", (text, sentence) => {
  expect(() => fromJson(text)).toThrow(sentence);
});

test("damaged parts are left out, and nothing strange gets in", () => {
  const file = {
    format: "meshllm-conversations",
    version: 1,
    conversations: [
      {
        title: 7,
        settings: { temperature: "hot", think: "never" },
        leaf: "nowhere",
        messages: [
          {
            id: "1",
            role: "user",
            parent: null,
            text: "hi",
            pictures: [
              { type: "image/svg+xml", bytes: "AA==" },
              { type: "image/png", bytes: "%" },
            ],
          },
          { id: "2", role: "system", parent: "1", text: "x" },
          { id: "3", role: "assistant", parent: "missing", text: "x" },
          { id: "4", role: "assistant", parent: "1", state: "running", text: "yes" },
        ],
      },
    ],
  };
  const [whole] = fromJson(JSON.stringify(file));
  expect(whole?.conversation).toMatchObject({
    title: "Imported",
    settings: NO_SETTINGS,
  });
  expect(whole?.messages).toMatchObject([
    { role: "user", text: "hi", pictures: [] },
    { role: "assistant", text: "yes", state: "done" },
  ]);
});

test("settings are what they may be", () => {
  expect(readSettings(null)).toEqual(NO_SETTINGS);
  expect(readSettings({ think: "high", topP: 0.5, seed: Number.NaN })).toEqual({
    ...NO_SETTINGS,
    think: "high",
    topP: 0.5,
  });
});

test("files are named after the title", () => {
  expect(fileName("Über: Katzen/Hunde?", "md")).toBe("Über-Katzen-Hunde.md");
  expect(fileName("???", "json")).toBe("conversation.json");
});
