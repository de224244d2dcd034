//! Checks everything between a hospital's machine and the lake, in the order in which it matters: this machine, the
//! connection to the API, the sign-in, the user's rights, waiting messages. A check that depends on a failed one is skipped,
//! so the first failure is the one to fix.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use client::Client;
use client::deployment::Deployment;
use client::http::{Answer, ER7};
use client::read::{Format, Pages, Query};
use client::session::SessionFile;
use client::tokens::TokenClaims;
use domain::Status;
use jiff::Timestamp;
use reqwest::tls::TlsInfo;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use x509_parser::parse_x509_certificate;

/// How long the API may take to answer an empty request.
const DEADLINE: Duration = Duration::from_secs(20);
/// The largest difference of the clock. Tokens and AWS signatures have limits of their own, one minute and five.
const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// A certificate with fewer days left should be renewed now.
const LEAST_DAYS: i64 = 14;
/// With less space left, a spool's disk would be full before anybody looks.
const LEAST_FREE_BYTES: u64 = 1 << 30;
/// A message that waits for longer is more than just on its way.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// How long the test message may take to be stored.
const STORED_WITHIN: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(crate) struct Check {
    /// One or two words, the same in every run.
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    /// One sentence, without secrets or patients.
    pub(crate) detail: String,
    /// The next command to run after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// Everything is in order.
    Ok,
    /// Something is wrong.
    Failed,
    /// There is nothing to check.
    Skipped,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, detail: detail.into(), next: None }
    }

    fn skipped(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Skipped, detail: detail.into(), next: None }
    }

    fn failed(name: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, detail: detail.into(), next: Some(next.into()) }
    }
}

pub(crate) async fn examine(spool: &Path, send_test: bool) -> Vec<Check> {
    let mut checks = disk_and_spool(spool);
    let session = SessionFile::find().and_then(|file| file.signed_in());
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            checks.push(Check::failed("sign-in", format!("{error:#}"), "sluice login --deployment deployment.json"));
            return checks;
        }
    };
    let (found, reached) = way_to(&session.deployment).await;
    checks.extend(found);
    if !reached {
        return checks;
    }
    let client = match Client::open() {
        Ok(client) => client,
        Err(error) => {
            checks.push(Check::failed("sign-in", format!("{error:#}"), "sluice login"));
            return checks;
        }
    };
    let claims = match client.session().await.and_then(|session| TokenClaims::of(&session.tokens.id)) {
        Ok(claims) => claims,
        Err(error) => {
            checks.push(Check::failed("sign-in", format!("{error:#}"), "sluice login"));
            return checks;
        }
    };
    checks.push(Check::ok("sign-in", format!("{}, with a token until {}", claims.email, claims.expires_at())));
    let staff = session.deployment.is_for_staff();
    let rights = rights(&client, &claims, staff).await;
    let admitted = rights.outcome == Outcome::Ok;
    checks.push(rights);
    if !admitted {
        return checks;
    }
    checks.push(if claims.read.is_empty() {
        Check::skipped("queue", "the account may not read, so it cannot see what waits in the lake")
    } else {
        queue(&client, Timestamp::now()).await
    });
    checks.push(match (send_test, claims.write.is_empty()) {
        (false, _) => Check::skipped("test message", "not asked for: --send-test sends one"),
        (true, true) => Check::failed(
            "test message",
            "the account may not submit",
            format!("sluice users set {} --write INSTITUTE   (by the lake's operator)", claims.email),
        ),
        (true, false) => test_message(&client, !claims.read.is_empty()).await,
    });
    checks
}

