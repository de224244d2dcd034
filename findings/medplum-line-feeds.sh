#!/usr/bin/env bash
# @medplum/core 5.0.10, `Hl7Message.parse(text).toString()`: a line feed in a report comes out as the end of a
# segment.
#
# Bare line feeds within OBX-5 are content (only CR ends a segment, 2.5.1 §2.5.4), and senders of reports write them.
# Here the parser ends the segment at a LF, and the writer puts a CR there. The second line of the report becomes a
# segment with a name of its own, and OBX-11, the status of the result, has moved into it. After one hop nobody can
# tell the damage from the sender's text, because every line end is a CR by then. simple-hl7 3.3.0, shown for
# comparison, returns the message unchanged.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @medplum/core@5.0.10 simple-hl7@3.3.0 >/dev/null
cat >lines.mjs <<'JAVASCRIPT'
import { Hl7Message } from '@medplum/core';
import { readFileSync } from 'node:fs';
import hl7 from 'simple-hl7';
const version = (name) => `${name} ${JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version}`;
const message =
  'MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ORU^R01|1|P|2.5.1\rPID|1||4711||DOE^JANE\r' +
  'OBX|1|TX|18748-4^REPORT^LN||Heart normal,\nlungs clear.||||||F\r';
const last = (text) => JSON.stringify(text.slice(text.indexOf('OBX')).trimEnd());
const medplum = Hl7Message.parse(message);
console.log(`${version('@medplum/core')}: ${medplum.segments.length} segments, OBX-11 is "${medplum.getSegment('OBX').getField(11) ?? ''}"`);
console.log(last(medplum.toString()));
const simple = new hl7.Parser().parse(message);
console.log(`${version('simple-hl7')}:\n${last(simple.toString())}`);
const same =
  last(medplum.toString()) === last(message.replace('\n', '\r')) && last(simple.toString()) === last(message);
console.log(same ? '' : 'changed: medplum wrote CR for LF and simple-hl7 wrote LF');
process.exit(same ? 0 : 1);
JAVASCRIPT
node lines.mjs
