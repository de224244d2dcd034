//! One CloudFormation stack at a time: create, update, delete.

mod events;
mod protection;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{Capability, Parameter, Stack, StackStatus, Tag};

use super::parameters::Declared;
use crate::output::{Reporter, Step};
use client::aws::Aws;
use client::error::explain;
use client::wait::within;

/// The slowest thing in our stacks takes minutes; this is for what hangs.
const DEADLINE: Duration = Duration::from_secs(45 * 60);

/// What became of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// It was there, and something in it has changed.
    Updated,
    /// It was as it should be.
    Unchanged,
}

impl Change {
    /// One word for a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Where CloudFormation reads a template.
#[derive(Debug)]
pub(super) enum TemplateSource {
    Inline(String),
    Url(String),
}

impl TemplateSource {
    fn body(&self) -> Option<String> {
        match self {
            Self::Inline(body) => Some(body.clone()),
            Self::Url(_) => None,
        }
    }

    fn url(&self) -> Option<String> {
        match self {
            Self::Inline(_) => None,
            Self::Url(url) => Some(url.clone()),
        }
    }
}

pub(super) struct Stacks {
    client: Client,
    user_pools: aws_sdk_cognitoidentityprovider::Client,
    tables: aws_sdk_dynamodb::Client,
    reporter: Reporter,
    poll_interval: Duration,
    role_arn: Option<String>,
    tags: BTreeMap<String, String>,
}

/// The outputs of a stack by name.
pub(super) fn outputs_of(stack: &Stack) -> BTreeMap<String, String> {
    stack
        .outputs()
        .iter()
        .filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())))
        .collect()
}

impl Stacks {
    pub(super) fn new(aws: &Aws, reporter: &Reporter) -> Self {
        Self {
            client: Client::new(aws.config()),
            user_pools: aws_sdk_cognitoidentityprovider::Client::new(aws.config()),
            tables: aws_sdk_dynamodb::Client::new(aws.config()),
            reporter: reporter.clone(),
            poll_interval: aws.poll_interval(),
            role_arn: None,
            tags: BTreeMap::new(),
        }
    }

    /// The same for a deployment that CloudFormation makes under this role, with these tags.
    pub(super) fn under(self, role_arn: Option<String>, tags: BTreeMap<String, String>) -> Self {
        Self { role_arn, tags, ..self }
    }

    /// The parameters a template declares.
    pub(super) async fn parameters(&self, template: &TemplateSource) -> Result<Vec<Declared>> {
        let summary = self
            .client
            .get_template_summary()
            .set_template_body(template.body())
            .set_template_url(template.url())
            .send()
            .await
            .map_err(explain("reading a template"))?;
        let declared = summary.parameters().iter().filter_map(|parameter| {
            let name = parameter.parameter_key()?.to_owned();
            Some(Declared { name, has_default: parameter.default_value().is_some() })
        });
        Ok(declared.collect())
    }

