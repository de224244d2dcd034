#!/usr/bin/env bash
# Python's codec `shift_jis` refuses 髙橋, a common family name, and reads a range's dash as another character than
# everybody else.
#
# MSH-18 `ISO IR13` is Shift_JIS. Under that name hospitals' systems write code page 932, which has some 400
# characters more, among them 髙 and 﨑 of family names and ① of reports. The WHATWG Encoding Standard (browsers, Node,
# Rust's encoding_rs) reads Shift_JIS in that way. Python's `shift_jis` has the bare standard and refuses them. Where
# it does not refuse, 81 60 (the dash in `4.0～9.0`) is U+301C and not U+FF5E, and 81 7C (a minus) is U+2212 and not
# U+FF0D. So a reference range of one system does not equal that of the other. `cp932` agrees with the web.
set -euo pipefail
python3 -c 'import platform; print("Python", platform.python_version())'
echo "Node $(node --version)"
points() { python3 -c 'import sys; print(*(f"{ord(it):04X}" for it in sys.argv[1]))' "$1"; }
as_python() { python3 -c 'import sys
try: print(*(f"{ord(it):04X}" for it in bytes.fromhex(sys.argv[1]).decode(sys.argv[2])))
except UnicodeDecodeError: print("refused")' "$1" "$2"; }
as_node() { points "$(node -e 'process.stdout.write(new TextDecoder("shift_jis", { fatal: true }).decode(Buffer.from(process.argv[1], "hex")))' "$1")"; }
expect() { # BYTES shift_jis cp932 Node
    local seen
    seen="$(as_python "$1" shift_jis), $(as_python "$1" cp932), $(as_node "$1")"
    printf '%s: shift_jis, cp932, Node read %s\n' "$1" "$seen"
    [ "$seen" = "$2, $3, $4" ] || { echo "changed: this was $2, $3, $4"; exit 1; }
}
expect fbfc8bb4 refused '9AD9 6A4B' '9AD9 6A4B'
expect 8740 refused 2460 2460
expect 8160 301C FF5E FF5E
expect 817c 2212 FF0D FF0D
