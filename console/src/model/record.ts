import { plainItem, type Item } from "../aws/dynamodb.js";

export const STATUSES = ["queued", "processing", "stored", "held", "discarded", "denied", "expired", "failed"] as const;
export type Status = (typeof STATUSES)[number];
export const HOLD_REASONS = ["denied", "expired", "deployment", "failed"] as const;
export type HoldReason = (typeof HOLD_REASONS)[number];

/** What MSH says; nothing of a patient. */
export interface Summary {
  messageType?: string;
  triggerEvent?: string;
  controlId?: string;
  hl7Version?: string;
  sendingApplication?: string;
  sendingFacility?: string;
  receivingApplication?: string;
  receivingFacility?: string;
  messageTime?: string;
}

/** A record of the catalog, as docs/READING.md has it. Times are RFC 3339 in UTC. */
export interface CatalogRecord {
  source: string;
  messageId: string;
  status: Status;
  state: string;
  submissions: number;
  receivedAt: string;
  storedAt: string;
  key: string;
  versionId: string;
  jsonKey: string;
  jsonVersionId: string;
  rawKey: string;
  rawVersionId: string;
  charset: string;
  heldReason: string;
  heldSince: string;
  heldUntil: string;
  discardedAt: string;
  /** The caller of the newest submission: `sub` and `iss` of the token. */
  submitter: { subject: string; issuer: string };
  /** Milliseconds since 1970 of the last submission or release; 0 if unknown. */
  queuedAt: number;
  summary: Summary;
  errorCode: string;
  errorDetail: string;
}

export function recordOf(item: Item): CatalogRecord {
  const given = plainItem(item);
  const text = (name: string): string => (typeof given[name] === "string" ? given[name] : "");
  const number = (name: string): number => (typeof given[name] === "number" ? given[name] : 0);
  const inner = (name: string): Record<string, unknown> =>
    typeof given[name] === "object" && given[name] !== null ? (given[name] as Record<string, unknown>) : {};
  const [error, submitter] = [inner("error"), inner("submitter")];
  return {
    source: text("source"),
    messageId: text("message_id"),
    // The index by arrival has it as `listed`, which is `queued` while a message is processed.
    status: (text("status") || text("listed")) as Status,
    state: text("state"),
    submissions: number("submissions"),
    receivedAt: text("received_at"),
    storedAt: text("stored_at"),
    key: text("key"),
    versionId: text("version_id"),
    jsonKey: text("json_key"),
    jsonVersionId: text("json_version_id"),
    rawKey: text("raw_key"),
    rawVersionId: text("raw_version_id"),
    charset: text("charset"),
    heldReason: text("held_reason"),
    heldSince: text("held_since"),
    heldUntil: text("held_until"),
    discardedAt: text("discarded_at"),
    submitter: {
      subject: typeof submitter["subject"] === "string" ? submitter["subject"] : "",
      issuer: typeof submitter["issuer"] === "string" ? submitter["issuer"] : "",
    },
    queuedAt: number("queued_at"),
    summary: inner("summary"),
    errorCode: typeof error["code"] === "string" ? error["code"] : "",
    errorDetail: typeof error["detail"] === "string" ? error["detail"] : "",
  };
}

/** `ADT^A01`, or a dash where MSH says nothing. */
export function kind({ messageType, triggerEvent }: Summary): string {
  if (messageType === undefined) return "–";
  return triggerEvent === undefined ? messageType : `${messageType}^${triggerEvent}`;
}

/** Who sent it: application and facility. */
export function sender({ sendingApplication, sendingFacility }: Summary): string {
  return [sendingApplication, sendingFacility].filter((it) => it !== undefined).join(" / ") || "–";
}
