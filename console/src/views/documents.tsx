import { useEffect, useMemo, useState } from "preact/hooks";
import type { Document } from "../model/hl7.js";
import { textOf } from "../model/rtf.js";
import type { Wave } from "../model/waves.js";
import { useTexts } from "../text/index.js";
import { Untrusted } from "./parts.js";
import { WaveView } from "./waves.js";

/** The documents and wave forms of a message. The page shows only kinds that cannot run anything in it, and takes the type from their bytes. */
export function Documents({ documents, waves }: { documents: Document[]; waves: Wave[] }) {
  const t = useTexts();
  if (documents.length === 0 && waves.length === 0) return <p>{t.message.noDocuments}</p>;
  return (
    <>
      {documents.map((it, n) => (it.bytes.length === 0 ? <p key={n}>{t.message.undecodable(it.observation)}</p> : <DocumentView key={n} document={it} />))}
      {waves.map((it, n) => <WaveView key={n} wave={it} />)}
    </>
  );
}

const ENDINGS: Record<string, string> = { "application/pdf": "pdf", "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "text/rtf": "rtf" };

function DocumentView({ document: { observation, type, bytes } }: { document: Document }) {
  const t = useTexts();
  const [address, setAddress] = useState("");
  useEffect(() => {
    const url = URL.createObjectURL(new Blob([bytes], { type }));
    setAddress(url);
    return () => URL.revokeObjectURL(url);
  }, [bytes, type]);
  if (address === "") return null;
  return (
    <figure>
      <figcaption>
        {t.message.document(observation, type)}, {t.message.bytes(bytes.length)}{" "}
        <a href={address} download={`document-${observation}.${ENDINGS[type] ?? "bin"}`}>{t.message.save}</a>
      </figcaption>
      {type === "application/pdf" ? (
        <iframe src={address} title={t.message.documentFrame(observation)} />
      ) : type.startsWith("image/") ? (
        <img src={address} alt={t.message.documentPicture(observation)} />
      ) : type === "text/rtf" ? (
        <RichText bytes={bytes} observation={observation} />
      ) : (
        <p class="quiet">{t.message.unshown}</p>
      )}
    </figure>
  );
}

/** Lines that are shown at first, and added each time. */
const LINES = 200;

/** The plain text of an RTF document. */
function RichText({ bytes, observation }: { bytes: Uint8Array; observation: number }) {
  const t = useTexts();
  const [lines, setLines] = useState(LINES);
  const text = useMemo(() => textOf(bytes)?.split("\n"), [bytes]);
  if (text === undefined) return <p class="quiet">{t.message.unshown}</p>;
  return (
    <>
      <div class="er7" role="region" aria-label={t.message.documentText(observation)} tabIndex={0}>
        {text.slice(0, lines).map((line, n) => <div key={n}><Untrusted text={line} />{line === "" && "\u00a0"}</div>)}
      </div>
      {text.length > lines && <button type="button" onClick={() => setLines(lines + 5 * LINES)}>{t.messages.more}</button>}
      <p class="quiet">{t.message.onlyText}</p>
    </>
  );
}
