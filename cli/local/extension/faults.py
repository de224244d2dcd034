"""Faults: calls that fail, hang or lose their connection, for the tests that show the effect on a message."""

import asyncio
import base64
import contextvars
import json
import re
import urllib.parse

from .replacing import wrap

PATH = "/_sluice/faults"
JWT_PAYLOAD = re.compile(r"eyJ[\w-]+\.([\w-]+)\.")
# The peer of the connection from which a request came.
_client = contextvars.ContextVar("sluice_client", default=None)
# Writers of the open connections, by peer.
_writers = {}
# Maps ids to faults, in the order in which they were set.
_faults = {}


class Cut(Exception):
    """The connection ends without an answer."""


def searched(headers, path, body):
    """Every text of a request that may name its subject: path, headers and body, the claims of the tokens in it, the
    body of the queue message that a receipt handle belongs to, and the message for which KMS makes a MAC."""
    from ministack.services import sqs

    text = urllib.parse.unquote_plus(f"{path}\n{headers.get('x-amz-tagging', '')}\n{body.decode('utf-8', 'replace')}")
    found = [text]
    for payload in JWT_PAYLOAD.findall(text):
        try:
            found.append(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode("utf-8", "replace"))
        except ValueError:
            continue
    if headers.get("x-amz-target", "").startswith("AmazonSQS."):
        try:
            handle = json.loads(body or b"{}").get("ReceiptHandle")
        except (ValueError, AttributeError):
            handle = None
        if handle:
            found += [message["body"] for queue in sqs._queues.values() for message in queue["messages"]
                      if message.get("receipt_handle") == handle]
    if headers.get("x-amz-target", "") == "TrentService.GenerateMac":
        try:
            found.append(base64.b64decode(json.loads(body or b"{}").get("Message", "")).decode("utf-8", "replace"))
        except (ValueError, AttributeError, TypeError):
            pass
    return "\n".join(found)


def is_for(fault, action):
    """Whether a fault is for this action: `s3:*` is for all of S3."""
    return fault["action"] in (action, f"{(action or '').partition(':')[0]}:*")


def due(action, principal, text):
    """The first fault that applies to this call. Counts the call."""
    for fault in _faults.values():
        if (is_for(fault, action) and fault.get("principal", "") in principal and fault.get("marker", "") in text
                and fault.get("calls") != 0):
            if fault.get("calls") is not None:
                fault["calls"] -= 1
            fault["hits"] += 1
            return fault
    return None


def refusal(kind, service, action, request_id, headers):
    """The error answer in the service's own protocol: (status, headers, body)."""
    from ministack.core.iam_actions import access_denied_response

    unsigned = service == "cognito-identity"
    code, status, message = {
        "500": ("InternalError" if service == "s3" else "InternalFailure", 500, "a fault"),
        "503": ("ServiceUnavailable", 503, "a fault"),
        "throttle": {"s3": ("SlowDown", 503, "a fault"), "sns": ("Throttled", 429, "a fault"),
                     "cognito-identity": ("TooManyRequestsException", 400, "a fault"),
                     }.get(service, ("ThrottlingException", 400, "a fault")),
        "denied": ("AccessDenied", 403, "a fault") if service in ("s3", "sns") else ("AccessDeniedException", 400, "a fault"),
        # The calls of an identity pool are unsigned, so there the token has expired.
        "expired": ("NotAuthorizedException", 400, "Invalid login token. Token expired: 2 >= 1") if unsigned
        else ("ExpiredToken", 400, "a fault") if service in ("s3", "sns") else ("ExpiredTokenException", 400, "a fault"),
    }[kind]
    _, answer_headers, body = access_denied_response(
        service, action, "", request_id, error_code=code, message=message, headers=headers)
    return status, answer_headers, body


