"""The role that an identity pool gives a user."""

import functools

import boto3
from botocore.exceptions import ClientError

from .test_support import REGION, failure, mapping, name_of, rule, tagged


def role_of(world, user, app, custom=None):
    """The name of the role of a user who signed in through this app client; None if there are no credentials."""
    identity = world.client("cognito-identity")
    logins = {world.provider: world.sign_in(user, app)["IdToken"]}
    identity_id = identity.get_id(IdentityPoolId=world.identity_pool, Logins=logins)["IdentityId"]
    options = {"CustomRoleArn": custom} if custom else {}
    try:
        given = identity.get_credentials_for_identity(IdentityId=identity_id, Logins=logins, **options)["Credentials"]
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NotAuthorizedException"
        return None
    session = boto3.Session(given["AccessKeyId"], given["SecretKey"], given["SessionToken"], region_name=REGION)
    return world.client("sts", session).get_caller_identity()["Arn"].split("/")[1]


def test_a_role_mapping_chooses_the_role(world):
    default, first, second, other = (world.role(tagged("read", "a")) for _ in range(4))

    def map_roles(*rules, **options):
        world.client("cognito-identity").set_identity_pool_roles(
            IdentityPoolId=world.identity_pool, Roles={"authenticated": default},
            RoleMappings={f"{world.provider}:{world.open_app}": mapping(*rules, **options)})

    role = functools.partial(role_of, world, "alice", world.open_app)
    map_roles(rule(first, "aud", "Equals", world.open_app), rule(second, "custom:read", "Contains", "a"))
    assert role() == name_of(first), "the first rule that matches"
    assert role(custom=second) == name_of(second), "another that matches, when it is asked for"
    assert role(custom=other) is None
    assert role(custom=default) is None
    assert role_of(world, "alice", world.closed_app) == name_of(default), "an app client without a mapping"
    assert role_of(world, "alice", world.closed_app, custom=first) is None
    map_roles(rule(first, "aud", "Equals", world.closed_app), rule(second, "custom:read", "Equals", "a"))
    assert role() == name_of(second)
    assert role(custom=first) is None, "a rule that does not match"
    for claim, match, value, expected in (
            ("custom:read", "StartsWith", "a", True), ("custom:read", "StartsWith", "b", False),
            ("custom:read", "Contains", "b", False), ("custom:read", "NotEqual", "b", True),
            ("custom:read", "NotEqual", "a", False), ("custom:none", "NotEqual", "a", False)):
        map_roles(rule(first, claim, match, value))
        assert (role() == name_of(first)) is expected, (claim, match, value)


def test_a_role_mapping_without_a_match(world):
    default = world.role()
    for otherwise, expected in (("Deny", None), ("AuthenticatedRole", name_of(default))):
        world.client("cognito-identity").set_identity_pool_roles(
            IdentityPoolId=world.identity_pool, Roles={"authenticated": default}, RoleMappings={
                f"{world.provider}:{world.open_app}": mapping(rule(world.role(), value="none"), otherwise=otherwise)})
        assert role_of(world, "alice", world.open_app) == expected


def test_a_role_mapping_is_of_a_provider_of_the_pool(world):
    role = world.role()

    def set_roles(name, **more):
        world.client("cognito-identity").set_identity_pool_roles(
            IdentityPoolId=world.identity_pool, Roles={"authenticated": role},
            RoleMappings={name: {**mapping(rule(role)), **more}})

    set_roles(f"{world.provider}:{world.open_app}")
    for name in (world.provider, f"https://{world.provider}:{world.open_app}", "idp.example"):
        assert failure(set_roles, name)[0] == "InvalidParameterException", name
    assert failure(set_roles, f"{world.provider}:{world.open_app}", Type="Token")[0] == "InvalidParameterException"
