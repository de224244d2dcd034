"""Each rule that ministack_ext.py fills in, with one request it must allow and one it must refuse.

The requests are made with credentials that a signed-in user really exchanged, against a local AWS of their own.
"""

import base64
import contextlib
import functools
import hashlib
import hmac
import http.client
import http.server
import io
import itertools
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import urllib.parse
import zipfile

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EXTENSION = pathlib.Path(__file__).with_name("ministack_ext.py")
REGION = "eu-west-1"
BUCKET = "lake"
TABLE = "catalog"
PASSWORD = "Correct-Horse-9"
OBJECT = f"arn:aws:s3:::{BUCKET}"
REFUSALS = {"AccessDenied", "AccessDeniedException", "NotAuthorizedException"}

# A function that answers the Runtime API in the two small writes that Nagle's algorithm would delay.
BOOTSTRAP = f"""#!{sys.executable}
import http.client, os
while True:
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        event = api.getresponse()
        event.read()
        api.request("POST", f"/2018-06-01/runtime/invocation/{{event.getheader('Lambda-Runtime-Aws-Request-Id')}}"
                    "/response", body=b"{{}}")
        api.getresponse().read()
"""

# A post-confirmation function. For a failing address it fails, with the event for a message.
TRIGGER = f"""#!{sys.executable}
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    text, request = answer.read(), answer.getheader("Lambda-Runtime-Aws-Request-Id")
    failing = json.loads(text)["request"]["userAttributes"]["email"].startswith("failing")
    body = json.dumps({{"errorMessage": text.decode(), "errorType": "Failing"}}).encode() if failing else text
    api.request("POST", f"/2018-06-01/runtime/invocation/{{request}}/{{'error' if failing else 'response'}}", body=body)
    api.getresponse().read()
"""

# An authorizer of an API: answers yes and writes down, in the API's context, how often it was asked. A caller who says
# "a" may do what the request is about and nothing else.
AUTHORIZER = f"""#!{sys.executable}
import http.client, json, os
api, asked = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"]), 0
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    event, request, asked = json.loads(answer.read()), answer.getheader("Lambda-Runtime-Aws-Request-Id"), asked + 1
    may = {{name.lower(): value for name, value in event["headers"].items()}}["authorization"] == "a"
    statement = {{"Effect": "Allow" if may else "Deny", "Action": "execute-api:Invoke", "Resource": event.get("methodArn")}}
    body = {{"isAuthorized": may, "context": {{"asked": str(asked)}}}} if "routeKey" in event else {{
        "principalId": "a", "context": {{"asked": str(asked)}},
        "policyDocument": {{"Version": "2012-10-17", "Statement": [statement]}}}}
    api.request("POST", f"/2018-06-01/runtime/invocation/{{request}}/response", body=json.dumps(body).encode())
    api.getresponse().read()
"""

# What is behind an API: answers with what the authorizer wrote down.
BEHIND = f"""#!{sys.executable}
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    event, request = json.loads(answer.read()), answer.getheader("Lambda-Runtime-Aws-Request-Id")
    body = json.dumps({{"statusCode": 200, "body": json.dumps(event["requestContext"].get("authorizer"))}})
    api.request("POST", f"/2018-06-01/runtime/invocation/{{request}}/response", body=body.encode())
    api.getresponse().read()
"""

USERS = {  # name: (custom:read, custom:write), None for no attribute
    "alice": ("a", "a"),
    "bob": ("b", "b"),
    "reader": ("a", None),
    "blank": ("", ""),
    "star": ("*", "*"),
    "nested": ("${aws:PrincipalTag/write}", "a"),
}


# --- The local AWS ----------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def local_aws():
    """Run the extension on a free port in a process group of its own, and end the whole group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**inherited, "AUTH": "true", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port),
                   "AWS_ENDPOINT_URL": endpoint, "IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
    process = subprocess.Popen([sys.executable, str(EXTENSION)], env=environment, start_new_session=True,
                               stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, "the local AWS ended at start"
            assert time.monotonic() < deadline, "the local AWS does not answer"
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                connection.request("GET", "/_ministack/health")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.1)
        yield endpoint
    finally:
        # It does not end on SIGTERM while functions live.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class World:
    """The account: a bucket, a table, a user pool, an identity pool, and sessions of users under any policy."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.root = boto3.Session("test", "test", region_name=REGION)
        self.numbers = itertools.count()
        self.tokens = {}
        self.make_bucket()
        self.make_table()
        self.make_pools()

    def client(self, service, session=None, **options):
        config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **options)
        return (session or self.root).client(service, endpoint_url=self.endpoint, config=config)

    def make_bucket(self):
        s3 = self.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})

    def make_table(self):
        dynamodb = self.client("dynamodb")
        dynamodb.create_table(
            TableName=TABLE, BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("source", "id", "owner")],
            KeySchema=[{"AttributeName": "source", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[{"IndexName": "by-owner", "Projection": {"ProjectionType": "ALL"},
                                     "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}]}])
        for source, owner in (("a", "b"), ("b", "a")):
            dynamodb.put_item(TableName=TABLE, Item=item(source, owner=owner))

    def make_pools(self):
        idp = self.client("cognito-idp")
        custom = [{"Name": name, "AttributeDataType": "String", "Mutable": name != "fixed"}
                  for name in ("read", "write", "fixed")]
        self.pool = idp.create_user_pool(PoolName="users", Schema=custom)["UserPool"]["Id"]

        def app(name, pool=self.pool, **options):
            return idp.create_user_pool_client(
                UserPoolId=pool, ClientName=name, ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"],
                **options)["UserPoolClient"]["ClientId"]

        self.closed_app = app("closed", WriteAttributes=["email", "name"])
        self.open_app = app("open")
        invited = idp.create_user_pool(PoolName="invited", AdminCreateUserConfig={"AllowAdminCreateUserOnly": True})
        self.invited_app = app("invited", pool=invited["UserPool"]["Id"])
        for name, (read, write) in USERS.items():
            attributes = [{"Name": f"custom:{key}", "Value": value}
                          for key, value in (("read", read), ("write", write)) if value is not None]
            idp.admin_create_user(UserPoolId=self.pool, Username=name, UserAttributes=attributes)
            idp.admin_set_user_password(UserPoolId=self.pool, Username=name, Password=PASSWORD, Permanent=True)
        self.provider = f"cognito-idp.{REGION}.amazonaws.com/{self.pool}"
        identity = self.client("cognito-identity")
        self.identity_pool = identity.create_identity_pool(
            IdentityPoolName="users", AllowUnauthenticatedIdentities=False, CognitoIdentityProviders=[
                {"ProviderName": self.provider, "ClientId": client} for client in (self.closed_app, self.open_app)],
        )["IdentityPoolId"]
        self.map_tags(PrincipalTags={"read": "custom:read", "write": "custom:write"})

    def map_tags(self, **mapping):
        self.client("cognito-identity").set_principal_tag_attribute_map(
            IdentityPoolId=self.identity_pool, IdentityProviderName=self.provider, **mapping)

    def sign_in(self, name, app=None):
        key = (name, app or self.closed_app)
        if key not in self.tokens:
            self.tokens[key] = self.client("cognito-idp").initiate_auth(
                ClientId=key[1], AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD})["AuthenticationResult"]
        return self.tokens[key]

    def role(self, *statements, trust=("sts:AssumeRoleWithWebIdentity", "sts:TagSession")):
        iam = self.client("iam")
        name = f"role-{next(self.numbers)}"
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy({
            "Effect": "Allow", "Principal": {"Federated": "cognito-identity.amazonaws.com"}, "Action": list(trust),
            "Condition": {"StringEquals": {"cognito-identity.amazonaws.com:aud": self.identity_pool},
                          "ForAnyValue:StringLike": {"cognito-identity.amazonaws.com:amr": "authenticated"}}},
        ))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=policy(*statements))
        return arn

    @functools.cached_property
    def echo(self):
        """The ARN of a function that answers {} and prints nothing."""
        return self.function("echo", BOOTSTRAP)

    def function(self, name, text):
        lambda_ = self.client("lambda")
        arn = lambda_.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=self.role(),
            Code={"ZipFile": zipped("bootstrap", text)})["FunctionArn"]
        lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
        return arn

    def deploy(self, name, template, **parameters):
        """Creates or updates a stack; gives its outputs."""
        cloudformation = self.client("cloudformation")
        arguments = {"StackName": name, "TemplateBody": json.dumps(template), "Capabilities": ["CAPABILITY_IAM"], "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]}
        try:
            cloudformation.create_stack(**arguments)
            step = "stack_create_complete"
        except cloudformation.exceptions.AlreadyExistsException:
            cloudformation.update_stack(**arguments)
            step = "stack_update_complete"
        cloudformation.get_waiter(step).wait(StackName=name, WaiterConfig={"Delay": 1})
        outputs = cloudformation.describe_stacks(StackName=name)["Stacks"][0].get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}

    def session(self, user, *statements, **options):
        """A session with the user's exchanged credentials, under a new role with these statements."""
        identity = self.client("cognito-identity")
        identity.set_identity_pool_roles(IdentityPoolId=self.identity_pool,
                                         Roles={"authenticated": self.role(*statements, **options)})
        logins = {self.provider: self.sign_in(user)["IdToken"]}
        identity_id = identity.get_id(IdentityPoolId=self.identity_pool, Logins=logins)["IdentityId"]
        given = identity.get_credentials_for_identity(IdentityId=identity_id, Logins=logins)["Credentials"]
        return boto3.Session(given["AccessKeyId"], given["SecretKey"], given["SessionToken"], region_name=REGION)

    def s3(self, user, *statements):
        return self.client("s3", self.session(user, *statements))

    def dynamodb(self, user, *statements):
        return self.client("dynamodb", self.session(user, *statements))

    @contextlib.contextmanager
    def bucket_policy(self, *statements):
        self.client("s3").put_bucket_policy(Bucket=BUCKET, Policy=policy(*statements))
        try:
            yield
        finally:
            self.client("s3").delete_bucket_policy(Bucket=BUCKET)

    def put(self, key, tags="", body=b"x"):
        """Put an object as the account's root."""
        return self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body, Tagging=tags)["VersionId"]

    def key(self, prefix):
        return f"{prefix}object-{next(self.numbers)}"


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource, **condition):
    return statement("Allow", action, resource, condition)


