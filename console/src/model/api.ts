import { again } from "../again.js";
import type { Session } from "../auth/session.js";
import { Failure } from "../failure.js";
import type { Status, Summary } from "./record.js";

/** The API's result for one file. */
export type Taken =
  | { what: "accepted"; messageIds: string[]; before: number; refused: number }
  | { what: "before" }
  | { what: "refused"; problem: string };

interface Problem {
  type?: string;
  title?: string;
  detail?: string;
}

async function send(session: Session, path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("authorization", `Bearer ${await session.idToken()}`);
  headers.set("accept", "application/json");
  return again(() => fetch(`${session.settings.apiUrl}${path}`, { ...init, headers, cache: "no-store" }));
}

async function problemOf(answer: Response): Promise<Problem> {
  return (await answer.json().catch(() => ({}))) as Problem;
}

/** An answer that ends the run, because the next message would get the same. */
function stop(status: number): Failure | undefined {
  if (status === 401) return new Failure("expired");
  if (status === 403) return new Failure("forbidden");
  if (status === 429) return new Failure("throttled");
  return status >= 500 ? new Failure("service", String(status)) : undefined;
}

/** Posts a file as it is. To post it again is always safe: what is stored is not stored twice. */
export async function submit(session: Session, body: ArrayBuffer): Promise<Taken> {
  const answer = await send(session, "/er7", { method: "POST", body, headers: { "content-type": "application/hl7-v2" } });
  if (answer.status === 202) {
    const given = (await answer.json()) as {
      messageId?: string;
      messages?: { messageId?: string; status?: string }[];
      duplicates?: number;
      refused?: number;
    };
    const many = given.messages?.filter((it) => it.status === "queued").map((it) => it.messageId ?? "") ?? [];
    const messageIds = given.messageId === undefined ? many : [given.messageId];
    return { what: "accepted", messageIds, before: given.duplicates ?? 0, refused: given.refused ?? 0 };
  }
  if (answer.status === 409) return { what: "before" };
  const failure = stop(answer.status);
  if (failure !== undefined) throw failure;
  const problem = await problemOf(answer);
  return { what: "refused", problem: problem.title ?? String(answer.status) };
}

/** The result of a release. `over` means that the message is no longer held: somebody else released it, or this page did before. */
export type Released = { what: "released" } | { what: "over" } | { what: "refused"; problem: string };

/** Releases one held message under one's own token. */
export async function release(session: Session, messageId: string): Promise<Released> {
  const answer = await send(session, `/er7/${messageId}/release`, { method: "POST" });
  if (answer.status === 202) return { what: "released" };
  if (answer.status === 409 || answer.status === 404) return { what: "over" };
  if (answer.status === 410) return { what: "refused", problem: (await problemOf(answer)).title ?? "410" };
  const failure = stop(answer.status);
  if (failure !== undefined) throw failure;
  return { what: "refused", problem: (await problemOf(answer)).title ?? String(answer.status) };
}

/** A message as a listing of the API has it. */
export interface Listed extends Summary {
  messageId: string;
  status: Status;
  state?: string;
  submissions: number;
  receivedAt: string;
  storedAt?: string;
}

/** A page of the messages about a patient, the newest first. The identifier travels in the body, and never in a URL. */
export async function search(session: Session, question: { patient: string; from?: string; to?: string; cursor?: string }): Promise<{ messages: Listed[]; cursor?: string }> {
  const answer = await send(session, "/er7/search", {
    method: "POST",
    body: JSON.stringify({ ...question, limit: 100 }),
    headers: { "content-type": "application/json" },
  });
  if (answer.ok) return (await answer.json()) as { messages: Listed[]; cursor?: string };
  throw stop(answer.status) ?? new Failure(answer.status === 400 ? "search" : "service", String(answer.status));
}

/** The status of a message that the user has submitted. */
export interface Standing {
  messageId: string;
  status: string;
}

/** Asks for up to 500 messages at once. A user who may only submit may ask too. */
export async function statuses(session: Session, messageIds: string[]): Promise<Standing[]> {
  const answer = await send(session, "/er7/status", {
    method: "POST",
    body: JSON.stringify({ messageIds: messageIds.slice(0, 500) }),
    headers: { "content-type": "application/json" },
  });
  if (!answer.ok) throw stop(answer.status) ?? new Failure("service", String(answer.status));
  return ((await answer.json()) as { statuses: Standing[] }).statuses;
}
