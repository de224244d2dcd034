"""Sends an HL7v2 message over HTTP and prints the code of its acknowledgment.

    python send.py API_URL FILE < ID_TOKEN

python-hl7 reads the message and checks the acknowledgment. HTTP is used as in HAPI's HL7 over HTTP: the message is
the body, and the content type of request and answer is application/hl7-v2.
"""

import sys
import urllib.error
import urllib.request

import hl7


def post(api_url: str, token: str, message: bytes, charset: str) -> tuple[int, str, hl7.Message]:
    request = urllib.request.Request(f"{api_url}/er7", data=message, method="POST")
    request.add_header("Content-Type", f"application/hl7-v2; charset={charset}")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        content_type = answer.headers.get_content_type()
        text = answer.read().decode(answer.headers.get_content_charset("utf-8"))
    return answer.status, content_type, hl7.parse(text)


def main() -> None:
    api_url, path = sys.argv[1:]
    token = sys.stdin.read().strip()
    with open(path, "rb") as file:
        message = file.read()
    status, content_type, ack = post(api_url, token, message, "utf-8")
    sent = hl7.parse(message.decode().replace("\r\n", "\r").replace("\n", "\r"))
    assert content_type == "application/hl7-v2", content_type
    assert ack["MSA.F2"] == sent["MSH.F10"], "MSA-2 is not the message's control id"
    assert ack["MSH.F3"] == sent["MSH.F5"] and ack["MSH.F5"] == sent["MSH.F3"], "sender and receiver are not swapped"
    print(status, ack["MSA.F1"], ack["MSA.F2"])


if __name__ == "__main__":
    main()
