#!/usr/bin/env bash
# cloudevents 2.2.0 (Python) and 10.0.0 (npm): an event that is read and sent on is another event.
#
# In the binary mode of HTTP the body is the data's bytes (HTTP binding 1.0.2 §3.1.2). The Python package reads a JSON
# array and writes Python's notation of it, with single quotes and `True`, which it still calls application/json. The
# next program cannot read the results. An object is right, so a test with one result shows nothing.
#
# The npm package leaves percent signs in attributes, although receivers must decode them once (§3.1.3.2). An id with a
# blank, as MSH-10 may be, is `A%2017` for its user and `A 17` for Python's, so they do not recognise each other's
# duplicates. `time` is optional and says when something happened. Where it is absent, both packages put the time of
# the reading, which is another one at each delivery, and the next program cannot tell.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cloudevents==2.2.0
npm install --silent --no-audit --no-fund --ignore-scripts --prefix . cloudevents@10.0.0 >/dev/null
cat >relay.py <<'PYTHON'
import importlib.metadata
from datetime import datetime, timezone
from cloudevents.core.bindings import http

print("cloudevents (Python)", importlib.metadata.version("cloudevents"))
headers = {"ce-specversion": "1.0", "ce-type": "stored", "ce-source": "/west", "ce-id": "A%2017"}
headers["content-type"] = "application/json"
before = datetime.now(timezone.utc)
for body in ['{"code": "718-7", "final": true}', '[{"code": "718-7", "final": true}]', "true"]:
    event = http.from_http_event(http.HTTPMessage(headers, body.encode()))
    sent = http.to_binary_event(event)
    print(f"{body} -> {sent.body.decode()} ({sent.headers['content-type']})")
invented = before <= event.get_time() <= datetime.now(timezone.utc)
print(f"id: {event.get_id()}, time: {'that of the reading' if invented else event.get_time()}")
PYTHON
cat >relay.cjs <<'JAVASCRIPT'
const { HTTP } = require('cloudevents');
console.log('cloudevents (npm)', require('./node_modules/cloudevents/package.json').version);
const headers = { 'ce-specversion': '1.0', 'ce-type': 'stored', 'ce-source': '/west', 'ce-id': 'A%2017' };
headers['content-type'] = 'application/json';
const body = '[{"code": "718-7", "final": true}]';
const before = new Date().toISOString();
const event = HTTP.toEvent({ headers, body });
const sent = HTTP.binary(event);
const invented = sent.headers['ce-time'] >= before && sent.headers['ce-time'] <= new Date().toISOString();
console.log(`${body} -> ${sent.body} (${sent.headers['content-type']})`);
console.log(`id: ${event.id}, time: ${invented ? 'that of the reading' : sent.headers['ce-time']}`);
JAVASCRIPT
{ venv/bin/python relay.py; node relay.cjs; } | tee seen
cat >expected <<'TEXT'
cloudevents (Python) 2.2.0
{"code": "718-7", "final": true} -> {"code": "718-7", "final": true} (application/json)
[{"code": "718-7", "final": true}] -> [{'code': '718-7', 'final': True}] (application/json)
true -> True (application/json)
id: A 17, time: that of the reading
cloudevents (npm) 10.0.0
[{"code": "718-7", "final": true}] -> [{"code":"718-7","final":true}] (application/json)
id: A%2017, time: that of the reading
TEXT
cmp -s expected seen || { echo 'changed: this was'; cat expected; exit 1; }
