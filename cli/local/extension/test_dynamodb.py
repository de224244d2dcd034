"""The condition key dynamodb:LeadingKeys."""

import pytest

from .test_support import LEADING, TABLE, TABLE_ARN, allow, allowed, item, query


def requests(source):
    """One request of each kind for this partition key value."""
    key = item(source)
    entry = {**key, "more": {"S": "x"}}
    return [
        ("get_item", {"TableName": TABLE, "Key": key}),
        ("put_item", {"TableName": TABLE, "Item": entry}),
        ("update_item", {"TableName": TABLE, "Key": key}),
        ("delete_item", {"TableName": TABLE, "Key": key}),
        ("query", query("source = :v", v=source)),
        ("query", query(":v = source", v=source)),
        ("query", query("source=:v AND id > :w", v=source, w="0")),
        ("query", query("(id >= :w) and (source = :v)", v=source, w="0")),
        ("query", {**query("#s = :v", v=source), "ExpressionAttributeNames": {"#s": "source"}}),
        ("query", {"TableName": TABLE, "KeyConditions": {"source": {
            "ComparisonOperator": "EQ", "AttributeValueList": [{"S": source}]}}}),
        ("batch_get_item", {"RequestItems": {TABLE: {"Keys": [key]}}}),
        ("batch_write_item", {"RequestItems": {TABLE: [{"PutRequest": {"Item": entry}}]}}),
        ("batch_write_item", {"RequestItems": {TABLE: [{"DeleteRequest": {"Key": key}}]}}),
        ("transact_get_items", {"TransactItems": [{"Get": {"TableName": TABLE, "Key": key}}]}),
        ("transact_write_items", {"TransactItems": [{"Put": {"TableName": TABLE, "Item": entry}}]}),
        ("transact_write_items", {"TransactItems": [{"ConditionCheck": {
            "TableName": TABLE, "Key": key, "ConditionExpression": "attribute_exists(id)"}}]}),
        ("transact_write_items", {"TransactItems": [{"Delete": {"TableName": TABLE, "Key": key}}]}),
    ]


@pytest.mark.parametrize("condition", [
    {"StringEquals": LEADING},
    {"ForAllValues:StringEquals": LEADING, "Null": {"dynamodb:LeadingKeys": "false"}},
])
def test_leading_keys(world, condition):
    dynamodb = world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **condition))
    for (operation, own), (_, other) in zip(requests("a"), requests("b"), strict=True):
        assert allowed(getattr(dynamodb, operation), **own), (operation, own)
        assert not allowed(getattr(dynamodb, operation), **other), (operation, other)


@pytest.mark.parametrize("user", ["reader", "blank"])
def test_leading_keys_without_a_tag(world, user):
    dynamodb = world.dynamodb(user, allow("dynamodb:*", TABLE_ARN, StringEquals={
        "dynamodb:LeadingKeys": "${aws:PrincipalTag/write}"}))
    for operation, request in requests("a") + requests("b"):
        assert not allowed(getattr(dynamodb, operation), **request)


def test_leading_keys_of_every_item(world):
    dynamodb = world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **{"ForAllValues:StringEquals": LEADING}))
    own = [item("a", "1"), item("a", "2")]
    for keys, expected in ((own, True), ([*own, item("b")], False)):
        assert allowed(dynamodb.batch_get_item, RequestItems={TABLE: {"Keys": keys}}) is expected
        gets = [{"Get": {"TableName": TABLE, "Key": key}} for key in keys]
        assert allowed(dynamodb.transact_get_items, TransactItems=gets) is expected
        writes = [{"PutRequest": {"Item": key}} for key in keys]
        assert allowed(dynamodb.batch_write_item, RequestItems={TABLE: writes}) is expected


def test_scan_has_no_leading_keys(world):
    closed = {"ForAllValues:StringEquals": LEADING, "Null": {"dynamodb:LeadingKeys": "false"}}
    open_ = {"ForAllValues:StringEquals": LEADING}
    assert not allowed(world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **closed)).scan, TableName=TABLE)
    assert allowed(world.dynamodb("alice", allow("dynamodb:*", TABLE_ARN, **open_)).scan, TableName=TABLE)


def test_leading_keys_of_an_index(world):
    by_owner = {"IndexName": "by-owner"}
    dynamodb = world.dynamodb("alice", allow("dynamodb:Query", f"{TABLE_ARN}/index/*", StringEquals=LEADING))
    own, other = query("#o = :v", v="a"), query("#o = :v", v="b")
    own["ExpressionAttributeNames"] = other["ExpressionAttributeNames"] = {"#o": "owner"}
    assert allowed(dynamodb.query, **own, **by_owner)
    assert not allowed(dynamodb.query, **other, **by_owner)
    assert not allowed(dynamodb.query, **query("source = :v", v="a"))
