import { defineConfig } from "vite";

export default defineConfig({
  build: {
    target: "es2022",
    // The policy of the page forbids data: addresses, and scripts and styles in the page itself.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
