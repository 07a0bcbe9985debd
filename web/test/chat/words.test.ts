import { expect, test } from "vitest";
import { NO_SETTINGS } from "../../src/chat/types.ts";
import {
  byDay,
  bytes,
  duration,
  loadWords,
  measuresParts,
  modelLine,
  rate,
  rtt,
  shortKey,
  shortModel,
  titleFrom,
  wayOf,
} from "../../src/chat/words.ts";
import type { PathKind } from "../../src/connection.ts";

test.each([
  [0, 0, 1, "free"],
  [1, 0, 1, "busy"],
  [1, 0, 4, "1 of 4 busy"],
  [4, 1, 4, "busy, 1 waits"],
  [1, 3, 1, "busy, 3 wait"],
])("%i run and %i wait where %i may: %s", (running, waiting, parallel, words) => {
  expect(loadWords({ running, waiting }, parallel)).toBe(words);
});

test("a model is named without where it came from", () => {
  expect(shortModel("llama3.2:latest")).toBe("llama3.2");
  expect(shortModel("hf.co/somebody/Name-GGUF:Q4_K_M")).toBe("Name-GGUF:Q4_K_M");
});

test("numbers are as short as they are useful", () => {
  expect([0, 42, 940, 1500, 9949, 12_000, 200_000].map(duration)).toEqual([
    "0 s",
    "0.04 s",
    "0.94 s",
    "1.5 s",
    "9.9 s",
    "12 s",
    "3 min",
  ]);
  expect([512, 2000, 1_500_000, 8_100_000_000].map(bytes)).toEqual([
    "512 B",
    "2 KB",
    "1.5 MB",
    "8.1 GB",
  ]);
  expect([3.1234, 42.4].map(rate)).toEqual(["3.1 tok/s", "42 tok/s"]);
  expect([0.01, 1.44, 23.6].map(rtt)).toEqual(["0.1 ms", "1.4 ms", "24 ms"]);
  expect(shortKey("abcdefghijklmnop")).toBe("abcd efgh");
});

test.each<[PathKind, string | null, string]>([
  ["srflx", "srflx 203.0.113.9:5000", "direct"],
  ["prflx", null, "direct"],
  ["host", "host [2001:db8::1]:5000", "direct"],
  ["host", "host 192.168.1.7:5000", "lan"],
  ["prflx", "host 10.0.0.7:5000", "lan"],
  ["host", "host [fe80::1]:5000", "lan"],
  ["host", "host 4f2a.local:5000", "lan"],
  ["host", "host 127.0.0.1:5000", "here"],
  ["host", "host [::1]:5000", "here"],
  ["lan", null, "lan"],
  ["relay", "relay 192.168.1.7:5000", "relay"],
  ["gateway", null, "gateway"],
])("%s to %s is %s", (kind, remote, way) => {
  expect(wayOf(kind, remote)).toBe(way);
});

test("a title is the first words, without marks, cut between words", () => {
  expect(titleFrom("## **Hello**\nworld")).toBe("Hello world");
  const long = titleFrom("word ".repeat(40));
  expect(long.length).toBeLessThanOrEqual(65);
  expect(long).toMatch(/word…$/);
  expect(titleFrom("x".repeat(100))).toBe(`${"x".repeat(64)}…`);
});

test("models are told by what is known of them", () => {
  expect(
    modelLine({ parameter_size: "3.2B", quantization_level: "unknown" }, 2e9),
  ).toBe("3.2B · 2 GB");
  expect(modelLine({}, 0)).toBe("");
});

test("measures that nobody told are left out", () => {
  const none = {
    totalMs: 1,
    tokens: null,
    promptTokens: null,
    queueMs: null,
    loadMs: null,
  };
  expect(measuresParts({ ...none, perSecond: 20, firstMs: 400 })).toEqual([
    "20 tok/s",
    "first word 0.4 s",
  ]);
  expect(measuresParts({ ...none, perSecond: null, firstMs: null })).toEqual([]);
});

test("conversations are grouped by day, newest first", () => {
  const now = new Date(2026, 10, 25, 12).getTime();
  const at = (id: string, daysAgo: number) => ({
    id,
    title: id,
    createdAt: 0,
    updatedAt: now - daysAgo * 86_400_000,
    model: "m",
    pin: null,
    settings: NO_SETTINGS,
    leaf: null,
  });
  const groups = byDay(
    [at("old", 400), at("week", 3), at("now", 0), at("then", 1), at("month", 20)],
    now,
  );
  expect(
    groups.map(({ name, conversations }) => [
      name,
      conversations.map(({ id }) => id).join(),
    ]),
  ).toEqual([
    ["Today", "now"],
    ["Yesterday", "then"],
    ["This week", "week"],
    ["This month", "month"],
    ["2025", "old"],
  ]);
});
