import { getItem, query, type AttributeValue, type Item } from "../aws/dynamodb.js";
import { search } from "./api.js";
import { Arrivals, isReached, type Reached } from "./arrivals.js";
import type { Session } from "../auth/session.js";
import { recordOf, type CatalogRecord, type Status } from "./record.js";

/** The filter of a list. An empty member matches everything. */
export interface Filter {
  type: string;
  status: Status | "";
  sender: string;
  receiver: string;
  controlId: string;
  /** The digits that MSH-7 begins with, on the sender's own clock; compared as text. */
  messageFrom: string;
  messageTo: string;
  /** An identifier of PID-3. It combines with the times only. */
  patient: string;
  /** The beginning of a message id, at least eight digits. */
  id: string;
  /** RFC 3339, or empty. */
  from: string;
  to: string;
}

export const EVERYTHING: Filter = { type: "", status: "", sender: "", receiver: "", controlId: "", messageFrom: "", messageTo: "", patient: "", id: "", from: "", to: "" };

/** A page of a list, and where the next one begins. */
export interface Listing {
  records: CatalogRecord[];
  next?: Item | Reached;
  /** How often each partition of the index by arrival was read for it. */
  rounds?: number;
}

/** A list as the page shows it: one page and more. */
export interface Shown extends Listing {
  /** When it was read, in milliseconds since 1970. What arrived later may be missing. */
  looked: number;
  /** Whether it has more than the first page. */
  hasMore: boolean;
  /** Whether too much arrived for the live refresh: what is between the newest messages and this list is unknown. */
  isPaused: boolean;
}

export const ID_DIGITS = 8;
const PAGE = 100;
/** DynamoDB reads at most 1 MiB per request. If matches are rare, a page takes several requests, of each partition in the index by arrival. */
const REQUESTS = 10;
/** The live refresh reads so much again: messages arrive late in the index, match once they are stored, and clocks differ. */
const LOOK_BACK_MILLISECONDS = 10 * 60_000;
/** The most pages that the live refresh reads to meet what is shown. */
const LIVE_PAGES = 5;
/** The most older rows that the live refresh reads by their keys, because they still wait. */
const LIVE_KEYS = 20;
/** The page size for held messages, each of which takes another request. */
const HELD_PAGE = 50;

/** Collects an expression's names and values. */
export class Expression {
  readonly names: Record<string, string> = {};
  readonly values: Record<string, AttributeValue> = {};

  name(path: string): string {
    return path
      .split(".")
      .map((part) => {
        this.names[`#${part}`] = part;
        return `#${part}`;
      })
      .join(".");
  }

  value(name: string, value: string): string {
    this.values[`:${name}`] = { S: value };
    return `:${name}`;
  }

  compare(path: string, operator: string, name: string, value: string): string {
    return `${this.name(path)} ${operator} ${this.value(name, value)}`;
  }
}

/** The index to read a list from: the one with the fewest other records between the matches. */
function placeOf(session: Session, filter: Filter): "by-control-id" | "by-arrival" | "table" {
  if (filter.id.length >= ID_DIGITS) return "table";
  return filter.controlId !== "" && session.settings.hasSearchIndexes ? "by-control-id" : "by-arrival";
}

