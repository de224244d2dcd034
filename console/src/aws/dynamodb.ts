import type { Session } from "../auth/session.js";
import { endpoint } from "./identity.js";
import { signed } from "./signed.js";

/** DynamoDB's JSON of a value. */
export type AttributeValue =
  | { S: string }
  | { N: string }
  | { BOOL: boolean }
  | { NULL: boolean }
  | { M: Record<string, AttributeValue> }
  | { L: AttributeValue[] };

export type Item = Record<string, AttributeValue>;

export interface Query {
  index?: string;
  keys: string;
  filter?: string;
  projection?: string;
  names: Record<string, string>;
  values: Record<string, AttributeValue>;
  limit?: number;
  after?: Item;
  ascending?: boolean;
}

export interface Page {
  items: Item[];
  /** Where the next page begins; absent on the last one. */
  next?: Item;
}

async function call<Answer>(session: Session, operation: string, input: object): Promise<Answer> {
  const answer = await signed(session, "dynamodb", `${endpoint(session.settings, "dynamodb")}/`, {
    method: "POST",
    headers: { "content-type": "application/x-amz-json-1.0", "x-amz-target": `DynamoDB_20120810.${operation}` },
    body: JSON.stringify(input),
  });
  return (await answer.json()) as Answer;
}

/** One request of a query of the catalog. */
export async function query(session: Session, it: Query): Promise<Page> {
  const answer = await call<{ Items?: Item[]; LastEvaluatedKey?: Item }>(session, "Query", {
    TableName: session.settings.table,
    IndexName: it.index,
    KeyConditionExpression: it.keys,
    FilterExpression: it.filter,
    ProjectionExpression: it.projection,
    ExpressionAttributeNames: it.names,
    ExpressionAttributeValues: it.values,
    Limit: it.limit,
    ExclusiveStartKey: it.after,
    ScanIndexForward: it.ascending ?? false,
  });
  const page: Page = { items: answer.Items ?? [] };
  if (answer.LastEvaluatedKey !== undefined) page.next = answer.LastEvaluatedKey;
  return page;
}

/** The present item with a key. */
export async function getItem(session: Session, key: Item): Promise<Item | undefined> {
  const input = { TableName: session.settings.table, Key: key, ConsistentRead: true };
  return (await call<{ Item?: Item }>(session, "GetItem", input)).Item;
}

/** A value of DynamoDB as a JavaScript value. */
export function plain(value: AttributeValue): unknown {
  if ("S" in value) return value.S;
  if ("N" in value) return Number(value.N);
  if ("BOOL" in value) return value.BOOL;
  if ("M" in value) return plainItem(value.M);
  if ("L" in value) return value.L.map(plain);
  return undefined;
}

export function plainItem(item: Item): Record<string, unknown> {
  return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, plain(value)]));
}
