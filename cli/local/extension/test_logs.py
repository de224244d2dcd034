"""The ARN of a log stream, and the pages of the events that are found."""

import time

from .logs import groups_during_invocations
from .test_support import REGION, allow, allowed


def test_a_log_group_named_with_a_star_may_be_written_to(world):
    logs = world.client("logs")
    for group in ("/own", "/own-too"):
        logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:{REGION}:000000000000:log-group:"
    writer = world.client("logs", world.session("alice", allow(["logs:CreateLogStream"], f"{arn}/own:*")))
    assert allowed(writer.create_log_stream, logGroupName="/own", logStreamName="s")
    assert not allowed(writer.create_log_stream, logGroupName="/own-too", logStreamName="s")
    one = world.client("logs", world.session("alice", allow(["logs:PutLogEvents"], f"{arn}/own:log-stream:s")))
    events = [{"timestamp": int(time.time() * 1000), "message": "x"}]
    assert allowed(one.put_log_events, logGroupName="/own", logStreamName="s", logEvents=events)
    assert not allowed(one.put_log_events, logGroupName="/own", logStreamName="t", logEvents=events)


def test_every_page_of_events_is_found_and_no_event_twice(world):
    logs = world.client("logs")
    logs.create_log_group(logGroupName="/paged")
    now = int(time.time() * 1000)
    for stream in ("a", "b"):
        logs.create_log_stream(logGroupName="/paged", logStreamName=stream)
        # Five events share a millisecond, more than fit on a page.
        events = [{"timestamp": now + number // 5, "message": f"{stream}{number}"} for number in range(12)]
        logs.put_log_events(logGroupName="/paged", logStreamName=stream, logEvents=events)
    pages = list(logs.get_paginator("filter_log_events").paginate(logGroupName="/paged", PaginationConfig={"PageSize": 3}))
    found = [event["message"] for page in pages for event in page["events"]]
    assert len(pages) >= 8 and len(found) == 24 and len(set(found)) == 24
    answer = logs.filter_log_events(logGroupName="/paged", filterPattern='"b1"', limit=2)
    assert [event["message"] for event in answer["events"]] == ["b1", "b10"]
    rest = logs.filter_log_events(logGroupName="/paged", filterPattern='"b1"', limit=2, nextToken=answer["nextToken"])
    assert [event["message"] for event in rest["events"]] == ["b11"] and "nextToken" not in rest


def test_groups_are_listed_while_functions_write(monkeypatch):
    from ministack.services import cloudwatch_logs

    tries = []

    def describe(data):
        tries.append(data)
        if len(tries) == 1:
            raise RuntimeError("dictionary changed size during iteration")
        return "listed"

    monkeypatch.setattr(cloudwatch_logs, "_describe_log_groups", describe)
    groups_during_invocations()
    assert cloudwatch_logs._describe_log_groups({}) == "listed"
