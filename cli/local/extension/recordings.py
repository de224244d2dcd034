"""Recordings of requests to DynamoDB and of their answers, for the test that asks a second DynamoDB the same."""

import json

from .faults import refused_to_others
from .replacing import wrap

PATH = "/_sluice/recordings"
# Maps ids to recordings.
_recordings = {}


def administer(method, body):
    """POST begins a recording, DELETE ends it and answers with the requests, in the order of their effects."""
    try:
        asked = json.loads(body or b"{}")
        answer = []
        if method == "POST":
            _recordings[asked["id"]] = {"markers": [marker.encode() for marker in asked["markers"]], "requests": []}
        elif method == "DELETE":
            answer = _recordings.pop(asked["id"])["requests"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return 400, {"Content-Type": "application/json"}, b'{"message": "no recording is like that"}'
    return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def recordings():
    """A test may record requests to DynamoDB, as the account's root and nobody else: PATH, signed for the service `sluice`.

    A recording is {id, markers}. It has the requests that contain one of the texts `markers` and that IAM let through.
    """
    from ministack import app
    from ministack.services import dynamodb

    def make_handler(original):
        async def handle_request(method, path, headers, body, query_params):
            # The original never waits, so that no other request comes between its effect and the recording.
            answer = await original(method, path, headers, body, query_params)
            for recording in _recordings.values():
                if any(marker in body for marker in recording["markers"]):
                    operation = headers.get("x-amz-target", "").rpartition(".")[2]
                    recording["requests"].append({"operation": operation, "request": json.loads(body), "status": answer[0],
                                                  "answer": json.loads(answer[2])})
            return answer
        return handle_request

    def make_dispatch(original):
        async def dispatch_service_request(method, path, headers, body, query_params, request_id):
            if path == PATH:
                return refused_to_others("sluice:Record", headers, query_params) or administer(method, body)
            return await original(method, path, headers, body, query_params, request_id)
        return dispatch_service_request

    wrap(dynamodb, "handle_request", make_handler)
    wrap(app, "_dispatch_service_request", make_dispatch)
