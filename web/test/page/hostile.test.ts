/** A model that means harm: nothing of what it writes runs, and no request leaves. */

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CORPUS } from "./corpus.ts";
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
  watch,
} from "./stage.ts";

interface Caught {
  readonly ran: boolean;
  readonly violations: string[];
  readonly dialogs: number;
}

describe.skipIf(lacking())("a hostile model", { timeout: 120_000 }, () => {
  let ada: ScriptedOllama;
  let here: Town;
  let browser: Browser;
  let known: Let;

  beforeAll(async () => {
    const name = `evil"><img src=x onerror=window.__ran=1>:latest`;
    ada = await new ScriptedOllama([
      { name: "llama3.2:latest", parameters: "<b>3</b>" },
      { name },
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

  test("its whole corpus is shown as text, streamed, at once and after a reload", async () => {
    const context = await browser.newContext(known);
    await context.addInitScript(() => {
      const caught = { violations: [] as string[] };
      Object.assign(globalThis, { __caught: caught });
      document.addEventListener("securitypolicyviolation", (event) => {
        caught.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    const page = await context.newPage();
    let dialogs = 0;
    page.on("dialog", (dialog) => {
      dialogs += 1;
      void dialog.dismiss();
    });
    const { errors, strangers } = watch(page, String(here.gateway.said["url"]));
    await page.goto(String(here.gateway.said["url"]));
    await page.locator(".composer textarea").waitFor();
    await page.click(".model-button");
    await page.locator(".model", { hasText: "llama3.2" }).click();

    const caught = (): Promise<Caught> =>
      page.evaluate(() => {
        const world = globalThis as {
          __ran?: unknown;
          __caught?: { violations: string[] };
        };
        return {
          ran: "__ran" in world,
          violations: world.__caught?.violations ?? [],
          dialogs: 0,
        };
      });
    const clean = { ran: false, violations: [], dialogs: 0 };

    // Each alone, in small pieces; then all of them in one answer.
    for (let at = 0; at < CORPUS.length; at += 12) {
      const part = CORPUS.slice(at, at + 12).join("\n\n");
      ada.script(...(part.match(/[\s\S]{1,7}/g) ?? []));
      await ask(page, `<img src=x onerror=window.__ran=1> ${at}`);
      await answered(page);
    }
    ada.script({ thinking: CORPUS.join("\n") }, CORPUS.join("\n\n"));
    await ask(page, "All of it");
    await answered(page);
    for (const details of await page.locator("details").all())
      await details.evaluate((d: HTMLDetailsElement) => (d.open = true));
    await page.waitForTimeout(500); // for what would run late: formulas, pictures, handlers
    expect(await caught()).toEqual(clean);

    await page.reload();
    await page.locator(".turn.theirs").last().waitFor();
    await page.waitForTimeout(500);
    expect(await caught()).toEqual(clean);

    // Nothing that could run or fetch is in the document, wherever it came from.
    const inside = await page.evaluate(() => {
      const thread = document.querySelector("#thread");
      const all = [...(thread?.querySelectorAll("*") ?? [])];
      return {
        elements: all
          .filter((one) =>
            /^(script|iframe|object|embed|link|style|meta|base|form|video|audio|source|template|img)$/i.test(
              one.localName,
            ),
          )
          .map((one) => one.localName),
        handlers: all
          .flatMap((one) => [...one.attributes])
          .filter(({ name }) => name.startsWith("on")).length,
        links: all
          .filter((one) => one.localName === "a")
          .map((one) => ({
            href: one.getAttribute("href"),
            rel: one.getAttribute("rel"),
            target: one.getAttribute("target"),
          })),
        ids: all
          .filter((one) => one.id !== "" && !/^m-[0-9a-f]{24}$/.test(one.id))
          .map((one) => one.id),
      };
    });
    expect(inside.elements).toEqual([]);
    expect(inside.handlers).toBe(0);
    expect(inside.ids).toEqual([]);
    expect(inside.links.length).toBeGreaterThan(3);
    for (const { href, rel, target } of inside.links) {
      expect(href).toMatch(/^(https?:\/\/|mailto:)/);
      expect(rel).toBe("noopener noreferrer nofollow");
      expect(target).toBe("_blank");
    }
    expect({ dialogs, errors, strangers }).toEqual({
      dialogs: 0,
      errors: [],
      strangers: [],
    });
    await context.close();
  });

  test("hostile names of models are text as well", async () => {
    const context = await browser.newContext(known);
    const page = await context.newPage();
    const { errors, strangers } = watch(page, String(here.gateway.said["url"]));
    await page.goto(String(here.gateway.said["url"]));
    await page.locator(".composer textarea").waitFor();
    await page.click(".model-button");
    await page.locator(".model", { hasText: "evil" }).click();
    ada.script("Hm.");
    await ask(page, "Who are you?");
    await answered(page);
    expect(await page.evaluate(() => "__ran" in globalThis)).toBe(false);
    expect({ errors, strangers }).toEqual({ errors: [], strangers: [] });
    await context.close();
  });

  test("the page's policy stops what should ever get through", async () => {
    const context = await browser.newContext(known);
    const page = await context.newPage();
    await page.goto(String(here.gateway.said["url"]));
    await page.locator(".composer textarea").waitFor();
    const blocked = await page.evaluate(async () => {
      const tries: Record<string, string> = {};
      const attempt = async (name: string, work: () => unknown) => {
        try {
          await work();
          tries[name] = "went through";
        } catch {
          tries[name] = "blocked";
        }
      };
      await attempt("html", () => {
        document.body.innerHTML = "<b>x</b>";
      });
      await attempt("handler", () => {
        const button = document.createElement("button");
        button.setAttribute("onclick", "window.__ran = 1");
        button.click();
        if (!("__ran" in globalThis)) throw new Error("it did not run");
      });
      await attempt("fetch", () => fetch("https://evil.example/"));
      await attempt("script", () => {
        document.createElement("script").src = "https://evil.example/x.js";
      });
      return tries;
    });
    expect(blocked).toEqual({
      html: "blocked",
      handler: "blocked",
      fetch: "blocked",
      script: "blocked",
    });
    await context.close();
  });
});
