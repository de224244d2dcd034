"""The account's root has a secret, and so has each function."""

import hashlib
import http.client
import json
import os
import subprocess
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError

from .test_functions import environment_of
from .test_support import BUCKET, EXTENSION, FOLDER, REGION, ROOT


def caller(world, *key):
    return world.client("sts", boto3.Session(*key, region_name=REGION)).get_caller_identity()["Arn"]


def test_the_root_has_the_key_of_this_start(world):
    assert caller(world, *ROOT) == "arn:aws:iam::000000000000:root"
    world.client("s3").head_bucket(Bucket=BUCKET)


@pytest.mark.parametrize("key", [("test", "test"), ("test", ROOT[1]), (ROOT[0], "test"), ("000000000000", "test"),
                                 ("000000000000", ROOT[1]), ("123456789012", ROOT[1]), (ROOT[0], ROOT[1], "token")])
def test_no_other_key_is_the_roots(world, key):
    session = boto3.Session(*key, region_name=REGION)
    for call in (world.client("dynamodb", session).list_tables, world.client("iam", session).list_roles,
                 world.client("s3", session).list_buckets, world.client("sqs", session).list_queues,
                 world.client("cloudformation", session).list_stacks, world.client("lambda", session).list_functions,
                 world.client("cognito-idp", session).admin_get_user):
        with pytest.raises(ClientError) as error:
            call(**({"UserPoolId": world.pool, "Username": "alice"} if call.__name__ == "admin_get_user" else {}))
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 401, 403)
        assert error.value.response["Error"]["Code"] in (
            "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch",
            "InvalidSignatureException", "InvalidToken", "AccessDenied", "ExpiredToken")


def raw(world, path, headers=(), method="GET", body=None):
    request = urllib.request.Request(world.endpoint + path, headers=dict(headers), method=method, data=body)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_request_that_only_names_the_root_is_refused(world):
    world.put("source=a/secret")
    scope = f"{ROOT[0]}/20261128/{REGION}"
    target = {"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0"}
    for authorization in (None, "Bearer x", "", f"AWS4-HMAC-SHA256 Credential={scope}/dynamodb/aws4_request",
                          f"AWS4-HMAC-SHA256 Credential={scope}/dynamodb/aws4_request, SignedHeaders=host, Signature=00",
                          f"AWS {ROOT[0]}:c2lnbmF0dXJl"):
        headers = {**target, **({} if authorization is None else {"Authorization": authorization})}
        status, body = raw(world, "/", headers, "POST", b"{}")
        assert status in (400, 403) and b"TableNames" not in body, (authorization, body)
    for query in (f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}/s3/aws4_request&X-Amz-Signature=00",
                  f"AWSAccessKeyId={ROOT[0]}&Signature=x&Expires=4000000000", f"AWSAccessKeyId={ROOT[0]}", ""):
        status, body = raw(world, f"/{BUCKET}/source=a/secret?{query}")
        assert status in (400, 403) and body != b"x", (query, body)
        status, body = raw(world, f"/{BUCKET}?list-type=2&{query}")
        assert status in (400, 403) and b"source=a" not in body, (query, body)
        status, body = raw(world, f"/?Action=ListUsers&Version=2010-05-08&{query}")
        assert status in (400, 403) and b"ListUsersResult" not in body, (query, body)
    # The same object by a URL that the root did sign.
    url = world.client("s3").generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "source=a/secret"})
    assert raw(world, url.removeprefix(world.endpoint)) == (200, b"x")


def test_what_aws_serves_unsigned_is_served(world):
    assert world.sign_in("alice")["IdToken"]
    identity = world.client("cognito-identity")
    assert identity.get_id(IdentityPoolId=world.identity_pool,
                           Logins={world.provider: world.sign_in("alice")["IdToken"]})["IdentityId"]
    assert json.loads(raw(world, f"/{world.pool}/.well-known/jwks.json")[1])["keys"]


def test_it_does_not_start_without_the_file():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCAL_")}
    run = subprocess.run(EXTENSION, env={**environment, "PYTHONPATH": str(FOLDER), "GATEWAY_PORT": "1",
                                         "LOCAL_CREDENTIALS": "/nonexistent"}, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "names no file with the root's key" in run.stderr


def test_a_functions_credentials_work_and_cannot_be_derived(world):
    environment, arn, role = environment_of(world)
    given = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_SESSION_TOKEN"]
    assert role.rpartition("/")[2] in caller(world, *given)
    digest = hashlib.sha256(f"{arn}:{role}".encode()).hexdigest()
    derived = (f"ASIA{digest[:16].upper()}", *(hashlib.sha256(f"{kind}:{digest}".encode()).hexdigest()
                                                for kind in ("secret", "token")))
    assert given != derived
    with pytest.raises(ClientError, match="token included in the request is invalid"):
        caller(world, *derived)


def test_a_function_is_not_told_the_roots_secret(world):
    environment, _, _ = environment_of(world)
    assert ROOT[1] not in environment.values()


def test_a_runtime_api_answers_its_own_process_only(world):
    environment, arn, _ = environment_of(world)
    host, _, path = environment["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
    assert len(path) == 64

    def asked(before, what, method="GET"):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request(method, before + what, body=b"{}" if method == "POST" else None)
        return connection.getresponse().status

    # With the path, the error for an unknown invocation differs from that for a stranger.
    invented = "/2018-06-01/runtime/invocation/x/response"
    assert asked(f"/{path}", invented, "POST") == 400
    for other in ("", "/" + "0" * 64, f"/{path}x", f"/x/{path}"):
        assert asked(other, invented, "POST") == 403
        assert asked(other, "/2018-06-01/runtime/invocation/next") == 403
        assert asked(other, "/2018-06-01/runtime/init/error", "POST") == 403
    assert "FunctionError" not in world.client("lambda").invoke(FunctionName=arn, Payload=b"{}")
