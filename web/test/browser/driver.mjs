/**
 * A Chromium for tests: JSON lines in, JSON lines out, until stdin ends.
 *
 * `{id, do: "open", page, url}` opens a page in a context of its own; `{id, do:
 * "evaluate", page, code}` runs an async function's body in it. Each answer is `{id, ok}`
 * or `{id, error}`; many may be under way.
 */

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [executablePath, ...args] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args });
const pages = new Map();

const commands = {
  async open({ page: name, url }) {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.on("pageerror", (error) => say({ page: name, pageError: String(error) }));
    page.on("console", (message) => say({ page: name, console: message.text() }));
    pages.set(name, page);
    await page.goto(url);
  },
  async goto({ page: name, url }) {
    const page = pages.get(name);
    await page.goto("about:blank");
    await page.goto(url);
  },
  async reload({ page }) {
    await pages.get(page).reload();
  },
  evaluate: ({ page, code }) => evaluate(pages.get(page), code),
  /** What it runs loads the page anew. */
  async follow({ page: name, code }) {
    const page = pages.get(name);
    await Promise.all([page.waitForEvent("load"), evaluate(page, code)]);
  },
  async close({ page }) {
    await pages.get(page).context().close();
    pages.delete(page);
  },
};

function evaluate(page, code) {
  return page.evaluate(`(async () => {${code}})()`);
}

function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function answer(command) {
  try {
    const ok = await commands[command.do](command);
    say({ id: command.id, ok: ok ?? null });
  } catch (error) {
    say({ id: command.id, error: String(error?.message ?? error) });
  }
}

say({ ready: browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  void answer(JSON.parse(line));
}
await browser.close();
