//! Roles that a test may assume, with the very policies of deployed ones or with some of its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aws_sdk_iam::Client as Iam;
use aws_sdk_s3::config::Credentials;
use aws_sdk_sts::types::Tag;
use client::aws::Aws;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use sluice_tests::{Harness, unique};

/// A session of a role for the time of a test: most have the policies of a deployed one.
pub(crate) struct Twin {
    _role: TestRole,
    pub(crate) aws: Aws,
}

/// A role for the time of a test.
struct TestRole {
    root: Aws,
    name: String,
}

/// The physical names of the roles of a stack, by their names in the template.
pub(crate) async fn roles(it: &Harness, stack: &str) -> Result<BTreeMap<String, String>> {
    let client = aws_sdk_cloudformation::Client::new(it.aws.config());
    let stack_name = format!("{}-{stack}", it.outputs.stack);
    let found = client.describe_stack_resources().stack_name(stack_name).send().await?;
    for resource in found.stack_resources() {
        let kind = resource.resource_type().unwrap_or_default();
        // One that stands beside its role ([`policies`] finds it in the role) is none of its own.
        ensure!(kind != "AWS::IAM::ManagedPolicy", "a policy of its own");
    }
    let roles = found.stack_resources().iter().filter(|resource| resource.resource_type() == Some("AWS::IAM::Role"));
    Ok(roles
        .map(|role| {
            (role.logical_resource_id().unwrap_or_default().into(), role.physical_resource_id().unwrap_or_default().into())
        })
        .collect())
}

/// All policies of a role: those within it. None may be attached to it.
pub(crate) async fn policies(it: &Harness, role: &str) -> Result<Vec<Value>> {
    let iam = Iam::new(it.aws.config());
    let attached = iam.list_attached_role_policies().role_name(role).send().await?;
    ensure!(attached.attached_policies().is_empty(), "`{role}` has an attached policy");
    let names = iam.list_role_policies().role_name(role).send().await?;
    ensure!(!names.policy_names().is_empty(), "`{role}` has no policy");
    try_join_all(names.policy_names().iter().map(async |name| {
        let policy = iam.get_role_policy().role_name(role).policy_name(name).send().await?;
        document(policy.policy_document())
    }))
    .await
}

/// A policy as IAM gives it, which is percent-encoded.
pub(crate) fn document(encoded: &str) -> Result<Value> {
    let url = reqwest::Url::parse(&format!("policy:/?document={}", encoded.replace('#', "%23")))?;
    let document = match encoded {
        plain if plain.starts_with('{') => plain.to_owned(),
        _ => url.query_pairs().next().context("a document")?.1.into_owned(),
    };
    Ok(serde_json::from_str(&document)?)
}

impl Twin {
    /// The twin of a role, by its physical name.
    pub(crate) async fn of(it: &Harness, role: &str) -> Result<Self> {
        Self::with_tags(it, role, None).await
    }

    /// The twin of a role of a stack, by its name in the template, in a session with an institute as its tag.
    pub(crate) async fn of_institute(it: &Harness, stack: &str, role: &str, tag: &str, institute: Option<&str>) -> Result<Self> {
        let roles = roles(it, stack).await?;
        let tags = institute.map(|it| Tag::builder().key(tag).value(it).build().map(|tag| vec![tag])).transpose()?;
        Self::with_tags(it, roles.get(role).context("a role")?, tags).await
    }

    async fn with_tags(it: &Harness, role: &str, tags: Option<Vec<Tag>>) -> Result<Self> {
        Self::with(it, &policies(it, role).await?, tags).await
    }

    /// A session of a role that has these policies.
    pub(crate) async fn with(it: &Harness, policies: &[Value], tags: Option<Vec<Tag>>) -> Result<Self> {
        let iam = Iam::new(it.aws.config());
        let account = it.aws.account().await?;
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }]});
        let name = format!("test-{}", unique());
        let created = iam.create_role().role_name(&name).assume_role_policy_document(trust.to_string()).send().await?;
        // From here on `drop` cleans up.
        let own = TestRole { root: it.aws.clone(), name };
        for (n, policy) in policies.iter().enumerate() {
            let put = iam.put_role_policy().role_name(&own.name).policy_name(n.to_string());
            put.policy_document(policy.to_string()).send().await?;
        }
        let assume = aws_sdk_sts::Client::new(it.aws.config()).assume_role().role_session_name("test");
        let assumed = assume.role_arn(created.role().context("a role")?.arn()).set_tags(tags).send().await?;
        let given = assumed.credentials.context("credentials")?;
        let credentials = Credentials::new(given.access_key_id, given.secret_access_key, Some(given.session_token), None, "twin");
        let aws = Aws::with_credentials(it.aws.endpoint_url().context("an endpoint")?, &it.outputs.region, credentials);
        Ok(Self { _role: own, aws })
    }
}

impl Drop for TestRole {
    fn drop(&mut self) {
        let (root, name) = (self.root.clone(), self.name.clone());
        let clean_up = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let iam = Iam::new(root.config());
                if let Ok(policies) = iam.list_role_policies().role_name(&name).send().await {
                    for policy in policies.policy_names() {
                        let _ = iam.delete_role_policy().role_name(&name).policy_name(policy).send().await;
                    }
                }
                let _ = iam.delete_role().role_name(&name).send().await;
            });
        };
        let _ = std::thread::spawn(clean_up).join();
    }
}
