#!/usr/bin/env bash
# moto 5.2.5, DynamoDB TransactWriteItems: a ClientRequestToken has no effect, so a repeated write counts twice.
#
# On AWS the token makes the call idempotent for ten minutes: the same request with the same token has the effect of
# one, and another request with it gets IdempotentParameterMismatchException (API reference of TransactWriteItems).
# Here the token is not looked at. A queue delivers a message twice, and the program writes with the message's id as
# the token: on AWS the counter is 1, and in the test 2. Programmers who believe the test build a second protection.
# A token that is too coarse, on the other hand (one for different writes), passes the test and fails on AWS.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[dynamodb]==5.2.5' boto3==1.44.8
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
venv/bin/python - <<'PYTHON'
import importlib.metadata, sys
import boto3
from moto import mock_aws

KEY = {"id": {"S": "west"}}


def count(client, token, amount):
    update = {"TableName": "messages", "Key": KEY, "UpdateExpression": "ADD received :n"}
    update["ExpressionAttributeValues"] = {":n": {"N": amount}}
    try:
        client.transact_write_items(ClientRequestToken=token, TransactItems=[{"Update": update}])
        answer = "accepted"
    except client.exceptions.IdempotentParameterMismatchException:
        answer = "refused"
    return answer, client.get_item(TableName="messages", Key=KEY)["Item"]["received"]["N"]


with mock_aws():
    client = boto3.client("dynamodb")
    attribute = {"AttributeName": "id"}
    client.create_table(TableName="messages", BillingMode="PAY_PER_REQUEST", KeySchema=[attribute | {"KeyType": "HASH"}],
                        AttributeDefinitions=[attribute | {"AttributeType": "S"}])
    print("moto", importlib.metadata.version("moto"))
    changed = False
    for what, amount, aws, expected in [
        ("message-1, the first time", "1", ("accepted", "1"), ("accepted", "1")),
        ("message-1, the same again", "1", ("accepted", "1"), ("accepted", "2")),
        ("message-1, another amount", "5", ("refused", "1"), ("accepted", "7")),
    ]:
        seen = count(client, "message-1", amount)
        print(f"{what}: {seen[0]}, the counter is {seen[1]} (AWS: {aws[0]}, {aws[1]})")
        changed |= seen != expected
sys.exit("changed" if changed else 0)
PYTHON
