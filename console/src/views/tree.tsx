import { useState } from "preact/hooks";
import type { Component, Field, Rendition, Segment } from "../model/hl7.js";
import { useTexts } from "../text/index.js";
import { Untrusted } from "./parts.js";

/** Segments that are shown at first, and added each time. */
const SEGMENTS = 200;

/** A message as a tree: segments, fields, components, with the names that the standard has for them. */
export function Tree({ rendition }: { rendition: Rendition }) {
  const t = useTexts();
  const [shown, setShown] = useState(SEGMENTS);
  const left = rendition.segments.length - shown;
  return (
    <div class="tree">
      {rendition.segments.slice(0, shown).map((it, n) => <SegmentView key={n} segment={it} />)}
      {left > 0 && <button type="button" onClick={() => setShown(shown + SEGMENTS)}>{t.message.moreLines(left)}</button>}
    </div>
  );
}

function SegmentView({ segment }: { segment: Segment }) {
  const fields = segment.fields.flatMap((field) =>
    (field.repetitions ?? []).map((repetition, n) => ({ field, repetition, n, many: (field.repetitions?.length ?? 0) > 1 })),
  );
  return (
    <details open>
      <summary><b><Untrusted text={segment.segment} /></b> <span class="name">{segment.name}</span></summary>
      <dl>
        {fields.map(({ field, repetition, n, many }) => (
          <FieldView key={`${field.position}.${n}`} place={`${segment.segment}-${field.position}${many ? `[${n + 1}]` : ""}`} field={field} components={repetition} />
        ))}
      </dl>
    </details>
  );
}

function FieldView({ place, field, components }: { place: string; field: Field; components: Component[] }) {
  const only = components.length === 1 && components[0]?.position === 1 && components[0].subcomponents === undefined ? components[0] : undefined;
  return (
    <>
      <dt><code><Untrusted text={place} /></code> <span class="name">{field.name}</span></dt>
      <dd>
        {only !== undefined ? <Untrusted text={only.value ?? ""} /> : (
          <ul>
            {components.map((it) => (
              <li key={it.position}>
                <span class="name">{it.position} {it.name}</span>{" "}
                {it.subcomponents === undefined ? <Untrusted text={it.value ?? ""} /> : (
                  <ul>
                    {it.subcomponents.map((sub) => (
                      <li key={sub.position}><span class="name">{it.position}.{sub.position} {sub.name}</span> <Untrusted text={sub.value ?? ""} /></li>
                    ))}
                  </ul>
                )}
              </li>
            ))}
          </ul>
        )}
      </dd>
    </>
  );
}
