//! One CloudFormation stack at a time: create, update, delete, and what happens meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{Capability, Parameter, ResourceStatus, Stack, StackEvent, StackStatus};
use aws_sdk_cognitoidentityprovider::types::{AdminCreateUserConfigType, DeletionProtectionType};
use aws_sdk_dynamodb::types::TableStatus;

use super::parameters::Declared;
use crate::aws::Aws;
use crate::error::explain;
use crate::output::{Reporter, Step};
use crate::wait::within;

/// The slowest thing in our stacks takes minutes; this is for what hangs.
const DEADLINE: Duration = Duration::from_secs(45 * 60);

/// A table takes seconds to change its protection.
const TABLE_DEADLINE: Duration = Duration::from_secs(5 * 60);

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
        }
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

    /// Whether the parameter `DeletionProtection` of a stack is on.
    pub(super) async fn is_protected(&self, name: &str) -> Result<bool> {
        Ok(self.find(name).await?.is_some_and(|stack| stack.parameters().iter().any(is_protection)))
    }

    /// Switches the parameter `DeletionProtection` of a stack off, where it is on. What a stack that takes no update protects
    /// is changed past the stack. For a stack that is deleted next: a user pool loses settings on the way.
    pub(super) async fn lift_protection(&self, name: &str, step: &Step) -> Result<()> {
        let Some(stack) = self.settled(name, step).await? else { return Ok(()) };
        if !stack.parameters().iter().any(is_protection) {
            return Ok(());
        }
        let updatable = matches!(
            stack.stack_status(),
            Some(StackStatus::CreateComplete | StackStatus::UpdateComplete | StackStatus::UpdateRollbackComplete)
        );
        if !updatable {
            return self.unprotect_resources(name).await;
        }
        let parameters = stack.parameters().iter().map(|parameter| {
            let same = Parameter::builder().set_parameter_key(parameter.parameter_key.clone());
            if is_protection(parameter) { same.parameter_value("INACTIVE") } else { same.use_previous_value(true) }.build()
        });
        let token = operation_token();
        self.client
            .update_stack()
            .stack_name(name)
            .use_previous_template(true)
            .set_parameters(Some(parameters.collect()))
            .capabilities(Capability::CapabilityNamedIam)
            .client_request_token(&token)
            .send()
            .await
            .map_err(explain(format!("lifting the deletion protection of the stack `{name}`")))?;
        self.follow(stack.stack_id().unwrap_or(name), &token, step).await
    }

    /// Makes what is left of a stack's user pool and table deletable.
    async fn unprotect_resources(&self, name: &str) -> Result<()> {
        let answer = self.client.describe_stack_resources().stack_name(name).send().await;
        let answer = answer.map_err(explain(format!("listing the resources of the stack `{name}`")))?;
        for resource in answer.stack_resources() {
            if resource.resource_status() == Some(&ResourceStatus::DeleteComplete) {
                continue;
            }
            match (resource.resource_type(), resource.physical_resource_id()) {
                (Some("AWS::Cognito::UserPool"), Some(pool)) => self.unprotect_user_pool(pool).await?,
                (Some("AWS::DynamoDB::Table"), Some(table)) => self.unprotect_table(table).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn unprotect_user_pool(&self, pool: &str) -> Result<()> {
        // UpdateUserPool sets what it is not told to the default, by which anybody may sign up.
        let nobody_signs_up = AdminCreateUserConfigType::builder().allow_admin_create_user_only(true).build();
        let update = self
            .user_pools
            .update_user_pool()
            .user_pool_id(pool)
            .deletion_protection(DeletionProtectionType::Inactive)
            .admin_create_user_config(nobody_signs_up);
        match update.send().await {
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(()),
            updated => updated.map(drop).map_err(explain(format!("lifting the deletion protection of the user pool `{pool}`"))),
        }
    }

    async fn unprotect_table(&self, table: &str) -> Result<()> {
        match self.tables.describe_table().table_name(table).send().await {
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(()),
            Err(error) => return Err(explain(format!("looking at the table `{table}`"))(error)),
            Ok(answer) if answer.table().and_then(|table| table.deletion_protection_enabled()) != Some(true) => return Ok(()),
            Ok(_) => {}
        }
        let update = self.tables.update_table().table_name(table).deletion_protection_enabled(false);
        update.send().await.map_err(explain(format!("lifting the deletion protection of the table `{table}`")))?;
        // A table that is being changed cannot be deleted.
        within(TABLE_DEADLINE, &format!("the change of the table `{table}`"), async {
            loop {
                let answer = self.tables.describe_table().table_name(table).send().await;
                let answer = answer.map_err(explain(format!("looking at the table `{table}`")))?;
                if answer.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) {
                    return Ok(());
                }
                tokio::time::sleep(self.poll_interval).await;
            }
        })
        .await
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

        let change = match present {
            None => {
                let answer = self
                    .client
                    .create_stack()
                    .stack_name(name)
                    .set_template_body(template.body())
                    .set_template_url(template.url())
                    .set_parameters(Some(parameters))
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
                    "the stack `{name}` is half deleted; `sluice destroy` goes on with that, with --delete-users if the user pool \
                     is protected, and nothing else can be done with it"
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

    /// Shows the events of one operation until it has ended.
    async fn follow(&self, stack_id: &str, token: &str, step: &Step) -> Result<()> {
        within(DEADLINE, &format!("the stack `{stack_id}`"), async {
            let mut seen = HashSet::new();
            let mut failures = Vec::new();
            loop {
                let stack = self.find(stack_id).await?;
                // After the status, so that the events of an ended operation are all there.
                for event in self.new_events(stack_id, token, &mut seen).await? {
                    show(&event, step, &mut failures);
                }
                match stack.as_ref().and_then(Stack::stack_status) {
                    Some(status) if in_progress(status) => {}
                    None | Some(StackStatus::CreateComplete | StackStatus::UpdateComplete) => return Ok(()),
                    Some(status) => {
                        let reason = stack.as_ref().and_then(Stack::stack_status_reason).unwrap_or_default();
                        bail!("{}", failure(stack_id, status, reason, &failures));
                    }
                }
                tokio::time::sleep(self.poll_interval).await;
            }
        })
        .await
    }

    /// The events of this operation that were not seen before, oldest first.
    async fn new_events(&self, stack_id: &str, token: &str, seen: &mut HashSet<String>) -> Result<Vec<StackEvent>> {
        let mut found = Vec::new();
        let mut pages = self.client.describe_stack_events().stack_name(stack_id).into_paginator().send();
        'pages: while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                // A local AWS may forget a deleted stack at once.
                Err(error) if error.message().is_some_and(|message| message.contains("does not exist")) => break,
                Err(error) => return Err(explain(format!("reading the events of the stack `{stack_id}`"))(error)),
            };
            for event in page.stack_events.unwrap_or_default() {
                let ours = event.client_request_token() == Some(token);
                if !ours || !seen.insert(event.event_id().unwrap_or_default().to_owned()) {
                    break 'pages; // newest first: everything further down is older
                }
                found.push(event);
            }
        }
        found.reverse();
        Ok(found)
    }
}

fn show(event: &StackEvent, step: &Step, failures: &mut Vec<String>) {
    let status = event.resource_status().map_or("", |status| status.as_str());
    let resource = event.logical_resource_id().unwrap_or_default();
    let kind = event.resource_type().unwrap_or_default();
    let reason = event.resource_status_reason().unwrap_or_default();
    step.at(format!("{resource} {status}"));
    if status.ends_with("_FAILED") && kind != "AWS::CloudFormation::Stack" {
        step.note(format!("{resource} ({kind}) {status}: {reason}"));
        // Resources that were under way when another one failed are not why.
        if !reason.contains("cancelled") {
            failures.push(format!("{resource} ({kind}): {reason}"));
        }
    } else if status.ends_with("_COMPLETE") && kind != "AWS::CloudFormation::Stack" {
        step.note(format!("{resource} ({kind}) {status}"));
    }
}

fn failure(stack_id: &str, status: &StackStatus, reason: &str, failures: &[String]) -> String {
    let name = stack_id.split('/').nth(1).unwrap_or(stack_id);
    let why = match failures {
        [] if reason.is_empty() => "no reason given".to_owned(),
        [] => reason.to_owned(),
        failures => failures.join("; "),
    };
    format!("the stack `{name}` ended as {}: {why}", status.as_str())
}

fn is_protection(parameter: &Parameter) -> bool {
    parameter.parameter_key() == Some("DeletionProtection") && parameter.parameter_value() == Some("ACTIVE")
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
    fn a_stack_that_waits_for_a_change_set_is_not_waited_for() {
        assert!(in_progress(&StackStatus::UpdateCompleteCleanupInProgress));
        assert!(!in_progress(&StackStatus::ReviewInProgress));
        assert!(!in_progress(&StackStatus::RollbackComplete));
    }

    #[test]
    fn a_failure_names_the_stack_and_its_resources() {
        let id = "arn:aws:cloudformation:eu-central-1:1:stack/sluice-core/uuid";
        let failures = ["TokenKey (AWS::KMS::Key): the policy is malformed".to_owned()];
        assert_eq!(
            failure(id, &StackStatus::RollbackComplete, "", &failures),
            "the stack `sluice-core` ended as ROLLBACK_COMPLETE: TokenKey (AWS::KMS::Key): the policy is malformed"
        );
        assert!(failure(id, &StackStatus::RollbackComplete, "quota", &[]).ends_with("quota"));
    }
}
