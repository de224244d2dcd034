//! What a user can do who holds a valid sign-in and talks to AWS directly. docs/SECURITY.md shows these tables.
//!
//! Each row is judged twice where both judges can: the local AWS is sent the request, signed with a user's own exchanged
//! credentials, and `iam-rs` is asked by the deployed policies. Each is tried under our role and under the AWS sample's.
//! A refused attempt must be refused for want of permission and leave everything as it was; its twin, the same on what
//! is one's own or by the account's root, must be allowed, so that nothing is refused for another reason.

mod analysts;
pub(crate) mod call;
mod claims;
mod judge;
mod plain;
mod releases;
mod requests;
mod rows;
mod sessions;
mod tokens;
pub(crate) mod world;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::Harness;

use call::{Answer, Ask, Call};
use rows::{Expected, Row, Twin};
use world::{Place, Who, World};

use crate::permissions;
use crate::twins;

/// The error codes by which services say that a permission is missing.
const DENIALS: [&str; 5] =
    ["AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "UnauthorizedOperation"];

fn is_denied(answer: &Answer) -> bool {
    // A HEAD has no body to say more.
    DENIALS.contains(&answer.code.as_str()) || (answer.status == 403 && answer.code.is_empty())
}

/// Sends the calls and compares each answer.
async fn judged_by_aws(world: &World, who: Who, calls: &[Call], expected: Expected) -> Result<()> {
    for call in calls.iter().filter(|it| it.is_request()) {
        let answer = world.send(who, call).await?;
        let as_expected = match expected {
            Expected::Allowed => answer.status < 300,
            Expected::Refused => is_denied(&answer),
            Expected::BadRequest(code) => answer.status == 400 && answer.code == code,
            Expected::Open => true,
        };
        ensure!(as_expected, "{expected:?} it should be: {} {} {}\n  {call:?}", answer.status, answer.code, answer.body);
    }
    Ok(())
}

/// Asks the second judge. An attempt of several steps is allowed if its first is: the others depend on what that does.
fn judged_by_policy(world: &World, who: Who, calls: &[Call], expected: Expected) -> Result<()> {
    let steps = if expected == Expected::Allowed { calls.get(..1).unwrap_or_default() } else { calls };
    for call in steps.iter().filter(|it| !it.asks.is_empty()) {
        // The sample's bucket and table are encrypted with keys of AWS, for which nobody is asked.
        let skipped = |ask: &Ask| world.is_sample && call.is_request() && ask.keys.iter().any(|(key, _)| key == "kms:ViaService");
        let mut may = Vec::new();
        for ask in call.asks.iter().filter(|it| !skipped(it)) {
            may.push(world.judge.allows(world.tags(who)?, ask)?);
        }
        let allowed = may.iter().all(|it| *it);
        match expected {
            Expected::Allowed => ensure!(allowed, "it should be allowed, but of its questions {may:?} are: {call:?}"),
            Expected::Refused => ensure!(!allowed, "it should be refused: {call:?}"),
            Expected::BadRequest(_) | Expected::Open => {}
        }
    }
    Ok(())
}

async fn judged(world: &World, sample: &World, row: &Row) -> Result<()> {
    let place = world.place(row.id).await?;
    let calls = (row.calls)(&place);
    ensure!(!calls.is_empty(), "nothing is tried");
    let before = world.state(&place).await?;
    judged_by_aws(world, row.who, &calls, row.here).await?;
    judged_by_policy(world, row.who, &calls, row.here)?;
    if row.here != Expected::Allowed {
        ensure!(before == world.state(&place).await?, "it was refused, and yet something has changed");
        ensure!(before.len() > 2, "there was nothing to change");
    }

    let there = sample.place(row.id).await?;
    judged_by_aws(sample, row.who, &(row.calls)(&there), row.sample).await.context("under the sample's role")?;
    judged_by_policy(sample, row.who, &(row.calls)(&there), row.sample).context("under the sample's role")?;

    match row.twin {
        Twin::Own(who, calls) => {
            let calls = calls(&place);
            judged_by_aws(world, who, &calls, Expected::Allowed).await.context("its twin")?;
            for call in &calls {
                judged_by_policy(world, who, std::slice::from_ref(call), Expected::Allowed).context("its twin")?;
            }
        }
        Twin::Root => {
            for call in (row.calls)(&there).iter().filter(|it| it.is_request()) {
                let answer = sample.send(Who::Root, call).await?;
                ensure!(!is_denied(&answer) && answer.status < 500, "root itself is refused: {answer:?} to {call:?}");
            }
        }
    }
    Ok(())
}

async fn all_judged(rows: &[Row]) -> Result<()> {
    let (world, sample) = (World::here().await?, World::sample().await?);
    let mut wrong = String::new();
    for row in rows {
        if let Err(error) = judged(&world, &sample, row).await {
            writeln!(wrong, "`{}`: {error:#}", row.id)?;
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn writing_objects() -> Result<()> {
    all_judged(rows::WRITES).await
}

#[tokio::test]
async fn tagging_objects() -> Result<()> {
    all_judged(rows::TAGS).await
}

#[tokio::test]
async fn reading_objects() -> Result<()> {
    all_judged(rows::READS).await
}

#[tokio::test]
async fn the_catalog() -> Result<()> {
    all_judged(rows::CATALOG).await
}

#[tokio::test]
async fn the_patients() -> Result<()> {
    all_judged(rows::PATIENTS).await
}

#[tokio::test]
async fn the_summary() -> Result<()> {
    all_judged(rows::SUMMARIES).await
}

#[tokio::test]
async fn other_services() -> Result<()> {
    all_judged(rows::SERVICES).await
}

/// Whatever is not in these few statements is refused, without any row about it.
#[tokio::test]
async fn the_users_role_allows_what_is_listed_here() -> Result<()> {
    let it = Harness::new()?;
    let output = |name: &str| it.outputs.stack_output(name);
    let user_role = world::name_of(output("UserRoleArn")?);
    let (users, staff) = (output("UserPoolProviderName")?, output("StaffUserPoolProviderName")?);
    let staff_client = output("StaffUserPoolClientId")?;
    let mut allowed = BTreeSet::new();
    for policy in twins::policies(&it, user_role).await? {
        for statement in policy["Statement"].as_array().context("statements")? {
            let members: BTreeSet<&str> = statement.as_object().context("a statement")?.keys().map(String::as_str).collect();
            assert_eq!(members, BTreeSet::from(["Sid", "Effect", "Action", "Resource", "Condition"]));
            assert_eq!(statement["Effect"], "Allow");
            if permissions::texts(&statement["Resource"]).iter().any(|it| it.ends_with("/index/by-arrival")) {
                let keys = &statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"];
                assert_eq!(permissions::texts(keys), domain::arrivals::shards("${aws:PrincipalTag/read}"), "each partition");
            }
            for action in permissions::texts(&statement["Action"]) {
                for resource in permissions::texts(&statement["Resource"]) {
                    allowed.insert(format!("{action} {resource}"));
                }
            }
        }
    }
    let (lake, table, key) = (output("LakeBucketArn")?, output("CatalogTableArn")?, output("DataKeyArn")?);
    let account = output("UserRoleArn")?.split(':').nth(4).context("an account")?;
    let api = format!("arn:aws:execute-api:{}:{account}:{}", it.outputs.region, output("ApiId")?);
    let expected = [
        format!("s3:PutObject {lake}/source=${{aws:PrincipalTag/write}}/*"),
        format!("s3:PutObjectTagging {lake}/source=${{aws:PrincipalTag/write}}/*"),
        format!("s3:GetObject {lake}/source=${{aws:PrincipalTag/read}}/*"),
        format!("s3:GetObjectVersion {lake}/source=${{aws:PrincipalTag/read}}/*"),
        format!("dynamodb:GetItem {table}"),
        format!("dynamodb:Query {table}"),
        format!("dynamodb:Query {table}/index/by-held-since"),
        format!("dynamodb:Query {table}/index/by-control-id"),
        format!("dynamodb:Query {table}/index/by-arrival"),
        format!("dynamodb:Query {}", output("PatientTableArn")?),
        format!("kms:GenerateDataKey {key}"),
        format!("kms:Decrypt {key}"),
        format!("execute-api:Invoke {api}/$default/GET/institutes/${{aws:PrincipalTag/read}}/summary"),
    ];
    assert_eq!(allowed, expected.into());

    let pool = &it.outputs.identity_pool_id;
    let role = aws_sdk_iam::Client::new(it.aws.config()).get_role().role_name(user_role).send().await?;
    let document = role.role().and_then(|it| it.assume_role_policy_document()).context("a trust policy")?;
    assert_eq!(twins::document(document)?, world::users_trust(pool, users, staff));
    let identity = aws_sdk_cognitoidentity::Client::new(it.aws.config());
    let settings = identity.describe_identity_pool().identity_pool_id(pool).send().await?;
    assert!(!settings.allow_unauthenticated_identities() && settings.allow_classic_flow() != Some(true));
    let roles = identity.get_identity_pool_roles().identity_pool_id(pool).send().await?;
    let default = ("authenticated".to_owned(), output("UserRoleArn")?.to_owned());
    assert_eq!(roles.roles().cloned(), Some([default].into()), "one role for every institute's user, whatever their claims say");
    // Another one for the staff's app client, and for it alone.
    let mappings: Vec<_> = roles.role_mappings().context("a mapping")?.iter().collect();
    let [(provider, mapping)] = mappings.as_slice() else { anyhow::bail!("one mapping: {mappings:?}") };
    assert_eq!(**provider, format!("{staff}:{staff_client}"));
    assert_eq!(mapping.ambiguous_role_resolution().map(|it| it.as_str()), Some("Deny"));
    let rules = mapping.rules_configuration().context("rules")?.rules();
    let [rule] = rules else { anyhow::bail!("one rule: {rules:?}") };
    assert_eq!((rule.claim(), rule.match_type().as_str(), rule.value()), ("aud", "Equals", staff_client));
    assert_eq!(rule.role_arn(), output("StaffRoleArn")?);
    // Whoever signs in through one of these cannot write the claims.
    let clients = settings.cognito_identity_providers();
    let pools: BTreeSet<_> = clients.iter().filter_map(|it| it.provider_name()).collect();
    assert_eq!(pools, BTreeSet::from([users, staff]));
    for client in clients {
        assert_eq!(client.server_side_token_check(), Some(true));
        // By hand, since the local AWS gives as texts what the SDK wants as numbers.
        let user_pool = client.provider_name().and_then(|it| it.rsplit('/').next());
        let describe = json!({ "UserPoolId": user_pool, "ClientId": client.client_id() });
        let describe = Call::json("cognito-idp", "AWSCognitoIdentityProviderService.DescribeUserPoolClient", &describe);
        let answer = describe.send(it.aws.endpoint_url().context("an endpoint")?, &it.outputs.region, &world::root(&it)?).await?;
        let answer: Value = serde_json::from_str(&answer.body)?;
        let may_write = permissions::texts(&answer["UserPoolClient"]["WriteAttributes"]);
        assert!(!may_write.is_empty() && !may_write.iter().any(|it| it.starts_with("custom:")), "{may_write:?}");
    }
    Ok(())
}

/// A row as the document shows it.
fn shown(id: &str, tried: &str, sample: Expected, here: Expected, judges: &str) -> String {
    let cell = |verdict| match verdict {
        Expected::Allowed => "**allowed**",
        Expected::Refused | Expected::BadRequest(_) => "refused",
        Expected::Open => "–",
    };
    format!("| `{id}` | {tried} | {} | {} | {judges} |", cell(sample), cell(here))
}

#[test]
fn the_document_shows_every_row_and_no_other() -> Result<()> {
    // Only to see which judges a row has.
    let one = || vec!["x".to_owned()];
    let place = Place { functions: one(), worker_roles: one(), other_buckets: one(), ..Place::default() };
    let mut tables = Vec::new();
    for rows in [rows::WRITES, rows::TAGS, rows::READS, rows::CATALOG, rows::PATIENTS, rows::SUMMARIES, rows::SERVICES] {
        tables.extend(rows.iter().map(|row| {
            let calls = (row.calls)(&place);
            let by_aws = calls.iter().any(Call::is_request);
            let by_policy = calls.iter().any(|it| !it.asks.is_empty());
            let judges = [(by_aws, "A"), (by_policy, "P")].iter().filter(|it| it.0).map(|it| it.1).collect::<Vec<_>>().join(" ");
            shown(row.id, row.tried, row.sample, row.here, &judges)
        }));
    }
    tables.extend(tokens::ROWS.iter().map(|row| shown(row.id, row.tried, row.sample, Expected::Refused, "A")));
    for rows in [releases::ROWS, sessions::ROWS, analysts::ROWS] {
        tables.extend(rows.iter().map(|row| shown(row.id, row.tried, Expected::Open, Expected::Refused, "A")));
    }
    tables.extend(claims::ROWS.iter().map(|row| shown(row.id, row.tried, Expected::Open, Expected::Refused, "A P")));
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md"))?;
    let in_page: Vec<&str> = page.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 6).collect();
    let missing: Vec<_> = tables.iter().filter(|row| !in_page.contains(&row.as_str())).map(String::as_str).collect();
    ensure!(missing.is_empty(), "docs/SECURITY.md lacks\n{}", missing.join("\n"));
    let unknown: Vec<_> = in_page.iter().filter(|line| !tables.iter().any(|row| row == **line)).copied().collect();
    ensure!(unknown.is_empty(), "docs/SECURITY.md has rows of which there is no test\n{}", unknown.join("\n"));
    ensure!(in_page.len() == tables.len(), "a row is shown twice");
    Ok(())
}
