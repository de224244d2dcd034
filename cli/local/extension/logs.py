"""CloudWatch Logs: the ARN of a log stream."""

import json

from .replacing import wrap
from .requests import served


def log_stream_arn():
    """Writing to a log group is judged by `log-group:<name>:log-stream:<stream>`, so that a policy may name the group as
    `log-group:<name>:*`, which is what AWS::Logs::LogGroup gives as its Arn.

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
