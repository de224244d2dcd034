"""The identity sources of an authorizer, routes that IAM authorizes, and an API's CORS settings."""

import functools
import http.client
import json
import sys

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from .test_support import PAGE, REGION, allow

# An authorizer of an API. It allows the caller "a" the requested action and nothing else, and counts its calls in the
# API's context.
AUTHORIZER = f"""#!{sys.executable}
import http.client, json, os
host, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
api, asked = http.client.HTTPConnection(host), 0
while True:
    api.request("GET", f"/{{path}}/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    event, request, asked = json.loads(answer.read()), answer.getheader("Lambda-Runtime-Aws-Request-Id"), asked + 1
    may = {{name.lower(): value for name, value in event["headers"].items()}}["authorization"] == "a"
    statement = {{"Effect": "Allow" if may else "Deny", "Action": "execute-api:Invoke", "Resource": event.get("methodArn")}}
    body = {{"isAuthorized": may, "context": {{"asked": str(asked)}}}} if "routeKey" in event else {{
        "principalId": "a", "context": {{"asked": str(asked)}},
        "policyDocument": {{"Version": "2012-10-17", "Statement": [statement]}}}}
    api.request("POST", f"/{{path}}/2018-06-01/runtime/invocation/{{request}}/response", body=json.dumps(body).encode())
    api.getresponse().read()
"""
# The function behind an API: answers with the context of the authorizer.
BEHIND = f"""#!{sys.executable}
import http.client, json, os
host, _, path = os.environ["AWS_LAMBDA_RUNTIME_API"].removeprefix("http://").partition("/")
api = http.client.HTTPConnection(host)
while True:
    api.request("GET", f"/{{path}}/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    event, request = json.loads(answer.read()), answer.getheader("Lambda-Runtime-Aws-Request-Id")
    body = json.dumps({{"statusCode": 200, "body": json.dumps(event["requestContext"].get("authorizer"))}})
    api.request("POST", f"/{{path}}/2018-06-01/runtime/invocation/{{request}}/response", body=body.encode())
    api.getresponse().read()
"""


def test_origins_in_a_template(world):
    template = {"Resources": {"Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {
                    "Name": "templated", "ProtocolType": "HTTP",
                    "CorsConfiguration": {"AllowOrigins": [PAGE], "AllowMethods": ["GET"]}}},
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

    own = world.endpoint
    assert allowed_origin(PAGE) == PAGE
    assert allowed_origin(own) is None


def ask(world, api, path, token=None):
    """The status, and for a 200 the context of the authorizer."""
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
    """The URIs of an authorizer and of the function behind it."""
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
    # If only the caller is the key, one path would get the other's cached answer: it is refused, as on AWS.
    template["Resources"]["Authorizer"]["Properties"]["IdentitySource"] = "method.request.header.Authorization"
    world.deploy("rest", template, **functions, Ttl="200")
    assert [get("/dev/a", "a")[0], get("/dev/b", "a")[0]] == [200, 403]
    assert world.client("apigateway").get_authorizer(
        restApiId=outputs["Api"], authorizerId=outputs["Authorizer"])["authorizerResultTtlInSeconds"] == 200


def test_an_http_apis_routes_change_their_authorizer(world, functions):
    """Not a patch: the parameter that chooses the authorizer relies on this."""
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


def test_an_http_apis_route_is_authorized_by_iam(world, functions):
    template = {
        "Parameters": {"Ask": {"Type": "String"}, "Behind": {"Type": "String"}},
        "Resources": {
            "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "tenants", "ProtocolType": "HTTP"}},
            "Stage": {"Type": "AWS::ApiGatewayV2::Stage", "Properties": {
                "ApiId": {"Ref": "Api"}, "StageName": "$default", "AutoDeploy": True}},
            "Integration": {"Type": "AWS::ApiGatewayV2::Integration", "Properties": {
                "ApiId": {"Ref": "Api"}, "IntegrationType": "AWS_PROXY", "IntegrationUri": {"Ref": "Behind"},
                "PayloadFormatVersion": "2.0"}},
            "Route": {"Type": "AWS::ApiGatewayV2::Route", "Properties": {
                "ApiId": {"Ref": "Api"}, "RouteKey": "GET /of/{tenant}/x", "AuthorizationType": "AWS_IAM",
                "Target": {"Fn::Sub": "integrations/${Integration}"}}}},
        "Outputs": {"Api": {"Value": {"Ref": "Api"}}}}
    api = world.deploy("iam-routes", template, **functions)["Api"]
    may = allow("execute-api:Invoke", f"arn:aws:execute-api:{REGION}:000000000000:{api}/$default/GET/of/${{aws:PrincipalTag/read}}/x")
    session = world.session("alice", may)

    def get(path, session=None, **headers):
        url = f"{world.endpoint}/_aws/execute-api/{api}{path}"
        request = AWSRequest("GET", url, headers=headers)
        if session:
            SigV4Auth(session.get_credentials(), "execute-api", REGION).add_auth(request)
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"), timeout=30)
        connection.request("GET", url.removeprefix(world.endpoint), headers=dict(request.headers))
        answer = connection.getresponse()
        body = json.loads(answer.read() or b"null")
        return (200, body["iam"]) if answer.status == 200 else (answer.status, None)

    status, caller = get("/of/a/x", session)
    assert status == 200 and caller["cognitoIdentity"]["identityPoolId"] == world.identity_pool
    for path in ("/of/b/x", "/of/A/x", "/of/*/x", "/of/a/../b/x", "/of/a%2F..%2Fb/x", "/of//b/x", "//of/b/x", "/of/%62/x"):
        assert get(path, session) == (403, None), path
    for path in ("/of/a/x", "/of/b/x"):
        status, root = get(path, world.root)
        assert status == 200 and root["userArn"].endswith(":root")
    assert get("/of/a/x", world.session("bob", may)) == (403, None)
    assert get("/of/a/x", world.session("blank", may)) == (403, None)
    assert get("/of/a/x", world.session("alice")) == (403, None), "without the permission"
    token = world.sign_in("alice")["IdToken"]
    for headers in ({}, {"Authorization": token}, {"Authorization": f"Bearer {token}"}, {"Authorization": "AWS4-HMAC-SHA256 x"}):
        assert get("/of/a/x", **headers) == (403, None), headers
    key = session.get_credentials()
    forged = boto3.Session(key.access_key, "not the secret", key.token, region_name=REGION)
    assert get("/of/a/x", forged) == (403, None)