/// The disk of the gateway's spool, and what waits in it.
fn disk_and_spool(folder: &Path) -> Vec<Check> {
    if !folder.is_dir() {
        return vec![Check::skipped("spool disk", format!("there is no gateway's spool at {}", folder.display()))];
    }
    let mut checks = Vec::new();
    checks.push(match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let detail = format!("{} MiB free at {}", free >> 20, folder.display());
            match free {
                LEAST_FREE_BYTES.. => Check::ok("spool disk", detail),
                _ => Check::failed("spool disk", detail, format!("df -h {}", folder.display())),
            }
        }
        Err(error) => {
            Check::failed("spool disk", format!("{}: {error}", folder.display()), format!("ls -ld {}", folder.display()))
        }
    });
    checks.push(match mllp::inspect(folder) {
        Ok(contents) => {
            let waiting = contents.waiting.len();
            let oldest = contents.waiting.iter().map(|it| Duration::from_millis(it.received_ms)).min();
            let age = oldest.map(|at| since_1970().saturating_sub(at)).unwrap_or_default();
            let (refused, damaged) = (contents.refused.len(), contents.damaged.len());
            let detail = format!(
                "{waiting} wait for the API, the oldest for {} s; {refused} refused by it, {damaged} damaged",
                age.as_secs()
            );
            if refused + damaged > 0 {
                Check::failed("spool", detail, format!("sluice mllp list --spool {}", folder.display()))
            } else if age > LONGEST_WAIT {
                Check::failed("spool", detail, format!("sluice mllp status --spool {}", folder.display()))
            } else {
                Check::ok("spool", detail)
            }
        }
        Err(error) => Check::failed("spool", format!("{}: {error}", folder.display()), format!("ls -l {}", folder.display())),
    });
    checks
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Checks host name, certificate and clock, with one request without a token. Says whether the API answers.
async fn way_to(deployment: &Deployment) -> (Vec<Check>, bool) {
    let mut checks = Vec::new();
    let url = Url::parse(&deployment.api_url).ok();
    let Some((url, host, port)) = url.as_ref().and_then(|url| Some((url, url.host_str()?, url.port_or_known_default()?))) else {
        checks.push(Check::failed("DNS", "the session names no API", "sluice login --deployment deployment.json"));
        return (checks, false);
    };
    let bare = host.trim_matches(['[', ']']);
    match tokio::time::timeout(DEADLINE, tokio::net::lookup_host((bare, port))).await {
        Ok(Ok(mut addresses)) => {
            let address = addresses.next().map(|address| address.ip().to_string()).unwrap_or_default();
            checks.push(Check::ok("DNS", format!("{host} is {address}")));
        }
        _ => {
            checks.push(Check::failed("DNS", format!("{host} has no address here"), format!("getent hosts {bare}")));
            return (checks, false);
        }
    }
    let asked = async {
        let http =
            reqwest::Client::builder().timeout(DEADLINE).tls_info(true).redirect(reqwest::redirect::Policy::none()).build()?;
        let response = http.get(format!("{}/er7", deployment.api_url.trim_end_matches('/'))).send().await;
        anyhow::Ok(response.map_err(reqwest::Error::without_url)?)
    };
    match asked.await {
        Ok(response) => {
            checks.push(certificate(url, &response, Timestamp::now()));
            checks.push(clock(&response, SystemTime::now()));
            (checks, true)
        }
        Err(error) => {
            let next = format!("curl -v {}://{host}:{port}/", url.scheme());
            checks.push(Check::failed("TLS", format!("the API cannot be reached: {error:#}"), next));
            (checks, false)
        }
    }
}

fn certificate(url: &Url, response: &Response, now: Timestamp) -> Check {
    if url.scheme() != "https" {
        return Check::skipped("TLS", "the API is on this machine, without TLS");
    }
    let host = url.host_str().unwrap_or_default();
    let next = format!("openssl s_client -connect {host}:443 -servername {host}");
    let der = response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
    match der.and_then(|der| parse_x509_certificate(der).ok()) {
        Some((_, certificate)) => days_left("TLS", certificate.validity().not_after.timestamp(), now, next),
        None => Check::failed("TLS", "the API's certificate cannot be read", next),
    }
}

fn days_left(name: &'static str, ends: i64, now: Timestamp, next: String) -> Check {
    let days = (ends - now.as_second()).div_euclid(24 * 60 * 60);
    let detail = format!("the API's certificate is good for {days} days");
    if days < LEAST_DAYS { Check::failed(name, detail, next) } else { Check::ok(name, detail) }
}

