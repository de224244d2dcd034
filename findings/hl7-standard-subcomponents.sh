#!/usr/bin/env bash
# hl7-standard 1.0.4, `transform()` and `build()`: the subcomponents of a field with one component come out as
# repetitions.
#
# `&` separates subcomponents and `~` repetitions (HL7 2.5.1 §2.5.4). This package has them the other way round, and
# where a field has neither `^` nor `~`, it takes the pieces between `&` for a list and writes that with `~`. The
# standard's own identifier of a radiologist's impression, `71020&IMP` (§7.2.3), becomes `71020~IMP`, so the impression
# has the code of the X-ray itself. A family name with its prefix becomes three patient names. A second component
# prevents it, and so most messages pass unharmed.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . hl7-standard@1.0.4 >/dev/null
cat >build.cjs <<'JAVASCRIPT'
const HL7 = require('hl7-standard');
console.log('hl7-standard', require('./node_modules/hl7-standard/package.json').version);
const header = 'MSH|^~\\&|RIS|WEST|LAKE|HUB|20260102||ORU^R01|1|P|2.5.1\r';
let changed = false;
for (const [segment, expected] of [
  ['OBX|1|CWE|71020&IMP|1|^Heart normal', 'OBX|1|CWE|71020~IMP|1|^Heart normal'],
  ['OBX|1|CWE|71020&IMP^CHEST^C4|1|^Heart normal', 'OBX|1|CWE|71020&IMP^CHEST^C4|1|^Heart normal'],
  ['PID|1||4711||VAN DEN BERG&VAN DEN&BERG', 'PID|1||4711||VAN DEN BERG~VAN DEN~BERG'],
  ['PID|1||4711||VAN DEN BERG&VAN DEN&BERG^ANNA', 'PID|1||4711||VAN DEN BERG&VAN DEN&BERG^ANNA'],
]) {
  const message = new HL7(`${header}${segment}\r`);
  message.transform();
  const built = message.build().trimEnd().split(/[\r\n]+/)[1].replace(/\|$/, '');
  console.log(`${segment} -> ${built}`);
  if (built !== expected) {
    console.log(`changed: this was ${expected}`);
    changed = true;
  }
}
process.exit(changed ? 1 : 0);
JAVASCRIPT
node build.cjs
