//! Stacks of a test's own, from the templates in `infra/`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{Capability, Parameter, StackStatus};
use client::aws::Aws;
use sluice_tests::unique;
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(300);

/// A stack for the time of a test.
pub(crate) struct OwnStack {
    aws: Aws,
    name: String,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// A parameter of a stack.
pub(crate) fn parameter(name: &str, value: &str) -> Parameter {
    Parameter::builder().parameter_key(name).parameter_value(value).build()
}

impl OwnStack {
    /// A stack of this template, once it is complete.
    pub(crate) async fn deploy(aws: &Aws, template: String, parameters: Vec<Parameter>) -> Result<Self> {
        let client = Client::new(aws.config());
        let name = format!("own-{}", unique());
        let create = client.create_stack().stack_name(&name).template_body(template).set_parameters(Some(parameters));
        create.capabilities(Capability::CapabilityNamedIam).send().await?;
        // From here on `drop` cleans up.
        let mut own = Self { aws: aws.clone(), name, outputs: BTreeMap::new() };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = client.describe_stacks().stack_name(&own.name).send().await?;
            let stack = found.stacks().first().context("the stack")?;
            match stack.stack_status() {
                Some(StackStatus::CreateComplete) => {
                    let outputs = stack.outputs().iter().filter_map(|it| it.output_key().zip(it.output_value()));
                    own.outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    return Ok(own);
                }
                Some(StackStatus::CreateInProgress) => ensure!(Instant::now() < deadline, "the stack is not made"),
                other => bail!("{other:?}: {:?}", stack.stack_status_reason()),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// One of its outputs.
    pub(crate) fn output(&self, name: &str) -> Result<&str> {
        Ok(self.outputs.get(name).with_context(|| format!("the stack has no output `{name}`"))?)
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        let (aws, name) = (self.aws.clone(), self.name.clone());
        let buckets: Vec<_> =
            self.outputs.iter().filter(|(name, _)| name.ends_with("BucketName")).map(|it| it.1.clone()).collect();
        let clean_up = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                for bucket in buckets {
                    let Ok(found) = aws.s3().list_object_versions().bucket(&bucket).send().await else { continue };
                    for version in found.versions() {
                        let delete = aws.s3().delete_object().bucket(&bucket).set_key(version.key.clone());
                        let _ = delete.set_version_id(version.version_id.clone()).send().await;
                    }
                }
                let _ = Client::new(aws.config()).delete_stack().stack_name(&name).send().await;
            });
        };
        let _ = std::thread::spawn(clean_up).join();
    }
}
