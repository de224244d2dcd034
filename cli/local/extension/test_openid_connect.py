"""Logins with the tokens of an OpenID Connect provider."""

import hashlib
import hmac
import http.server
import json
import threading
import time

import boto3
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .test_support import BUCKET, REGION, allowed, encoded, mapping, name_of, policy, rule, tagged


class Provider:
    """An OpenID Connect provider on this machine: its documents over HTTP, and any token."""

    CLIENT = "lake"

    def __init__(self):
        self.key, self.keys_are_there = rsa.generate_private_key(public_exponent=65537, key_size=2048), True
        numbers = self.key.public_key().public_numbers()
        self.jwk = {"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig",
                    "n": encoded(numbers.n.to_bytes(256, "big")), "e": encoded(numbers.e.to_bytes(3, "big"))}
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents = {"/.well-known/openid-configuration": {"issuer": provider.issuer,
                                                                   "jwks_uri": f"{provider.issuer}/keys"},
                             "/keys": {"keys": [provider.jwk]}}
                found = self.path in documents and provider.keys_are_there
                body = json.dumps(documents[self.path]).encode() if found else b"<html>"
                self.send_response(200 if found else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"https://127.0.0.1:{self.server.server_port}"
        self.login = self.issuer.removeprefix("https://")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, key=None, head=(), **claims):
        claims = {"iss": self.issuer, "aud": self.CLIENT, "sub": "jane", "exp": int(time.time()) + 600, **claims}
        head = {"alg": "RS256", "kid": "1", **dict(head)}
        signed = f"{encoded(head)}.{encoded({name: value for name, value in claims.items() if value is not None})}"
        if head["alg"] == "HS256":
            signature = hmac.new(json.dumps(self.jwk).encode(), signed.encode(), hashlib.sha256).digest()
        elif head["alg"] == "none":
            signature = b""
        else:
            signature = (key or self.key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{encoded(signature)}"


@pytest.fixture
def provider(world):
    """A provider that IAM knows, and a separate identity pool that accepts it beside the user pool."""
    provider = Provider()
    iam, identity = world.client("iam"), world.client("cognito-identity")
    provider.arn = iam.create_open_id_connect_provider(
        Url=provider.issuer, ClientIDList=[provider.CLIENT])["OpenIDConnectProviderArn"]
    provider.pool = identity.create_identity_pool(
        IdentityPoolName="partners", AllowUnauthenticatedIdentities=False, OpenIdConnectProviderARNs=[provider.arn],
        CognitoIdentityProviders=[{"ProviderName": world.provider, "ClientId": world.closed_app}])["IdentityPoolId"]

    def exchange(token, login=None, more=(), **options):
        logins = {login or provider.login: token, **dict(more)}
        identity_id = identity.get_id(IdentityPoolId=provider.pool, Logins=logins)["IdentityId"]
        given = identity.get_credentials_for_identity(IdentityId=identity_id, Logins=logins, **options)["Credentials"]
        session = boto3.Session(given["AccessKeyId"], given["SecretKey"], given["SessionToken"], region_name=REGION)
        return identity_id, session

    def trusting(amr, *statements):
        """A role for users with this login."""
        arn = world.role(*statements)
        iam.update_assume_role_policy(RoleName=name_of(arn), PolicyDocument=policy({
            "Effect": "Allow", "Principal": {"Federated": "cognito-identity.amazonaws.com"},
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
            "Condition": {"StringEquals": {"cognito-identity.amazonaws.com:aud": provider.pool},
                          "ForAnyValue:StringLike": {"cognito-identity.amazonaws.com:amr": amr}}}))
        return arn

    def set_roles(default, mappings=None):
        identity.set_identity_pool_roles(IdentityPoolId=provider.pool, Roles={"authenticated": default},
                                         RoleMappings=mappings or {})

    provider.exchange, provider.trusting, provider.set_roles = exchange, trusting, set_roles
    yield provider
    identity.delete_identity_pool(IdentityPoolId=provider.pool)
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider.arn)
    provider.server.shutdown()


