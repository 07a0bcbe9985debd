/** The page as a full peer: from the signaling server, by a link, straight to a provider. */

import type { Browser, Page } from "playwright-core";
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  test,
} from "vitest";
import { makeGate, paced, ScriptedOllama } from "./ollama.ts";
import { answered, ask, lacking, launch, type Town, town, watch } from "./stage.ts";

const PHONE = {
  viewport: { width: 390, height: 844 },
  hasTouch: true,
  isMobile: true,
  deviceScaleFactor: 2,
};

describe.skipIf(lacking())("as a peer of the mesh", { timeout: 90_000 }, () => {
  let ada: ScriptedOllama;
  let here: Town;
  let browser: Browser;
  let page: Page;
  let seen: ReturnType<typeof watch>;
  let expected: RegExp[];
  let guests = 0;

  beforeAll(async () => {
    ada = await new ScriptedOllama([{ name: "llama3.2:latest" }]).start();
    here = await town({ ada });
    browser = await launch();
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await here?.stage.close();
    await ada?.stop();
  });
  beforeEach(async () => {
    expected = [];
    ada.clear();
    const context = await browser.newContext(PHONE);
    page = await context.newPage();
    page.setDefaultTimeout(20_000);
    seen = watch(page, String(here.hub.said["url"]));
  });
  afterEach(async () => {
    expect(
      seen.errors.filter((error) => !expected.some((one) => one.test(error))),
    ).toEqual([]);
    expect(seen.strangers).toEqual([]);
    await page.context().close();
  });

  /** Each is made while the test before it runs. */
  let next: Promise<string> | null = null;
  const make = (...words: string[]) =>
    here.stage.run("owner", "invite", "--name", `guest${guests++}`, ...words);
  async function invite(): Promise<string> {
    const link = await (next ?? make());
    next = make();
    next.catch(() => undefined); // the one that asks for it hears
    return link;
  }

  async function joins(link: string): Promise<void> {
    await page.goto(link);
    await page.locator(".composer textarea").waitFor();
  }

  test("a link is all it takes: it joins, asks and shows the path", async () => {
    await joins(await invite());
    expect(page.url()).not.toContain("#v1");
    expect(await page.evaluate(() => history.length)).toBeLessThanOrEqual(2);
    ada.script(...paced("Straight from ada, in a stream.", 60));
    await ask(page, "Hello?");
    expect(await answered(page)).toBe("Straight from ada, in a stream.");
    await page.locator(".path-button .rtt").waitFor();
    expect(await page.locator(".path-button").innerText()).toMatch(/Here\s+[\d.]+ ms/);
    await page.click(".path-button");
    const panel = page.locator(".path-panel");
    expect(await panel.innerText()).toMatch(
      /ada[\s\S]*Certificate\s*seen, and proved by both keys/,
    );
    expect(await panel.innerText()).toContain("It came from the signaling server");
  });

  test("after a reload it is still in, and its conversation there", async () => {
    await joins(await invite());
    ada.script("Remembered.");
    await ask(page, "Remember");
    await answered(page);
    await page.reload();
    await page.locator(".prose", { hasText: "Remembered." }).waitFor();
    ada.script("Again.");
    await ask(page, "Again?");
    expect(await answered(page)).toBe("Again.");
  });

  test("a reload in mid-answer loses nothing: it goes on and completes", async () => {
    await joins(await invite());
    const words = Array.from({ length: 120 }, (_, n) => `w${n}`).join(" ");
    ada.script(...paced(words, 30));
    await ask(page, "Count");
    await page.locator(".prose", { hasText: "w20" }).waitFor();
    await page.reload();
    await page.locator(".prose", { hasText: "w119" }).waitFor();
    expect(await answered(page)).toBe(words);
    expect(ada.asked.at(-1)?.body.messages.at(-1)?.content).toBe("Count");
  });

  test("stop frees the model at the other end", async () => {
    await joins(await invite());
    ada.script("begun", makeGate());
    await ask(page, "Go on");
    await page.locator(".prose", { hasText: "begun" }).waitFor();
    await page.click("[aria-label='Stop the answer']");
    await ada.asked.at(-1)?.hungUp;
    expect(await answered(page)).toBe("begun");
  });

  test("a link that was used is refused, with a sentence", async () => {
    const link = await invite();
    await here.stage.run(`other${guests}`, "join", link);
    await page.goto(link);
    const problem = page.locator(".problem");
    await problem.waitFor();
    expect(await problem.innerText()).toMatch(/used/);
    expect(page.url()).not.toContain("#v1");
  });

  test("a link that has expired is refused, with a sentence", async () => {
    const link = await make("--expires", "2d");
    await page.clock.setSystemTime(Date.now() + 3 * 86_400_000);
    await page.goto(link);
    const problem = page.locator(".problem");
    await problem.waitFor();
    expect(await problem.innerText()).toMatch(/expired|ended|no longer|not there/i);
  });

  test("without a link it asks for one, which may be pasted", async () => {
    await page.goto(`${String(here.hub.said["url"])}/`);
    await page.locator(".arrival h1").waitFor();
    await page.fill(".invitation input", await invite());
    await page.click("[aria-label='Come in']");
    await page.locator(".composer textarea").waitFor();
  });

  test("a second link asks whether to leave the first mesh", async () => {
    await joins(await invite());
    const second = await invite();
    await page.goto("about:blank");
    await page.goto(second);
    await page.click("role=button[name='Stay']");
    await page.locator(".composer textarea").waitFor();
    await page.click("[aria-label=Conversations].icon");
    await page.click("text=Kept in this browser only");
    await page.click("text=Leave this mesh");
    await page.click("text=Yes, leave this mesh");
    await page.locator(".arrival h1").waitFor();
  });

  test("a provider that is killed is told, with what can be done", async () => {
    const bob = await new ScriptedOllama([
      { name: "only-bob:latest" },
      { name: "llama3.2:latest" },
    ]).start();
    await here.stage.joins("bob");
    const share = await here.stage.share("bob", bob);
    try {
      await joins(await invite());
      await page.click(".model-button");
      await page.locator(".model", { hasText: "only-bob" }).click();
      bob.script("Half of it", makeGate());
      await ask(page, "Answer");
      await page.locator(".prose", { hasText: "Half of it" }).waitFor();
      await share.kill();
      const card = page.locator(".problem", { hasText: "The provider went away" });
      await card.waitFor({ timeout: 60_000 });
      expect(await page.locator(".prose").innerText()).toBe("Half of it");
      await page.locator(".note", { hasText: "only-bob is away" }).waitFor();
    } finally {
      await bob.stop();
    }
  });

  test("two tabs of one browser ask side by side", async () => {
    await joins(await invite());
    const other = await page.context().newPage();
    const second = watch(other, String(here.hub.said["url"]));
    await other.goto(`${String(here.hub.said["url"])}/`);
    await other.locator(".composer textarea").waitFor();
    ada.script("To the first.");
    await ask(page, "First");
    expect(await answered(page)).toBe("To the first.");
    ada.script("To the second.");
    await ask(other, "Second");
    expect(await answered(other)).toBe("To the second.");
    expect(second.errors).toEqual([]);
  });

  test("an answer of a tab that is closed goes on in the tab that shows it", async () => {
    await joins(await invite());
    const words = Array.from({ length: 90 }, (_, n) => `w${n}`).join(" ");
    ada.script(...paced(words, 30));
    const before = ada.asked.length;
    await ask(page, "Count");
    await page.locator(".prose", { hasText: "w9" }).waitFor();
    const other = await page.context().newPage();
    const second = watch(other, String(here.hub.said["url"]));
    await other.goto(page.url());
    await other.locator(".prose", { hasText: "w9" }).waitFor();
    await page.close();
    page = other;
    await other.locator(".prose", { hasText: "w89" }).waitFor();
    expect(await answered(other)).toBe(words);
    expect(ada.asked.length).toBe(before + 1);
    expect(second.errors).toEqual([]);
  });

  // The last one: the signaling server does not come back.
  test("without the signaling server live sessions go on, and what is kept is there", async () => {
    await joins(await invite());
    ada.script("Connected.");
    await ask(page, "Before");
    await answered(page);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    expected = [/WebSocket|Failed to load|ERR_/];
    await here.hub.kill();
    await page.locator(".banner").waitFor();
    ada.script("Still here.");
    await ask(page, "After");
    expect(await answered(page)).toBe("Still here.");
    await page.reload(); // from what its worker keeps
    await page.locator(".prose", { hasText: "Still here." }).waitFor();
    expect(await page.locator(".path-button").innerText()).toContain("Offline");
  });
});
