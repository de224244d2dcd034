//! What keeps a stack, its user pools and its table from being deleted by mistake: whether it is on, and how it is lifted.

use std::time::Duration;

use anyhow::Result;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{Capability, Parameter, ResourceStatus, Stack, StackStatus};
use aws_sdk_cognitoidentityprovider::types::{AdminCreateUserConfigType, DeletionProtectionType};
use aws_sdk_dynamodb::types::TableStatus;

use super::{Stacks, operation_token};
use crate::output::Step;
use client::error::explain;
use client::wait::within;

/// A table takes seconds to change its protection.
const TABLE_DEADLINE: Duration = Duration::from_secs(5 * 60);

impl Stacks {
    /// Switches the termination protection of a stack on, so that nobody deletes it by mistake in the console. Says whether it
    /// was off. A new stack gets no protection yet, because the next deployment must be able to delete a failed creation.
    pub(super) async fn guard(&self, stack: &Stack) -> Result<bool> {
        if is_guarded(stack) {
            return Ok(false);
        }
        self.set_guard(stack.stack_name().unwrap_or_default(), true).await?;
        Ok(true)
    }

    /// Switches the termination protection of a stack off. Says whether it was on.
    pub(in super::super) async fn lift_guard(&self, name: &str) -> Result<bool> {
        match self.find(name).await? {
            Some(stack) if is_guarded(&stack) => self.set_guard(name, false).await.map(|()| true),
            _ => Ok(false),
        }
    }

    async fn set_guard(&self, name: &str, on: bool) -> Result<()> {
        let update = self.client.update_termination_protection().stack_name(name).enable_termination_protection(on);
        update.send().await.map(drop).map_err(explain(format!("changing the termination protection of the stack `{name}`")))
    }

    /// Whether the parameter `DeletionProtection` of a stack is on.
    pub(in super::super) async fn is_protected(&self, name: &str) -> Result<bool> {
        Ok(self.find(name).await?.is_some_and(|stack| stack.parameters().iter().any(is_protection)))
    }

    /// Switches the parameter `DeletionProtection` of a stack off, where it is on. If a stack takes no update, its resources are
    /// changed directly. Only for a stack that is about to be deleted: a user pool loses settings on the way.
    pub(in super::super) async fn lift_protection(&self, name: &str, step: &Step) -> Result<()> {
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

    /// Lifts the protection from the remaining user pool and table of a stack.
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
        // UpdateUserPool resets what the call leaves out, and by default anybody may sign up.
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
        // DynamoDB does not delete a table while it changes it.
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
}

/// Whether the termination protection of a stack is on.
fn is_guarded(stack: &Stack) -> bool {
    stack.enable_termination_protection() == Some(true)
}

fn is_protection(parameter: &Parameter) -> bool {
    parameter.parameter_key() == Some("DeletionProtection") && parameter.parameter_value() == Some("ACTIVE")
}
