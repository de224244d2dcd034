"""The same messages read by hl7apy and written as JSON, as the AWS sample for healthcare data lakes does it, to compare with.

    hl7apy_json.py FOLDER SECONDS LEVEL   LEVEL is `tolerant`, hl7apy's default and so the sample's, or `strict`

FOLDER has one message a file, segments ended by CR. Goes through them in a random order, which is always the same, once or as
far as SECONDS allow, and prints a line of JSON: messages read, those that became JSON, and the seconds of CPU.
"""

import json
import logging
import pathlib
import random
import sys
import time

from hl7apy import parser
from hl7apy.base_datatypes import ST
from hl7apy.consts import VALIDATION_LEVEL

LEVELS = {"tolerant": VALIDATION_LEVEL.TOLERANT, "strict": VALIDATION_LEVEL.STRICT}


def document(element):
    """Groups, segments, fields and components as objects under their HL7 names, in a list where they may repeat. As in the
    sample, a value that is no text is left out, and a part that HL7 does not name is an error."""
    found = {}
    for child in element.children:
        name = child.name
        if name is None:
            raise ValueError("a part that this version of HL7 has not")
        if child.reference[0] == "leaf":
            value = child.value
            if isinstance(value, ST):
                found[name] = value.value
            elif isinstance(value, str):
                found[name] = value
        elif child.parent.repetitions[name][1] == 1:
            found[name] = document(child)
        else:
            found.setdefault(name, []).append(document(child))
    return found


def main():
    logging.disable(logging.CRITICAL)
    folder, seconds, level = sys.argv[1:]
    messages = [it.read_bytes().decode() for it in sorted(pathlib.Path(folder).iterdir())]
    random.Random(1).shuffle(messages)
    read, written = 0, 0
    began = time.process_time()
    for message in messages:
        if time.process_time() - began > float(seconds):
            break
        try:
            json.dumps(document(parser.parse_message(message, validation_level=LEVELS[level])))
            written += 1
        except Exception:  # whatever it is, there is no JSON
            pass
        read += 1
    print(json.dumps({"read": read, "written": written, "seconds": time.process_time() - began}))


main()
