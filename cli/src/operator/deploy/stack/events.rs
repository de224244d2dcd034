//! What happens in a stack while an operation is under way, and why the operation failed.

use std::collections::HashSet;

use anyhow::{Result, bail};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{ResourceStatus, Stack, StackEvent, StackStatus};

use super::{DEADLINE, Stacks, in_progress};
use crate::output::Step;
use client::error::explain;
use client::wait::within;

impl Stacks {
    /// Shows the events of one operation until it has ended.
    pub(super) async fn follow(&self, stack_id: &str, token: &str, step: &Step) -> Result<()> {
        within(DEADLINE + self.monitoring_time(), &format!("the stack `{stack_id}`"), async {
            let mut seen = HashSet::new();
            let mut failures = Vec::new();
            loop {
                let stack = self.find(stack_id).await?;
                // Read the events after the status, so that all events of an ended operation are there.
                for event in self.new_events(stack_id, token, &mut seen).await? {
                    show(&event, step, &mut failures);
                    // No resource failed: somebody, or an alarm, rolls the stack back.
                    if failures.is_empty() && event.resource_status() == Some(&ResourceStatus::UpdateRollbackInProgress) {
                        failures.extend(self.rolled_back(&event));
                    }
                }
                match stack.as_ref().and_then(Stack::stack_status) {
                    Some(status) if in_progress(status) => {}
                    // A change set starts a moment after the call. Until then the stack has the status of the operation before.
                    Some(StackStatus::CreateComplete | StackStatus::UpdateComplete | StackStatus::UpdateRollbackComplete)
                        if seen.is_empty() => {}
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
        // CloudFormation cancels resources under way when another one fails; they are not the reason.
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

#[cfg(test)]
mod tests {
    use super::*;

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
