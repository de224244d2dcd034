import { useRef, useState } from "preact/hooks";
import type { Session } from "../auth/session.js";
import { asFailure, type Failure } from "../failure.js";
import { statuses, submit, type Taken } from "../model/api.js";
import { look, type Finding, type Look } from "../model/hl7.js";
import { validate, type Findings } from "../model/validation.js";
import { useTexts } from "../text/index.js";
import { StandardFindings } from "./findings.js";
import { useEvery } from "./hooks.js";
import { Heading, Status, Trouble, Untrusted } from "./parts.js";

interface Entry {
  file: File;
  look: Look;
  /** Only of HL7, and if the page has the validation. */
  findings: Findings | undefined;
  chosen: boolean;
  taken?: Taken;
}

/** `denied` and `expired` stand in records of earlier versions. A message that was accepted is `unknown` only when its record was deleted. */
const FINAL = ["stored", "held", "discarded", "denied", "expired", "failed", "unknown"];
const STATUS_MILLISECONDS = 1500;

/** The obvious problems of a file, for a page without the validation. They prevent nothing either. */
function Problems({ found }: { found: Finding[] }) {
  const words = useTexts().send.problems;
  if (found.length === 0) return null;
  return <ul class="problems">{found.map(({ what, line }) => <li key={what}>{what === "segment" ? words.segment(line) : words[what]}</li>)}</ul>;
}

export function Send({ session }: { session: Session }) {
  const t = useTexts();
  const [entries, setEntries] = useState<Entry[]>([]);
  const [standings, setStandings] = useState<ReadonlyMap<string, string>>(new Map());
  const [failure, setFailure] = useState<Failure>();
  const [progress, setProgress] = useState<{ done: number; total: number }>();
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const isSending = progress !== undefined && progress.done < progress.total && failure === undefined;

  const add = async (files: Iterable<File>): Promise<void> => {
    const looked: Entry[] = [];
    for (const file of files) {
      const bytes = new Uint8Array(await file.arrayBuffer());
      const it = look(bytes);
      const isUseful = it.isHl7 && !it.isTooLarge;
      looked.push({ file, look: it, findings: isUseful ? await validate(bytes) : undefined, chosen: isUseful });
    }
    setEntries((known) => [...known, ...looked]);
  };
  const change = (entry: Entry, change: Partial<Entry>): void =>
    setEntries((known) => known.map((it) => (it.file === entry.file ? { ...it, ...change } : it)));
  const waiting = entries.filter((it) => it.chosen && it.taken === undefined);

  const send = async (): Promise<void> => {
    setFailure(undefined);
    const total = waiting.length;
    setProgress({ done: 0, total });
    for (const [n, entry] of waiting.entries()) {
      try {
        const taken = await submit(session, await entry.file.arrayBuffer());
        change(entry, { taken });
        setProgress({ done: n + 1, total });
      } catch (error) {
        setFailure(asFailure(error));
        return;
      }
    }
  };

  const sent = entries.flatMap((it) => (it.taken?.what === "accepted" ? it.taken.messageIds : []));
  const open = sent.filter((id) => !FINAL.includes(standings.get(id) ?? ""));
  useEvery(STATUS_MILLISECONDS, () => {
    if (open.length === 0) return;
    // A failure does no harm: the next round asks again.
    statuses(session, open).then((answers) => setStandings((known) => new Map([...known, ...answers.map((it) => [it.messageId, it.status] as const)])), () => undefined);
  });

  const outcome = (entry: Entry): string => {
    const { taken } = entry;
    if (taken === undefined) return entry.chosen && progress !== undefined ? t.send.waiting : "";
    if (taken.what === "before") return t.send.before;
    if (taken.what === "refused") return t.send.refused(taken.problem);
    const ends = taken.messageIds.map((id) => standings.get(id) ?? "queued");
    const status = ends.length === 1 ? t.status[(ends[0] ?? "unknown") as keyof typeof t.status] : `${ends.filter((it) => it === "stored").length} ${t.status.stored}`;
    return [t.send.accepted(taken.messageIds.length), status, taken.before > 0 && t.send.someBefore(taken.before), taken.refused > 0 && t.send.someRefused(taken.refused)]
      .filter(Boolean)
      .join(", ");
  };

  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer !== null) void add(event.dataTransfer.files);
  };
  return (
    <>
      <Heading>{t.send.title}</Heading>
      <p>{t.send.lead}</p>
      <div class={over ? "drop over" : "drop"} onDragOver={(event) => { event.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)} onDrop={drop}>
        <p>{t.send.drop}</p>
        <label class="button">
          {t.send.choose}
          <input ref={input} type="file" multiple onChange={(event) => { void add([...(event.currentTarget.files ?? [])]); event.currentTarget.value = ""; }} />
        </label>
      </div>
      {progress !== undefined && (
        <>
          <Status>{t.send.progress(progress.done, progress.total)}</Status>
          <progress max={progress.total} value={progress.done} aria-label={t.send.progress(progress.done, progress.total)} />
        </>
      )}
      {failure !== undefined && <><p role="status">{t.send.broken(waiting.length)}</p><Trouble failure={failure} session={session} again={() => void send()} /></>}
      {entries.length > 0 && (
        <>
          <div class="scroll" role="region" aria-label={t.send.caption} tabIndex={0}>
            <table>
              <caption>{t.send.caption}</caption>
              <thead><tr>{Object.values(t.send.columns).map((it) => <th key={it} scope="col">{it}</th>)}</tr></thead>
              <tbody>
                {entries.map((it, n) => (
                  <tr key={n}>
                    <td><input type="checkbox" aria-label={t.send.include(it.file.name)} checked={it.chosen} disabled={isSending || it.taken !== undefined || it.look.isEmpty || it.look.isTooLarge} onChange={(event) => change(it, { chosen: event.currentTarget.checked })} /></td>
                    <td><Untrusted text={it.file.name} /></td>
                    <td>{it.look.isEmpty ? t.send.empty : it.look.isTooLarge ? t.send.tooLarge : it.look.isHl7 ? <>{t.send.isHl7(it.look.kind, it.look.messages)}{it.findings === undefined ? <Problems found={it.look.problems} /> : <StandardFindings found={it.findings} />}</> : t.send.notHl7}</td>
                    <td>{outcome(it)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {entries.some((it) => it.look.isHl7 && !it.look.isTooLarge && it.findings === undefined) && <p class="quiet">{t.send.simple}</p>}
          <div class="buttons">
            <button type="button" class="primary" disabled={waiting.length === 0 || isSending} onClick={() => void send()}>{t.send.button(waiting.length)}</button>
            <button type="button" disabled={isSending} onClick={() => { setEntries([]); setProgress(undefined); setFailure(undefined); }}>{t.send.clear}</button>
          </div>
        </>
      )}
    </>
  );
}
