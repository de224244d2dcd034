import type { Rendition, Segment } from "./hl7.js";

/** A place, with the value of each message there. A message without a value has no member. */
export interface Row {
  /** `PID-3[2].4.1` */
  place: string;
  name: string;
  left?: string;
  right?: string;
}

export function differs({ left, right }: Row): boolean {
  return left !== right;
}

/** If there are more pairs of segments than this, only equal beginnings and ends are compared, and the rest is paired by name. */
const MOST_PAIRS = 1_000_000;

/** Pairs the segments, in order: equal ones, between them those with the same name, and those that only one message has. */
function pairs(left: Segment[], right: Segment[]): [Segment | undefined, Segment | undefined][] {
  const [a, b] = [left, right].map((them) => them.map((it) => JSON.stringify(it))) as [string[], string[]];
  let begin = 0;
  while (begin < a.length && begin < b.length && a[begin] === b[begin]) begin++;
  let [endA, endB] = [a.length, b.length];
  while (endA > begin && endB > begin && a[endA - 1] === b[endB - 1]) [endA, endB] = [endA - 1, endB - 1];
  const found: [Segment | undefined, Segment | undefined][] = [];
  const same = (n: number, m: number): void => void found.push([left[n], right[m]]);
  for (let n = 0; n < begin; n++) same(n, n);

  // Between two equal segments, a segment is paired with the next one of the same name.
  let [gapA, gapB] = [begin, begin];
  const closeGap = (toA: number, toB: number): void => {
    const others = right.slice(gapB, toB);
    for (const it of left.slice(gapA, toA)) {
      const at = others.findIndex((other) => other.segment === it.segment);
      for (const other of at < 0 ? [] : others.splice(0, at)) found.push([undefined, other]);
      found.push([it, at < 0 ? undefined : others.shift()]);
    }
    for (const other of others) found.push([undefined, other]);
  };
  for (const [n, m] of common(a.slice(begin, endA), b.slice(begin, endB))) {
    closeGap(begin + n, begin + m);
    same(begin + n, begin + m);
    [gapA, gapB] = [begin + n + 1, begin + m + 1];
  }
  closeGap(endA, endB);
  for (let n = 0; endA + n < a.length; n++) same(endA + n, endB + n);
  return found;
}

/** The positions of a longest common subsequence; none if there are too many pairs. */
function common(a: string[], b: string[]): [number, number][] {
  if (a.length * b.length > MOST_PAIRS) return [];
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  const at = (n: number, m: number): number => longest[n * width + m] ?? 0;
  for (let n = a.length - 1; n >= 0; n--) {
    for (let m = b.length - 1; m >= 0; m--) longest[n * width + m] = a[n] === b[m] ? at(n + 1, m + 1) + 1 : Math.max(at(n + 1, m), at(n, m + 1));
  }
  const found: [number, number][] = [];
  for (let n = 0, m = 0; n < a.length && m < b.length; ) {
    if (a[n] === b[m]) found.push([n++, m++]);
    else if (at(n + 1, m) >= at(n, m + 1)) n++;
    else m++;
  }
  return found;
}

/** The values of a segment by their places in it: `-3[2].4.1`. */
function values(segment: Segment | undefined): Map<string, { name: string; value: string; order: number }> {
  const found = new Map<string, { name: string; value: string; order: number }>();
  for (const field of segment?.fields ?? []) {
    for (const [n, repetition] of (field.repetitions ?? []).entries()) {
      for (const component of repetition) {
        const parts = component.subcomponents ?? [component];
        for (const part of parts) {
          const isDeep = component.subcomponents !== undefined;
          const place = `-${field.position}${n > 0 ? `[${n + 1}]` : ""}.${component.position}${isDeep ? `.${part.position}` : ""}`;
          const order = ((field.position * 1e4 + n) * 1e3 + component.position) * 1e3 + (isDeep ? part.position : 0);
          found.set(place, { name: [field.name, component.name, isDeep ? part.name : undefined].filter(Boolean).join(", "), value: part.value ?? "", order });
        }
      }
    }
  }
  return found;
}

/** Two messages place by place, in the order of the messages. */
export function compare(left: Rendition, right: Rendition): Row[] {
  const seen = new Map<string, number>();
  return pairs(left.segments, right.segments).flatMap(([one, other]) => {
    const name = (one ?? other)?.segment ?? "";
    const nth = (seen.get(name) ?? 0) + 1;
    seen.set(name, nth);
    const label = nth > 1 ? `${name}[${nth}]` : name;
    const [a, b] = [values(one), values(other)];
    const places = new Map([...a, ...b]);
    return [...places].sort(([, x], [, y]) => x.order - y.order).map(([place, it]) => {
      const row: Row = { place: `${label}${place}`, name: it.name };
      const [l, r] = [a.get(place), b.get(place)];
      if (l !== undefined) row.left = l.value;
      if (r !== undefined) row.right = r.value;
      return row;
    });
  });
}
