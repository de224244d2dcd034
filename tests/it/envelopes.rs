//! Envelopes of earlier builds, of this one and of a later one wait in one queue while a deployment is changed.

use anyhow::Result;
use domain::{Charset, Envelope, Payload, Received};
use seal::Sealer;
use serde_json::{Value, json};
use sluice_tests::{DEADLINE, Harness, adt, unique};

use crate::forge;

/// An envelope as an earlier build wrote it.
const RECORDED: &str = include_str!("../../crates/catalog/tests/recorded/envelope.json");

/// Puts a JSON text into the queue, as it stands, and waits for the end of its message.
async fn status(it: &Harness, caller: &sluice_tests::Caller, envelope: &Envelope, json: &Value) -> Result<String> {
    forge::record(it, envelope).await?;
    let sqs = aws_sdk_sqs::Client::new(it.aws.config());
    sqs.send_message().queue_url(&it.outputs.queue_url).message_body(json.to_string()).send().await?;
    let end = it.api.final_status(envelope.message_id.as_str(), &caller.token, DEADLINE).await?;
    Ok(end["status"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn envelopes_of_an_earlier_a_present_and_a_later_build_are_stored() -> Result<()> {
    let it = Harness::new()?;
    let caller = it.admin().await?;
    let recorded: Value = serde_json::from_str(RECORDED)?;
    let members = |json: &Value| json.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();

    // Sealed by KMS itself, without the members that came later: the first version. With a character set, and before there were any.
    for charset in ["ISO-8859-15", "UTF-8"] {
        let envelope = forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &caller.token).await?;
        let Payload::Inline { inline, .. } = &envelope.payload else { anyhow::bail!("the message is not in its envelope") };
        let mut json = recorded.clone();
        for name in ["submissionId", "messageId", "source", "receivedAt", "subject", "issuer", "token"] {
            json[name] = serde_json::to_value(&envelope)?[name].clone();
        }
        json["payload"] =
            if charset == "UTF-8" { json!({ "inline": inline }) } else { json!({ "inline": inline, "charset": charset }) };
        assert_eq!(members(&json), members(&recorded));
        assert_eq!(status(&it, &caller, &envelope, &json).await?, "stored", "{charset}");
    }

    // Every member of this build, and the present seal; then what a later build of the same version may add.
    let sealer = Sealer::new(aws_sdk_kms::Client::new(it.aws.config()), forge::token_key(&it)?.clone());
    for later in [false, true] {
        let message = adt(&unique(), "DOE");
        let envelope = forge::envelope(&it, &it.institute, &message, &caller.token).await?;
        let envelope = Envelope {
            token: sealer.seal(envelope.submission_id, &envelope.source, &caller.token).await?,
            payload: Payload::inline(&Received::new(message, Charset::for_label("ISO-8859-1").unwrap())),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?),
            tries: 2,
            ..envelope
        };
        let mut json = serde_json::to_value(&envelope)?;
        if later {
            json["of-a-later-build"] = json!({ "any": ["thing"] });
        }
        assert_eq!(status(&it, &caller, &envelope, &json).await?, "stored", "later: {later}");
    }
    Ok(())
}
