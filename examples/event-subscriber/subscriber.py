"""Keeps a table of messages up to date from Sluice's events, each event exactly once.

    python subscriber.py QUEUE_URL DATABASE [--until-empty]

The queue is subscribed to the topic with raw delivery (docs/EVENTS.md). SNS and SQS deliver at least once and in no
order, and this program may be killed at any time. So it commits the event's id and its effect in one transaction,
before it deletes the event from the queue. An older event never overwrites the effect of a newer one.
"""

import json
import sqlite3
import sys

import boto3

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS messages (
    source TEXT, message_id TEXT, status TEXT NOT NULL, message_type TEXT, bucket TEXT, key TEXT, version_id TEXT, reason TEXT,
    events INTEGER NOT NULL DEFAULT 0, position TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (source, message_id)
);
"""

# `stored` is final. Among the others, the later submission counts (ULIDs sort by time), and within one submission the
# later step.
STEPS = {"released": 1, "held": 2, "failed": 2, "discarded": 3, "stored": 9, "unparsable": 9}


def position(kind: str, submission_id: str) -> str:
    """A sort key: the order of the events of one message."""
    step = STEPS[kind]
    return f"{step // 9}.{submission_id}.{step}"


def apply(database: sqlite3.Connection, event: dict) -> bool:
    """Applies an event to the table. False if the event was there already. The caller commits."""
    if database.execute("INSERT OR IGNORE INTO events VALUES (?)", [event["id"]]).rowcount == 0:
        return False
    kind, data = event["type"], event["data"]
    key = [data["source"], data["messageId"]]
    database.execute("INSERT OR IGNORE INTO messages (source, message_id, status) VALUES (?, ?, '')", key)
    database.execute("UPDATE messages SET events = events + 1 WHERE (source, message_id) = (?, ?)", key)
    if kind not in STEPS:  # A duplicate changes nothing of the message, and nor does a type of a later build.
        return True
    at = position(kind, data["submissionId"])
    database.execute(
        "UPDATE messages SET status = ?, message_type = ?, bucket = ?, key = ?, version_id = ?, reason = ?, position = ?"
        " WHERE (source, message_id) = (?, ?) AND position < ?",
        [kind, data.get("summary", {}).get("messageType"), data.get("bucket"), data.get("key"), data.get("versionId"),
         data.get("reason"), at, *key, at])
    return True


def main() -> None:
    queue_url, path, *options = sys.argv[1:]
    sqs = boto3.client("sqs")
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    while True:
        wait = 1 if options else 20
        received = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait).get("Messages", [])
        for message in received:
            with database:  # Commits, or takes all of it back.
                apply(database, json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        if options and not received:
            return


if __name__ == "__main__":
    main()
