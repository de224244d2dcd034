import type { Session } from "../auth/session.js";
import type { CatalogRecord } from "../model/record.js";
import { useTexts, useTime } from "../text/index.js";
import { Untrusted } from "./parts.js";

interface Step {
  at: string;
  what: string;
  more?: string;
}

/** The steps of a message in order, as far as its record tells them. */
export function Path({ session, record }: { session: Session; record: CatalogRecord }) {
  const [t, time] = [useTexts(), useTime()];
  const words = t.message.steps;
  const { subject, issuer } = record.submitter;
  // The institutes' users have the lake's own pool.
  const isOwn = session.settings.audiences.some((it) => it.name === "institutes" && it.issuer === issuer);
  const by = subject === "" ? {} : { more: t.message.submitter(isOwn || issuer === "" ? subject : `${subject} (${issuer})`, record.submissions) };
  const steps: Step[] = [{ at: record.receivedAt, what: words.submitted(record.submissions), ...by }];
  const code = record.errorCode === "" ? undefined : t.message.code(record.errorCode);
  if (record.heldSince !== "") {
    const until = record.heldUntil === "" ? "" : t.message.until(time(record.heldUntil));
    steps.push({ at: record.heldSince, what: words.held, more: [record.status === "held" ? code : undefined, until].filter(Boolean).join(", ") });
  }
  if (record.queuedAt > Date.parse(record.receivedAt) + 1000) steps.push({ at: new Date(record.queuedAt).toISOString(), what: words.queued });
  if (record.discardedAt !== "") steps.push({ at: record.discardedAt, what: words.discarded });
  steps.sort((a, b) => a.at.localeCompare(b.at));
  if (record.storedAt !== "") {
    const unparsable = record.state === "error";
    // Sluice publishes the event after this, and a record does not say when.
    const event = t.message.eventFollows(unparsable ? "unparsable" : "stored");
    steps.push({ at: record.storedAt, what: words.stored, more: [unparsable ? code : undefined, event].filter(Boolean).join(", ") });
  } else if (record.status === "queued" || record.status === "processing") {
    steps.push({ at: "", what: words.waiting });
  }
  return (
    <ol class="path">
      {steps.map((it, n) => (
        <li key={n}>
          <b>{it.what}</b> {it.at !== "" && <time dateTime={it.at}>{time(it.at)}</time>} {it.more !== undefined && <Untrusted text={it.more} />}
        </li>
      ))}
    </ol>
  );
}
