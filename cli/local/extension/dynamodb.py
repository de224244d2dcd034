"""DynamoDB: the condition key dynamodb:LeadingKeys."""

import contextvars
import json
import re

from .keys import one_or_many
from .replacing import wrap

_dynamodb_body = contextvars.ContextVar("sluice_dynamodb_body", default=b"")
TRANSACTION_MEMBERS = {"dynamodb:PutItem": "Put", "dynamodb:UpdateItem": "Update", "dynamodb:DeleteItem": "Delete",
                       "dynamodb:GetItem": "Get", "dynamodb:ConditionCheckItem": "ConditionCheck"}
EQUALITY = re.compile(r"(?<![\w#:])(#?\w+)\s*=\s*(:\w+)|(:\w+)\s*=\s*(#?\w+)")


def requested_keys(action, data, table, in_transaction):
    """The keys, or whole items, of this table in a request other than Query."""
    def of_table(detail):
        name = detail.get("TableName") if isinstance(detail, dict) else None
        return isinstance(name, str) and name.rpartition("/")[2] == table

    if in_transaction:
        members = [item.get(TRANSACTION_MEMBERS.get(action, "")) for item in data.get("TransactItems") or []]
        details = [detail for detail in members if of_table(detail)]
    elif action in ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"):
        details = []
        for name, asked in (data.get("RequestItems") or {}).items():
            if name.rpartition("/")[2] != table:
                continue
            if action == "dynamodb:BatchGetItem":
                details += [{"Key": key} for key in asked.get("Keys") or []]
            else:
                details += [detail for write in asked for detail in write.values()]
    elif action in TRANSACTION_MEMBERS:
        details = [data]
    else:
        details = []
    return [detail.get("Item") if "Item" in detail and "Key" not in detail else detail.get("Key") for detail in details]


def query_keys(data):
    """The attribute values that a Query compares for equality, from its expression and from the legacy KeyConditions."""
    names, values = data.get("ExpressionAttributeNames") or {}, data.get("ExpressionAttributeValues") or {}
    found = []
    for match in EQUALITY.finditer(data.get("KeyConditionExpression") or ""):
        name, value = match.group(1) or match.group(4), match.group(2) or match.group(3)
        found.append({names.get(name, name): values.get(value)})
    for name, condition in (data.get("KeyConditions") or {}).items():
        if condition.get("ComparisonOperator") == "EQ":
            found += [{name: value} for value in condition.get("AttributeValueList") or []]
    return found


def leading_keys(dynamodb, action, resource_arn, data, in_transaction):
    """The partition key values a request names in one table, or in one index of it."""
    table_name, _, index_name = resource_arn.partition(":table/")[2].partition("/index/")
    table = dynamodb._tables.get(table_name)
    if not table:
        return []
    schema = table.get("KeySchema") or []
    if index_name:
        indexes = [*(table.get("GlobalSecondaryIndexes") or []), *(table.get("LocalSecondaryIndexes") or [])]
        schema = next((index["KeySchema"] for index in indexes if index["IndexName"] == index_name), [])
    partition = [key["AttributeName"] for key in schema if key["KeyType"] == "HASH"]
    if action == "dynamodb:Query":
        keys = query_keys(data)
    else:
        keys = requested_keys(action, data, table_name, in_transaction)
    return [str(value) for key in keys if isinstance(key, dict) for name in partition
            if isinstance(key.get(name), dict) for value in key[name].values()]


def dynamodb_leading_keys():
    """DynamoDB requests carry dynamodb:LeadingKeys, the partition key values that they name.

    AWS, "Using IAM policy conditions for fine-grained access control": the key holds the partition key values of the
    table, or of the index that is queried. A Scan names none, so the key is absent, and ForAllValues then matches. A
    policy must therefore also require the key with Null, or not allow Scan.
    """
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import dynamodb

    def make_service_context(original):
        def dynamodb_service_context(body):
            _dynamodb_body.set(body)
            return original(body)
        return dynamodb_service_context

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if service == "dynamodb":
                try:
                    data = json.loads(_dynamodb_body.get() or b"{}")
                    in_transaction = "dynamodb:EnclosingOperation" in (service_context or {})
                    values = leading_keys(dynamodb, iam_action, resource_arn, data, in_transaction)
                except (ValueError, AttributeError, TypeError):  # A malformed request, which the handler refuses.
                    values = []
                if values:
                    service_context = {**(service_context or {}), "dynamodb:LeadingKeys": one_or_many(values)}
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(iam_actions, "dynamodb_service_context", make_service_context)
    wrap(iam_evaluator, "enforce", make_enforce)
