//! The input that docs/OPERATIONS.md offers for a run by hand works as pasted.

use std::path::Path;

use anyhow::{Context, Result};
use domain::{Envelope, Status};
use serde_json::{Value, json};
use sluice_tests::Harness;

use crate::forge;
use crate::listen::{Listener, event_id};

/// The one block that stands behind the mark, as it is.
fn pasted() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut behind_marks = text.split("<!-- console-input -->\n```json\n").skip(1);
    let block = behind_marks.next().and_then(|it| it.split_once("\n```\n")).context("no marked block in OPERATIONS.md")?;
    anyhow::ensure!(behind_marks.next().is_none(), "more than one marked block in OPERATIONS.md");
    Ok(block.0.to_owned())
}

#[tokio::test]
async fn the_input_in_the_manual_works_as_pasted() -> Result<()> {
    let it = Harness::new()?;
    let pasted = pasted()?;
    let envelope = Envelope::from_json(&pasted)?;
    let source = envelope.source.to_string();
    let mut listener = Listener::new(&it, json!({ "source": [source] }), &[&source]).await?;
    let input: Value = serde_json::from_str(&pasted)?;
    // Twice, for the next operator pastes it again.
    for _ in 0..2 {
        assert_eq!(forge::outcome(&it, &input).await?, "held");
    }
    let held = listener.hear_id(&event_id(envelope.submission_id, envelope.message_id.as_str(), "held")).await?;
    assert_eq!(held.event["data"]["error"]["code"], "TokenInvalid");
    let record = it.catalog().get(&envelope.source, &envelope.message_id).await?.context("a record")?;
    assert_eq!(record.status, Status::Held);

    let found = it.aws.s3().list_objects_v2().bucket(&it.outputs.bucket).prefix(format!("source={source}/")).send().await?;
    assert_eq!(found.contents(), [], "nothing of it is in the lake");
    Ok(())
}
