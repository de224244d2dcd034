import { useEffect, useState } from "preact/hooks";
import type { Session } from "../auth/session.js";
import { LANGUAGES, useTexts, type Language } from "../text/index.js";
import { Held } from "./held.js";
import { Messages } from "./messages.js";
import { Overview } from "./overview.js";
import { Send } from "./send.js";

export type Theme = "auto" | "light" | "dark";

const PAGES = ["overview", "messages", "held", "send"] as const;
type Page = (typeof PAGES)[number];

interface Props {
  session: Session;
  language: Language;
  setLanguage: (it: Language) => void;
  theme: Theme;
  setTheme: (it: Theme) => void;
}

/** The pages that are of use to a user. The address names the page, and never its content. */
function pagesOf(session: Session): Page[] {
  if (session.isStaff) return ["overview", "messages", "held"];
  const { read, write } = session.claims;
  return PAGES.filter((page) => (page === "send" ? write !== "" : read !== ""));
}

function pageOf(pages: Page[]): Page | undefined {
  const named = location.hash.slice(1);
  return pages.find((it) => it === named) ?? (pages.includes("messages") ? "messages" : pages[0]);
}

export function Shell({ session, language, setLanguage, theme, setTheme }: Props) {
  const t = useTexts();
  const pages = pagesOf(session);
  const [page, setPage] = useState(() => pageOf(pages));
  const [institute, setInstitute] = useState(session.isStaff ? (session.settings.institutes[0] ?? "") : session.claims.read);
  useEffect(() => {
    const changed = (): void => setPage(pageOf(pages));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  // The focus tells a user of a screen reader where they are.
  useEffect(() => {
    const headings = [...document.querySelectorAll<HTMLElement>("main h1")];
    headings.find((it) => it.closest("[hidden]") === null)?.focus();
  }, [page]);
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>{t.skip}</a>
      <header>
        <strong>{t.title}</strong>
        <nav aria-label={t.nav.label}>
          <ul>
            {pages.map((it) => (
              <li key={it}><a href={`#${it}`} aria-current={it === page ? "page" : undefined}>{t.nav[it]}</a></li>
            ))}
          </ul>
        </nav>
        <div class="who">
          <span>
            {t.signIn.as(session.claims.email)}
            {session.isStaff ? ` (${t.signIn.staffBadge})` : ""}
          </span>
          <button type="button" onClick={() => void session.signOut()}>{t.signIn.out}</button>
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        {session.isStaff && <Institute session={session} institute={institute} choose={setInstitute} />}
        {page === undefined && <p>{t.rights.none}</p>}
        {page === "send" && session.claims.read === "" && <p class="quiet">{t.rights.noRead}</p>}
        {page === "overview" && institute !== "" && <Overview key={institute} session={session} institute={institute} />}
        {page === "messages" && institute !== "" && <Messages key={institute} session={session} institute={institute} />}
        {page === "held" && institute !== "" && <Held key={institute} session={session} institute={institute} />}
        {/* It stays when another page is looked at: files that were chosen are not lost. */}
        {pages.includes("send") && <div hidden={page !== "send"}><Send session={session} /></div>}
      </main>
      <footer>
        <label>
          {t.languageLabel}{" "}
          <select value={language} onChange={(event) => setLanguage(event.currentTarget.value as Language)}>
            {Object.entries(LANGUAGES).map(([code, texts]) => <option key={code} value={code} lang={code}>{texts.language}</option>)}
          </select>
        </label>
        <label>
          {t.theme.label}{" "}
          <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
            {(["auto", "light", "dark"] as const).map((it) => <option key={it} value={it}>{t.theme[it]}</option>)}
          </select>
        </label>
        <span class="quiet">{t.signIn.deployment(session.settings.stack)}</span>
      </footer>
    </>
  );
}

/** The institute whose records lake staff look at. */
function Institute({ session, institute, choose }: { session: Session; institute: string; choose: (it: string) => void }) {
  const t = useTexts();
  const [typed, setTyped] = useState(institute);
  return (
    <form
      class="institute"
      onSubmit={(event) => {
        event.preventDefault();
        choose(typed.trim());
      }}
    >
      <label>
        {t.institute} <input list="institutes" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} autocomplete="off" />
      </label>
      <datalist id="institutes">{session.settings.institutes.map((it) => <option key={it} value={it} />)}</datalist>
      <button type="submit">{t.show}</button>
      {institute === "" && <p>{t.chooseInstitute}</p>}
    </form>
  );
}
