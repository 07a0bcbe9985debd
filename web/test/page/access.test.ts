/** What axe finds on each screen, in light and dark, wide and narrow: nothing. */

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ScriptedOllama } from "./ollama.ts";
import {
  answered,
  ask,
  type Let,
  lacking,
  launch,
  letIn,
  type Town,
  town,
} from "./stage.ts";
import { RICH } from "./words.ts";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

interface Finding {
  readonly id: string;
  readonly impact: string | null;
  readonly nodes: readonly {
    readonly target: unknown;
    readonly failureSummary?: string;
  }[];
}

describe.skipIf(lacking())("accessibility", { timeout: 120_000 }, () => {
  let ada: ScriptedOllama;
  let here: Town;
  let browser: Browser;
  let known: Let;

  beforeAll(async () => {
    ada = await new ScriptedOllama([
      { name: "llama3.2:latest", capabilities: ["completion", "thinking"] },
    ]).start();
    here = await town({ ada });
    browser = await launch();
    known = await letIn(browser, here);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await here?.stage.close();
    await ada?.stop();
  });

  /** Through the debugger: the page's own policy lets no such script in. */
  async function findings(page: Page): Promise<string[]> {
    const session = await page.context().newCDPSession(page);
    const run = async (expression: string) =>
      (
        await session.send("Runtime.evaluate", {
          expression,
          awaitPromise: true,
          returnByValue: true,
        })
      ).result.value;
    await run(await readFile(AXE, "utf8"));
    const found = (await run(
      "axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations)",
    )) as Finding[];
    return found.map(
      ({ id, impact, nodes }) =>
        `${impact} ${id}: ${JSON.stringify(nodes.slice(0, 3).map((node) => [node.target, node.failureSummary]))}`,
    );
  }

  const SIZES = {
    wide: { viewport: { width: 1280, height: 800 } },
    phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true },
  };

  test.each([
    ["wide", "light"],
    ["wide", "dark"],
    ["phone", "light"],
    ["phone", "dark"],
  ] as const)("nothing is found, %s and %s", async (size, colorScheme) => {
    const context = await browser.newContext({
      ...known,
      ...SIZES[size],
      colorScheme,
      reducedMotion: "reduce",
    });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    await page.goto(String(here.gateway.said["url"]));
    await page.locator(".composer textarea").waitFor();
    const found: Record<string, string[]> = { empty: await findings(page) };

    ada.script({ thinking: "Well." }, RICH);
    await ask(page, "Show me everything");
    await answered(page);
    await page.locator(".katex").first().waitFor();
    found["conversation"] = await findings(page);
    ada.refuse(429, "used up");
    await ask(page, "More");
    await page.locator(".problem").waitFor();
    found["problem"] = await findings(page);

    for (const [name, opener] of [
      ["models", ".model-button"],
      ["path", ".path-button"],
    ] as const) {
      await page.click(opener);
      await page.locator("dialog").waitFor();
      found[name] = await findings(page);
      await page.keyboard.press("Escape");
    }
    if (size === "phone") {
      await page.click("[aria-label=Conversations].icon");
      await page.locator(".side.open").waitFor();
      found["drawer"] = await findings(page);
    } else {
      await page.click("[aria-label='Instructions and options']");
      found["settings"] = await findings(page);
      await page.keyboard.press("Escape");
      await page.click("[aria-label='Keyboard shortcuts']");
      found["keys"] = await findings(page);
      await page.keyboard.press("Escape");
    }
    await page.click("text=Kept in this browser only");
    await page.locator("dialog.data").waitFor();
    found["data"] = await findings(page);
    expect(found).toEqual(
      Object.fromEntries(Object.keys(found).map((name) => [name, []])),
    );
    await context.close();
  });

  test("nothing is found before there is a mesh", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${String(here.hub.said["url"])}/`);
    await page.locator(".arrival h1").waitFor();
    const owner = here.stage.pair("owner");
    const { mailbox } = await owner.until("waiting");
    const steps = [
      async () => undefined,
      () => page.click("text=Come in by digits"),
      async () => {
        await page.fill("[aria-label='The number']", String(mailbox));
        await page.keyboard.press("Enter");
        await page.locator(".six").waitFor();
      },
    ];
    for (const step of steps) {
      await step();
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        expect(await findings(page)).toEqual([]);
      }
    }
    await context.close();
    await owner.ends();
  });
});
