import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { OUTCOMES, type Counts } from "../model/counts.js";
import { useTexts, useTime } from "../text/index.js";

const HOUR = 3600 * 1000;
const [HEIGHT, LEFT, BOTTOM] = [180, 40, 20];

/** The width that a chart has on the page. A chart is drawn in the page's own pixels, so that its texts are as large as all others. */
export function useWidth() {
  const chart = useRef<SVGSVGElement>(null);
  const [width, setWidth] = useState(320);
  useLayoutEffect(() => {
    const svg = chart.current;
    if (svg === null) return;
    const measure = (): void => setWidth(Math.max(200, Math.floor(svg.getBoundingClientRect().width)));
    const observer = new ResizeObserver(() => requestAnimationFrame(measure));
    observer.observe(svg);
    measure();
    return () => observer.disconnect();
  }, []);
  return [chart, width] as const;
}

/** Bars by hour, stacked by outcome. Each outcome has a pattern, so that the chart reads without color. */
export function HourChart({ hours, last }: { hours: Counts["hours"]; last: number }) {
  const [t, time] = [useTexts(), useTime("hour")];
  const [chart, width] = useWidth();
  const end = Math.floor(Date.now() / HOUR) * HOUR;
  const columns = Array.from({ length: last }, (_, n) => {
    const hour = `${new Date(end - (last - 1 - n) * HOUR).toISOString().slice(0, 13)}:00:00Z`;
    return { hour, counts: hours.get(hour) ?? new Map() };
  });
  const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
  const most = Math.max(1, ...columns.map((it) => sum(it.counts)));
  const step = (width - LEFT) / last;
  // A pixel separates two bars if there is room for it.
  const bar = Math.max(1, step - (step > 3 ? 1 : 0));
  const scale = (HEIGHT - BOTTOM - 10) / most;
  const seen = OUTCOMES.filter((it) => columns.some(({ counts }) => counts.has(it)));
  return (
    <figure>
      <svg ref={chart} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={t.overview.hours} class="chart">
        <Patterns />
        <line x1={LEFT} x2={width} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} class="axis" />
        <text x={LEFT - 6} y={16} text-anchor="end">{most}</text>
        <text x={LEFT - 6} y={HEIGHT - BOTTOM} text-anchor="end">0</text>
        <text x={LEFT} y={HEIGHT - 4}>{time(columns[0]?.hour ?? "")}</text>
        <text x={width} y={HEIGHT - 4} text-anchor="end">{time(columns[last - 1]?.hour ?? "")}</text>
        {columns.map(({ hour, counts }, n) => {
          let top = HEIGHT - BOTTOM;
          return seen.map((it) => {
            const high = (counts.get(it) ?? 0) * scale;
            top -= high;
            return high === 0 ? null : (
              <rect key={`${hour}${it}`} x={LEFT + n * step} y={top} width={bar} height={high} fill={`url(#${it})`} class={`bar ${it}`} />
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
/** Room for names beside the bars, and for numbers behind them. */
const [NAMES, NUMBERS] = [150, 60];

/** A name cut to fit beside a bar. Texts in SVG have no line breaks, and invisible characters are left out. */
function label(name: string): string {
  const shown = name.replace(/[^\p{L}\p{N}\p{P}\p{Zs}\p{S}]/gu, "·");
  return shown.length > 21 ? `${shown.slice(0, 20)}…` : shown;
}

/** Bars with their names and numbers beside them. */
export function BarChart({ title, bars }: { title: string; bars: (readonly [string, number])[] }) {
  const [chart, width] = useWidth();
  const most = Math.max(1, ...bars.map(([, n]) => n));
  const room = Math.max(20, width - NAMES - NUMBERS);
  return (
    <svg ref={chart} viewBox={`0 0 ${width} ${Math.max(1, bars.length) * ROW}`} role="img" aria-label={title} class="chart">
      {bars.map(([name, n], at) => (
        <g key={name}>
          <text x={NAMES - 6} y={at * ROW + 16} text-anchor="end">{label(name)}</text>
          <rect x={NAMES} y={at * ROW + 4} width={Math.max(1, (n / most) * room)} height={ROW - 8} class="bar plain" />
          <text x={NAMES + 6 + (n / most) * room} y={at * ROW + 16}>{n}</text>
        </g>
      ))}
    </svg>
  );
}
