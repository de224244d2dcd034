// Drives the console in a browser. JSON on its standard input has the browser's path, the address of the local AWS, users, messages,
// the seconds for all cases, a folder for pictures or null, and a pattern for the names of the cases or null. The last line that it
// writes names each case that failed, with the reason.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { runnerImport } from "vite";
import { failures, isAccessible, launch, leavesNothing, open, ORIGIN, signIn, visit } from "./browser.mjs";

const world = JSON.parse(readFileSync(0, "utf8"));
const browser = await launch(world.browser);
const { admin, reader, writer, nobody, staff } = world.users;
const ids = Object.values(world.messages);
const secrets = [...ids, "DOE", "4711", world.patient];

const picture = async (page, name) => {
  if (world.pictures !== null) await page.screenshot({ path: `${world.pictures}/${name}.png` });
};
const row = (page, id) => page.getByRole("row").filter({ has: page.getByTitle(id) });
const openMessage = async (page, id) => {
  await row(page, id).getByRole("button").click();
  await page.getByRole("heading", { name: /^Message/ }).waitFor();
};
const shows = (page, text) => page.getByText(text).first().waitFor();
const filter = async (page, label, value, more = {}) => {
  const form = page.locator("form").filter({ has: page.getByRole("button", { name: "Filter", exact: true }) });
  if (!(await form.isVisible())) await page.locator("summary", { hasText: "Filter" }).click();
  await form.getByRole("button", { name: "Clear" }).click();
  const field = form.getByLabel(label);
  await (label === "Status" ? field.selectOption(value) : field.fill(value));
  for (const [other, text] of Object.entries(more)) await form.getByLabel(other).fill(text);
  await form.getByRole("button", { name: "Filter", exact: true }).click();
};

/** On a telephone, each text of a chart is as large as the page's small print, inside of the chart, and on no other text. */
const legible = async (page) => {
  const before = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  const faults = () => page.evaluate(() => [...document.querySelectorAll("main svg.chart")].flatMap((svg) => {
    const [chart, scale] = [svg.getBoundingClientRect(), svg.getScreenCTM().a];
    const texts = [...svg.querySelectorAll("text")].map((it) => ({ box: it.getBoundingClientRect(), size: Number.parseFloat(getComputedStyle(it).fontSize) * scale, said: it.textContent }));
    return texts.flatMap(({ box, size, said }, n) => [
      ...(size < 11.5 ? [`${said} is ${size} pixels high`] : []),
      ...(box.left < chart.left - 1 || box.right > chart.right + 1 ? [`${said} is cut off`] : []),
      ...texts.slice(n + 1).filter((it) => box.left < it.box.right && it.box.left < box.right && box.top + 3 < it.box.bottom && it.box.top + 3 < box.bottom).map((it) => `${said} is on ${it.said}`),
    ]);
  }));
  assert.ok((await page.locator("main svg.chart text").count()) > 8, "the charts have texts");
  for (let tries = 0; (await faults()).length > 0 && tries < 300; tries++) await page.waitForTimeout(100);
  assert.deepEqual(await faults(), []);
  await page.setViewportSize(before);
};

