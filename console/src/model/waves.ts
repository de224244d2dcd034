import type { Component, Rendition, Segment } from "./hl7.js";

/** A channel of a wave form (HL7 2.5.1 §7.14, §2.A.8). */
export interface Channel {
  name: string;
  /** `uV`; empty if the message names none. */
  unit: string;
  /** The value in that unit is (number - baseline) * factor. */
  factor: number;
  baseline: number;
  /** Samples a second, if the message says so. */
  frequency: number | undefined;
  /** As they stand in the message. */
  samples: string[];
}

export interface Wave {
  /** Which OBX, from 1. */
  observation: number;
  channels: Channel[];
  /** How many channels the message has beyond these. */
  leftOut: number;
  /** That of the channels, if it is the same for all. */
  frequency: number | undefined;
}

/** The page draws so many channels. An ECG has 12; a hostile message could ask for a million charts. */
const MOST_CHANNELS = 64;

type Definition = Omit<Channel, "samples">;
/** Samples a second that a device may take. Of others the page makes no seconds: it divides by this number. */
const [SLOWEST, FASTEST] = [1e-6, 1e9];

/** A subcomponent of a component, from 1. A component without others is its first one. */
function part(of: Component[], position: number, sub: number): string {
  const component = of.find((it) => it.position === position);
  if (component?.subcomponents === undefined) return sub === 1 ? (component?.value ?? "") : "";
  return component.subcomponents.find((it) => it.position === sub)?.value ?? "";
}

function number(text: string): number | undefined {
  const value = Number(text);
  return text.trim() === "" || !Number.isFinite(value) ? undefined : value;
}

function frequency(text: string): number | undefined {
  const value = number(text) ?? 0;
  return value >= SLOWEST && value <= FASTEST ? value : undefined;
}

function definition(cd: Component[]): Definition {
  return {
    name: part(cd, 1, 2) || part(cd, 2, 1) || part(cd, 1, 1),
    unit: part(cd, 3, 2) || part(cd, 3, 3),
    factor: (number(part(cd, 3, 1)) ?? 1) * (number(part(cd, 4, 1)) ?? 1),
    baseline: number(part(cd, 4, 2)) ?? 0,
    frequency: frequency(part(cd, 5, 1)),
  };
}

const width = (repetition: Component[]): number => repetition.reduce((most, it) => Math.max(most, it.position), 0);

/** The texts of a repetition by position, up to one. A position without a component has an empty one. */
function values(repetition: Component[], last: number): string[] {
  const texts = Array.from({ length: last }, () => "");
  for (const it of repetition) if (it.position <= last) texts[it.position - 1] = it.value ?? "";
  return texts;
}

/** By channel, at most `MOST_CHANNELS`, and the number of all: a repetition of MA has a sample of each channel, and one of NA all samples of a channel. */
function byChannel(type: string, repetitions: Component[][]): [string[][], number] {
  if (type === "NA") return [repetitions.slice(0, MOST_CHANNELS).map((it) => values(it, width(it))), repetitions.length];
  const all = repetitions.reduce((most, it) => Math.max(most, width(it)), 0);
  const rows = repetitions.map((it) => values(it, Math.min(all, MOST_CHANNELS)));
  return [Array.from({ length: Math.min(all, MOST_CHANNELS) }, (_, n) => rows.map((row) => row[n] ?? "")), all];
}

/** The wave forms of a message: OBX-5 of the types NA and MA. Their channels are those of the OBX before them with the same OBX-4 and the type CD. */
export function waves(rendition: Rendition): Wave[] {
  const definitions = new Map<string, Definition[]>();
  const observations = rendition.segments.filter((it) => it.segment === "OBX");
  return observations.flatMap((segment: Segment, at) => {
    const field = (position: number): Component[][] => segment.fields.find((it) => it.position === position)?.repetitions ?? [];
    const [type, group] = [2, 4].map((position) => field(position)[0]?.[0]?.value ?? "") as [string, string];
    if (type === "CD") definitions.set(group, field(5).map(definition));
    if (type !== "NA" && type !== "MA") return [];
    const known = definitions.get(group) ?? [];
    const [drawn, all] = byChannel(type, field(5));
    const channels = drawn.map((samples, n) => {
      const it = known[n] ?? { name: "", unit: "", factor: 1, baseline: 0, frequency: undefined };
      return { ...it, name: it.name === "" ? String(n + 1) : it.name, samples };
    });
    const [first] = channels;
    if (first === undefined) return [];
    const isSame = channels.every((it) => it.frequency === first.frequency);
    return [{ observation: at + 1, channels, leftOut: all - channels.length, frequency: isSame ? first.frequency : undefined }];
  });
}

/** A chart cannot have larger values: the difference of two must be a number, too. */
const LARGEST = 1e300;

/** The value of a sample in the channel's unit; undefined if the sample is no number. */
export function valueOf({ factor, baseline }: Channel, sample: string): number | undefined {
  const value = ((number(sample) ?? NaN) - baseline) * factor;
  return Math.abs(value) <= LARGEST ? value : undefined;
}
