#!/usr/bin/env bash
# requests 2.34.2 with charset-normalizer 3.5.3, `response.text`: a Spanish name in UTF-8 is read as Korean.
#
# If an answer in application/hl7-v2 has no charset in its Content-Type, it is UTF-8, or MSH-18 names its character
# set. requests guesses from the bytes instead. An ER7 message is nearly all ASCII, so the guess rests on a letter or
# two: GARCÍA^JOSÉ in UTF-8 becomes GARC횒A^JOS횋 (CP949), and GARCĂŤA^JOSĂ‰ (windows-1250) when MSH-18 is filled;
# MÜLLER in ISO 8859-1 becomes M軩LER (Big5). Nothing fails. Other names are right, so a test with one umlaut proves
# nothing. Readers should decode `response.content`; servers should always send a charset.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check requests==2.34.2 charset-normalizer==3.5.3
venv/bin/python - <<'PYTHON'
import http.server, sys, threading
import charset_normalizer, requests

CASES = [  # patient, charset of the bytes, MSH-18, what response.text shows of the patient
    ("GARCÍA^JOSÉ", "utf-8", "", "GARC횒A^JOS횋"),
    ("GARCÍA^JOSÉ", "utf-8", "UNICODE UTF-8", "GARCĂŤA^JOSĂ‰"),
    ("MÜLLER^JÖRG", "latin-1", "8859/1", "M軩LER^J烼G"),
    ("MÜLLER^JÖRG", "utf-8", "UNICODE UTF-8", "MÜLLER^JÖRG"),
]


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        patient, charset, msh_18, _ = CASES[int(self.path[1:])]
        last = f"||||||{msh_18}" if msh_18 else ""
        message = f"MSH|^~\\&|A|B|C|D|20260102||ADT^A01|1|P|2.5.1{last}\rEVN||20260102\rPID|1||4711||{patient}\r"
        self.send_response(200)
        self.send_header("Content-Type", "application/hl7-v2")
        self.end_headers()
        self.wfile.write(message.encode(charset))

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"requests {requests.__version__}, charset-normalizer {charset_normalizer.__version__}")
changed = False
for number, (patient, charset, _, expected) in enumerate(CASES):
    response = requests.get(f"http://127.0.0.1:{server.server_port}/{number}", timeout=10)
    shown = response.text.split("|4711||")[-1].strip()
    print(f"{patient} in {charset}: response.text has {shown} (guessed {response.apparent_encoding})")
    if shown != expected:
        print(f"changed: this was {expected}")
        changed = True
sys.exit(changed)
PYTHON
