"""Writes the data of the dictionary, one file for each version of HL7, and differences.txt. README.md has the
command.

Names, usage, repetition and events come from hl7types; data types, tables, withdrawn fields and the structures of
messages from hl7apy. Both were generated from the XML schemas of HL7 and agree except in a few places; `merge` says
which one has precedence. hl7-dictionary is a third source, up to 2.7.1: it has required components (2.5, 2.5.1),
withdrawn fields and responses that the other two have lost. differences.txt lists the places where the result differs
from hl7-dictionary.
"""

import hashlib
import importlib
import json
import re
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

THIRD = ("hl7-dictionary-1.0.1.tgz", "a23751c26d83a897fe5734ca198555c13c0d306d78b5578b103f0d63198182ef")

VERSIONS = ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2"]
APY_VERSION = {"2.7.1": "2.7"}  # hl7apy has none of its own
FIELD = re.compile(
    r"^ +\w+\.(?P<number>\d+)(?: \((?P<component>opt|req)\))? - (?P<name>.*) \((?P<type>[\w*]+)\)"
    r"(?: (?P<usage>R|O|C|B|X|NA|W|I))?(?P<repeats> rep)?(?: S[^|]*?)?(?: \| (?P<table>\w+) - .*)?$"
)
SMALL = set("a an and as at by for from if in of on or per that the to which with".split())
# Words in the capitalized names (2.1) that are abbreviations.
CAPITALS = set("ADT CLIA DEA DG DNR DRG ECG HIV ID IV NIP OBX PO PRN PSRO QC RX SSN UB UB1 UB2 UB82 UB92 UPIN UR VIP ZIP".split())
# A code that stands for many, such as "ISOnnnn" or "E1 ... E9": its table cannot be checked.
PATTERN = re.compile(r"\.\.\.|…|<\w|nnn|xxx|zzz|Znn|\*|_ |\?\?|,|^(?:No |Any|For )|\(")
# Entries of a table that mean no value.
ABSENT = {"", "Not present", "not present", "<null>"}
# Open by their nature: identifier types, media types, coding systems, countries, and OBX-2, which names data types.
OPEN_TABLES = {125, 203, 291, 396, 399}
# Misspelled in both sources, or in capitals for emphasis.
SPELLING = {
    "segment ODS": "Dietary Orders, Supplements, and Preferences",
    "segment OM1": "General - Fields that Apply to Most Observations",
    "segment OM4": "Observations that Require Specimens",
    "segment OM6": "Observations that Are Calculated from Other Observations",
    "segment PD1": "Patient Additional Demographic",
    "segment PV2": "Patient Visit - Additional Information",
    "segment RQ1": "Requisition Detail-1",
    "type TX_CHALLENGE.1": "Time Delay Post Challenge",  # as its table 0256
    "type TX_CHALLENGE.2": "Nature of Challenge",  # as its table 0257
    "type XTN.1": "Telephone Number",  # the pattern of its value until 2.3.1
}
# Conditional in the text of every version, but required in the schemas of some.
CONDITIONAL = {"segment OBX.2", "segment OBX.4"}
# Wrong in all three sources (HL7 2.3 §3.3.3 and §3.3.9).
CORRECTIONS = {
    ("2.3", "segment MRG.7"): {"type": "XPN"},
    ("2.3", "segment PV1.7"): {"max": 0},
    ("2.3", "segment PV1.8"): {"max": 0},
    ("2.3", "segment PV1.15"): {"max": 0},
    ("2.3", "segment PV1.17"): {"max": 0},
}
# The schemas of these versions mark no component as required, and neither do hl7types and hl7apy. The text does (HL7
# 2.5.1 §2.A), and hl7-dictionary has all but two of them.
WITHOUT_REQUIRED = {"2.5", "2.5.1"}
REQUIRED = {("MSG", 2), ("MSG", 3)}
# Responses of 2.3 that hl7types and hl7apy lack: with the structure of another one, or None for that of
# hl7-dictionary.
RESPONSES = {
    "ADR_A19": None,
    "MFK_M03": None,
    "ORF_R02": "ORF_R04",
    "RPI_I04": "RPI_I01",
    "RPR_I03": None,
    **{f"MFK_M{event}": "MFK_M02" for event in ("04", "05", "07")},
    **{f"RPA_I{event}": "RPA_I08" for event in ("09", "10", "11")},
    **{f"RRI_I{event}": "RRI_I12" for event in ("13", "14", "15")},
    **{f"SRR_S{event:02}": "SRR_S01" for event in range(2, 12)},
}
# hl7apy 1.3.5 lost the choices of 2.1, and the brackets around the last part of an order in 2.2 (HL7 2.1 and 2.2 §4.2).
STRUCTURES = {
    ("2.1", "ORM_O01"): "MSH NTE* PATIENT(PID NTE* PV1?)? "
    "ORDER(ORC ORDER_DETAIL(<OBR|ORO|RX1> NTE* OBSERVATION(OBX? NTE*)*)? BLG?)+",
    ("2.1", "ORR_O02"): "MSH MSA NTE* PATIENT(PID? NTE* ORDER(ORC ORDER_DETAIL(<OBR|ORO|RX1>)? NTE*)+)?",
    ("2.2", "ORM_O01"): "MSH NTE* PATIENT(PID NTE* PV1?)? "
    "ORDER(ORC ORDER_DETAIL(<OBR|RQD|RQ1|RXO|ODS|ODT> NTE* OBSERVATION(OBX? NTE*)*)? BLG?)+",
}


