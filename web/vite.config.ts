/// <reference types="vitest/config" />
import { defineConfig } from "vite";

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
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    fileParallelism: false, // those with a browser and a mesh have a machine of two cores
  },
});
