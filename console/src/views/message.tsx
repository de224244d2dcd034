import { useEffect, useMemo, useState } from "preact/hooks";
import { getObject } from "../aws/s3.js";
import type { Session } from "../auth/session.js";
import { find } from "../model/catalog.js";
import { documents, type Rendition } from "../model/hl7.js";
import { waves } from "../model/waves.js";
import { kind, type CatalogRecord } from "../model/record.js";
import { useTexts } from "../text/index.js";
import { Documents } from "./documents.js";
import { useEvery, useLoaded } from "./hooks.js";
import { Badge, Heading, Trouble, Untrusted } from "./parts.js";
import { Path } from "./path.js";
import { Tree } from "./tree.js";

const VIEWS = ["tree", "er7", "json", "received", "documents", "path"] as const;
type View = (typeof VIEWS)[number];

interface Props {
  session: Session;
  record: CatalogRecord;
  close: () => void;
}

/** One message. The page keeps its content only while it is open. */
export function Message({ session, record: listed, close }: Props) {
  const t = useTexts();
  const [view, setView] = useState<View>(session.isStaff || listed.status !== "stored" ? "path" : "tree");
  const current = useLoaded(() => find(session, listed.source, listed.messageId), [session, listed]);
  // The record may come from an index, which lacks some members.
  const record = current.value ?? listed;
  const isWhole = current.value !== undefined || current.failure !== undefined;
  useEvery(3000, () => {
    if (record.status === "queued" || record.status === "processing") current.again();
  });
  useEffect(() => {
    const back = (event: KeyboardEvent): void => {
      if (event.key === "Escape") close();
    };
    addEventListener("keydown", back);
    return () => removeEventListener("keydown", back);
  }, [close]);
  const views: readonly View[] = session.isStaff ? ["path"] : VIEWS;
  return (
    <article>
      <button type="button" onClick={close}>← {t.back}</button>
      <Heading>{t.message.title} <Untrusted text={kind(record.summary)} /></Heading>
      <p class="id"><code>{record.messageId}</code> <Badge record={record} /></p>
      {current.failure !== undefined && <Trouble failure={current.failure} session={session} again={current.again} />}
      {views.length > 1 && (
        <div class="views" role="group" aria-label={t.message.views}>
          {views.map((it) => (
            <button key={it} type="button" aria-pressed={it === view} onClick={() => setView(it)}>{t.message[it]}</button>
          ))}
        </div>
      )}
      {session.isStaff && <p class="quiet">{t.message.staff}</p>}
      {!isWhole ? <p role="status">{t.loading}</p> : view === "path" ? <Path session={session} record={record} /> : record.status !== "stored" ? <p>{t.message.notStored}</p> : <Content {...{ session, record, view }} />}
    </article>
  );
}

function Content({ session, record, view }: { session: Session; record: CatalogRecord; view: View }) {
  const t = useTexts();
  if (view === "er7") return <Text key={record.key} session={session} at={record.key} version={record.versionId} />;
  if (view === "received") {
    if (record.rawKey === "") return <p>{t.message.sameAsEr7}</p>;
    return <Text key={record.rawKey} session={session} at={record.rawKey} version={record.rawVersionId} charset={record.charset} />;
  }
  if (record.jsonKey === "") return <p>{t.message.noTree}</p>;
  if (view === "json") return <Text key={record.jsonKey} session={session} at={record.jsonKey} version={record.jsonVersionId} pretty />;
  return <Fields session={session} record={record} view={view} />;
}

const UTF_8 = new TextDecoder();

function Fields({ session, record, view }: { session: Session; record: CatalogRecord; view: View }) {
  const t = useTexts();
  const { jsonKey, jsonVersionId } = record;
  const rendition = useLoaded(
    async () => JSON.parse(UTF_8.decode(await getObject(session, jsonKey, jsonVersionId))) as Rendition,
    [session, jsonKey, jsonVersionId],
  );
  const found = useMemo(() => (rendition.value === undefined ? undefined : { documents: documents(rendition.value), waves: waves(rendition.value) }), [rendition.value]);
  if (rendition.failure !== undefined) return <Trouble failure={rendition.failure} session={session} again={rendition.again} />;
  if (rendition.value === undefined || found === undefined) return <p role="status">{t.loading}</p>;
  return view === "documents" ? <Documents {...found} /> : <Tree rendition={rendition.value} />;
}

/** Segments that are shown at first, and added each time. */
const LINES = 200;

function Text({ session, at, version, charset = "", pretty = false }: { session: Session; at: string; version: string; charset?: string; pretty?: boolean }) {
  const t = useTexts();
  const [lines, setLines] = useState(LINES);
  const bytes = useLoaded(() => getObject(session, at, version), [session, at, version]);
  const text = useMemo(() => {
    if (bytes.value === undefined) return [];
    const whole = decode(bytes.value, charset);
    return (pretty ? JSON.stringify(JSON.parse(whole), null, 1) : whole).split(/\r\n|\r|\n/);
  }, [bytes.value, charset, pretty]);
  if (bytes.failure !== undefined) return <Trouble failure={bytes.failure} session={session} again={bytes.again} />;
  if (bytes.value === undefined) return <p role="status">{t.loading}</p>;
  const left = text.length - lines;
  return (
    <>
      <p class="quiet">{charset !== "" && <>{t.message.charset(charset)}, </>}{t.message.bytes(bytes.value.length)}</p>
      <div class="er7" role="region" aria-label={t.message.er7} tabIndex={0}>
        {text.slice(0, lines).map((line, n) => <div key={n}><Untrusted text={line} /></div>)}
      </div>
      {left > 0 && <button type="button" onClick={() => setLines(lines + 5 * LINES)}>{t.message.moreLines(left)}</button>}
    </>
  );
}

/** The received bytes in their character set, as far as the browser knows it. */
function decode(bytes: Uint8Array, charset: string): string {
  try {
    return new TextDecoder(charset === "" ? "utf-8" : charset).decode(bytes);
  } catch {
    return new TextDecoder("latin1").decode(bytes);
  }
}
