import { expect, test } from "vitest";
import {
  alternatives,
  problemAdvice,
  problemOf,
  problemTitle,
  refusal,
} from "../../src/chat/problems.ts";
import {
  Code,
  NoRoute,
  NotAllowed,
  PeerUnreachable,
  StreamReset,
} from "../../src/errors.ts";
import { model } from "../app/connection.ts";

test.each([
  [new NoRoute(503, "x", "no_provider", 5), "no_provider"],
  [new NoRoute(404, "x", "model_not_found"), "model_not_found"],
  [new NoRoute(404, "x", "provider_not_found"), "no_provider"],
  [new NoRoute(503, "x", "unavailable"), "busy"],
  [new NoRoute(502, "x", null), "provider_lost"],
  [new NoRoute(504, "x", "something new"), "timeout"],
  [new NoRoute(429, "x"), "quota"],
  [new StreamReset(Code.GONE, "x"), "provider_lost"],
  [new StreamReset(Code.QUOTA, "x"), "quota"],
  [new StreamReset(Code.BACKEND, "x"), "model"],
  [new NotAllowed("x", Code.REVOKED), "expired"],
  [new PeerUnreachable("x"), "unreachable"],
  [new TypeError("x"), "other"],
])("%s is told as %s", (error, code) => {
  expect(problemOf(error)).toMatchObject({ code, text: "x" });
});

test.each([
  ["provider ada: No connection within 9 s: UDP is blocked here.", "udp_blocked"],
  ["provider ada: No connection: UDP seems to be blocked here.", "udp_blocked"],
  ["No connection to abcd within 10 s. Where no direct path exists, …", "unreachable"],
  ["provider ada: it answered strangely", "provider_lost"],
])("%s is told as %s, by gateway and by page", (text, code) => {
  expect(problemOf(new NoRoute(502, text, "provider_lost")).code).toBe(code);
  const alone = code === "provider_lost" ? "unreachable" : code;
  expect(problemOf(new PeerUnreachable(text)).code).toBe(alone);
});

test("when it may work again is kept", () => {
  expect(problemOf(new NoRoute(503, "x", "busy", 7)).retryAfterS).toBe(7);
});

test.each([
  [404, "model 'x' not found", "model_not_found"],
  [429, "quota exceeded", "quota"],
  [403, "the membership has expired", "expired"],
  [403, "this model is not for you", "forbidden"],
  [400, "does not support thinking", "model"],
  [500, "", "model"],
])("a provider's %i (%s) is told as %s", (status, text, code) => {
  const problem = refusal(status, text, null);
  expect(problem.code).toBe(code);
  expect(problem.text).not.toBe("");
});

const ADA = { id: "a", name: "ada", path: null, parallel: 1, streams: 0 };
const BOB = { ...ADA, id: "b", name: "bob" };
const LLAMA = model("llama", { providers: [ADA, BOB] });
const GEMMA = model("gemma", { providers: [BOB] });
const QWEN = model("qwen", { providers: [ADA] });

test.each([
  ["the same model elsewhere first", "provider_lost", "x", "llama", "a", ["llama b"]],
  [
    "whom the sentence names has failed",
    "unreachable",
    "ada: x",
    "llama",
    null,
    ["llama b"],
  ],
  ["else another model elsewhere", "quota", "x", "qwen", "a", ["llama b"]],
  ["nobody where it is the question", "too_large", "x", "llama", "a", []],
] as const)("another is offered: %s", (_, code, text, asked, failed, offered) => {
  const problem = { code, text, retryAfterS: null };
  const found = alternatives(problem, asked, failed, [LLAMA, GEMMA, QWEN]);
  expect(found.map((one) => `${one.model} ${one.provider.id}`)).toEqual(offered);
});

test("what cannot be said is left out", () => {
  expect(problemTitle("udp_blocked")).not.toBe("");
  expect(problemAdvice("other")).toBe("");
});
