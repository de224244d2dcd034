"""Who may talk to the local AWS: loopback is no boundary.

A web page in the developer's browser reaches 127.0.0.1, and so does every other user of the machine. AWS has neither
problem: no browser runs beside it, its keys are secrets, and it has no administration without authentication.
"""

import hmac
import ipaddress
import json
import os
from urllib.parse import urlsplit

from .replacing import wrap

HEALTH = ("/_ministack/health", "/_localstack/health", "/health")
# Addresses that stand for services of AWS (an API's stage, the URL of a function), and the one that `faults` signs
# for itself.
SERVICES = ("/_aws/execute-api/", "/_aws/lambda-url/", "/_sluice/")
# Addresses to which the page of an identity provider sends its user back, with its answer. The origin is another one
# by design.
ANSWERS_OF_PROVIDERS = ("/saml2/idpresponse", "/oauth2/idpresponse")


def is_own_host(host, port):
    """Whether a Host names this server: a loopback address or localhost, with our port.

    Another name does not count even if its DNS points at 127.0.0.1, so no page under such a name shares our origin.
    """
    try:
        parts = urlsplit(f"//{host}")
        name, given = parts.hostname or "", parts.port
    except ValueError:
        return False
    if given != port or parts.path or parts.username is not None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_own_origin(origin, port, others):
    """Whether a page of this origin may send requests: our own, as for the hosted sign-in, or one that the deployment lists."""
    if origin in others:
        return True
    scheme, _, host = origin.partition("://")
    return scheme == "http" and is_own_host(host, port)


def refusal(scope, port, others, secret):
    """The reason for a refusal, or None."""
    def values(name):
        return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]

    hosts, origins, path = values(b"host"), values(b"origin"), scope["path"]
    if len(hosts) != 1 or not is_own_host(hosts[0], port):
        return "the request's Host is not this machine's loopback interface"
    if path not in ANSWERS_OF_PROVIDERS and not all(is_own_origin(origin, port, others) for origin in origins):
        return "the request comes from a web page of another origin"
    # A page of another origin loads pictures, scripts and frames without an Origin; the browser sends these headers
    # instead.
    site, mode, destination = values(b"sec-fetch-site"), values(b"sec-fetch-mode"), values(b"sec-fetch-dest")
    if not origins and set(site) & {"cross-site", "same-site"} and (mode != ["navigate"] or destination != ["document"]):
        return "the request comes from a web page of another origin"
    if path.startswith("/_") and path not in HEALTH and not path.startswith(SERVICES):
        if not any(hmac.compare_digest(given.encode(), f"Bearer {secret}".encode()) for given in values(b"authorization")):
            return "the administration of the local AWS is closed but for its health"
    return None


def readable(send, origin):
    """Lets a page of this origin read the answer. AWS's services name the origin on refusals too, MiniStack only on other answers."""
    async def tell(message):
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            if all(name.lower() != b"access-control-allow-origin" for name, _ in headers):
                message = {**message, "headers": [*headers, (b"access-control-allow-origin", origin)]}
        await send(message)
    return tell


def naming(send, wanted):
    """Names the headers that a preflight asks for, as AWS does. MiniStack says `*`, which does not cover Authorization."""
    async def tell(message):
        if message["type"] == "http.response.start":
            headers = [(name, wanted if name.lower() == b"access-control-allow-headers" and value == b"*" else value)
                       for name, value in message.get("headers", [])]
            message = {**message, "headers": headers}
        await send(message)
    return tell


def closed_loopback():
    """Requests of other origins and hosts, and to the administration, are refused before any other code sees them.

    The administration (reset, configuration, sent e-mails, code of functions) opens to the root's secret as a bearer
    token. LOCAL_ORIGINS lists the origins of pages that may send requests.
    """
    from ministack import app

    port = int(os.environ["GATEWAY_PORT"])
    others = frozenset(filter(None, os.environ.get("LOCAL_ORIGINS", "").split(",")))

    def make(original):
        async def gate(scope, receive, send):
            secret = os.environ["AWS_SECRET_ACCESS_KEY"]
            reason = refusal(scope, port, others, secret) if scope["type"] in ("http", "websocket") else None
            if reason is None:
                headers = dict(scope["headers"]) if scope["type"] == "http" else {}
                origin = headers.get(b"origin", b"")
                # Only services with one address for all actions. S3 and the API have CORS settings of their own.
                if b"x-amz-target" in headers and origin.decode("latin-1") in others:
                    send = readable(send, origin)
                if b"access-control-request-headers" in headers:
                    send = naming(send, headers[b"access-control-request-headers"])
                await original(scope, receive, send)
            elif scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            else:
                body = json.dumps({"__type": "AccessDeniedException", "message": f"Refused: {reason}."}).encode()
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": 403, "headers": headers})
                await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        return gate

    wrap(app, "app", make)
