//! `sluice users import` and `export`: many users in one CSV file.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;

use super::{Import, described};
use crate::command::{confirm, warn_of_names};
use crate::error::ExitCode;
use crate::operator::users::account::{Account, Change, Right};
use crate::operator::users::directory::{Directory, Invitation};
use crate::operator::users::roster::{self, Row, Todo};
use crate::output::{Output, for_people};
use client::private_file;

/// How many users are changed at once.
const AT_ONCE: usize = 4;

/// A row of an import as a program reads it.
#[derive(Serialize)]
pub(in crate::command) struct ImportedRow<'a> {
    line: usize,
    email: &'a str,
    pub(in crate::command) action: &'static str,
    changes: Vec<Change>,
    /// Why the row was refused, or what went wrong when it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::command) error: Option<String>,
}

impl<'a> ImportedRow<'a> {
    pub(in crate::command) fn new(row: &'a Row) -> Self {
        let (action, changes, error) = match &row.todo {
            Todo::Create { wish, .. } => ("create", Account::absent().changes(wish), None),
            Todo::Change { account, wish } => ("change", account.changes(wish), None),
            Todo::Nothing => ("nothing", Vec::new(), None),
            Todo::Refused(reason) => ("refuse", Vec::new(), Some(reason.clone())),
        };
        Self { line: row.line, email: &row.email, action, changes, error }
    }

    pub(in crate::command) fn table_row(&self) -> [String; 4] {
        let what = self.error.clone().unwrap_or_else(|| described(&self.changes));
        [self.line.to_string(), self.email.to_owned(), self.action.to_owned(), what]
    }
}

