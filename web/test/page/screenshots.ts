/**
 * Makes docs/images/ and the icons. What is shown is the real page in front of a real
 * mesh; staged are only the words of the model and the addresses of the path, because
 * everything runs on one machine here.
 */

import { readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { test } from "vitest";
import { makeGate, paced, ScriptedOllama, type Step } from "./ollama.ts";
import { answered, ask, launch, town } from "./stage.ts";
import { RICH } from "./words.ts";

const WEB = resolve(import.meta.dirname, "../..");
const IMAGES = resolve(WEB, "../docs/images");
const ICONS = join(WEB, "public/icons");
const QUALITY = 0.86;

const DESKTOP = { viewport: { width: 1200, height: 760 }, deviceScaleFactor: 1.5 };
const PHONE = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
};

const BEFORE = [
  ["Plan a weekend in Ghent", "Start at the Graslei …"],
  ["What does this regular expression do?", "It matches …"],
  ["A name for a grey cat", "How about Pebble?"],
  ["Explain Rust lifetimes like I know C", "In C you …"],
  ["Rewrite this letter, but kinder", "Dear Mr Simmons, …"],
] as const;

test("screenshots", async () => {
  const llama = { name: "llama3.2:latest", capabilities: ["completion", "tools"] };
  const qwen = {
    name: "qwen3:8b",
    capabilities: ["completion", "thinking", "tools"],
    parameters: "8.2B",
    size: 5_200_000_000,
  };
  const gemma = {
    name: "gemma3:12b",
    capabilities: ["completion", "vision"],
    parameters: "12.2B",
    size: 8_100_000_000,
  };
  const ada = await new ScriptedOllama([qwen, llama]).start();
  const bob = await new ScriptedOllama([gemma, llama]).start();
  const here = await town({ ada, bob }, "--parallel", "2");
  const browser = await launch();
  try {
    const url = String(here.gateway.said["url"]);
    const page = await open(browser, String(here.gateway.said["page"]), {
      ...DESKTOP,
      colorScheme: "light",
    });
    for (const [question, answer] of BEFORE) {
      await choose(page, "llama3.2", "bob");
      bob.script(answer);
      await ask(page, question);
      await answered(page);
      await page.keyboard.press("Control+Shift+O");
    }
    await choose(page, "qwen3:8b", "ada");
    const gate = makeGate();
    ada.script(
      { thinking: "Heaps and merging: be brief, show the costs." },
      { waitMs: 2300 },
      ...paced(RICH, 300),
      gate as Step,
    );
    await ask(page, "Why is a heap faster than a sorted list for merging streams?");
    await page.locator(".prose blockquote").waitFor();
    gate.open();
    await answered(page);
    await page.locator(".katex").last().waitFor();
    await top(page);
    await shoot(page, "chat-light");
    await page.emulateMedia({ colorScheme: "dark" });
    await shoot(page, "chat-dark");
    await page.click(".path-button");
    await shoot(page, "path-dark");
    await page.keyboard.press("Escape");
    await page.emulateMedia({ colorScheme: "light" });
    await page.click(".model-button");
    await page.locator(".loaded").first().waitFor();
    await shoot(page, "models-light");
    await page.keyboard.press("Escape");

    const state = await page.context().storageState({ indexedDB: true });
    for (const colorScheme of ["light", "dark"] as const) {
      const phone = await open(browser, `${url}/`, {
        ...PHONE,
        colorScheme,
        storageState: state,
      });
      await shoot(phone, `phone-welcome-${colorScheme}`);
      await phone.click("[aria-label=Conversations].icon");
      await phone.locator(".list .open", { hasText: "heap" }).click();
      await phone.locator(".katex").last().waitFor();
      await top(phone);
      await shoot(phone, `phone-chat-${colorScheme}`);
      await phone.context().close();
    }
    const arrival = await browser.newContext({ ...PHONE, colorScheme: "dark" });
    const first = await arrival.newPage();
    await first.goto(`${String(here.hub.said["url"])}/`);
    await first.locator(".arrival h1").waitFor();
    await shoot(first, "phone-arrival-dark");
    const owner = here.stage.pair("owner");
    const { mailbox } = await owner.until("waiting");
    await first.click("text=Come in by digits");
    await first.fill("[aria-label='The number']", String(mailbox));
    await first.keyboard.press("Enter");
    await first.locator(".six").waitFor();
    await first.emulateMedia({ colorScheme: "light" });
    await shoot(first, "phone-digits-light");
  } finally {
    await browser.close();
    await here.stage.close();
    await ada.stop();
    await bob.stop();
  }
});

