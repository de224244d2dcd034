#!/usr/bin/env bash
# @medplum/core 5.0.10: 7 milliseconds are written as `.7`, and `.1234` is read as 1.234 seconds.
#
# HL7's time stamp has a decimal fraction of a second (YYYYMMDDHHMMSS.S[S[S[S]]], 2.5.1 §2.A.22): `.7` is 700 ms.
# `formatHl7DateTime`, which also writes MSH-7 of acknowledgments, writes the milliseconds after the point without
# leading zeros. So nine of ten times below 100 ms become later, and an earlier measurement can sort last.
# `parseHl7DateTime` reads the digits as a number of milliseconds, so the two agree with each other (a round trip
# shows nothing), and with no other program. Four digits, which the standard allows, even change the second.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @medplum/core@5.0.10 >/dev/null
cat >times.mjs <<'JAVASCRIPT'
import { formatHl7DateTime, parseHl7DateTime } from '@medplum/core';
import { readFileSync } from 'node:fs';
console.log('@medplum/core', JSON.parse(readFileSync('node_modules/@medplum/core/package.json')).version);
let changed = false;
const expect = (what, seen, expected) => {
  console.log(`${what} -> ${seen}`);
  if (seen !== expected) {
    console.log(`changed: this was ${expected}`);
    changed = true;
  }
};
const written = (time) => expect(`written ${time}`, formatHl7DateTime(new Date(time)), written.expected.shift());
written.expected = ['20260102030405.7', '20260102030405.70', '20260102030405.700'];
for (const milliseconds of ['007', '070', '700']) written(`2026-01-02T03:04:05.${milliseconds}Z`);
const read = (time) => expect(`read    ${time}`, parseHl7DateTime(time), read.expected.shift());
read.expected = ['2026-01-02T03:04:05.005Z', '2026-01-02T03:04:06.234Z'];
for (const time of ['20260102030405.5', '20260102030405.1234']) read(time);
process.exit(changed ? 1 : 0);
JAVASCRIPT
node times.mjs
