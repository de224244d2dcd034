import pytest

from .test_support import TABLE, administer, allow, failure, item

PATH = "/_sluice/recordings"


def test_a_recording_has_requests_with_a_marker_and_their_answers_in_order(world):
    assert administer(world, "POST", PATH, {"id": "one", "markers": ["red", "blue"]})[0] == 200
    dynamodb = world.client("dynamodb")
    for key in ["red-1", "green-1", "blue-1"]:
        dynamodb.put_item(TableName=TABLE, Item=item("a", id=key))
    refused = failure(dynamodb.put_item, TableName=TABLE, Item=item("a", id="red-1"), ConditionExpression="attribute_not_exists(id)")
    assert refused[0] == "ConditionalCheckFailedException"
    status, recorded = administer(world, "DELETE", PATH, {"id": "one"})
    assert status == 200
    assert [(it["operation"], it["request"]["Item"]["id"]["S"], it["status"]) for it in recorded] == [
        ("PutItem", "red-1", 200), ("PutItem", "blue-1", 200), ("PutItem", "red-1", 400)]
    assert recorded[2]["answer"]["__type"].endswith("ConditionalCheckFailedException")
    assert administer(world, "DELETE", PATH, {"id": "one"})[0] == 400
