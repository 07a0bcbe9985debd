import { expect, test } from "vitest";
import { base64, chatBody, fenced, fromBase64 } from "../../src/chat/question.ts";
import {
  type AnswerMessage,
  NO_SETTINGS,
  type UserMessage,
} from "../../src/chat/types.ts";

const ASKED: UserMessage = {
  role: "user",
  id: "q",
  conversation: "c",
  parent: null,
  at: 0,
  text: "What is this?",
  pictures: [],
  files: [],
};
const ANSWERED: AnswerMessage = {
  role: "assistant",
  id: "a",
  conversation: "c",
  parent: "q",
  at: 1,
  text: "A cat.",
  thinking: "It has whiskers.",
  thinkingMs: 5,
  model: "m",
  provider: null,
  way: null,
  state: "done",
  problem: null,
  measures: null,
};

test("without settings nothing but the conversation is sent", () => {
  expect(chatBody("m", NO_SETTINGS, [ASKED, ANSWERED], [])).toEqual({
    model: "m",
    stream: true,
    messages: [
      { role: "user", content: "What is this?" },
      { role: "assistant", content: "A cat." },
    ],
  });
});

test("instructions come first, and only the options that were set", () => {
  const settings = {
    ...NO_SETTINGS,
    system: "Be brief.",
    temperature: 0,
    maxTokens: 100,
  };
  const body = chatBody("m", settings, [ASKED], []);
  expect(body["messages"]).toMatchObject([
    { role: "system", content: "Be brief." },
    { role: "user" },
  ]);
  expect(body["options"]).toEqual({ temperature: 0, num_predict: 100 });
});

test("an answer that failed before its first word was never said", () => {
  const body = chatBody(
    "m",
    NO_SETTINGS,
    [ASKED, { ...ANSWERED, text: "" }, ASKED],
    [],
  );
  expect(body["messages"]).toHaveLength(2);
});

test.each([
  ["auto", undefined],
  ["on", true],
  ["off", false],
  ["high", "high"],
] as const)("think %s is asked of a model that can think", (think, expected) => {
  const settings = { ...NO_SETTINGS, think };
  expect(chatBody("m", settings, [ASKED], ["thinking"])["think"]).toBe(expected);
  expect(chatBody("m", settings, [ASKED], ["completion"])).not.toHaveProperty("think");
});

test("pictures go as base64, files before the question in fences of their own", () => {
  const picture = {
    name: "p",
    type: "image/png",
    bytes: new Uint8Array([1, 2, 255]),
    width: 1,
    height: 1,
  };
  const files = [{ name: "a.md", text: "```js\nx\n```\n" }];
  const body = chatBody(
    "m",
    NO_SETTINGS,
    [{ ...ASKED, pictures: [picture], files }],
    [],
  );
  expect(body["messages"]).toEqual([
    {
      role: "user",
      content: "File: a.md\n````\n```js\nx\n```\n````\n\nWhat is this?",
      images: ["AQL/"],
    },
  ]);
});

test("a fence is longer than any inside", () => {
  expect(fenced("f", "plain")).toBe("File: f\n```\nplain\n```");
});

test("base64 of many bytes is right, and comes back", () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, n) => n % 251);
  const text = base64(bytes);
  expect(text).toBe(Buffer.from(bytes).toString("base64"));
  expect(fromBase64(text)).toEqual(bytes);
});
