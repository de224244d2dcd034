// What Lighthouse says of the console's pages. JSON on its standard input has the browser's path and a user. Writes a line for each page:
// its name and the scores, 0 to 100. Fails if a score is below 100.

import { readFileSync } from "node:fs";
import { desktopConfig, startFlow } from "lighthouse";
import puppeteer from "puppeteer-core";

const ORIGIN = "http://localhost:8080";
const CATEGORIES = ["accessibility", "best-practices"];
const { browser: executablePath, user } = JSON.parse(readFileSync(0, "utf8"));
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
const config = { ...desktopConfig, settings: { ...desktopConfig.settings, onlyCategories: CATEGORIES } };
const flow = await startFlow(page, { config });

await flow.navigate(`${ORIGIN}/`, { name: "sign-in" });
await page.locator("button.primary").click();
await page.locator("input[name=username]").fill(user.email);
await page.locator("input[name=password]").fill(user.password);
// What the sign-in page still asks for is not the console's.
await page.waitForNetworkIdle();
// The session is in the page's memory alone, so the page with messages is reached by signing in.
await flow.startNavigation({ name: "messages" });
await page.keyboard.press("Enter");
await page.waitForSelector("tbody tr");
await flow.endNavigation();

const { steps } = await flow.createFlowResult();
await browser.close();
let failed = steps.length !== 2;
for (const { name, lhr } of steps) {
  const scores = CATEGORIES.map((it) => [it, Math.round((lhr.categories[it]?.score ?? 0) * 100)]);
  console.log(`${name}: ${scores.map(([it, score]) => `${it} ${score}`).join(", ")} (${lhr.finalDisplayedUrl})`);
  if (scores.every(([, score]) => score === 100)) continue;
  failed = true;
  for (const it of CATEGORIES) {
    for (const { id, weight } of lhr.categories[it]?.auditRefs ?? []) {
      const { score, title, details } = lhr.audits[id];
      if (weight > 0 && score !== null && score < 1) console.log(`  ${it}, ${id}: ${title}\n    ${JSON.stringify(details?.items)}`);
    }
  }
}
process.exit(failed ? 1 : 0);
