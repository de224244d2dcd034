//! The use of keys through other services (`kms:ViaService`): each role has what its calls need, and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_tests::template::template;

use crate::root;
use crate::workers::{collect, texts};

/// What a call on encrypted data asks of the key, as AWS documents it: S3 "Using server-side encryption with KMS keys" (Decrypt only for
/// an upload in parts), SQS "Key management" (a producer decrypts too, to verify the data key), SNS likewise, DynamoDB "Using your KMS
/// keys" (the table's own grant does the rest).
const NEEDS: [(&str, &[&str]); 11] = [
    ("dynamodb:BatchGetItem", &["kms:Decrypt"]),
    ("dynamodb:BatchWriteItem", &["kms:Decrypt"]),
    ("dynamodb:GetItem", &["kms:Decrypt"]),
    ("dynamodb:PutItem", &["kms:Decrypt"]),
    ("dynamodb:Query", &["kms:Decrypt"]),
    ("dynamodb:UpdateItem", &["kms:Decrypt"]),
    ("s3:GetObject", &["kms:Decrypt"]),
    ("s3:GetObjectVersion", &["kms:Decrypt"]),
    ("s3:PutObject", &["kms:GenerateDataKey"]),
    ("sns:Publish", &["kms:Decrypt", "kms:GenerateDataKey"]),
    ("sqs:ReceiveMessage", &["kms:Decrypt"]),
];
/// A producer of an encrypted queue.
const SEND: (&str, &[&str]) = ("sqs:SendMessage", &["kms:Decrypt", "kms:GenerateDataKey"]);

/// Which actions on a key a role has by which service, and which its other actions need.
fn compare(role: &Value) -> Result<[BTreeMap<String, BTreeSet<String>>; 2]> {
    let mut statements = Vec::new();
    collect(&role["Properties"]["Policies"], &mut statements);
    let [mut granted, mut needed] = [BTreeMap::<String, BTreeSet<String>>::new(), BTreeMap::new()];
    for statement in statements.iter().filter(|it| it["Effect"] == "Allow") {
        let actions = texts(&statement["Action"]);
        let via = &statement["Condition"]["StringEquals"]["kms:ViaService"];
        if via.is_null() {
            let rows = NEEDS.iter().chain([&SEND]).filter(|(action, _)| actions.iter().any(|it| it == action));
            for (action, needs) in rows {
                let service = action.split(':').next().unwrap_or_default().to_owned();
                needed.entry(service).or_default().extend(needs.iter().map(|it| (*it).to_owned()));
            }
        } else {
            let text = texts(via).pop().context("a service")?;
            granted.entry(text.split('.').next().unwrap_or_default().to_owned()).or_default().extend(actions);
        }
    }
    Ok([granted, needed])
}

#[test]
fn each_role_may_use_keys_by_the_services_that_it_calls_and_only_as_they_need() -> Result<()> {
    let mut roles = 0;
    for stack in ["core", "identity", "pipeline", "api", "tables"] {
        let template = template(&root().join(format!("infra/{stack}.yaml")))?;
        for (name, role) in template["Resources"].as_object().context("resources")? {
            if role["Type"] == "AWS::IAM::Role" {
                let [granted, needed] = compare(role)?;
                assert_eq!(granted, needed, "{name} (left: what it has, right: what its calls need)");
                roles += usize::from(!granted.is_empty());
            }
        }
    }
    assert!(roles > 8, "{roles} roles use a key by a service: is the condition still written the same way?");
    Ok(())
}
