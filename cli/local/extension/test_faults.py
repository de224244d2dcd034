import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from .test_support import BUCKET, REGION, TABLE, administer, allow, failure, item


def faults(world, method, session=None, **fault):
    return administer(world, method, "/_sluice/faults", fault, session)


@pytest.fixture
def fault(world):
    def set_fault(**fault):
        assert faults(world, "POST", **{"id": "one", **fault})[0] == 200
    yield set_fault
    assert faults(world, "DELETE")[0] == 200


def put(world, key, **options):
    """One request, without a retry."""
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **options)
    s3 = world.root.client("s3", endpoint_url=world.endpoint, config=config)
    return s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")["ResponseMetadata"]["HTTPStatusCode"]


def test_calls_that_a_fault_is_for_fail_and_no_others(world, fault):
    fault(action="s3:PutObject", kind="throttle", marker="faulty", calls=2)
    assert put(world, "good") == 200
    for _ in range(2):
        assert failure(put, world, "faulty")[0] == "SlowDown"
    assert put(world, "faulty") == 200
    assert faults(world, "GET")[1][0]["hits"] == 2
    assert put(world, "faulty") == 200


def test_a_fault_without_a_number_of_calls_stays_until_it_is_cleared(world, fault):
    fault(action="dynamodb:PutItem", kind="500", marker="faulty")
    dynamodb = world.client("dynamodb")
    for _ in range(3):
        with pytest.raises(ClientError) as error:
            dynamodb.put_item(TableName=TABLE, Item=item("a", id="faulty"))
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert faults(world, "DELETE", id="one") == (200, [])
    dynamodb.put_item(TableName=TABLE, Item=item("a", id="faulty"))


def test_a_fault_may_be_for_all_actions_of_a_service(world, fault):
    fault(action="dynamodb:*", kind="503")
    dynamodb = world.client("dynamodb")
    for call, arguments in ((dynamodb.put_item, {"Item": item("a", id="any")}), (dynamodb.scan, {})):
        with pytest.raises(ClientError) as error:
            call(TableName=TABLE, **arguments)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert put(world, "good") == 200


@pytest.mark.parametrize("kind, took_effect", [("cut-before", False), ("cut-after", True)])
def test_a_connection_is_cut_before_or_after_the_effect(world, fault, kind, took_effect):
    fault(action="s3:PutObject", kind=kind, marker=kind, calls=1)
    with pytest.raises(ConnectionClosedError):
        put(world, kind)
    found = world.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=kind)
    assert found["KeyCount"] == (1 if took_effect else 0)
    assert put(world, kind) == 200


def test_a_call_hangs_or_is_late(world, fault):
    fault(action="s3:PutObject", kind="hang", marker="hanging", calls=1, seconds=30)
    with pytest.raises(ReadTimeoutError):
        put(world, "hanging", read_timeout=1)
    fault(id="two", action="s3:PutObject", kind="delay", marker="late", seconds=0.2)
    began = time.monotonic()
    assert put(world, "late") == 200
    assert time.monotonic() - began >= 0.2


def test_a_fault_may_be_for_one_caller(world, fault):
    s3 = world.s3("alice", allow("s3:PutObject", "*"))
    fault(action="s3:PutObject", kind="denied", principal="assumed-role/", marker="shared")
    assert failure(s3.put_object, Bucket=BUCKET, Key="shared", Body=b"x")[0] == "AccessDenied"
    assert put(world, "shared") == 200


def test_the_claims_of_a_token_are_searched(world, fault):
    fault(action="cognito-identity:GetId", kind="expired", marker="custom:write")
    identity = world.client("cognito-identity")
    code, message = failure(identity.get_id, IdentityPoolId=world.identity_pool,
                            Logins={world.provider: world.sign_in("bob")["IdToken"]})
    assert code == "NotAuthorizedException" and "expired" in message


def test_only_the_root_makes_calls_fail(world):
    alice = world.session("alice", allow("s3:*", "*"), allow("iam:*", "*"))
    stranger = boto3.Session("AKIAIOSFODNN7EXAMPLE", "secret", region_name=REGION)
    for name, session in (("alice", alice), ("stranger", stranger)):
        for method in ("GET", "POST", "DELETE"):
            assert faults(world, method, session, id="x", action="s3:PutObject", kind="500")[0] == 403, (name, method)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{world.endpoint}/_sluice/faults")
    assert faults(world, "GET") == (200, [])
