//! The policies as a store of Amazon Verified Permissions.

use serde_json::{Map, Value, json};

use crate::policies::{Policies, logical_id};

/// A CloudFormation template of a policy store with the folder's schema and policies. The authorizer's setting `PolicyStoreId`
/// takes the output of that name.
///
/// The store checks every policy against the schema again (`STRICT`). It does not contain the known entities: each question
/// includes them.
#[must_use]
pub fn store_template(policies: &Policies) -> Value {
    let mut resources = Map::new();
    let store = json!({
        "Type": "AWS::VerifiedPermissions::PolicyStore",
        "Properties": {
            "Description": "Who may do what",
            "ValidationSettings": { "Mode": "STRICT" },
            "Schema": { "CedarJson": policies.schema.json.to_string() },
        },
    });
    resources.insert("PolicyStore".to_owned(), store);
    for policy in policies.iter() {
        let statement = json!({
            "Type": "AWS::VerifiedPermissions::Policy",
            "Properties": {
                "PolicyStoreId": { "Fn::GetAtt": ["PolicyStore", "PolicyStoreId"] },
                "Definition": { "Static": { "Description": policy.id, "Statement": policy.statement } },
            },
        });
        resources.insert(logical_id(&policy.id), statement);
    }
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "A policy store of Amazon Verified Permissions for the authorizer",
        "Resources": resources,
        "Outputs": {
            "PolicyStoreId": {
                "Description": "The authorizer's setting of this name",
                "Value": { "Fn::GetAtt": ["PolicyStore", "PolicyStoreId"] },
            },
        },
    })
}