def deny(action, resource, **condition):
    return statement("Deny", action, resource, condition)


def statement(effect, action, resource, condition):
    found = {"Effect": effect, "Action": action, "Resource": resource}
    return {**found, "Condition": condition} if condition else found


def item(source, id="1", **more):
    return {name: {"S": value} for name, value in {"source": source, "id": id, **more}.items()}


def zipped(name, text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o755 << 16
        archive.writestr(info, text)
    return buffer.getvalue()


def allowed(call, **arguments):
    """Whether the request is authorized; any failure for another reason is an error of the test."""
    try:
        call(**arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        # HEAD has no body to tell the reason, and a cancelled transaction tells it in its message.
        if code in REFUSALS or code == "403":
            return False
        raise
    return True


@pytest.fixture(scope="session")
def world():
    with local_aws() as endpoint:
        yield World(endpoint)


# --- Start-up ---------------------------------------------------------------------------------------------------------

def start_with(tmp_path, version, app="def main():\n    print('serving')\n"):
    """Start the extension with a stand-in MiniStack of this version."""
    package = tmp_path / "ministack"
    for directory in (package, package / "core", package / "services"):
        directory.mkdir(parents=True)
        (directory / "__init__.py").write_text("")
    (package / "app.py").write_text(app)
    info = tmp_path / f"ministack-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ministack\nVersion: {version}\n")
    return subprocess.run([sys.executable, str(EXTENSION)], env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=30)


def test_refuses_another_version(tmp_path):
    run = start_with(tmp_path, "1.5.34")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == ("local AWS not started: this needs ministack 1.5.33, found 1.5.34: "
                          "install requirements.txt\n")


def test_refuses_a_version_without_a_function_it_replaces(tmp_path):
    run = start_with(tmp_path, "1.5.33")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("local AWS not started: ")


def test_names_the_function_that_is_missing():
    sys.path.insert(0, str(EXTENSION.parent))
    try:
        import ministack_ext
    finally:
        sys.path.pop(0)
    module = types.ModuleType("ministack.core.somewhere")
    with pytest.raises(ministack_ext.Refused, match=r"should have ministack\.core\.somewhere\.gone, but does not"):
        ministack_ext.wrap(module, "gone", lambda original: original)


# --- Principal tags ---------------------------------------------------------------------------------------------------

def tagged(name, value):
    return allow("s3:ListBucket", OBJECT, StringEquals={f"aws:PrincipalTag/{name}": value})


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


# --- Which role -------------------------------------------------------------------------------------------------------

def role_of(world, user, app, custom=None):
    """The name of the role that a user has who signed in through this app client; None when there are no credentials."""
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


def rule(role, claim="sub", match="StartsWith", value="a"):
    return {"Claim": claim, "MatchType": match, "Value": value, "RoleARN": role}


def mapping(*rules, otherwise="Deny"):
    return {"Type": "Rules", "AmbiguousRoleResolution": otherwise, "RulesConfiguration": {"Rules": list(rules)}}


def name_of(arn):
    return arn.rpartition("/")[2]


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


# --- OpenID Connect providers -----------------------------------------------------------------------------------------

def encoded(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


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
    """A provider that IAM knows, and an identity pool of its own that takes it beside the user pool."""
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
        """A role for whoever signed in by this."""
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
    """Either role may be asked for, so that a trust policy has to keep them apart; and it can."""
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


# --- Policy variables -------------------------------------------------------------------------------------------------

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


# --- S3 ---------------------------------------------------------------------------------------------------------------

OWN = f"{OBJECT}/source=${{aws:PrincipalTag/write}}/*"
OWN_TAG = {"s3:RequestObjectTag/source": "${aws:PrincipalTag/write}"}
WRITER = allow(["s3:PutObject", "s3:PutObjectTagging"], OWN, StringEquals=OWN_TAG)
READER = allow(["s3:GetObject", "s3:GetObjectVersion"], f"{OBJECT}/source=${{aws:PrincipalTag/read}}/*",
               StringEquals={"s3:ExistingObjectTag/source": "${aws:PrincipalTag/read}"})


def tag_set(**tags):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


@pytest.mark.parametrize("user, prefix, tags, expected", [
    ("alice", "source=a/", "source=a", True),
    ("alice", "source=a/", "source=b", False),
    ("alice", "source=a/", "", False),
    ("alice", "source=a/", "source=", False),
    ("alice", "source=a/", "other=a", False),
    ("alice", "source=a/", "source=a&SOURCE=b", False),
    ("alice", "source=b/", "source=a", False),
    ("alice", "source=b/", "source=b", False),
    ("reader", "source=a/", "source=a", False),
    ("blank", "source=/", "source=", False),
    ("blank", "source=a/", "source=a", False),
])
def test_put_object_request_tag(world, user, prefix, tags, expected):
    s3 = world.s3(user, WRITER)
    assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key(prefix), Body=b"x", Tagging=tags) is expected


def test_put_object_request_tag_of_a_presigned_url(world):
    s3 = world.client("s3", world.session("alice", WRITER), signature_version="s3v4")
    for tags, status in (("source=a", 200), ("source=b", 403)):
        url = s3.generate_presigned_url("put_object", Params={
            "Bucket": BUCKET, "Key": world.key("source=a/"), "Tagging": tags})
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
        headers = {} if "x-amz-tagging=" in url.lower() else {"x-amz-tagging": tags}
        connection.request("PUT", url.removeprefix(world.endpoint), body=b"x", headers=headers)
        answer = connection.getresponse()
        assert answer.status == status, (url, answer.read())


def test_put_object_with_tags_needs_put_object_tagging(world):
    s3 = world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*"))
    assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key("p"), Body=b"x")
    assert not allowed(s3.put_object, Bucket=BUCKET, Key=world.key("p"), Body=b"x", Tagging="k=v")


