//! Who read, listed, submitted, released or changed what, when and from where: the answer to an auditor, from the logs.
//!
//! The lines of the workers that callers reach have the caller and the address; the lines of operators' commands have the
//! operator. Only CloudTrail knows what somebody reads from S3 or DynamoDB without the API.

use std::collections::BTreeSet;

use anyhow::Result;
use domain::{MessageId, Source, Timestamp};
use serde::Serialize;
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::lines::{Line, Lines, Period};
use client::aws::Aws;
use client::outputs::Outputs;

/// The subject of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Everybody who had to do with a message.
    Message(MessageId),
    /// Everything that a person did or that was done to a person's rights: `sub` of their token.
    Person(String),
    /// Everything at an institute.
    Institute(Source),
}

/// A period, and what to look for in it.
#[derive(Debug, Clone)]
pub struct Question {
    /// The subject of the account.
    pub of: Of,
    /// The start of the period.
    pub from: Timestamp,
    /// The end of the period, exclusive; now if `None`.
    pub to: Option<Timestamp>,
}

/// One access, or one change.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// When it ended.
    pub at: Timestamp,
    /// The action: `submit`, `read`, `list`, `count`, `status`, `release`, `discard`, `refused`, `user`, `rule`, `enroll`.
    pub action: String,
    /// The outcome.
    pub outcome: String,
    /// The caller, `sub`.
    pub subject: Option<String>,
    /// Who signed the caller's token.
    pub issuer: Option<String>,
    /// The operator, an ARN.
    pub operator: Option<String>,
    /// The institute.
    pub source: Option<String>,
    /// The message.
    pub message_id: Option<String>,
    /// The POST.
    pub submission_id: Option<String>,
    /// How many messages, if many.
    pub messages: Option<String>,
    /// The HTTP status answered.
    pub http_status: Option<String>,
    /// Where the request came from.
    pub source_ip: Option<String>,
    /// The route of the API.
    pub route: Option<String>,
    /// The request's id in the access log of the API.
    pub api_request_id: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// The user whose rights were changed, or the domain of a rule.
    pub changed: Option<String>,
    /// The changes.
    pub changes: Option<String>,
}

/// The columns of a CSV file, and of each the member of an [`Access`].
pub const COLUMNS: [&str; 17] = [
    "at",
    "action",
    "outcome",
    "subject",
    "issuer",
    "operator",
    "source",
    "messageId",
    "submissionId",
    "messages",
    "httpStatus",
    "sourceIp",
    "route",
    "apiRequestId",
    "traceId",
    "changed",
    "changes",
];

/// All that is known of a period, by time.
///
/// # Errors
/// When AWS refuses to show a log.
pub async fn account(aws: &Aws, outputs: &Outputs, question: &Question) -> Result<Vec<Access>> {
    let period = period(question.from, question.to);
    let lines = Lines::of_all(aws, outputs);
    let text = match &question.of {
        Of::Message(id) => id.to_string(),
        Of::Person(subject) => runtime::logged_subject(subject),
        Of::Institute(source) => source.to_string(),
    };
    let found: Vec<Line> = lines.find(&text, period).await?.iter().flat_map(Line::by_message).collect();
    let mut accesses: BTreeSet<Access> = found.iter().filter(|line| is_meant(line, &question.of)).filter_map(access).collect();
    if let Of::Message(id) = &question.of {
        // The line of a POST of many messages names none of them; its submission is in the lines of each.
        let of_message = found.iter().filter(|line| line.text("messageId") == id.as_str());
        let submissions: BTreeSet<&str> = of_message.map(|line| line.text("submissionId")).filter(|id| !id.is_empty()).collect();
        for submission in submissions {
            let posts = lines.find(submission, period).await?;
            let posts = posts.iter().filter(|line| line.text("submissionId") == submission && line.text("messageId").is_empty());
            accesses.extend(posts.filter_map(access));
        }
    }
    Ok(accesses.into_iter().collect())
}

/// The messages whose ids begin with these digits in lower case, as far as lines of the period name them.
///
/// # Errors
/// When AWS refuses to show a log.
pub async fn beginning_with(
    aws: &Aws,
    outputs: &Outputs,
    digits: &str,
    from: Timestamp,
    to: Option<Timestamp>,
) -> Result<BTreeSet<MessageId>> {
    let lines = Lines::of_all(aws, outputs).find(digits, period(from, to)).await?;
    let ids = lines.iter().flat_map(Line::by_message).filter_map(|line| line.text("messageId").parse::<MessageId>().ok());
    Ok(ids.filter(|id| id.as_str().starts_with(digits)).collect())
}

/// The end is no part of the period, and the last millisecond is.
fn period(from: Timestamp, to: Option<Timestamp>) -> Period {
    Period { from: from.as_millis(), to: to.map(|to| to.as_millis().saturating_sub(1)) }
}

fn is_meant(line: &Line, of: &Of) -> bool {
    match of {
        Of::Message(id) => line.text("messageId") == id.as_str(),
        Of::Person(subject) => line.text("user") == subject || line.text("subject") == runtime::logged_subject(subject),
        Of::Institute(source) => {
            line.text("source") == source.as_str() || line.text("worker") == "users" && changes_rights(line, source)
        }
    }
}

