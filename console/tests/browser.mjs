// A browser with the console in it, and what must hold of every page of it.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

export const ORIGIN = "http://localhost:8080";
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const launch = (executablePath) => chromium.launch({ executablePath, headless: true, args: FLAGS });

/** Answers of 500 and above, and requests without an answer: what to look at first if a case fails. */
export const failures = [];

/** A window of its own. Everything that its page complains of is kept: a violated policy, an error, any word on the console. */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1280, height: 800 }, ...options });
  // Each wait is for a condition. Other tests run beside this one.
  context.setDefaultTimeout(75_000);
  const page = await context.newPage();
  const complaints = [];
  const addresses = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // The browser's own line about an answer that is no success. The sign-in pages and the browser's own viewer are not ours; what a
    // sign-in page said may arrive when the browser has left it.
    const from = message.location().url.replace(/^blob:/, "") || page.url();
    if (from.startsWith(ORIGIN) && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
  });
  const called = (request) => `${request.method()} ${request.headers()["x-amz-target"] ?? new URL(request.url()).pathname}`;
  page.on("response", (answer) => answer.status() >= 500 && failures.push(`${answer.status()} ${called(answer.request())}`));
  page.on("requestfailed", (request) => failures.push(`${request.failure()?.errorText} ${called(request)}`));
  page.on("framenavigated", (frame) => frame === page.mainFrame() && addresses.push(frame.url()));
  return { context, page, complaints, addresses };
}

/** Signs in on the hosted pages. Gives the tokens, which the test has from the network and the page nowhere but in its memory. */
export async function signIn({ page }, user) {
  await page.goto(`${ORIGIN}/`);
  await page.getByRole("button", { name: user.pool === undefined ? "Sign in as a user of an institute" : "Sign in as lake staff" }).click();
  await page.locator("input[name=username]").fill(user.email);
  await page.locator("input[name=password]").fill(user.password);
  const answer = page.waitForResponse((it) => it.url().endsWith("/oauth2/token") && it.request().method() === "POST");
  await page.locator("input[name=password]").press("Enter");
  return (await answer).json();
}

/** Goes to a page by its link. */
export async function visit(page, name) {
  await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
  await page.getByRole("heading", { level: 1 }).waitFor();
}

/** axe finds nothing, in light and in dark; nothing is wider than a telephone. */
export async function isAccessible(page, what) {
  await page.evaluate(AXE);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
    const found = violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.target.join(" ")).join(", ")}`);
    assert.deepEqual(found, [], `axe, ${what}, ${colorScheme}`);
  }
  const before = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await page.setViewportSize(before);
  await page.emulateMedia({ colorScheme: "light" });
  assert.ok(wide <= 0, `${what} is ${wide} pixels wider than 360`);
}

/** Nothing of a message or a sign-in is where it outlives the page: storage, address, title; and the page said nothing. */
export async function leavesNothing({ page, complaints, addresses }, secrets) {
  assert.deepEqual(complaints, [], "console, errors, violations of the policy");
  const kept = await page.evaluate(async () => ({
    local: { ...localStorage }, session: { ...sessionStorage }, cookie: document.cookie, title: document.title, state: history.state,
    caches: await caches.keys(), databases: (await indexedDB.databases()).length, workers: (await navigator.serviceWorker.getRegistrations()).length,
  }));
  assert.deepEqual(kept, { local: {}, session: {}, cookie: "", title: "Sluice", state: null, caches: [], databases: 0, workers: 0 });
  for (const address of addresses.filter((it) => it.startsWith(ORIGIN))) {
    for (const secret of secrets) assert.ok(!address.includes(secret), "an address holds something of a message");
  }
  assert.ok(addresses.at(-1)?.startsWith(ORIGIN) && !page.url().includes("code="), page.url());
}
