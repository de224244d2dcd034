import type { Item, Page } from "../aws/dynamodb.js";

/** The number of an institute's partitions of the index by arrival (`domain::arrivals`). */
const SHARDS = 4;

/** How far a partition was read: up to the item with a key. */
type Mark = "start" | "end" | Item;

/** Where a list goes on. */
export interface Reached {
  /** How far each partition was read. */
  marks: Mark[];
  /** When the list's newest record arrived; empty before there is one. What arrived after it is not in the list. */
  newest: string;
}

export function isReached(it: Item | Reached | undefined): it is Reached {
  return it !== undefined && Array.isArray(it["marks"]);
}

interface Part {
  key: string;
  /** How far its items were given away, and how far it was read. */
  given: Mark;
  read: Mark;
  waiting: Item[];
}

function time(item: Item | undefined): string {
  const value = item?.["received_at"];
  return value !== undefined && "S" in value ? value.S : "";
}

/** Joins an institute's partitions of the index by arrival to one list, the newest first. */
export class Arrivals {
  readonly #parts: Part[];
  #newest: string;

  /** Of the rest of a list, `read` asks for what arrived until `reached.newest` only. */
  constructor(institute: string, reached: Reached = { marks: [], newest: "" }) {
    this.#newest = reached.newest;
    this.#parts = Array.from({ length: SHARDS }, (_, n) => {
      const mark = reached.marks[n] ?? "start";
      // DynamoDB refuses to begin after an item that is newer than all that is asked for.
      const from = typeof mark === "object" && reached.newest !== "" && time(mark) > reached.newest ? "start" : mark;
      return { key: `${institute}#${n}`, given: from, read: from, waiting: [] };
    });
  }

  /** Reads the partitions of which no item waits. */
  async read(page: (partition: string, after?: Item) => Promise<Page>): Promise<void> {
    const due = this.#parts.filter((it) => it.read !== "end" && it.waiting.length === 0);
    await Promise.all(due.map(async (part) => {
      // No item of what was read is left to give, so nothing reads it again.
      part.given = part.read;
      const { items, next } = await page(part.key, part.read === "start" || part.read === "end" ? undefined : part.read);
      part.waiting.push(...items);
      part.read = next ?? "end";
    }));
  }

  /** The next items of the list that are known, so many at most. */
  take(most: number): Item[] {
    const taken: Item[] = [];
    while (taken.length < most) {
      const heads = this.#parts.filter((it) => it.waiting.length > 0);
      if (heads.length === 0) break;
      // Of the same time, the first partition's comes first.
      const first = heads.reduce((a, b) => (time(b.waiting[0]) > time(a.waiting[0]) ? b : a));
      const at = time(first.waiting[0]);
      const place = this.#parts.indexOf(first);
      // What is not read yet of another partition may come earlier.
      const isUnknown = this.#parts.some(({ read, waiting }, n) =>
        waiting.length === 0 && read !== "end" && (read === "start" || time(read) > at || (time(read) === at && n < place)));
      if (isUnknown) break;
      const item = first.waiting.shift() as Item;
      const names = ["source", "message_id", "arrival_shard", "received_at"];
      first.given = Object.fromEntries(Object.entries(item).filter(([name]) => names.includes(name)));
      this.#newest ||= at;
      taken.push(item);
    }
    return taken;
  }

  /** Where the list goes on after the items given away; `undefined` at its end. */
  reached(): Reached | undefined {
    const marks = this.#parts.map((it) => (it.waiting.length === 0 ? it.read : it.given));
    return marks.every((it) => it === "end") ? undefined : { marks, newest: this.#newest };
  }

  /** Whether an item was read and not given away. */
  isWaiting(): boolean {
    return this.#parts.some((it) => it.waiting.length > 0);
  }
}