def field_lines(text):
    """The documentation of a class of hl7types: its sentence, and its numbered parts."""
    sentence, *lines = text.split('"""')[3].splitlines()
    parts = {}
    for line in lines:
        if match := FIELD.match(line):
            parts[int(match["number"])] = {
                "name": match["name"],
                "type": match["type"],
                "required": match["usage"] == "R" or match["component"] == "req",
                "max": 0 if match["repeats"] else 1,
                "table": match["table"],
            }
        elif re.match(r"^ +\w+\.\d", line):
            raise ValueError(line)
    return re.sub(r" \(S[^)]*\)\.?$", "", sentence).rstrip("."), parts


def of_hl7types(unpacked, version):
    found = {"segments": {}, "datatypes": {}, "names": {}, "events": {}}
    for kind in ("segments", "datatypes", "messages"):
        for path in sorted((unpacked / "hl7types/hl7" / f"v{version.replace('.', '_')}" / kind).glob("[A-Z]*.py")):
            text = path.read_text()
            if kind == "messages":
                base = re.search(r"^class \w+\((\w+)\):", text, re.M).group(1)
                if base != "HL7Model":
                    found["events"][path.stem] = base
            else:
                found["names"][path.stem], found[kind][path.stem] = field_lines(text)
    return found


def of_hl7apy(version):
    modules = f"hl7apy.v{APY_VERSION.get(version, version).replace('.', '_')}."

    def load(module, name, otherwise=None):
        try:
            return getattr(importlib.import_module(modules + module), name)
        except ImportError:
            return otherwise

    def parts(children):
        # 2.1 has ORO, and 2.1 to 2.2 the data types, without the kind of their children.
        if children and children[0] == "sequence":
            children = children[1] if len(children) > 1 else ()  # QRD and others of 2.7: withdrawn, and empty there
        found = {}
        for name, description, (least, most), *_ in children:
            data_type, text, table = description[2], description[3], description[4]
            found[int(name.rsplit("_", 1)[1])] = {
                "name": text,
                "type": data_type,
                "required": least > 0,
                "max": max(most, 0),
                "table": table and table[3:],
                "gone": most == 0,
            }
        return found

    segments = load("segments", "SEGMENTS")
    return {
        "segments": {name: parts(it) for name, it in segments.items() if name != "ANYHL7SEGMENT"},
        "datatypes": {name: parts(it) for name, it in load("datatypes", "DATATYPES_STRUCTS").items()},
        "tables": {int(name[3:]): it for name, it in load("tables", "TABLES", {}).items()},
        "messages": load("messages", "MESSAGES"),
        "groups": load("groups", "GROUPS"),
    }


def of_third(archive, version):
    """hl7-dictionary: segments, data types and messages. Its files are JSON but for `var x = ` and `module.exports = x;`."""

    def read(kind):
        try:
            text = archive.extractfile(f"package/lib/{version}/{kind}.js").read().decode()
        except KeyError:
            return {}  # none for 2.8 and later
        return json.loads(re.search(r"\{.*\}", text, re.S).group())

    def parts(listed):
        return {
            number: {"type": it["datatype"], "required": it["opt"] == 2, "gone": it["opt"] == 4, "max": it["rep"], "name": it["desc"]}
            for number, it in enumerate(listed, 1)
        }

    return {
        "segments": {name: parts(it["fields"]) for name, it in read("segments").items()},
        "datatypes": {name: parts(it["subfields"]) for name, it in read("fields").items() if len(it["subfields"]) > 0},
        "messages": {name: it["segments"]["segments"] for name, it in read("messages").items() if "segments" in it},
    }


