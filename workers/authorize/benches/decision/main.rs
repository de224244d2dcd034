//! What a decision takes: `cargo bench -p authorize --bench decision`.
//!
//! An event of API Gateway goes in and an answer comes out, in one process and warm: the token (RS256, 2,048 bits) is verified
//! with keys that a stub of the issuers gave once, and Cedar decides by Sluice's own policies and generated ones for the same
//! request, every one of which has to be evaluated to its last condition. Then the same by `authorizer.py`, with the same
//! tokens, keys, policies and events. Prints the tables of `docs/BENCHMARKS.md`.
//!
//! `-- --calls 2000` for fewer calls of each kind.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on ends")]

mod python;
mod stub;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use authorize::Authorizer;
use policies::token::Options;
use policies::{Engine, Issuers, Policies};
use serde_json::{Value, json};

use python::Python;
use stub::Stub;

/// Calls before those that count: caches, branch predictors, the allocator.
const WARM: usize = 1_000;

/// How many policies there are: Sluice's own, and generated ones up to these.
const POLICIES: [usize; 2] = [10, 50];

/// Whose tokens there are.
const PROVIDERS: [&str; 3] = ["institutes", "lake-staff", "partners"];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let (mut calls, mut built) = (20_000, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--calls" => calls = arguments.next().context("--calls has a number")?.parse()?,
            BUILT_AS_DEPLOYED => built = true,
            other => bail!("`{other}` is no argument of this benchmark"),
        }
    }
    if !built {
        return again_as_deployed(calls);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(calls))
}

const BUILT_AS_DEPLOYED: &str = "--built-as-deployed";

/// The profile of benchmarks is for drivers. What is measured here runs in this process, so it has to be built as what is
/// deployed is.
fn again_as_deployed(calls: usize) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["bench", "--profile", "release", "--bench", "decision", "--"]);
    let status = command.args([BUILT_AS_DEPLOYED, "--calls", &calls.to_string()]).status()?;
    ensure!(status.success(), "the benchmark in release ended with {status}");
    Ok(())
}

/// A request, and what is to be answered.
struct Case {
    name: String,
    policies: String,
    event: Value,
    allowed: bool,
}

async fn measure(calls: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let python = Python::install()?;
    let issuers = |keys_at: &str| -> Value {
        PROVIDERS
            .iter()
            .map(|provider| {
                let issuer = json!({
                    "issuer": format!("https://{provider}.example"),
                    "audiences": ["client"],
                    "jwksUri": format!("{keys_at}/{provider}"),
                    "constants": { "institute": "general-hospital" },
                });
                ((*provider).to_owned(), issuer)
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let own = json!({ "custom:read": "general-hospital", "custom:write": "general-hospital", "sub": SUBJECT, "token_use": "id" });
    let claims = json!({
        "institutes": own, "lake-staff": { "sub": SUBJECT, "token_use": "id" }, "partners": { "sub": SUBJECT },
    });
    let write = |name: &str, content: &Value| std::fs::write(folder.path().join(name), content.to_string());
    let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(folder.path().join(name))?)?) };
    write("claims.json", &claims)?;
    write("issuers.json", &issuers("http://127.0.0.1:1"))?;
    python.prepare(folder.path())?;
    let (keys, tokens) = (read("keys.json")?, read("tokens.json")?);
    let token = |name: &str| tokens.get(name).and_then(Value::as_str).context("a token");
    let stub = Stub::start(&keys).await?;
    let issuers = issuers(&stub.address);

    let mut cases = Vec::new();
    for count in POLICIES {
        let policies = format!("{count} policies");
        write_policies(&folder.path().join(&policies), count)?;
        for (decision, source, allowed) in [("allow", "general-hospital", true), ("deny", "st-elsewhere", false)] {
            let event = event(token("institutes")?, source);
            cases.push(Case { name: format!("{decision}, {policies}"), policies: policies.clone(), event, allowed });
        }
    }

    println!("| first decisions | |\n|---|---|");
    first(&folder.path().join("50 policies"), &issuers, &stub, &tokens).await?;

    let mut ours = BTreeMap::new();
    for case in &cases {
        ours.insert(case.name.clone(), times(case, &folder.path().join(&case.policies), &issuers, calls).await?);
    }
    let listed =
        cases.iter().map(|it| json!({ "name": it.name, "policies": it.policies, "event": it.event, "allowed": it.allowed }));
    write("cases.json", &listed.collect())?;
    let mut theirs = python.measure(folder.path(), calls, WARM)?;

    println!("\n| decision | authorize, µs | PyJWT and cedarpy, µs | ratio of p50 |\n|---|---|---|---|");
    for case in &cases {
        let (mut our, their) = (ours.remove(&case.name).context("measured")?, theirs.get_mut(&case.name).context("measured")?);
        let (our, their) = (Percentiles::of(&mut our), Percentiles::of(their));
        println!("| {} | {our} | {their} | {:.1} |", case.name, their.p50 / our.p50);
    }
    println!("\n{calls} calls of each, after {WARM} that do not count.");
    Ok(())
}

