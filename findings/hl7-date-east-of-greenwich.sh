#!/usr/bin/env bash
# hl7-date 1.0.1, `stringify(date)`: east of Greenwich every time stamp ends with `+-100` or the like.
#
# HL7's offset is a sign and four digits, +/-ZZZZ (2.5.1 §2.A.22). JavaScript's getTimezoneOffset is negative in the
# east. The package writes "+" before that negative number, so Berlin is `+-100` and Kolkata `+-6-30`. In America and at
# UTC, where most build servers run, it is right. The package reads its own text as one without an offset. So a round
# trip on one machine is right too, and a reader in another zone is hours wrong.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . hl7-date@1.0.1 >/dev/null
cat >write.cjs <<'JAVASCRIPT'
const { parse, stringify } = require('hl7-date');
const written = stringify(new Date('2026-01-02T03:04:05Z'));
console.log(`${process.env.TZ} writes ${written} and reads that as ${parse(written).toISOString()}`);
JAVASCRIPT
cat >read.cjs <<'JAVASCRIPT'
console.log(`${process.env.TZ} reads ${process.argv[2]} as ${require('hl7-date').parse(process.argv[2]).toISOString()}`);
JAVASCRIPT
echo "hl7-date $(node -p 'require("./node_modules/hl7-date/package.json").version'), the time is 2026-01-02T03:04:05Z"
expect() { echo "$1"; [ "$1" = "$2" ] || { echo "changed: this was $2"; exit 1; }; }
own='and reads that as 2026-01-02T03:04:05.000Z'
expect "$(TZ=America/New_York node write.cjs)" "America/New_York writes 20260101220405-0500 $own"
expect "$(TZ=UTC node write.cjs)" "UTC writes 20260102030405+0000 $own"
expect "$(TZ=Europe/Berlin node write.cjs)" "Europe/Berlin writes 20260102040405+-100 $own"
expect "$(TZ=Asia/Kolkata node write.cjs)" "Asia/Kolkata writes 20260102083405+-6-30 $own"
expect "$(TZ=UTC node read.cjs 20260102083405+-6-30)" 'UTC reads 20260102083405+-6-30 as 2026-01-02T08:34:05.000Z'
