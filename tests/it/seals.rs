//! Tokens sealed as `submit` seals them, moved and tampered with, through the deployed pipeline.

use anyhow::{Context, Result};
use domain::Envelope;
use seal::Sealer;
use secrecy::ExposeSecret as _;
use sluice_tests::{Harness, adt, unique};

use crate::forge;

#[tokio::test]
async fn a_sealed_token_that_was_moved_or_tampered_with_is_held_and_its_own_is_stored() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let (caller, other_caller) = (it.admin().await?, elsewhere.admin().await?);
    let sealer = Sealer::new(aws_sdk_kms::Client::new(it.aws.config()), forge::token_key(&it)?.clone());
    let sealed = async |institute: &str, caller: &sluice_tests::Caller| {
        let envelope = forge::envelope(&it, institute, &adt(&unique(), "DOE"), &caller.token).await?;
        let token = sealer.seal(envelope.submission_id, &envelope.source, &caller.token).await?;
        anyhow::Ok(Envelope { token, ..envelope })
    };
    let own = sealed(&it.institute, &caller).await?;
    assert_eq!(forge::outcome(&it, &own).await?, "stored");
    assert_eq!(it.object_versions().await?.len(), 2, "the message and its rendition");
    let others = sealed(&elsewhere.institute, &other_caller).await?;
    let part = |envelope: &Envelope, n: usize| envelope.token.split('.').nth(n).map(str::to_owned).context("a part");

    let [wrapped, text, others_key] = [part(&own, 1)?, part(&own, 2)?, part(&others, 1)?];
    let another = format!("{}{}", if wrapped.starts_with('A') { "B" } else { "A" }, wrapped.get(1..).context("a key")?);
    let table = [
        ("in another submission", &it, own.token.clone()),
        ("in another institute's envelope", &elsewhere, own.token.clone()),
        ("with the key of another institute", &it, format!("2.{others_key}.{text}")),
        ("with a tampered key", &it, format!("2.{another}.{text}")),
        ("without a key", &it, format!("2..{text}")),
        ("plain", &it, caller.token.expose_secret().to_owned()),
    ];
    for (what, to, token) in table {
        let envelope = Envelope { token, ..forge::envelope(to, &to.institute, &adt(&unique(), "DOE"), &caller.token).await? };
        assert_eq!(forge::outcome(&it, &envelope).await?, "held", "{what}");
        assert_eq!(to.record(&envelope.message_id).await?.error.context(what)?.code, "TokenInvalid", "{what}");
    }
    assert_eq!((it.object_versions().await?.len(), elsewhere.object_versions().await?.len()), (2, 0));
    // The worker has the keys of both in memory now, and each token still opens in its place.
    assert_eq!(forge::outcome(&it, &others).await?, "stored");
    Ok(())
}
