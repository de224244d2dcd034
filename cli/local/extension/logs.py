"""CloudWatch Logs: the ARN of a log stream, and the pages of the events that are found."""

import json

from .replacing import wrap
from .requests import served

# The most events of one page.
MAX_EVENTS = 10_000


def log_stream_arn():
    """A write to a log group is authorized for `log-group:<name>:log-stream:<stream>`, so that a policy may name the
    group as `log-group:<name>:*`, which is the Arn of AWS::Logs::LogGroup.

    AWS, CloudWatch Logs user guide, "Resources and operations". MiniStack compares the bare group.
    """
    from ministack.core import iam_evaluator

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if iam_action in ("logs:CreateLogStream", "logs:PutLogEvents") and resource_arn.count(":") == 6:
                try:
                    stream = json.loads(served.get()[1] or b"{}").get("logStreamName", "")
                except (ValueError, AttributeError):  # A malformed request, which the handler refuses.
                    stream = ""
                resource_arn = f"{resource_arn}:log-stream:{stream}"
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(iam_evaluator, "enforce", make_enforce)


def groups_during_invocations():
    """Log groups are listed while functions write to them.

    MiniStack adds up the lengths of a group's streams, and answers 500 if an invocation adds a stream meanwhile.
    """
    from ministack.services import cloudwatch_logs

    def make_describe(original):
        def describe(data):
            while True:
                try:
                    return original(data)
                except RuntimeError as error:
                    if "changed size during iteration" not in str(error):
                        raise
        return describe

    wrap(cloudwatch_logs, "_describe_log_groups", make_describe)


def log_pages():
    """A search for events with more results than one answer holds says where the next page begins: with the first
    event that no page had.

    AWS, CloudWatch Logs API reference, FilterLogEvents. MiniStack gives the first `limit` events and no token, so a
    reader takes them for all.
    """
    from ministack.services import cloudwatch_logs

    def make_filter(original):
        def find(data):
            limit = min(data.get("limit", MAX_EVENTS), MAX_EVENTS)
            # The token: the millisecond of the last event given, and the number of events of that millisecond already
            # given.
            last, given = (int(it) for it in data.get("nextToken", "0.0").split("."))
            start = last if given else data.get("startTime")
            status, headers, body = original({**data, "startTime": start, "limit": min(limit + given, MAX_EVENTS)})
            if status != 200:
                return status, headers, body
            answer = json.loads(body)
            events = answer["events"]
            is_full = len(events) == min(limit + given, MAX_EVENTS)
            answer["events"] = events[given:]
            if is_full and answer["events"]:
                end = events[-1]["timestamp"]
                answer["nextToken"] = f"{end}.{sum(1 for event in events if event['timestamp'] == end)}"
            return status, headers, json.dumps(answer).encode()
        return find

    wrap(cloudwatch_logs, "_filter_log_events", make_filter)
