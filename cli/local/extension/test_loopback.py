"""Who may talk to the local AWS: hosts, origins, and its administration."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from .loopback import is_own_host, is_own_origin
from .test_support import PAGE, ROOT

ADMINISTRATION = [
    ("POST", "/_ministack/reset"), ("POST", "/_ministack/config"), ("GET", "/_ministack/ready"),
    ("GET", "/_ministack/ses/messages"), ("GET", "/_ministack/sqs/messages"), ("GET", "/_ministack/sns/sms-messages"),
    ("GET", "/_ministack/lambda-code/echo"), ("GET", "/_ministack/lambda-layers/x/1/content"),
    ("PUT", "/_ministack/cfn-response/x"), ("PUT", "/_ministack/cfn-signal/x"), ("POST", "/_ministack/eks-auth/x"),
    ("GET", "/_ministack/rds/iam-auth"), ("GET", "/_ministack/rds/ca.pem"), ("GET", "/_ministack/transfer/sftp-ports"),
    ("GET", "/_localstack/init"), ("GET", "/_alb/x"),
]


def ask(world, method, path, **headers):
    """Status, headers and body of an answer; Host is sent as given."""
    place = urlsplit(world.endpoint)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in names)
    for name, value in {**names, "Content-Length": "0"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def own(world, name="127.0.0.1"):
    return f"{name}:{urlsplit(world.endpoint).port}"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "bucket.s3.localhost", "[::1]"])
def test_own_hosts_are_served(world, name):
    assert ask(world, "GET", "/_ministack/health", Host=own(world, name))[0] == 200


def test_other_hosts_are_not(world):
    # Hosts that a page would send whose owner points its name at 127.0.0.1, and hosts that only look like ours.
    for host in (own(world, "rebound.example"), own(world, "localhost.example"), own(world, "127.0.0.1.example"),
                 own(world, "192.0.2.1"), "127.0.0.1", "127.0.0.1:1", "", own(world, "x@127.0.0.1")):
        status, headers, body = ask(world, "GET", "/_ministack/health", Host=host)
        assert status in (400, 403) and b"services" not in body, host
        assert "access-control-allow-origin" not in headers


def test_pages_of_other_origins_are_refused(world):
    for origin in ("https://elsewhere.example", "http://127.0.0.1:1", "http://localhost", "null", "file://",
                   f"https://{own(world)}", f"http://{own(world, 'localhost.example')}", PAGE + "0"):
        for method, path in (("GET", "/_ministack/health"), ("POST", "/"), ("OPTIONS", "/"), ("GET", "/oauth2/authorize")):
            status, headers, _ = ask(world, method, path, Origin=origin)
            assert status == 403 and "access-control-allow-origin" not in headers, (origin, method, path)


def test_own_pages_and_those_of_the_deployment_are_served(world):
    for origin in (f"http://{own(world)}", f"http://{own(world, 'localhost')}", PAGE):
        assert ask(world, "GET", "/_ministack/health", Origin=origin)[0] == 200
        # Without a client, the sign-in pages of Cognito report an error, but they are not refused.
        assert ask(world, "GET", "/oauth2/authorize", Origin=origin)[0] != 403
        assert ask(world, "OPTIONS", "/", Origin=origin)[0] == 200


def test_a_preflight_is_told_its_headers(world):
    def told(**more):
        return ask(world, "OPTIONS", "/", Origin=PAGE, **more)[1].get("access-control-allow-headers")

    assert told(Access_Control_Request_Headers="authorization,x-amz-target") == "authorization,x-amz-target"
    assert told() == "*"


def test_an_allowed_page_may_read_a_refusal(world):
    def told(origin):
        status, headers, _ = ask(world, "POST", "/", Origin=origin, X_Amz_Target="DynamoDB_20120810.GetItem",
                                 Authorization="AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/dynamodb/aws4_request, "
                                                       "SignedHeaders=host, Signature=00")
        return status, headers.get("access-control-allow-origin")

    assert told(PAGE) == (400, PAGE)
    assert told("https://elsewhere.example") == (403, None)


def test_a_providers_page_may_send_its_user_back(world):
    for path in ("/saml2/idpresponse", "/oauth2/idpresponse"):
        assert b"another origin" not in ask(world, "POST", path, Origin="https://idp.example")[2]
    assert b"another origin" in ask(world, "POST", "/saml2/idpresponse/x", Origin="https://idp.example")[2]


def test_what_a_page_loads_without_an_origin_is_refused_and_a_link_is_not(world):
    def asked(**fetch):
        return ask(world, "GET", "/_ministack/health", **{f"Sec_Fetch_{name}": value for name, value in fetch.items()})[0]

    for site in ("cross-site", "same-site"):
        assert asked(Site=site, Mode="no-cors", Dest="image") == 403
        assert asked(Site=site, Mode="navigate", Dest="iframe") == 403
        assert asked(Site=site, Mode="navigate", Dest="document") == 200
    assert asked(Site="same-origin", Mode="no-cors", Dest="image") == 200
    assert asked(Site="none", Mode="navigate", Dest="document") == 200


def test_health_is_open(world):
    for path in ("/_ministack/health", "/_localstack/health", "/health"):
        status, _, body = ask(world, "GET", path)
        assert status == 200 and json.loads(body)["auth"] == "enabled"


@pytest.mark.parametrize("method, path", ADMINISTRATION)
def test_administration_is_closed(world, method, path):
    for authorization in ({}, {"Authorization": "Bearer test"}, {"Authorization": f"Bearer {ROOT[0]}"}, {"Authorization": ""}):
        status, _, body = ask(world, method, path, **authorization)
        assert status == 403 and b"administration" in body, (authorization, body)


def test_administration_opens_to_the_roots_secret(world):
    status, _, body = ask(world, "GET", "/_ministack/ses/messages", Authorization=f"Bearer {ROOT[1]}")
    assert status == 200 and "messages" in json.loads(body)


def test_a_websocket_of_another_origin_is_refused(world):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
               "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert ask(world, "GET", "/_aws/execute-api/x/y", Origin="https://elsewhere.example", **upgrade)[0] == 403


def test_hosts_and_origins_are_read_strictly():
    assert is_own_host("127.0.0.2:80", 80) and is_own_origin("http://localhost:80", 80, ())
    for host in ("127.0.0.1:80/x", "127.0.0.1:", "127.0.0.1:8O", "::1:80", "localhost.:80", "127.1:80"):
        assert not is_own_host(host, 80), host
    assert not is_own_origin("http://127.0.0.1:80/", 80, ()) and not is_own_origin("", 80, ())
