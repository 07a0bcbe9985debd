import { expect, test } from "vitest";
import { branch, leafOf, siblings } from "../../src/chat/branches.ts";
import type { Message } from "../../src/chat/types.ts";

function said(id: string, parent: string | null, at: number): [string, Message] {
  const message: Message = {
    role: "user",
    id,
    parent,
    at,
    conversation: "c",
    text: id,
    pictures: [],
    files: [],
  };
  return [id, message];
}

//  a ── b ── c
//       └─── d ── e
const TREE = new Map([
  said("a", null, 1),
  said("b", "a", 2),
  said("c", "b", 3),
  said("d", "b", 4),
  said("e", "d", 5),
]);
const ids = (messages: readonly Message[]) => messages.map(({ id }) => id).join("");

test("a branch goes from the first message to its leaf", () => {
  expect(ids(branch(TREE, "c"))).toBe("abc");
  expect(ids(branch(TREE, "e"))).toBe("abde");
  expect(branch(TREE, null)).toEqual([]);
});

test("a missing parent ends a branch, and so does a circle", () => {
  expect(ids(branch(new Map([said("x", "gone", 1)]), "x"))).toBe("x");
  expect(branch(new Map([said("x", "y", 1), said("y", "x", 2)]), "x")).toHaveLength(2);
});

test("siblings are the other ways from the same message, oldest first", () => {
  const [, d] = said("d", "b", 4);
  expect(ids(siblings(TREE, d))).toBe("cd");
});

test("turning to a message leads to its newest end", () => {
  expect(leafOf(TREE, "a")).toBe("e");
  expect(leafOf(TREE, "b")).toBe("e");
  expect(leafOf(TREE, "c")).toBe("c");
  expect(leafOf(TREE, "unknown")).toBe("unknown");
});