def key(name):
    return re.sub(r"[^A-Z0-9]+", "_", name.upper().replace("#", " NUMBER ")).strip("_")


def plain(name):
    """The name in ASCII, without characters that JSON escapes."""
    name = name.translate(str.maketrans("\u2018\u2019\u201c\u201d\"\u2013\u2014\u00a0", "'''''-- "))
    name = re.sub(r" _+ ", " - ", name).replace("Date / Time", "Date/Time").replace("DATE / TIME", "DATE/TIME")
    name = name.replace("Familiy", "Family").replace("FAMILIY", "FAMILY")
    return re.sub(r"\s+", " ", name.encode("ascii", "ignore").decode()).strip(" -_.*+")  # stars and pluses are footnotes


def title(name):
    """The name in title case, as HL7 writes it from 2.4 on. Capitals within a word stay, unless the whole name is in capitals."""
    if not re.search("[a-z]", name):
        name = re.sub(r"[A-Z0-9']+", lambda word: word.group() if word.group() in CAPITALS else word.group().lower(), name)

    def word(match):
        text = match.group()
        if text.lower() in SMALL and match.start() > 0 and text[1:].islower():
            return text.lower()
        if text == "e.g.":
            return text
        return "ID" if text.lower() == "id" else text[0].upper() + text[1:] if text.islower() and text not in SMALL else text

    return re.sub(r"e\.g\.|[A-Za-z][A-Za-z']*", word, name)


class Names:
    """One spelling for each name: that of the newest version, among those with the most capitals."""

    def __init__(self, sources):
        self.spelling = {}
        for version in reversed(VERSIONS):
            for kind in ("segments", "datatypes"):
                for parts in sources[version][kind].values():
                    for part in parts.values():
                        self.add(plain(part["name"]))

    def add(self, name):
        def lower_words(text):
            return sum(word[0].islower() and word not in SMALL for word in re.findall(r"[A-Za-z']+", text))

        known = self.spelling.get(key(name))
        if re.search("[a-z]", name) and (known is None or lower_words(name) < lower_words(known)):
            self.spelling[key(name)] = name

    def of(self, name):
        name = plain(name.replace("_", " ") if name.isupper() and " " not in name else name)
        return title(self.spelling.get(key(name), name))


def merge(types, apy, third, before, names, required=()):
    """The parts of one segment or data type, position by position, without gaps."""
    merged = []
    end = max([*types, *apy], default=0)
    # Withdrawn at the end: the two sources leave such fields out, but senders fill them.
    while end and before[end : end + 1] and (third.get(end + 1, {}).get("gone") or before[end]["usage"] == "W"):
        end += 1
    for number in range(1, end + 1):
        one, other = (None if it and it["type"] == "WD" else it for it in (types.get(number), apy.get(number)))
        earlier = before[number - 1] if number <= len(before) else None
        if one and other and not other["gone"]:
            data_type, most = other["type"] or one["type"], max(one["max"], other["max"])
            repeats = 0 if 0 in (one["max"], other["max"]) and other["max"] < 2 else most
            usage = "R" if (one["required"] and other["required"]) or number in required else "O"
            name, table = names.of(one["name"]), other["table"] or one["table"]
        elif one and not other:
            data_type, repeats, name, table = one["type"], one["max"], names.of(one["name"]), one["table"]
            usage = "R" if one["required"] else "O"
        elif other and not types:
            name, data_type, repeats, table = names.of(other["name"]), other["type"], other["max"], other["table"]
            usage = "O"  # of 2.1, where hl7apy requires the second component of every time stamp
        elif other and not other["gone"] and other["type"]:
            # hl7types leaves a withdrawn part out; hl7apy gives some of them the name of the next part.
            same = earlier and earlier["type"] == other["type"]
            name = earlier["name"] if same else names.of(other["name"])
            data_type, repeats, table = other["type"], 0, other["table"]
            usage = "O" if not earlier and other["required"] is False and number > len(before) and before else "W"
        elif earlier:  # Withdrawn, and still sent.
            name, data_type, repeats, table, usage = earlier["name"], earlier["type"], 0, earlier["table"], "W"
        else:
            name, data_type, repeats, table, usage = "Reserved", "-", 0, None, "W"
        data_type = "varies" if data_type in ("*", "var", "Varies") else data_type
        table = int(table) if str(table).isdigit() and 0 < int(table) < 9999 else None
        merged.append({"usage": usage, "max": repeats, "type": data_type, "table": table, "name": name})
    return merged


