// How fast the list of messages is. JSON on its standard input has the browser's path, a user and how many messages the user's institute
// has. Writes the times.

import { readFileSync } from "node:fs";
import { launch, open, signIn } from "./browser.mjs";

const { browser: path, user, records } = JSON.parse(readFileSync(0, "utf8"));
const browser = await launch(path);
const middle = (numbers) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

// From the return of the browser to an empty page, with nothing cached, to the first row.
const firsts = [];
let last;
for (let run = 0; run < 5; run++) {
  await last?.context.close();
  last = await open(browser);
  await last.page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (document.querySelector("tbody tr") === null) return;
      globalThis.firstRow = performance.now();
      observer.disconnect();
    }).observe(document, { subtree: true, childList: true });
  });
  await signIn(last, user);
  await last.page.waitForFunction(() => globalThis.firstRow !== undefined);
  firsts.push(await last.page.evaluate(() => globalThis.firstRow));
}
console.log(`first list: ${Math.round(middle(firsts))} ms in the middle of ${firsts.length} cold loads (${firsts.map(Math.round).join(", ")})`);

const { page } = last;
// Those out of view are not there.
const rows = () => page.evaluate(() => document.querySelector("table.messages").ariaRowCount - 1);
for (let shown = await rows(); shown < records; ) {
  await page.getByRole("button", { name: "Show more" }).click();
  await page.waitForFunction((n) => document.querySelector("table.messages").ariaRowCount - 1 > n, shown);
  shown = await rows();
}
for (const [what, pixels] of [["a line a frame", 40], ["a page a frame", 700]]) {
  const frames = await page.evaluate(
    (pixels) =>
      new Promise((done) => {
        const [times, end] = [[], performance.now() + 5000];
        scrollTo(0, 0);
        let before;
        const frame = (now) => {
          if (before !== undefined) times.push(now - before);
          before = now;
          scrollBy(0, pixels);
          if (now < end) requestAnimationFrame(frame);
          else done(times);
        };
        requestAnimationFrame(frame);
      }),
    pixels,
  );
  const sum = frames.reduce((a, b) => a + b, 0);
  const worst = frames.sort((a, b) => a - b)[Math.floor(frames.length * 0.95)];
  console.log(`scrolling ${await rows()} rows, ${what}: ${((frames.length / sum) * 1000).toFixed(1)} frames a second, 95 of 100 within ${worst.toFixed(1)} ms`);
}
await browser.close();
