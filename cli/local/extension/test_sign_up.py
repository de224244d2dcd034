"""The function that a user pool calls after a sign-up."""

import base64
import functools
import http.client
import json
import urllib.parse

from .test_support import PASSWORD, Pool, REGION, RESET_CODE, allowed, failure


def event_of(code_and_message):
    """The event that the function failed with."""
    code, message = code_and_message
    assert code == "UserLambdaValidationException"
    return json.loads(message.removeprefix("PostConfirmation failed with error ").removesuffix("."))


def test_sign_up_calls_the_function(world):
    pool = Pool(world)
    pool.sign_up("jane@a.example")
    assert failure(pool.confirm, "jane@a.example", "000000")[0] == "CodeMismatchException"
    assert pool.user("jane@a.example")[0] == "UNCONFIRMED"
    pool.confirm("jane@a.example")
    status, attributes = pool.user("jane@a.example")
    assert (status, attributes["email_verified"]) == ("CONFIRMED", "true")

    pool.sign_up("failing@a.example")
    event = event_of(failure(pool.confirm, "failing@a.example"))
    status, attributes = pool.user("failing@a.example")
    assert status == "CONFIRMED", "a failing function does not undo the confirmation"
    assert event == {
        "version": "1", "region": REGION, "userPoolId": pool.id, "userName": attributes["sub"],
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": pool.app},
        "triggerSource": "PostConfirmation_ConfirmSignUp", "response": {},
        "request": {"userAttributes": {"sub": attributes["sub"], "email": "failing@a.example",
                                       "email_verified": "true", "cognito:user_status": "CONFIRMED"}}}
    assert failure(pool.confirm, "failing@a.example")[0] == "NotAuthorizedException"


def test_confirmation_by_an_operator_calls_the_function_and_verifies_nothing(world):
    pool = Pool(world)
    for name in ("jane@a.example", "failing@a.example"):
        pool.sign_up(name)
    confirm = functools.partial(pool.idp.admin_confirm_sign_up, UserPoolId=pool.id)
    confirm(Username="jane@a.example")
    assert "email_verified" not in pool.user("jane@a.example")[1]
    assert not allowed(confirm, Username="jane@a.example")
    event = event_of(failure(confirm, Username="failing@a.example"))
    assert event["triggerSource"] == "PostConfirmation_ConfirmSignUp"


def test_a_replaced_password_has_a_trigger_source_of_its_own(world):
    pool = Pool(world)
    pool.sign_up("failing@a.example")
    failure(pool.confirm, "failing@a.example")
    user = {"ClientId": pool.app, "Username": "failing@a.example"}
    pool.idp.forgot_password(**user)
    event = event_of(failure(pool.idp.confirm_forgot_password, **user, ConfirmationCode=RESET_CODE, Password=PASSWORD))
    assert event["triggerSource"] == "PostConfirmation_ConfirmForgotPassword"


def test_users_whom_an_operator_makes_do_not_call_the_function(world):
    pool = Pool(world)
    pool.idp.admin_create_user(UserPoolId=pool.id, Username="failing@a.example", TemporaryPassword=PASSWORD)
    challenge = pool.sign_in("failing@a.example")
    tokens = pool.respond("failing@a.example", challenge["ChallengeName"], challenge["Session"],
                          NEW_PASSWORD="New-Horse-10")
    assert tokens["AuthenticationResult"]["IdToken"]


def test_the_function_must_let_the_pool_call_it(world):
    for options in ({"callable_by_us": False}, {"callable_by_us": False, "callable_by_others": True}):
        pool = Pool(world, **options)
        pool.sign_up("jane@a.example")
        assert failure(pool.confirm, "jane@a.example")[0] == "UnexpectedLambdaException"


def federated_sign_in(world, pool, name, email):
    """The answer to a SAML provider's statement about a user."""
    parameters = {"client_id": pool.app, "response_type": "code", "redirect_uri": "http://localhost/callback",
                  "identity_provider": "institute", "scope": "openid"}
    connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
    connection.request("GET", "/oauth2/authorize?" + urllib.parse.urlencode(parameters))
    redirect = connection.getresponse()
    redirect.read()
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(redirect.getheader("Location")).query)["RelayState"][0]
    assertion = (f'<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion"><Subject><NameID>{name}</NameID></Subject>'
                 f'<AttributeStatement><Attribute Name="mail"><AttributeValue>{email}</AttributeValue></Attribute>'
                 '</AttributeStatement></Assertion>')
    body = urllib.parse.urlencode({"SAMLResponse": base64.b64encode(assertion.encode()).decode(), "RelayState": state})
    connection.request("POST", "/saml2/idpresponse", body, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_first_federated_sign_in_calls_the_function(world):
    pool = Pool(world)
    pool.idp.create_identity_provider(
        UserPoolId=pool.id, ProviderName="institute", ProviderType="SAML", AttributeMapping={"email": "mail"},
        ProviderDetails={"IDPSSOEndpoint": "https://idp.example/sso"})
    assert federated_sign_in(world, pool, "1", "jane@a.example")[0] == 302
    status, answer = federated_sign_in(world, pool, "2", "failing@a.example")
    assert status == 400
    event = event_of(("UserLambdaValidationException", json.loads(answer)["message"]))
    attributes = event["request"]["userAttributes"]
    assert (event["triggerSource"], event["userName"]) == ("PostConfirmation_ConfirmSignUp", "institute_2")
    assert (attributes["cognito:user_status"], attributes["email"]) == ("EXTERNAL_PROVIDER", "failing@a.example")
    assert json.loads(attributes["identities"])[0]["providerName"] == "institute"
    assert federated_sign_in(world, pool, "2", "failing@a.example")[0] == 302, "the second sign-in calls nothing"
