import { useEffect, useMemo, useState } from "preact/hooks";
import { getObject } from "../aws/s3.js";
import type { Session } from "../auth/session.js";
import { find } from "../model/catalog.js";
import { compare, differs, type Row } from "../model/compare.js";
import type { Rendition } from "../model/hl7.js";
import { kind, type CatalogRecord } from "../model/record.js";
import { useTexts, useTime } from "../text/index.js";
import { useLoaded } from "./hooks.js";
import { Heading, ShortId, Status, Trouble, Untrusted } from "./parts.js";

/** Places that are shown at first, and added each time. */
const ROWS = 300;
const UTF_8 = new TextDecoder();

interface Props {
  session: Session;
  records: [CatalogRecord, CatalogRecord];
  close: () => void;
}

/** Two messages side by side. A sign and a word mark each difference, not color alone. */
export function Compare({ session, records, close }: Props) {
  const [t, time] = [useTexts(), useTime()];
  const [shown, setShown] = useState(ROWS);
  const [all, setAll] = useState(false);
  const loaded = useLoaded(() => Promise.all(records.map((it) => rendition(session, it))), [session, ...records]);
  const rows = useMemo(() => {
    const [left, right] = loaded.value ?? [];
    return left === undefined || right === undefined ? undefined : compare(left, right);
  }, [loaded.value]);
  useEffect(() => {
    const back = (event: KeyboardEvent): void => {
      if (event.key === "Escape") close();
    };
    addEventListener("keydown", back);
    return () => removeEventListener("keydown", back);
  }, [close]);
  const different = rows?.filter(differs) ?? [];
  const chosen = all ? (rows ?? []) : different;
  const head = (it: CatalogRecord) => <th scope="col"><Untrusted text={kind(it.summary)} /> <ShortId id={it.messageId} /><br />{time(it.receivedAt)}</th>;
  return (
    <article>
      <button type="button" onClick={close}>← {t.back}</button>
      <Heading>{t.compare.title}</Heading>
      {loaded.failure !== undefined && <Trouble failure={loaded.failure} session={session} again={loaded.again} />}
      {loaded.value === undefined && loaded.failure === undefined && <p role="status">{t.loading}</p>}
      {loaded.value !== undefined && rows === undefined && <p>{t.compare.unreadable}</p>}
      {rows !== undefined && (
        <>
          <Status>{t.compare.count(different.length, rows.length)}</Status>
          <label><input type="checkbox" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} /> {t.compare.all}</label>
          {chosen.length > 0 && (
            <div class="scroll" role="region" aria-label={t.compare.caption} tabIndex={0}>
              <table class="compare">
                <caption>{t.compare.caption}</caption>
                <thead><tr><th scope="col">{t.compare.place}</th><th scope="col">{t.compare.difference}</th>{head(records[0])}{head(records[1])}</tr></thead>
                <tbody>{chosen.slice(0, shown).map((it) => <Place key={it.place} row={it} />)}</tbody>
              </table>
            </div>
          )}
          {chosen.length > shown && <button type="button" onClick={() => setShown(shown + ROWS)}>{t.messages.more}</button>}
        </>
      )}
    </article>
  );
}

function Place({ row }: { row: Row }) {
  const t = useTexts();
  const { left, right } = row;
  const [sign, word] = !differs(row) ? ["", ""] : left === undefined ? ["+", t.compare.added] : right === undefined ? ["−", t.compare.missing] : ["≠", t.compare.changed];
  const side = (value: string | undefined) => <td>{value !== undefined && (sign === "" ? <Untrusted text={value} /> : <mark><Untrusted text={value} /></mark>)}</td>;
  return (
    <tr>
      <th scope="row"><code><Untrusted text={row.place} /></code> <span class="name">{row.name}</span></th>
      <td>{sign !== "" && <><span aria-hidden="true">{sign}</span> {word}</>}</td>
      {side(left)}
      {side(right)}
    </tr>
  );
}

/** Undefined for a message that has none, because it does not parse. */
async function rendition(session: Session, listed: CatalogRecord): Promise<Rendition | undefined> {
  // The record may come from an index, which lacks some members.
  const record = (await find(session, listed.source, listed.messageId)) ?? listed;
  if (record.jsonKey === "") return undefined;
  return JSON.parse(UTF_8.decode(await getObject(session, record.jsonKey, record.jsonVersionId))) as Rendition;
}
