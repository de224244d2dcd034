"""The newest messages of one's own institute, read from the catalog without the API.

Arguments: identity pool id, user pool provider, table, institute. The ID token comes on standard input.
"""

import sys

import boto3
from boto3.dynamodb.conditions import Key

identity_pool, provider, table, institute = sys.argv[1:]
logins = {provider: sys.stdin.read().strip()}

# The ID token becomes AWS credentials of this very user, for an hour.
cognito = boto3.client("cognito-identity")
identity = cognito.get_id(IdentityPoolId=identity_pool, Logins=logins)["IdentityId"]
given = cognito.get_credentials_for_identity(IdentityId=identity, Logins=logins)["Credentials"]
user = boto3.Session(
    aws_access_key_id=given["AccessKeyId"],
    aws_secret_access_key=given["SecretKey"],
    aws_session_token=given["SessionToken"],
)

# IAM lets the user read the four partitions of their own institute. Another one is AccessDeniedException.
catalog = user.resource("dynamodb").Table(table)
found = []
for n in range(4):
    page = catalog.query(
        IndexName="by-arrival",
        KeyConditionExpression=Key("arrival_shard").eq(f"{institute}#{n}"),
        ScanIndexForward=False,
        Limit=25,
    )
    found += page["Items"]
found.sort(key=lambda item: item["received_at"], reverse=True)
for item in found[:25]:
    print(item["received_at"], item["message_id"], item.get("summary", {}).get("messageType", "-"), item["listed"])
