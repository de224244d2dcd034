"""Requests that AWS refuses, each beside one that it accepts."""

import json

import pytest
from botocore.exceptions import ClientError

from .test_support import TABLE, item



def machine(world, states, start="S"):
    client = world.client("stepfunctions", inject_host_prefix=False)
    definition = json.dumps({"QueryLanguage": "JSONata", "StartAt": start, "States": states})
    arn = client.create_state_machine(name=world.key("limits-"), type="EXPRESS", roleArn=world.role(), definition=definition)
    return client, arn["stateMachineArn"]


def run(world, states, given="{}"):
    client, arn = machine(world, states)
    return client.start_sync_execution(stateMachineArn=arn, input=given)


# The output `{"x":"…"}` has eight bytes around the text.
@pytest.mark.parametrize("length, status", [(256 * 1024 - 8, "SUCCEEDED"), (256 * 1024 - 7, "FAILED")])
def test_state_data(world, length, status):
    output = f"{{% {{'x': $pad('', {length}, 'x')}} %}}"
    outcome = run(world, {"S": {"Type": "Pass", "Output": output, "End": True}})
    assert (outcome["status"], outcome.get("error")) == (status, None if status == "SUCCEEDED" else "States.DataLimitExceeded")


def test_state_data_is_measured_in_bytes(world):
    states = {"S": {"Type": "Pass", "Output": f"{{% $pad('', {256 * 1024 // 2}, 'ä') %}}", "End": True}}
    assert run(world, states)["error"] == "States.DataLimitExceeded"


@pytest.mark.parametrize("caught, status", [("States.ALL", "FAILED"), ("States.DataLimitExceeded", "SUCCEEDED")])
def test_too_much_data_of_a_task_is_caught_by_its_name_alone(world, caught, status):
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True,
            "Arguments": {"FunctionName": world.echo, "Payload": f"{{% $pad('', {256 * 1024}, 'x') %}}"},
            "Catch": [{"ErrorEquals": [caught], "Output": {}, "Next": "Caught"}]}
    assert run(world, {"S": task, "Caught": {"Type": "Succeed"}})["status"] == status


def test_input_of_an_execution(world):
    client, arn = machine(world, {"S": {"Type": "Pass", "Output": "done", "End": True}})
    given = json.dumps({"x": "x" * (256 * 1024 - 9)})
    assert client.start_sync_execution(stateMachineArn=arn, input=given)["status"] == "SUCCEEDED"
    with pytest.raises(ClientError, match="InvalidExecutionInput"):
        client.start_sync_execution(stateMachineArn=arn, input=given + " ")


def choice(condition):
    return {"S": {"Type": "Choice", "Choices": [{"Condition": condition, "Next": "Yes"}], "Default": "No"},
            "Yes": {"Type": "Pass", "Output": "yes", "End": True}, "No": {"Type": "Pass", "Output": "no", "End": True}}


def test_conditions(world):
    for condition, output in (("{% $states.input.n = 1 %}", '"yes"'), ("{% $states.input.n = 2 %}", '"no"')):
        assert run(world, choice(condition), '{"n": 1}')["output"] == output
    for condition in ("{% $states.input.n %}", "{% 'true' %}", "{% $states.input.missing %}"):
        assert run(world, choice(condition), '{"n": 1}')["error"] == "States.QueryEvaluationError"
    with pytest.raises(ClientError, match="SCHEMA_VALIDATION_FAILED"):
        machine(world, choice("$states.input.n = 1"))


@pytest.mark.parametrize("expression, is_taken", [
    ("SET a = :v REMOVE b", True),
    ("SET a = :v REMOVE a", False),
    ("SET m.x = :v, m.y = :v", True),
    ("SET m.x = :v REMOVE m", False),
    ("SET #n = :v REMOVE a", False),
    ("SET l[0] = :v, l[1] = :v", True),
    ("SET l[0] = :v, l[0] = :v", False),
    ("SET a = if_not_exists(a, :v), b = :v", True),
    ("SET b = if_not_exists(a, :v) REMOVE a", True),
    ("SET ab = :v REMOVE a", True),
    ("SET a = :v REMOVE m.nothing", True),
    ("SET a = :v REMOVE nothing.x", False),
    ("SET nothing.x = :v", False),
])
def test_update_paths(world, expression, is_taken):
    table, key = world.client("dynamodb"), item("limits", world.key("paths-"))
    table.put_item(TableName=TABLE, Item={**key, "m": {"M": {"z": {"S": "1"}}}, "l": {"L": [{"S": "1"}, {"S": "2"}]}})
    update = {"TableName": TABLE, "Key": key, "UpdateExpression": expression, "ExpressionAttributeValues": {":v": {"S": "v"}}}
    if "#n" in expression:
        update["ExpressionAttributeNames"] = {"#n": "a"}
    for call in (lambda: table.update_item(**update), lambda: table.transact_write_items(TransactItems=[{"Update": update}])):
        if is_taken:
            call()
        else:
            with pytest.raises(ClientError, match="overlap|invalid for update|ValidationError"):
                call()