def test_a_token_of_an_openid_connect_provider_is_verified(world, provider):
    provider.set_roles(provider.trusting("authenticated"))
    assert allowed(provider.exchange, token=provider.token())
    assert allowed(provider.exchange, token=provider.token(exp=int(time.time()) - 200)), "within the skew"
    assert allowed(provider.exchange, token=provider.token(aud=["other", provider.CLIENT]))
    assert allowed(provider.exchange, token=provider.token(aud="other", azp=provider.CLIENT)), "azp counts where it is"
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for what, token in {
        "another key": provider.token(key=own), "an unknown kid": provider.token(head={"kid": "2"}),
        "no kid": provider.token(head={"kid": None}),
        "no signature": provider.token(head={"alg": "none"}), "HMAC": provider.token(head={"alg": "HS256"}),
        "another client": provider.token(aud="other"), "azp of another": provider.token(azp="other"),
        "no client": provider.token(aud=None), "expired": provider.token(exp=int(time.time()) - 400),
        "no end": provider.token(exp=None), "another issuer": provider.token(iss="https://idp.example"),
        "its name": provider.token(iss=provider.login), "nobody": provider.token(sub=None), "nothing": "x.y.z",
    }.items():
        assert not allowed(provider.exchange, token=token), what
    assert not allowed(provider.exchange, token=provider.token(), login="idp.example"), "no provider of the pool"
    provider.keys_are_there = False
    assert not allowed(provider.exchange, token=provider.token()), "without keys"


def test_a_provider_that_is_gone_from_iam_gives_nothing(world, provider):
    provider.set_roles(provider.trusting("authenticated"))
    assert allowed(provider.exchange, token=provider.token())
    world.client("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=provider.arn)
    assert not allowed(provider.exchange, token=provider.token())
    world.client("iam").create_open_id_connect_provider(Url=provider.issuer, ClientIDList=[provider.CLIENT])


def test_the_provider_of_a_login_is_in_amr_and_its_settings_go_by_its_arn(world, provider):
    role = provider.trusting(provider.login, tagged("partner", provider.CLIENT))
    provider.set_roles(role)
    _, session = provider.exchange(provider.token())
    assert not allowed(world.client("s3", session).list_objects_v2, Bucket=BUCKET), "no tag"
    for name, expected in ((provider.login, False), (provider.arn, True)):
        world.client("cognito-identity").set_principal_tag_attribute_map(
            IdentityPoolId=provider.pool, IdentityProviderName=name, PrincipalTags={"partner": "aud"})
        _, session = provider.exchange(provider.token())
        assert allowed(world.client("s3", session).list_objects_v2, Bucket=BUCKET) is expected, name
    users = world.sign_in("alice")["IdToken"]
    with pytest.raises(ClientError, match="Invalid identity pool configuration"):
        provider.exchange(users, login=world.provider)
    mapped = provider.trusting(provider.login)
    provider.set_roles(role, mappings={provider.arn: mapping(rule(mapped, "aud", "Equals", provider.CLIENT))})
    _, session = provider.exchange(provider.token())
    assert name_of(mapped) in world.client("sts", session).get_caller_identity()["Arn"]
    assert not allowed(provider.exchange, token=provider.token(aud="other", azp=provider.CLIENT))
    assert not allowed(provider.exchange, token=provider.token(), CustomRoleArn=role)


def test_a_user_of_a_provider_has_one_identity(world, provider):
    provider.set_roles(provider.trusting("authenticated"))
    jane, _ = provider.exchange(provider.token())
    assert provider.exchange(provider.token(exp=int(time.time()) + 700))[0] == jane
    john = provider.token(sub="john")
    assert provider.exchange(john)[0] != jane
    identity = world.client("cognito-identity")
    assert not allowed(identity.get_credentials_for_identity, IdentityId=jane, Logins={provider.login: john})


def test_two_logins_at_once(world, provider):
    """The user may ask for either role, so a trust policy has to separate them; this shows that it can."""
    users, partners = provider.trusting(world.provider), provider.trusting(provider.login)
    provider.set_roles(users, mappings={provider.arn: mapping(rule(partners, "aud", "Equals", provider.CLIENT))})
    both = {"token": provider.token(), "more": {world.provider: world.sign_in("alice")["IdToken"]}}

    def role(custom):
        _, session = provider.exchange(**both, CustomRoleArn=custom)
        return world.client("sts", session).get_caller_identity()["Arn"].split("/")[1]

    assert (role(users), role(partners)) == (name_of(users), name_of(partners))
    _, session = provider.exchange(world.sign_in("alice")["IdToken"], login=world.provider)
    assert name_of(users) in world.client("sts", session).get_caller_identity()["Arn"], "with one of the two"
    assert not allowed(provider.exchange, token=provider.token(), CustomRoleArn=users)
    trust = {"Effect": "Allow", "Principal": {"Federated": "cognito-identity.amazonaws.com"},
             "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"], "Condition": {
                 "ForAnyValue:StringLike": {"cognito-identity.amazonaws.com:amr": world.provider},
                 "ForAllValues:StringNotLike": {"cognito-identity.amazonaws.com:amr": [provider.login, f"{provider.arn}*"]}}}
    world.client("iam").update_assume_role_policy(RoleName=name_of(users), PolicyDocument=policy(trust))
    with pytest.raises(ClientError, match="Invalid identity pool configuration"):
        role(users)
    provider.exchange(world.sign_in("alice")["IdToken"], login=world.provider)


