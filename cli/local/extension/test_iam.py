"""Policy variables, and the ARN of a principal."""

import pytest

from .test_support import BUCKET, OBJECT, allow, allowed, deny


def test_variable_in_resource(world):
    s3 = world.s3("alice", allow("s3:GetObject", f"{OBJECT}/source=${{aws:PrincipalTag/read}}/*"))
    world.put("source=a/x")
    world.put("source=b/x")
    assert allowed(s3.get_object, Bucket=BUCKET, Key="source=a/x")
    assert not allowed(s3.get_object, Bucket=BUCKET, Key="source=b/x")


def test_variable_in_not_resource(world):
    s3 = world.s3("alice", allow("s3:GetObject", f"{OBJECT}/*"), {
        "Effect": "Deny", "Action": "s3:GetObject", "NotResource": f"{OBJECT}/source=${{aws:PrincipalTag/read}}/*"})
    world.put("source=a/x")
    world.put("source=b/x")
    assert allowed(s3.get_object, Bucket=BUCKET, Key="source=a/x")
    assert not allowed(s3.get_object, Bucket=BUCKET, Key="source=b/x")


def test_variable_in_condition(world):
    listing = allow("s3:ListBucket", OBJECT, StringLike={"s3:prefix": "source=${aws:PrincipalTag/read}/*"})
    s3 = world.s3("alice", listing)
    assert allowed(s3.list_objects_v2, Bucket=BUCKET, Prefix="source=a/x")
    assert not allowed(s3.list_objects_v2, Bucket=BUCKET, Prefix="source=b/x")


@pytest.mark.parametrize("user, tag", [("reader", "write"), ("blank", "read"), ("blank", "write"), ("alice", "none")])
def test_variable_without_a_value_grants_nothing(world, user, tag):
    s3 = world.s3(user,
                  allow("s3:GetObject", f"{OBJECT}/source=${{aws:PrincipalTag/{tag}}}/*"),
                  allow("s3:ListBucket", OBJECT, StringEquals={"s3:prefix": f"${{aws:PrincipalTag/{tag}}}"}),
                  allow("s3:ListBucketVersions", OBJECT, StringLike={"s3:prefix": f"${{aws:PrincipalTag/{tag}}}*"}))
    for prefix in ("source=", "source=/", "source=a/", f"source=${{aws:PrincipalTag/{tag}}}/"):
        world.put(prefix + "x")
        assert not allowed(s3.get_object, Bucket=BUCKET, Key=prefix + "x")
    for prefix in ("", "a", f"${{aws:PrincipalTag/{tag}}}"):
        assert not allowed(s3.list_objects_v2, Bucket=BUCKET, Prefix=prefix)
        assert not allowed(s3.list_object_versions, Bucket=BUCKET, Prefix=prefix)


def test_negated_operator_matches_a_variable_without_a_value(world):
    world.put("tagged", tags="source=a")
    statements = (allow("s3:GetObject", f"{OBJECT}/*"), deny("s3:GetObject", f"{OBJECT}/*", StringNotEquals={
        "s3:ExistingObjectTag/source": "${aws:PrincipalTag/write}"}))
    assert allowed(world.s3("alice", *statements).get_object, Bucket=BUCKET, Key="tagged")
    assert not allowed(world.s3("bob", *statements).get_object, Bucket=BUCKET, Key="tagged")
    assert not allowed(world.s3("reader", *statements).get_object, Bucket=BUCKET, Key="tagged")


def test_value_is_literal_in_a_resource(world):
    statements = [allow("s3:GetObject", f"{OBJECT}/source=${{aws:PrincipalTag/read}}/*")]
    for source in ("*", "a", "${aws:PrincipalTag/write}"):
        world.put(f"source={source}/x")
    star, nested = world.s3("star", *statements), world.s3("nested", *statements)
    assert allowed(star.get_object, Bucket=BUCKET, Key="source=*/x")
    assert not allowed(star.get_object, Bucket=BUCKET, Key="source=a/x")
    assert allowed(nested.get_object, Bucket=BUCKET, Key="source=${aws:PrincipalTag/write}/x")
    assert not allowed(nested.get_object, Bucket=BUCKET, Key="source=a/x")


@pytest.mark.parametrize("operator", ["StringLike", "StringEquals"])
def test_value_is_literal_in_a_condition(world, operator):
    s3 = world.s3("star", allow("s3:ListBucket", OBJECT, **{operator: {"s3:prefix": "${aws:PrincipalTag/read}"}}))
    assert allowed(s3.list_objects_v2, Bucket=BUCKET, Prefix="*")
    assert not allowed(s3.list_objects_v2, Bucket=BUCKET, Prefix="a")


@pytest.mark.parametrize("character", ["*", "?", "$"])
def test_escapes(world, character):
    s3 = world.s3("alice", allow("s3:GetObject", f"{OBJECT}/e-${{{character}}}-${{{character}}}*"))
    for key in (f"e-{character}-{character}!", "e-a-a!"):
        world.put(key)
    assert allowed(s3.get_object, Bucket=BUCKET, Key=f"e-{character}-{character}!")
    assert not allowed(s3.get_object, Bucket=BUCKET, Key="e-a-a!")


@pytest.mark.parametrize("arn, expected", [("role", True), ("session", False)])
def test_principal_arn_is_the_role(world, arn, expected):
    session = world.session("alice", allow("s3:ListBucket", OBJECT, StringLike={
        "aws:PrincipalArn": {"role": "arn:aws:iam::*:role/role-*", "session": "arn:aws:sts::*"}[arn]}))
    assert allowed(world.client("s3", session).list_objects_v2, Bucket=BUCKET) is expected


def test_default_value(world):
    statements = [allow("s3:ListBucket", OBJECT, StringEquals={"s3:prefix": "${aws:PrincipalTag/write, 'public'}"})]
    reader, alice = world.s3("reader", *statements), world.s3("alice", *statements)
    assert allowed(reader.list_objects_v2, Bucket=BUCKET, Prefix="public")
    assert allowed(alice.list_objects_v2, Bucket=BUCKET, Prefix="a")
    assert not allowed(alice.list_objects_v2, Bucket=BUCKET, Prefix="public")
