/** Pure: conversations as files. JSON goes out and comes back in; Markdown is for reading. */

import { branch } from "./branches.ts";
import { asRecord } from "./lines.ts";
import { base64, fenced, fromBase64 } from "./question.ts";
import {
  type AnswerMessage,
  type AnswerState,
  type Conversation,
  type Measures,
  type Message,
  NO_SETTINGS,
  newId,
  type Picture,
  type Settings,
  type TextFile,
  type Think,
} from "./types.ts";

const FORMAT = "meshllm-conversations";
const VERSION = 1;
const PICTURE_TYPES = ["image/jpeg", "image/png", "image/webp"];

/** A conversation with all its branches. */
export interface Whole {
  readonly conversation: Conversation;
  readonly messages: readonly Message[];
}

export function toJson(wholes: readonly Whole[]): string {
  const conversations = wholes.map(({ conversation, messages }) => ({
    ...conversation,
    messages: messages.map((message) =>
      message.role === "user"
        ? { ...message, pictures: message.pictures.map(pictureOut) }
        : message,
    ),
  }));
  return `${JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1)}\n`;
}

function pictureOut(picture: Picture): Record<string, unknown> {
  return { ...picture, bytes: base64(picture.bytes) };
}

/** The branch that is shown, as a document. */
export function toMarkdown({ conversation, messages }: Whole): string {
  const path = branch(new Map(messages.map((m) => [m.id, m])), conversation.leaf);
  const parts = [`# ${conversation.title}`];
  if (conversation.settings.system) parts.push(quoted(conversation.settings.system));
  for (const message of path) {
    if (message.role === "user") {
      parts.push("## You");
      parts.push(...message.files.map(({ name, text }) => fenced(name, text)));
      parts.push(...message.pictures.map(({ name }) => `*(picture: ${name})*`));
    } else {
      parts.push(
        `## ${message.model}${message.provider ? ` at ${message.provider.name}` : ""}`,
      );
    }
    if (message.text) parts.push(message.text.trim());
  }
  return `${parts.join("\n\n")}\n`;
}

function quoted(text: string): string {
  return text
    .trim()
    .split("\n")
    .map((line) => `> ${line}`.trimEnd())
    .join("\n");
}

/** What a file of this name may be called on disk. */
export function fileName(title: string, extension: string): string {
  const plain = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${plain.slice(0, 60) || "conversation"}.${extension}`;
}

/**
 * What `toJson` wrote, with new ids, so that nothing that is here is overwritten.
 * Throws SyntaxError with a sentence when it is something else.
 */
export function fromJson(text: string): Whole[] {
  let file: Record<string, unknown>;
  try {
    file = asRecord(JSON.parse(text));
  } catch {
    throw new SyntaxError("This file is not JSON. Choose one that this page exported.");
  }
  if (file["format"] !== FORMAT || !Array.isArray(file["conversations"])) {
    throw new SyntaxError(
      "This file holds no conversations. Choose one that this page exported.",
    );
  }
  if (Number(file["version"]) > VERSION) {
    throw new SyntaxError("This file was exported by a newer version of the page.");
  }
  return file["conversations"].map(readWhole);
}

function readWhole(value: unknown): Whole {
  const from = asRecord(value);
  const id = newId();
  const raw = Array.isArray(from["messages"]) ? from["messages"].map(asRecord) : [];
  const ids = new Map(raw.map((message) => [message["id"], newId()]));
  const messages = raw.flatMap((message) => {
    const parent = message["parent"] === null ? null : ids.get(message["parent"]);
    const own = ids.get(message["id"]);
    if (parent === undefined || own === undefined) return [];
    return readMessage(message, own, id, parent);
  });
  const leaf = ids.get(from["leaf"]) ?? messages.at(-1)?.id ?? null;
  return {
    conversation: {
      id,
      title: text(from["title"]).slice(0, 200) || "Imported",
      createdAt: number(from["createdAt"]) ?? Date.now(),
      updatedAt: number(from["updatedAt"]) ?? Date.now(),
      model: text(from["model"]),
      pin: null,
      settings: readSettings(from["settings"]),
      leaf: messages.some((message) => message.id === leaf) ? leaf : null,
    },
    messages,
  };
}

function readMessage(
  from: Record<string, unknown>,
  id: string,
  conversation: string,
  parent: string | null,
): Message[] {
  const common = {
    id,
    conversation,
    at: number(from["at"]) ?? 0,
    text: text(from["text"]),
  };
  if (from["role"] === "user") {
    const pictures = list(from["pictures"]).flatMap(readPicture);
    return [
      {
        ...common,
        role: "user",
        parent,
        pictures,
        files: list(from["files"]).map(readFile),
      },
    ];
  }
  if (from["role"] !== "assistant" || parent === null) return [];
  const provider = asRecord(from["provider"]);
  const answer: AnswerMessage = {
    ...common,
    role: "assistant",
    parent,
    thinking: text(from["thinking"]),
    thinkingMs: number(from["thinkingMs"]),
    model: text(from["model"]),
    provider: provider["id"]
      ? { id: text(provider["id"]), name: text(provider["name"]) }
      : null,
    way: null,
    state: readState(from["state"]),
    problem: null,
    measures: readMeasures(from["measures"]),
  };
  return [answer];
}

function readState(state: unknown): AnswerState {
  return state === "length" || state === "stopped" || state === "cut" ? state : "done";
}

function readMeasures(value: unknown): Measures | null {
  const from = asRecord(value);
  const totalMs = number(from["totalMs"]);
  if (totalMs === null) return null;
  return {
    firstMs: number(from["firstMs"]),
    totalMs,
    tokens: number(from["tokens"]),
    perSecond: number(from["perSecond"]),
    promptTokens: number(from["promptTokens"]),
    queueMs: number(from["queueMs"]),
    loadMs: number(from["loadMs"]),
  };
}

function readPicture(value: unknown): Picture[] {
  const from = asRecord(value);
  const type = text(from["type"]);
  if (!PICTURE_TYPES.includes(type)) return [];
  try {
    return [
      {
        name: text(from["name"]),
        type,
        bytes: fromBase64(text(from["bytes"])),
        width: number(from["width"]) ?? 0,
        height: number(from["height"]) ?? 0,
      },
    ];
  } catch {
    return []; // one damaged picture is no reason to lose a conversation
  }
}

function readFile(value: unknown): TextFile {
  const from = asRecord(value);
  return { name: text(from["name"]), text: text(from["text"]) };
}

const THINK: readonly Think[] = ["auto", "off", "on", "low", "medium", "high"];

/** Settings as they may be stored or imported: what is missing is the default. */
export function readSettings(value: unknown): Settings {
  const from = asRecord(value);
  return {
    ...NO_SETTINGS,
    system: text(from["system"]),
    think: THINK.find((think) => think === from["think"]) ?? "auto",
    temperature: number(from["temperature"]),
    topP: number(from["topP"]),
    seed: number(from["seed"]),
    maxTokens: number(from["maxTokens"]),
    contextTokens: number(from["contextTokens"]),
  };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
