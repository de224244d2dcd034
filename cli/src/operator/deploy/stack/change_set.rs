//! What an update would do to a stack, asked of CloudFormation before it does it.

use anyhow::{Context, Result, bail};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{
    Capability, ChangeAction, ChangeSetStatus, ChangeSetType, PolicyAction, Replacement, ResourceAttribute, ResourceChange, Stack,
};

use super::{DEADLINE, Input, Stacks};
use crate::output::Step;
use client::error::explain;
use client::wait::within;

/// The types of resources whose content nobody can recreate.
const HOLDS_DATA: [&str; 6] = [
    "AWS::Cognito::UserPool",
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
];

/// The planned change of one resource of a stack.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The action.
    pub action: Action,
    /// Its name in the template.
    pub resource: String,
    /// Its type, such as `AWS::SQS::Queue`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its physical id in AWS; absent while it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The properties and attributes that change, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Whether the old resource stays in the account, outside the stack, when the stack drops it.
    pub kept: bool,
}

/// What an update does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// The update creates it.
    Add,
    /// The update changes it in place.
    Modify,
    /// A new resource takes its place.
    Replace,
    /// The update itself decides whether a new resource takes its place.
    MayReplace,
    /// The stack drops it.
    Delete,
}

impl Action {
    /// The words that a person reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "modify",
            Self::Replace => "replace",
            Self::MayReplace => "may replace",
            Self::Delete => "delete",
        }
    }
}

/// Whether resources of this type hold data.
fn holds_data(kind: &str) -> bool {
    HOLDS_DATA.contains(&kind)
}

impl Planned {
    /// Whether the change deletes data, or puts it out of the deployment's reach.
    #[must_use]
    pub fn loses_data(&self) -> bool {
        holds_data(&self.kind) && matches!(self.action, Action::Replace | Action::MayReplace | Action::Delete)
    }

    /// One line for a person.
    #[must_use]
    pub fn sentence(&self) -> String {
        let changes = if self.changes.is_empty() { String::new() } else { format!(": {}", self.changes.join(", ")) };
        format!("{} {} ({}){changes}", self.action.name(), self.resource, self.kind)
    }

    /// The fate of the data of a resource that [loses it](Self::loses_data).
    #[must_use]
    pub fn warning(&self) -> String {
        let Self { resource, kind, .. } = self;
        let what = match self.action {
            Action::Delete => "is given up",
            Action::MayReplace => "may be replaced by an empty one",
            _ => "is replaced by an empty one",
        };
        let then = match self.action {
            _ if self.kept => "the old one stays in the account, out of the deployment's reach",
            Action::MayReplace => "its UpdateReplacePolicy says whether the old one stays",
            _ => "its data is lost",
        };
        let id = self.id.as_ref().map_or_else(String::new, |id| format!(" {id}"));
        format!("DATA: {resource} ({kind}{id}) {what}; {then}")
    }

    fn of(change: &ResourceChange) -> Option<Self> {
        let action = match (change.action()?, change.replacement()) {
            (ChangeAction::Add | ChangeAction::Import, _) => Action::Add,
            (ChangeAction::Remove, _) => Action::Delete,
            (_, Some(Replacement::True)) => Action::Replace,
            (_, Some(Replacement::Conditional)) | (ChangeAction::Dynamic, _) => Action::MayReplace,
            _ => Action::Modify,
        };
        let targets = change.details().iter().filter_map(|detail| detail.target());
        let mut changes: Vec<String> = targets
            .filter_map(|target| match target.name() {
                Some(name) => Some(name.to_owned()),
                None => target.attribute().map(ResourceAttribute::as_str).map(str::to_owned),
            })
            .collect();
        changes.sort_unstable();
        changes.dedup();
        Some(Self {
            action,
            resource: change.logical_resource_id()?.to_owned(),
            kind: change.resource_type()?.to_owned(),
            id: change.physical_resource_id().filter(|id| !id.is_empty()).map(str::to_owned),
            changes,
            kept: matches!(change.policy_action(), Some(PolicyAction::Retain | PolicyAction::ReplaceAndRetain)),
        })
    }
}

/// A change set that waits for its execution, and its changes.
pub(super) struct ChangeSet {
    pub(super) id: String,
    pub(super) planned: Vec<Planned>,
}