const SUBJECT: &str = "7d4f5d2a-90b1-7078-b8b2-3f2b5f3f9c11";

/// What API Gateway sends for `GET /institutes/{source}/er7`.
fn event(token: &str, source: &str) -> Value {
    json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": format!("arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/$default/GET/institutes/{source}/er7"),
        "identitySource": [token, "GET /institutes/{source}/er7"],
        "routeKey": "GET /institutes/{source}/er7",
        "rawPath": format!("/institutes/{source}/er7"),
        "rawQueryString": "",
        "headers": {
            "accept": "application/json",
            "authorization": token,
            "content-length": "0",
            "host": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "curl/8.5.0",
            "x-amzn-trace-id": "Root=1-69202020-000000000000000000000000",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "domainName": "abcdef1234.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "abcdef1234",
            "http": {
                "method": "GET",
                "path": format!("/institutes/{source}/er7"),
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "curl/8.5.0",
            },
            "requestId": "ABCDEFGHIJKLMNO=",
            "routeKey": "GET /institutes/{source}/er7",
            "stage": "$default",
            "time": "21/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1_795_262_400_000_u64,
        },
        "pathParameters": { "source": source },
    })
}

/// Sluice's policy folder with generated policies beside its own, `count` in all. Each generated policy matches this request
/// except for its last condition, which names an institute nobody belongs to.
fn write_policies(folder: &Path, count: usize) -> Result<()> {
    std::fs::create_dir(folder)?;
    let mut own = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"))? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        std::fs::copy(&path, folder.join(name))?;
        if path.extension().is_some_and(|it| it == "cedar") {
            own += std::fs::read_to_string(&path)?.matches("@id(").count();
        }
    }
    let mut generated = String::new();
    for n in own..count {
        write!(
            generated,
            "@id(\"generated-{n}\")\npermit (\n  principal is Sluice::InstituteUser,\n  action in [Sluice::Action::\"list\", \
             Sluice::Action::\"status\"],\n  resource is Sluice::Institute\n)\nwhen\n{{\n  principal has read && principal.read != \
             Sluice::Institute::\"generated-{n}\" && resource == Sluice::Institute::\"generated-{n}\"\n}};\n"
        )?;
    }
    std::fs::write(folder.join("generated.cedar"), generated)?;
    Ok(())
}

fn authorizer(policies: &Path, issuers: &Value) -> Result<Authorizer> {
    let issuers: Issuers = issuers.to_string().parse()?;
    let policies = Policies::load(policies).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    Ok(Authorizer::new(&issuers, policies, Engine::InProcess, &Options::default())?)
}

/// The first decision of a process, one for each issuer, and what they ask the issuers for.
async fn first(policies: &Path, issuers: &Value, stub: &Stub, tokens: &Value) -> Result<()> {
    let token = |name: &str| tokens.get(name).and_then(Value::as_str).context("a token");
    let began = Instant::now();
    let authorizer = authorizer(policies, issuers)?;
    println!("| 50 policies read and validated | {:.1} ms |", began.elapsed().as_secs_f64() * 1_000.0);
    let before = stub.requests();
    for provider in PROVIDERS {
        let began = Instant::now();
        let answer = authorizer.answer(event(token(provider)?, "general-hospital")).await?;
        ensure!(answer.get("isAuthorized") == Some(&true.into()), "{provider}: {answer}");
        println!("| first of `{provider}`, keys fetched | {:.1} ms |", began.elapsed().as_secs_f64() * 1_000.0);
    }
    println!("| requests for keys, three issuers of one key each | {} |", stub.requests() - before);
    let (before, more) = (stub.requests(), 1_000);
    for _ in 0..more {
        for provider in PROVIDERS {
            authorizer.answer(event(token(provider)?, "general-hospital")).await?;
        }
    }
    println!("| requests for keys in {} more decisions | {} |", more * PROVIDERS.len(), stub.requests() - before);
    let before = stub.requests();
    for _ in 0..more {
        let answer = authorizer.answer(event(token("unknown kid")?, "general-hospital")).await?;
        ensure!(answer.get("isAuthorized") == Some(&false.into()), "an unknown key: {answer}");
    }
    println!("| requests for keys in {more} more of a `kid` that no issuer has | {} |", stub.requests() - before);
    Ok(())
}

/// The time of each call, in microseconds.
async fn times(case: &Case, policies: &Path, issuers: &Value, calls: usize) -> Result<Vec<f64>> {
    let authorizer = authorizer(policies, issuers)?;
    let mut times = Vec::with_capacity(calls);
    for call in 0..WARM + calls {
        let event = case.event.clone();
        let began = Instant::now();
        let answer = authorizer.answer(event).await?;
        let took: Duration = began.elapsed();
        ensure!(answer.get("isAuthorized") == Some(&case.allowed.into()), "{}: {answer}", case.name);
        if call >= WARM {
            times.push(took.as_secs_f64() * 1_000_000.0);
        }
    }
    Ok(times)
}

struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl Percentiles {
    fn of(times: &mut [f64]) -> Self {
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "p50 {:.0}, p95 {:.0}, p99 {:.0}", self.p50, self.p95, self.p99)
    }
}