def written(parts):
    def repetition(most):
        return "" if most == 1 else "*" if most == 0 else f"*{most}"

    def table(number):
        return f":{number:04}" if number else ""

    return [f"{it['usage']}{repetition(it['max'])} {it['type']}{table(it['table'])} {it['name']}" for it in parts]


def structure(apy, name, children, choice):
    """HL7's abstract message syntax with the marks of regular expressions: `PID PD1? NTE* GROUP(...)+ <OBR|RXO>`."""
    texts = []
    for child, _, (least, most), kind in children:
        if kind == "GRP":
            how, members = apy["groups"][child][:2]
            text = structure(apy, name, members, how == "choice")
            if not members:  # QBP of QBP_Q13 in 2.4
                continue
            text = text if how == "choice" else f"{child.removeprefix(name + '_')}({text})"
        else:
            text = "ANY" if child == "ANYHL7SEGMENT" else child
        texts.append(text + {(1, 1): "", (0, 1): "?", (0, -1): "*", (1, -1): "+"}.get((least, most), "*" if least == 0 else "+"))
    return f"<{'|'.join(texts)}>" if choice else " ".join(texts)


def tables_of(apy, used):
    found = {}
    for number, (name, codes) in apy["tables"].items():
        codes = sorted({plain(code) for code in codes} - ABSENT)
        # hl7apy cut the codes of 2.3.1 after 12 characters.
        cut = any(len(code) == 12 for code in codes) and max(map(len, codes)) == 12
        if number in used and codes and number not in OPEN_TABLES and not cut and not any(PATTERN.search(code) for code in codes):
            found[f"table {number:04}"] = [title(plain(name)), "|".join(codes)]
    return found


def third_structure(children, known):
    """A message of hl7-dictionary in the notation of `structure`. `None` if it contains an unknown segment."""
    texts = []
    for child in children:
        if options := child.get("compounds"):
            inner = [third_structure([it], known) for it in options]
            text = None if None in inner else f"<{'|'.join(inner)}>"
        elif inside := child.get("children"):
            inner = third_structure(inside, known)
            text = inner and f"{re.sub('[^A-Z0-9_]', '_', child['name'].upper())}({inner})"
        else:
            text = child["name"] if child["name"] in known else None
        if not text:
            return None
        texts.append(text + {(1, 1): "", (0, 1): "?", (0, 0): "*", (1, 0): "+"}.get((child["min"], child["max"]), "*"))
    return " ".join(texts) or None


def of_responses(version, third, structures, segments):
    """Messages that only hl7-dictionary has, with the structure of another event; in 2.3 those of RESPONSES."""
    found = {}
    for name, children in sorted(third["messages"].items()):
        if name in structures or not re.fullmatch(r"[A-Z]{3}_[A-Y][A-Z0-9]{2}", name):
            continue
        same = [it for it in structures if it[:4] == name[:4] and third["messages"].get(it) == children]
        base = RESPONSES.get(name) if version == "2.3" else min(same, default=None)
        if base:
            found[f"event {name}"] = [structures[base] or base]
        elif version == "2.3" and name in RESPONSES:
            found[f"structure {name}"] = [third_structure(children, segments)]
    return found


