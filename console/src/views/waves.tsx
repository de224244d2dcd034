import { useMemo, useState } from "preact/hooks";
import { valueOf, type Channel, type Wave } from "../model/waves.js";
import { useTexts } from "../text/index.js";
import { useWidth } from "./charts.js";
import { Untrusted } from "./parts.js";

const [HEIGHT, BOTTOM, TOP] = [140, 20, 18];
/** Rows of the table that are shown at first, and added each time. */
const ROWS = 100;

/** The line of a chart. Where a pixel has many samples, it shows the range that they have. A sample that is no number is a gap. */
function path(samples: (number | undefined)[], width: number, y: (value: number) => number): string {
  const each = Math.max(1, samples.length / width);
  const parts: string[] = [];
  let isOn = false;
  for (let from = 0; from < samples.length; from += each) {
    const here = samples.slice(Math.floor(from), Math.max(Math.floor(from) + 1, Math.floor(from + each))).filter((it) => it !== undefined);
    if (here.length === 0) {
      isOn = false;
      continue;
    }
    const x = samples.length === 1 ? 0 : (from / Math.max(1, samples.length - 1)) * width;
    // A spread would have too many arguments.
    const [low, high] = here.reduce(([low, high], it) => [Math.min(low, it), Math.max(high, it)], [Infinity, -Infinity] as [number, number]);
    parts.push(`${isOn ? "L" : "M"}${x.toFixed(1)} ${y(low).toFixed(1)}`);
    if (high !== low) parts.push(`L${x.toFixed(1)} ${y(high).toFixed(1)}`);
    else if (!isOn) parts.push("h.1");
    isOn = true;
  }
  return parts.join("");
}

function Chart({ channel }: { channel: Channel }) {
  const t = useTexts();
  const [chart, width] = useWidth();
  const values = useMemo(() => channel.samples.map((it) => valueOf(channel, it)), [channel]);
  const known = values.filter((it) => it !== undefined);
  const [low, high] = known.reduce(([low, high], it) => [Math.min(low, it), Math.max(high, it)], [Infinity, -Infinity] as [number, number]);
  // The quotient comes first: the height divided by a very small range would be infinite.
  const y = (value: number): number => HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - BOTTOM - TOP);
  const shown = (value: number): string => `${Number(value.toPrecision(6))}${channel.unit === "" ? "" : ` ${channel.unit.slice(0, 12)}`}`;
  const end = channel.frequency === undefined ? t.wave.samples(values.length) : t.wave.seconds(values.length / channel.frequency);
  if (known.length === 0) return <p class="quiet">{t.wave.noNumbers}</p>;
  return (
    <svg ref={chart} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={t.wave.chart(channel.name, shown(low), shown(high), end)} class="chart">
      <line x1={0} x2={width} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} class="axis" />
      <path d={path(values, width, y)} class="wave" />
      <text x={0} y={12}>{shown(high)}</text>
      <text x={0} y={HEIGHT - 4}>{shown(low)}</text>
      <text x={width} y={HEIGHT - 4} text-anchor="end">{end}</text>
    </svg>
  );
}

/** A wave form: a chart for each channel, and the numbers in a table. */
export function WaveView({ wave: { observation, channels, leftOut, frequency } }: { wave: Wave }) {
  const t = useTexts();
  const [rows, setRows] = useState(ROWS);
  const length = channels.reduce((most, it) => Math.max(most, it.samples.length), 0);
  return (
    <section>
      <h2>{t.wave.title(observation)}</h2>
      {channels.map((it, n) => (
        <figure key={n}>
          <figcaption><Untrusted text={it.name} />{it.unit !== "" && <> (<Untrusted text={it.unit} />)</>}</figcaption>
          <Chart channel={it} />
        </figure>
      ))}
      {leftOut > 0 && <p class="quiet">{t.wave.leftOut(leftOut)}</p>}
      <details>
        <summary>{t.overview.table}</summary>
        <div class="scroll" role="region" aria-label={t.wave.title(observation)} tabIndex={0}>
          <table>
            <caption>{t.wave.caption}</caption>
            <thead>
              <tr>
                <th scope="col">{frequency === undefined ? t.wave.number : t.wave.time}</th>
                {channels.map((it, n) => (
                  <th key={n} scope="col"><Untrusted text={it.name} />{it.unit !== "" && <> (<Untrusted text={it.unit} />)</>}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {Array.from({ length: Math.min(rows, length) }, (_, n) => (
                <tr key={n}>
                  <th scope="row">{frequency === undefined ? n + 1 : Number((n / frequency).toFixed(4))}</th>
                  {channels.map((it, at) => <td key={at}><Sample channel={it} text={it.samples[n] ?? ""} /></td>)}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {rows < length && <button type="button" onClick={() => setRows(rows + 10 * ROWS)}>{t.messages.more}</button>}
      </details>
    </section>
  );
}

/** A sample in the channel's unit, or as it stands in the message if it is no number. */
function Sample({ channel, text }: { channel: Channel; text: string }) {
  const value = valueOf(channel, text);
  return value === undefined ? <Untrusted text={text} /> : <>{Number(value.toPrecision(9))}</>;
}
