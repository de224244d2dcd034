/** The JSON rendition of a message: docs/rendition.schema.json. */
export interface Rendition {
  segments: Segment[];
}

export interface Segment {
  segment: string;
  name?: string;
  fields: Field[];
}

export interface Field {
  position: number;
  name?: string;
  repetitions?: Component[][];
}

export interface Part {
  position: number;
  name?: string;
  value?: string;
}

export interface Component extends Part {
  subcomponents?: Part[];
}

/** What a file looks like before it is sent. */
export interface Look {
  /** Whether it begins as HL7: MSH, or the header of a batch. */
  isHl7: boolean;
  /** `ADT^A01` of the first message. */
  kind: string;
  messages: number;
  /** Problems that receivers will have with it; for a batch, with its first message. */
  problems: Finding[];
  isEmpty: boolean;
  isTooLarge: boolean;
}

/** A problem that receivers will have with a file. If one line causes it, the number of that line, from 1. */
export interface Finding {
  what: "delimiters" | "charset" | "type" | "controlId" | "version" | "segment";
  line: number;
}

/** The API takes bodies up to 4 MiB. */
export const MOST_BYTES = 4 * 1024 * 1024;

/** Looks for obvious problems in the bytes of a file. For a comparison with the standard there is `sluice hl7 validate`. */
export function look(bytes: Uint8Array): Look {
  const text = new TextDecoder("latin1").decode(bytes).replace(/^(?:\xef\xbb\xbf)?[\x0b\s]*/, "");
  const isHl7 = /^(?:MSH|FHS|BHS)[^A-Za-z0-9\s]/.test(text);
  const header = /(?:^|[\r\n])MSH([^\r\n]*)/.exec(text)?.[1] ?? "";
  const type = header.split(header[0] ?? "|")[8] ?? "";
  const [code, event] = type.split(header[1] ?? "^");
  return {
    isHl7,
    kind: isHl7 ? [code, event].filter((it) => it !== undefined && /^[A-Za-z0-9]{1,10}$/.test(it)).join("^") : "",
    messages: isHl7 ? (text.match(/(?:^|[\r\n])MSH[^A-Za-z0-9\s]/g)?.length ?? 0) : 0,
    problems: isHl7 ? problemsOf(text, bytes) : [],
    isEmpty: bytes.length === 0,
    isTooLarge: bytes.length > MOST_BYTES,
  };
}

function problemsOf(text: string, bytes: Uint8Array): Finding[] {
  const found: Finding[] = [];
  const add = (what: Finding["what"], line = 1): void => void found.push({ what, line });
  const lines = text.split(/\r\n|\r|\n/);
  const at = lines.findIndex((it) => it.startsWith("MSH"));
  const header = lines[at] ?? "";
  const separator = header.charAt(3);
  const fields = header.split(separator);
  // fields[n] is MSH-(n + 1).
  const field = (n: number): string => (fields[n - 1] ?? "").trim();
  const encoding = field(2);
  if (at < 0 || /[A-Za-z0-9\s]/.test(encoding) || encoding.length < 1 || encoding.length > 5) {
    add("delimiters", at + 1);
    return found;
  }
  if (field(9) === "") add("type", at + 1);
  if (field(10) === "") add("controlId", at + 1);
  if (field(12) === "") add("version", at + 1);
  const isUtf8 = (): boolean => {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes) !== undefined;
    } catch {
      return false;
    }
  };
  if (field(18) === "" && !isUtf8()) add("charset", at + 1);
  // The first is enough: a text that is folded has many.
  const end = lines.findIndex((it, n) => n > at && /^(?:MSH|BTS|FTS)/.test(it));
  const own = lines.slice(at, end < 0 ? lines.length : end);
  const bad = own.findIndex((it) => it.trim() !== "" && !/^[\x1c]/.test(it) && !/^[A-Z][A-Z0-9]{2}/.test(it));
  if (bad >= 0) add("segment", at + bad + 1);
  return found;
}

/** A document inside of a message: OBX-5 of the type ED (encapsulated data). */
export interface Document {
  /** Which OBX, from 1. */
  observation: number;
  /** The media type, by the document's own first bytes and never by what the message says. */
  type: string;
  /** Empty if the document cannot be decoded. */
  bytes: Uint8Array<ArrayBuffer>;
}

const MAGIC: [string, number[]][] = [
  ["text/rtf", [0x7b, 0x5c, 0x72, 0x74, 0x66]],
  ["application/pdf", [0x25, 0x50, 0x44, 0x46, 0x2d]],
  ["image/png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
];

function typeOf(bytes: Uint8Array): string {
  return MAGIC.find(([, magic]) => magic.every((byte, at) => bytes[at] === byte))?.[0] ?? "application/octet-stream";
}

const NOTHING = new Uint8Array();

function decoded(encoding: string, data: string): Uint8Array<ArrayBuffer> {
  // The sender of the text, or HL7's own `\.br\`, may have broken long lines.
  const plain = data.replaceAll("\\.br\\", "").replace(/\s/g, "");
  try {
    if (encoding === "base64") return Uint8Array.from(atob(plain), (it) => it.charCodeAt(0));
    if (encoding === "hex") return /^(?:[0-9a-f]{2})+$/i.test(plain) ? Uint8Array.from(plain.match(/../g) ?? [], (it) => Number.parseInt(it, 16)) : NOTHING;
    // Text stands in messages as it is.
    if (encoding === "a" || encoding === "" || data.startsWith(RTF)) return new TextEncoder().encode(data);
  } catch {
    // What the message calls Base64 is none.
  }
  return NOTHING;
}

const RTF = "{\\rtf";
const TYPE = 2;
const VALUE = 5;
const ENCODING = 4;
const DATA = 5;

/** The documents of a message, also those that cannot be decoded: repetitions of OBX-5 of the type ED or with an encoding (HL7 table 0299), and RTF as it is. */
export function documents(rendition: Rendition): Document[] {
  const observations = rendition.segments.filter((it) => it.segment === "OBX");
  return observations.flatMap((segment, at) => {
    const repetitionsOf = (position: number): Component[][] => segment.fields.find((it) => it.position === position)?.repetitions ?? [];
    const isDocument = repetitionsOf(TYPE)[0]?.find((it) => it.position === 1)?.value === "ED";
    const repetitions = repetitionsOf(VALUE);
    return repetitions.flatMap((repetition) => {
      const value = (position: number): string => repetition.find((it) => it.position === position)?.value ?? "";
      const encoding = value(ENCODING).toLowerCase();
      if (repetition.length === 0 || !(isDocument || encoding === "base64" || encoding === "hex" || value(DATA).startsWith(RTF))) return [];
      const bytes = decoded(encoding, value(DATA));
      return [{ observation: at + 1, type: typeOf(bytes), bytes }];
    });
  });
}
