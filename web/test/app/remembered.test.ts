import { expect, test } from "vitest";
import {
  isRelayOnly,
  type Remembered,
  Speeds,
  setRelayOnly,
} from "../../src/app/remembered.ts";

function memory(start = ""): Remembered & { value: string } {
  return {
    value: start,
    get() {
      return this.value || null;
    },
    set(_, value) {
      this.value = value;
    },
  };
}

test("addresses are shown until somebody hides theirs, and again when they say so", () => {
  const kept = memory();
  expect(isRelayOnly(kept)).toBe(false);
  setRelayOnly(kept, true);
  expect(isRelayOnly(kept)).toBe(true);
  setRelayOnly(kept, false);
  expect(isRelayOnly(kept)).toBe(false);
});

test("speeds follow what is measured, and are remembered", () => {
  const kept = memory();
  const speeds = new Speeds(kept);
  expect(speeds.of("p", "m")).toBeNull();
  speeds.note("p", "m", 100);
  speeds.note("p", "m", 50);
  expect(speeds.of("p", "m")).toBe(80);
  expect(new Speeds(kept).of("p", "m")).toBe(80);
  expect(new Speeds(kept).of("p", "other")).toBeNull();
});

test.each(["", "nonsense", "{}", '[["a"],[1,2],["x y",5]]'])(
  "damaged memory (%s) is no harm",
  (text) => {
    expect(new Speeds(memory(text)).of("p", "m")).toBeNull();
  },
);

test("the oldest are forgotten", () => {
  const kept = memory();
  const speeds = new Speeds(kept);
  for (let n = 0; n < 300; n++) speeds.note(`p${n}`, "m", 1);
  expect(new Speeds(kept).of("p0", "m")).toBeNull();
  expect(new Speeds(kept).of("p299", "m")).toBe(1);
});