impl Stacks {
    /// Creates a change set for a stack. `None` if the stack needs no change.
    pub(super) async fn change_set(
        &self,
        stack: &Stack,
        input: Input<'_>,
        token: &str,
        step: &Step,
    ) -> Result<Option<ChangeSet>> {
        let name = stack.stack_name().unwrap_or_default();
        let doing = || format!("computing the changes of the stack `{name}`");
        let asked = self
            .client
            .create_change_set()
            .stack_name(name)
            .change_set_name(token)
            .change_set_type(ChangeSetType::Update)
            .set_template_body(input.template.body())
            .set_template_url(input.template.url())
            .set_parameters(Some(self.parameters_of(Some(stack), input)))
            .set_tags(Some(self.tags_of(Some(stack))))
            .set_role_arn(self.role_arn.clone())
            .rollback_configuration(self.rollback.clone())
            .capabilities(Capability::CapabilityNamedIam)
            .send()
            .await
            .map_err(explain(doing()))?;
        let id = asked.id.context("AWS gave the change set no id")?;
        let described = within(DEADLINE, &doing(), async {
            loop {
                let answer = self.client.describe_change_set().change_set_name(&id).send().await.map_err(explain(doing()))?;
                match answer.status() {
                    Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => step.at("computing the changes"),
                    _ => return Ok(answer),
                }
                tokio::time::sleep(self.poll_interval).await;
            }
        })
        .await?;
        if described.status() != Some(&ChangeSetStatus::CreateComplete) {
            let reason = described.status_reason().unwrap_or("no reason given").to_owned();
            self.drop_change_set(&id).await?;
            return if changes_nothing(&reason) { Ok(None) } else { bail!("{}: {reason}", doing()) };
        }
        let mut planned = Vec::new();
        let mut pages = self.client.describe_change_set().change_set_name(&id).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain(doing()))?;
            planned.extend(page.changes().iter().filter_map(|change| Planned::of(change.resource_change()?)));
        }
        Ok(Some(ChangeSet { id, planned }))
    }

    /// Carries a change set out. Its events have the token.
    pub(super) async fn execute(&self, set: &ChangeSet, token: &str) -> Result<()> {
        let execute = self.client.execute_change_set().change_set_name(&set.id).client_request_token(token);
        execute.send().await.map(drop).map_err(explain("executing a change set"))
    }

    /// Throws a change set away.
    pub(super) async fn drop_change_set(&self, id: &str) -> Result<()> {
        match self.client.delete_change_set().change_set_name(id).send().await {
            Err(error) if error.code() == Some("ChangeSetNotFound") => Ok(()),
            deleted => deleted.map(drop).map_err(explain("deleting a change set")),
        }
    }
}

/// Whether a change set failed because it changes nothing. CloudFormation has no code for that.
fn changes_nothing(reason: &str) -> bool {
    reason.contains("didn't contain changes") || reason.contains("No updates are to be performed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: &str, action: ChangeAction, replacement: Option<Replacement>) -> Planned {
        let change = ResourceChange::builder().logical_resource_id("It").resource_type(kind).action(action);
        Planned::of(&change.set_replacement(replacement).build()).unwrap()
    }

    #[test]
    fn a_resource_with_data_is_neither_replaced_nor_deleted_unnoticed() {
        let modify = |kind, replacement| change(kind, ChangeAction::Modify, Some(replacement));
        for kind in HOLDS_DATA {
            assert!(modify(kind, Replacement::True).loses_data(), "{kind}");
            assert!(modify(kind, Replacement::Conditional).loses_data(), "{kind}");
            assert!(change(kind, ChangeAction::Remove, None).loses_data(), "{kind}");
            assert!(!modify(kind, Replacement::False).loses_data(), "{kind}");
            assert!(!change(kind, ChangeAction::Add, None).loses_data(), "{kind}");
        }
        assert!(!change("AWS::Lambda::Function", ChangeAction::Remove, None).loses_data());
        assert!(modify("AWS::SQS::Queue", Replacement::True).warning().ends_with("replaced by an empty one; its data is lost"));
    }

    #[test]
    fn an_empty_change_set_is_told_from_a_failed_one() {
        assert!(changes_nothing(
            "The submitted information didn't contain changes. Submit different information to create a change set."
        ));
        assert!(changes_nothing("No updates are to be performed."));
        assert!(!changes_nothing("Transform failed"));
    }
}
