/** The page in a real browser, behind a real gateway of a real mesh. */

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
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
import { BREAK, makeGate, paced, ScriptedOllama } from "./ollama.ts";
import {
  answered,
  ask,
  type Let,
  lacking,
  launch,
  letIn,
  type Town,
  town,
  turns,
  type Visit,
  visit,
  watch,
} from "./stage.ts";

const MODELS = [
  { name: "llama3.2:latest", capabilities: ["completion", "tools"] },
  { name: "qwen3:8b", capabilities: ["completion", "thinking"] },
];
const SEER = { name: "gemma3:12b", capabilities: ["completion", "vision"] };
// Of red pixels, two by two.
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==",
  "base64",
);

describe.skipIf(lacking())("behind a gateway", { timeout: 60_000 }, () => {
  let ada: ScriptedOllama;
  let bob: ScriptedOllama;
  let here: Town;
  let browser: Browser;
  let known: Let;
  let seen: Visit;
  let page: Page;
  /** Console errors that a test expects: refused requests show there. */
  let expected: RegExp[];

  beforeAll(async () => {
    ada = await new ScriptedOllama(MODELS).start();
    bob = await new ScriptedOllama([...MODELS.slice(0, 1), SEER]).start();
    here = await town({ ada, bob });
    browser = await launch();
    known = await letIn(browser, here);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await here?.stage.close();
    await ada?.stop();
    await bob?.stop();
  });

  async function newLink(): Promise<string> {
    const status = JSON.parse(await here.stage.run("owner", "status", "--json"));
    return status.running.find((one: { page?: string }) => one.page).page;
  }

  beforeEach(async () => {
    expected = [];
    for (const one of [ada, bob]) one.clear();
    seen = await visit(browser, String(here.gateway.said["url"]), known);
    ({ page } = seen);
    page.setDefaultTimeout(15_000);
    // Everything is asked of ada, unless a test says otherwise.
    await page.click(".model-button");
    await page
      .locator(".models li", { hasText: "llama3.2" })
      .locator(".holder", { hasText: "ada" })
      .click();
  });
  afterEach(async () => {
    const errors = seen.errors.filter(
      (error) => !expected.some((one) => one.test(error)),
    );
    expect(errors).toEqual([]);
    expect(seen.strangers).toEqual([]);
    await seen.context.close();
  });

  test("an answer streams, and is told how it came", async () => {
    const gate = makeGate();
    ada.script("The answer ", "**begins**", gate, " and ends.");
    await ask(page, "What is it?");
    await page.locator(".prose strong", { hasText: "begins" }).waitFor();
    expect(await page.locator(".turn.theirs").getAttribute("aria-busy")).toBe("true");
    gate.open();
    expect(await answered(page)).toBe("The answer begins and ends.");
    expect(await page.locator(".theirs .carried").innerText()).toMatch(
      /llama3\.2 · ada · .*tok\/s · first word/,
    );
    await page.locator(".path-button .rtt").waitFor();
    expect(await page.locator(".path-button").innerText()).toMatch(
      /On this machine\s+ada\s+[\d.]+ ms/,
    );
    expect(page.url()).toMatch(/#\/[0-9a-f]{24}$/);
  });

  test("the link is gone from the address, and opens once", async () => {
    const link = await newLink();
    const first = await visit(browser, link);
    expect(first.page.url()).not.toContain("open=");
    await first.context.close();
    const context = await browser.newContext();
    const stranger = await context.newPage();
    await stranger.goto(link);
    expect(await stranger.locator("main").innerText()).toContain("used before");
    await context.close();
  });

  test("stop frees the model, keeps the words, and continue goes on", async () => {
    ada.script("Once upon", makeGate());
    await ask(page, "Tell a story");
    await page.locator(".prose", { hasText: "Once upon" }).waitFor();
    await page.keyboard.press("Escape");
    await ada.asked.at(-1)?.hungUp;
    expect(await answered(page)).toBe("Once upon");
    expect(await page.locator(".ending").innerText()).toContain("You stopped");
    ada.script(" a time.");
    await page.click("text=Continue");
    await page.locator(".prose", { hasText: "a time." }).waitFor();
    expect(await answered(page)).toBe("Once upon a time.");
    expect(ada.asked.at(-1)?.body.messages.at(-1)).toMatchObject({
      role: "assistant",
      content: "Once upon",
    });
  });

  test("answering again and editing make branches that can be turned to", async () => {
    ada.script("first");
    await ask(page, "One?");
    await answered(page);
    ada.script("second");
    await page.click("[aria-label='Answer again']");
    await page.locator(".prose", { hasText: "second" }).waitFor();
    await page.click("[aria-label='Previous answer']");
    await page.locator(".prose", { hasText: "first" }).waitFor();

    await page.locator(".turn.mine").hover();
    await page.click(".mine [aria-label=Edit]");
    ada.script("third");
    await page.fill(".editor textarea", "Another one?");
    await page.keyboard.press("Control+Enter");
    await page.locator(".prose", { hasText: "third" }).waitFor();
    expect(await turns(page)).toEqual(["Another one?", "third"]);
    await page.click("[aria-label='Previous question']");
    await page.locator(".prose", { hasText: "second" }).waitFor();
    expect(await turns(page)).toEqual(["One?", "second"]);
  });

  test("conversations are there after a reload, and can be found", async () => {
    ada.script("They purr, in a café.");
    await ask(page, "What do cats do?");
    await answered(page);
    await page.reload();
    await page.locator(".prose", { hasText: "They purr" }).waitFor();
    await page.keyboard.press("Control+Shift+O");
    await page.locator(".welcome").waitFor();
    await page.keyboard.press("Control+k");
    await page.keyboard.type("CAFE purr");
    await page.locator(".found mark", { hasText: "café" }).waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.locator(".prose", { hasText: "They purr" }).waitFor();
    await page.goBack();
    await page.locator(".welcome").waitFor();
  });

  test("an answer in mid-stream goes on by itself after a reload", async () => {
    ada.script(...paced("one two three four", 40), makeGate());
    await ask(page, "Count");
    await page.locator(".prose", { hasText: "four" }).waitFor();
    ada.script(" five six");
    await page.reload();
    await page.locator(".prose", { hasText: "six" }).waitFor();
    expect(await answered(page)).toBe("one two three four five six");
    expect(ada.asked.at(-1)?.body.messages.at(-1)).toMatchObject({
      role: "assistant",
      content: "one two three four",
    });
    expect(await page.locator(".branches").count()).toBe(0);
  });

  test("a picture goes to a model that sees", async () => {
    await page.setInputFiles("input[aria-label=Pictures]", {
      name: "red.png",
      mimeType: "image/png",
      buffer: PNG,
    });
    await page.locator(".chip.picture img").waitFor();
    expect(await page.locator(".note").innerText()).toContain("cannot see pictures");
    await page.click("text=Use gemma3:12b");
    bob.script("It is red.");
    await ask(page, "What colour is it?");
    expect(await answered(page)).toBe("It is red.");
    const [message] = bob.asked.at(-1)?.body.messages ?? [];
    const sent = Buffer.from(message?.images?.[0] ?? "", "base64");
    expect(sent.subarray(1, 4).toString()).toBe("PNG");
    await page.reload();
    const shown = page.locator(".attached img");
    await shown.waitFor();
    expect(
      await shown.evaluate((image: HTMLImageElement) => [
        image.naturalWidth,
        image.complete,
      ]),
    ).toEqual([2, true]);
  });

  test("pictures and texts may be pasted and dropped", async () => {
    const data = await page.evaluateHandle((png) => {
      const transfer = new DataTransfer();
      const bytes = Uint8Array.from(atob(png), (char) => char.charCodeAt(0));
      transfer.items.add(new File([bytes], "red.png", { type: "image/png" }));
      transfer.items.add(
        new File(["remember the milk"], "note.txt", { type: "text/plain" }),
      );
      transfer.items.add(new File([new Uint8Array([0, 159, 146, 150])], "blob.bin"));
      return transfer;
    }, PNG.toString("base64"));
    await page.dispatchEvent(".thread", "drop", { dataTransfer: data });
    await page.locator(".chip", { hasText: "note.txt" }).waitFor();
    await page.locator(".chip.picture").waitFor();
    await page.locator(".toast", { hasText: "blob.bin is neither" }).waitFor();
    await page.click("[aria-label='Remove red.png']");
    ada.script("Milk.");
    await ask(page, "What was it?");
    await answered(page);
    expect(ada.asked.at(-1)?.body.messages[0]?.content).toContain(
      "File: note.txt\n```\nremember the milk\n```",
    );
  });

  test("thoughts are folded, and instructions and options are kept", async () => {
    await page.click(".model-button");
    await page.locator(".model", { hasText: "qwen3:8b" }).click();
    await page.click("[aria-label='Instructions and options']");
    await page.fill(".settings textarea", "Be brief.");
    await page.selectOption(".settings select", "high");
    await page
      .locator(".settings label", { hasText: "Temperature" })
      .locator("input")
      .fill("0.5");
    await page.keyboard.press("Escape");
    ada.script({ thinking: "Let me see." }, { waitMs: 200 }, "Yes.");
    await ask(page, "Really?");
    expect(await answered(page)).toBe("Yes.");
    expect(ada.asked.at(-1)?.body).toMatchObject({
      model: "qwen3:8b",
      think: "high",
      options: { temperature: 0.5 },
      messages: [{ role: "system", content: "Be brief." }, { role: "user" }],
    });
    const thinking = page.locator(".thinking");
    expect(await thinking.locator(".thoughts").isVisible()).toBe(false);
    await thinking.locator("summary").click();
    expect(await thinking.locator(".thoughts").innerText()).toContain("Let me see.");
    await page.reload();
    await page.click("[aria-label='Instructions and options']");
    expect(await page.inputValue(".settings textarea")).toBe("Be brief.");
  });

  test("two tabs see one answer, and either stops it", async () => {
    ada.script("begun", makeGate());
    await ask(page, "In two tabs");
    await page.locator(".prose", { hasText: "begun" }).waitFor();
    const other = await seen.context.newPage();
    const second = watch(other, new URL(page.url()).origin);
    await other.goto(page.url());
    await other.locator(".prose", { hasText: "begun" }).waitFor();
    await other.click("[aria-label='Stop the answer']");
    await page.locator(".ending", { hasText: "You stopped" }).waitFor();
    await other.locator(".ending", { hasText: "You stopped" }).waitFor();
    await ada.asked.at(-1)?.hungUp;
    expect(second.errors).toEqual([]);
  });

  test("renaming, exporting, deleting with a way back, importing", async () => {
    ada.script("An answer.");
    await ask(page, "To be exported");
    await answered(page);
    const row = page.locator(".list li", { hasText: "To be exported" });
    await row.locator("[aria-haspopup=menu]").click();
    await page.click("role=menuitem[name='Rename']");
    await page.keyboard.type("Renamed");
    await page.keyboard.press("Enter");
    await page.locator(".list li", { hasText: "Renamed" }).waitFor();

    const menu = page.locator(".list li.current [aria-haspopup=menu]");
    await menu.click();
    const [markdown] = await Promise.all([
      page.waitForEvent("download"),
      page.click("text=Save as Markdown"),
    ]);
    expect(markdown.suggestedFilename()).toBe("Renamed.md");
    expect(await readFile(await markdown.path(), "utf8")).toContain(
      "# Renamed\n\n## You\n\nTo be exported",
    );

    await page.click("text=Kept in this browser only");
    const [all] = await Promise.all([
      page.waitForEvent("download"),
      page.click("text=Save all as one file"),
    ]);
    const file = join(here.stage.home(""), "all.json");
    await writeFile(file, await readFile(await all.path()));
    await page.keyboard.press("Escape");

    await menu.click();
    await page.click("role=menuitem[name='Delete']");
    await page.locator(".welcome").waitFor();
    await page.click("text=Undo");
    await page.locator(".prose", { hasText: "An answer." }).waitFor();

    await page.click("text=Kept in this browser only");
    await page.setInputFiles("input[aria-label='File with conversations']", file);
    await page.locator(".toast", { hasText: "added" }).waitFor();
    expect(await page.locator(".list li", { hasText: "Renamed" }).count()).toBe(2);
  });

  test("a queue shows the place in it", async () => {
    const gate = makeGate();
    ada.script("first", gate);
    const asking = fetch(`${String(here.gateway.said["url"])}/api/chat`, {
      method: "POST",
      body: JSON.stringify({
        model: "llama3.2@ada",
        messages: [{ role: "user", content: "x" }],
      }),
    });
    await asking; // its head is there: it has the only slot
    await page.click(".model-button");
    const holder = page
      .locator(".models li", { hasText: "llama3.2" })
      .locator(".holder");
    await holder.filter({ hasText: /ada[\s\S]*busy/ }).waitFor();
    await holder.filter({ hasText: /bob[\s\S]*free/ }).waitFor();
    await page.keyboard.press("Escape");
    ada.script("second");
    await ask(page, "Me too");
    await page.locator(".waiting", { hasText: "You are next in line" }).waitFor();
    gate.open();
    expect(await answered(page)).toBe("second");
  });

  test("an error of the model server is told, and asking again helps", async () => {
    expected = [/status of 500/];
    ada.refuse(500, "llama runner process has terminated");
    await ask(page, "Fail");
    const card = page.locator(".problem");
    await card.waitFor();
    expect(await card.innerText()).toContain("Llama runner process has terminated.");
    ada.script("Now it works.");
    await card.locator("text=Try again").click();
    await page.locator(".prose", { hasText: "Now it works." }).waitFor();
    expect(await page.locator(".problem").count()).toBe(0);
  });

  test("a quota that is used up is told, and another provider offered", async () => {
    expected = [/status of 429/];
    ada.refuse(429, "your 1000 tokens of today are used up");
    await ask(page, "More");
    const card = page.locator(".problem", { hasText: "Your quota is used up" });
    await card.waitFor();
    bob.script("From bob.");
    await card.locator("text=Ask bob").click();
    await page.locator(".prose", { hasText: "From bob." }).waitFor();
    expect(await page.locator(".theirs .carried").last().innerText()).toContain("bob");
  });

  test("what breaks off in the middle keeps its words", async () => {
    ada.script("Half of ", "it", { waitMs: 100 }, BREAK);
    await ask(page, "Break");
    await page.locator(".problem").waitFor();
    expect(await page.locator(".prose").innerText()).toBe("Half of it");
    await page.locator("text=Continue the answer").waitFor();
  });

  test("code is copied, tables and formulas are shown", async () => {
    await seen.context.grantPermissions(["clipboard-read", "clipboard-write"]);
    ada.script(
      "```js\nlet x = 1;\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n$$\\frac{a}{b}$$\n\nand $x^2$",
    );
    await ask(page, "Show");
    await answered(page);
    await page.locator(".katex .mfrac").waitFor();
    expect(await page.locator(".prose td").allInnerTexts()).toEqual(["1", "2"]);
    await page.click(".code >> text=Copy");
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(
      "let x = 1;",
    );
  });

  test("formulas that came before their library are shown as formulas, too", async () => {
    ada.script(
      "With $n$ of $\\log_2 n$ it ",
      ...paced("goes on. ".repeat(40), 60),
      "\n\nand $m$.",
    );
    await ask(page, "Formulas");
    await page.locator(".prose .katex").first().waitFor();
    await answered(page);
    expect(await page.locator(".prose .katex").count()).toBe(3);
    expect(await page.locator(".prose code").count()).toBe(0);
  });

  test("everything can be done by keyboard", async () => {
    ada.script("By keyboard.");
    await page.keyboard.press("Shift+Escape");
    await page.keyboard.type("Hello");
    await page.keyboard.press("Enter");
    expect(await answered(page)).toBe("By keyboard.");
    await page.keyboard.press("Control+Shift+L");
    await page.locator("dialog.path-panel").waitFor();
    await page.locator("dialog :focus").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("Control+/");
    await page.locator("dialog.keys").waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("Shift+Escape");
    await page.keyboard.press("ArrowUp");
    await page.locator(".editor textarea:focus").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".editor").waitFor({ state: "detached" });
  });

  test("the answer is read aloud in sentences, not in tokens", async () => {
    const gate = makeGate();
    ada.script("One whole sentence. ", "And half of", gate, " another one.");
    await ask(page, "Speak");
    const live = page.locator("[aria-live=polite]").last();
    await expect
      .poll(() => live.innerText(), { timeout: 10_000 })
      .toContain("One whole sentence.");
    expect(await live.innerText()).not.toContain("And half of");
    gate.open();
    await expect
      .poll(() => live.innerText(), { timeout: 10_000 })
      .toContain("And half of another one.");
  });

  test("without a network what is kept can be read", async () => {
    ada.script("Kept for later.");
    await ask(page, "Keep this");
    await answered(page);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    expected = [/Failed to load|ERR_/];
    await seen.context.setOffline(true);
    await page.reload();
    await page.locator(".prose", { hasText: "Kept for later." }).waitFor();
    await page.locator(".banner", { hasText: "does not answer" }).waitFor();
  });

  test("a browser that was let in stays so when the gateway starts anew", async () => {
    const again = await seen.context.newPage();
    await again.goto(`${String(here.gateway.said["url"])}/`);
    await again.locator(".composer").waitFor();
    const stranger = await browser.newContext();
    const outside = await stranger.newPage();
    const answer = await outside.goto(`${String(here.gateway.said["url"])}/`);
    expect(answer?.status()).toBe(401);
    expect(await outside.locator("main").innerText()).toContain("meshllm status");
    await stranger.close();
  });
});
