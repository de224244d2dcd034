// Sends a message, waits for it, reads it in all forms, pages through the catalog and handles problems.
//
//     node client.js API_URL FILE < ID_TOKEN
//
// `api.d.ts` is what openapi-typescript makes of docs/openapi.yaml (README.md has the command).
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

type Problem = components["schemas"]["Problem"];

const [apiUrl, file] = process.argv.slice(2);
const token = readFileSync(0, "utf8").trim();
const message = readFileSync(file);

const client = (bearer: string) =>
  createClient<paths>({ baseUrl: apiUrl, headers: { Authorization: `Bearer ${bearer}`, Accept: "application/json" } });
const api = client(token);

/** API Gateway answers `{"message": …}`; everything else is a problem document. */
const isProblem = (error: unknown): error is Problem => typeof error === "object" && error !== null && "type" in error;

/** Submits a message. One that is stored already is as good as sent. */
async function send(): Promise<string> {
  const { data, error } = await api.POST("/er7", {
    headers: { "Content-Type": "application/hl7-v2" },
    body: message as unknown as string,
    // Send the bytes unchanged, and not as JSON.
    bodySerializer: (body: unknown) => body as BodyInit,
  });
  const answer = data ?? error;
  if (answer !== undefined && typeof answer === "object" && "messageId" in answer) return answer.messageId;
  throw new Error(`not taken: ${JSON.stringify(answer)}`);
}

async function wait(messageId: string): Promise<string> {
  for (;;) {
    const { data } = await api.GET("/er7/{messageId}/status", { params: { path: { messageId } } });
    if (data !== undefined && data.status !== "queued" && data.status !== "processing") return data.status;
    await setTimeout(200);
  }
}

/** The message in one form. */
async function read(messageId: string, accept: string): Promise<Buffer> {
  const request = { params: { path: { messageId } }, headers: { Accept: accept }, parseAs: "arrayBuffer" } as const;
  const { data, error } = await api.GET("/er7/{messageId}", request);
  if (data === undefined) throw new Error(JSON.stringify(error));
  return Buffer.from(data as ArrayBuffer);
}

/** The ids of all messages, from pages of two. */
async function pages(): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const { data, error } = await api.GET("/er7", { params: { query: { limit: 2, cursor } } });
    if (data === undefined) throw new Error(JSON.stringify(error));
    ids.push(...data.messages.map((entry) => entry.messageId));
    cursor = data.cursor;
  } while (cursor !== undefined);
  return ids;
}

const messageId = await send();
console.log("status", await wait(messageId));
if ((await send()) !== messageId) throw new Error("the same message has the same id");

console.log("er7", (await read(messageId, "application/hl7-v2")).toString().split("\r")[0]);
console.log("json", "segments" in JSON.parse((await read(messageId, "application/json")).toString()));
console.log("received", (await read(messageId, "application/octet-stream")).equals(message));

console.log("listed", (await pages()).filter((id) => id === messageId).length);

const unknown = await api.GET("/er7/{messageId}", { params: { path: { messageId: "0".repeat(64) } } });
if (!isProblem(unknown.error)) throw new Error("a problem document");
console.log("problem", unknown.error.type, unknown.error.status);
const refused = await client("no-token").GET("/er7/{messageId}/status", { params: { path: { messageId } } });
console.log("gateway", !isProblem(refused.error));
