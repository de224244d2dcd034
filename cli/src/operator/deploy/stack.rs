//! One CloudFormation stack at a time: create, update, delete.

mod change_set;
mod events;
mod protection;
mod rollback;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{Capability, Parameter, RollbackConfiguration, Stack, StackStatus, Tag};

pub use change_set::{Action, Planned};

use super::parameters::Declared;
use crate::output::{Reporter, Step};
use client::aws::Aws;
use client::error::explain;
use client::wait::within;

/// The slowest resource of our stacks takes minutes; the limit is for one that hangs.
const DEADLINE: Duration = Duration::from_secs(45 * 60);

/// The change of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// The stack did not exist.
    Created,
    /// The stack existed, and something in it has changed.
    Updated,
    /// The stack needed no change.
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

/// The template, the parameters and the options of a stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) template: &'a TemplateSource,
    pub(super) declared: &'a [Declared],
    pub(super) values: &'a BTreeMap<String, String>,
}

pub(super) struct Stacks {
    client: Client,
    user_pools: aws_sdk_cognitoidentityprovider::Client,
    tables: aws_sdk_dynamodb::Client,
    reporter: Reporter,
    poll_interval: Duration,
    role_arn: Option<String>,
    tags: BTreeMap<String, String>,
    rollback: RollbackConfiguration,
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
            rollback: rollback::none(),
        }
    }

    /// The same, but CloudFormation works under this role and sets these tags.
    pub(super) fn under(self, role_arn: Option<String>, tags: BTreeMap<String, String>) -> Self {
        Self { role_arn, tags, ..self }
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

    /// Brings a stack to this template and these parameters, and gives its outputs. Refuses an update that replaces or deletes
    /// resources with data, unless that is allowed.
    pub(super) async fn deploy(
        &self,
        name: &str,
        input: Input<'_>,
        allow_replacement: bool,
    ) -> Result<(Change, BTreeMap<String, String>)> {
        let step = self.reporter.step(format!("stack {name}"));
        let change = match self.make_ready(name, &step).await? {
            None => {
                self.create(name, input, &step).await?;
                Change::Created
            }
            Some(stack) => self.update(&stack, input, allow_replacement, &step).await?,
        };
        let stack = self.find(name).await?.with_context(|| format!("the stack `{name}` is gone again"))?;
        if self.guard(&stack).await? {
            step.note(format!("{name} is protected from deletion now"));
        }
        step.done(change.name());
        Ok((change, outputs_of(&stack)))
    }

    async fn create(&self, name: &str, input: Input<'_>, step: &Step) -> Result<()> {
        let token = operation_token();
        let answer = self
            .client
            .create_stack()
            .stack_name(name)
            .set_template_body(input.template.body())
            .set_template_url(input.template.url())
            .set_parameters(Some(self.parameters_of(None, input)))
            .set_tags(Some(self.tags_of(None)))
            .set_role_arn(self.role_arn.clone())
            .capabilities(Capability::CapabilityNamedIam)
            .client_request_token(&token)
            .send()
            .await
            .map_err(explain(format!("creating the stack `{name}`")))?;
        self.follow(answer.stack_id().unwrap_or(name), &token, step).await
    }

    async fn update(&self, stack: &Stack, input: Input<'_>, allow_replacement: bool, step: &Step) -> Result<Change> {
        let name = stack.stack_name().unwrap_or_default();
        let token = operation_token();
        let Some(set) = self.change_set(stack, input, &token, step).await? else { return Ok(Change::Unchanged) };
        set.planned.iter().for_each(|planned| step.note(planned.sentence()));
        let lost: Vec<_> = set.planned.iter().filter(|planned| planned.loses_data()).map(Planned::warning).collect();
        if !lost.is_empty() && !allow_replacement {
            self.drop_change_set(&set.id).await?;
            bail!("the stack `{name}` would lose data, and was not changed; --allow-replacement allows it. {}", lost.join(". "));
        }
        lost.iter().for_each(|warning| step.note(warning));
        self.execute(&set, &token).await?;
        self.follow(stack.stack_id().unwrap_or(name), &token, step).await?;
        Ok(Change::Updated)
    }

    /// The changes that [`Stacks::deploy`] would make to an existing stack; `None` if it needs none.
    pub(super) async fn plan(&self, stack: &Stack, input: Input<'_>, step: &Step) -> Result<Option<Vec<Planned>>> {
        let Some(set) = self.change_set(stack, input, &operation_token(), step).await? else { return Ok(None) };
        self.drop_change_set(&set.id).await?;
        Ok(Some(set.planned))
    }

    /// The given values. A declared parameter without one keeps the value that it has: an operator's choice must not be lost
    /// because the next command did not repeat it.
    fn parameters_of(&self, stack: Option<&Stack>, input: Input<'_>) -> Vec<Parameter> {
        let Input { declared, values, .. } = input;
        let given = values.iter().map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build());
        let had = stack.iter().flat_map(|stack| stack.parameters()).filter_map(Parameter::parameter_key);
        let kept = had.filter(|key| !values.contains_key(*key) && declared.iter().any(|it| it.name == *key));
        given.chain(kept.map(|key| Parameter::builder().parameter_key(key).use_previous_value(true).build())).collect()
    }

    fn tags_of(&self, stack: Option<&Stack>) -> Vec<Tag> {
        tagged(stack.iter().flat_map(|stack| stack.tags()), &self.tags)
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

    /// Waits for somebody else's operation, and removes a stack that no update can start from. Gives the stack to update, or
    /// `None` if it is to be created.
    async fn make_ready(&self, name: &str, step: &Step) -> Result<Option<Stack>> {
        let Some(stack) = self.settled(name, step).await? else { return Ok(None) };
        match stack.stack_status() {
            _ if is_left_over(&stack) => {
                step.note(format!("{name} is left over from a failed creation: deleting it first"));
                // This protects no account: nobody got the outputs that users sign in with.
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

    /// The stack, once no operation runs on it.
    pub(super) async fn settled(&self, name: &str, step: &Step) -> Result<Option<Stack>> {
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

/// The stack's present tags with ours on top. CloudFormation removes a tag that an update does not repeat.
fn tagged<'a>(had: impl Iterator<Item = &'a Tag>, ours: &BTreeMap<String, String>) -> Vec<Tag> {
    let had = had.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
    let mut tags: BTreeMap<String, String> = had.collect();
    tags.extend(ours.clone());
    tags.into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Whether a stack is the rest of a failed creation. It never worked, so deleting it loses nothing; retained resources stay in
/// any case.
pub(super) fn is_left_over(stack: &Stack) -> bool {
    matches!(
        stack.stack_status(),
        Some(
            StackStatus::RollbackComplete
                | StackStatus::RollbackFailed
                | StackStatus::CreateFailed
                | StackStatus::ReviewInProgress
        )
    )
}

fn in_progress(status: &StackStatus) -> bool {
    // A stack under review has no operation; it waits for a change set that may never come.
    status.as_str().ends_with("_IN_PROGRESS") && *status != StackStatus::ReviewInProgress
}

/// A token that marks the events of one operation.
fn operation_token() -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("sluice-{now}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::error::ErrorMetadata;
    use aws_sdk_cloudformation::operation::create_change_set::CreateChangeSetError;
    use aws_sdk_cloudformation::operation::create_stack::CreateStackError;
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    /// The requests are seen and refused: the local CloudFormation forgets the role.
    #[tokio::test]
    async fn cloudformation_is_to_work_under_the_given_role() {
        const ROLE: &str = "arn:aws:iam::123456789012:role/cloudformation";
        let refusal = || ErrorMetadata::builder().code("Seen").build();
        let create = mock!(Client::create_stack)
            .match_requests(|request| request.role_arn() == Some(ROLE))
            .then_error(move || CreateStackError::generic(refusal()));
        let change = mock!(Client::create_change_set)
            .match_requests(|request| request.role_arn() == Some(ROLE))
            .then_error(move || CreateChangeSetError::generic(refusal()));
        let client = mock_client!(aws_sdk_cloudformation, RuleMode::MatchAny, [&create, &change]);
        let (pools, tables) = (aws_sdk_cognitoidentityprovider::Config::builder(), aws_sdk_dynamodb::Config::builder());
        let stacks = Stacks {
            client,
            user_pools: aws_sdk_cognitoidentityprovider::Client::from_conf(pools.behavior_version_latest().build()),
            tables: aws_sdk_dynamodb::Client::from_conf(tables.behavior_version_latest().build()),
            reporter: Reporter::silent(),
            poll_interval: Duration::ZERO,
            role_arn: None,
            tags: BTreeMap::new(),
            rollback: rollback::none(),
        };
        let stacks = stacks.under(Some(ROLE.to_owned()), BTreeMap::new());
        let (template, values) = (TemplateSource::Inline("{}".to_owned()), BTreeMap::new());
        let input = Input { template: &template, declared: &[], values: &values };
        let step = Reporter::silent().step("a test");
        assert!(stacks.create("lake-core", input, &step).await.is_err());
        let stack = Stack::builder().stack_name("lake-core").build();
        assert!(stacks.update(&stack, input, false, &step).await.is_err());
        assert_eq!((create.num_calls(), change.num_calls()), (1, 1));
    }

    #[test]
    fn a_stack_keeps_its_tags_and_ours_have_precedence() {
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
