"""CloudFormation: an alarm rolls an update back, and only then."""

import json
import time

import pytest

from .test_change_sets import settled


def body(delay):
    return json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": delay}}}})


@pytest.fixture
def deployed(world):
    """A stack with a queue, and an alarm that is silent."""
    client, alarms = world.client("cloudformation"), world.client("cloudwatch")
    name = f"brakes-{time.monotonic_ns()}"
    client.create_stack(StackName=name, TemplateBody=body(1))
    assert settled(client, name)["StackStatus"] == "CREATE_COMPLETE"
    alarms.put_metric_alarm(AlarmName=name, MetricName="Errors", Namespace="Test", Period=60, EvaluationPeriods=1,
                            Statistic="Sum", Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold")
    alarms.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="a test")
    return client, alarms, name


def update(client, name, delay, **configuration):
    client.create_change_set(StackName=name, ChangeSetName=f"to-{delay}", ChangeSetType="UPDATE", TemplateBody=body(delay),
                             **({"RollbackConfiguration": configuration} if configuration else {}))
    client.execute_change_set(StackName=name, ChangeSetName=f"to-{delay}")


def until(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def delay(world, client, name):
    queue = client.describe_stack_resources(StackName=name)["StackResources"][0]["PhysicalResourceId"]
    attributes = world.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["DelaySeconds"])
    return attributes["Attributes"]["DelaySeconds"]


def triggers(alarms, name):
    return [{"Arn": alarms.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"],
             "Type": "AWS::CloudWatch::Alarm"}]


def test_an_alarm_while_an_update_is_monitored_rolls_it_back(world, deployed):
    client, alarms, name = deployed
    update(client, name, 2, RollbackTriggers=triggers(alarms, name), MonitoringTimeInMinutes=5)
    until(lambda: delay(world, client, name) == "2")
    assert client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "UPDATE_IN_PROGRESS"
    alarms.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    assert settled(client, name)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert delay(world, client, name) == "1"
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    why = [it.get("ResourceStatusReason", "") for it in events if it["ResourceStatus"] == "UPDATE_ROLLBACK_IN_PROGRESS"]
    assert len(why) == 1 and name in why[0] and "ALARM" in why[0]


def test_a_silent_alarm_lets_an_update_end(world, deployed):
    client, alarms, name = deployed
    update(client, name, 3, RollbackTriggers=triggers(alarms, name), MonitoringTimeInMinutes=0)
    assert settled(client, name)["StackStatus"] == "UPDATE_COMPLETE"
    assert delay(world, client, name) == "3"


def test_a_stack_keeps_its_triggers_until_it_gets_others(world, deployed):
    client, alarms, name = deployed
    missing = [{"Arn": "arn:aws:cloudwatch:eu-west-1:000000000000:alarm:none", "Type": "AWS::CloudWatch::Alarm"}]
    update(client, name, 4, RollbackTriggers=missing)
    assert settled(client, name)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    update(client, name, 5)
    until(lambda: settled(client, name)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE" and delay(world, client, name) == "1")
    update(client, name, 6, RollbackTriggers=[])
    until(lambda: settled(client, name)["StackStatus"] == "UPDATE_COMPLETE" and delay(world, client, name) == "6")
