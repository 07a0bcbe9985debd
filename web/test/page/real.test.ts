/** A real model: by a link, from a browser, to the embedded server of another node. */

import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { answered, ask, lacking, launch, Stage, watch } from "./stage.ts";

const CACHE = process.env["MESHLLM_CACHE"] ?? join(homedir(), ".cache/meshllm");
const cannot = lacking() ?? (existsSync(CACHE) ? null : CACHE);

test.skipIf(cannot)(
  "a friend's model answers in the browser",
  async () => {
    const stage = await Stage.open();
    const browser = await launch();
    try {
      const hub = await stage.serve("hub", "signal", "--port", "0");
      await stage.run("owner", "init", String(hub.said["link"]));
      await stage.serve("owner", "share", "--backend", "embedded", "--no-lan");
      const link = await stage.run("owner", "invite", "--name", "phone");
      const page = await browser.newPage();
      page.setDefaultTimeout(90_000);
      const { errors } = watch(page, String(hub.said["url"]));
      await page.goto(link);
      await page.locator(".composer textarea").waitFor();
      await ask(page, "Name three colours.");
      expect((await answered(page)).length).toBeGreaterThan(3);
      const told = await page.locator(".theirs .carried").innerText();
      expect(told).toMatch(/tok\/s · first word/);
      expect(errors).toEqual([]);
    } finally {
      await browser.close();
      await stage.close();
    }
  },
  180_000,
);
