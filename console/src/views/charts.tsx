import { OUTCOMES, type Counts } from "../model/counts.js";
import { useTexts, useTime } from "../text/index.js";

const HOUR = 3600 * 1000;
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [720, 180, 40, 20];

/** Bars by hour, one on the other by outcome. Each outcome has a pattern, so that the chart reads without colour. */
export function HourChart({ hours, last }: { hours: Counts["hours"]; last: number }) {
  const [t, time] = [useTexts(), useTime()];
  const end = Math.floor(Date.now() / HOUR) * HOUR;
  const columns = Array.from({ length: last }, (_, n) => {
    const hour = `${new Date(end - (last - 1 - n) * HOUR).toISOString().slice(0, 13)}:00:00Z`;
    return { hour, counts: hours.get(hour) ?? new Map() };
  });
  const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
  const most = Math.max(1, ...columns.map((it) => sum(it.counts)));
  const width = (WIDTH - LEFT) / last;
  const scale = (HEIGHT - BOTTOM - 10) / most;
  const seen = OUTCOMES.filter((it) => columns.some(({ counts }) => counts.has(it)));
  return (
    <figure>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={t.overview.hours} class="chart">
        <Patterns />
        <line x1={LEFT} x2={WIDTH} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} class="axis" />
        <text x={LEFT - 6} y={16} text-anchor="end">{most}</text>
        <text x={LEFT - 6} y={HEIGHT - BOTTOM} text-anchor="end">0</text>
        <text x={LEFT} y={HEIGHT - 4}>{time(columns[0]?.hour ?? "")}</text>
        <text x={WIDTH} y={HEIGHT - 4} text-anchor="end">{time(columns[last - 1]?.hour ?? "")}</text>
        {columns.map(({ hour, counts }, n) => {
          let top = HEIGHT - BOTTOM;
          return seen.map((it) => {
            const high = (counts.get(it) ?? 0) * scale;
            top -= high;
            return high === 0 ? null : (
              <rect key={`${hour}${it}`} x={LEFT + n * width + 0.5} y={top} width={Math.max(1, width - 1)} height={high} fill={`url(#${it})`} class={`bar ${it}`} />
            );
          });
        })}
      </svg>
      <figcaption class="legend">
        {seen.map((it) => (
          <span key={it}>
            <svg viewBox="0 0 14 14" aria-hidden="true"><rect width="14" height="14" fill={`url(#${it})`} class={`bar ${it}`} /></svg> {t.overview.outcomeNames[it]}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

function Patterns() {
  return (
    <defs>
      {OUTCOMES.map((it) => (
        <pattern key={it} id={it} width="6" height="6" patternUnits="userSpaceOnUse">
          <rect width="6" height="6" class={`fill ${it}`} />
          {it === "unparsable" && <path d="M0 6 6 0" class="mark" />}
          {it === "waiting" && <circle cx="3" cy="3" r="1.2" class="mark" />}
          {it === "held" && <path d="M0 3H6" class="mark" />}
          {it === "lost" && <path d="M0 0 6 6M0 6 6 0" class="mark" />}
        </pattern>
      ))}
    </defs>
  );
}

const ROW = 24;

/** A name as it fits beside a bar: an SVG's text has no line breaks, and characters that are not seen have nothing to show there. */
function label(name: string): string {
  const shown = name.replace(/[^\p{L}\p{N}\p{P}\p{Zs}\p{S}]/gu, "·");
  return shown.length > 21 ? `${shown.slice(0, 20)}…` : shown;
}

/** Bars with their names and numbers beside them. */
export function BarChart({ title, bars }: { title: string; bars: (readonly [string, number])[] }) {
  const most = Math.max(1, ...bars.map(([, n]) => n));
  return (
    <svg viewBox={`0 0 360 ${Math.max(1, bars.length) * ROW}`} role="img" aria-label={title} class="chart">
      {bars.map(([name, n], at) => (
        <g key={name}>
          <text x="136" y={at * ROW + 16} text-anchor="end">{label(name)}</text>
          <rect x="142" y={at * ROW + 4} width={Math.max(1, (n / most) * 160)} height={ROW - 8} class="bar plain" />
          <text x={148 + (n / most) * 160} y={at * ROW + 16}>{n}</text>
        </g>
      ))}
    </svg>
  );
}
