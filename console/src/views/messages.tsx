import type { ComponentChildren } from "preact";
import { memo } from "preact/compat";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { Session } from "../auth/session.js";
import type { Failure } from "../failure.js";
import { begin, EVERYTHING, goOn, ID_DIGITS, refresh, type Filter, type Shown } from "../model/catalog.js";
import { kind, sender, STATUSES, type CatalogRecord, type Status as RecordStatus } from "../model/record.js";
import { useTexts, useTime } from "../text/index.js";
import { Compare } from "./compare.js";
import { useEvery, useLoaded } from "./hooks.js";
import { Message } from "./message.js";
import { Badge, Heading, ShortId, Status, Trouble, Untrusted } from "./parts.js";

const LIVE_MILLISECONDS = 5000;

/** Whether a failed refresh may succeed by itself later. */
function isPassing(failure: Failure | undefined): boolean {
  return failure === undefined || ["offline", "throttled", "service"].includes(failure.kind);
}

interface Props {
  session: Session;
  institute: string;
}

export function Messages({ session, institute }: Props) {
  const t = useTexts();
  const [filter, setFilter] = useState(EVERYTHING);
  const [opened, setOpened] = useState<CatalogRecord>();
  const [compared, setCompared] = useState<CatalogRecord[]>([]);
  const [comparing, setComparing] = useState(false);
  const choose = useCallback((record: CatalogRecord, on: boolean) => {
    setCompared((known) => [...known.filter((it) => it.messageId !== record.messageId), ...(on ? [record] : [])]);
  }, []);
  const task = useRef(refresh);
  const listed = useLoaded<Shown>((shown) => (shown === undefined ? begin(session, institute, filter) : task.current(session, institute, filter, shown)), [session, institute, filter]);
  const load = (it: typeof refresh): void => {
    task.current = it;
    listed.again();
  };
  useEvery(LIVE_MILLISECONDS, () => {
    // Each search for a patient is logged, so it runs only on request.
    if (filter.patient === "" && opened === undefined && !comparing && !listed.busy && isPassing(listed.failure) && listed.value?.isPaused !== true) load(refresh);
  });
  if (opened !== undefined) return <Message session={session} record={opened} close={() => setOpened(undefined)} />;

  const [one, other] = compared;
  if (comparing && one !== undefined && other !== undefined) {
    return <Compare session={session} records={[one, other]} close={() => setComparing(false)} />;
  }

  // A later page of a rare search may be empty, and the list still goes on after it.
  const { value, failure } = listed;
  const { records, next } = value ?? { records: [] };
  return (
    <>
      <Heading>{t.messages.title}</Heading>
      <FilterForm
        mayRead={!session.isStaff}
        apply={setFilter}
      />
      {failure !== undefined && <Trouble failure={failure} session={session} again={listed.again} />}
      {value === undefined && failure === undefined && <p role="status">{t.loading}</p>}
      {value !== undefined && (
        <>
          <Status>{records.length === 0 ? (next === undefined ? t.messages.empty(institute) : t.messages.emptySoFar) : t.messages.count(records.length, next !== undefined)}</Status>
          {compared.length > 0 && (
            <div class="buttons">
              <span>{t.compare.lead(compared.length)}</span>
              <button type="button" class="primary" disabled={compared.length < 2} onClick={() => setComparing(true)}>{t.compare.button}</button>
            </div>
          )}
          {records.length > 0 && <Table {...{ records, compared, choose, open: setOpened, mayRead: !session.isStaff }} />}
          {next !== undefined && <button type="button" onClick={() => load(goOn)}>{t.messages.more}</button>}
          {value.isPaused ? (
            <div class="buttons">
              <span role="status">{t.messages.paused}</span>
              <button type="button" onClick={() => load(begin)}>{t.refresh}</button>
            </div>
          ) : (
            <p class="quiet">{t.messages.live}</p>
          )}
        </>
      )}
    </>
  );
}

interface TableProps {
  records: CatalogRecord[];
  compared: CatalogRecord[];
  choose: (it: CatalogRecord, on: boolean) => void;
  open: (it: CatalogRecord) => void;
  /** Whether what is in the messages can be compared. */
  mayRead: boolean;
}

function Table({ records, compared, choose, open, mayRead }: TableProps) {
  const t = useTexts();
  const columns = t.messages.columns;
  const names = [columns.id, columns.received, columns.type, columns.status, columns.sender, columns.control, ...(mayRead ? [t.compare.column] : [])];
  const blocks = Array.from({ length: Math.ceil(records.length / BLOCK) }, (_, n) => records.slice(n * BLOCK, (n + 1) * BLOCK));
  return (
    <div class="scroll" role="region" aria-label={t.messages.caption} tabIndex={0}>
      <table class="messages" aria-rowcount={records.length + 1}>
        <caption>{t.messages.caption}</caption>
        <thead>
          <tr aria-rowindex={1}>{names.map((it) => <th key={it} scope="col">{it}</th>)}</tr>
        </thead>
        {blocks.map((rows, n) => (
          <Block key={n} columns={names.length}>
            {rows.map((it, at) => (
              <Row key={it.messageId} index={n * BLOCK + at + 2} record={it} open={open} choose={choose} mayRead={mayRead} isChosen={compared.some((chosen) => chosen.messageId === it.messageId)} isFull={compared.length === 2} />
            ))}
          </Block>
        ))}
      </table>
    </div>
  );
}

