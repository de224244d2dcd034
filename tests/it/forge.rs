//! Envelopes made by hand: any token, any source, any payload. The API makes none of these.

use anyhow::{Context, Result};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_sfn::operation::start_sync_execution::StartSyncExecutionOutput;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use domain::{Charset, Envelope, Er7, Payload, Received, SubmittedMessage};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice_tests::{Harness, unique};

/// An envelope of `source` with that message inside and that token, sealed by KMS itself: the first version of a sealed token.
pub(crate) async fn envelope(it: &Harness, source: &str, message: &str, token: &SecretString) -> Result<Envelope> {
    let message = Er7::canonical(message)?;
    let submitted = SubmittedMessage {
        submission_id: runtime::new_submission_id(),
        message_id: message.message_id(),
        source: source.parse()?,
    };
    Ok(Envelope {
        v: Envelope::VERSION,
        token: seal(it, &submitted, token).await?,
        submission_id: submitted.submission_id,
        message_id: submitted.message_id,
        source: submitted.source,
        received_at: runtime::now(),
        subject: "a-subject".to_owned(),
        issuer: "an-issuer".to_owned(),
        payload: Payload::inline(&Received::new(message.as_str().to_owned(), Charset::UTF_8)),
        traceparent: None,
        release: None,
        tries: 0,
        hold: None,
    })
}

/// Seals a token for a submission and its source, as the account's root.
pub(crate) async fn seal(it: &Harness, submitted: &SubmittedMessage, token: &SecretString) -> Result<String> {
    let sealed = aws_sdk_kms::Client::new(it.aws.config())
        .encrypt()
        .key_id(token_key(it)?)
        .encryption_context("submissionId", submitted.submission_id.to_string())
        .encryption_context("source", submitted.source.to_string())
        .plaintext(Blob::new(token.expose_secret().as_bytes()))
        .send()
        .await?;
    Ok(BASE64_STANDARD.encode(sealed.ciphertext_blob.context("KMS gave no ciphertext")?))
}

/// The key that seals tokens.
pub(crate) fn token_key(it: &Harness) -> Result<&String> {
    it.outputs.stack_outputs.get("TokenKeyArn").context("no output `TokenKeyArn`")
}

pub(crate) fn submitted(envelope: &Envelope) -> SubmittedMessage {
    SubmittedMessage {
        submission_id: envelope.submission_id,
        message_id: envelope.message_id.clone(),
        source: envelope.source.clone(),
    }
}

/// An ID token of the institutes' user pool that nobody signed. `exp` decides whether it has run out; its subject is like no other.
pub(crate) fn unsigned_token(it: &Harness, exp: u64) -> SecretString {
    let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let issuer = &it.outputs.stack_outputs["UserPoolIssuer"];
    let claims = json!({ "iss": issuer, "aud": it.outputs.client_id, "sub": unique(), "token_use": "id", "exp": exp });
    format!("{}.{}.{}", part(json!({ "alg": "RS256" })), part(claims), BASE64_URL_SAFE_NO_PAD.encode(unique())).into()
}

/// Long ago.
pub(crate) const EXPIRED: u64 = 1_000_000_000;
/// Not soon.
pub(crate) const VALID: u64 = 4_000_000_000;

/// Runs the state machine with this input, to its end.
pub(crate) async fn execute(it: &Harness, input: &impl serde::Serialize) -> Result<StartSyncExecutionOutput> {
    let config = aws_sdk_sfn::config::Builder::from(it.aws.config()).interceptor(runtime::StripHostPrefix).build();
    let execution = aws_sdk_sfn::Client::from_conf(config)
        .start_sync_execution()
        .state_machine_arn(&it.outputs.state_machine_arn)
        .input(serde_json::to_string(input)?)
        .send()
        .await?;
    Ok(execution)
}

/// Runs the state machine, expects it to succeed, and gives the `outcome` of its output.
pub(crate) async fn outcome(it: &Harness, input: &impl serde::Serialize) -> Result<String> {
    let execution = execute(it, input).await?;
    anyhow::ensure!(execution.status().as_str() == "SUCCEEDED", "{:?}: {:?}", execution.status(), execution.error());
    let output: Value = serde_json::from_str(execution.output().unwrap_or_default())?;
    Ok(output["outcome"].as_str().unwrap_or_default().to_owned())
}

/// Notes the submission in the catalog, as `submit` does before it queues.
pub(crate) async fn record(it: &Harness, envelope: &Envelope) -> Result<()> {
    it.catalog().record_submission(&submitted(envelope), envelope.received_at, &envelope.requester()).await?;
    Ok(())
}

/// Puts an envelope into the queue, noted in the catalog.
pub(crate) async fn enqueue(it: &Harness, envelope: &Envelope) -> Result<()> {
    record(it, envelope).await?;
    aws_sdk_sqs::Client::new(it.aws.config())
        .send_message()
        .queue_url(&it.outputs.queue_url)
        .message_body(serde_json::to_string(envelope)?)
        .send()
        .await?;
    Ok(())
}
