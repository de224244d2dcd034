//! Claims that are more than the name of an institute. Who sets claims decides who reads what; but whatever stands in
//! one, it opens nothing of an institute whose name it is not.

use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use client::deployment::Deployment;
use domain::arrivals;
use sluice_tests::Harness;

use super::call::Call;
use super::requests::{get, get_item, get_old, labels, put, query, query_arrivals, retag, summary, summary_of};
use super::world::{Place, World};
use super::{is_denied, judge};

/// A claim that a user has in both attributes.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) tried: &'static str,
    /// The claim, made of the name of the institute that is attacked.
    claim: fn(&str) -> String,
    /// Whether an own institute of that name works as any other.
    works: bool,
}

pub(super) const ROWS: &[Row] = &[
    Row { id: "claim-star", tried: "`*`", claim: |_| "*".to_owned(), works: false },
    Row {
        id: "claim-pattern",
        tried: "the other's name with a `*` for its end",
        claim: |it| format!("{}*", start(it)),
        works: false,
    },
    Row {
        id: "claim-question-mark",
        tried: "the other's name with a `?` for its last letter",
        claim: |it| format!("{}?", start(it)),
        works: false,
    },
    Row {
        id: "claim-slash",
        tried: "`other/protocol=hl7v2`, a place inside the other's prefix",
        claim: |it| format!("{it}/protocol=hl7v2"),
        works: false,
    },
    // Not below a prefix, but a partition of the catalog's index by arrival has this name.
    Row { id: "claim-partition", tried: "`other#0`, a partition of the other's", claim: |it| format!("{it}#0"), works: true },
    Row { id: "claim-slash-behind", tried: "`other/`", claim: |it| format!("{it}/"), works: false },
    Row { id: "claim-dots", tried: "`x/../source=other`", claim: |it| format!("x/../source={it}"), works: false },
    Row { id: "claim-dot-dot", tried: "`..`", claim: |_| "..".to_owned(), works: true },
    Row {
        id: "claim-variable",
        tried: "`${aws:PrincipalTag/read}`",
        claim: |_| "${aws:PrincipalTag/read}".to_owned(),
        works: false,
    },
    Row { id: "claim-escape", tried: "`${*}`", claim: |_| "${*}".to_owned(), works: false },
    Row { id: "claim-upper-case", tried: "the other's name in upper case", claim: str::to_uppercase, works: true },
    Row {
        id: "claim-look-alike",
        tried: "the other's name with a Cyrillic `е` for the `e`",
        claim: |it| it.replace('e', "е"),
        works: true,
    },
    Row { id: "claim-encoded", tried: "the other's name, percent-encoded", claim: |it| it.replace('t', "%74"), works: true },
    Row { id: "claim-space", tried: "the other's name and a space", claim: |it| format!("{it} "), works: true },
    Row { id: "claim-list", tried: "the other's name in a list, `x,other`", claim: |it| format!("x,{it}"), works: true },
    Row {
        id: "claim-long",
        tried: "the other's name and 64 letters more",
        claim: |it| it.to_owned() + &"a".repeat(64),
        works: true,
    },
];

fn start(name: &str) -> &str {
    name.get(..name.len() - 1).unwrap_or_default()
}

/// All that a user might reach of another institute, and what a claim would make of it.
fn attempts(p: &Place, claim: &str) -> Vec<Call> {
    let mut calls = vec![
        get(p, &p.theirs),
        get_old(p, &p.theirs),
        put(p, &p.theirs.key, &labels(claim)),
        put(p, &p.theirs.key, &labels(&p.other)),
        retag(p, &p.theirs, false, &labels(claim)),
        get_item(p, &p.other),
        query(p, "#s = :other", &[&p.other], false, serde_json::json!({})),
        query(p, "#s = :other", &[&p.other], true, serde_json::json!({})),
    ];
    calls.extend(arrivals::shards(&p.other).iter().map(|it| query_arrivals(p, it)));
    calls.push(summary_of(p, &p.other));
    // The claim as it stands, where it can stand in a path, and as its letters.
    calls.push(summary(p, &format!("/institutes/{}/../{}/summary", encoded(claim), p.other)));
    if claim.contains('/') {
        calls.push(put(p, &p.key_of(claim), &labels(claim)));
    }
    calls
}

#[tokio::test]
async fn a_claim_is_a_name_and_nothing_more() -> Result<()> {
    let world = World::here().await?;
    let it = Harness::new()?;
    let mut wrong = Vec::new();
    for row in ROWS {
        if let Err(error) = nothing_of_another(&world, &it, row).await {
            wrong.push(format!("`{}`: {error:#}", row.id));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn nothing_of_another(world: &World, it: &Harness, row: &Row) -> Result<()> {
    let place = world.place(row.id).await?;
    let claim = (row.claim)(&place.other);
    let endpoint = it.aws.endpoint_url().context("an endpoint")?;
    let token = it.caller(&claim, &claim).await?.token;
    let credentials: Credentials = client::sign_in::exchange(&Deployment::try_from(it.outputs)?, &token).await?;
    let tags: judge::Tags = vec![("read", claim.clone()), ("write", claim.clone())];
    let before = world.state(&place).await?;
    for call in attempts(&place, &claim) {
        let answer = call.send(endpoint, &place.region, &credentials).await?;
        ensure!(is_denied(&answer), "{answer:?} to {call:?}");
        let mut may = Vec::new();
        for ask in &call.asks {
            may.push(world.judge.allows(&tags, ask)?);
        }
        ensure!(!may.iter().all(|it| *it), "the policy allows {call:?}");
    }
    ensure!(before == world.state(&place).await?, "something has changed");
    // The twin: below a prefix of that very name.
    let own =
        put(&place, &place.key_of(&claim), &labels("x")).replace_header("x-amz-tagging", format!("source={}", encoded(&claim)));
    let answer = own.send(endpoint, &place.region, &credentials).await?;
    ensure!((answer.status == 200) == row.works && (row.works || is_denied(&answer)), "the own prefix: {answer:?}");
    Ok(())
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