@pytest.mark.parametrize("header", [{"ACL": "private"}, {"ObjectLockLegalHoldStatus": "ON"}])
def test_put_object_headers_need_their_action(world, header):
    put = {"Bucket": BUCKET, "Key": world.key("h"), "Body": b"x", **header}
    assert not allowed(world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*")).put_object, **put)
    both = world.s3("alice", allow(["s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectLegalHold"], f"{OBJECT}/*"))
    with contextlib.suppress(ClientError) if "ACL" not in header else contextlib.nullcontext():
        assert allowed(both.put_object, **put)


@pytest.mark.parametrize("tags, expected", [({"source": "a"}, True), ({"source": "b"}, False), ({}, False)])
def test_put_object_tagging_request_tag(world, tags, expected):
    key = world.key("source=a/")
    world.put(key, tags="source=a")
    s3 = world.s3("alice", WRITER)
    assert allowed(s3.put_object_tagging, Bucket=BUCKET, Key=key, Tagging=tag_set(**tags)) is expected


def test_object_of_another_cannot_be_retagged_and_read(world):
    key = world.key("source=b/")
    world.put(key, tags="source=b")
    s3 = world.s3("alice", WRITER, READER)
    assert not allowed(s3.put_object_tagging, Bucket=BUCKET, Key=key, Tagging=tag_set(source="a"))
    assert not allowed(s3.get_object, Bucket=BUCKET, Key=key)


def test_request_tag_keys(world):
    s3 = world.s3("alice", allow(["s3:PutObject", "s3:PutObjectTagging"], f"{OBJECT}/*", **{
        "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["source", "kind"]}}))
    put = functools.partial(allowed, s3.put_object, Bucket=BUCKET, Body=b"x")
    assert put(Key=world.key("k"), Tagging="source=a")
    assert put(Key=world.key("k"), Tagging="source=a&kind=b")
    assert not put(Key=world.key("k"), Tagging="source=a&more=b")


def test_existing_tag_of_reads(world):
    own, other = world.key("source=a/"), world.key("source=a/")
    world.put(own, tags="source=a")
    world.put(other, tags="source=b")
    s3 = world.s3("alice", READER)
    for call in (s3.get_object, s3.head_object):
        assert allowed(call, Bucket=BUCKET, Key=own)
        assert not allowed(call, Bucket=BUCKET, Key=other)


def test_existing_tag_is_that_of_the_version(world):
    key = world.key("source=a/")
    first = world.put(key, tags="source=b")
    second = world.put(key, tags="source=a")
    s3 = world.s3("alice", READER)
    assert allowed(s3.get_object, Bucket=BUCKET, Key=key, VersionId=second)
    assert not allowed(s3.get_object, Bucket=BUCKET, Key=key, VersionId=first)


def test_version_needs_its_own_action(world):
    key = world.key("v")
    version = world.put(key)
    latest = world.s3("alice", allow("s3:GetObject", f"{OBJECT}/*"))
    assert allowed(latest.get_object, Bucket=BUCKET, Key=key)
    assert not allowed(latest.get_object, Bucket=BUCKET, Key=key, VersionId=version)
    named = world.s3("alice", allow("s3:GetObjectVersion", f"{OBJECT}/*", StringEquals={"s3:VersionId": version}))
    assert allowed(named.get_object, Bucket=BUCKET, Key=key, VersionId=version)
    assert not allowed(named.get_object, Bucket=BUCKET, Key=key, VersionId=world.put(key))


def test_existing_tag_of_tagging(world):
    own, other = world.key("t"), world.key("t")
    world.put(own, tags="source=a")
    world.put(other, tags="source=b")
    s3 = world.s3("alice", allow(["s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObjectTagging"],
                                 f"{OBJECT}/*", StringEquals={"s3:ExistingObjectTag/source": "a"}))
    for call, more in ((s3.get_object_tagging, {}), (s3.put_object_tagging, {"Tagging": tag_set(source="a")}),
                       (s3.delete_object_tagging, {})):
        assert allowed(call, Bucket=BUCKET, Key=own, **more)
        assert not allowed(call, Bucket=BUCKET, Key=other, **more)


def test_existing_tag_is_no_key_of_put_object(world):
    key = world.key("e")
    world.put(key, tags="source=a")
    conditioned = world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*",
                                          StringEquals={"s3:ExistingObjectTag/source": "a"}))
    assert not allowed(conditioned.put_object, Bucket=BUCKET, Key=key, Body=b"y")
    assert allowed(world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*")).put_object, Bucket=BUCKET, Key=key, Body=b"")


def test_copy_reads_its_source(world):
    own, other = world.key("source=a/"), world.key("source=a/")
    world.put(own, tags="source=a")
    world.put(other, tags="source=b")
    s3 = world.s3("alice", WRITER, READER)
    copy = functools.partial(allowed, s3.copy_object, Bucket=BUCKET, Key=world.key("source=a/"), Tagging="source=a",
                             TaggingDirective="REPLACE")
    assert copy(CopySource={"Bucket": BUCKET, "Key": own})
    assert not copy(CopySource={"Bucket": BUCKET, "Key": other})
    assert not allowed(s3.copy_object, Bucket=BUCKET, Key=world.key("source=a/"), Tagging="source=b",
                       TaggingDirective="REPLACE", CopySource={"Bucket": BUCKET, "Key": own})
    foreign = world.put(own, tags="source=b")
    mine = world.put(own, tags="source=a")
    assert copy(CopySource={"Bucket": BUCKET, "Key": own, "VersionId": mine})
    assert not copy(CopySource={"Bucket": BUCKET, "Key": own, "VersionId": foreign})


def test_copy_that_keeps_tags_needs_the_tagging_actions(world):
    source = world.key("c")
    world.put(source, tags="source=a")
    copy = {"Bucket": BUCKET, "Key": world.key("c"), "CopySource": {"Bucket": BUCKET, "Key": source}}
    needed = ["s3:GetObject", "s3:PutObject", "s3:GetObjectTagging", "s3:PutObjectTagging"]
    assert allowed(world.s3("alice", allow(needed, f"{OBJECT}/*")).copy_object, **copy)
    for missing in needed:
        less = [action for action in needed if action != missing]
        assert not allowed(world.s3("alice", allow(less, f"{OBJECT}/*")).copy_object, **copy)


def test_multipart_upload_request_tag(world):
    s3 = world.s3("alice", WRITER)
    create = functools.partial(allowed, s3.create_multipart_upload, Bucket=BUCKET, Key=world.key("source=a/"))
    assert create(Tagging="source=a")
    assert not create(Tagging="source=b")


def test_bucket_policy_that_requires_a_tag(world):
    s3 = world.s3("alice", allow("s3:*", f"{OBJECT}/*"))
    with world.bucket_policy({**deny("s3:PutObject", f"{OBJECT}/*", Null={"s3:RequestObjectTag/source": "true"}),
                              "Principal": "*"}):
        assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x", Tagging="source=a")
        assert not allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x")


def test_bucket_policy_that_refuses_customer_keys(world):
    s3 = world.s3("alice", allow("s3:*", f"{OBJECT}/*"))
    header = "s3:x-amz-server-side-encryption-customer-algorithm"
    with world.bucket_policy({**deny("s3:PutObject", f"{OBJECT}/*", Null={header: "false"}), "Principal": "*"}):
        assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x")
        key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0123456789abcdef0123456789abcdef"}
        assert not allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x", **key)


def test_bucket_policy_that_enforces_write_once(world):
    s3 = world.s3("alice", allow("s3:*", f"{OBJECT}/*"))
    once = {**deny("s3:PutObject", f"{OBJECT}/*", Null={"s3:if-none-match": "true"},
                   Bool={"s3:ObjectCreationOperation": "true"}), "Principal": "*"}
    source = world.key("w")
    world.put(source)
    with world.bucket_policy(once):
        key = world.key("w")
        assert not allowed(s3.put_object, Bucket=BUCKET, Key=key, Body=b"x")
        assert allowed(s3.put_object, Bucket=BUCKET, Key=key, Body=b"x", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"y", IfNoneMatch="*")
        assert not allowed(s3.copy_object, Bucket=BUCKET, Key=world.key("w"),
                           CopySource={"Bucket": BUCKET, "Key": source})
        upload = {"Bucket": BUCKET, "Key": world.key("w")}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        part = s3.upload_part(**upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        assert not allowed(s3.complete_multipart_upload, **upload, MultipartUpload=parts)
        assert allowed(s3.complete_multipart_upload, **upload, MultipartUpload=parts, IfNoneMatch="*")


def test_slashes_are_part_of_a_key(world):
    s3 = world.s3("alice", WRITER, READER)
    put = functools.partial(allowed, s3.put_object, Bucket=BUCKET, Body=b"x", Tagging="source=a")
    key = world.key("source=a//")
    assert put(Key=key)
    assert allowed(s3.get_object, Bucket=BUCKET, Key=key)
    assert put(Key="source=a/")
    assert not put(Key=f"/{key}")
    world.put(f"/{key}", tags="source=a")
    assert not allowed(s3.get_object, Bucket=BUCKET, Key=f"/{key}")
    attributes = functools.partial(
        allowed, world.s3("alice", allow("s3:GetObject*", f"{OBJECT}/source=a/*")).get_object_attributes,
        Bucket=BUCKET, ObjectAttributes=["ETag"])
    assert attributes(Key=key)
    assert not attributes(Key=f"/{key}")


def test_a_tag_that_is_named_twice(world):
    s3 = world.s3("alice", WRITER)
    put = functools.partial(s3.put_object, Bucket=BUCKET, Key=world.key("source=a/"), Body=b"x")
    assert put(Tagging="source=a&other=a")
    for twice in ("source=a&source=b", "source=a&sou%72ce=b", "source=a&source=a"):
        with pytest.raises(ClientError, match="InvalidArgument"):
            put(Tagging=twice)


def test_anonymous_requests_are_refused(world):
    key = world.key("anonymous")
    world.put(key)

    def get(headers):
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
        connection.request("GET", f"/{BUCKET}/{key}", headers=headers)
        return connection.getresponse().status
    assert get({}) == 403
    assert world.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"


# --- Secure transport -------------------------------------------------------------------------------------------------

def test_loopback_counts_as_secure_transport(world):
    s3 = world.s3("alice", allow("s3:ListBucket", OBJECT))
    for secure, expected in (("false", True), ("true", False)):
        with world.bucket_policy({**deny("s3:*", [OBJECT, f"{OBJECT}/*"], Bool={"aws:SecureTransport": secure}),
                                  "Principal": "*"}):
            assert allowed(s3.list_objects_v2, Bucket=BUCKET) is expected


# --- DynamoDB ---------------------------------------------------------------------------------------------------------

TABLE_ARN = f"arn:aws:dynamodb:{REGION}:000000000000:table/{TABLE}"
LEADING = {"dynamodb:LeadingKeys": "${aws:PrincipalTag/read}"}


def query(expression, **values):
    return {"TableName": TABLE, "KeyConditionExpression": expression,
            "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()}}


def requests(source):
    """One request of each kind for this partition key value."""
    key = item(source)
    entry = {**key, "more": {"S": "x"}}
    return [
        ("get_item", {"TableName": TABLE, "Key": key}),
        ("put_item", {"TableName": TABLE, "Item": entry}),
        ("update_item", {"TableName": TABLE, "Key": key}),
        ("delete_item", {"TableName": TABLE, "Key": key}),
        ("query", query("source = :v", v=source)),
        ("query", query(":v = source", v=source)),
        ("query", query("source=:v AND id > :w", v=source, w="0")),
        ("query", query("(id >= :w) and (source = :v)", v=source, w="0")),
        ("query", {**query("#s = :v", v=source), "ExpressionAttributeNames": {"#s": "source"}}),
        ("query", {"TableName": TABLE, "KeyConditions": {"source": {
            "ComparisonOperator": "EQ", "AttributeValueList": [{"S": source}]}}}),
        ("batch_get_item", {"RequestItems": {TABLE: {"Keys": [key]}}}),
        ("batch_write_item", {"RequestItems": {TABLE: [{"PutRequest": {"Item": entry}}]}}),
        ("batch_write_item", {"RequestItems": {TABLE: [{"DeleteRequest": {"Key": key}}]}}),
        ("transact_get_items", {"TransactItems": [{"Get": {"TableName": TABLE, "Key": key}}]}),
        ("transact_write_items", {"TransactItems": [{"Put": {"TableName": TABLE, "Item": entry}}]}),
        ("transact_write_items", {"TransactItems": [{"ConditionCheck": {
            "TableName": TABLE, "Key": key, "ConditionExpression": "attribute_exists(id)"}}]}),
        ("transact_write_items", {"TransactItems": [{"Delete": {"TableName": TABLE, "Key": key}}]}),
    ]


@pytest.mark.parametrize("condition", [
    {"StringEquals": LEADING},
    {"ForAllValues:StringEquals": LEADING, "Null": {"dynamodb:LeadingKeys": "false"}},
])
def test_leading_keys(world, condition):
    dynamodb = world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **condition))
    for (operation, own), (_, other) in zip(requests("a"), requests("b"), strict=True):
        assert allowed(getattr(dynamodb, operation), **own), (operation, own)
        assert not allowed(getattr(dynamodb, operation), **other), (operation, other)


@pytest.mark.parametrize("user", ["reader", "blank"])
def test_leading_keys_without_a_tag(world, user):
    dynamodb = world.dynamodb(user, allow("dynamodb:*", TABLE_ARN, StringEquals={
        "dynamodb:LeadingKeys": "${aws:PrincipalTag/write}"}))
    for operation, request in requests("a") + requests("b"):
        assert not allowed(getattr(dynamodb, operation), **request)


def test_leading_keys_of_every_item(world):
    dynamodb = world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **{"ForAllValues:StringEquals": LEADING}))
    own = [item("a", "1"), item("a", "2")]
    for keys, expected in ((own, True), ([*own, item("b")], False)):
        assert allowed(dynamodb.batch_get_item, RequestItems={TABLE: {"Keys": keys}}) is expected
        gets = [{"Get": {"TableName": TABLE, "Key": key}} for key in keys]
        assert allowed(dynamodb.transact_get_items, TransactItems=gets) is expected
        writes = [{"PutRequest": {"Item": key}} for key in keys]
        assert allowed(dynamodb.batch_write_item, RequestItems={TABLE: writes}) is expected


def test_scan_has_no_leading_keys(world):
    closed = {"ForAllValues:StringEquals": LEADING, "Null": {"dynamodb:LeadingKeys": "false"}}
    open_ = {"ForAllValues:StringEquals": LEADING}
    assert not allowed(world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **closed)).scan, TableName=TABLE)
    assert allowed(world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **open_)).scan, TableName=TABLE)


