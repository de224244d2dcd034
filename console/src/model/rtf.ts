/** Destinations whose text is no part of the document (RTF 1.9.1). Every destination after `\*` is left out, too. */
const HIDDEN = new Set([
  "fonttbl", "colortbl", "stylesheet", "listtable", "listoverridetable", "info", "pict", "object", "filetbl", "revtbl", "fldinst", "bkmkstart", "bkmkend", "xe", "tc",
]);
/** Control words that stand for a text. */
const SAID: Record<string, string> = {
  par: "\n", line: "\n", sect: "\n", page: "\n", row: "\n", tab: "\t", cell: "\t", nestcell: "\t", nestrow: "\n", emdash: "—", endash: "–", bullet: "•", lquote: "‘", rquote: "’",
  ldblquote: "“", rdblquote: "”", emspace: "\u2003", enspace: "\u2002",
};
/** Character sets of fonts (`\fcharset`), by the names that browsers know. */
const CHARSETS: Record<number, string> = {
  77: "macintosh", 128: "shift_jis", 129: "euc-kr", 134: "gbk", 136: "big5", 161: "windows-1253", 162: "windows-1254", 163: "windows-1258", 177: "windows-1255",
  178: "windows-1256", 186: "windows-1257", 204: "windows-1251", 222: "windows-874", 238: "windows-1250",
};
/** The same for code pages (`\ansicpg`); all others are windows-125x. */
const PAGES: Record<number, string> = { 874: "windows-874", 932: "shift_jis", 936: "gbk", 949: "euc-kr", 950: "big5", 10000: "macintosh", 65001: "utf-8" };
/** Nobody nests groups deeper; what does is refused. */
const MOST_DEPTH = 500;

interface Group {
  hidden: boolean;
  /** How many characters stand for a character of Unicode, for readers without Unicode (`\uc`). */
  substitutes: number;
  charset: string;
}

const [OPEN, CLOSE, BACKSLASH, QUOTE, MINUS, SPACE] = [0x7b, 0x7d, 0x5c, 0x27, 0x2d, 0x20];

function isLetter(byte: number): boolean {
  return (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x41 && byte <= 0x5a);
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

const DECODERS = new Map<string, TextDecoder>();

/** Creating a decoder takes longer than using it. */
function decoder(charset: string): TextDecoder {
  const known = DECODERS.get(charset) ?? new TextDecoder(charset);
  DECODERS.set(charset, known);
  return known;
}

/**
 * The text of an RTF document: no form, no picture, no object, no field's instruction. Nothing of the document has an effect, and the time is
 * linear in its length. Undefined if it is nested too deeply.
 */
export function textOf(bytes: Uint8Array): string | undefined {
  const said: string[] = [];
  const fonts = new Map<number, string>();
  let page = "windows-1252";
  let group: Group = { hidden: false, substitutes: 1, charset: "" };
  const outer: Group[] = [];
  let [font, substituted] = [-1, 0];
  // Bytes of one character set, until something else comes.
  let waiting: number[] = [];
  const flush = (): void => {
    if (waiting.length > 0) said.push(decoder(group.charset === "" ? page : group.charset).decode(Uint8Array.from(waiting)));
    waiting = [];
  };
  const say = (text: string): void => {
    flush();
    if (!group.hidden) said.push(text);
  };
  const literal = (byte: number): void => {
    if (substituted > 0) substituted -= 1;
    else if (!group.hidden) waiting.push(byte);
  };
  for (let at = 0; at < bytes.length; ) {
    const byte = bytes[at++] as number;
    if (byte === OPEN) {
      flush();
      if (outer.length >= MOST_DEPTH) return undefined;
      outer.push(group);
      group = { ...group };
      substituted = 0;
    } else if (byte === CLOSE) {
      flush();
      const around = outer.pop();
      // What stands behind the document is none of it.
      if (around === undefined || outer.length === 0) break;
      group = around;
      substituted = 0;
    } else if (byte !== BACKSLASH) {
      if (byte !== 0x0a && byte !== 0x0d && byte !== 0) literal(byte);
    } else if (!isLetter(bytes[at] ?? 0)) {
      const symbol = bytes[at++];
      if (symbol === QUOTE) {
        const code = Number.parseInt(String.fromCharCode(bytes[at] ?? 0, bytes[at + 1] ?? 0), 16);
        at += 2;
        if (!Number.isNaN(code)) literal(code);
      } else if (symbol === OPEN || symbol === CLOSE || symbol === BACKSLASH) literal(symbol);
      else if (symbol === 0x7e) say("\u00a0");
      else if (symbol === 0x5f) say("-");
      else if (symbol === 0x0a || symbol === 0x0d) say("\n");
      else if (symbol === 0x2a) group.hidden = true;
    } else {
      let word = "";
      for (; isLetter(bytes[at] ?? 0); at++) if (word.length < 32) word += String.fromCharCode(bytes[at] as number);
      let digits = "";
      if (bytes[at] === MINUS || isDigit(bytes[at] ?? 0)) {
        do {
          if (digits.length < 11) digits += String.fromCharCode(bytes[at] as number);
        } while (isDigit(bytes[++at] ?? 0));
      }
      if (bytes[at] === SPACE) at++;
      const value = digits === "" ? undefined : Number(digits);
      const text = SAID[word];
      if (HIDDEN.has(word)) group.hidden = true;
      else if (text !== undefined) say(text);
      else if (word === "bin") at += Math.max(0, value ?? 0);
      else if (word === "uc") group.substitutes = Math.max(0, value ?? 1);
      else if (word === "u" && value !== undefined) {
        say(String.fromCharCode(value & 0xffff));
        substituted = group.substitutes;
      } else if (word === "ansicpg" && value !== undefined) page = PAGES[value] ?? (value >= 1250 && value <= 1258 ? `windows-${value}` : "windows-1252");
      else if (word === "f" && value !== undefined) {
        flush();
        font = value;
        group.charset = fonts.get(value) ?? "";
      } else if (word === "fcharset" && value !== undefined) fonts.set(font, CHARSETS[value] ?? "");
    }
  }
  flush();
  return said.join("").replace(/\n+$/, "");
}
