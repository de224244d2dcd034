"""User pools: what stands beside the sign-in pages, the revocation endpoint and their icon."""

import json
from urllib.parse import parse_qs

from .replacing import wrap


def revocation_endpoint():
    """POST /oauth2/revoke revokes a refresh token, and with it the tokens that came from it.

    AWS, "The revoke endpoint": token and client_id in a form; 200 with an empty body; only refresh tokens; without a
    token invalid_request, and for an unknown client invalid_client. MiniStack has the same as the action RevokeToken.
    A token of another client stays valid, and the answer is the one for an unknown token (RFC 7009, 2.2).
    """
    from ministack import app
    from ministack.services import cognito

    def answer(status, **members):
        body = json.dumps(members).encode() if members else b""
        return status, {"Content-Type": "application/json", "Cache-Control": "no-store"}, body

    def revoke(body):
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        token, client_id = form.get("token", ""), form.get("client_id", "")
        if not token:
            return answer(400, error="invalid_request")
        if not cognito._find_pool_by_client_id(client_id)[2]:
            return answer(400, error="invalid_client")
        claims = cognito._token_claims(token)
        if claims and claims.get("token_use") != "refresh":
            return answer(400, error="unsupported_token_type")
        owner = cognito._refresh_tokens.get(token, {}).get("client_id") or claims.get("client_id")
        if owner == client_id:
            cognito._revoke_token({"Token": token, "ClientId": client_id})
        return answer(200)

    def make(original):
        async def handle_cognito_body_request(method, path, headers, body, query_params):
            if (method, path) == ("POST", "/oauth2/revoke"):
                return revoke(body)
            return await original(method, path, headers, body, query_params)
        return handle_cognito_body_request

    wrap(app, "_handle_cognito_body_request", make)


def icon_of_pages():
    """GET /favicon.ico, which a browser asks for beside a sign-in page, is no error: 204, no icon.

    AWS's pages have an icon. MiniStack takes the path for a bucket of S3 and refuses, which the browser logs as an error
    of the page.
    """
    from ministack import app

    def make(original):
        async def handle_cognito_get_request(method, path, headers, query_params):
            if (method, path) == ("GET", "/favicon.ico"):
                return 204, {"Cache-Control": "no-store"}, b""
            return await original(method, path, headers, query_params)
        return handle_cognito_get_request

    wrap(app, "_handle_cognito_get_request", make)
