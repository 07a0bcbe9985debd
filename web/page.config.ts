/** How the page itself is built: `vite.config.ts`, and what only the page needs. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig, mergeConfig, type Plugin } from "vite";
import common from "./vite.config.ts";

const OUT = "../meshllm/page/built";

export default mergeConfig(
  common,
  defineConfig({
    base: "/",
    build: {
      outDir: OUT,
      rolldownOptions: {
        input: { index: "index.html", worker: "src/worker.ts" },
        output: {
          // A service worker's address is its scope's: it has no hash.
          entryFileNames: ({ name }) =>
            name === "worker" ? "worker.js" : "assets/[name]-[hash].js",
        },
      },
    },
    plugins: [onlyWoff2(), finish()],
  }),
);
/** KaTeX offers each font in three formats; every browser that can run us has woff2. */
function onlyWoff2(): Plugin {
  return {
    name: "only-woff2",
    enforce: "pre",
    transform(code, id) {
      if (!id.includes("katex") || !id.endsWith(".css")) return null;
      return code.replaceAll(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\([^)]*\)/g, "");
    },
  };
}

const COMPRESSED = /\.(?:js|css|html|svg|webmanifest|json)$/;

/**
 * After everything is written: the list of files that the service worker keeps, the page
 * as the gateway serves it (it says so itself, which saves a request), and everything
 * compressed, so that no server has to.
 */
function finish(): Plugin {
  return {
    name: "finish",
    apply: "build",
    writeBundle() {
      const files = readdirSync(OUT, { recursive: true, encoding: "utf8" }).filter(
        (name) => /\.\w+$/.test(name),
      );
      const html = readFileSync(join(OUT, "index.html"), "utf8");
      const gateway = html.replace('content="signal"', 'content="gateway"');
      if (gateway === html) throw new Error("index.html does not say who serves it");
      writeFileSync(join(OUT, "gateway.html"), gateway);
      const needed = files
        .filter((name) => /^(?:assets|icons)\/.*\.(?:js|css|svg|png|woff2)$/.test(name))
        .filter((name) => !/KaTeX|^assets\/decode-/.test(name)) // who scans is online
        .map((name) => `/${name.replaceAll("\\", "/")}`);
      const worker = join(OUT, "worker.js");
      const version = needed
        .join()
        .replaceAll(/[^\w-]/g, "")
        .slice(-4000);
      const before = readFileSync(worker, "utf8");
      const script = before
        .replace(/["'`]__FILES__["'`]/, JSON.stringify(needed))
        .replace("__VERSION__", hash(version));
      if (/__(?:FILES|VERSION)__/.test(script))
        throw new Error("worker.js was not filled in");
      writeFileSync(worker, script);
      for (const name of [...files, "gateway.html"]) {
        if (COMPRESSED.test(name)) compress(join(OUT, name));
      }
    },
  };
}

function hash(text: string): string {
  let value = 0;
  for (const char of text) value = (Math.imul(value, 31) + char.charCodeAt(0)) | 0;
  return (value >>> 0).toString(36);
}

function compress(path: string): void {
  const content = readFileSync(path);
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  writeFileSync(`${path}.br`, brotliCompressSync(content, { params: quality }));
  writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
}
