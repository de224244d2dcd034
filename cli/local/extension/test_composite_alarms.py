"""CloudFormation: a composite alarm of a template goes off with the alarms of its rule."""

import json
import time

from .test_change_sets import settled

ERRORS = {"Type": "AWS::CloudWatch::Alarm", "Properties": {
    "MetricName": "Errors", "Namespace": "Test", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold"}}


def body(rule):
    return json.dumps({
        "Resources": {"One": ERRORS, "Other": ERRORS, "Both": {"Type": "AWS::CloudWatch::CompositeAlarm", "Properties": {
            "AlarmRule": {"Fn::Sub": rule}}}},
        "Outputs": {"Name": {"Value": {"Ref": "Both"}}, "Arn": {"Value": {"Fn::GetAtt": ["Both", "Arn"]}},
                    "One": {"Value": {"Ref": "One"}}}})


def test_a_composite_alarm_is_made_changed_and_deleted_with_its_stack(world):
    client, alarms = world.client("cloudformation"), world.client("cloudwatch")
    client.create_stack(StackName="composite", TemplateBody=body('ALARM("${One}") OR ALARM("${Other}")'))
    stack = settled(client, "composite")
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}

    def found():
        return alarms.describe_alarms(AlarmNames=[outputs["Name"]], AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]

    assert found()[0]["AlarmArn"] == outputs["Arn"] and found()[0]["StateValue"] != "ALARM"
    alarms.set_alarm_state(AlarmName=outputs["One"], StateValue="ALARM", StateReason="a test")
    assert found()[0]["StateValue"] == "ALARM"

    client.update_stack(StackName="composite", TemplateBody=body('ALARM("${One}") AND ALARM("${Other}")'))
    assert settled(client, "composite")["StackStatus"] == "UPDATE_COMPLETE"
    assert found()[0]["AlarmRule"].count(" AND ") == 1 and found()[0]["StateValue"] != "ALARM"

    client.delete_stack(StackName="composite")
    deadline = time.monotonic() + 60
    while found():
        assert time.monotonic() < deadline
        time.sleep(0.05)