fn clock(response: &Response, now: SystemTime) -> Check {
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let ours = Timestamp::try_from(now).ok();
    match theirs.zip(ours) {
        Some((theirs, ours)) => {
            let ahead = ours.as_second() - theirs.as_second();
            let detail = format!("{} s {} the API's", ahead.abs(), if ahead < 0 { "behind" } else { "ahead of" });
            if ahead.unsigned_abs() > CLOCK_SKEW.as_secs() {
                Check::failed("clock", detail, "timedatectl status")
            } else {
                Check::ok("clock", detail)
            }
        }
        None => Check::skipped("clock", "the API does not say what time it is"),
    }
}

/// Checks the token's rights, and whether the API admits it.
async fn rights(client: &Client, claims: &TokenClaims, is_staff: bool) -> Check {
    let path = match (is_staff, claims.read.as_str(), claims.write.as_str()) {
        (true, ..) => return Check::ok("rights", "lake staff: the records of every institute"),
        (false, "", "") => {
            let next = format!("sluice users set {} --read INSTITUTE --write INSTITUTE   (by the lake's operator)", claims.email);
            return Check::failed("rights", "the account has no institute, so it may do nothing", next);
        }
        (false, "", _) => format!("/er7/{}/status", "0".repeat(64)),
        _ => "/er7?limit=1".to_owned(),
    };
    let detail = format!("reads for {}, submits for {}", or_nobody(&claims.read), or_nobody(&claims.write));
    match client.call(|api, token| api.request(Method::GET, &path, Some(token))).await {
        // Nobody has this message: the API says so only to a caller whom it admits.
        Ok(answer) if matches!(answer.status, StatusCode::OK | StatusCode::NOT_FOUND) => Check::ok("rights", detail),
        Ok(answer) => Check::failed("rights", refusal(&answer), next_after(answer.status)),
        Err(error) => Check::failed("rights", format!("{error:#}"), "sluice doctor   (again, in a minute)"),
    }
}

fn or_nobody(institute: &str) -> &str {
    if institute.is_empty() { "nobody" } else { institute }
}

/// The API's own words, which never quote a message.
fn refusal(answer: &Answer) -> String {
    format!("the API answers {}: {}", answer.status.as_u16(), answer.problem())
}

fn next_after(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "sluice logout && sluice login",
        _ => "sluice doctor   (again, in a minute; then the lake's operator: docs/OPERATIONS.md)",
    }
}

/// Checks how long messages wait in the lake, as far as the newest page shows.
async fn queue(client: &Client, now: Timestamp) -> Check {
    let page = match Pages::new(client, Query::default()).next(domain::catalog::MAX_PAGE).await {
        Ok(page) => page,
        Err(error) => return Check::failed("queue", format!("{error:#}"), "sluice list"),
    };
    let waiting: Vec<_> =
        page.iter().filter(|it| matches!(it.status.status, Status::Queued | Status::Processing)).map(|it| &it.status).collect();
    let Some(oldest) = waiting.iter().min_by_key(|status| status.received_at) else {
        return Check::ok("queue", format!("none of the newest {} messages waits", page.len()));
    };
    let age = now.as_second().saturating_sub(oldest.received_at.as_seconds());
    let detail = format!("{} of the newest {} messages wait, the oldest for {age} s", waiting.len(), page.len());
    if age > LONGEST_WAIT.as_secs().cast_signed() {
        Check::failed("queue", detail, format!("sluice status {}", oldest.message_id))
    } else {
        Check::ok("queue", detail)
    }
}

