import { useState } from "preact/hooks";
import type { Session } from "../auth/session.js";
import { asFailure, type Failure } from "../failure.js";
import { release } from "../model/api.js";
import { held } from "../model/catalog.js";
import { HOLD_REASONS, type CatalogRecord, type HoldReason } from "../model/record.js";
import { useTexts, useTime } from "../text/index.js";
import { useLoaded } from "./hooks.js";
import { Message } from "./message.js";
import { Heading, ShortId, Status, Trouble } from "./parts.js";

/** The state of a run of releases. `outcomes` holds only answers of the API. */
interface Run {
  total: number;
  before: number;
  outcomes: Map<string, { what: "released" | "over" | "refused"; problem: string }>;
  failure?: Failure;
  running: boolean;
}

/** The number of releases at once, which stays below the API's rate limit. */
const AT_ONCE = 4;

export function Held({ session, institute }: { session: Session; institute: string }) {
  const [t, time] = [useTexts(), useTime()];
  const listed = useLoaded(() => allHeld(session, institute), [session, institute]);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [run, setRun] = useState<Run>();
  const [opened, setOpened] = useState<CatalogRecord>();
  const mayRelease = !session.isStaff && session.claims.write === institute;
  const records = listed.value ?? [];
  // Another person may have released a chosen message meanwhile.
  const waiting = records.map((it) => it.messageId).filter((id) => chosen.has(id));
  const choose = (ids: string[], on: boolean): void => {
    const next = new Set(chosen);
    for (const id of ids) if (on) next.add(id); else next.delete(id);
    setChosen(next);
  };
  const start = async (): Promise<void> => {
    const state: Run = { total: waiting.length, before: records.length, outcomes: new Map(), running: true };
    const [next, left] = [[...waiting], new Set(waiting)];
    const show = (): void => {
      setRun({ ...state });
      setChosen(new Set(left));
    };
    show();
    const work = async (): Promise<void> => {
      for (let id = next.shift(); id !== undefined && state.failure === undefined; id = next.shift()) {
        try {
          const answer = await release(session, id);
          state.outcomes.set(id, { problem: "", ...answer });
          left.delete(id);
        } catch (error) {
          // Nobody knows whether this request arrived. If it did, the API will answer the next one that the message is no longer held.
          state.failure = asFailure(error);
        }
        show();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    state.running = false;
    show();
    if (state.failure === undefined) listed.again();
  };
  const count = (what: string): number => [...(run?.outcomes.values() ?? [])].filter((it) => it.what === what).length;
  if (opened !== undefined) return <Message session={session} record={opened} close={() => setOpened(undefined)} />;
  return (
    <>
      <Heading>{t.held.title}</Heading>
      <p>{t.held.lead}</p>
      {!mayRelease && !session.isStaff && <p class="quiet">{t.rights.noWrite}</p>}
      {listed.failure !== undefined && <Trouble failure={listed.failure} session={session} again={listed.again} />}
      {run !== undefined && (
        <Status>
          {t.held.before(run.before)}{" "}
          {run.running ? t.held.progress(run.outcomes.size, run.total) : t.held.result(count("released"), count("over"), count("refused"))}{" "}
          {!run.running && run.failure === undefined && !listed.busy && t.held.now(records.length)}
          {run.failure !== undefined && t.held.broken(run.outcomes.size, run.total - run.outcomes.size)}
        </Status>
      )}
      {run?.failure !== undefined && !run.running && <Trouble failure={run.failure} session={session} />}
      {listed.value === undefined && listed.failure === undefined && <p role="status">{t.loading}</p>}
      {records.length >= MOST && <p>{t.held.most(MOST)}</p>}
      {listed.value !== undefined && records.length === 0 && <p>{t.held.none}</p>}
      {mayRelease && records.length > 0 && (
        <div class="buttons">
          <label><input type="checkbox" checked={waiting.length === records.length} disabled={run?.running === true} onChange={(event) => choose(records.map((it) => it.messageId), event.currentTarget.checked)} /> {t.held.all}</label>
          <button type="button" class="primary" disabled={waiting.length === 0 || run?.running === true} onClick={() => void start()}>
            {run?.failure === undefined ? t.held.release(waiting.length) : t.held.rest(waiting.length)}
          </button>
          <button type="button" disabled={run?.running === true} onClick={listed.again}>{t.refresh}</button>
        </div>
      )}
      {records.length > 0 && (
        <div class="scroll" role="region" aria-label={t.held.caption} tabIndex={0}>
          <table>
            <caption>{t.held.caption}</caption>
            <thead>
              <tr>
                {mayRelease && <th scope="col">{t.held.columns.choose}</th>}
                {[t.held.columns.since, t.held.columns.reason, t.held.columns.id].map((it) => <th key={it} scope="col">{it}</th>)}
              </tr>
            </thead>
            <tbody>
              {records.map((it) => (
                <tr key={it.messageId}>
                  {mayRelease && (
                    <td>
                      <input type="checkbox" aria-label={t.held.choose(it.messageId.slice(0, 12))} checked={chosen.has(it.messageId)} disabled={run?.running === true} onChange={(event) => choose([it.messageId], event.currentTarget.checked)} />
                    </td>
                  )}
                  <td>{time(it.heldSince)}</td>
                  <td>{reason(it, t.held.reasons)}{run?.outcomes.get(it.messageId)?.what === "refused" && <> – {t.held.refusedWith(run.outcomes.get(it.messageId)?.problem ?? "")}</>}</td>
                  <td>
                    <button type="button" class="link" aria-label={t.messages.open(it.messageId.slice(0, 12))} onClick={() => setOpened(it)}>
                      <ShortId id={it.messageId} />
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function reason(record: CatalogRecord, words: Record<HoldReason, string>): string {
  const known = HOLD_REASONS.find((it) => it === record.heldReason);
  return known === undefined ? record.heldReason : words[known];
}

/** The most held messages shown at once, up to a page more. */
const MOST = 5000;

async function allHeld(session: Session, institute: string): Promise<CatalogRecord[]> {
  let page = await held(session, institute);
  const records = page.records;
  while (page.next !== undefined && records.length < MOST) {
    page = await held(session, institute, page.next);
    records.push(...page.records);
  }
  return records;
}
