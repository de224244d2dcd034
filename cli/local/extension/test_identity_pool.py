"""The tokens that an identity pool accepts and gives."""

import functools

import pytest
from botocore.exceptions import ClientError

from .test_support import PASSWORD, allowed


def test_no_identity_without_a_login(world):
    get_id = functools.partial(allowed, world.client("cognito-identity").get_id, IdentityPoolId=world.identity_pool)
    assert get_id(Logins={world.provider: world.sign_in("alice")["IdToken"]})
    assert not get_id()


@pytest.mark.parametrize("end", ["admin_user_global_sign_out", "admin_disable_user", "admin_delete_user"])
def test_server_side_token_check(world, end):
    idp, identity = world.client("cognito-idp"), world.client("cognito-identity")
    name = f"leaver-{next(world.numbers)}"
    idp.admin_create_user(UserPoolId=world.pool, Username=name)
    idp.admin_set_user_password(UserPoolId=world.pool, Username=name, Password=PASSWORD, Permanent=True)
    pool = identity.create_identity_pool(
        IdentityPoolName=name, AllowUnauthenticatedIdentities=False, CognitoIdentityProviders=[
            {"ProviderName": world.provider, "ClientId": app, "ServerSideTokenCheck": check}
            for app, check in ((world.closed_app, True), (world.open_app, False))])["IdentityPoolId"]
    checked, unchecked = ({world.provider: world.sign_in(name, app)["IdToken"]} for app in (world.closed_app, world.open_app))
    before = identity.get_id(IdentityPoolId=pool, Logins=checked)["IdentityId"]
    assert allowed(identity.get_credentials_for_identity, IdentityId=before, Logins=checked)
    getattr(idp, end)(UserPoolId=world.pool, Username=name)
    assert not allowed(identity.get_id, IdentityPoolId=pool, Logins=checked)
    assert not allowed(identity.get_credentials_for_identity, IdentityId=before, Logins=checked)
    assert allowed(identity.get_id, IdentityPoolId=pool, Logins=unchecked)


def test_open_id_token_is_of_the_classic_flow(world):
    identity, logins = world.client("cognito-identity"), {world.provider: world.sign_in("alice")["IdToken"]}
    pool = {"IdentityPoolId": world.identity_pool}
    name = identity.get_id(**pool, Logins=logins)["IdentityId"]
    with pytest.raises(ClientError, match="Basic .classic. flow is not enabled"):
        identity.get_open_id_token(IdentityId=name, Logins=logins)
    before = {key: value for key, value in identity.describe_identity_pool(**pool).items()
              if value and key != "ResponseMetadata"} | {"AllowUnauthenticatedIdentities": False}
    identity.update_identity_pool(**{**before, "AllowClassicFlow": True})
    try:
        token = identity.get_open_id_token(IdentityId=name, Logins=logins)["Token"]
    finally:
        identity.update_identity_pool(**{**before, "AllowClassicFlow": False})
    assume = functools.partial(world.client("sts").assume_role_with_web_identity, RoleSessionName="session",
                               RoleArn=world.role(), DurationSeconds=900)
    assert assume(WebIdentityToken=token)["Credentials"]
    head, claims, signature = token.split(".")
    with pytest.raises(ClientError, match="InvalidIdentityToken"):
        assume(WebIdentityToken=".".join((head, claims, signature[::-1])))
