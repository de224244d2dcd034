import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { signIn, type Session } from "../auth/session.js";
import type { Failure } from "../failure.js";
import { useTexts } from "../text/index.js";
import { outcome } from "../model/counts.js";
import type { CatalogRecord } from "../model/record.js";

/** Control characters, and characters that reverse the direction of a text: the page shows their names, so that they have no effect. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;
/** Of a longer text, only the beginning is shown at first. */
const MOST = 2000;

function name(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x20 ? String.fromCodePoint(0x2400 + code) : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A text from a message: always text, never markup, in its own direction, and only its beginning unless asked for. */
export function Untrusted({ text }: { text: string }) {
  const t = useTexts();
  const [all, setAll] = useState(false);
  const shown = all || text.length <= MOST ? text : text.slice(0, MOST);
  const parts: ComponentChildren[] = [];
  let at = 0;
  for (const found of shown.matchAll(UNSEEN)) {
    if (found.index > at) parts.push(shown.slice(at, found.index));
    parts.push(<span class="unseen">{name(found[0])}</span>);
    at = found.index + found[0].length;
  }
  parts.push(shown.slice(at));
  return (
    <>
      <bdi class="untrusted">{parts}</bdi>
      {shown.length < text.length && (
        <>
          {"… "}
          <button type="button" class="small" onClick={() => setAll(true)}>{t.message.all(text.length)}</button>
        </>
      )}
    </>
  );
}

/** A page's heading, which takes the focus when the page is opened. */
export function Heading({ children }: { children: ComponentChildren }) {
  const it = useRef<HTMLHeadingElement>(null);
  useEffect(() => it.current?.focus(), []);
  return <h1 ref={it} tabIndex={-1}>{children}</h1>;
}

/** What went wrong and what to do, with the button that does it. */
export function Trouble({ failure, session, again }: { failure: Failure; session?: Session; again?: () => void }) {
  const t = useTexts();
  const needsSignIn = ["expired", "forbidden", "signIn"].includes(failure.kind);
  return (
    <div class="trouble" role="alert">
      <p>{t.failure[failure.kind]}{failure.code !== "" && <span class="code"> ({failure.code})</span>}</p>
      {needsSignIn && session !== undefined && (
        <button type="button" onClick={() => void signIn(session.audience)}>{t.signIn.again}</button>
      )}
      {!needsSignIn && again !== undefined && <button type="button" onClick={again}>{t.retry}</button>}
    </div>
  );
}

/** A status that is visible, and that screen readers announce. */
export function Status({ children }: { children: ComponentChildren }) {
  return <p role="status" class="status">{children}</p>;
}

const SHAPES = { stored: "●", unparsable: "◐", waiting: "○", held: "■", lost: "✕" } as const;

/** The status of a message, by shape and word. Color only repeats them. */
export function Badge({ record }: { record: CatalogRecord }) {
  const t = useTexts();
  const what = outcome(record);
  const word = what === "unparsable" ? t.status.unparsable : (t.status[record.status] ?? record.status);
  return (
    <span class={`badge ${what}`}>
      <span aria-hidden="true">{SHAPES[what]}</span> {word}
    </span>
  );
}

/** The beginning of an id. The whole id is in the title, and screen readers read it. */
export function ShortId({ id }: { id: string }) {
  return <code title={id}>{id.slice(0, 12)}…</code>;
}
