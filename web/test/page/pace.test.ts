/**
 * How heavy the page is, and how smoothly it shows 200 tokens a second: no frame over
 * 50 ms. The figures go to `PACE` (a file), for docs/page.md.
 */

import { writeFile } from "node:fs/promises";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { paced, ScriptedOllama } from "./ollama.ts";
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
import { LONG } from "./words.ts";

const BUDGET_BYTES = 200_000;
const FRAME_MS = 50;

interface Load {
  readonly bytes: number;
  readonly usableMs: number;
  readonly paintMs: number;
}

interface Event {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

describe.skipIf(lacking())("pace", { timeout: 180_000 }, () => {
  let ada: ScriptedOllama;
  let here: Town;
  let browser: Browser;
  let known: Let;
  const figures: Record<string, unknown> = {};

  beforeAll(async () => {
    ada = await new ScriptedOllama([{ name: "llama3.2:latest" }]).start();
    here = await town({ ada });
    browser = await launch();
    known = await letIn(browser, here);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await here?.stage.close();
    await ada?.stop();
    if (process.env["PACE"])
      await writeFile(process.env["PACE"], JSON.stringify(figures, null, 2));
  });

  async function load(url: string, ready: string): Promise<Load> {
    const context = await browser.newContext({ ...known, serviceWorkers: "block" });
    const page = await context.newPage();
    const session = await context.newCDPSession(page);
    await session.send("Network.enable");
    let bytes = 0;
    session.on("Network.loadingFinished", ({ encodedDataLength }) => {
      bytes += encodedDataLength;
    });
    await page.goto(url);
    await page.locator(ready).waitFor();
    const usableMs = await page.evaluate(() => Math.round(performance.now()));
    const paint = await page.waitForFunction(
      () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
    );
    const paintMs = Math.round(Number(await paint.jsonValue()));
    await page.waitForLoadState("networkidle").catch(() => undefined);
    await context.close();
    return { bytes, usableMs, paintMs };
  }

  test("the first screen fits its budget, from the gateway and from the server", async () => {
    const gateway = await load(String(here.gateway.said["url"]), ".composer textarea");
    const server = await load(`${String(here.hub.said["url"])}/`, ".arrival h1");
    figures["gateway"] = gateway;
    figures["signal"] = server;
    expect(gateway.bytes).toBeLessThan(BUDGET_BYTES);
    expect(server.bytes).toBeLessThan(BUDGET_BYTES);
  });

  /** Tasks of the page's main thread, by the processor's time they took: what other
   * programs of this machine do meanwhile does not count. */
  function tasksOf(trace: Buffer, mark: string): number[] {
    const { traceEvents } = JSON.parse(trace.toString()) as { traceEvents: Event[] };
    const threads = new Map<string, Event[]>();
    for (const event of traceEvents) {
      const id = `${event.pid} ${event.tid}`;
      threads.set(id, [...(threads.get(id) ?? []), event]);
    }
    const main =
      [...threads.values()].find((events) =>
        events.some(({ name }) => name === mark),
      ) ?? [];
    return main
      .filter(({ name, ph }) => name.endsWith("RunTask") && ph === "X")
      .map(({ tdur }) => (tdur ?? 0) / 1000);
  }

  test.each(["formatted text", "one block of code"])(
    "200 tokens a second of %s leave no long task",
    async (what) => {
      const context = await browser.newContext(known);
      const page = await context.newPage();
      await page.goto(String(here.gateway.said["url"]));
      await page.locator(".composer textarea").waitFor();
      // Formulas' library is fetched once, by an answer before the one that counts.
      ada.script("$x$");
      await ask(page, "Warm up");
      await answered(page);
      await page.locator(".katex").waitFor();
      const text =
        what === "formatted text"
          ? LONG
          : `\`\`\`python\n${"def f(x):\n    return [g(y) for y in x]  # a comment\n\n".repeat(160)}`;
      const steps = paced(text, 200).slice(0, 2 * 1600);
      ada.script(...steps);
      await page.fill(".composer textarea", "Everything");
      await browser.startTracing(page, {
        categories: ["toplevel", "blink.user_timing"],
      });
      await page.evaluate(() => {
        performance.mark("pace-of-this-page");
        const gaps: number[] = [];
        Object.assign(globalThis, { __gaps: gaps });
        let last = performance.now();
        const frame = (now: number) => {
          gaps.push(now - last);
          last = now;
          requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
      });
      await page.click("[aria-label=Send]");
      await page.locator(".turn.theirs[aria-busy=true]").waitFor();
      await page
        .locator(".turn.theirs[aria-busy=true]")
        .waitFor({ state: "detached", timeout: 120_000 });
      // Between two frames, by the clock on the wall: others' work on this machine counts,
      // so that it is told and not judged.
      const gaps = await page.evaluate(() =>
        (globalThis as unknown as { __gaps: number[] }).__gaps.slice(2),
      );
      gaps.sort((a, b) => b - a);
      const tasks = tasksOf(await browser.stopTracing(), "pace-of-this-page").sort(
        (a, b) => b - a,
      );
      await context.close();
      const tokens = steps.length / 2;
      const total = tasks.reduce((sum, ms) => sum + ms, 0);
      figures[what] = {
        tokens,
        longestMs: tasks.slice(0, 5).map(Math.round),
        over16Ms: tasks.filter((ms) => ms > 16.7).length,
        frames: gaps.length,
        framesOver50Ms: gaps.filter((ms) => ms > FRAME_MS).length,
        longestFramesMs: gaps.slice(0, 5).map(Math.round),
        msPerToken: Math.round((total / tokens) * 100) / 100,
      };
      expect(tasks.length).toBeGreaterThan(tokens / 10);
      expect(tasks[0]).toBeLessThan(FRAME_MS);
    },
  );
});