def test_leading_keys_of_an_index(world):
    by_owner = {"IndexName": "by-owner"}
    dynamodb = world.dynamodb("alice", allow("dynamodb:Query", f"{TABLE_ARN}/index/*", StringEquals=LEADING))
    own, other = query("#o = :v", v="a"), query("#o = :v", v="b")
    own["ExpressionAttributeNames"] = other["ExpressionAttributeNames"] = {"#o": "owner"}
    assert allowed(dynamodb.query, **own, **by_owner)
    assert not allowed(dynamodb.query, **other, **by_owner)
    assert not allowed(dynamodb.query, **query("source = :v", v="a"))


# --- KMS --------------------------------------------------------------------------------------------------------------

def test_encryption_context_keys(world):
    key = world.client("kms").create_key()["KeyMetadata"]["Arn"]
    kms = world.client("kms", world.session("alice", allow(["kms:Encrypt", "kms:Decrypt"], key, **{
        "StringEquals": {"kms:EncryptionContext:source": "${aws:PrincipalTag/read}"},
        "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["source"]}})))
    encrypt = functools.partial(allowed, kms.encrypt, KeyId=key, Plaintext=b"x")
    assert encrypt(EncryptionContext={"source": "a"})
    assert not encrypt(EncryptionContext={"source": "b"})
    assert not encrypt(EncryptionContext={"source": "a", "more": "x"})
    assert not encrypt()


# --- CloudWatch Logs --------------------------------------------------------------------------------------------------

def test_a_log_group_named_with_a_star_may_be_written_to(world):
    logs = world.client("logs")
    for group in ("/own", "/own-too"):
        logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:{REGION}:000000000000:log-group:"
    writer = world.client("logs", world.session("alice", allow(["logs:CreateLogStream"], f"{arn}/own:*")))
    assert allowed(writer.create_log_stream, logGroupName="/own", logStreamName="s")
    assert not allowed(writer.create_log_stream, logGroupName="/own-too", logStreamName="s")
    one = world.client("logs", world.session("alice", allow(["logs:PutLogEvents"], f"{arn}/own:log-stream:s")))
    events = [{"timestamp": int(time.time() * 1000), "message": "x"}]
    assert allowed(one.put_log_events, logGroupName="/own", logStreamName="s", logEvents=events)
    assert not allowed(one.put_log_events, logGroupName="/own", logStreamName="t", logEvents=events)


# --- Step Functions ---------------------------------------------------------------------------------------------------

def run(world, state, *statements):
    """The outcome of a state machine of this one state, under a role with these statements."""
    states = world.client("stepfunctions", inject_host_prefix=False)
    machine = states.create_state_machine(
        name=world.key("machine-"), type="EXPRESS", roleArn=world.role(*statements),
        definition=json.dumps({"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {**state, "End": True}}}),
    )["stateMachineArn"]
    return states.start_sync_execution(stateMachineArn=machine, input="{}")


def test_state_machine_acts_as_its_role(world):
    topic = world.client("sns").create_topic(Name="events")["TopicArn"]
    queue = world.client("sqs").create_queue(QueueName="events")["QueueUrl"]
    function = world.echo
    for task, arguments, action, resource, error in (
        ("dynamodb:putItem", {"TableName": TABLE, "Item": item("a", "m")}, "dynamodb:PutItem", TABLE_ARN,
         "DynamoDB.AmazonDynamoDBException"),
        ("sns:publish", {"TopicArn": topic, "Message": "m"}, "sns:Publish", topic, "SNS.AmazonSNSException"),
        ("sqs:sendMessage", {"QueueUrl": queue, "MessageBody": "m"}, "sqs:SendMessage",
         f"arn:aws:sqs:{REGION}:000000000000:events", "SQS.AmazonSQSException"),
        ("lambda:invoke", {"FunctionName": function, "Payload": {}}, "lambda:InvokeFunction", function,
         "Lambda.AWSLambdaException"),
    ):
        state = {"Type": "Task", "Resource": f"arn:aws:states:::{task}", "Arguments": arguments}
        outcome = run(world, state, allow(action, resource))
        assert outcome["status"] == "SUCCEEDED", outcome
        for statements in ((), (allow(action, resource + "-other"),), (allow("*", "*"), deny(action, resource))):
            outcome = run(world, state, *statements)
            assert (outcome["status"], outcome["error"]) == ("FAILED", error)
            assert f"is not authorized to perform: {action} on resource: {resource}" in outcome["cause"]


def test_leading_keys_of_a_state_machine(world):
    statement = allow("dynamodb:PutItem", TABLE_ARN, StringEquals={"dynamodb:LeadingKeys": "a"})
    for source, status in (("a", "SUCCEEDED"), ("b", "FAILED")):
        state = {"Type": "Task", "Resource": "arn:aws:states:::dynamodb:putItem",
                 "Arguments": {"TableName": TABLE, "Item": item(source, "m")}}
        assert run(world, state, statement)["status"] == status


@pytest.mark.parametrize("retrier, at_least, below", [
    ({"MaxAttempts": 2, "MaxDelaySeconds": 1, "BackoffRate": 5}, 2, 3),
    # Four random delays exceed 3.6 seconds once in a thousand runs.
    ({"MaxAttempts": 4, "BackoffRate": 1, "JitterStrategy": "FULL"}, 0, 4),
])
def test_retry_delay(world, retrier, at_least, below):
    state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
             "Arguments": {"FunctionName": world.echo, "Payload": {}},
             "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, **retrier}]}
    started = time.monotonic()
    assert run(world, state)["status"] == "FAILED"
    assert at_least <= time.monotonic() - started < below


# --- SQS --------------------------------------------------------------------------------------------------------------

def test_batch_actions(world):
    url = world.client("sqs").create_queue(QueueName="batches")["QueueUrl"]
    arn = world.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    send = {"QueueUrl": url, "Entries": [{"Id": "1", "MessageBody": "m"}]}
    sender = world.client("sqs", world.session("alice", allow("sqs:SendMessage", arn)))
    deleter = world.client("sqs", world.session("alice", allow("sqs:DeleteMessage", arn)))
    assert allowed(sender.send_message_batch, **send)
    assert not allowed(deleter.send_message_batch, **send)
    delete = {"QueueUrl": url, "Entries": [{"Id": "1", "ReceiptHandle": "r"}]}
    assert not allowed(sender.delete_message_batch, **delete)


def test_message_move_task(world):
    sqs = world.client("sqs")

    def queue(name, **attributes):
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    dead, dead_arn = queue("dead")
    work, work_arn = queue("work", VisibilityTimeout="0", RedrivePolicy=json.dumps(
        {"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1}))

    def receive(url):
        found = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"]).get("Messages", [])
        return [(message["Body"], message["Attributes"]["ApproximateReceiveCount"]) for message in found]

    sqs.send_message(QueueUrl=work, MessageBody="m")
    assert receive(work) == [("m", "1")]
    assert receive(work) == []
    mover = world.client("sqs", world.session("alice", allow("sqs:*MessageMoveTask*", dead_arn)))
    assert not allowed(mover.start_message_move_task, SourceArn=work_arn)
    with pytest.raises(ClientError, match="must be configured as a Dead Letter Queue"):
        sqs.start_message_move_task(SourceArn=work_arn)
    assert mover.start_message_move_task(SourceArn=dead_arn)["TaskHandle"]
    task, = mover.list_message_move_tasks(SourceArn=dead_arn)["Results"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 1)
    assert receive(dead) == []
    assert receive(work) == [("m", "1")]


# --- Identities -------------------------------------------------------------------------------------------------------

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


# --- User attributes --------------------------------------------------------------------------------------------------

def write(world, app, name, value="x"):
    token = world.sign_in("bob", app)["AccessToken"]
    return allowed(world.client("cognito-idp").update_user_attributes, AccessToken=token,
                   UserAttributes=[{"Name": name, "Value": value}])


def test_write_attributes_of_the_app_client(world):
    assert write(world, world.closed_app, "name")
    assert not write(world, world.closed_app, "custom:write", "a")
    assert not write(world, world.closed_app, "custom:read", "a")
    assert not write(world, world.closed_app, "email_verified", "true")
    found = world.client("cognito-idp").admin_get_user(UserPoolId=world.pool, Username="bob")["UserAttributes"]
    assert {"Name": "custom:write", "Value": "b"} in found
    assert {"Name": "name", "Value": "x"} in found


def test_app_client_without_write_attributes_writes_all_mutable_ones(world):
    assert write(world, world.open_app, "custom:write", "b")
    assert not write(world, world.open_app, "email_verified", "true")
    with pytest.raises(ClientError, match="cannot be updated"):
        write(world, world.open_app, "custom:fixed")


def test_access_token_must_be_genuine(world):
    token = world.sign_in("bob", world.open_app)["AccessToken"]
    header, _, signature = token.split(".")
    forged = ".".join((header, world.sign_in("alice", world.open_app)["AccessToken"].split(".")[1], signature))
    update = world.client("cognito-idp").update_user_attributes
    attributes = [{"Name": "name", "Value": "y"}]
    assert allowed(update, AccessToken=token, UserAttributes=attributes)
    assert not allowed(update, AccessToken=forged, UserAttributes=attributes)
    assert not allowed(update, AccessToken=world.sign_in("bob")["IdToken"], UserAttributes=attributes)


def test_access_token_of_a_deleted_app_client_writes_nothing(world):
    idp = world.client("cognito-idp")
    app = idp.create_user_pool_client(UserPoolId=world.pool, ClientName="gone", ExplicitAuthFlows=[
        "ALLOW_USER_PASSWORD_AUTH"])["UserPoolClient"]["ClientId"]
    assert write(world, app, "name")
    idp.delete_user_pool_client(UserPoolId=world.pool, ClientId=app)
    assert not write(world, app, "name")


def test_sign_up(world):
    def sign_up(app, **attributes):
        return allowed(world.client("cognito-idp").sign_up, ClientId=app, Username=world.key("new"), Password=PASSWORD,
                       UserAttributes=[{"Name": name.replace("_", ":"), "Value": value}
                                       for name, value in attributes.items()])
    assert sign_up(world.closed_app, name="New")
    assert not sign_up(world.closed_app, custom_write="a")
    assert sign_up(world.open_app, custom_write="a")
    assert not sign_up(world.invited_app)


# --- Sign-up and sign-in ----------------------------------------------------------------------------------------------

CODE = "123456"
RESET_CODE = "654321"
MADE_UP = "a session that nobody has"


class Pool:
    """A user pool that people sign up in, with a post-confirmation function that Cognito may call or not."""

    def __init__(self, world, callable_by_us=True, callable_by_others=False, **options):
        lambda_, self.idp = world.client("lambda"), world.client("cognito-idp")
        name = world.key("trigger-")
        function = lambda_.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=world.role(),
            Code={"ZipFile": zipped("bootstrap", TRIGGER)})["FunctionArn"]
        lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
        pool = self.idp.create_user_pool(
            PoolName=name, UsernameAttributes=["email"], AutoVerifiedAttributes=["email"],
            LambdaConfig={"PostConfirmation": function}, **options)["UserPool"]
        self.id = pool["Id"]
        for source, permitted in ((pool["Arn"], callable_by_us), (pool["Arn"] + "x", callable_by_others)):
            if permitted:
                lambda_.add_permission(FunctionName=name, StatementId=source.rpartition("/")[2], SourceArn=source,
                                       Action="lambda:InvokeFunction", Principal="cognito-idp.amazonaws.com")
        self.app = self.idp.create_user_pool_client(
            UserPoolId=self.id, ClientName="app", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"],
            AllowedOAuthFlows=["code"], AllowedOAuthScopes=["openid"], AllowedOAuthFlowsUserPoolClient=True,
            CallbackURLs=["http://localhost/callback"], SupportedIdentityProviders=["COGNITO"],
        )["UserPoolClient"]["ClientId"]

    def sign_up(self, name):
        self.idp.sign_up(ClientId=self.app, Username=name, Password=PASSWORD,
                         UserAttributes=[{"Name": "email", "Value": name}])

    def confirm(self, name, code=CODE):
        return self.idp.confirm_sign_up(ClientId=self.app, Username=name, ConfirmationCode=code)

    def user(self, name):
        found = self.idp.admin_get_user(UserPoolId=self.id, Username=name)
        return found["UserStatus"], {each["Name"]: each["Value"] for each in found["UserAttributes"]}

    def sign_in(self, name, password=PASSWORD):
        return self.idp.initiate_auth(ClientId=self.app, AuthFlow="USER_PASSWORD_AUTH",
                                      AuthParameters={"USERNAME": name, "PASSWORD": password})

    def respond(self, name, challenge, session, **responses):
        return self.idp.respond_to_auth_challenge(
            ClientId=self.app, ChallengeName=challenge, ChallengeResponses={"USERNAME": name, **responses},
            **({"Session": session} if session else {}))


def failure(call, *arguments, **named):
    """Code and message of the refusal."""
    with pytest.raises(ClientError) as error:
        call(*arguments, **named)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


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
    """The answer to what a SAML provider says of a user."""
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


def totp(secret):
    counter = struct.pack(">Q", int(time.time() // 30))
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    offset = digest[-1] & 15
    return f"{(struct.unpack_from('>I', digest, offset)[0] & 0x7fffffff) % 10**6:06}"


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


def test_identity_provider_in_a_template(world):
    template = {
        "Parameters": {"Minutes": {"Type": "Number", "Default": 10}, "Mapped": {"Type": "String", "Default": "mail"}},
        "Resources": {
            "Pool": {"Type": "AWS::Cognito::UserPool", "Properties": {"UserPoolName": "templated"}},
            "App": {"Type": "AWS::Cognito::UserPoolClient", "Properties": {
                "UserPoolId": {"Ref": "Pool"}, "IdTokenValidity": {"Ref": "Minutes"},
                "TokenValidityUnits": {"IdToken": "minutes"}, "SupportedIdentityProviders": [{"Ref": "Provider"}]}},
            "Provider": {"Type": "AWS::Cognito::UserPoolIdentityProvider", "Properties": {
                "UserPoolId": {"Ref": "Pool"}, "ProviderName": "institute", "ProviderType": "SAML",
                "ProviderDetails": {"MetadataURL": "https://idp.example/metadata"},
                "AttributeMapping": {"email": {"Ref": "Mapped"}}}}},
        "Outputs": {"Pool": {"Value": {"Ref": "Pool"}}, "App": {"Value": {"Ref": "App"}}}}
    cloudformation, idp = world.client("cloudformation"), world.client("cognito-idp")
    cloudformation.create_stack(StackName="templated", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="templated", WaiterConfig={"Delay": 1})
    outputs = {output["OutputKey"]: output["OutputValue"]
               for output in cloudformation.describe_stacks(StackName="templated")["Stacks"][0]["Outputs"]}
    app = idp.describe_user_pool_client(UserPoolId=outputs["Pool"], ClientId=outputs["App"])["UserPoolClient"]
    assert (app["IdTokenValidity"], app["SupportedIdentityProviders"]) == (10, ["institute"])

    def mapping():
        return idp.describe_identity_provider(UserPoolId=outputs["Pool"], ProviderName="institute")[
            "IdentityProvider"]["AttributeMapping"]

    assert mapping() == {"email": "mail"}
    cloudformation.update_stack(StackName="templated", UsePreviousTemplate=True,
                                Parameters=[{"ParameterKey": "Mapped", "ParameterValue": "email"}])
    cloudformation.get_waiter("stack_update_complete").wait(StackName="templated", WaiterConfig={"Delay": 1})
    assert mapping() == {"email": "email"}
    del template["Resources"]["Provider"], template["Resources"]["App"], template["Outputs"]["App"]
    cloudformation.update_stack(StackName="templated", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_update_complete").wait(StackName="templated", WaiterConfig={"Delay": 1})
    assert failure(mapping)[0] == "ResourceNotFoundException"


def test_origins_in_a_template(world):
    template = {"Resources": {"Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {
                    "Name": "templated", "ProtocolType": "HTTP",
                    "CorsConfiguration": {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"]}}},
                "Stage": {"Type": "AWS::ApiGatewayV2::Stage", "Properties": {
                    "ApiId": {"Ref": "Api"}, "StageName": "$default", "AutoDeploy": True}}},
                "Outputs": {"Api": {"Value": {"Ref": "Api"}}}}
    cloudformation = world.client("cloudformation")
    cloudformation.create_stack(StackName="origins", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="origins", WaiterConfig={"Delay": 1})
    api = cloudformation.describe_stacks(StackName="origins")["Stacks"][0]["Outputs"][0]["OutputValue"]

    def allowed_origin(origin):
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"), timeout=5)
        connection.request("OPTIONS", f"/_aws/execute-api/{api}/x", headers={
            "Origin": origin, "Access-Control-Request-Method": "GET"})
        return connection.getresponse().getheader("Access-Control-Allow-Origin")

    assert allowed_origin("https://a.example") == "https://a.example"
    assert allowed_origin("https://b.example") is None


# --- API Gateway ------------------------------------------------------------------------------------------------------

def ask(world, api, path, token=None):
    """Status and, of a 200, what the authorizer wrote down."""
    connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"), timeout=30)
    connection.request("GET", f"/_aws/execute-api/{api}{path}", headers={"Authorization": token} if token else {})
    answer = connection.getresponse()
    body = answer.read()
    return (200, json.loads(body)) if answer.status == 200 else (answer.status, None)


def uri(arn):
    return f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"


def rest_api(sources, ttl):
    """A REST API with the resources a and b behind a REQUEST authorizer with these identity sources."""
    def resource(part):
        return {"Type": "AWS::ApiGateway::Resource", "Properties": {
            "RestApiId": {"Ref": "Api"}, "ParentId": {"Fn::GetAtt": ["Api", "RootResourceId"]}, "PathPart": part}}

    def method(part):
        return {"Type": "AWS::ApiGateway::Method", "Properties": {
            "RestApiId": {"Ref": "Api"}, "ResourceId": {"Ref": part}, "HttpMethod": "GET", "AuthorizationType": "CUSTOM",
            "AuthorizerId": {"Ref": "Authorizer"},
            "Integration": {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": {"Ref": "Behind"}}}}

    return {
        "Parameters": {"Ask": {"Type": "String"}, "Behind": {"Type": "String"}, "Ttl": {"Type": "Number", "Default": ttl}},
        "Resources": {
            "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "clinic"}},
            "A": resource("a"), "B": resource("b"), "GetA": method("A"), "GetB": method("B"),
            "Authorizer": {"Type": "AWS::ApiGateway::Authorizer", "Properties": {
                "RestApiId": {"Ref": "Api"}, "Name": "ask", "Type": "REQUEST", "AuthorizerUri": {"Ref": "Ask"},
                "IdentitySource": sources, "AuthorizerResultTtlInSeconds": {"Ref": "Ttl"}}},
            "Deployment": {"Type": "AWS::ApiGateway::Deployment", "DependsOn": ["GetA", "GetB"], "Properties": {
                "RestApiId": {"Ref": "Api"}}},
            "Stage": {"Type": "AWS::ApiGateway::Stage", "Properties": {
                "RestApiId": {"Ref": "Api"}, "DeploymentId": {"Ref": "Deployment"}, "StageName": "dev"}}},
        "Outputs": {"Api": {"Value": {"Ref": "Api"}}, "Authorizer": {"Value": {"Ref": "Authorizer"}}}}


@pytest.fixture(scope="session")
def functions(world):
    """URIs of an authorizer and of what is behind it."""
    return {"Ask": uri(world.function("ask", AUTHORIZER)), "Behind": uri(world.function("behind", BEHIND))}


def test_a_rest_apis_authorizer_is_asked_for_each_path_and_caller(world, functions):
    template = rest_api("method.request.header.Authorization,context.path,context.httpMethod", ttl=300)
    outputs = world.deploy("rest", template, **functions)
    get = functools.partial(ask, world, outputs["Api"])
    assert get("/dev/a") == (401, None), "no header"
    status, first = get("/dev/a", "a")
    assert (status, first["principalId"]) == (200, "a")
    assert get("/dev/a", "a") == (200, first), "the same answer, from the cache"
    status, other = get("/dev/b", "a")
    assert status == 200 and other != first, "another path asks again"
    assert get("/dev/a", "b") == (403, None)
    assert get("/dev/a", "a") == (200, first)
    authorizer = world.client("apigateway").get_authorizer(
        restApiId=outputs["Api"], authorizerId=outputs["Authorizer"])
    assert authorizer["authorizerResultTtlInSeconds"] == 300, "a number"
    # With the caller alone for a key, the answer for one path would be that for the other: refused, as on AWS.
    template["Resources"]["Authorizer"]["Properties"]["IdentitySource"] = "method.request.header.Authorization"
    world.deploy("rest", template, **functions, Ttl="200")
    assert [get("/dev/a", "a")[0], get("/dev/b", "a")[0]] == [200, 403]
    assert world.client("apigateway").get_authorizer(
        restApiId=outputs["Api"], authorizerId=outputs["Authorizer"])["authorizerResultTtlInSeconds"] == 200


def test_an_http_apis_routes_change_their_authorizer(world, functions):
    """No patch: what a parameter that chooses the authorizer rests on."""
    is_jwt = {"Fn::Equals": [{"Ref": "Authorization"}, "jwt"]}

    def route(path):
        return {"Type": "AWS::ApiGatewayV2::Route", "Properties": {
            "ApiId": {"Ref": "Api"}, "RouteKey": f"GET /{path}", "Target": {"Fn::Sub": "integrations/${Integration}"},
            "AuthorizationType": {"Fn::If": ["IsJwt", "JWT", "CUSTOM"]},
            "AuthorizerId": {"Fn::If": ["IsJwt", {"Ref": "Jwt"}, {"Ref": "Request"}]}}}

    template = {
        "Parameters": {"Ask": {"Type": "String"}, "Behind": {"Type": "String"}, "Ttl": {"Type": "Number", "Default": 300},
                       "Authorization": {"Type": "String"}},
        "Conditions": {"IsJwt": is_jwt, "IsRequest": {"Fn::Not": [is_jwt]}},
        "Resources": {
            "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "lake", "ProtocolType": "HTTP"}},
            "Stage": {"Type": "AWS::ApiGatewayV2::Stage", "Properties": {
                "ApiId": {"Ref": "Api"}, "StageName": "$default", "AutoDeploy": True}},
            "Integration": {"Type": "AWS::ApiGatewayV2::Integration", "Properties": {
                "ApiId": {"Ref": "Api"}, "IntegrationType": "AWS_PROXY", "IntegrationUri": {"Ref": "Behind"},
                "PayloadFormatVersion": "2.0"}},
            "Jwt": {"Type": "AWS::ApiGatewayV2::Authorizer", "Condition": "IsJwt", "Properties": {
                "ApiId": {"Ref": "Api"}, "Name": "jwt", "AuthorizerType": "JWT",
                "IdentitySource": ["$request.header.Authorization"],
                "JwtConfiguration": {"Audience": [world.closed_app], "Issuer": f"https://{world.provider}"}}},
            "Request": {"Type": "AWS::ApiGatewayV2::Authorizer", "Condition": "IsRequest", "Properties": {
                "ApiId": {"Ref": "Api"}, "Name": "ask", "AuthorizerType": "REQUEST", "AuthorizerUri": {"Ref": "Ask"},
                "AuthorizerPayloadFormatVersion": "2.0", "EnableSimpleResponses": True,
                "AuthorizerResultTtlInSeconds": {"Ref": "Ttl"},
                "IdentitySource": ["$request.header.Authorization", "$context.routeKey", "$context.path"]}},
            "GetA": route("a"), "GetB": route("b"), "GetAny": route("any/{name}")},
        "Outputs": {"Api": {"Value": {"Ref": "Api"}}}}
    api = world.deploy("http", template, **functions, Authorization="unified")["Api"]
    get, token = functools.partial(ask, world, api), world.sign_in("alice")["IdToken"]

    def unified():
        assert get("/a")[0] == 401
        status, first = get("/a", "a")
        assert status == 200
        assert get("/a", "a") == (200, first), "the same answer, from the cache"
        seen = [first["lambda"]["asked"], *(get(path, "a")[1]["lambda"]["asked"] for path in ("/b", "/any/a", "/any/b"))]
        assert len(set(seen)) == 4, "each route and each path asks for itself"
        assert get("/a", "b")[0] == 403
        assert get("/a", token)[0] == 403
        [authorizer] = world.client("apigatewayv2").get_authorizers(ApiId=api)["Items"]
        assert authorizer["AuthorizerResultTtlInSeconds"] == 300, "a number"

    unified()
    assert world.deploy("http", template, **functions, Authorization="jwt")["Api"] == api
    assert get("/a", "a")[0] == 401
    assert get("/a", token)[1]["jwt"]["claims"]["custom:read"] == "a"
    assert [get(path, f"{token}x")[0] for path in ("/a", "/b", "/any/a")] == [401, 401, 401]
    world.deploy("http", template, **functions, Authorization="unified")
    unified()


# --- Latency ----------------------------------------------------------------------------------------------------------

def test_invocation_does_not_wait(world):
    lambda_, function = world.client("lambda"), world.echo
    times = []
    for _ in range(12):
        started = time.monotonic()
        answer = lambda_.invoke(FunctionName=function, Payload=b"{}")
        times.append(time.monotonic() - started)
        assert "FunctionError" not in answer, answer["Payload"].read()
    assert sorted(times)[len(times) // 4] < 0.040