def version_entries(version, types, third, known, before, names):
    apy = of_hl7apy(version)
    # Senders still use data types that a newer version has dropped: CE in an OBX of 2.7. They keep their last
    # definition.
    entries = {name: text for name, text in known.items() if name.startswith(("type", "segment"))}
    merged = dict(before)
    for kind, word in (("datatypes", "type"), ("segments", "segment")):
        for name in sorted({*types[kind], *apy[kind]}):
            if not re.fullmatch(r"[A-Z][A-Z0-9]{2}" if word == "segment" else r"[A-Z][A-Z0-9_]*", name) or name.startswith("Z"):
                continue
            witness = third[kind].get(name, {})
            earlier = before.get((word, name), [])
            lost = word == "type" and version in WITHOUT_REQUIRED
            required = {number for number, it in witness.items() if it["required"] or (name, number) in REQUIRED} if lost else ()
            parts = merge(types[kind].get(name, {}), apy[kind].get(name, {}), witness, earlier, names, required)
            if not parts or (word == "segment" and name == "ED"):
                continue
            merged[word, name] = parts
            heading = re.sub(r"(?i) segment$", "", plain(types["names"].get(name, name))) if word == "segment" else ""
            heading = SPELLING.get(f"{word} {name}", title(heading))
            for number, part in enumerate(parts, 1):
                part["name"] = SPELLING.get(f"{word} {name}.{number}", part["name"])
                part["usage"] = "O" if f"{word} {name}.{number}" in CONDITIONAL else part["usage"]
                part.update(CORRECTIONS.get((version, f"{word} {name}.{number}"), {}))
            entries[f"{word} {name}"] = [heading, *written(parts)]
    used = {it["table"] for parts in merged.values() for it in parts if it["type"] in ("ID", "IS")}
    entries |= tables_of(apy, used)
    for name, (how, children) in sorted((name, it[:2]) for name, it in apy["messages"].items()):
        entries[f"structure {name}"] = [STRUCTURES.get((version, name)) or structure(apy, name, children, how == "choice")]
    for event, base in types["events"].items():
        if base in apy["messages"] and event not in apy["messages"]:
            entries[f"event {event}"] = [base]
    structures = {it.split(" ")[1]: "" for it in entries if it.startswith("structure ")}
    structures |= {it.split(" ")[1]: text[0] for it, text in entries.items() if it.startswith("event ")}
    entries |= of_responses(version, third, structures, {name for word, name in merged if word == "segment"})
    return entries, merged


def differences(version, third, merged):
    """The fields and components that differ from hl7-dictionary. Parts that it lacks, and names, are not compared."""
    for kind, word in (("datatypes", "type"), ("segments", "segment")):
        for name, witness in sorted(third[kind].items()):
            parts = merged.get((word, name), [])
            for number, theirs in witness.items():
                ours = parts[number - 1] if number <= len(parts) else None
                place = f"{version} {name}{'-' if word == 'segment' else '.'}{number}"
                if ours is None:
                    if not theirs["gone"]:
                        yield f"{place} is missing; {theirs['type']} {plain(theirs['name'])}"
                    continue
                if ours["usage"] == "W":
                    continue
                said = []
                if ours["type"] not in (theirs["type"], "varies", "-") and theirs["type"] not in ("varies", "-", "Varies", "*", "var"):
                    said.append(f"{ours['type']} or {theirs['type']}")
                if (ours["usage"] == "R") != theirs["required"]:
                    said.append("required or optional" if ours["usage"] == "R" else "optional or required")
                if word == "segment" and (ours["max"] == 1) != (theirs["max"] == 1):
                    said.append("once or repeating" if ours["max"] == 1 else "repeating or once")
                if said:
                    yield f"{place} {', '.join(said)}"


def main(wheels, out):
    with tempfile.TemporaryDirectory() as unpacked:
        for path in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(unpacked)
                [licence] = [name for name in wheel.namelist() if name.endswith("LICENSE")]
                (out / f"LICENSE.{path.name.split('-')[0]}").write_bytes(wheel.read(licence))
        sys.path.insert(0, unpacked)
        name, digest = THIRD
        if hashlib.sha256((wheels / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name} is not the one that was reviewed")
        with tarfile.open(wheels / name) as archive:
            write(Path(unpacked), archive, out)


def write(unpacked, archive, out):
    sources = {version: of_hl7types(unpacked, version) for version in VERSIONS}
    names = Names(sources)
    known, before, differs = {}, {}, []
    for version in VERSIONS:
        third = of_third(archive, version)
        entries, before = version_entries(version, sources[version], third, known, before, names)
        differs += differences(version, third, before)
        lines = [f"drop {name}" for name in known if name not in entries]
        for name, text in entries.items():
            if known.get(name) != text:
                lines += [" ".join([name, *text[:1]]).rstrip(), *text[1:]]
        (out / f"{version}.txt").write_text("\n".join(lines) + "\n", "ascii")
        known = entries
    heading = "# Where the dictionary is not what hl7-dictionary 1.0.1 says: what we have, `or` what it has. Written by generate.py.\n"
    (out / "differences.txt").write_text(heading + "\n".join(differs) + "\n", "ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
