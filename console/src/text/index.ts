import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { de } from "./de.js";
import { en, type Texts } from "./en.js";

export const LANGUAGES = { en, de } as const;
export type Language = keyof typeof LANGUAGES;

/** The language that the browser asks for; English if it is not among ours. */
export function preferred(): Language {
  const wanted = navigator.languages.map((it) => it.slice(0, 2).toLowerCase());
  return wanted.find((it): it is Language => it in LANGUAGES) ?? "en";
}

export const LanguageContext = createContext<Language>("en");

export function useTexts(): Texts {
  return LANGUAGES[useContext(LanguageContext)];
}

const LENGTHS = {
  whole: { dateStyle: "medium", timeStyle: "medium" },
  /** For a chart: on a telephone, two of them fit below it. */
  hour: { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" },
} as const satisfies Record<string, Intl.DateTimeFormatOptions>;
type Length = keyof typeof LENGTHS;

const FORMATS = new Map<string, Intl.DateTimeFormat>();

/** Creating a format takes longer than using it a hundred times. */
function format(language: Language, length: Length): Intl.DateTimeFormat {
  const known = FORMATS.get(`${language} ${length}`) ?? new Intl.DateTimeFormat(language, LENGTHS[length]);
  FORMATS.set(`${language} ${length}`, known);
  return known;
}

/** Shows times in the user's own zone. */
export function useTime(length: Length = "whole"): (rfc3339: string) => string {
  const language = useContext(LanguageContext);
  return (time) => {
    const at = Date.parse(time);
    return Number.isNaN(at) ? "–" : format(language, length).format(at);
  };
}
