/** An Ollama that says what a test wrote down, and notes what it was asked. */

import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";

export type Step =
  | string
  | { readonly thinking: string }
  | { readonly waitMs: number }
  | { readonly gate: Promise<unknown> }
  | "break";

export const BREAK = { breakOff: true } as const;

export interface Model {
  readonly name: string;
  readonly capabilities?: readonly string[];
  readonly size?: number;
  readonly parameters?: string;
}

export interface Script {
  readonly steps: readonly (Step | typeof BREAK)[];
  readonly status?: number;
  readonly error?: string;
  readonly reason?: string;
}

export interface Asked {
  readonly body: Record<string, unknown> & {
    readonly messages: readonly { role: string; content: string; images?: string[] }[];
  };
  /** Resolves when the client went away before the end. */
  readonly hungUp: Promise<void>;
}

export class ScriptedOllama {
  readonly asked: Asked[] = [];
  readonly #models: readonly Model[];
  readonly #scripts: Script[] = [];
  #server: Server | null = null;
  url = "";

  constructor(models: readonly Model[]) {
    this.#models = models;
  }

  async start(): Promise<this> {
    const server = createServer(
      (request, response) => void this.#answer(request, response),
    );
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return this;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
  }

  /** The next answer of `/api/chat`. */
  script(...steps: readonly (Step | typeof BREAK)[]): void {
    this.#scripts.push({ steps });
  }

  /** What a test that failed left over is not the next one's. */
  clear(): void {
    this.#scripts.length = 0;
  }

  refuse(status: number, error: string): void {
    this.#scripts.push({ steps: [], status, error });
  }

  end(reason: string, ...steps: readonly Step[]): void {
    this.#scripts.push({ steps, reason });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "/";
    if (path === "/api/version") return json(response, { version: "0.33.0" });
    if (path === "/api/tags") return json(response, { models: this.#models.map(tag) });
    if (path === "/api/ps") {
      const loaded = this.#models.slice(0, 1).map((model) => ({
        ...tag(model),
        expires_at: "2126-01-02T03:04:05Z",
        size_vram: 1,
        context_length: 8192,
      }));
      return json(response, { models: loaded });
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString() || "{}");
    if (path === "/api/show")
      return json(response, show(this.#models.find(({ name }) => name === body.model)));
    if (path !== "/api/chat")
      return json(response, { error: "404 page not found" }, 404);
    await this.#chat(body, request, response);
  }

  async #chat(
    body: Asked["body"],
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const hungUp = new Promise<void>((resolve) =>
      response.on("close", () => !response.writableEnded && resolve()),
    );
    this.asked.push({ body, hungUp });
    const script = this.#scripts.shift() ?? {
      steps: [`You said: ${body.messages.at(-1)?.content ?? ""}`],
    };
    if (script.status) return json(response, { error: script.error }, script.status);
    response.writeHead(200, { "Content-Type": "application/x-ndjson" });
    let count = 0;
    const write = (message: object, more: object = {}) =>
      response.write(
        `${JSON.stringify({ model: body["model"], created_at: new Date().toISOString(), message: { role: "assistant", content: "", ...message }, done: false, ...more })}\n`,
      );
    const began = performance.now();
    for (const step of script.steps) {
      if (request.socket.destroyed) return;
      if (step === BREAK) return void request.socket.destroy();
      if (typeof step === "string") {
        write({ content: step });
        count += 1;
      } else if ("thinking" in step) write({ thinking: step.thinking });
      else if ("waitMs" in step)
        await new Promise((resolve) => setTimeout(resolve, step.waitMs));
      else if ("gate" in step) await step.gate;
    }
    const took = Math.max(1, performance.now() - began) * 1e6;
    const end = {
      done: true,
      done_reason: script.reason ?? "stop",
      total_duration: took,
      load_duration: 1e6,
      prompt_eval_count: 11,
      prompt_eval_duration: 1e6,
      eval_count: count,
      eval_duration: took,
    };
    write({}, end);
    response.end();
  }
}

/** Text as tokens, at so many per second. */
export function paced(text: string, perSecond: number): Step[] {
  const tokens = text.match(/\s*\S{1,5}|\s+$/g) ?? [];
  return tokens.flatMap((token): Step[] => [token, { waitMs: 1000 / perSecond }]);
}

export interface Gate {
  readonly gate: Promise<void>;
  readonly open: () => void;
}

export function makeGate(): Gate {
  let open = () => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { gate, open };
}

function tag(model: Model): Record<string, unknown> {
  return {
    name: model.name,
    model: model.name,
    modified_at: "2026-01-01T10:00:00Z",
    size: model.size ?? 2_019_393_189,
    digest: "9077fe9d2ae1a4a41a868836b56b8163731a8fe16621397028c2c76f838c6907",
    details: details(model),
    capabilities: model.capabilities ?? ["completion"],
  };
}

function details(model: Model): Record<string, unknown> {
  return {
    parent_model: "",
    format: "gguf",
    family: "llama",
    families: ["llama"],
    parameter_size: model.parameters ?? "3.2B",
    quantization_level: "Q4_K_M",
    context_length: 131072,
  };
}

function show(model: Model | undefined): Record<string, unknown> {
  if (!model) return { error: "model not found" };
  return {
    details: details(model),
    model_info: { "general.architecture": "llama", "llama.context_length": 131072 },
    capabilities: model.capabilities ?? ["completion"],
    modified_at: "2026-01-01T10:00:00Z",
    template: "",
    parameters: "",
    modelfile: "",
    license: "",
  };
}

function json(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(value));
}