/// The number of rows with this action.
pub(in crate::command) fn of(reports: &[ImportedRow<'_>], action: &str) -> usize {
    reports.iter().filter(|report| report.action == action).count()
}

/// Creates and changes users as a file says, after it has shown the changes.
pub(super) async fn import(directory: &Directory, args: Import, output: &Output) -> Result<ExitCode> {
    let file = std::fs::read(&args.file).with_context(|| format!("reading {}", args.file.display()))?;
    let step = output.reporter.step("reading the users");
    let accounts = directory.accounts().await?;
    let rows = roster::plan(&file, &accounts, &directory.groups().await?);
    let rows = rows.with_context(|| args.file.display().to_string())?;
    step.done(accounts.len().to_string());

    let wishes = rows.iter().filter_map(|row| match &row.todo {
        Todo::Create { wish, .. } | Todo::Change { wish, .. } => Some(wish),
        Todo::Nothing | Todo::Refused(_) => None,
    });
    warn_of_names(output, wishes.flat_map(|wish| [&wish.read, &wish.write]).flatten().filter_map(Right::institute));
    let mut reports: Vec<_> = rows.iter().map(ImportedRow::new).collect();
    let (create, change, nothing) = (of(&reports, "create"), of(&reports, "change"), of(&reports, "nothing"));
    let refused = of(&reports, "refuse");
    if !output.is_json() {
        let to_tell: Vec<_> = reports.iter().filter(|report| report.action != "nothing").map(ImportedRow::table_row).collect();
        if !to_tell.is_empty() {
            output.table(["line", "user", "", "what"], to_tell);
        }
        output.line(format!("{create} to create, {change} to change, {nothing} unchanged, {refused} refused."));
    }
    let asked = !args.yes && !output.is_json() && std::io::stdin().is_terminal();
    if asked && create + change > 0 {
        confirm(output, false, "Do it?")?;
    }
    let applied = args.yes || asked;
    if applied && create + change > 0 {
        apply(directory, &rows, &mut reports, args.no_invitation, output).await;
    }
    let bad = reports.iter().filter(|report| report.error.is_some()).count();
    if output.is_json() {
        output.json(&json!({ "applied": applied, "rows": reports }))?;
    } else if applied {
        if bad > refused {
            let failed = reports.iter().filter(|report| report.error.is_some() && report.action != "refuse");
            output.table(["line", "user", "", "why it failed"], failed.map(ImportedRow::table_row));
        }
        output.line(format!("Done {}, not done {bad}.", create + change - (bad - refused)));
    } else if create + change > 0 {
        output.line("Nothing was changed: use --yes to apply.");
    }
    Ok(if bad == 0 { ExitCode::Success } else { ExitCode::Failed })
}

/// Applies the rows, a few at a time, and notes the failures in them.
pub(in crate::command) async fn apply(
    directory: &Directory,
    rows: &[Row],
    reports: &mut [ImportedRow<'_>],
    no_invitation: bool,
    output: &Output,
) {
    let step = output.reporter.step("changing users");
    let invitation = Invitation { suppressed: no_invitation, temporary_password: None };
    let invitation = &invitation;
    let mut tasks = stream::iter(rows.iter().zip(reports))
        .map(|(row, report)| async move {
            let done = match &row.todo {
                Todo::Create { address, wish } => directory.create(address, wish, invitation).await,
                Todo::Change { account, wish } => directory.apply(account, &account.changes(wish)).await,
                Todo::Nothing | Todo::Refused(_) => return,
            };
            report.error = done.err().map(|error| format!("{error:#}"));
        })
        .buffer_unordered(AT_ONCE);
    let mut done = 0;
    while tasks.next().await.is_some() {
        done += 1;
        step.at(format!("{done} of {} lines", rows.len()));
    }
    drop(tasks);
    step.done("");
}

/// Writes the users into a file that `import` reads.
pub(super) async fn export(directory: &Directory, file: &Path, output: &Output) -> Result<ExitCode> {
    let to_stdout = file == Path::new("-");
    ensure!(!(to_stdout && output.is_json()), "the CSV and the JSON cannot both go to the standard output");
    let accounts = directory.accounts().await?;
    let text = roster::export(&accounts)?;
    let left_out = accounts.iter().filter(|account| account.is_federated()).count();
    let written = accounts.len() - left_out;
    if to_stdout && std::io::stdout().is_terminal() {
        output.line(for_people(&text));
    } else if to_stdout {
        output.bytes(&text);
    } else {
        private_file::write(file, &text)?;
        if output.is_json() {
            output.json(&json!({ "file": file, "users": written, "leftOut": left_out }))?;
        } else {
            output.line(format!("{written} users are in {}.", file.display()));
        }
    }
    if left_out > 0 {
        output.reporter.say(format!("{left_out} users of identity providers are left out."));
    }
    Ok(ExitCode::Success)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_cognitoidentityprovider::Client;
    use aws_sdk_cognitoidentityprovider::config::http::HttpResponse;
    use aws_sdk_cognitoidentityprovider::operation::admin_create_user::AdminCreateUserOutput;
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    #[tokio::test]
    async fn a_row_that_cognito_refuses_is_reported_and_the_others_are_done() {
        let refused = mock!(Client::admin_create_user).match_requests(|request| request.username() == Some("b@a.example"));
        let refused = refused.then_http_response(|| {
            let body = r#"{"__type":"CodeDeliveryFailureException","message":"no such mailbox"}"#;
            HttpResponse::new(400.try_into().unwrap(), body.into())
        });
        let created = mock!(Client::admin_create_user)
            .match_requests(|request| request.username() != Some("b@a.example"))
            .then_output(|| AdminCreateUserOutput::builder().build());
        let client = mock_client!(aws_sdk_cognitoidentityprovider, RuleMode::MatchAny, &[&refused, &created]);
        let directory = Directory::with_client(client, "pool");

        let file = b"email\na@a.example\nb@a.example\nnobody\nc@a.example\n";
        let rows = roster::plan(file, &[], &BTreeSet::new()).unwrap();
        let mut reports: Vec<_> = rows.iter().map(ImportedRow::new).collect();
        apply(&directory, &rows, &mut reports, false, &Output::new(true)).await;

        assert_eq!((created.num_calls(), refused.num_calls()), (2, 1));
        let errors: Vec<_> = reports.iter().map(|report| report.error.as_deref().unwrap_or_default()).collect();
        assert!(errors[0].is_empty() && errors[3].is_empty(), "{errors:?}");
        assert!(errors[1].contains("CodeDeliveryFailureException: no such mailbox"), "{errors:?}");
        assert!(errors[2].contains("not an e-mail address"), "{errors:?}");
    }
}
