//! The size of an item in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// The size of an item as DynamoDB counts it: names and values, in UTF-8 (its guide, "DynamoDB item sizes and formats").
pub fn item_bytes(item: &HashMap<String, AttributeValue>) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number.len().div_ceil(2) + 1,
        AttributeValue::M(map) => 3 + map.iter().map(|(name, value)| name.len() + value_bytes(value) + 1).sum::<usize>(),
        AttributeValue::L(list) => 3 + list.iter().map(|value| value_bytes(value) + 1).sum::<usize>(),
        _ => 1,
    }
}
