#!/usr/bin/env bash
# curl 7.88.1 (Debian 12), `curl -d @message.hl7`: the server gets MSH and nothing after it.
#
# Most examples on the web post a file with `-d @FILE`. For curl this means form data, and its manual says that line
# ends are stripped. In an HL7v2 file every segment ends with CR. If a text has no LF, this curl drops everything
# after the first CR. The patient and the results are gone. The rest is a well-formed message of one segment, and most
# receivers accept it. A file whose lines end with LF arrives as one long MSH segment instead. `--data-binary @FILE`
# sends the bytes of the file.
#
# curl is the system's, since no registry pins it. Another version may differ, and the script then says so.
set -euo pipefail
folder="$(mktemp -d)"
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -u - >port <<'PYTHON' &
import http.server


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("received", "wb") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port)
server.serve_forever()
PYTHON
server=$!
for _ in $(seq 100); do [ -s port ] && break; sleep 0.1; done
url="http://127.0.0.1:$(cat port)/"

printf 'MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ADT^A01|1|P|2.5.1\rEVN||20260102\rPID|1||4711||DOE^JANE\r' >message.hl7
tr '\r' '\n' <message.hl7 >lines.hl7
curl --version | head -1
expect() { # NAME EXPECTED CURL-ARGUMENTS: posts and compares what arrived, with CR and LF made visible
    curl --silent --show-error --fail -H 'Content-Type: application/hl7-v2' "${@:3}" "$url"
    local got
    got="$(sed 's/\r/<CR>/g' received | tr '\n' '~' | sed 's/~$/<LF>/; s/~\([A-Z]\)/<LF>\1/g')"
    printf '%-34s %s\n' "$1" "$got"
    [ "$got" = "$2" ] || { echo "changed: this was $2"; exit 1; }
}
msh='MSH|^~\&|HIS|WEST|LAKE|HUB|20260102||ADT^A01|1|P|2.5.1'
expect '-d @message.hl7 (CR)' "$msh" -d @message.hl7
expect '-d @lines.hl7 (LF)' "${msh}EVN||20260102PID|1||4711||DOE^JANE" -d @lines.hl7
expect '--data-binary @message.hl7 (CR)' "$msh<CR>EVN||20260102<CR>PID|1||4711||DOE^JANE<CR>" --data-binary @message.hl7
