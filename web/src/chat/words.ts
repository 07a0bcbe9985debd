/** Pure: numbers, times and names as people read them. */

import type { Load, PathKind } from "../connection.ts";
import type { Conversation, Measures } from "./types.ts";

/** `0.4 s`, `12 s`, `3 min`. */
export function duration(ms: number): string {
  if (ms < 950) return `${Math.max(0, Math.round(ms / 10) / 100)} s`;
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 90) return `${seconds} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function bytes(count: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, "")} ${units[unit]}`;
}

export function rate(perSecond: number): string {
  return `${perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)} tok/s`;
}

/** `parallel`: how many it answers at once. */
export function loadWords({ running, waiting }: Load, parallel: number): string {
  if (running === 0) return "free";
  if (waiting > 0) return `busy, ${waiting} ${waiting === 1 ? "waits" : "wait"}`;
  return running < parallel ? `${running} of ${parallel} busy` : "busy";
}

export function rtt(ms: number): string {
  return ms < 10 ? `${Math.max(0.1, ms).toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

/** A key in short: for recognising, never for comparing. */
export function shortKey(id: string): string {
  return id.length > 8 ? `${id.slice(0, 4)} ${id.slice(4, 8)}` : id;
}

export type Way = "direct" | "lan" | "here" | "relay" | "gateway";

/** What matters to people. `remote` is the candidate at the other end, when known: to a
 * private address there is no way but through one's own network. */
export function wayOf(kind: PathKind, remote: string | null = null): Way {
  if (kind === "relay" || kind === "gateway" || kind === "lan") return kind;
  if (remote === null || !isPrivate(remote)) return "direct";
  return /^(?:\w+ )?(?:127\.|\[?::1\]?:)/.test(remote) ? "here" : "lan";
}

const WAYS: Record<Way, string> = {
  direct: "Direct",
  lan: "Local network",
  here: "On this machine",
  relay: "Through a relay",
  gateway: "Through your gateway",
};

const WORDS: Record<Way, string> = {
  direct: "Direct",
  lan: "Local",
  here: "Here",
  relay: "Relay",
  gateway: "Gateway",
};

/** Where there is no room for more. */
export function wayWord(way: Way): string {
  return WORDS[way];
}

export function wayName(way: Way): string {
  return WAYS[way];
}

/** `host 192.168.0.7:5000` and the like: an address that no router passes on. */
export function isPrivate(candidate: string): boolean {
  const address = candidate
    .replace(/^\w+ /, "")
    .replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
  return (
    /^(10\.|127\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.)/.test(address) ||
    /^(::1$|f[cd]|fe80)/i.test(address) ||
    address.endsWith(".local")
  );
}

/** `3.2B · Q4_K_M · 2 GB`. */
export function modelLine(
  details: Readonly<Record<string, unknown>>,
  size: number,
): string {
  const parts = [details["parameter_size"], details["quantization_level"]]
    .filter((part): part is string => typeof part === "string")
    .filter((part) => part !== "" && part !== "unknown");
  if (size > 0) parts.push(bytes(size));
  return parts.join(" · ");
}

/** `hf.co/somebody/Name:latest` is `Name`. */
export function shortModel(name: string): string {
  return name.replace(/:latest$/, "").replace(/^.*\//, "");
}

export function measuresParts(measures: Measures): string[] {
  const parts: string[] = [];
  if (measures.perSecond !== null) parts.push(rate(measures.perSecond));
  if (measures.firstMs !== null) parts.push(`first word ${duration(measures.firstMs)}`);
  return parts;
}

const TITLE_LENGTH = 64;

/** What a conversation is called until somebody names it: its first words. */
export function titleFrom(text: string): string {
  const line = text
    .replace(/[#*_`>]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
  if (line.length <= TITLE_LENGTH) return line;
  const cut = line.slice(0, TITLE_LENGTH);
  const space = cut.lastIndexOf(" ");
  return `${space > TITLE_LENGTH / 2 ? cut.slice(0, space) : cut}…`;
}

export interface Group {
  readonly name: string;
  readonly conversations: readonly Conversation[];
}

/** Newest first, under the names of days; `now` in milliseconds, local time zone. */
export function byDay(conversations: readonly Conversation[], now: number): Group[] {
  const today = new Date(now).setHours(0, 0, 0, 0);
  const day = 86_400_000;
  const limits: [string, number][] = [
    ["Today", today],
    ["Yesterday", today - day],
    ["This week", today - 6 * day],
    ["This month", today - 29 * day],
  ];
  const groups = new Map<string, Conversation[]>();
  const newest = [...conversations].sort((a, b) => b.updatedAt - a.updatedAt);
  for (const conversation of newest) {
    const limit = limits.find(([, from]) => conversation.updatedAt >= from);
    const name = limit?.[0] ?? String(new Date(conversation.updatedAt).getFullYear());
    groups.set(name, [...(groups.get(name) ?? []), conversation]);
  }
  return [...groups].map(([name, list]) => ({ name, conversations: list }));
}