/** A page of an institute's records, newest first. A filter by id orders them by id, and a filter for held ones by the time since which they are held. */
export async function list(session: Session, institute: string, filter: Filter, from?: Item | Reached, rounds = REQUESTS): Promise<Listing> {
  const [after, reached] = isReached(from) ? [undefined, from] : [from, undefined];
  if (filter.patient !== "") return listPatient(session, institute, filter, after);
  const place = placeOf(session, filter);
  if (filter.status === "held" && place === "by-arrival") return listHeld(session, institute, filter, after);
  const it = new Expression();
  const keys: string[] = [];
  const filters: string[] = [];
  // BETWEEN includes both ends, hence the last millisecond before `to`. A filter may not name a key of the index.
  const before = filter.to === "" ? "" : new Date(Date.parse(filter.to) - 1).toISOString();
  // A later page has nothing that arrived after the first one was read: it would be newer than what stands above it.
  const last = [before, reached?.newest ?? ""].filter((it) => it !== "").sort()[0] ?? "";
  const times = [
    ...(filter.from !== "" && last !== "" ? [`${it.compare("received_at", "BETWEEN", "from", filter.from)} AND ${it.value("last", last)}`] : []),
    ...(filter.from !== "" && last === "" ? [it.compare("received_at", ">=", "from", filter.from)] : []),
    ...(filter.from === "" && last !== "" ? [it.compare("received_at", "<=", "last", last)] : []),
  ];
  if (place === "table") keys.push(`begins_with(${it.name("message_id")}, ${it.value("id", filter.id.toLowerCase())})`);
  // A tab stands between a control id and the arrival, and a line feed is the character after it (docs/READING.md).
  if (place === "by-control-id") keys.push(`${it.compare("control_id_at", "BETWEEN", "first", `${filter.controlId}\t`)} AND ${it.value("after", `${filter.controlId}\n`)}`);
  (place === "by-arrival" ? keys : filters).push(...times);
  const [type, event] = filter.type.toUpperCase().split("^");
  if (type !== undefined && type !== "") filters.push(it.compare("summary.messageType", "=", "type", type));
  if (event !== undefined && event !== "") filters.push(it.compare("summary.triggerEvent", "=", "event", event));
  if (place === "by-arrival" && (filter.status === "queued" || filter.status === "processing")) {
    // There a message is `queued` until its end, so the index cannot tell these two apart.
    filters.push(`${it.name("listed")} IN (${it.value("queued", "queued")}, ${it.value("processing", "processing")})`);
  } else if (filter.status !== "" && place === "by-arrival") filters.push(it.compare("listed", "=", "status", filter.status));
  else if (filter.status !== "") filters.push(it.compare("status", "=", "status", filter.status));
  if (filter.controlId !== "" && place !== "by-control-id") filters.push(it.compare("summary.controlId", "=", "controlId", filter.controlId));
  if (filter.sender !== "") {
    const value = it.value("sender", filter.sender);
    filters.push(`(${it.name("summary.sendingApplication")} = ${value} OR ${it.name("summary.sendingFacility")} = ${value})`);
  }
  if (filter.receiver !== "") {
    const value = it.value("receiver", filter.receiver);
    filters.push(`(${it.name("summary.receivingApplication")} = ${value} OR ${it.name("summary.receivingFacility")} = ${value})`);
  }
  if (filter.messageFrom !== "") filters.push(it.compare("summary.messageTime", ">=", "messageFrom", filter.messageFrom));
  if (filter.messageTo !== "") filters.push(it.compare("summary.messageTime", "<", "messageTo", filter.messageTo));
  if (place === "by-arrival") {
    const arrivals = new Arrivals(institute, reached);
    const found: CatalogRecord[] = [];
    let round = 0;
    while (round < rounds) {
      round++;
      await arrivals.read(async (partition, last) => query(session, {
        index: place,
        keys: ["#arrival_shard = :partition", ...keys].join(" AND "),
        ...(filters.length === 0 ? { limit: PAGE + 1 } : { filter: filters.join(" AND ") }),
        names: { ...it.names, "#arrival_shard": "arrival_shard" },
        values: { ...it.values, ":partition": { S: partition } },
        ...(last === undefined ? {} : { after: last }),
      }));
      found.push(...arrivals.take(PAGE - found.length).map(recordOf));
      if (arrivals.reached() === undefined || (found.length >= PAGE && arrivals.isWaiting())) break;
    }
    const next = arrivals.reached();
    return { records: found, rounds: round, ...(next === undefined ? {} : { next }) };
  }
  keys.unshift(it.compare("source", "=", "source", institute));
  const records: CatalogRecord[] = [];
  let next = after;
  for (let request = 0; request < REQUESTS; request++) {
    const page = await query(session, {
      ...(place === "table" ? {} : { index: place }),
      keys: keys.join(" AND "),
      ...(filters.length === 0 ? { limit: PAGE } : { filter: filters.join(" AND ") }),
      names: it.names,
      values: it.values,
      ...(next === undefined ? {} : { after: next }),
      ascending: place === "table",
    });
    records.push(...page.items.map(recordOf));
    next = page.next;
    if (next === undefined || records.length >= PAGE) break;
  }
  return next === undefined ? { records } : { records, next };
}

/** The first page of a list. */
export async function begin(session: Session, institute: string, filter: Filter): Promise<Shown> {
  const looked = Date.now();
  return { ...(await list(session, institute, filter)), looked, hasMore: false, isPaused: false };
}

/** The list with one more page. */
export async function goOn(session: Session, institute: string, filter: Filter, { next, ...shown }: Shown): Promise<Shown> {
  if (next === undefined) return shown;
  const page = await list(session, institute, filter, next);
  const ids = new Set(shown.records.map((it) => it.messageId));
  const records = [...shown.records, ...page.records.filter((it) => !ids.has(it.messageId))];
  return { ...shown, records, hasMore: true, ...(page.next === undefined ? {} : { next: page.next }) };
}

/**
 * The list as it is now. If its first page is all of it and cheap to read, that page is read again. Of any other list, only what arrived since
 * the last look and the rows that still wait are read. If that meets nothing that is shown within some pages, the list stays as it is, and is paused.
 */
