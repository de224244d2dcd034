"""The duration of an invocation, and the environment of a function."""

import functools
import json
import time

from .test_support import program

# A function that prints its event's line after it has answered, as on a busy machine.
LATE = program("""import threading; kind, body = "response", b"{}"
    threading.Timer(0.1, print, [json.loads(text)["line"]], {"flush": True}).start()""")

# A function that answers with its environment.
ENVIRONMENT = program('kind, body = "response", json.dumps(dict(os.environ)).encode()')


@functools.cache
def environment_of(world):
    """The environment, the ARN and the role's ARN of a function."""
    lambda_ = world.client("lambda")
    arn = world.function("environment", ENVIRONMENT)
    environment = json.loads(lambda_.invoke(FunctionName=arn, Payload=b"{}")["Payload"].read())
    return environment, arn, lambda_.get_function_configuration(FunctionName=arn)["Role"]


def test_invocation_does_not_wait(world):
    lambda_, function = world.client("lambda"), world.echo
    # A busy machine is slow in some rounds, and a function that waits is slow in each.
    for _ in range(30):
        times = []
        for _ in range(12):
            started = time.monotonic()
            answer = lambda_.invoke(FunctionName=function, Payload=b"{}")
            times.append(time.monotonic() - started)
            assert "FunctionError" not in answer, answer["Payload"].read()
        if sorted(times)[len(times) // 4] < 0.040:
            break
    assert sorted(times)[len(times) // 4] < 0.040


def test_a_late_line_is_in_the_log_of_its_invocation(world):
    lambda_, logs, function = world.client("lambda"), world.client("logs"), world.function("late", LATE)
    for line in ("first", "second", "third"):
        lambda_.invoke(FunctionName=function, Payload=json.dumps({"line": line}))
        events = logs.filter_log_events(logGroupName="/aws/lambda/late")["events"]
        assert any(line in event["message"] for event in events), line