const cases = {
  async "messages are listed, filtered, opened and read"() {
    const it = await open(browser);
    const { page } = it;
    const asked = [];
    page.on("request", (request) => asked.push(request));
    await page.goto(`${ORIGIN}/`);
    await page.getByRole("heading", { name: "Sluice" }).waitFor();
    await isAccessible(page, "sign-in");
    await picture(page, "sign-in");
    await signIn(it, admin);
    for (const id of ids) await row(page, id).waitFor();
    assert.equal(await page.getByTitle(world.elsewhere).count(), 0, "a message of another institute");
    await picture(page, "messages");
    await isAccessible(page, "messages");

    for (const [label, value] of [
      ["Type", "oru^r01"], ["Control id", world.controlId], ["Sender", "LAB"], ["Message id begins with", world.messages.report.slice(0, 8)],
    ]) {
      await filter(page, label, value);
      await shows(page, /^1 message$/);
      await row(page, world.messages.report).waitFor();
    }
    // A time of arrival, alone and with the rest.
    const minutes = (n) => new Date(Date.now() + n * 60_000 - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
    for (const [from, to, found] of [[minutes(-30), minutes(30), true], [minutes(-90), minutes(-60), false]]) {
      for (const [label, value] of [["Control id", world.controlId], ["Type", "ORU^R01"], ["Message id begins with", world.messages.report]]) {
        await filter(page, label, value, { "Received from": from, "Received before": to });
        await shows(page, found ? /^1 message$/ : /^No messages of/);
      }
    }
    // A search by control id reads its own index, and one for held messages reads theirs: no other record is read.
    const queries = async (label, value, text) => {
      const before = asked.length;
      await filter(page, label, value);
      await shows(page, text);
      const bodies = asked.slice(before).filter((it) => it.headers()["x-amz-target"]?.endsWith(".Query")).map((it) => it.postDataJSON());
      // The list refreshes by itself, so that requests of the previous filter come in between.
      const names = (it) => Object.values(it.ExpressionAttributeValues).some(({ S }) => S?.trim() === value);
      return new Set(bodies.filter(names).map((it) => it.IndexName));
    };
    assert.deepEqual(await queries("Control id", world.controlId, /^1 message$/), new Set(["by-control-id"]));
    assert.deepEqual(await queries("Status", "held", `${world.held.length} messages`), new Set(["by-held-since"]));
    // The time of a message is on its sender's clock.
    for (const [more, found] of [
      [{ "Message time from": "2026-01-02T03:04", "Message time before": "2026-01-02T03:05" }, true], [{ "Message time before": "2026-01-02T03:04" }, false], [{ "Message time from": "2026-01-02T03:05" }, false],
    ]) {
      await filter(page, "Receiver", "HUB", { "Control id": world.controlId, ...more });
      await shows(page, found ? /^1 message$/ : /^No messages of/);
    }
    await filter(page, "Receiver", "NOBODY");
    await shows(page, /^No messages of/);
    await filter(page, "Sender", "NOBODY");
    await shows(page, /^No messages of/);
    await page.getByRole("button", { name: "Clear" }).click();

    // A search by patient sends the identifier in the body of a request to the API.
    await filter(page, "Patient", `${world.patient}^^^HIS`);
    await shows(page, /^1 message$/);
    await row(page, world.messages.report).waitFor();
    assert.ok(asked.every((it) => !it.url().includes(world.patient)), "an address names a patient");
    await filter(page, "Patient", `${world.patient}^^^LAB`);
    await shows(page, /^No messages of/);
    await page.getByRole("button", { name: "Clear" }).click();
    for (const id of ids) await row(page, id).waitFor();

    // By keyboard alone.
    await row(page, world.messages.report).getByRole("button").focus();
    await page.keyboard.press("Enter");
    await shows(page, "Patient Name");
    await shows(page, "Family Name");
    await picture(page, "message");
    await isAccessible(page, "message");
    await page.getByRole("button", { name: "ER7" }).click();
    await shows(page, /^OBX\|1\|ED/);
    await page.getByRole("button", { name: "JSON" }).click();
    await shows(page, '"segment": "PID"');
    await page.getByRole("button", { name: "As received" }).click();
    await shows(page, /received exactly/);
    await page.getByRole("button", { name: "Path" }).click();
    for (const step of ["Submitted", "Stored", "the event “stored” follows"]) await shows(page, step);
    assert.equal(await page.getByText(/published/i).count(), 0, "nobody knows when the event is sent");
    // Of the lake's own pool, so the issuer is not named.
    await shows(page, /^by [^ (]+$/);
    await isAccessible(page, "path");

    await page.getByRole("button", { name: "Documents" }).click();
    const image = page.getByRole("img", { name: "Picture in OBX 2" });
    await image.waitFor();
    assert.ok(await image.evaluate((it) => it.decode().then(() => it.naturalWidth > 0)), "the picture is shown");
    assert.match(await page.getByTitle("PDF in OBX 1").getAttribute("src"), /^blob:http:\/\/localhost:8080\//);
    // The browser's own viewer has opened it.
    const viewer = async () => page.frames().some((frame) => frame.url().startsWith("chrome-extension://"));
    for (let tries = 0; !(await viewer()); tries++) {
      assert.ok(tries < 600, "the PDF is not shown");
      await page.waitForTimeout(100);
    }
    await shows(page, "OBX 3: The document cannot be decoded.");
    const saved = page.waitForEvent("download");
    await page.getByRole("link", { name: "Save as a file" }).first().click();
    assert.equal(readFileSync(await (await saved).path()).toString("latin1", 0, 5), "%PDF-");
    await picture(page, "document");
    await page.keyboard.press("Escape");
    await row(page, world.messages.report).waitFor();

    // The page asks DynamoDB and S3 directly, with the user's own signature, and asks the API for no message.
    const at = (test) => asked.filter((request) => request.method() !== "OPTIONS" && test(request)).length;
    assert.ok(at((it) => it.headers()["x-amz-target"]?.startsWith("DynamoDB_") && it.headers()["authorization"]?.startsWith("AWS4-HMAC-SHA256")) > 0);
    assert.ok(at((it) => it.url().includes(`/${world.bucket}/`) && it.headers()["authorization"]?.startsWith("AWS4-HMAC-SHA256")) > 0);
    assert.equal(at((it) => it.url().startsWith(world.apiUrl) && !it.url().endsWith("/er7/search")), 0);
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "two messages are compared"() {
    const it = await open(browser);
    const { page } = it;
    await signIn(it, reader);
    const [admission, report] = [world.messages.admission, world.messages.report];
    for (const id of [admission, report]) await row(page, id).getByRole("checkbox").check();
    // A third cannot be chosen.
    await page.waitForFunction(() => document.querySelectorAll("tbody input:not(:disabled)").length === 2);
    await page.getByRole("button", { name: "Compare the two chosen messages" }).click();
    await shows(page, /^\d+ of \d+ places differ$/);
    const place = (name) => page.getByRole("row").filter({ has: page.getByText(name, { exact: true }) });
    const cells = async (name) => {
      await place(name).first().waitFor();
      return (await place(name).first().getByRole("cell").allTextContents()).map((text) => text.trim());
    };
    assert.deepEqual(await cells("MSH-9.1"), ["≠ changed", "ADT", "ORU"]);
    assert.deepEqual(await cells("OBX[2]-2.1"), ["+ only right", "", "ED"]);
    assert.match((await cells("EVN-1.1")).join(" "), /^− only left A01 $/);
    assert.equal(await place("PID-5.1").count(), 0, "what is the same is hidden");
    await isAccessible(page, "compare");
    await page.getByLabel("Show equal values too").check();
    assert.deepEqual(await cells("PID-5.1"), ["", "DOE", "DOE"]);
    await picture(page, "compare");
    // A hostile one, on the left as it was chosen first.
    await page.keyboard.press("Escape");
    await row(page, admission).getByRole("checkbox").uncheck();
    await row(page, report).getByRole("checkbox").uncheck();
    for (const id of [world.messages.hostile, admission]) await row(page, id).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Compare the two chosen messages" }).click();
    await shows(page, "<script>globalThis.owned = true</script>");
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "hostile content is shown as text"() {
    const it = await open(browser);
    const { page } = it;
    await signIn(it, admin);
    await openMessage(page, world.messages.hostile);
    await shows(page, "<script>globalThis.owned = true</script>");
    await shows(page, '<img src=x onerror="globalThis.owned = true">');
    // The page names a terminal escape and a bidirectional mark, and does not obey them.
    await shows(page, "␛");
    await shows(page, "U+202E");
    const more = page.getByRole("button", { name: /^Show all/ });
    await more.first().click();
    await page.waitForFunction((length) => document.querySelector("dl").textContent.length >= 0 && document.body.textContent.length > length, world.hostileCharacters);
    await page.getByRole("button", { name: "ER7" }).click();
    await shows(page, "<script>globalThis.owned = true</script>");
    await page.getByRole("button", { name: "JSON" }).click();
    await shows(page, '"segments"');
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    assert.equal(await page.locator("main script, main img, main b:has-text('HIS')").count(), 0);
    await page.keyboard.press("Escape");
    await openMessage(page, world.messages.unparsable);
    await shows(page, /does not parse, so it has no fields/);
    await page.getByRole("button", { name: "ER7" }).click();
    await shows(page, "not HL7 at all");
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "held messages are released once, even if the network fails in the middle"() {
    const it = await open(browser);
    const { page } = it;
    await signIn(it, admin);
    await visit(page, "Held");
    for (const id of world.held) await row(page, id).waitFor();
    await isAccessible(page, "held");
    await picture(page, "held");
    // A row opens the message. Another program may have submitted it.
    const target = (it) => it.request().headers()["x-amz-target"];
    await page.route(/./, async (route) => {
      if (!target(route)?.endsWith(".GetItem")) return route.fallback();
      const response = await route.fetch();
      const { Item } = await response.json();
      return route.fulfill({ response, json: { Item: { ...Item, submitter: { M: { subject: { S: "<b>jane</b>" }, issuer: { S: "https://elsewhere.example" } } } } } });
    });
    await openMessage(page, world.held[0]);
    await shows(page, "by <b>jane</b> (https://elsewhere.example)");
    for (const step of ["Submitted", "Held", "kept until"]) await shows(page, step);
    await isAccessible(page, "a held message");
    await page.keyboard.press("Escape");
    await page.unroute(/./);
    // A chosen message that somebody else released counts no more.
    await row(page, world.held[0]).getByRole("checkbox").check();
    await row(page, world.held[1]).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Release 2 messages" }).waitFor();
    await page.route(/./, async (route) => {
      if (!target(route)?.endsWith(".Query")) return route.fallback();
      const response = await route.fetch();
      const { Items, ...more } = await response.json();
      return route.fulfill({ response, json: { ...more, Items: Items.filter((it) => it.message_id.S !== world.held[0]) } });
    });
    await page.getByRole("button", { name: "Refresh" }).click();
    await page.getByRole("button", { name: "Release 1 message", exact: true }).waitFor();
    await page.unroute(/./);
    await page.getByRole("button", { name: "Refresh" }).click();
    await row(page, world.held[0]).waitFor();
    await page.getByLabel("Choose all").check();
    const released = [];
    page.on("response", (answer) => answer.url().endsWith("/release") && answer.status() === 202 && released.push(answer.url()));
    let [asked, cut] = ["", true];
    await page.route(/\/release$/, async (route) => {
      asked ||= route.request().url();
      return cut && route.request().url() !== asked ? route.abort("internetdisconnected") : route.continue();
    });
    await page.getByRole("button", { name: `Release ${world.held.length} messages` }).click();
    await page.getByText(/^Before: .* Stopped after/).waitFor();
    await shows(page, "There is no answer");
    assert.equal(released.length, 1, "one was released before the network went away");
    cut = false;
    await page.getByRole("button", { name: `Release the remaining ${world.held.length - 1}` }).click();
    await shows(page, /Now: 0 held/);
    await shows(page, "No message is held.");
    assert.deepEqual([...released].sort(), [...new Set(released)].sort(), "one was released twice");
    assert.equal(released.length, world.held.length);
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "files are checked, then sent"() {
    const it = await open(browser);
    const { page } = it;
    await signIn(it, writer);
    await shows(page, /may send messages, but not read them/);
    await isAccessible(page, "send");
    const file = (name, text) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(text) });
    await page.locator("input[type=file]").setInputFiles([file("new.hl7", world.fresh), file("id_rsa", "-----BEGIN PRIVATE KEY-----"), file("old.hl7", world.again)]);
    // Dropped, as a person does it.
    const dropped = await page.evaluateHandle((text) => {
      const data = new DataTransfer();
      data.items.add(new File([text], "<b>dropped</b>.hl7"));
      return data;
    }, world.dropped);
    await page.dispatchEvent(".drop", "drop", { dataTransfer: dropped });
    const fileRow = (name) => page.getByRole("row").filter({ hasText: name });
    await fileRow("<b>dropped</b>.hl7").getByText("ADT^A01, 1 message").waitFor();
    assert.equal(await page.getByLabel("Send id_rsa").isChecked(), false);
    await fileRow("id_rsa").getByText("does not begin as HL7").waitFor();
    // The standard's findings are those of `sluice hl7 validate`, in the same order; the user may send the file all the same.
    const { "new.hl7": good, ...odd } = world.files;
    await page.locator("input[type=file]").setInputFiles(Object.entries(odd).map(([name, { text }]) => file(name, text)));
    for (const name of Object.keys(odd)) await page.getByLabel(`Send ${name}`).waitFor();
    if (world.hasValidator) {
      const words = { error: "error", warning: "warning", info: "note" };
      for (const [name, { found }] of Object.entries({ ...odd, "new.hl7": good })) {
        const of = (message) => (found.messages > 1 ? `message ${message}: ` : "");
        const expected = [
          ...found.batchProblems.map(({ declared, found }) => `error: BTS-1 says that the batch has ${declared} messages; found: ${found}`),
          ...found.findings.map((it) => `${of(it.message)}${it.place === "" ? "" : `${it.place} `}${words[it.severity]}: ${it.detail} (${it.code})`),
        ];
        assert.ok(name === "new.hl7" || expected.length > 5, `${name} has ${expected.length} findings`);
        if (expected.length > 0) await fileRow(name).locator("summary").click();
        assert.deepEqual(await fileRow(name).getByRole("listitem").allTextContents(), expected, name);
      }
      await fileRow("batch.hl7").getByText("2 messages").waitFor();
      // A report lists 500 findings of a message, and the page knows the severity of no others.
      await page.locator("input[type=file]").setInputFiles([file("many.hl7", `${world.fresh}OBX|1|NM|A||${"x~".repeat(2000)}||||||F\r`)]);
      await fileRow("many.hl7").getByText(/^at least \d+ errors/).waitFor();
      await page.getByLabel("Send many.hl7").uncheck();
    }
    await isAccessible(page, "send, with files");
    for (const name of Object.keys(odd)) await page.getByLabel(`Send ${name}`).uncheck();
    let bodies = 0;
    page.on("request", (request) => (bodies += request.method() === "POST" && request.url().endsWith("/er7") ? 1 : 0));
    await page.getByRole("button", { name: "Send 3 files" }).click();
    await shows(page, "3 of 3 files sent");
    await fileRow("old.hl7").getByText("already stored").waitFor();
    for (const name of ["new.hl7", "<b>dropped</b>.hl7"]) await fileRow(name).getByText("accepted, stored").waitFor({ timeout: 240_000 });
    await picture(page, "send");
    assert.equal(bodies, 3);
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "a page without the validation names obvious problems"() {
    const it = await open(browser);
    const { page } = it;
    await page.route("**/validator.wasm", (route) => route.fulfill({ status: 404 }));
    await signIn(it, writer);
    const fileRow = (name) => page.getByRole("row").filter({ hasText: name });
    const file = (name, buffer) => ({ name, mimeType: "application/octet-stream", buffer });
    const odd = Buffer.from("MSH|^~\\&|HIS|WEST|LAKE|HUB|2026||ADT^A01||P|\rPID|1||1||M\xfcller\rgarbage\r", "latin1");
    await page.locator("input[type=file]").setInputFiles([file("odd.hl7", odd), file("new.hl7", Buffer.from(world.fresh))]);
    for (const said of ["MSH-10 is empty", "MSH-12 names no version", "its bytes are not UTF-8", "line 3 does not begin with a segment"]) await fileRow("odd.hl7").getByText(said).waitFor();
    assert.equal(await fileRow("new.hl7").getByRole("listitem").count(), 0, "a good file has no problem");
    await shows(page, /was built without the validation/);
    // After an end of any kind, the page asks no more.
    await page.getByLabel("Send odd.hl7").uncheck();
    const [id, ends] = ["0".repeat(64), ["queued", "unknown"]];
    let asked = 0;
    await page.route(/\/er7$/, (route) => route.fulfill({ status: 202, json: { messageId: id } }));
    await page.route(/\/er7\/status$/, (route) => route.fulfill({ json: { statuses: [{ messageId: id, status: ends[asked++] ?? "queued" }] } }));
    await page.getByRole("button", { name: "Send 1 file" }).click();
    await fileRow("new.hl7").getByText("accepted, unknown").waitFor();
    await page.waitForTimeout(4000);
    assert.equal(asked, 2);
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "rich text and wave forms are shown"() {
    const it = await open(browser);
    const { page } = it;
    await signIn(it, reader);
    await openMessage(page, world.messages.recording);
    await page.getByRole("button", { name: "Documents" }).click();
    const text = async (n) => (await page.getByRole("region", { name: `Text in OBX ${n}` }).innerText()).trim().split("\n");
    assert.deepEqual(await text(1), ["Sinus rhythm, 72/min", "Signed: Müller €"]);
    assert.deepEqual(await text(2), ["<img src=x onerror='globalThis.owned = true'>", "a link"]);
    assert.deepEqual(await text(3), ["as it is"]);
    await page.getByText("OBX 4: text/rtf").locator("..").getByText("does not show documents of this kind").waitFor();
    assert.equal(await page.evaluate(() => globalThis.owned), undefined);
    assert.equal(await page.locator("main img, main script, main a:not([download])").count(), 0);
    // A channel's value is (sample - baseline) * sensitivity.
    await page.getByRole("img", { name: "I: from 0 uV to 2495 uV, 2 s" }).waitFor();
    await page.getByRole("img", { name: "II: from 100 uV to 130 uV, 2 s" }).waitFor();
    await page.getByRole("img", { name: "Breath: from 0.5 mL to 2 mL, 5 samples" }).waitFor();
    const wave = page.locator("section").filter({ hasText: "Wave form in OBX 8" });
    await wave.locator("summary").click();
    assert.deepEqual(await wave.getByRole("cell").allTextContents(), ["0.5", "1", "", "<b>none</b>", "2"]);
    const other = page.locator("section").filter({ hasText: "Wave form in OBX 6" });
    await other.locator("summary").click();
    assert.deepEqual((await other.getByRole("row").nth(2).allInnerTexts())[0].split(/\s+/), ["0.004", "5", "105"]);
    assert.equal(await other.getByRole("row").count(), 101);
    await legible(page);
    await isAccessible(page, "wave forms");
    await other.getByRole("button", { name: "Show more" }).click();
    await other.getByRole("row").nth(500).waitFor();
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "the overview counts"() {
    const it = await open(browser, { locale: "de-DE" });
    const { page } = it;
    await page.goto(`${ORIGIN}/`);
    await page.getByRole("button", { name: "Als Benutzer eines Instituts anmelden" }).waitFor();
    await it.context.close();
    const english = await open(browser);
    await signIn(english, reader);
    const isSummary = (it) => it.ok() && it.request().method() === "GET" && it.url().startsWith(`${world.apiUrl}/institutes/${world.institute}/summary?from=`);
    const answered = english.page.waitForResponse(isSummary);
    await visit(english.page, "Overview");
    // The API counts. IAM authorizes the request by the user's own signature.
    const summary = await answered;
    assert.match(summary.request().headers()["authorization"], /^AWS4-HMAC-SHA256 .*\/execute-api\//);
    const counted = (await summary.json()).counts.reduce((sum, it) => sum + it.count, 0);
    await shows(english.page, `${counted} messages`);
    assert.ok(counted >= ids.length + world.held.length, `${counted} are counted`);
    await legible(english.page);
    await english.page.locator("summary", { hasText: "Numbers as a table" }).first().click();
    await isAccessible(english.page, "overview");
    await picture(english.page, "overview");
    await english.page.getByLabel("Language").selectOption("de");
    await english.page.getByRole("heading", { name: "Überblick" }).waitFor();
    assert.equal(await english.page.locator("html").getAttribute("lang"), "de");
    await leavesNothing(english, secrets);
    await english.context.close();
  },

  async "staff see states and no content"() {
    const it = await open(browser);
    const { page } = it;
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await signIn(it, staff);
    await page.getByLabel("Institute").fill(world.institute);
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await openMessage(page, world.messages.report);
    await shows(page, /Lake staff see where a message is/);
    await shows(page, "the event “stored” follows");
    assert.equal(await page.getByRole("button", { name: "ER7" }).count(), 0);
    await isAccessible(page, "staff");
    assert.deepEqual(asked.filter((it) => it.includes(`/${world.bucket}/`)), []);
    assert.equal(await page.getByRole("link", { name: "Send" }).count(), 0);
    await leavesNothing(it, secrets);
    await it.context.close();
  },

  async "a list of several partitions is the same however it is cut, and whatever arrives meanwhile"() {
    const { module: catalog } = await runnerImport("./src/model/catalog.ts");
    // Each request looks at so many records, as one of DynamoDB does at 1 MiB.
    const EVALUATED = 25;
    let [records, looked] = [[], 0];
    const record = (partition, at, more = {}) => ({
      source: "west", message_id: `${partition}-${at}`, arrival_shard: `west#${partition}`, received_at: new Date(Date.UTC(2026, 0, 1) + at).toISOString(), listed: "stored", ...more,
    });
    const text = (item) => Object.fromEntries(Object.entries(item).map(([name, value]) => [name, typeof value === "string" ? { S: value } : { M: text(value) }]));
    const answer = ({ KeyConditionExpression: keys, FilterExpression: filter = "", ExpressionAttributeValues: values, ExclusiveStartKey: after, Limit: limit = EVALUATED }) => {
      for (const name of Object.keys(values)) assert.ok(`${keys} ${filter} `.match(new RegExp(`${name}\\b`)), `${name} is not used, which DynamoDB refuses`);
      const [from, last] = [values[":from"]?.S ?? "", values[":last"]?.S ?? "~"];
      const start = after?.received_at.S;
      assert.ok(from <= last && (start === undefined || (start >= from && start <= last)), "DynamoDB refuses a key outside of the range");
      const statuses = Object.keys(values).filter((it) => filter.includes("#listed") && [":queued", ":processing", ":status"].includes(it)).map((it) => values[it].S);
      const rest = records
        .filter((it) => it.arrival_shard === values[":partition"].S && it.received_at >= from && it.received_at <= last && (start === undefined || it.received_at < start))
        .sort((a, b) => (a.received_at < b.received_at ? 1 : -1));
      const seen = rest.slice(0, limit);
      looked += seen.length;
      const fits = (it) => (statuses.length === 0 || statuses.includes(it.listed)) && [undefined, it.summary?.sendingFacility].includes(values[":sender"]?.S);
      const { source, message_id, arrival_shard, received_at } = seen.at(-1) ?? {};
      return { Items: seen.filter(fits).map(text), ...(seen.length < rest.length ? { LastEvaluatedKey: text({ source, message_id, arrival_shard, received_at }) } : {}) };
    };
    const wrong = [];
    const server = createServer(async (request, response) => {
      let body = "";
      for await (const part of request) body += part;
      try {
        const asked = JSON.parse(body);
        const item = asked.Key && records.find((it) => it.message_id === asked.Key.message_id.S);
        response.end(JSON.stringify(asked.Key === undefined ? answer(asked) : item === undefined ? {} : { Item: text(item) }));
      } catch (error) {
        wrong.push(error);
        response.writeHead(400).end("{}");
      }
    });
    await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
    const session = {
      settings: { endpointUrl: `http://127.0.0.1:${server.address().port}`, region: "us-east-1", table: "catalog", hasSearchIndexes: true },
      credentials: async () => ({ accessKeyId: "x", secretAccessKey: "x", sessionToken: "x" }), forgetCredentials: () => undefined,
    };
    /** All pages of a list. `arrive` runs after each of them. */
    const pages = async (filter, arrive = () => undefined) => {
      const all = [];
      for (let next, n = 0; n === 0 || next !== undefined; n++) {
        assert.ok(n < 50, "the list has no end");
        const page = await catalog.list(session, "west", { ...catalog.EVERYTHING, ...filter }, next).catch((error) => Promise.reject(wrong[0] ?? error));
        // As the page keeps it.
        next = page.next && JSON.parse(JSON.stringify(page.next));
        all.push(page.records.map((it) => it.messageId));
        arrive(n);
      }
      return all;
    };
    const newest = (some) => [...some].sort((a, b) => (a.received_at < b.received_at ? 1 : -1)).map((it) => it.message_id);
    const many = (partition, count, from, more) => Array.from({ length: count }, (_, n) => record(partition, from + n, more));
    try {
      // The first page has records of one partition only. Then one arrives in each.
      const [west, day] = [[...many(0, 150, 10_000), ...many(1, 30, 1000), ...many(2, 30, 2000), ...many(3, 30, 3000)], 24 * 3600_000];
      for (const filter of [{}, { from: new Date(Date.UTC(2026, 0, 1)).toISOString() }, { to: new Date(Date.UTC(2026, 1, 1)).toISOString() }, { sender: "LAB" }]) {
        records = west.map((it) => ({ ...it, summary: { sendingFacility: "LAB" } }));
        const found = await pages(filter, (n) => records.push(...[0, 1, 2, 3].map((partition) => record(partition, day + n, { summary: { sendingFacility: "LAB" } }))));
        assert.ok(found.length > 1 && found[0].every((it) => it.startsWith("0-")), "the first page is of one partition");
        assert.deepEqual(found.flat(), newest(west), JSON.stringify(filter));
      }
      // Few records match. One waits while another partition is read up to it: nothing but the request that found it is repeated.
      const rare = [record(0, 4000, { summary: { sendingFacility: "RARE" } }), record(1, 900, { summary: { sendingFacility: "RARE" } }), record(2, 800, { summary: { sendingFacility: "RARE" } })];
      records = [...many(0, 220, 5000), ...many(1, 1200, 10_000), ...rare];
      looked = 0;
      const found = await pages({ sender: "RARE" });
      assert.deepEqual(found.flat(), newest(rare));
      const most = records.length + 2 * EVALUATED * found.length;
      assert.ok(found.length > 3 && looked <= most, `${looked} records are read on ${found.length} pages, at most ${most} are expected`);
      // The first page is empty, as the newest of a partition do not match. Those of the second one are older than where that partition began.
      const lab = [...many(0, 150, 4000, { summary: { sendingFacility: "LAB" } }), ...many(1, 30, 1000, { summary: { sendingFacility: "LAB" } })];
      records = [...lab, ...many(1, 300, 10_000)];
      const late = await pages({ sender: "LAB" });
      assert.deepEqual(late.map((it) => it.length).slice(0, 2), [0, 100]);
      assert.deepEqual(late.flat(), newest(lab));
      // The index by arrival has `queued` until a message ends.
      records = [record(0, 1, { listed: "queued" }), record(1, 2, { listed: "processing" }), record(2, 3), record(3, 4, { listed: "failed" })];
      for (const [status, expected] of [["queued", ["1-2", "0-1"]], ["processing", ["1-2", "0-1"]], ["stored", ["2-3"]], ["failed", ["3-4"]]]) {
        assert.deepEqual((await pages({ status })).flat(), expected, status);
      }
      // The live refresh of a list with more than its first page: no hole, no old status, and the rest of the list goes on below.
      const recent = Date.now() - Date.UTC(2026, 0, 1) - 60_000;
      const everywhere = (count, from) => Array.from({ length: 4 * count }, (_, n) => record(n % 4, from + n));
      const step = (what, shown, filter = {}) => catalog[what](session, "west", { ...catalog.EVERYTHING, ...filter }, shown).catch((error) => Promise.reject(wrong[0] ?? error));
      const idsOf = (it) => it.records.map(({ messageId }) => messageId);
      records = everywhere(80, recent);
      const slow = records.find((it) => it.message_id === newest(records)[150]);
      slow.listed = "queued";
      let shown = await step("goOn", await step("begin"));
      assert.deepEqual(idsOf(shown), newest(records).slice(0, 200));
      const gone = newest(records)[20];
      records = [...records.filter((it) => it.message_id !== gone), ...everywhere(60, recent + 10_000)];
      slow.listed = "stored";
      shown = await step("refresh", shown);
      assert.deepEqual(idsOf(shown), newest(records).slice(0, 200 + 240 - 1));
      assert.equal(shown.records.find((it) => it.messageId === slow.message_id).status, "stored");
      for (let n = 0; shown.next !== undefined && n < 10; n++) shown = await step("goOn", shown);
      assert.deepEqual(idsOf(shown), newest(records));
      // So many arrive that it stops, and says so.
      const before = idsOf(shown);
      records.push(...everywhere(150, recent + 20_000));
      shown = await step("refresh", shown);
      assert.deepEqual([idsOf(shown), shown.isPaused], [before, true]);
      shown = await step("begin", shown);
      assert.deepEqual([idsOf(shown), shown.isPaused], [newest(records).slice(0, 100), false]);
      // A rare search: what is old is read once.
      const of = { summary: { sendingFacility: "RARE" } };
      const old = record(2, 800, of);
      records = [...everywhere(100, 5000), old];
      shown = await step("begin", undefined, { sender: "RARE" });
      assert.deepEqual(idsOf(shown), [old.message_id]);
      const young = [record(1, recent, of), record(3, recent + 5, of)];
      records.push(...young, ...many(0, 20, recent));
      looked = 0;
      shown = await step("refresh", shown, { sender: "RARE" });
      assert.deepEqual([idsOf(shown), shown.isPaused, looked], [newest([...young, old]), false, 22]);
      records = [...records.filter((it) => !young.includes(it)), ...many(0, 100, recent + 100)];
      looked = 0;
      shown = await step("refresh", shown, { sender: "RARE" });
      assert.deepEqual([shown.isPaused, looked], [true, EVALUATED]);
      // A time that is over has nothing new.
      looked = 0;
      shown = await step("refresh", { ...shown, isPaused: false }, { sender: "RARE", to: new Date(Date.UTC(2026, 0, 1) + 60_000).toISOString() });
      assert.deepEqual([shown.isPaused, looked], [false, 0]);
      assert.deepEqual(wrong, []);
    } finally {
      server.close();
    }
  },

  async "a document is decoded although its lines are broken, and one that cannot be is named"() {
    const { module: model } = await runnerImport("./src/model/hl7.ts");
    const field = (position, ...values) => ({ position, repetitions: [values.map((value, n) => ({ position: n + 1, value }))] });
    const found = (type, encoding, data) => model.documents({ segments: [{ segment: "OBX", fields: [field(2, type), field(5, "", "AP", "PDF", encoding, data)] }] });
    const base64 = Buffer.from("%PDF-1.7 of a patient").toString("base64");
    for (const [encoding, data] of [
      ["Base64", base64], ["BASE64", `${base64.slice(0, 8)}\\.br\\${base64.slice(8)}`], ["Base64", `${base64.slice(0, 9)}\r\n ${base64.slice(9)}`],
      ["Base64", base64.replace(/=+$/, "")], ["Hex", Buffer.from("%PDF-1.7 of a patient").toString("hex").replace("20", "20\\.br\\")], ["A", "%PDF-1.7 of a patient"],
    ]) {
      const [it, ...more] = found("ED", encoding, data);
      assert.deepEqual([it.observation, it.type, Buffer.from(it.bytes).toString(), more], [1, "application/pdf", "%PDF-1.7 of a patient", []], data);
    }
    for (const [encoding, data] of [["Base64", "%%%"], ["Hex", "0"], ["Base64", ""], ["uuencode", "x"]]) {
      assert.deepEqual(found("ED", encoding, data).map((it) => it.bytes.length), [0], encoding);
    }
    assert.deepEqual(found("ST", "", "text"), []);
    assert.deepEqual(model.documents({ segments: [{ segment: "OBX", fields: [field(2, "ED"), { position: 5, repetitions: [[]] }] }, { segment: "OBX", fields: [field(2, "ED")] }] }), []);
  },

  async "each channel of a wave form has its own frequency"() {
    const { module: model } = await runnerImport("./src/model/waves.ts");
    const component = (position, more) => ({ position, ...more });
    const obx = (type, repetitions) => ({
      segment: "OBX",
      fields: [[2, [[component(1, { value: type })]]], [4, [[component(1, { value: "1" })]]], [5, repetitions]].map(([position, repetitions]) => ({ position, repetitions })),
    });
    const channel = (frequency) => [component(5, { subcomponents: [{ position: 1, value: frequency }] })];
    const none = undefined;
    for (const [said, each, all] of [
      [["250", "250"], [250, 250], 250], [["250", "500"], [250, 500], none], [["250"], [250, none], none], [[], [none, none], none],
      // Numbers by which no time can be told.
      [["0", "-0"], [none, none], none], [["-250", "NaN"], [none, none], none], [["1e-320", "1e308"], [none, none], none], [["1e400", ""], [none, none], none],
    ]) {
      const samples = [1, 2].map((n) => [component(1, { value: String(n) })]);
      const [wave] = model.waves({ segments: [obx("CD", said.map(channel)), obx("NA", samples)] });
      assert.deepEqual([wave.channels.map((it) => it.frequency), wave.frequency], [each, all], said.join());
    }
    // A wide repetition among very many: each would be a chart.
    const wide = [component(100_000, { value: "1" })];
    const [many] = model.waves({ segments: [obx("MA", Array.from({ length: 10_000 }, () => wide))] });
    assert.deepEqual([many.channels.length, many.leftOut, many.channels[0].samples.length], [64, 99_936, 10_000]);
    const value = (factor, sample) => model.valueOf({ factor, baseline: 1 }, sample);
    assert.deepEqual([value(2, "4"), value(1e308, "1e308"), value(Infinity, "1"), value(1, "x"), value(1, "")], [6, none, none, none, none]);
  },

  async "a failure is shown with the next step"() {
    const settings = await (await fetch(`${ORIGIN}/settings.json`)).json();
    const broken = async (body) => {
      const it = await open(browser);
      await it.page.route("**/settings.json", (route) => route.fulfill({ contentType: "application/json", body }));
      return it;
    };
    for (const body of ["no JSON", "{}", JSON.stringify({ ...settings, audiences: [] })]) {
      const it = await broken(body);
      await it.page.goto(`${ORIGIN}/`);
      await shows(it.page, /settings of this page/);
      await it.context.close();
    }
    const elsewhere = await broken(JSON.stringify({ ...settings, identityPoolId: "us-east-1:00000000-0000-4000-8000-000000000000" }));
    await signIn(elsewhere, admin);
    await shows(elsewhere.page, /settings of this page/);
    await elsewhere.context.close();

    const unknown = await open(browser);
    await signIn(unknown, nobody);
    await shows(unknown.page, /belongs to no institute yet/);
    await leavesNothing(unknown, secrets);
    await unknown.context.close();

    const late = await open(browser);
    await late.page.clock.install({ time: Date.now() + 3600_000 });
    await signIn(late, admin);
    await shows(late.page, /clock of this computer is wrong/);
    await late.context.close();

    const forged = await open(browser);
    await forged.page.goto(`${ORIGIN}/callback?code=x&state=y`);
    await shows(forged.page, /The sign-in was not completed/);
    assert.equal(new URL(forged.page.url()).search, "");
    await forged.context.close();
  },

  async "the test would find a leak and a violation of the policy"() {
    const it = await open(browser);
    await it.page.goto(`${ORIGIN}/`);
    await it.page.getByRole("heading", { name: "Sluice" }).waitFor();
    await it.page.evaluate(() => {
      document.body.append(Object.assign(document.createElement("img"), { src: "https://elsewhere.example/x.png" }));
      localStorage.setItem("id_token", "x");
    });
    await assert.rejects(isAccessible(it.page, "a picture without a text"), /image-alt/);
    assert.ok(it.complaints.some((said) => said.includes("Content Security Policy")), String(it.complaints));
    await assert.rejects(leavesNothing({ ...it, complaints: [] }, []), /id_token/);
    await it.context.close();
  },

  async "an expired sign-in is reported, and a user signs out"() {
    const it = await open(browser);
    const { page } = it;
    await page.clock.install();
    const tokens = await signIn(it, admin);
    await row(page, world.messages.report).waitFor();
    const ask = (path, form) => fetch(`${world.endpoint}${path}`, { method: "POST", body: new URLSearchParams({ client_id: world.clientId, ...form }) });
    const renew = (token) => ask("/oauth2/token", { grant_type: "refresh_token", refresh_token: token });
    // Revoked elsewhere: after an hour the page cannot renew the token.
    await ask("/oauth2/revoke", { token: tokens.refresh_token });
    await page.clock.fastForward("01:00:00");
    await shows(page, /Your sign-in has expired/);
    await page.getByRole("button", { name: "Sign in again" }).waitFor();
    assert.deepEqual(it.complaints, []);
    await it.context.close();

    // If the token is not revoked, the page renews it. AWS then refuses the signature, because the hour has not really passed: the page says that too.
    const late = await open(browser);
    await late.page.clock.install();
    await signIn(late, admin);
    await row(late.page, world.messages.report).waitFor();
    const renewed = late.page.waitForResponse((answer) => answer.url().endsWith("/oauth2/token"));
    await late.page.clock.fastForward("01:00:00");
    assert.equal((await renewed).status(), 200);
    await shows(late.page, /clock of this computer is wrong/);
    await late.context.close();

    const other = await open(browser);
    const given = await signIn(other, admin);
    await row(other.page, world.messages.report).waitFor();
    assert.equal((await renew(given.refresh_token)).status, 200);
    await other.page.getByRole("button", { name: "Sign out" }).click();
    await other.page.getByRole("button", { name: "Sign in as a user of an institute" }).waitFor();
    assert.notEqual((await renew(given.refresh_token)).status, 200, "the refresh token still works");
    await other.page.goBack();
    assert.equal(await other.page.getByTitle(world.messages.report).count(), 0);
    await other.context.close();
  },
};

const only = new RegExp(world.only ?? "");
const chosen = Object.entries(cases).filter(([name]) => only.test(name));
const [running, failed] = [new Set(), new Map()];
/** The end of the output, so that it is there even if the beginning is cut off. */
const end = () => {
  const reasons = [...failed].map(([name, reason]) => `${name}: ${reason}`);
  console.log(`browser: ${chosen.length - failed.size} of ${chosen.length} cases passed${reasons.map((it) => `; FAILED ${it}`).join("")}`);
  // A pattern that matches no name must not pass.
  process.exit(chosen.length > 0 && failed.size === 0 ? 0 : 1);
};
/** An error on one line, with the places in this file, the innermost first. */
const short = (error) => {
  const said = String(error.message ?? error).replace(/\x1b\[[0-9;]*m/g, "").replace(/\s+/g, " ");
  const lines = [...String(error.stack).matchAll(/console\.mjs:(\d+)/g)].map(([, line]) => line);
  return `${said.slice(0, 400)} (console.mjs, lines ${lines.slice(0, 3).join(", ")})`;
};
setTimeout(() => {
  for (const name of running) failed.set(name, `not at its end after ${world.seconds} s`);
  end();
}, world.seconds * 1000).unref();
const attempt = async ([name, run]) => {
  const began = Date.now();
  running.add(name);
  try {
    await run();
    console.log(`ok ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed.set(name, short(error));
    console.log(`FAILED ${name} (${Date.now() - began} ms): ${error.stack}`);
    for (const page of browser.contexts().flatMap((it) => it.pages())) console.log((await page.locator("body").innerText().catch(() => "")).slice(0, 2000));
    console.log(`answers that are failures of the service, in all cases: ${failures.join(", ")}`);
  }
  running.delete(name);
};
// The first case counts what the others change.
const [first, ...others] = chosen;
if (first !== undefined) await attempt(first);
await Promise.all(
  Array.from({ length: 3 }, async () => {
    for (let next = others.shift(); next !== undefined; next = others.shift()) await attempt(next);
  }),
);
await browser.close();
end();