    /// The stack of this name or id, unless it does not exist or was deleted.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Stack>> {
        let answer = match self.client.describe_stacks().stack_name(name).send().await {
            Ok(answer) => answer,
            Err(error) if error.message().is_some_and(|message| message.contains("does not exist")) => return Ok(None),
            Err(error) => return Err(explain(format!("looking at the stack `{name}`"))(error)),
        };
        let stack = answer.stacks.unwrap_or_default().into_iter().next();
        Ok(stack.filter(|stack| stack.stack_status() != Some(&StackStatus::DeleteComplete)))
    }

    /// The stack of this name, or else the last one that had it: AWS remembers a deleted stack for 90 days.
    pub(super) async fn find_even_deleted(&self, name: &str) -> Result<Option<Stack>> {
        if let Some(stack) = self.find(name).await? {
            return Ok(Some(stack));
        }
        let mut pages = self.client.list_stacks().stack_status_filter(StackStatus::DeleteComplete).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain("listing deleted stacks"))?;
            let deleted = page.stack_summaries().iter().find(|summary| summary.stack_name() == Some(name));
            let Some(id) = deleted.and_then(|summary| summary.stack_id()) else { continue };
            let answer = self
                .client
                .describe_stacks()
                .stack_name(id)
                .send()
                .await
                .map_err(explain(format!("looking at the deleted stack `{name}`")))?;
            return Ok(answer.stacks.unwrap_or_default().into_iter().next());
        }
        Ok(None)
    }

    /// Brings a stack to this template and these parameters, and gives its outputs. A declared parameter without a value
    /// keeps the one it has: what an operator chose once must not be lost because another one did not repeat it.
    pub(super) async fn deploy(
        &self,
        name: &str,
        template: &TemplateSource,
        declared: &[Declared],
        values: &BTreeMap<String, String>,
    ) -> Result<(Change, BTreeMap<String, String>)> {
        let step = self.reporter.step(format!("stack {name}"));
        let token = operation_token();
        let present = self.make_ready(name, &step).await?;
        let given = values.iter().map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build());
        let had = present.iter().flat_map(|stack| stack.parameters()).filter_map(Parameter::parameter_key);
        let kept = had.filter(|key| !values.contains_key(*key) && declared.iter().any(|it| it.name == *key));
        let kept = kept.map(|key| Parameter::builder().parameter_key(key).use_previous_value(true).build());
        let parameters = given.chain(kept).collect::<Vec<_>>();
        let tags = tagged(present.iter().flat_map(|stack| stack.tags()), &self.tags);

        let change = match present {
            None => {
                let answer = self
                    .client
                    .create_stack()
                    .stack_name(name)
                    .set_template_body(template.body())
                    .set_template_url(template.url())
                    .set_parameters(Some(parameters))
                    .set_tags(Some(tags))
                    .set_role_arn(self.role_arn.clone())
                    .capabilities(Capability::CapabilityNamedIam)
                    .client_request_token(&token)
                    .send()
                    .await
                    .map_err(explain(format!("creating the stack `{name}`")))?;
                self.follow(answer.stack_id().unwrap_or(name), &token, &step).await?;
                Change::Created
            }
            Some(stack) => {
                let answer = self
                    .client
                    .update_stack()
                    .stack_name(name)
                    .set_template_body(template.body())
                    .set_template_url(template.url())
                    .set_parameters(Some(parameters))
                    .set_tags(Some(tags))
                    .set_role_arn(self.role_arn.clone())
                    .capabilities(Capability::CapabilityNamedIam)
                    .client_request_token(&token)
                    .send()
                    .await;
                match answer {
                    Ok(_) => {
                        self.follow(stack.stack_id().unwrap_or(name), &token, &step).await?;
                        Change::Updated
                    }
                    Err(error) if error.message().is_some_and(|message| message.contains("No updates are to be performed")) => {
                        Change::Unchanged
                    }
                    Err(error) => return Err(explain(format!("updating the stack `{name}`"))(error)),
                }
            }
        };
        let stack = self.find(name).await?.with_context(|| format!("the stack `{name}` is gone again"))?;
        step.done(change.name());
        Ok((change, outputs_of(&stack)))
    }

    /// Deletes a stack and waits until it is gone. Says whether it was there.
    pub(super) async fn delete(&self, name: &str, step: &Step) -> Result<bool> {
        let Some(stack) = self.settled(name, step).await? else { return Ok(false) };
        let token = operation_token();
        self.client
            .delete_stack()
            .stack_name(name)
            .client_request_token(&token)
            .send()
            .await
            .map_err(explain(format!("deleting the stack `{name}`")))?;
        // By its id: a deleted stack has no name.
        self.follow(stack.stack_id().unwrap_or(name), &token, step).await?;
        Ok(true)
    }

    /// Waits for an operation of somebody else, and clears away what no update can start from. Gives the stack to be
    /// updated, or nothing when it is to be created.
    async fn make_ready(&self, name: &str, step: &Step) -> Result<Option<Stack>> {
        let Some(stack) = self.settled(name, step).await? else { return Ok(None) };
        match stack.stack_status() {
            // Such a stack never worked, so nothing is lost with it; retained resources stay in any case.
            Some(
                StackStatus::RollbackComplete
                | StackStatus::RollbackFailed
                | StackStatus::CreateFailed
                | StackStatus::ReviewInProgress,
            ) => {
                step.note(format!("{name} is left over from a failed creation: deleting it first"));
                // It protects no account: nobody had the outputs that a user signs in by.
                self.lift_protection(name, step).await?;
                self.delete(name, step).await?;
                Ok(None)
            }
            Some(StackStatus::DeleteFailed) => {
                bail!(
                    "the stack `{name}` is partly deleted and can only be deleted: `sluice destroy` does that, with \
                     --delete-users if the user pool is protected"
                )
            }
            Some(StackStatus::UpdateRollbackFailed) => {
                step.note(format!("{name} has a rollback that got stuck: continuing it first"));
                let token = operation_token();
                self.client
                    .continue_update_rollback()
                    .stack_name(name)
                    .client_request_token(&token)
                    .send()
                    .await
                    .map_err(explain(format!("continuing the rollback of the stack `{name}`")))?;
                let stack = self.settled(name, step).await?;
                let status = stack.as_ref().and_then(Stack::stack_status);
                anyhow::ensure!(
                    status == Some(&StackStatus::UpdateRollbackComplete),
                    "the stack `{name}` does not get out of its failed rollback: {}",
                    stack.as_ref().and_then(Stack::stack_status_reason).unwrap_or("no reason given")
                );
                Ok(stack)
            }
            _ => Ok(Some(stack)),
        }
    }

    /// The stack, once nothing happens to it any more.
    async fn settled(&self, name: &str, step: &Step) -> Result<Option<Stack>> {
        within(DEADLINE, &format!("waiting for what already happens to the stack `{name}`"), async {
            loop {
                let stack = self.find(name).await?;
                let status = stack.as_ref().and_then(Stack::stack_status);
                match status {
                    Some(status) if in_progress(status) => step.at(format!("waiting: {}", status.as_str())),
                    _ => return Ok(stack),
                }
                tokio::time::sleep(self.poll_interval).await;
            }
        })
        .await
    }
}

