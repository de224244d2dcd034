import { useEffect, useState } from "preact/hooks";
import type { Document } from "../model/hl7.js";
import { useTexts } from "../text/index.js";

/** The documents of a message. The page shows only kinds that cannot run anything in it, and takes the type from their bytes. */
export function Documents({ documents }: { documents: Document[] }) {
  const t = useTexts();
  if (documents.length === 0) return <p>{t.message.noDocuments}</p>;
  return <>{documents.map((it, n) => <DocumentView key={n} document={it} />)}</>;
}

const ENDINGS: Record<string, string> = { "application/pdf": "pdf", "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif" };

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
      ) : (
        <p class="quiet">{t.message.unshown}</p>
      )}
    </figure>
  );
}
