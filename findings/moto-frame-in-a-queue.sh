#!/usr/bin/env bash
# moto 5.2.5, SQS SendMessage: an MLLP frame is a valid body, and so is every other control character.
#
# On AWS a body may have #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD and #x10000 to #x10FFFF, and anything else is
# answered with InvalidMessageContents (API reference of SendMessage). MLLP's 0B and 1C are outside of that, and so are
# the frame characters of ASTM and the ESC of MSH-18 `ISO IR87`. A bridge that queues the text as it comes passes all
# its tests here, and on AWS it cannot send any frame, or none of the messages with Japanese names. Base64 passes on
# both.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[sqs]==5.2.5' boto3==1.44.8
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
venv/bin/python - <<'PYTHON'
import importlib.metadata, sys
import boto3
from botocore.exceptions import ClientError
from moto import mock_aws

MESSAGE = "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102||ADT^A01|1|P|2.5.1\rPID|1||4711||DOE^JANE\r"
NAME = "山田^太郎".encode("iso2022_jp").decode("ascii")
CASES = [
    ("a message", MESSAGE, "accepted"),
    ("its MLLP frame", f"\x0b{MESSAGE}\x1c\r", "refused"),
    ("a name in ISO IR87", MESSAGE.replace("|2.5.1", "|2.5.1||||||~ISO IR87").replace("DOE^JANE", NAME), "refused"),
]


def send(client, queue, body):
    try:
        client.send_message(QueueUrl=queue, MessageBody=body)
    except ClientError as error:
        return f"refused ({error.response['Error']['Code']})"
    received = client.receive_message(QueueUrl=queue, WaitTimeSeconds=0)["Messages"][0]
    client.delete_message(QueueUrl=queue, ReceiptHandle=received["ReceiptHandle"])
    return "accepted and received" if received["Body"] == body else "accepted and altered"


with mock_aws():
    client = boto3.client("sqs")
    queue = client.create_queue(QueueName="messages")["QueueUrl"]
    print("moto", importlib.metadata.version("moto"))
    changed = False
    for what, body, aws in CASES:
        seen = send(client, queue, body)
        print(f"{what}: {seen} (AWS: {aws})")
        changed |= seen != "accepted and received"
sys.exit("changed" if changed else 0)
PYTHON
