"""The session that ties a challenge to its user."""

import functools
import http.client
import urllib.parse

from .test_support import PASSWORD, Pool, allowed, failure, totp

MADE_UP = "a session that nobody has"


def test_a_challenge_is_answered_with_its_own_session(world):
    pool = Pool(world)
    sessions = {}
    for name in ("jane@a.example", "joe@a.example"):
        pool.idp.admin_create_user(UserPoolId=pool.id, Username=name, TemporaryPassword=PASSWORD)
        sessions[name] = pool.sign_in(name)["Session"]
    answer = functools.partial(pool.respond, "jane@a.example", "NEW_PASSWORD_REQUIRED")
    for session in (None, MADE_UP, sessions["joe@a.example"]):
        assert not allowed(answer, session=session, NEW_PASSWORD="New-Horse-10")
    for challenge in ("SOFTWARE_TOKEN_MFA", "MFA_SETUP"):
        assert not allowed(pool.respond, name="jane@a.example", challenge=challenge, session=sessions["jane@a.example"])
    assert failure(answer, sessions["jane@a.example"], NEW_PASSWORD="short")[0] == "InvalidPasswordException"
    assert answer(sessions["jane@a.example"], NEW_PASSWORD="New-Horse-10")["AuthenticationResult"]["IdToken"]
    assert not allowed(answer, session=sessions["jane@a.example"], NEW_PASSWORD="New-Horse-11")


def test_a_second_factor_where_it_is_optional(world):
    pool = Pool(world)
    pool.idp.set_user_pool_mfa_config(UserPoolId=pool.id, MfaConfiguration="OPTIONAL",
                                      SoftwareTokenMfaConfiguration={"Enabled": True})
    for name in ("jane@a.example", "joe@a.example"):
        pool.sign_up(name)
        pool.confirm(name)
    token = pool.sign_in("jane@a.example")["AuthenticationResult"]["AccessToken"]
    assert login_page(world, pool, "jane@a.example") == 302
    secret = pool.idp.associate_software_token(AccessToken=token)["SecretCode"]
    pool.idp.verify_software_token(AccessToken=token, UserCode=totp(secret))
    pool.idp.set_user_mfa_preference(AccessToken=token,
                                     SoftwareTokenMfaSettings={"Enabled": True, "PreferredMfa": True})

    challenge = pool.sign_in("jane@a.example")
    assert challenge["ChallengeName"] == "SOFTWARE_TOKEN_MFA"
    answer = functools.partial(pool.respond, "jane@a.example", "SOFTWARE_TOKEN_MFA")
    assert not allowed(answer, session=None, SOFTWARE_TOKEN_MFA_CODE=totp(secret))
    assert failure(answer, challenge["Session"], SOFTWARE_TOKEN_MFA_CODE="nope")[0] == "CodeMismatchException"
    assert "AuthenticationResult" in answer(challenge["Session"], SOFTWARE_TOKEN_MFA_CODE=totp(secret))
    assert "AuthenticationResult" in pool.sign_in("joe@a.example")
    assert login_page(world, pool, "jane@a.example") == 200, "the page shows an error"


def login_page(world, pool, name):
    form = {"client_id": pool.app, "redirect_uri": "http://localhost/callback", "response_type": "code",
            "scope": "openid", "username": name, "password": PASSWORD}
    connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
    connection.request("POST", "/login", urllib.parse.urlencode(form))
    return connection.getresponse().status


def test_a_second_factor_that_must_be_set_up(world):
    pool = Pool(world)
    pool.idp.set_user_pool_mfa_config(UserPoolId=pool.id, MfaConfiguration="ON",
                                      SoftwareTokenMfaConfiguration={"Enabled": True})
    pool.sign_up("jane@a.example")
    pool.confirm("jane@a.example")
    setup = pool.sign_in("jane@a.example")
    assert setup["ChallengeName"] == "MFA_SETUP"
    answer = functools.partial(pool.respond, "jane@a.example", "MFA_SETUP")
    assert failure(answer, setup["Session"])[0] == "InvalidParameterException", "nothing is set up"
    assert not allowed(pool.idp.associate_software_token, Session=MADE_UP)
    secret = pool.idp.associate_software_token(Session=setup["Session"])
    assert not allowed(pool.idp.verify_software_token, Session=MADE_UP, UserCode=totp(secret["SecretCode"]))
    verified = pool.idp.verify_software_token(Session=secret["Session"], UserCode=totp(secret["SecretCode"]))
    assert not allowed(answer, session=setup["Session"])
    assert "AuthenticationResult" in answer(verified["Session"])
    assert pool.sign_in("jane@a.example")["ChallengeName"] == "SOFTWARE_TOKEN_MFA"
