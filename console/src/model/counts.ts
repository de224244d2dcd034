import { query, type Item } from "../aws/dynamodb.js";
import type { Session } from "../auth/session.js";
import { Expression } from "./catalog.js";
import { recordOf, sender, type CatalogRecord } from "./record.js";

export const OUTCOMES = ["stored", "unparsable", "waiting", "held", "lost"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What a message came to, as people ask for it. */
export function outcome({ status, state }: CatalogRecord): Outcome {
  if (status === "stored") return state === "error" ? "unparsable" : "stored";
  if (status === "held") return "held";
  return status === "queued" || status === "processing" ? "waiting" : "lost";
}

/** What happened in a time: counts by hour, type, sender and outcome. */
export interface Counts {
  total: number;
  /** By the beginning of the hour, RFC 3339. */
  hours: Map<string, Map<Outcome, number>>;
  types: Map<string, number>;
  outcomes: Map<Outcome, number>;
  /** False if there is more than was counted. */
  complete: boolean;
  senders: Map<string, number>;
  /** Milliseconds from arrival to the lake, sorted. */
  delays: number[];
}

function add<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function nothing(): Counts {
  return {
    total: 0, hours: new Map(), types: new Map(), outcomes: new Map(), complete: false, senders: new Map(), delays: [],
  };
}

function enter(counts: Counts, record: CatalogRecord): void {
  const [hour, what] = [`${record.receivedAt.slice(0, 13)}:00:00Z`, outcome(record)];
  const inHour = counts.hours.get(hour) ?? new Map<Outcome, number>();
  counts.hours.set(hour, inHour);
  add(inHour, what);
  add(counts.types, record.summary.messageType ?? "–");
  add(counts.senders, sender(record.summary));
  add(counts.outcomes, what);
  counts.total += 1;
  if (record.storedAt !== "") counts.delays.push(Date.parse(record.storedAt) - Date.parse(record.receivedAt));
}

/** Some 1,500 records each. */
const REQUESTS = 20;

/** Counts an institute's messages since then, in the catalog's index, the newest first. */
export async function count(session: Session, institute: string, from: Date): Promise<Counts> {
  const it = new Expression();
  const keys = `${it.compare("source", "=", "source", institute)} AND ${it.compare("received_at", ">=", "from", from.toISOString())}`;
  const wanted = [
    "received_at", "stored_at", "status", "state", "summary.messageType", "summary.sendingApplication", "summary.sendingFacility",
  ];
  const projection = wanted.map((path) => it.name(path)).join(", ");
  const counts = nothing();
  let next: Item | undefined;
  for (let request = 0; request < REQUESTS && !counts.complete; request++) {
    const page = await query(session, {
      index: "by-received-at", keys, projection, names: it.names, values: it.values, ...(next === undefined ? {} : { after: next }),
    });
    for (const item of page.items) enter(counts, recordOf(item));
    next = page.next;
    counts.complete = next === undefined;
  }
  counts.delays.sort((a, b) => a - b);
  return counts;
}
