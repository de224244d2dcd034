"""The revocation endpoint and the icon beside the sign-in pages."""

import http.client
import json
import urllib.parse

from .test_support import Pool, allowed


def revoke(world, **form):
    connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
    connection.request("POST", "/oauth2/revoke", urllib.parse.urlencode(form),
                       {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}").get("error")


def test_a_refresh_token_is_taken_back_by_its_own_client_alone(world):
    pool, other = Pool(world), Pool(world)
    pool.sign_up("jane@a.example")
    pool.confirm("jane@a.example")
    tokens = pool.sign_in("jane@a.example")["AuthenticationResult"]

    def refresh():
        return allowed(pool.idp.initiate_auth, ClientId=pool.app, AuthFlow="REFRESH_TOKEN_AUTH",
                       AuthParameters={"REFRESH_TOKEN": tokens["RefreshToken"]})

    assert refresh()
    assert revoke(world, client_id=pool.app) == (400, "invalid_request")
    assert revoke(world, client_id="nobody", token=tokens["RefreshToken"]) == (400, "invalid_client")
    assert revoke(world, client_id=pool.app, token=tokens["AccessToken"]) == (400, "unsupported_token_type")
    assert revoke(world, client_id=other.app, token=tokens["RefreshToken"]) == (200, None)
    assert refresh(), "another client revoked it"
    assert revoke(world, client_id=pool.app, token=tokens["RefreshToken"]) == (200, None)
    assert not refresh()
    assert revoke(world, client_id=pool.app, token="a token that nobody has") == (200, None)


def test_a_browser_that_asks_for_an_icon_gets_no_error(world):
    connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
    connection.request("GET", "/favicon.ico")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (204, b"")