/// Sends a test message of no patient, waits until it is stored, and reads it back if the account may.
async fn test_message(client: &Client, may_read: bool) -> Check {
    const NAME: &str = "test message";
    let sent = async {
        // MSH-11 is D, for debugging: no system takes it for a patient's record.
        let id = ulid::Ulid::generate();
        let time = Timestamp::now().strftime("%Y%m%d%H%M%S+0000").to_string();
        let message = format!("MSH|^~\\&|SLUICE|DOCTOR|||{time}||NMD^N02|{id}|D|2.5.1\rNCK|{time}\r");
        let answer = client
            .call(|api, token| {
                let request = api.request(Method::POST, "/er7", Some(token)).header("content-type", ER7);
                request.header("accept", "application/json").body(message.clone())
            })
            .await?;
        anyhow::ensure!(answer.status == StatusCode::ACCEPTED, "{}", refusal(&answer));
        let message_id: domain::MessageId = answer.text("messageId").parse().context("the API's answer names no message")?;
        anyhow::Ok((message, message_id))
    };
    let (message, message_id) = match sent.await {
        Ok(sent) => sent,
        Err(error) => {
            return Check::failed(
                NAME,
                format!("it was not accepted: {error:#}"),
                "sluice doctor --send-test   (again, in a minute)",
            );
        }
    };
    let next = format!("sluice status {message_id}");
    let began = tokio::time::Instant::now();
    let back = async {
        let status = loop {
            let status = client::read::status(client, None, message_id.as_str()).await?;
            let status = status.map_err(|answer| anyhow::anyhow!("{}", refusal(&answer)))?;
            if status.status.is_final() {
                break status;
            }
            anyhow::ensure!(began.elapsed() < STORED_WITHIN, "it still waits after {} s", STORED_WITHIN.as_secs());
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        anyhow::ensure!(status.status == Status::Stored, "it is not stored: {}", status.status.as_str());
        if may_read {
            let read = client::read::message(client, &message_id, Format::Er7).await?;
            anyhow::ensure!(read == message.as_bytes(), "the message read back differs from the message sent");
        }
        Ok::<_, anyhow::Error>(())
    };
    match back.await {
        Ok(()) => {
            let how = if may_read { "stored, and read back" } else { "stored (the account may not read it back)" };
            Check::ok(NAME, format!("{how}, after {:.1} s: {message_id}", began.elapsed().as_secs_f32()))
        }
        Err(error) => Check::failed(NAME, format!("{error:#}"), next),
    }
}

/// Whether no check failed.
pub(crate) fn is_well(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != Outcome::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(date: Option<&str>) -> Response {
        let mut response = http::Response::builder();
        if let Some(date) = date {
            response = response.header("date", date);
        }
        response.body(String::new()).unwrap().into()
    }

    #[test]
    fn a_clock_that_is_off_fails_with_the_next_command() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_867_200);
        let at = |date: &str| clock(&response(Some(date)), noon);
        assert_eq!(at("Sat, 28 Nov 2026 12:00:00 GMT").outcome, Outcome::Ok);
        assert_eq!(at("Sat, 28 Nov 2026 12:00:30 GMT").outcome, Outcome::Ok);
        for (date, detail) in [
            ("Sat, 28 Nov 2026 12:00:31 GMT", "31 s behind the API's"),
            ("Sat, 28 Nov 2026 11:59:29 GMT", "31 s ahead of the API's"),
        ] {
            let check = at(date);
            assert_eq!((check.outcome, &*check.detail), (Outcome::Failed, detail));
            assert_eq!(check.next.as_deref(), Some("timedatectl status"));
        }
        assert_eq!(clock(&response(None), noon).outcome, Outcome::Skipped);
        assert_eq!(at("yesterday").outcome, Outcome::Skipped);
    }

    #[test]
    fn a_certificate_near_its_end_fails() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let check = |days: i64| days_left("TLS", now.as_second() + days * 86_400, now, "openssl".to_owned());
        assert_eq!(check(14).outcome, Outcome::Ok);
        assert_eq!((check(13).outcome, check(13).next.as_deref()), (Outcome::Failed, Some("openssl")));
        assert_eq!(check(-1).detail, "the API's certificate is good for -1 days");
    }

    #[test]
    fn a_spool_that_is_not_there_is_no_failure_and_one_that_cannot_be_read_is() {
        let folder = tempfile::tempdir().unwrap();
        let absent = disk_and_spool(&folder.path().join("absent"));
        assert!(is_well(&absent) && absent[0].outcome == Outcome::Skipped, "{absent:?}");
        let found = disk_and_spool(folder.path());
        assert_eq!(found.iter().map(|check| check.name).collect::<Vec<_>>(), ["spool disk", "spool"]);
        assert!(found.iter().all(|check| check.outcome == Outcome::Ok || check.next.is_some()), "{found:?}");
    }
}
