#!/usr/bin/env bash
# simple-hl7 3.3.0, the TCP server: of two messages in one packet the second is gone, and the first seems to be longer.
#
# MLLP marks where each message of the stream begins and ends (HL7's transport specification, §1.2.2), and TCP cuts
# the stream as it likes. A sender that wants no acknowledgment (MSH-15 and MSH-16 `NE`, 2.5.1 §2.9.3) has nothing to
# wait for, so several of its frames may come in one packet. The server looks only at the last two characters of what
# it has read, and then hands one message to the application, in which the second patient's PID follows the first
# one's. The answer it sends all the same is an AA for the first. The frame characters are left in the names of two
# segments, where nobody looks. With a pause between them both messages are right, so this depends on the load.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . simple-hl7@3.3.0 >/dev/null
cat >server.cjs <<'JAVASCRIPT'
const net = require('node:net');
const hl7 = require('simple-hl7');
const port = Number(process.argv[2]);
const frame = (id) => `\x0bMSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ADT^A01|${id}|P|2.5.1|||NE|NE\rPID|1||471${id}||DOE^JANE\r\x1c\r`;
const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const handled = [];
const app = hl7.tcp();
app.use((request, response, next) => {
  const patients = request.msg.getSegments('PID').map((it) => it.getField(3).toString());
  handled.push(`${request.msg.header.getField(8)} (PID-3 ${patients.join(' and ')})`);
  response.end();
});
app.use((error, request, response, next) => console.log('error', error));

async function send(name, packets) {
  handled.length = 0;
  let answers = '';
  const socket = net.connect(port, '127.0.0.1').on('data', (data) => (answers += data));
  for (const packet of packets) {
    socket.write(packet);
    await later(500);
  }
  socket.destroy();
  const acknowledged = [...answers.matchAll(/MSA\|AA\|(\d+)/g)].map((it) => it[1]);
  console.log(`${name}: handled ${handled.join(', ')}; AA for ${acknowledged.join(', ')}`);
}

app.start(port);
later(500)
  .then(() => send('two packets', [frame(1), frame(2)]))
  .then(() => send('one packet', [frame(1) + frame(2)]))
  .then(() => process.exit(0));
JAVASCRIPT
echo "simple-hl7 $(node -p 'require("./node_modules/simple-hl7/package.json").version')"
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
node server.cjs "$port" | tee seen
cat >expected <<'TEXT'
two packets: handled 1 (PID-3 4711), 2 (PID-3 4712); AA for 1, 2
one packet: handled 1 (PID-3 4711 and 4712); AA for 1
TEXT
cmp -s expected seen || { echo 'changed: this was'; cat expected; exit 1; }
