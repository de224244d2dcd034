//! The requirements of strict accounts on the templates.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::template::template;

use crate::root;

const STACKS: [&str; 4] = ["core", "identity", "pipeline", "api"];

fn stack(name: &str) -> Result<Value> {
    template(&root().join(format!("infra/{name}.yaml")))
}

/// The properties of all resources of a type, with their names.
fn of_type(stack: &Value, kind: &str) -> Vec<(String, Value)> {
    let resources = stack["Resources"].as_object().into_iter().flatten().filter(|(_, it)| it["Type"] == kind);
    resources.map(|(name, it)| (name.clone(), it["Properties"].clone())).collect()
}

#[test]
fn every_role_takes_a_permissions_boundary() -> Result<()> {
    let boundary =
        json!({ "Fn::If": ["HasPermissionsBoundary", { "Ref": "PermissionsBoundaryArn" }, { "Ref": "AWS::NoValue" }] });
    let mut roles = 0;
    for name in STACKS {
        for (role, properties) in of_type(&stack(name)?, "AWS::IAM::Role") {
            assert_eq!(properties["PermissionsBoundary"], boundary, "{role}");
            roles += 1;
        }
    }
    assert!(roles > 10, "{roles} roles");
    Ok(())
}

#[test]
fn no_arn_is_of_one_partition_only() -> Result<()> {
    for name in STACKS {
        let text = std::fs::read_to_string(root().join(format!("infra/{name}.yaml")))?;
        let lines: Vec<_> = text.lines().filter(|line| line.contains("arn:aws:")).collect();
        assert_eq!(lines, [""; 0], "infra/{name}.yaml");
    }
    Ok(())
}

#[test]
fn an_own_domain_closes_the_other_door() -> Result<()> {
    let api = stack("api")?;
    let (_, properties) = of_type(&api, "AWS::ApiGatewayV2::Api").pop().context("an API")?;
    let closed = json!({ "Fn::If": ["HasDomainName", true, { "Ref": "AWS::NoValue" }] });
    assert_eq!(properties["DisableExecuteApiEndpoint"], closed);
    let (_, domain) = of_type(&api, "AWS::ApiGatewayV2::DomainName").pop().context("a domain")?;
    assert_eq!(domain["MutualTlsAuthentication"]["Fn::If"][1], json!({ "TruststoreUri": { "Ref": "TruststoreUri" } }));
    assert_eq!(domain["DomainNameConfigurations"][0]["SecurityPolicy"], "TLS_1_2");
    Ok(())
}

#[test]
fn every_user_pool_mails_from_the_given_address() -> Result<()> {
    let pools = of_type(&stack("identity")?, "AWS::Cognito::UserPool");
    for (pool, properties) in &pools {
        let email = &properties["EmailConfiguration"]["Fn::If"][1];
        assert_eq!(email["From"]["Fn::If"][1], json!({ "Ref": "EmailFrom" }), "{pool}");
        assert_eq!(email["ReplyToEmailAddress"]["Fn::If"][1], json!({ "Ref": "EmailReplyTo" }), "{pool}");
    }
    assert_eq!(pools.len(), 2);
    Ok(())
}
