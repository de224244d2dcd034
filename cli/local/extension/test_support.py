"""The account that the tests of this package use: users, their sessions, a bucket, a table, policies."""

import base64
import contextlib
import functools
import hmac
import http.client
import io
import itertools
import json
import os
import pathlib
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

# The command that starts the extension, and the folder of its package.
EXTENSION = [sys.executable, "-P", "-m", "extension"]
FOLDER = pathlib.Path(__file__).parents[1]
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
    host, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
    api = http.client.HTTPConnection(host)
    while True:
        api.request("GET", f"/{{path}}/2018-06-01/runtime/invocation/next")
        event = api.getresponse()
        event.read()
        api.request("POST", f"/{{path}}/2018-06-01/runtime/invocation/{{event.getheader('Lambda-Runtime-Aws-Request-Id')}}"
                    "/response", body=b"{{}}")
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


# The root of the local AWS, and the origin of a page that may send requests.
ROOT = ("AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))
PAGE = "http://localhost:8080"


@contextlib.contextmanager
def credentials_file():
    with tempfile.NamedTemporaryFile("w", prefix="root-") as file:
        file.write(f"[default]\naws_access_key_id = {ROOT[0]}\naws_secret_access_key = {ROOT[1]}\n")
        file.flush()
        yield file.name


@contextlib.contextmanager
def local_aws():
    """Run the extension on a free port in a process group of its own, and end the whole group."""
    with credentials_file() as credentials:
        yield from running(credentials)


def running(credentials):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**inherited, "AUTH": "true", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port),
                   "PYTHONPATH": str(FOLDER), "AWS_ENDPOINT_URL": endpoint, "LOCAL_CREDENTIALS": credentials,
                   "LOCAL_ORIGINS": PAGE, "IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
    process = subprocess.Popen(EXTENSION, env=environment, start_new_session=True,
                               stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
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
        self.root = boto3.Session(*ROOT, region_name=REGION)
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
    """Whether the request is authorized. A failure for another reason is an error of the test."""
    try:
        call(**arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        # A HEAD answer has no body with the reason, and a cancelled transaction has the reason in its message.
        if code in REFUSALS or code == "403":
            return False
        raise
    return True


def encoded(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def tagged(name, value):
    return allow("s3:ListBucket", OBJECT, StringEquals={f"aws:PrincipalTag/{name}": value})


def administer(world, method, path, content, session=None):
    """The answer of the local AWS to a request of its own administration: status and content."""
    credentials = (session or world.root).get_credentials()
    request = AWSRequest(method, f"{world.endpoint}{path}", data=json.dumps(content).encode())
    SigV4Auth(credentials, "sluice", REGION).add_auth(request)
    made = urllib.request.Request(request.url, request.data, dict(request.headers), method=method)
    try:
        with urllib.request.urlopen(made) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def failure(call, *arguments, **named):
    """Code and message of the refusal."""
    with pytest.raises(ClientError) as error:
        call(*arguments, **named)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def query(expression, **values):
    return {"TableName": TABLE, "KeyConditionExpression": expression,
            "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()}}


def tag_set(**tags):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


TABLE_ARN = f"arn:aws:dynamodb:{REGION}:000000000000:table/{TABLE}"
LEADING = {"dynamodb:LeadingKeys": "${aws:PrincipalTag/read}"}


def rule(role, claim="sub", match="StartsWith", value="a"):
    return {"Claim": claim, "MatchType": match, "Value": value, "RoleARN": role}


def mapping(*rules, otherwise="Deny"):
    return {"Type": "Rules", "AmbiguousRoleResolution": otherwise, "RulesConfiguration": {"Rules": list(rules)}}


def name_of(arn):
    return arn.rpartition("/")[2]


def program(answer):
    """The bootstrap of a function. `answer` is a line of Python that sets `kind` (response or error) and `body` from the event's `text`."""
    return f"""#!{sys.executable}
import http.client, json, os
host, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
api = http.client.HTTPConnection(host)
while True:
    api.request("GET", f"/{{path}}/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    text, request = event.read(), event.getheader("Lambda-Runtime-Aws-Request-Id")
    {answer}
    api.request("POST", f"/{{path}}/2018-06-01/runtime/invocation/{{request}}/{{kind}}", body=body)
    api.getresponse().read()
"""


# A post-confirmation function. For an address that should fail, it fails with the event as its message.
TRIGGER = program(
    'kind, body = ("error", json.dumps({"errorMessage": text.decode(), "errorType": "Failing"}).encode()) '
    'if json.loads(text)["request"]["userAttributes"]["email"].startswith("failing") else ("response", text)')
CODE = "123456"
RESET_CODE = "654321"


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


def totp(secret):
    counter = struct.pack(">Q", int(time.time() // 30))
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    offset = digest[-1] & 15
    return f"{(struct.unpack_from('>I', digest, offset)[0] & 0x7fffffff) % 10**6:06}"
