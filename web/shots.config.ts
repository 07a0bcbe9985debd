/** `npm run screenshots`: the pictures of the docs, and the icons, as a browser draws them. */

import { defineConfig, mergeConfig } from "vite";
import common from "./vite.config.ts";

export default mergeConfig(
  { ...common, test: {} },
  defineConfig({
    test: { include: ["test/page/screenshots.ts"], testTimeout: 180_000 },
  } as object),
);