def administer(method, body):
    """GET lists the faults, POST sets one, DELETE clears one, or all."""
    try:
        asked = json.loads(body or b"{}")
        if method == "POST":
            _faults[asked["id"]] = {**asked, "hits": 0}
        elif method == "DELETE" and "id" in asked:
            _faults.pop(asked["id"], None)
        elif method == "DELETE":
            _faults.clear()
    except (ValueError, KeyError, TypeError, AttributeError):
        return 400, {"Content-Type": "application/json"}, b'{"message": "no fault is like that"}'
    return 200, {"Content-Type": "application/json"}, json.dumps(list(_faults.values())).encode()


def refused_to_others(action, headers, query_params):
    """The answer to everybody but the account's root, whom no policy limits; None for the root."""
    from ministack.core.iam_evaluator import AuthError, enforce
    from ministack.core.router import extract_access_key_id, extract_region

    refused = enforce(extract_access_key_id(headers, query_params), action, "sluice", extract_region(headers, query_params))
    if not refused:
        return None
    message = refused.message if isinstance(refused, AuthError) else "only the account's root may do that"
    return 403, {"Content-Type": "application/json"}, json.dumps({"message": message}).encode()


def faults():
    """A test may make calls fail, as the account's root and nobody else: PATH, signed for the service `sluice`.

    A fault is {id, action, kind, principal?, marker?, calls?, seconds?}. It applies to requests of that IAM action (of all
    actions of S3 for `s3:*`) whose caller's ARN contains `principal` and which contain `marker` anywhere. It applies
    `calls` times; without `calls`, until it is cleared. Kinds: 500, 503, throttle, denied, expired (an error instead of
    the effect), cut-before and cut-after (the connection ends without an answer, before the effect or after it), hang (no
    effect and no answer for `seconds`, then the connection ends), delay (effect and answer after `seconds`).
    """
    from hypercorn.asyncio.tcp_server import TCPServer
    from ministack import app
    from ministack.core import iam_actions
    from ministack.core.iam_evaluator import request_caller_arn
    from ministack.core.router import detect_service

    def make_run(original):
        async def run(self):
            peer = self.writer.get_extra_info("peername")
            _writers[tuple(peer or ())[:2]] = self.writer
            try:
                await original(self)
            finally:
                _writers.pop(tuple(peer or ())[:2], None)
        return run

    def make_app(original):
        async def serve(scope, receive, send):
            _client.set(tuple(scope.get("client") or ())[:2])
            try:
                await original(scope, receive, send)
            except Cut:
                writer = _writers.get(_client.get())
                if writer is not None:
                    writer.transport.abort()
        return serve

    def make_dispatch(original):
        async def dispatch_service_request(method, path, headers, body, query_params, request_id):
            if path == PATH:
                return refused_to_others("sluice:SetFaults", headers, query_params) or administer(method, body)
            if not _faults:
                return await original(method, path, headers, body, query_params, request_id)
            routing = app._routing_params(method, path, headers, body, query_params)
            service = detect_service(method, path, headers, routing)
            action = iam_actions.extract_iam_action(service, method, path, headers, body, routing)
            fault = None
            if any(is_for(it, action) for it in _faults.values()):
                fault = due(action, request_caller_arn(headers, query_params), searched(headers, path, body))
            if fault is None:
                return await original(method, path, headers, body, query_params, request_id)
            kind = fault["kind"]
            if kind == "delay":
                await asyncio.sleep(fault.get("seconds", 1))
                return await original(method, path, headers, body, query_params, request_id)
            if kind == "cut-after":
                await original(method, path, headers, body, query_params, request_id)
                raise Cut
            if kind == "hang":
                await asyncio.sleep(fault.get("seconds", 60))
                raise Cut
            if kind == "cut-before":
                raise Cut
            return refusal(kind, action.partition(":")[0], action, request_id, headers)
        return dispatch_service_request

    wrap(TCPServer, "run", make_run)
    wrap(app, "app", make_app)
    wrap(app, "_dispatch_service_request", make_dispatch)
