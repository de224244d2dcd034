import { signed } from "../aws/signed.js";
import type { Session } from "../auth/session.js";

/** Messages of one hour, type and status, as `GET /institutes/{institute}/summary` counts them. Without a type MSH-9 could not be read. */
export interface Cell {
  /** The beginning of the hour, RFC 3339. */
  hour: string;
  /** `ADT^A01` */
  type?: string;
  status?: string;
  state?: string;
  count: number;
}

interface Summary {
  counts: Cell[];
  /** What was received before this is not counted yet. */
  next?: string;
}

/** The most requests; each counts some 10,000 messages. */
const REQUESTS = 20;

/** Lets the API count an institute's messages since a time, which IAM allows to the institute's readers. `complete` is false if there are more. */
export async function summarize(session: Session, institute: string, from: Date): Promise<{ cells: Cell[]; complete: boolean }> {
  const cells: Cell[] = [];
  let to: string | undefined;
  for (let request = 0; request < REQUESTS; request++) {
    const address = new URL(`${session.settings.apiUrl}/institutes/${institute}/summary`);
    address.searchParams.set("from", from.toISOString());
    if (to !== undefined) address.searchParams.set("to", to);
    const answer = (await (await signed(session, "execute-api", address.href, {})).json()) as Summary;
    cells.push(...answer.counts);
    to = answer.next;
    if (to === undefined) return { cells, complete: true };
  }
  return { cells, complete: false };
}
