/** Coming into a mesh without a link to click: by digits, and by the camera. */

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
import { film } from "./camera.ts";
import { ScriptedOllama } from "./ollama.ts";
import {
  answered,
  ask,
  lacking,
  launch,
  type Pair,
  type Town,
  town,
  watch,
} from "./stage.ts";

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

describe.skipIf(lacking())("coming in", { timeout: 90_000 }, () => {
  let ada: ScriptedOllama;
  let here: Town;
  let browser: Browser;
  let page: Page;
  let seen: ReturnType<typeof watch>;

  beforeAll(async () => {
    ada = await new ScriptedOllama([{ name: "llama3.2:latest" }]).start();
    here = await town({ ada });
    const path = here.stage.path("camera.y4m");
    const words = ["invite", "--name", "scanned", "--qr"];
    await film(path, await here.stage.run("owner", ...words));
    browser = await launch(
      "--use-fake-device-for-media-stream",
      `--use-file-for-fake-video-capture=${path}`,
    );
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await here?.stage.close();
    await ada?.stop();
  });
  beforeEach(async () => {
    page = await (await browser.newContext(PHONE)).newPage();
    page.setDefaultTimeout(20_000);
    seen = watch(page, String(here.hub.said["url"]));
    await page.goto(`${String(here.hub.said["url"])}/`);
    await page.locator(".arrival h1").waitFor();
  });
  afterEach(async () => {
    expect(seen.errors).toEqual([]);
    expect(seen.strangers).toEqual([]);
    await page.context().close();
  });

  /** By the keyboard alone. */
  async function types(digits: string): Promise<void> {
    await page.locator(".digits input:focus").waitFor();
    await page.keyboard.type(digits);
    await page.keyboard.press("Enter");
  }

  /** The owner's machine and the page in one mailbox; the code that the page shows. */
  async function met(...words: string[]): Promise<{ owner: Pair; code: string }> {
    const owner = here.stage.pair("owner", ...words);
    const { mailbox } = await owner.until("waiting");
    await page.click("text=Come in by digits");
    await types(String(mailbox));
    const code = await page.locator(".six [aria-hidden]").innerText();
    expect(code).toMatch(/^\d{3} \d{3}$/);
    await owner.until("arrived");
    return { owner, code };
  }

  const problem = () => page.locator(".problem p").innerText();

  test("six digits go to the owner's machine, two come back, and it asks", async () => {
    const { owner, code } = await met("--role", "member", "--name", "phone");
    owner.type(code);
    await types(String((await owner.until("receipt"))["receipt"]));
    expect(await owner.until("paired")).toMatchObject({
      name: "phone",
      role: "member",
      sure: true,
    });
    await page.locator(".composer textarea").waitFor();
    ada.script("Let in by digits.");
    await ask(page, "Hello?");
    expect(await answered(page)).toBe("Let in by digits.");
    await page.reload();
    ada.script("Still in.");
    await ask(page, "And now?");
    expect(await answered(page)).toBe("Still in.");
  });

  test("what goes wrong is said, and can be tried again at once", async () => {
    const first = await met();
    first.owner.type(first.code.replace(/\d$/, (last) => String((+last + 1) % 10)));
    expect(await first.owner.ends()).toContain("are not the digits");
    expect(await problem()).toMatch(/other digits were typed.*Start again/s);

    await types("100"); // foreseen by nobody, and open for nobody
    await page.locator(".problem", { hasText: "no mailbox 100" }).waitFor();

    await page.click("text=I have a link");
    const second = await met();
    const receipt = second.owner.until("receipt");
    second.owner.type(second.code);
    const right = Number((await receipt)["receipt"]);
    await types(String((right + 1) % 100).padStart(2, "0"));
    expect(await problem()).toMatch(/not the two digits.*Start again/s);
    expect(await second.owner.ends()).toContain("typed on the other machine are wrong");

    await page.click("text=I have a link");
    const third = await met();
    await third.owner.ends("SIGINT");
    expect(await problem()).toContain("stopped on the owner’s machine");

    await page.click("text=I have a link");
    const fourth = await met();
    await page.click("text=Cancel");
    expect(await fourth.owner.ends()).toContain("stopped on the other machine");
    await page.locator("[aria-label='Invitation link']").waitFor();
  });

  test("whoever waits for the owner's machine can stop", async () => {
    const owner = here.stage.pair("owner");
    const { mailbox } = await owner.until("waiting");
    owner.stops();
    await page.click("text=Come in by digits");
    await types(String(mailbox));
    await page.locator("text=Meeting the owner").waitFor();
    await page.click("text=Cancel");
    await page.locator("[aria-label='Invitation link']").waitFor();
    owner.goesOn();
    await owner.ends("SIGINT");
  });

  test("a link that does not hold costs nobody the mesh that they are in", async () => {
    const invite = (name: string) => here.stage.run("owner", "invite", "--name", name);
    const opens = async (link: string) => {
      await page.goto("about:blank"); // else only the fragment changes
      await page.goto(link);
    };
    await opens(await invite("mover"));
    await page.locator(".composer textarea").waitFor();
    const used = await invite("faster");
    await here.stage.run("faster", "join", used);
    await opens(used);
    await page.click("text=Leave it and use the link");
    await page.locator(".problem").waitFor();
    expect(await problem()).toMatch(/used/);
    await page.getByRole("button", { name: "Stay" }).click();
    await page.locator(".composer textarea").waitFor();
    ada.script("Still here.");
    await ask(page, "Hello?");
    expect(await answered(page)).toBe("Still here.");
  });

  test("a camera that is not allowed is told, with what else to do", async () => {
    await page.click("text=Scan its QR code");
    const said = page.locator(".scanner [role=alert]");
    expect(await said.innerText()).toMatch(/may not use the camera.*paste the link/);
    await page.click("text=Cancel");
    await page.locator("text=Scan its QR code").waitFor();
  });

  test("an invitation's QR code before the camera is all it takes", async () => {
    await page.context().grantPermissions(["camera"]);
    const fetched = page.waitForRequest(/\/assets\/decode-/); // headless has no reader
    await page.click("text=Scan its QR code");
    await fetched;
    await page.locator(".composer textarea").waitFor();
    ada.script("Seen and let in.");
    await ask(page, "Hello?");
    expect(await answered(page)).toBe("Seen and let in.");
  });
});
