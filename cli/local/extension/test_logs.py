"""The ARN of a log stream."""

import time

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