test("icons", async () => {
  const browser = await launch();
  const svg = await readFile(join(ICONS, "icon.svg"), "utf8");
  const whole = svg.replace(/ rx="\d+"/, "");
  for (const [name, size, source] of [
    ["icon-180", 180, whole],
    ["icon-192", 192, svg],
    ["icon-512", 512, svg],
    // Of a maskable icon only the middle is sure to be seen.
    [
      "icon-maskable",
      512,
      whole
        .replace('viewBox="0 0 64 64"', 'viewBox="-9 -9 82 82"')
        .replace(
          '<rect width="64" height="64"',
          '<rect x="-9" y="-9" width="82" height="82"',
        ),
    ],
  ] as const) {
    const page = await browser.newPage({ viewport: { width: size, height: size } });
    await page.setContent(
      `<style>*{margin:0}svg{display:block;width:${size}px;height:${size}px}</style>${source}`,
    );
    await page.screenshot({ path: join(ICONS, `${name}.png`), omitBackground: true });
    await page.close();
  }
  await browser.close();
});

async function open(
  browser: Browser,
  link: string,
  options: BrowserContextOptions,
): Promise<Page> {
  const context = await browser.newContext({
    ...options,
    serviceWorkers: "block",
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  // As if the providers were where providers are: elsewhere.
  await page.route("**/page/state", async (route) => {
    const response = await route.fetch();
    const found = await response.json();
    for (const path of found.paths) {
      path.rtt_ms = path.name === "ada" ? 23.4 : 61.2;
      path.path = "srflx";
      path.candidates = {
        local: "srflx 203.0.113.17:50212",
        remote: "srflx 198.51.100.4:49731",
      };
    }
    await route.fulfill({ response, json: found });
  });
  await page.goto(link);
  await page.locator(".composer textarea").waitFor();
  await page.locator(".path-button:not(.none), .welcome").first().waitFor();
  return page;
}

async function choose(page: Page, model: string, provider: string): Promise<void> {
  await page.click(".model-button");
  const row = page.locator(".models > li", { hasText: model });
  if (model === "qwen3:8b") await row.locator(".model").click();
  else await row.locator(".holder", { hasText: provider }).click();
}

async function top(page: Page): Promise<void> {
  await page.evaluate(() => document.querySelector("#thread")?.scrollTo(0, 0));
  await page.mouse.move(5, 400);
}

/** As WebP, which Chromium can draw but not save a screenshot as. */
async function shoot(page: Page, name: string): Promise<void> {
  await page.evaluate(() => document.fonts.ready.then(() => undefined));
  await page.waitForTimeout(2500); // toasts go, and the page has looked at its paths
  const png = await page.screenshot();
  const drawing = await page.context().browser()?.newPage();
  if (!drawing) throw new Error("the browser is gone");
  const webp = await drawing.evaluate(
    async ([data, quality]) => {
      const blob = await (await fetch(`data:image/png;base64,${data}`)).blob();
      const bitmap = await createImageBitmap(blob);
      const canvas = document.createElement("canvas");
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
      return canvas.toDataURL("image/webp", quality).split(",")[1] ?? "";
    },
    [png.toString("base64"), QUALITY] as const,
  );
  await drawing.close();
  await writeFile(join(IMAGES, `${name}.webp`), Buffer.from(webp, "base64"));
  if (process.env["SHOTS_PNG"])
    await writeFile(join(process.env["SHOTS_PNG"], `${name}.png`), png);
}