const BLOCK = 100;
/** A block is drawn before it comes into view. */
const MARGIN = "1500px";

/** Rows of a long list. While they are out of view, their room is kept and they are not there: a browser cannot scroll many thousands smoothly. */
function Block({ columns, children }: { columns: number; children: ComponentChildren }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [height, setHeight] = useState<number>();
  useEffect(() => {
    const it = body.current;
    if (it === null) return;
    const observer = new IntersectionObserver((entries) => {
      const last = entries.at(-1);
      const isNeeded = last === undefined || last.isIntersecting || it.contains(document.activeElement);
      setHeight(isNeeded ? undefined : last.boundingClientRect.height);
    }, { rootMargin: MARGIN });
    observer.observe(it);
    return () => observer.disconnect();
  }, []);
  return <tbody ref={body}>{height === undefined ? children : <tr aria-hidden="true"><td colSpan={columns} height={height} /></tr>}</tbody>;
}

/** Memoized, so that a long list draws only its new rows. */
const Row = memo(({ index, record, open, choose, mayRead, isChosen, isFull }: Omit<TableProps, "records" | "compared"> & { index: number; record: CatalogRecord; isChosen: boolean; isFull: boolean }) => {
  const [t, time] = [useTexts(), useTime()];
  return (
    <tr aria-rowindex={index}>
      <td>
        <button type="button" class="link" aria-label={t.messages.open(record.messageId.slice(0, 12))} onClick={() => open(record)}>
          <ShortId id={record.messageId} />
        </button>
      </td>
      <td>{time(record.receivedAt)}</td>
      <td><Untrusted text={kind(record.summary)} /></td>
      <td><Badge record={record} /></td>
      <td><Untrusted text={sender(record.summary)} /></td>
      <td><Untrusted text={record.summary.controlId ?? "–"} /></td>
      {mayRead && (
        <td>
          <input type="checkbox" aria-label={t.compare.choose(record.messageId.slice(0, 12))} checked={isChosen} disabled={record.status !== "stored" || (isFull && !isChosen)} onChange={(event) => choose(record, event.currentTarget.checked)} />
        </td>
      )}
    </tr>
  );
});

/** Converts a time of the browser's input, in the user's zone, to the form of the catalog. */
function asUtc(local: string): string {
  const at = Date.parse(local);
  return Number.isNaN(at) ? "" : new Date(at).toISOString();
}

/** Converts a time of the browser's input to the form of MSH-7, in no zone: it is on the sender's own clock. */
function asHl7(local: string): string {
  return local.replace(/\D/g, "");
}

function FilterForm({ apply, mayRead }: { apply: (it: Filter) => void; mayRead: boolean }) {
  const t = useTexts();
  const words = t.messages.filter;
  const [typed, setTyped] = useState(EVERYTHING);
  const field = (member: keyof Filter, label: string, more: object = {}) => (
    <label>
      {label}
      <input value={typed[member]} autocomplete="off" spellcheck={false} onInput={(event) => setTyped({ ...typed, [member]: event.currentTarget.value })} {...more} />
    </label>
  );
  return (
    <details class="filter">
      <summary>{words.label}</summary>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const { type, sender, receiver, controlId, patient, id } = typed;
          apply({
            ...typed, type: type.trim(), sender: sender.trim(), receiver: receiver.trim(), controlId: controlId.trim(), patient: patient.trim(), id: id.trim(),
            from: asUtc(typed.from), to: asUtc(typed.to), messageFrom: asHl7(typed.messageFrom), messageTo: asHl7(typed.messageTo),
          });
        }}
      >
        {field("type", words.type)}
        <label>
          {words.status}
          <select value={typed.status} onChange={(event) => setTyped({ ...typed, status: event.currentTarget.value as RecordStatus | "" })}>
            <option value="">{words.all}</option>
            {STATUSES.map((it) => <option key={it} value={it}>{t.status[it]}</option>)}
          </select>
        </label>
        {field("sender", words.sender)}
        {field("receiver", words.receiver)}
        {field("controlId", words.control)}
        {mayRead && field("patient", words.patient)}
        {field("id", `${words.id} (${words.idHint})`, { pattern: `[0-9a-fA-F]{${ID_DIGITS},64}`, title: words.idHint })}
        {field("from", words.from, { type: "datetime-local" })}
        {field("to", words.to, { type: "datetime-local" })}
        {field("messageFrom", words.messageFrom, { type: "datetime-local" })}
        {field("messageTo", words.messageTo, { type: "datetime-local" })}
        <div class="buttons">
          <button type="submit" class="primary">{words.apply}</button>
          <button type="button" onClick={() => { setTyped(EVERYTHING); apply(EVERYTHING); }}>{words.clear}</button>
        </div>
      </form>
    </details>
  );
}
