"""Sends a message, waits for it, reads it in all forms, pages through the catalog and handles problems.

    python client.py API_URL FILE < ID_TOKEN

`sluice_api` is the client that openapi-python-client makes of docs/openapi.yaml (README.md has the command).
"""

import io
import json
import sys
import time

from sluice_api import AuthenticatedClient
from sluice_api.api.messages import fetch, list_, status, submit
from sluice_api.models import DuplicateProblem, GatewayMessage, MessageStatus, NotStoredProblem, Page, Status, Submission
from sluice_api.types import UNSET, File

WAITING = (MessageStatus.QUEUED, MessageStatus.PROCESSING)


def accepting(media_type: str, api_url: str, token: str) -> AuthenticatedClient:
    """A client that accepts one media type. The generated functions parse JSON, so only `fetch` may ask for another."""
    return AuthenticatedClient(base_url=api_url, token=token, headers={"Accept": media_type})


def send(client: AuthenticatedClient, message: bytes) -> str:
    """Submits a message. A message that is stored already counts as sent."""
    answer = submit.sync(client=client, body=File(io.BytesIO(message)))
    match answer:
        case Submission():
            return answer.message_id
        case DuplicateProblem():
            return answer.message_id
    raise SystemExit(f"not taken: {answer}")


def wait(client: AuthenticatedClient, message_id: str) -> Status:
    while True:
        answer = status.sync(message_id, client=client)
        if isinstance(answer, Status) and answer.status not in WAITING:
            return answer
        time.sleep(0.2)


def pages(client: AuthenticatedClient) -> list[str]:
    """The ids of all messages, from pages of two."""
    ids, cursor = [], UNSET
    while True:
        page = list_.sync(client=client, limit=2, cursor=cursor)
        assert isinstance(page, Page), page
        ids += [entry.message_id for entry in page.messages]
        if page.cursor is UNSET:
            return ids
        cursor = page.cursor


def main() -> None:
    api_url, path = sys.argv[1:]
    token = sys.stdin.read().strip()
    with open(path, "rb") as file:
        message = file.read()
    client = accepting("application/json", api_url, token)

    message_id = send(client, message)
    print("status", wait(client, message_id).status)
    assert send(client, message) == message_id, "the same message has the same id"

    er7 = fetch.sync(message_id, client=accepting("application/hl7-v2", api_url, token))
    print("er7", er7.payload.read().splitlines()[0].decode())
    rendition = fetch.sync(message_id, client=client)
    print("json", "segments" in json.loads(rendition.payload.read()))
    received = fetch.sync(message_id, client=accepting("application/octet-stream", api_url, token))
    print("received", received.payload.read() == message)

    print("listed", pages(client).count(message_id))

    unknown = fetch.sync("0" * 64, client=client)
    assert isinstance(unknown, NotStoredProblem), unknown
    print("problem", unknown.type_, unknown.status)
    refused = status.sync(message_id, client=accepting("application/json", api_url, "no-token"))
    print("gateway", isinstance(refused, GatewayMessage))


if __name__ == "__main__":
    main()
