#!/usr/bin/env bash
# awscli 1.46.3, `aws sqs send-message --message-body file://message.hl7`: every CR arrives as LF.
#
# `file://` opens the file as text, and Python then turns CR and CRLF into LF. HL7v2 segments end with CR and nothing else, so the
# text that is queued or published (sqs, sns, stepfunctions, and every other text parameter) is no message by the standard, and its hash
# differs from that of the file. Tests do not notice it, because receivers that accept LF as a segment's end can read it. `fileb://` is for binary
# parameters and is refused here. Base64 on the command line, or an SDK, keeps the bytes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check awscli==1.46.3
python3 -u - >port <<'PYTHON' &
import hashlib, http.server, json


class Queue(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["MessageBody"]
        with open("received", "w", newline="") as file:
            file.write(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.end_headers()
        answer = {"MessageId": "1", "MD5OfMessageBody": hashlib.md5(body.encode()).hexdigest()}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Queue)
print(server.server_port)
server.serve_forever()
PYTHON
server=$!
for _ in $(seq 100); do [ -s port ] && break; sleep 0.1; done
url="http://127.0.0.1:$(cat port)"

printf 'MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ADT^A01|1|P|2.5.1\rPID|1||4711||DOE^JANE\r' >message.hl7
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1 AWS_CONFIG_FILE=/dev/null
venv/bin/aws --version
venv/bin/aws sqs send-message --endpoint-url "$url" --queue-url "$url/1/queue" --message-body file://message.hl7 >/dev/null
printf 'the file: %s\nreceived: %s\n' "$(od -An -c -j54 -N5 message.hl7 | tr -s ' ')" "$(od -An -c -j54 -N5 received | tr -s ' ')"
tr '\r' '\n' <message.hl7 | cmp -s - received || { echo 'changed: the body is not the file with LF for CR'; exit 1; }