def test_a_provider_and_its_mapping_in_a_template(world):
    provider, another = Provider(), Provider()
    trust = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Federated": "cognito-identity.amazonaws.com"},
        "Action": ["sts:AssumeRoleWithWebIdentity"]}]}
    rules = {"Rules": [{"Claim": "aud", "MatchType": "Equals", "Value": {"Ref": "Client"},
                        "RoleARN": {"Fn::GetAtt": ["Role", "Arn"]}}]}
    template = {
        "Parameters": {"Client": {"Type": "String"}, "Issuer": {"Type": "String"}},
        "Resources": {
            "Provider": {"Type": "AWS::IAM::OIDCProvider", "Properties": {
                "Url": {"Ref": "Issuer"}, "ClientIdList": [{"Ref": "Client"}]}},
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}},
            "Pool": {"Type": "AWS::Cognito::IdentityPool", "Properties": {
                "AllowUnauthenticatedIdentities": False, "OpenIdConnectProviderARNs": [{"Ref": "Provider"}]}},
            "Roles": {"Type": "AWS::Cognito::IdentityPoolRoleAttachment", "Properties": {
                "IdentityPoolId": {"Ref": "Pool"}, "Roles": {}, "RoleMappings": {"Partner": {
                    "IdentityProvider": {"Ref": "Provider"}, "Type": "Rules", "AmbiguousRoleResolution": "Deny",
                    "RulesConfiguration": rules}}}}},
        "Outputs": {"Pool": {"Value": {"Ref": "Pool"}}, "Provider": {"Value": {"Fn::GetAtt": ["Provider", "Arn"]}}}}
    identity, iam = world.client("cognito-identity"), world.client("iam")

    def may(provider, pool, **claims):
        logins = {provider.login: provider.token(**claims)}
        try:
            identity_id = identity.get_id(IdentityPoolId=pool, Logins=logins)["IdentityId"]
            identity.get_credentials_for_identity(IdentityId=identity_id, Logins=logins)
        except identity.exceptions.NotAuthorizedException:
            return False
        return True

    def deploy(provider, client):
        outputs = world.deploy("partner", template, Client=client, Issuer=provider.issuer)
        assert outputs["Provider"].endswith(f":oidc-provider/{provider.login}")
        return outputs["Pool"]

    pool = deploy(provider, "lake")
    assert may(provider, pool) and not may(provider, pool, aud="sea") and not may(another, pool)
    assert deploy(provider, "sea") == pool
    assert may(provider, pool, aud="sea") and not may(provider, pool)
    deploy(another, "sea")
    assert may(another, pool, aud="sea") and not may(provider, pool, aud="sea")
    assert [known["Arn"] for known in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
            if known["Arn"].endswith((provider.login, another.login))] == [
        f"arn:aws:iam::000000000000:oidc-provider/{another.login}"]
    world.client("cloudformation").delete_stack(StackName="partner")
    world.client("cloudformation").get_waiter("stack_delete_complete").wait(StackName="partner", WaiterConfig={"Delay": 1})
    assert not any(known["Arn"].endswith(another.login)
                   for known in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"])
