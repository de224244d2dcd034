"""What schemathesis cannot know of itself: HL7v2, and a message that there is."""

import os
import zlib

import schemathesis
from hypothesis import strategies as st

SEGMENT = st.text(st.characters(codec="utf-8"), max_size=40)
MESSAGES = st.builds(
    lambda header, rest: "\r".join([f"MSH|^~\\&|A|B|C|D|20260102030405||{header}|1|P|2.5.1", *rest, ""]).encode(),
    st.sampled_from(["ADT^A01^ADT_A01", "ORU^R01", "ACK", "", "QRY^A19"]),
    st.lists(st.builds("{}|{}".format, st.sampled_from(["PID", "OBX", "MSH", "BTS", "ZZZ"]), SEGMENT), max_size=3),
)

HL7 = ("application/hl7-v2", "x-application/hl7-v2+er7")
for media_type in HL7:
    schemathesis.openapi.media_type(media_type, MESSAGES | st.binary(max_size=200))


@schemathesis.deserializer(*HL7, "application/octet-stream")
def received(context, response):
    return response.content.decode(errors="replace")


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Now and then the message and the institute that there are."""
    if path_parameters and zlib.crc32(str(path_parameters).encode()) % 2:
        known = {"messageId": os.environ["SLUICE_MESSAGE_ID"], "source": os.environ["SLUICE_SOURCE"]}
        return {name: known.get(name, value) for name, value in path_parameters.items()}
    return path_parameters
