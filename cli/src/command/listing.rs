//! Shared by `sluice list` and `sluice find`: the options that select messages, and the table of them.

use std::io::IsTerminal;

use anyhow::Result;
use clap::builder::{BoolishValueParser, RangedU64ValueParser};
use domain::Source;
use domain::catalog::MAX_PAGE;
use jiff::Timestamp;

use super::cells::{kind, outcome};
use super::{ids, when};
use crate::error::Misused;
use crate::output::Output;
use client::Client;
use client::read::{Listed, Pages, Query};
use client::tokens::TokenClaims;

/// Which messages, by what every message has.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only messages received at or after this time: `yesterday`, `2h` (two hours ago), `16:00`, `2026-11-28`, `2026-11-28
    /// 16:00` on this machine's clock, or a time with a zone.
    #[arg(long, visible_alias = "since", value_name = "WHEN", value_parser = when::when)]
    from: Option<Timestamp>,
    /// Only messages received before this time.
    #[arg(long, visible_alias = "until", value_name = "WHEN", value_parser = when::when)]
    to: Option<Timestamp>,
    /// Only messages of this type: ADT, or ADT^A01.
    #[arg(long = "type", value_name = "TYPE")]
    message_type: Option<String>,
    /// The messages of this institute instead of your own (lake staff only).
    #[arg(long, value_name = "NAME", env = "SLUICE_INSTITUTE")]
    institute: Option<Source>,
}

impl Which {
    /// The query, with nothing but these conditions.
    ///
    /// # Errors
    /// When the period ends before it begins.
    pub(crate) fn query(self) -> Result<Query> {
        if self.from.zip(self.to).is_some_and(|(from, to)| from >= to) {
            return Err(Misused::because("--from must be before --to"));
        }
        Ok(Query {
            from: self.from.map(|it| it.to_string()),
            to: self.to.map(|it| it.to_string()),
            message_type: self.message_type,
            institute: self.institute,
            ..Query::default()
        })
    }
}

/// How many, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Shown {
    /// Maximum number of messages: the newest.
    #[arg(long, default_value_t = 50, value_name = "COUNT", env = "SLUICE_LIMIT", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    limit: usize,
    /// List all messages.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Show whole ids and times, and every column.
    #[arg(long, env = "SLUICE_WIDE", value_parser = BoolishValueParser::new())]
    pub(crate) wide: bool,
}

/// Prints the messages of a query. On a terminal the newest message comes last, next to the prompt. In a pipe and in JSON it comes
/// first. If there are none, returns the sentence that says so.
pub(crate) async fn show(client: &Client, query: Query, shown: &Shown, output: &Output) -> Result<Option<String>> {
    let mut pages = Pages::new(client, query.clone());
    let limit = if shown.all { usize::MAX } else { shown.limit };
    let (mut found, mut count) = (Vec::new(), 0);
    while pages.has_more() && count < limit {
        let page = pages.next(MAX_PAGE.min(limit - count)).await?;
        count += page.len();
        if output.is_json() {
            // A line each, as they come: a list can be longer than memory.
            for message in page {
                output.json_line(&message)?;
            }
        } else {
            found.extend(page);
        }
    }
    if std::io::stdout().is_terminal() {
        found.reverse();
    }
    if !output.is_json() && count > 0 {
        table(&found, shown.wide, output);
    }
    if count == 0 {
        return nothing(client, &query).await.map(Some);
    }
    if pages.has_more() {
        output.reporter.say(format!("There are more than these {count}: --limit COUNT or --all."));
    }
    Ok(None)
}

fn table(found: &[Listed], wide: bool, output: &Output) {
    if wide {
        let header = [
            "received",
            "message",
            "type",
            "control id",
            "sender",
            "receiver",
            "message time",
            "status",
            "submissions",
            "stored",
        ];
        return output.table(header, found.iter().map(wide_cells));
    }
    let digits = ids::digits(found.iter().map(|it| &it.status.message_id));
    let cells = |it: &Listed| {
        [
            when::short(it.status.received_at),
            ids::shortened(&it.status.message_id, digits),
            kind(&it.summary),
            it.summary.control_id.clone().unwrap_or_default(),
            outcome(&it.status),
        ]
    };
    output.narrow_table(["received", "message", "type", "control id", "status"], found.iter().map(cells), &[2, 3, 4]);
}

fn wide_cells(message: &Listed) -> [String; 10] {
    let Listed { status, summary } = message;
    let system = |application: &Option<String>, facility: &Option<String>| {
        [application, facility].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    [
        when::full(status.received_at),
        status.message_id.to_string(),
        kind(summary),
        summary.control_id.clone().unwrap_or_default(),
        system(&summary.sending_application, &summary.sending_facility),
        system(&summary.receiving_application, &summary.receiving_facility),
        summary.message_time.clone().unwrap_or_default(),
        outcome(status),
        status.submissions.to_string(),
        status.stored_at.map(when::full).unwrap_or_default(),
    ]
}

/// Why a list is empty, as far as it is known.
async fn nothing(client: &Client, query: &Query) -> Result<String> {
    let session = client.session().await?;
    let read = TokenClaims::of(&session.tokens.id)?.read;
    let whole = Query { institute: query.institute.clone(), ..Query::default() };
    let that = if *query == whole { "" } else { " that this asks for" };
    let institute = query.institute.as_ref().map_or(read, Source::to_string);
    let mut sentence = format!("There are no messages of institute {institute}{that}.");
    if query.institute.is_some() && client.is_staff() {
        sentence += " A name that no institute has lists nothing, too.";
    }
    if query.asks_for_content() {
        sentence +=
            " Only messages that were stored are found by what is in them; the others: `sluice find --status held`, or `queued`.";
    }
    Ok(sentence)
}