/// The tags that a stack has, and over them ours. CloudFormation would take away what an update does not repeat.
fn tagged<'a>(had: impl Iterator<Item = &'a Tag>, ours: &BTreeMap<String, String>) -> Vec<Tag> {
    let had = had.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
    let mut tags: BTreeMap<String, String> = had.collect();
    tags.extend(ours.clone());
    tags.into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn in_progress(status: &StackStatus) -> bool {
    // A stack under review has no operation; it waits for a change set that may never come.
    status.as_str().ends_with("_IN_PROGRESS") && *status != StackStatus::ReviewInProgress
}

/// Marks the events of one operation.
fn operation_token() -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("sluice-{now}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_keeps_its_tags_and_ours_go_first() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let had = [tag("owner", "lab"), tag("stage", "test")];
        let ours = BTreeMap::from([("stage".to_owned(), "live".to_owned()), ("cost".to_owned(), "4711".to_owned())]);
        assert_eq!(tagged(had.iter(), &ours), [tag("cost", "4711"), tag("owner", "lab"), tag("stage", "live")]);
    }

    #[test]
    fn a_stack_that_waits_for_a_change_set_is_not_waited_for() {
        assert!(in_progress(&StackStatus::UpdateCompleteCleanupInProgress));
        assert!(!in_progress(&StackStatus::ReviewInProgress));
        assert!(!in_progress(&StackStatus::RollbackComplete));
    }
}
