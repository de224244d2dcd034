import { query } from "../aws/dynamodb.js";
import type { Session } from "../auth/session.js";
import { Arrivals } from "./arrivals.js";
import { Expression } from "./catalog.js";
import { kind, recordOf, sender, type CatalogRecord } from "./record.js";
import { summarize } from "./summary.js";

export const OUTCOMES = ["stored", "unparsable", "waiting", "held", "lost"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** The outcome of a message, as the overview shows it. */
export function outcome({ status, state }: { status?: string; state?: string }): Outcome {
  if (status === "stored") return state === "error" ? "unparsable" : "stored";
  if (status === "held") return "held";
  return status === "queued" || status === "processing" ? "waiting" : "lost";
}

/** A sender: the number of messages, and the arrival of the last one. */
export interface Sender {
  messages: number;
  /** RFC 3339 */
  last: string;
}

/** The counts of a period: by hour, type, sender and outcome. */
export interface Counts {
  total: number;
  /** By the beginning of the hour, RFC 3339. */
  hours: Map<string, Map<Outcome, number>>;
  types: Map<string, number>;
  outcomes: Map<Outcome, number>;
  /** False if there is more than was counted. */
  complete: boolean;
  /** The number of newest messages whose senders and times to the lake are known. */
  read: number;
  senders: Map<string, Sender>;
  /** Milliseconds from arrival to the lake, sorted. */
  delays: number[];
}

function add<Key>(counts: Map<Key, number>, key: Key, n: number): void {
  counts.set(key, (counts.get(key) ?? 0) + n);
}

function nothing(): Counts {
  return {
    total: 0, hours: new Map(), types: new Map(), outcomes: new Map(), complete: false, read: 0, senders: new Map(), delays: [],
  };
}

/** Counts messages of one hour, type and outcome. */
function enter(counts: Counts, hour: string, type: string, what: Outcome, n: number): void {
  const inHour = counts.hours.get(hour) ?? new Map<Outcome, number>();
  counts.hours.set(hour, inHour);
  add(inHour, what, n);
  add(counts.types, type, n);
  add(counts.outcomes, what, n);
  counts.total += n;
}

/** Adds the facts of a record that no summary has. */
function look(counts: Counts, record: CatalogRecord): void {
  const name = sender(record.summary);
  const known = counts.senders.get(name);
  // The newest record comes first.
  counts.senders.set(name, { messages: (known?.messages ?? 0) + 1, last: known?.last ?? record.receivedAt });
  counts.read += 1;
  if (record.storedAt !== "") counts.delays.push(Date.parse(record.storedAt) - Date.parse(record.receivedAt));
}

/** The beginning of an hour, by which hours are compared. */
function hourOf(time: string): string {
  return `${time.slice(0, 13)}:00:00Z`;
}

/** The most requests to each partition of the catalog for a user without summaries; each reads some 1,500 records. */
const REQUESTS = 20;

/**
 * Counts an institute's messages since a time. For a user of the institute, the API counts them, and the page reads only the newest for
 * senders and times. Lake staff belong to no institute, so IAM gives them no summary: the page counts all records in the index.
 */
export async function count(session: Session, institute: string, from: Date): Promise<Counts> {
  const counts = nothing();
  if (session.isStaff) {
    counts.complete = await read(session, institute, from, REQUESTS, (record) => {
      enter(counts, hourOf(record.receivedAt), kind(record.summary), outcome(record), 1);
      look(counts, record);
    });
  } else {
    const [summary] = await Promise.all([summarize(session, institute, from), read(session, institute, from, 1, (it) => look(counts, it))]);
    for (const cell of summary.cells) enter(counts, hourOf(cell.hour), cell.type ?? "–", outcome(cell), cell.count);
    counts.complete = summary.complete;
  }
  counts.delays.sort((a, b) => a - b);
  return counts;
}

/** Reads records in the catalog's index, the newest first. False if there are more. */
async function read(session: Session, institute: string, from: Date, requests: number, take: (it: CatalogRecord) => void): Promise<boolean> {
  const it = new Expression();
  const keys = `#arrival_shard = :partition AND ${it.compare("received_at", ">=", "from", from.toISOString())}`;
  const wanted = [
    "received_at", "stored_at", "listed", "state", "summary.messageType", "summary.triggerEvent", "summary.sendingApplication", "summary.sendingFacility",
  ];
  const projection = wanted.map((path) => it.name(path)).join(", ");
  const arrivals = new Arrivals(institute);
  for (let request = 0; request < requests; request++) {
    await arrivals.read(async (partition, after) => query(session, {
      index: "by-arrival", keys, projection, names: { ...it.names, "#arrival_shard": "arrival_shard" },
      values: { ...it.values, ":partition": { S: partition } }, ...(after === undefined ? {} : { after }),
    }));
    for (const item of arrivals.take(Infinity)) take(recordOf(item));
    if (arrivals.reached() === undefined) return true;
  }
  return false;
}
