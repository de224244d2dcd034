//! The requirements of strict accounts on the templates.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::template::template;

use crate::root;

const STACKS: [&str; 5] = ["core", "identity", "pipeline", "api", "tables"];

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

/// API Gateway refuses settings of a route that does not exist, and CloudFormation sees no reference to the route in its key.
#[test]
fn the_stage_waits_for_each_route_that_it_limits() -> Result<()> {
    let api = stack("api")?;
    let stage = &api["Resources"]["Stage"];
    let awaited: BTreeSet<&str> = stage["DependsOn"].as_array().context("routes")?.iter().filter_map(Value::as_str).collect();
    let limited = stage["Properties"]["RouteSettings"].as_object().context("settings of routes")?;
    let routes = of_type(&api, "AWS::ApiGatewayV2::Route");
    let needed = routes.iter().filter(|(_, it)| it["RouteKey"].as_str().is_some_and(|key| limited.contains_key(key)));
    assert_eq!(needed.map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>(), awaited);
    assert_eq!(limited.len(), awaited.len(), "each of the settings is of a route of this template");
    Ok(())
}

/// What `infra/edge.yaml` must have so that the API is reached through the firewall and no other way, and works behind it.
#[test]
fn nobody_passes_the_firewall_by() -> Result<()> {
    let edge = stack("edge")?;
    let (_, distribution) = of_type(&edge, "AWS::CloudFront::Distribution").pop().context("a distribution")?;
    let config = &distribution["DistributionConfig"];
    assert_eq!(config["WebACLId"], json!({ "Fn::GetAtt": "WebAcl.Arn" }));
    // The API's domain name asks for a certificate (`an_own_domain_closes_the_other_door`), which only this origin shows.
    let origins = config["Origins"].as_array().context("origins")?;
    assert_eq!(origins.len(), 1);
    let origin = &origins[0]["CustomOriginConfig"];
    assert_eq!(origin["OriginMtlsConfig"], json!({ "ClientCertificateArn": { "Ref": "ClientCertificateArn" } }));
    assert_eq!(edge["Parameters"]["ClientCertificateArn"]["Default"], Value::Null, "it cannot be left out");
    assert_eq!(origin["OriginProtocolPolicy"], "https-only");
    // Nothing is cached, and Authorization and Host come as they were sent: CachingDisabled and AllViewer.
    let behavior = &config["DefaultCacheBehavior"];
    assert_eq!(behavior["CachePolicyId"], "4135ea2d-6df8-44a3-9df3-4b5a84be39ad");
    assert_eq!(behavior["OriginRequestPolicyId"], "216adef6-5c7f-47e4-b989-5492eafa07d3");
    assert_eq!(behavior["ViewerProtocolPolicy"], "https-only");
    assert_eq!(config["CacheBehaviors"], Value::Null);
    // Nor an error, for any of the statuses that CloudFront keeps for ten seconds otherwise.
    let errors = [400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504];
    let errors = errors.map(|it| json!({ "ErrorCode": it, "ErrorCachingMinTTL": 0 }));
    assert_eq!(config["CustomErrorResponses"], json!(errors));

    let (_, acl) = of_type(&edge, "AWS::WAFv2::WebACL").pop().context("a web ACL")?;
    assert_eq!((&acl["Scope"], acl["Rules"].as_array().map(Vec::len)), (&json!("CLOUDFRONT"), Some(4)));
    // No token is shown or logged, and no message is refused for its content.
    let text = acl.to_string();
    assert_eq!(text.matches("SampledRequestsEnabled").count(), text.matches(r#""SampledRequestsEnabled":false"#).count());
    let (_, log) = of_type(&edge, "AWS::WAFv2::LoggingConfiguration").pop().context("a log")?;
    let header = |name: &str| json!({ "SingleHeader": { "Name": name } });
    let redacted = json!([header("authorization"), header("x-amz-security-token"), { "QueryString": {} }]);
    assert_eq!(log["RedactedFields"], redacted);
    // AWS may add rules about bodies to its group at any time, so what may bring a message does not come before it.
    let is_method = |method: &str| {
        json!({ "ByteMatchStatement": {
            "FieldToMatch": { "Method": {} },
            "PositionalConstraint": "EXACTLY",
            "SearchString": method,
            "TextTransformations": [{ "Priority": 0, "Type": "NONE" }],
        } })
    };
    let brings_no_message =
        json!({ "NotStatement": { "Statement": { "OrStatement": { "Statements": [is_method("POST"), is_method("PUT")] } } } });
    let known = &acl["Rules"][3]["Statement"]["ManagedRuleGroupStatement"];
    assert_eq!((&known["ScopeDownStatement"], &known["RuleActionOverrides"]), (&brings_no_message, &Value::Null));
    // The other group of AWS judges addresses alone.
    assert_eq!(acl["Rules"][1]["Statement"]["ManagedRuleGroupStatement"]["Name"], "AWSManagedRulesAmazonIpReputationList");
    assert_eq!(text.matches("ManagedRuleGroupStatement").count(), 2);
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
