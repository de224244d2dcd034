#!/usr/bin/env bash
# hl7types 0.9.5, `encode_er7(decode_er7(text))`: a coded result comes out as one word with escaped delimiters.
#
# OBX-2 names the type of OBX-5. This package treats every OBX-5 as a text. Its output has `\S\` where `^` was, so
# `3092008^Staphylococcus aureus^SCT` becomes one component, a titer `^1^:^128` has no numbers, and an embedded PDF no
# data. Numbers and texts without components are right, so a test with a glucose shows nothing. The receiver gets a
# well-formed message whose codes are gone. The package also leaves out segments of a site (Z) and fields beyond the
# standard, as the last line shows.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hl7types==0.9.5
venv/bin/python -W ignore - <<'PYTHON'
import importlib.metadata, sys
from hl7types import decode_er7, encode_er7

MSH = "MSH|^~\\&|LAB|WEST|LAKE|HUB|20260102||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||4711||DOE^JANE\r"
CASES = [
    ("NM", "96", "96"),
    ("CWE", "3092008^Staphylococcus aureus^SCT", "3092008\\S\\Staphylococcus aureus\\S\\SCT"),
    ("SN", "^1^:^128", "\\S\\1\\S\\:\\S\\128"),
    ("ED", "LAB^application^pdf^Base64^JVBERi0=", "LAB\\S\\application\\S\\pdf\\S\\Base64\\S\\JVBERi0="),
]
print("hl7types", importlib.metadata.version("hl7types"))
changed = False
for data_type, value, expected in CASES:
    written = encode_er7(decode_er7(f"{MSH}OBR|1||9|TEST\rOBX|1|{data_type}|TEST||{value}||||||F\rZLO|1|local\r"))
    seen = written.split("OBX|")[1].split("|")[4]
    print(f"{data_type:3} {value} -> {seen}")
    changed |= seen != expected or "ZLO" in written
print("ZLO|1|local ->", "kept" if "ZLO" in written else "left out")
sys.exit("changed" if changed else 0)
PYTHON
