#!/usr/bin/env bash
# hl7 0.4.5 (python-hl7): `parse_batch` and `parse_file` join the lines of a text. "Take 1<LF>0.5 mg" becomes "Take
# 10.5 mg".
#
# In HL7v2 a bare line feed within a field is content (only CR ends a segment, 2.5.1 §2.5.4), and `hl7.parse` keeps
# it. The functions for batches first split the text with `splitlines`, which also cuts at LF, VT and FF. They strip
# blanks and line ends from each piece, and then join the pieces. So the same message has another text when it comes
# in a batch: words run together, and so do numbers. A report that is right by itself is wrong in the nightly file.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hl7==0.4.5
venv/bin/python - <<'PYTHON'
import importlib.metadata, sys
import hl7

message = (
    "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ORU^R01|1|P|2.5.1\rPID|1||4711||DOE^JANE\r"
    "OBX|1|TX|18842-5^DISCHARGE^LN||Take 1\n0.5 mg at night.||||||F\r"
)
batch = f"BHS|^~\\&|HIS|WEST\r{message}BTS|1\r"
text = lambda parsed: str(parsed.segment("OBX")[5])
seen = {
    "parse": text(hl7.parse(message)),
    "parse_batch": text(hl7.parse_batch(batch)[0]),
    "parse_file": text(hl7.parse_file(f"FHS|^~\\&|HIS\r{batch}FTS|1\r")[0][0]),
}
print("hl7", importlib.metadata.version("hl7"))
for function, value in seen.items():
    print(f"{function:12} {value!r}")
joined = "Take 10.5 mg at night."
expected = {"parse": "Take 1\n0.5 mg at night.", "parse_batch": joined, "parse_file": joined}
sys.exit(0 if seen == expected else f"changed: this was {expected}")
PYTHON
