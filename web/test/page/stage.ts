/** A real mesh for a browser to visit: the real commands, each a process with its home. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type {
  Browser,
  BrowserContext,
  BrowserContextOptions,
  ConsoleMessage,
  Page,
} from "playwright-core";
import { chromium } from "playwright-core";
import type { ScriptedOllama } from "./ollama.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const PYTHON = process.env["MESHLLM_PYTHON"] ?? join(ROOT, ".venv/bin/python");
const READY_MS = 60_000;

export interface Serving {
  readonly said: Record<string, unknown>;
  readonly kill: (signal?: NodeJS.Signals) => Promise<void>;
}

export class Stage {
  readonly #folder: string;
  readonly #children: ChildProcess[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(): Promise<Stage> {
    return new Stage(await mkdtemp(join(tmpdir(), "meshllm-page-")));
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.reverse().map((child) => ended(child, "SIGKILL")));
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** A command that ends. */
  async run(home: string, ...words: string[]): Promise<string> {
    const child = this.#spawn(["--home", this.home(home), ...words]);
    let out = "";
    let err = "";
    child.stdout?.on("data", (data) => (out += data));
    child.stderr?.on("data", (data) => (err += data));
    const code = await new Promise((done) => child.on("close", done));
    if (code !== 0) throw new Error(`${words.join(" ")}: ${err || out}`);
    return out.trim();
  }

  /** A command that serves, once it is ready. */
  async serve(home: string, command: string, ...words: string[]): Promise<Serving> {
    const child = this.#spawn([command, "--json", "--home", this.home(home), ...words]);
    let err = "";
    child.stderr?.on("data", (data) => (err += data));
    const said: Record<string, unknown> = {};
    const ready = new Promise<void>((done, fail) => {
      const timer = setTimeout(
        () => fail(new Error(`${command} is not ready: ${err}`)),
        READY_MS,
      );
      child.on("exit", (code) =>
        fail(new Error(`${command} ended with ${code}: ${err}`)),
      );
      if (!child.stdout) return;
      createInterface({ input: child.stdout }).on("line", (line) => {
        Object.assign(said, JSON.parse(line));
        if (said["event"] !== "ready") return;
        clearTimeout(timer);
        done();
      });
    });
    await ready;
    return { said, kill: (signal = "SIGKILL") => ended(child, signal) };
  }

  /** A `meshllm pair` on an owner's machine, and the person at its keyboard. */
  pair(home: string, ...words: string[]): Pair {
    const line = ["--home", this.home(home), "pair", "--json", "--no-lan", ...words];
    return new Pair(this.#spawn(line, "pipe"));
  }

  /** A file's place, gone with the stage. */
  path(name: string): string {
    return join(this.#folder, name);
  }

  home(name: string): string {
    return join(this.#folder, name);
  }

  async joins(name: string, role = "member"): Promise<void> {
    const link = await this.run("owner", "invite", "--name", name, "--role", role);
    await this.run(name, "join", link);
  }

  share(name: string, ollama: ScriptedOllama, ...words: string[]): Promise<Serving> {
    return this.serve(
      name,
      "share",
      "--backend",
      "ollama",
      "--url",
      ollama.url,
      "--no-lan",
      ...words,
    );
  }

  #spawn(words: string[], stdin: "ignore" | "pipe" = "ignore"): ChildProcess {
    const clean = Object.entries(process.env).filter(
      ([name]) => !name.startsWith("MESHLLM_"),
    );
    const child = spawn(PYTHON, ["-m", "meshllm", ...words], {
      cwd: ROOT,
      env: {
        ...Object.fromEntries(clean),
        MESHLLM_LOOPBACK: "1",
        TMPDIR: this.#folder,
      },
      stdio: [stdin, "pipe", "pipe"],
    });
    this.#children.push(child);
    return child;
  }
}

/** Reads its events, types its digits. */
export class Pair {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;
  #err = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#closed = new Promise((done) => child.on("close", done));
    child.stderr?.on("data", (data) => (this.#err += data));
    if (!child.stdout) throw new Error("no stdout");
    const lines = createInterface({ input: child.stdout });
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** The next event of that name. */
  async until(event: string): Promise<Record<string, unknown>> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`no ${event}: ${this.#err}`);
      const said = JSON.parse(value) as Record<string, unknown>;
      if (said["event"] === event) return said;
    }
  }

  /** Neither heard nor seen: until it goes on. */
  stops(): void {
    this.#child.kill("SIGSTOP");
  }

  goesOn(): void {
    this.#child.kill("SIGCONT");
  }

  type(digits: string): void {
    this.#child.stdin?.write(`${digits}\n`);
  }

  /** What it says on stderr, once it has ended. */
  async ends(signal?: NodeJS.Signals): Promise<string> {
    if (signal !== undefined) this.#child.kill(signal);
    await this.#closed;
    return this.#err;
  }
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((done) => child.on("exit", done));
  child.kill(signal);
  await gone;
}

