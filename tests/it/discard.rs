//! An operator decides that a held message is not to be stored.

use anyhow::{Context, Result};
use domain::Status;
use serde_json::json;
use sluice::operator::discard::discard;
use sluice_tests::{DEADLINE, Harness, adt, unique};

use crate::listen::{Listener, event_id};
use crate::{forge, held};

#[tokio::test]
async fn a_discarded_message_says_who_decided_it_and_why_and_is_stored_when_it_is_submitted_again() -> Result<()> {
    let it = Harness::new()?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let message = adt(&unique(), "DOE");
    let envelope = held::held(&it, &message, &forge::unsigned_token(&it, forge::EXPIRED)).await?;
    let key = (envelope.source.clone(), envelope.message_id.clone());

    let done = discard(&it.aws, it.outputs, &key, "sent twice under another id").await?;
    assert_eq!(done.facts.discard_reason, "sent twice under another id");
    assert!(done.facts.discarded_by.starts_with("arn:aws"), "{}", done.facts.discarded_by);
    let record = it.record(&envelope.message_id).await?;
    assert_eq!((record.status, record.discarded.as_ref()), (Status::Discarded, Some(&done.facts)));
    let id = event_id(envelope.submission_id, envelope.message_id.as_str(), "discarded");
    let event = listener.hear_id(&id).await?.event;
    assert_eq!((&event["data"]["reason"], &event["data"]["error"]["code"]), (&json!("expired"), &json!("TokenExpired")));

    // Repeated, it changes nothing; and nobody releases it.
    assert_eq!(discard(&it.aws, it.outputs, &key, "another reason").await?, done);
    let admin = it.admin().await?;
    assert_eq!(it.api.release(envelope.message_id.as_str(), &admin.token).await?.status, 409);
    assert_eq!(it.object_versions().await?, []);

    // SQS delivers the submission once more: it changes nothing.
    assert_eq!(forge::outcome(&it, &envelope).await?, "discarded");
    assert_eq!(it.record(&envelope.message_id).await?.status, Status::Discarded);

    // A later submission is tried anew.
    let (message_id, status) = it.store(&admin, &message).await?;
    assert_eq!((&message_id, &status["status"]), (&envelope.message_id, &json!("stored")));
    let refused = discard(&it.aws, it.outputs, &key, "too late").await;
    assert!(refused.unwrap_err().to_string().contains("not held, but `stored`"));
    Ok(())
}

#[tokio::test]
async fn only_a_held_message_of_that_institute_is_discarded() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let envelope = held::expired(&it).await?;
    let (source, message_id) = (elsewhere.institute.parse()?, envelope.message_id.clone());
    let refused = discard(&it.aws, it.outputs, &(source, message_id), "of another").await;
    assert!(refused.unwrap_err().to_string().contains("has submitted no message"));
    let admin = it.admin().await?;
    it.api.release(envelope.message_id.as_str(), &admin.token).await?;
    it.api.final_status(envelope.message_id.as_str(), &admin.token, DEADLINE).await?;
    assert_eq!(it.record(&envelope.message_id).await?.facts.context("stored")?.state, domain::State::Parsed);
    Ok(())
}
