#!/usr/bin/env bash
# Python's codec `euc_kr`: one syllable is written in eight bytes, which others read as four letters.
#
# MSH-18 `KS X 1001` is EUC-KR. KS X 1001 has 2,350 of the 11,172 Hangul syllables. For the others, Python's codec
# writes the standard's rare long form, a filler and three letters (8 bytes), and reads it back as one syllable, so a
# round trip in Python shows nothing. Decoders of the WHATWG Encoding Standard (browsers, Rust's encoding_rs), Node
# and Python's own `cp949` read the same bytes as four characters, a filler and three loose letters. The name looks
# nearly right, but a search does not find it, and its hash differs. Neither side reports an error. Korean programs
# write such syllables in two bytes (code page 949), which `euc_kr` refuses: `cp949` is the codec to use.
set -euo pipefail
name='똠'
python3 -c 'import platform; print("Python", platform.python_version())'
echo "Node $(node --version)"
as_hex() { python3 -c 'import sys; print(sys.argv[1].encode(sys.argv[2]).hex())' "$name" "$1"; }
as_node() { node -e 'console.log(new TextDecoder("euc-kr", { fatal: true }).decode(Buffer.from(process.argv[1], "hex")))' "$1"; }
as_python() { python3 -c 'import sys
try: print(bytes.fromhex(sys.argv[1]).decode(sys.argv[2]))
except UnicodeDecodeError: print("refused")' "$1" "$2"; }
expect() { printf '%-32s %s\n' "$1" "$2"; [ "$2" = "$3" ] || { echo "changed: this was $3"; exit 1; }; }
long="$(as_hex euc_kr)"
short="$(as_hex cp949)"
letters=$'\u3164\u3138\u3157\u3141'
expect 'U+B620 by euc_kr' "$long" a4d4a4a8a4c7a4b1
expect 'read by euc_kr' "$(as_python "$long" euc_kr)" "$name"
expect 'read by cp949' "$(as_python "$long" cp949)" "$letters"
expect 'read by Node' "$(as_node "$long")" "$letters"
expect 'U+B620 by cp949' "$short" 8c63
expect 'read by euc_kr' "$(as_python "$short" euc_kr)" refused