export interface Town {
  readonly stage: Stage;
  readonly hub: Serving;
  readonly gateway: Serving;
  readonly providers: Record<string, Serving>;
}

/** Signaling, an owner who is online, providers by name, and the gateway. */
export async function town(
  providers: Record<string, ScriptedOllama>,
  ...options: string[]
): Promise<Town> {
  const stage = await Stage.open();
  try {
    const hub = await stage.serve("hub", "signal", "--port", "0");
    await stage.run("owner", "init", String(hub.said["link"]));
    // The owner's node is online: it confirms the others as they join.
    const gateway = await stage.serve("owner", "gateway", "--port", "0", "--no-lan");
    const shares = Object.entries(providers).map(async ([name, ollama]) => {
      await stage.joins(name);
      return [name, await stage.share(name, ollama, ...options)] as const;
    });
    const shared = Object.fromEntries(await Promise.all(shares));
    return { stage, hub, gateway, providers: shared };
  } catch (error) {
    await stage.close();
    throw error;
  }
}

/** What a browser has once it opened the gateway's link, for others to begin with. */
export async function letIn(browser: Browser, here: Town): Promise<Let> {
  const { context } = await visit(browser, String(here.gateway.said["page"]));
  const { cookies } = await context.storageState();
  await context.close();
  return { storageState: { cookies, origins: [] } };
}

export type Let = Required<Pick<BrowserContextOptions, "storageState">>;

// Quiet, and nothing but the test's own traffic. Loopback has no mDNS to hide behind.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];

export function launch(...flags: string[]): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: [...FLAGS, ...flags],
  });
}

/** A page, and everything that went wrong on it. */
export interface Visit {
  readonly context: BrowserContext;
  readonly page: Page;
  readonly errors: string[];
  /** Addresses of other origins that were asked for. */
  readonly strangers: string[];
}

export async function visit(
  browser: Browser,
  link: string,
  options: object = {},
): Promise<Visit> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    ...options,
  });
  const page = await context.newPage();
  const seen = watch(page, new URL(link).origin);
  await page.goto(link);
  await page.waitForSelector(".composer textarea");
  return { context, page, ...seen };
}

export function watch(
  page: Page,
  origin: string,
): { errors: string[]; strangers: string[] } {
  const errors: string[] = [];
  const strangers: string[] = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message: ConsoleMessage) => {
    if (message.type() === "error" || message.type() === "warning")
      errors.push(message.text());
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !/^(?:data|blob):/.test(url)) strangers.push(url);
  });
  return { errors, strangers };
}

/** What this machine lacks for these tests; CI must lack nothing. */
export function lacking(): string | null {
  const chromium = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  const built = join(ROOT, "meshllm/page/built/index.html");
  const missing = [chromium, PYTHON, built].find((path) => !existsSync(path)) ?? null;
  if (missing !== null && process.env["CI"] === "true")
    throw new Error(`no ${missing}`);
  return missing;
}

/** Writes and sends; resolves when the answer's place is there. */
export async function ask(page: Page, text: string): Promise<void> {
  const before = await page.locator(".turn.theirs").count();
  await page.fill(".composer textarea", text);
  await page.click(".send[aria-label=Send]");
  await page.locator(".turn.theirs").nth(before).waitFor();
}

/** The text of the last answer, once it has ended; without any, what the page says. */
export async function answered(page: Page): Promise<string> {
  const last = page.locator(".turn.theirs").last();
  await last.and(page.locator("[aria-busy=false]")).waitFor();
  const prose = last.locator(".prose");
  return (await prose.count()) > 0 ? prose.innerText() : last.innerText();
}

/** The questions and answers that are shown. */
export function turns(page: Page): Promise<string[]> {
  return page.locator(".bubble, .prose").allInnerTexts();
}
