//! The identity ids that store remembers.

use anyhow::{Context as _, Result};
use aws_sdk_cognitoidentity::Client as Cognito;
use aws_sdk_dynamodb::types::AttributeValue::S;
use client::tokens::TokenClaims;
use domain::Requester;
use secrecy::ExposeSecret as _;
use sluice_tests::{Caller, Harness, adt, unique};

use crate::permissions::allowed;

/// The user of a token.
fn requester(it: &Harness, caller: &Caller) -> Result<Requester> {
    let provider = it.outputs.stack_output("UserPoolProviderName")?;
    Ok(Requester { subject: TokenClaims::of(&caller.token)?.sub, issuer: format!("https://{provider}") })
}

async fn identity(it: &Harness, caller: &Caller) -> Result<String> {
    let get = Cognito::new(it.aws.config()).get_id().identity_pool_id(&it.outputs.identity_pool_id);
    let get = get.logins(it.outputs.stack_output("UserPoolProviderName")?, caller.token.expose_secret());
    get.send().await?.identity_id.context("an identity")
}

#[tokio::test]
async fn an_identity_id_is_remembered_without_naming_the_user() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let user = requester(&it, &admin)?;
    assert_eq!(it.catalog().identity(&user).await?, None);
    it.store(&admin, &adt(&unique(), "DOE")).await?;
    assert_eq!(it.catalog().identity(&user).await?, Some(identity(&it, &admin).await?));
    Ok(())
}

#[tokio::test]
async fn a_wrong_remembered_identity_gives_nobody_anothers_credentials() -> Result<()> {
    let (it, other) = (Harness::new()?, Harness::new()?);
    let (mine, theirs) = (it.admin().await?, other.admin().await?);
    let (my_identity, their_identity) = (identity(&it, &mine).await?, identity(&it, &theirs).await?);

    // Cognito gives nothing for an identity to the token of another.
    let provider = it.outputs.stack_output("UserPoolProviderName")?;
    for (identity, is_mine) in [(&my_identity, true), (&their_identity, false)] {
        let give = Cognito::new(it.aws.config()).get_credentials_for_identity().identity_id(identity);
        let given = give.logins(provider, mine.token.expose_secret()).send().await;
        assert_eq!(given.is_ok(), is_mine, "{given:?}");
    }

    // So store asks anew, and what was wrong is replaced.
    let user = requester(&it, &mine)?;
    let put = aws_sdk_dynamodb::Client::new(it.aws.config()).put_item().table_name(&it.outputs.table);
    let put = put.item("source", S(catalog::IDENTITIES.to_owned())).item("message_id", S(user.digest()));
    assert!(allowed(put.item("identity_id", S(their_identity)).send().await)?);
    let (message_id, status) = it.store(&mine, &adt(&unique(), "DOE")).await?;
    assert_eq!(status["status"], "stored");
    let key = it.record(&message_id).await?.facts.context("stored")?.key;
    assert!(key.starts_with(&format!("source={}/", it.institute)), "{key}");
    assert_eq!(it.catalog().identity(&user).await?, Some(my_identity));
    Ok(())
}