export async function refresh(session: Session, institute: string, filter: Filter, shown: Shown): Promise<Shown> {
  const isCheap = (shown.rounds ?? 1) <= 1;
  if (isCheap && !shown.hasMore) return begin(session, institute, filter);
  const looked = Date.now();
  const place = placeOf(session, filter);
  const order = place === "table" ? "messageId" : filter.status === "held" && place === "by-arrival" ? "heldSince" : "receivedAt";
  const isByArrival = place === "by-arrival" && order === "receivedAt";
  const since = isByArrival ? new Date(shown.looked - LOOK_BACK_MILLISECONDS).toISOString() : "";
  const from = since > filter.from ? since : filter.from;
  const ids = new Set(shown.records.map((it) => it.messageId));
  const fresh = new Map<string, CatalogRecord>();
  let isCovered = (_: CatalogRecord): boolean => false;
  // Else nothing more can arrive.
  if (filter.to === "" || from < filter.to) {
    let page: Listing | undefined;
    for (let n = 0; ; n++) {
      // What is not cheap is read once.
      if (n === (isCheap ? LIVE_PAGES : 1)) return { ...shown, isPaused: true };
      page = await list(session, institute, { ...filter, from }, page?.next, isByArrival ? 1 : REQUESTS);
      for (const it of page.records) fresh.set(it.messageId, it);
      if (page.next === undefined || page.records.some((it) => ids.has(it.messageId))) break;
    }
    const last = [...fresh.values()].at(-1)?.[order] ?? "";
    const isEnd = page.next === undefined;
    // Between the first and the last row that was read, a row that is shown and was not read matches no more.
    isCovered = isEnd ? (it) => !isByArrival || it.receivedAt >= from : (it) => (order === "messageId" ? it[order] < last : it[order] > last);
  }
  const older = shown.records.filter((it) => !fresh.has(it.messageId) && !isCovered(it));
  const waiting = older.filter((it) => isWaiting(it.status)).slice(0, LIVE_KEYS);
  const present = new Map(await Promise.all(waiting.map(async ({ messageId }) => [messageId, await find(session, institute, messageId)] as const)));
  const rest = older.map((it) => (present.has(it.messageId) ? present.get(it.messageId) : it));
  return { ...shown, looked, records: [...fresh.values(), ...rest.filter((it) => it !== undefined && fits(it, filter)) as CatalogRecord[]] };
}

function isWaiting(status: Status | ""): boolean {
  return status === "queued" || status === "processing";
}

/** A page of the messages about a patient. Only the API can make the hash that finds them. */
async function listPatient(session: Session, institute: string, { patient, from, to }: Filter, after?: Item): Promise<Listing> {
  const cursor = after?.["cursor"];
  const page = await search(session, {
    patient, ...(from === "" ? {} : { from }), ...(to === "" ? {} : { to }), ...(cursor !== undefined && "S" in cursor ? { cursor: cursor.S } : {}),
  });
  // Only what a list shows; the rest is read when a message is opened.
  const records = page.messages.map((it) => ({
    ...recordOf({ source: { S: institute }, message_id: { S: it.messageId } }),
    status: it.status, state: it.state ?? "", submissions: it.submissions, receivedAt: it.receivedAt, storedAt: it.storedAt ?? "", summary: it,
  }));
  return page.cursor === undefined ? { records } : { records, next: { cursor: { S: page.cursor } } };
}

/** Whether a record matches the filter. */
function fits({ status, summary, receivedAt }: CatalogRecord, filter: Filter): boolean {
  const [type = "", event = ""] = filter.type.toUpperCase().split("^");
  const is = (wanted: string, ...values: (string | undefined)[]): boolean => wanted === "" || values.includes(wanted);
  const { messageTime } = summary;
  return (
    (is(filter.status, status) || (isWaiting(filter.status) && isWaiting(status))) && is(type, summary.messageType) && is(event, summary.triggerEvent) && is(filter.controlId, summary.controlId) &&
    is(filter.sender, summary.sendingApplication, summary.sendingFacility) && is(filter.receiver, summary.receivingApplication, summary.receivingFacility) &&
    (filter.messageFrom === "" || (messageTime !== undefined && messageTime >= filter.messageFrom)) &&
    (filter.messageTo === "" || (messageTime !== undefined && messageTime < filter.messageTo)) &&
    (filter.from === "" || receivedAt >= filter.from) && (filter.to === "" || receivedAt < filter.to)
  );
}

/** A page of held records, the latest hold first. The index has only their ids, so each record is read by itself. */
async function listHeld(session: Session, institute: string, filter: Filter, after?: Item): Promise<Listing> {
  const page = await held(session, institute, after, { ascending: false, limit: HELD_PAGE });
  const found = await Promise.all(page.records.map((it) => find(session, institute, it.messageId)));
  const records = found.filter((it) => it !== undefined && fits(it, filter)) as CatalogRecord[];
  return page.next === undefined ? { records } : { records, next: page.next };
}

/** An institute's held messages, those held longest first. */
export async function held(
  session: Session, institute: string, after?: Item | Reached, order: { ascending: boolean; limit?: number } = { ascending: true },
): Promise<Listing> {
  const it = new Expression();
  const keys = it.compare("source", "=", "source", institute);
  const filter = it.compare("status", "=", "status", "held");
  const page = await query(session, {
    index: "by-held-since", keys, filter, names: it.names, values: it.values, ...order,
    ...(after === undefined || isReached(after) ? {} : { after }),
  });
  const records = page.items.map(recordOf);
  return page.next === undefined ? { records } : { records, next: page.next };
}

/** The present state of one record. */
export async function find(session: Session, institute: string, messageId: string): Promise<CatalogRecord | undefined> {
  const item = await getItem(session, { source: { S: institute }, message_id: { S: messageId } });
  return item === undefined ? undefined : recordOf(item);
}
