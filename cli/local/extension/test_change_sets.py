"""CloudFormation: a change set is empty only when an update would change nothing, and says what is replaced."""

import json
import time

WORD = {"Type": "String", "Default": "first"}
QUEUE = {"Type": "AWS::SQS::Queue"}
REASON = "didn't contain changes"


def body(output):
    return json.dumps({"Parameters": {"Word": WORD}, "Resources": {"Queue": QUEUE},
                       "Outputs": {"Said": {"Value": output}}})


def settled(client, stack):
    deadline = time.monotonic() + 60
    while True:
        found = client.describe_stacks(StackName=stack)["Stacks"][0]
        if not found["StackStatus"].endswith("IN_PROGRESS"):
            return found
        assert time.monotonic() < deadline, found["StackStatus"]
        time.sleep(0.05)


def test_a_change_of_outputs_alone_is_a_change_set(world):
    client = world.client("cloudformation")
    client.create_stack(StackName="outputs", TemplateBody=body("one"))
    settled(client, "outputs")

    def asked(name, output):
        client.create_change_set(StackName="outputs", ChangeSetName=name, ChangeSetType="UPDATE", TemplateBody=body(output))
        return client.describe_change_set(StackName="outputs", ChangeSetName=name)

    same = asked("same", "one")
    assert same["Status"] == "FAILED" and REASON in same["StatusReason"] and same["ExecutionStatus"] == "UNAVAILABLE"
    other = asked("other", "two")
    assert (other["Status"], other["ExecutionStatus"], other["Changes"]) == ("CREATE_COMPLETE", "AVAILABLE", [])
    client.execute_change_set(StackName="outputs", ChangeSetName="other")
    deadline = time.monotonic() + 60
    while settled(client, "outputs")["Outputs"][0]["OutputValue"] != "two":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_holds_data_is_replaced_for_another_name_only(world):
    client = world.client("cloudformation")

    def resources(name, days):
        return json.dumps({"Resources": {
            "Key": {"Type": "AWS::KMS::Key", "Properties": {"Description": str(days), "KeyPolicy": {
                "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*",
                                                        "Principal": {"AWS": "arn:aws:iam::000000000000:root"}}]}}},
            "Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": f"/log/{name}", "RetentionInDays": days}},
            "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {
                "BucketName": f"bucket-{name}", "Tags": [{"Key": "days", "Value": str(days)}]}}}})

    client.create_stack(StackName="names", TemplateBody=resources("one", 7))
    assert settled(client, "names")["StackStatus"] == "CREATE_COMPLETE"

    def replaced(name, days):
        set_name = f"{name}-{days}"
        client.create_change_set(StackName="names", ChangeSetName=set_name, ChangeSetType="UPDATE",
                                 TemplateBody=resources(name, days))
        changes = client.describe_change_set(StackName="names", ChangeSetName=set_name)["Changes"]
        return {it["ResourceChange"]["LogicalResourceId"]: it["ResourceChange"]["Replacement"] for it in changes}

    assert replaced("one", 14) == {"Key": "False", "Log": "False", "Bucket": "False"}
    assert replaced("two", 7) == {"Log": "True", "Bucket": "True"}
