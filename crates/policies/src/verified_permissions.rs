//! A question to Amazon Verified Permissions.

use aws_sdk_verifiedpermissions::Client;
use aws_sdk_verifiedpermissions::types::{ActionIdentifier, Decision, EntitiesDefinition, EntityIdentifier};
use cedar_policy::EntityUid;
use runtime::StepError;
use serde_json::Value;

use crate::question::Question;
use crate::ruling::Ruling;

const OPERATION: &str = "verifiedpermissions:IsAuthorized";

/// Asks the policy store.
///
/// # Errors
/// When there is no answer.
pub(crate) async fn decide(client: &Client, policy_store_id: &str, question: &Question) -> Result<Ruling, StepError> {
    let unreadable = |_| StepError::InvalidInput { what: "the question" };
    let action = question.request.action().ok_or(StepError::InvalidInput { what: "the action" })?;
    let action = ActionIdentifier::builder().action_type(action.type_name().to_string()).action_id(action.id().unescaped());
    let asked = client
        .is_authorized()
        .policy_store_id(policy_store_id)
        .principal(identifier(&question.principal)?)
        .action(action.build().map_err(unreadable)?)
        .resource(identifier(&question.resource)?)
        .entities(EntitiesDefinition::CedarJson(entities(question)?));
    let answer = asked.send().await.map_err(|error| StepError::from_sdk(OPERATION, &error))?;

    let mut policies: Vec<String> = answer.determining_policies().iter().map(|policy| policy.policy_id().to_owned()).collect();
    policies.sort_unstable();
    // The text of an error can quote an attribute, so it is dropped.
    let failed = answer.errors().iter().map(|_| "of the store".to_owned()).collect();
    Ok(Ruling { allowed: *answer.decision() == Decision::Allow, policies, failed })
}

fn identifier(uid: &EntityUid) -> Result<EntityIdentifier, StepError> {
    let builder = EntityIdentifier::builder().entity_type(uid.type_name().to_string()).entity_id(uid.id().unescaped());
    builder.build().map_err(|_| StepError::InvalidInput { what: "the question" })
}

/// The entities in Cedar's JSON, without the actions, which the store takes only from its own schema. Sorted by name, so that
/// equal questions give equal texts.
fn entities(question: &Question) -> Result<String, StepError> {
    let mut entities: Vec<_> = question.entities.iter().filter(|it| it.uid().type_name().basename() != "Action").collect();
    entities.sort_by_key(|entity| entity.uid().to_string());
    let values: Result<Vec<Value>, _> = entities.into_iter().map(cedar_policy::Entity::to_json_value).collect();
    let values = values.map_err(|_| StepError::InvalidInput { what: "an entity" })?;
    Ok(Value::from(values).to_string())
}
