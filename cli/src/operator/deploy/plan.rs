//! What a deployment would change, without changing it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::bucket::ArtifactStore;
use super::stack::{Action, Change, Input, Planned, is_left_over, outputs_of};
use super::{Options, Sources, Template, keys, parameters, source, start};
use crate::output::Reporter;
use client::aws::Aws;

/// The planned change of one stack.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The stack's name.
    pub stack: String,
    /// The change of the stack as a whole.
    pub change: Change,
    /// The changes of its resources.
    pub resources: Vec<Planned>,
    /// Whether its termination protection is off, and the deployment would switch it on.
    pub protects: bool,
    /// Why the plan cannot say more before the earlier stacks are deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Shows what [`super::deploy`] would do, stack by stack, with the outputs that the stacks have now. Uploads a large template for
/// CloudFormation to read, and changes nothing else.
///
/// # Errors
/// When a parameter is unknown or AWS refuses a call.
pub async fn plan(aws: &Aws, sources: &Sources, options: &Options, reporter: &Reporter) -> Result<Vec<Plan>> {
    let (stacks, templates) = start(aws, sources, options, reporter).await?;
    let mut outputs: BTreeMap<String, String> = BTreeMap::new();
    let mut plans = Vec::new();
    for template in templates {
        let name = format!("{}-{}", options.stack, template.name);
        let step = reporter.step(format!("plan of the stack {name}"));
        let found = stacks.settled(&name, &step).await?;
        let Some(stack) = found.filter(|stack| !is_left_over(stack)) else {
            plans.push(Plan::created(name, template)?);
            step.done(Change::Created.name());
            continue;
        };
        let artifacts = outputs.get("ArtifactBucketName").map(|bucket| ArtifactStore::new(aws, bucket));
        let (read_from, _) = source(template, artifacts.as_ref(), aws.region()?).await?;
        let declared = parameters::declared(template.name, &template.body)?;
        let (planned, unknown) = match parameters::fill(template.name, &declared, &outputs, &options.parameters) {
            Ok(values) => {
                let input = Input { template: &read_from, declared: &declared, values: &values };
                (stacks.plan(&stack, input, &step).await?, None)
            }
            // The missing value is an output of a newer version of an earlier stack.
            Err(missing) => (None, Some(missing.to_string())),
        };
        let change = if planned.is_some() || unknown.is_some() { Change::Updated } else { Change::Unchanged };
        step.done(change.name());
        outputs.extend(outputs_of(&stack));
        outputs.extend(keys(sources));
        let protects = stack.enable_termination_protection() != Some(true);
        plans.push(Plan { stack: name, change, resources: planned.unwrap_or_default(), protects, unknown });
    }
    Ok(plans)
}

impl Plan {
    /// The plan for a stack that does not exist yet: every resource of its template, including those that conditions leave out.
    fn created(stack: String, template: &Template) -> Result<Self> {
        let added = parameters::types_in(template.name, &template.body, "Resources")?;
        let resources = added.into_iter().map(|(resource, kind)| Planned {
            action: Action::Add,
            resource,
            kind,
            id: None,
            changes: Vec::new(),
            kept: false,
        });
        Ok(Self { stack, change: Change::Created, resources: resources.collect(), protects: true, unknown: None })
    }
}
