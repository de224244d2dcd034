import { getItem, query, type AttributeValue, type Item } from "../aws/dynamodb.js";
import type { Session } from "../auth/session.js";
import { recordOf, type CatalogRecord, type Status } from "./record.js";

/** What a list shows. An empty member asks for everything. */
export interface Filter {
  type: string;
  status: Status | "";
  sender: string;
  controlId: string;
  /** How a message id begins, at least eight digits. */
  id: string;
  /** RFC 3339, or empty. */
  from: string;
  to: string;
}

export const EVERYTHING: Filter = { type: "", status: "", sender: "", controlId: "", id: "", from: "", to: "" };

/** Records of a list, and where it goes on. */
export interface Listing {
  records: CatalogRecord[];
  next?: Item;
}

export const ID_DIGITS = 8;
const PAGE = 100;
/** DynamoDB reads at most 1 MiB a request: where what is asked for is rare, a page takes several. */
const REQUESTS = 10;

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

/** A page of an institute's records, newest first; those of an id's beginning in the order of their ids. */
export async function list(session: Session, institute: string, filter: Filter, after?: Item): Promise<Listing> {
  const it = new Expression();
  const keys = [it.compare("source", "=", "source", institute)];
  const filters: string[] = [];
  const byId = filter.id.length >= ID_DIGITS;
  if (byId) keys.push(`begins_with(${it.name("message_id")}, ${it.value("id", filter.id.toLowerCase())})`);
  // BETWEEN has both ends: the last millisecond before `to`. A filter may not name a key of what is read.
  const last = filter.to === "" ? "" : new Date(Date.parse(filter.to) - 1).toISOString();
  const times = [
    ...(filter.from !== "" && last !== "" ? [`${it.compare("received_at", "BETWEEN", "from", filter.from)} AND ${it.value("last", last)}`] : []),
    ...(filter.from !== "" && last === "" ? [it.compare("received_at", ">=", "from", filter.from)] : []),
    ...(filter.from === "" && last !== "" ? [it.compare("received_at", "<=", "last", last)] : []),
  ];
  (byId ? filters : keys).push(...times);
  const [type, event] = filter.type.toUpperCase().split("^");
  if (type !== undefined && type !== "") filters.push(it.compare("summary.messageType", "=", "type", type));
  if (event !== undefined && event !== "") filters.push(it.compare("summary.triggerEvent", "=", "event", event));
  if (filter.status !== "") filters.push(it.compare("status", "=", "status", filter.status));
  if (filter.controlId !== "") filters.push(it.compare("summary.controlId", "=", "controlId", filter.controlId));
  if (filter.sender !== "") {
    const value = it.value("sender", filter.sender);
    filters.push(`(${it.name("summary.sendingApplication")} = ${value} OR ${it.name("summary.sendingFacility")} = ${value})`);
  }
  const records: CatalogRecord[] = [];
  let next = after;
  for (let request = 0; request < REQUESTS; request++) {
    const page = await query(session, {
      ...(byId ? {} : { index: "by-received-at" }),
      keys: keys.join(" AND "),
      ...(filters.length === 0 ? { limit: PAGE } : { filter: filters.join(" AND ") }),
      names: it.names,
      values: it.values,
      ...(next === undefined ? {} : { after: next }),
      ascending: byId,
    });
    records.push(...page.items.map(recordOf));
    next = page.next;
    if (next === undefined || records.length >= PAGE) break;
  }
  return next === undefined ? { records } : { records, next };
}

/** An institute's held messages, those held longest first. */
export async function held(session: Session, institute: string, after?: Item): Promise<Listing> {
  const it = new Expression();
  const keys = it.compare("source", "=", "source", institute);
  const filter = it.compare("status", "=", "status", "held");
  const page = await query(session, {
    index: "by-held-since", keys, filter, names: it.names, values: it.values, ascending: true,
    ...(after === undefined ? {} : { after }),
  });
  const records = page.items.map(recordOf);
  return page.next === undefined ? { records } : { records, next: page.next };
}

/** One record as it is now. */
export async function find(session: Session, institute: string, messageId: string): Promise<CatalogRecord | undefined> {
  const item = await getItem(session, { source: { S: institute }, message_id: { S: messageId } });
  return item === undefined ? undefined : recordOf(item);
}
