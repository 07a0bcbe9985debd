/// <reference types="vitest/config" />
import { defineConfig } from "vite";

const PAGE = "test/page/*.test.ts"; // those with a browser and a mesh

// The built page lies in the Python package that serves it (not committed). Asset names
// carry a hash of their content, so that they may be cached for ever; nothing is inlined,
// because the page's Content-Security-Policy allows no inline script or style.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../meshllm/page/built",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  test: {
    testTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: "pure", include: ["test/**/*.test.ts"], exclude: [PAGE] },
      },
      // Two side by side: each waits for its own processes most of the time.
      {
        extends: true,
        test: {
          name: "page",
          include: [PAGE],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
