/** What a conversation is made of, as it is kept and exported. */

import type { Way } from "./words.ts";

export interface Picture {
  readonly name: string;
  /** image/jpeg, image/png or image/webp. */
  readonly type: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly width: number;
  readonly height: number;
}

/** A text file that goes along as context. */
export interface TextFile {
  readonly name: string;
  readonly text: string;
}

export interface Who {
  readonly id: string;
  readonly name: string;
}

/** How an answer came about; times in milliseconds, null when nobody told. */
export interface Measures {
  /** From sending the question to the first character. */
  readonly firstMs: number | null;
  readonly totalMs: number;
  readonly tokens: number | null;
  /** Tokens per second, as the provider counted, else as they came. */
  readonly perSecond: number | null;
  readonly promptTokens: number | null;
  /** Waited in the provider's line. */
  readonly queueMs: number | null;
  /** For the model to be loaded there. */
  readonly loadMs: number | null;
}

/** Why there is no (whole) answer. `code` chooses what the page offers to do. */
export interface Problem {
  readonly code: ProblemCode;
  readonly text: string;
  readonly retryAfterS: number | null;
}

export type ProblemCode =
  | "provider_lost"
  | "no_provider"
  | "busy"
  | "model_not_found"
  | "forbidden"
  | "quota"
  | "expired"
  | "too_large"
  | "timeout"
  | "udp_blocked"
  | "unreachable"
  | "model"
  | "other";

export interface UserMessage {
  readonly role: "user";
  readonly id: string;
  readonly conversation: string;
  readonly parent: string | null;
  readonly at: number;
  readonly text: string;
  readonly pictures: readonly Picture[];
  readonly files: readonly TextFile[];
}

/**
 * `running` while a tab works on it; `cut` when it ended before its end (a tab was
 * closed, a provider lost), `stopped` when a person did that, `length` when the model was
 * not allowed to say more.
 */
export type AnswerState = "running" | "done" | "length" | "stopped" | "cut" | "failed";

export interface AnswerMessage {
  readonly role: "assistant";
  readonly id: string;
  readonly conversation: string;
  readonly parent: string;
  readonly at: number;
  readonly text: string;
  readonly thinking: string;
  readonly thinkingMs: number | null;
  readonly model: string;
  readonly provider: Who | null;
  /** How it came; null before it did. */
  readonly way: Way | null;
  readonly state: AnswerState;
  readonly problem: Problem | null;
  readonly measures: Measures | null;
}

export type Message = UserMessage | AnswerMessage;

export type Think = "auto" | "off" | "on" | "low" | "medium" | "high";

/** What a conversation asks of its model; null leaves it to the model. */
export interface Settings {
  readonly system: string;
  readonly think: Think;
  readonly temperature: number | null;
  readonly topP: number | null;
  readonly seed: number | null;
  readonly maxTokens: number | null;
  readonly contextTokens: number | null;
}

export const NO_SETTINGS: Settings = {
  system: "",
  think: "auto",
  temperature: null,
  topP: null,
  seed: null,
  maxTokens: null,
  contextTokens: null,
};

export interface Conversation {
  readonly id: string;
  readonly title: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly model: string;
  /** Peer id of the provider that shall answer; null: whoever is best. */
  readonly pin: string | null;
  readonly settings: Settings;
  /** The last message of the branch that is shown; null before the first. */
  readonly leaf: string | null;
}

export function newId(): string {
  // crypto.randomUUID needs a secure context; getRandomValues does not.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
