/** Pure: a branch of a conversation as the body of `POST /api/chat`. */

import type { Message, Settings, UserMessage } from "./types.ts";

/** The whole body. The last message is the person's, or an answer that shall go on. */
export function chatBody(
  model: string,
  settings: Settings,
  path: readonly Message[],
  capabilities: readonly string[],
): Record<string, unknown> {
  const messages: Record<string, unknown>[] = [];
  if (settings.system.trim())
    messages.push({ role: "system", content: settings.system });
  for (const message of path) {
    if (message.role === "user") messages.push(asked(message));
    // An answer that failed before its first word is nothing a model has said.
    else if (message.text) messages.push({ role: "assistant", content: message.text });
  }
  const options = modelOptions(settings);
  const think = thinkField(settings, capabilities);
  return {
    model,
    messages,
    stream: true,
    ...(Object.keys(options).length > 0 ? { options } : {}),
    ...(think === undefined ? {} : { think }),
  };
}

function asked(message: UserMessage): Record<string, unknown> {
  const files = message.files.map(({ name, text }) => fenced(name, text));
  const content = [...files, message.text].filter(Boolean).join("\n\n");
  const images = message.pictures.map((picture) => base64(picture.bytes));
  return { role: "user", content, ...(images.length > 0 ? { images } : {}) };
}

/** A file in a fence that is longer than any in it. */
export function fenced(name: string, text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `File: ${name}\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
}

function modelOptions(settings: Settings): Record<string, number> {
  const options: Record<string, number> = {};
  if (settings.temperature !== null) options["temperature"] = settings.temperature;
  if (settings.topP !== null) options["top_p"] = settings.topP;
  if (settings.seed !== null) options["seed"] = settings.seed;
  if (settings.maxTokens !== null) options["num_predict"] = settings.maxTokens;
  if (settings.contextTokens !== null) options["num_ctx"] = settings.contextTokens;
  return options;
}

/** Models that cannot think refuse to be asked for it. */
function thinkField(
  settings: Settings,
  capabilities: readonly string[],
): boolean | string | undefined {
  if (!capabilities.includes("thinking")) return undefined;
  switch (settings.think) {
    case "auto":
      return undefined;
    case "on":
      return true;
    case "off":
      return false;
    default:
      return settings.think;
  }
}

const PIECE = 0x6000; // String.fromCharCode takes so many arguments, and 3 divides it

export function base64(bytes: Uint8Array): string {
  const pieces: string[] = [];
  for (let at = 0; at < bytes.length; at += PIECE) {
    pieces.push(btoa(String.fromCharCode(...bytes.subarray(at, at + PIECE))));
  }
  return pieces.join("");
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
