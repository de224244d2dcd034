"""Principal tags, and the trust policy of a role."""

import pytest
from botocore.exceptions import ClientError

from .test_support import BUCKET, OBJECT, allow, allowed, tagged


@pytest.mark.parametrize("user, name, value, expected", [
    ("alice", "read", "a", True),
    ("alice", "read", "b", False),
    ("reader", "read", "a", True),
    ("reader", "write", "a", False),
    ("reader", "write", "", False),
])
def test_principal_tags_come_from_the_claims(world, user, name, value, expected):
    assert allowed(world.s3(user, tagged(name, value)).list_objects_v2, Bucket=BUCKET) is expected


def test_missing_claim_gives_no_tag(world):
    absent = allow("s3:ListBucket", OBJECT, Null={"aws:PrincipalTag/write": "true"})
    assert allowed(world.s3("reader", absent).list_objects_v2, Bucket=BUCKET)
    assert not allowed(world.s3("alice", absent).list_objects_v2, Bucket=BUCKET)


def test_default_tags(world):
    sub = world.client("cognito-idp").admin_get_user(UserPoolId=world.pool, Username="alice")["UserAttributes"]
    sub = next(attribute["Value"] for attribute in sub if attribute["Name"] == "sub")
    world.map_tags(UseDefaults=True)
    try:
        for name, value in (("username", sub), ("client", world.closed_app)):
            assert allowed(world.s3("alice", tagged(name, value)).list_objects_v2, Bucket=BUCKET)
        assert not allowed(world.s3("alice", tagged("read", "a")).list_objects_v2, Bucket=BUCKET)
    finally:
        world.map_tags(PrincipalTags={"read": "custom:read", "write": "custom:write"})


def test_trust_policy_must_allow_tagging_the_session(world):
    assert world.session("alice", trust=("sts:AssumeRoleWithWebIdentity", "sts:TagSession"))
    for trust in (("sts:AssumeRoleWithWebIdentity",), ("sts:TagSession",)):
        with pytest.raises(ClientError, match="InvalidIdentityPoolConfigurationException"):
            world.session("alice", trust=trust)
