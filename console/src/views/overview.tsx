import { useState } from "preact/hooks";
import type { Session } from "../auth/session.js";
import { count, OUTCOMES, type Counts, type Outcome } from "../model/counts.js";
import { useTexts, useTime } from "../text/index.js";
import { BarChart, HourChart } from "./charts.js";
import { useEvery, useLoaded } from "./hooks.js";
import { Heading, Status, Trouble, Untrusted } from "./parts.js";

const HOUR = 3600 * 1000;
const REFRESH_MILLISECONDS = 30_000;

export function Overview({ session, institute }: { session: Session; institute: string }) {
  const t = useTexts();
  const [hours, setHours] = useState(24);
  const counted = useLoaded(() => count(session, institute, new Date(Math.floor(Date.now() / HOUR) * HOUR - (hours - 1) * HOUR)), [session, institute, hours]);
  useEvery(REFRESH_MILLISECONDS, () => {
    if (!counted.busy && counted.failure === undefined) counted.again();
  });
  return (
    <>
      <Heading>{t.overview.title}</Heading>
      <label>
        {t.overview.range}{" "}
        <select value={hours} onChange={(event) => setHours(Number(event.currentTarget.value))}>
          <option value={24}>{t.overview.day}</option>
          <option value={24 * 7}>{t.overview.week}</option>
        </select>
      </label>
      {counted.failure !== undefined && <Trouble failure={counted.failure} session={session} again={counted.again} />}
      {counted.value === undefined && counted.failure === undefined && <p role="status">{t.loading}</p>}
      {counted.value !== undefined && <Numbers counts={counted.value} hours={hours} />}
    </>
  );
}

/** A duration in milliseconds, for people. */
function spoken(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds} ms` : milliseconds < 120_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 60_000)} min`;
}

function Numbers({ counts, hours }: { counts: Counts; hours: number }) {
  const t = useTexts();
  const outcomes = new Map(OUTCOMES.flatMap((it) => (counts.outcomes.has(it) ? [[t.overview.outcomeNames[it], counts.outcomes.get(it) ?? 0] as const] : [])));
  const senders = new Map([...counts.senders].map(([name, it]) => [name, it.messages] as const));
  const at = (part: number): string => spoken(counts.delays[Math.floor((counts.delays.length - 1) * part)] ?? 0);
  return (
    <>
      <Status>{t.overview.total(counts.total, counts.complete)}</Status>
      {counts.delays.length > 0 && <p>{t.overview.delay(at(0.5), at(0.95))}</p>}
      {counts.read < counts.total && <p class="quiet">{t.overview.newest(counts.read)}</p>}
      <section>
        <h2>{t.overview.hours}</h2>
        <HourChart hours={counts.hours} last={hours} />
        <HourTable hours={counts.hours} />
      </section>
      <div class="columns">
        <Breakdown title={t.overview.outcomes} head={t.overview.outcome} counts={outcomes} />
        <Breakdown title={t.overview.types} head={t.overview.type} counts={counts.types} />
        <Breakdown title={t.overview.senders} head={t.overview.sender} counts={senders} last={new Map([...counts.senders].map(([name, it]) => [name, it.last] as const))} />
      </div>
    </>
  );
}

function HourTable({ hours }: { hours: Counts["hours"] }) {
  const [t, time] = [useTexts(), useTime()];
  const seen = OUTCOMES.filter((it) => [...hours.values()].some((inHour) => inHour.has(it)));
  return (
    <details>
      <summary>{t.overview.table}</summary>
      <div class="scroll" role="region" aria-label={t.overview.hours} tabIndex={0}>
        <table>
          <caption>{t.overview.hours}</caption>
          <thead><tr><th scope="col">{t.overview.hour}</th>{seen.map((it) => <th key={it} scope="col">{t.overview.outcomeNames[it]}</th>)}</tr></thead>
          <tbody>
            {[...hours].sort(([a], [b]) => b.localeCompare(a)).map(([hour, inHour]) => (
              <tr key={hour}><th scope="row">{time(hour)}</th>{seen.map((it: Outcome) => <td key={it}>{inHour.get(it) ?? 0}</td>)}</tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** The most frequent values as bars, and all values as a table, with the last message of each if that is known. */
function Breakdown({ title, head, counts, last }: { title: string; head: string; counts: ReadonlyMap<string, number>; last?: ReadonlyMap<string, string> }) {
  const [t, time] = [useTexts(), useTime()];
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return (
    <section>
      <h2>{title}</h2>
      <BarChart title={title} bars={sorted.slice(0, 10)} />
      <details>
        <summary>{t.overview.table}</summary>
        <table>
          <caption>{title}</caption>
          <thead><tr><th scope="col">{head}</th><th scope="col">{t.overview.messages}</th>{last !== undefined && <th scope="col">{t.overview.last}</th>}</tr></thead>
          <tbody>
            {sorted.map(([name, n]) => (
              <tr key={name}><th scope="row"><Untrusted text={name} /></th><td>{n}</td>{last !== undefined && <td>{time(last.get(name) ?? "")}</td>}</tr>
            ))}
          </tbody>
        </table>
      </details>
    </section>
  );
}
