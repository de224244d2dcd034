"""The role of a state machine, and the delay of a retry."""

import json

import pytest

from .test_support import REGION, TABLE, TABLE_ARN, allow, deny, item


def run(world, state, *statements):
    """The outcome of a state machine of this one state, under a role with these statements."""
    states = world.client("stepfunctions", inject_host_prefix=False)
    machine = states.create_state_machine(
        name=world.key("machine-"), type="EXPRESS", roleArn=world.role(*statements),
        definition=json.dumps({"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {**state, "End": True}}}),
    )["stateMachineArn"]
    return states.start_sync_execution(stateMachineArn=machine, input="{}")


def test_state_machine_acts_as_its_role(world):
    topic = world.client("sns").create_topic(Name="events")["TopicArn"]
    queue = world.client("sqs").create_queue(QueueName="events")["QueueUrl"]
    function = world.echo
    for task, arguments, action, resource, error in (
        ("dynamodb:putItem", {"TableName": TABLE, "Item": item("a", "m")}, "dynamodb:PutItem", TABLE_ARN,
         "DynamoDB.AmazonDynamoDBException"),
        ("sns:publish", {"TopicArn": topic, "Message": "m"}, "sns:Publish", topic, "SNS.AmazonSNSException"),
        ("sqs:sendMessage", {"QueueUrl": queue, "MessageBody": "m"}, "sqs:SendMessage",
         f"arn:aws:sqs:{REGION}:000000000000:events", "SQS.AmazonSQSException"),
        ("lambda:invoke", {"FunctionName": function, "Payload": {}}, "lambda:InvokeFunction", function,
         "Lambda.AWSLambdaException"),
    ):
        state = {"Type": "Task", "Resource": f"arn:aws:states:::{task}", "Arguments": arguments}
        outcome = run(world, state, allow(action, resource))
        assert outcome["status"] == "SUCCEEDED", outcome
        for statements in ((), (allow(action, resource + "-other"),), (allow("*", "*"), deny(action, resource))):
            outcome = run(world, state, *statements)
            assert (outcome["status"], outcome["error"]) == ("FAILED", error)
            assert f"is not authorized to perform: {action} on resource: {resource}" in outcome["cause"]


def test_leading_keys_of_a_state_machine(world):
    statement = allow("dynamodb:PutItem", TABLE_ARN, StringEquals={"dynamodb:LeadingKeys": "a"})
    for source, status in (("a", "SUCCEEDED"), ("b", "FAILED")):
        state = {"Type": "Task", "Resource": "arn:aws:states:::dynamodb:putItem",
                 "Arguments": {"TableName": TABLE, "Item": item(source, "m")}}
        assert run(world, state, statement)["status"] == status


@pytest.mark.parametrize("retrier, at_least, below", [
    ({"MaxAttempts": 2, "MaxDelaySeconds": 1, "BackoffRate": 5}, 2, 3),
    # Four random delays exceed 3.6 seconds once in a thousand runs.
    ({"MaxAttempts": 4, "BackoffRate": 1, "JitterStrategy": "FULL"}, 0, 4),
])
def test_retry_delay(world, retrier, at_least, below):
    state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
             "Arguments": {"FunctionName": world.echo, "Payload": {}},
             "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, **retrier}]}
    outcome = run(world, state)
    assert outcome["status"] == "FAILED"
    # The time of the execution alone: making its role and its machine takes some as well.
    assert at_least <= (outcome["stopDate"] - outcome["startDate"]).total_seconds() < below