/// Reads an access from a log line. `None` for a line of the pipeline, whose work the POST of the submission accounts for.
fn access(line: &Line) -> Option<Access> {
    let some = |name: &str| Some(line.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let action = match line.text("worker") {
        "submit" => "submit",
        "release" => "release",
        "status" => "status",
        "summary" => "count",
        "fetch" => match line.text("route") {
            route if route.ends_with("/status") => "status",
            route if route.ends_with("/er7") => "list",
            route if route.ends_with("/search") => "search",
            _ => "read",
        },
        // The worker behind the authorizer accounts for a request that it lets in, and API Gateway caches that answer for a
        // while.
        "authorize" if !["allowed", ""].contains(&line.text("outcome")) => "refused",
        "enroll" => "enroll",
        "discard" => "discard",
        "users" => "user",
        "domains" => "rule",
        _ => return None,
    };
    Some(Access {
        at: line.time()?,
        action: action.to_owned(),
        outcome: line.text("outcome").to_owned(),
        subject: some("subject"),
        issuer: some("issuer"),
        operator: some("operator"),
        source: some("source"),
        message_id: some("messageId"),
        submission_id: some("submissionId"),
        messages: some("messageCount"),
        http_status: some("httpStatus"),
        source_ip: some("sourceIp"),
        route: some("route"),
        api_request_id: some("apiRequestId"),
        trace_id: some("traceId"),
        changed: some("user").or_else(|| some("domain")),
        changes: Some(changes(line)).filter(|changes| !changes.is_empty()),
    })
}

/// Whether a change gives or takes a right to the institute: `read west → east` does for both.
fn changes_rights(line: &Line, source: &Source) -> bool {
    texts(line).any(|change| change.split_whitespace().skip(1).any(|word| word == source.as_str()))
}

fn changes(line: &Line) -> String {
    texts(line).collect::<Vec<_>>().join("; ")
}

fn texts(line: &Line) -> impl Iterator<Item = &str> {
    line.member("changes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

impl Access {
    /// The cells of a row, in the order of [`COLUMNS`].
    #[must_use]
    pub fn cells(&self) -> [String; COLUMNS.len()] {
        let members = serde_json::to_value(self).unwrap_or_default();
        COLUMNS.map(|name| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(facts: Value) -> Line {
        let mut facts = facts;
        facts["time"] = json!("2026-11-21T07:21:07.120Z");
        Line::read(&facts.to_string()).unwrap()
    }

    fn action(facts: Value) -> Option<String> {
        access(&line(facts)).map(|access| access.action)
    }

    #[test]
    fn each_line_of_an_access_says_what_was_done() {
        let table = [
            (json!({ "worker": "submit" }), Some("submit")),
            (json!({ "worker": "fetch", "route": "GET /er7/{messageId}" }), Some("read")),
            (json!({ "worker": "fetch", "route": "HEAD /er7/{messageId}" }), Some("read")),
            (json!({ "worker": "fetch", "route": "GET /institutes/{source}/er7" }), Some("list")),
            (json!({ "worker": "fetch", "route": "POST /er7/search" }), Some("search")),
            (json!({ "worker": "fetch", "route": "GET /institutes/{source}/er7/{messageId}/status" }), Some("status")),
            (json!({ "worker": "authorize", "outcome": "allowed" }), None),
            (json!({ "worker": "authorize", "outcome": "denied" }), Some("refused")),
            (json!({ "worker": "users", "outcome": "changed" }), Some("user")),
            (json!({ "worker": "store", "outcome": "stored" }), None),
        ];
        for (facts, expected) in table {
            assert_eq!(action(facts.clone()).as_deref(), expected, "{facts}");
        }
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let facts = json!({ "worker": "users", "outcome": "changed", "operator": "arn:aws:iam::1:root", "user": "s", "changes": ["read none → west", "enable"] });
        let access = access(&line(facts)).unwrap();
        let cells = access.cells();
        assert_eq!((cells[0].as_str(), cells[1].as_str(), cells[15].as_str()), ("2026-11-21T07:21:07.120Z", "user", "s"));
        assert_eq!(cells[16], "read none → west; enable");
        // Every member of the JSON is a column of the table.
        let mut all = line(json!({ "worker": "fetch" }));
        for name in
            ["subject", "issuer", "operator", "source", "messageId", "submissionId", "messageCount", "httpStatus", "sourceIp"]
        {
            all = line(json!({ "worker": "fetch", name: "x" }));
            assert!(super::access(&all).unwrap().cells().contains(&"x".to_owned()), "{name}");
        }
        for (institute, is_changed) in [("west", true), ("east", true), ("we", false), ("est", false), ("read", false)] {
            let change = line(json!({ "worker": "users", "changes": ["enable", "read west → east"] }));
            assert_eq!(is_meant(&change, &Of::Institute(institute.parse().unwrap())), is_changed, "{institute}");
        }
        assert!(!is_meant(&all, &Of::Person("s".to_owned())));
        // A line has the beginning of a long subject.
        let subject = "s".repeat(300);
        let read = line(json!({ "worker": "fetch", "subject": runtime::logged_subject(&subject) }));
        assert!(is_meant(&read, &Of::Person(subject)));
    }
}
