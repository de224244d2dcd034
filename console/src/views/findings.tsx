import type { Findings } from "../model/validation.js";
import { useTexts } from "../text/index.js";

/** What the standard says of a file. It prevents nothing: a lake keeps everything that it gets. */
export function StandardFindings({ found }: { found: Findings }) {
  const t = useTexts().findings;
  const { findings, unreadable, batchProblems, more } = found;
  const [infos, warnings, errors] = found.counts;
  // Some of what is not listed has no severity here, so the numbers are too small.
  const isLeast = findings.length + more > infos + warnings + errors;
  if (findings.length + unreadable.length + batchProblems.length === 0) return <p class="quiet">{t.none}</p>;
  const of = (message: number): string => (found.messages > 1 ? `${t.inMessage(message)}: ` : "");
  return (
    <details class="findings">
      <summary>{t.count(errors + unreadable.length + batchProblems.length, warnings, infos, isLeast)}</summary>
      <ul class="problems">
        {batchProblems.map(({ code, declared = 0, found }, n) => <li key={`b${n}`}>{t.severity.error}: {t.batch(code, declared, found)}</li>)}
        {unreadable.map(({ message, detail }) => <li key={`u${message}`}>{of(message)}{t.severity.error}: <span lang="en">{detail}</span></li>)}
        {findings.map(({ message, place, severity, code, detail }, n) => (
          <li key={n}>{of(message)}{place !== "" && <><code>{place}</code> </>}{t.severity[severity]}: <span lang="en">{detail}</span> <span class="code">({code})</span></li>
        ))}
        {more > 0 && <li>{t.more(more)}</li>}
      </ul>
    </details>
  );
}
