//! `sluice backup` and `sluice restore`

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::users::file::{ImportedRow, apply, of};
use super::{DeploymentArgs, confirm};
use crate::error::ExitCode;
use crate::operator::backup::{Accounts, Backup, RuleToDo, rules_to_do, settings_to_do};
use crate::operator::deploy;
use crate::operator::users::directory::Directory;
use crate::operator::users::roster::{self, Row};
use crate::output::Output;

/// Where the backup goes.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The folder to make. It holds names and addresses: keep it as you keep the lake.
    folder: PathBuf,
    #[command(flatten)]
    deployment: DeploymentArgs,
}

/// What to restore, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The folder that `backup` made.
    folder: PathBuf,
    #[command(flatten)]
    deployment: DeploymentArgs,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Send no invitation e-mails; `sluice users invite` sends them later, one by one.
    #[arg(long)]
    no_invitation: bool,
}

/// Backs up what AWS keeps no copy of: users, sign-up rules and settings.
pub(crate) async fn backup(args: BackupArgs, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let step = output.reporter.step("reading users, rules and settings");
    let backup = Backup::take(&aws, &outputs).await?;
    step.done("");
    backup.write(&args.folder)?;
    let (about, rules) = (&backup.about, backup.rules.len());
    if output.is_json() {
        output.json(&json!({ "folder": args.folder, "about": about, "rules": rules }))?;
    } else {
        output.line(format!(
            "{} users, {} of the lake's staff, {rules} rules and {} settings are in {}; {} accounts are left out.",
            about.users,
            about.staff,
            about.settings.len(),
            args.folder.display(),
            about.left_out
        ));
    }
    Ok(ExitCode::Success)
}

/// Restores a backup, after it has shown the changes.
pub(crate) async fn restore(args: RestoreArgs, output: &Output) -> Result<ExitCode> {
    let backup = Backup::read(&args.folder)?;
    let (aws, outputs) = args.deployment.find().await?;
    let accounts = Accounts::of(&aws, &outputs)?;
    let step = output.reporter.step("comparing users, rules and settings");
    let users = rows(&accounts.users, &backup.users).await?;
    let staff = rows(&accounts.staff, &backup.staff).await?;
    let rules = rules_to_do(&backup.rules, &accounts.enrollment.rules().await?);
    let settings = settings_to_do(&backup.about.settings, &deploy::settings_of(&aws, &outputs.stack).await?);
    step.done("");

    let mut reports = [&users, &staff].map(|rows| rows.iter().map(ImportedRow::new).collect::<Vec<_>>());
    let count = |action: &str| reports.iter().map(|reports| of(reports, action)).sum::<usize>();
    let todo = count("create") + count("change") + rules.len();
    if !output.is_json() {
        let rows = ["users", "staff"].into_iter().zip(&reports).flat_map(|(pool, reports)| {
            let told = reports.iter().filter(|report| report.action != "nothing");
            told.map(move |report| {
                let [line, user, action, what] = report.table_row();
                [format!("{pool}.csv:{line}"), user, action, what]
            })
        });
        table(output, ["where", "user", "", "what"], rows.collect());
        table(output, ["domain", "rule", "in place of"], rules.iter().map(rule_row).collect());
        output.line(format!(
            "Backup of `{}` of {}: {} users to create, {} to change, {} unchanged, {} refused; {} rules to make, {} of them in place \
             of another.",
            backup.about.stack,
            backup.about.taken_at,
            count("create"),
            count("change"),
            count("nothing"),
            count("refuse"),
            rules.len(),
            rules.iter().filter(|it| it.replaces.is_some()).count()
        ));
        if !settings.is_empty() {
            output.line(format!(
                "Settings that differ are for `deploy` to change: sluice deploy --stack {}{}",
                outputs.stack,
                settings.iter().map(|(name, value)| option(name, value)).collect::<String>()
            ));
        }
    }
    let asked = !args.yes && !output.is_json() && std::io::stdin().is_terminal();
    if asked && todo > 0 {
        confirm(output, false, "Do it?")?;
    }
    let applied = args.yes || asked;
    if applied && todo > 0 {
        for rule in &rules {
            accounts.enrollment.put_rule(&rule.rule).await?;
        }
        let pools = [(&accounts.users, &users), (&accounts.staff, &staff)];
        for ((directory, rows), reports) in pools.into_iter().zip(&mut reports) {
            apply(directory, rows, reports, args.no_invitation, output).await;
        }
    }
    let bad: Vec<_> = reports.iter().flatten().filter(|report| report.error.is_some()).collect();
    if output.is_json() {
        let [users, staff] = &reports;
        output.json(&json!({ "applied": applied, "users": users, "staff": staff, "rules": rules, "settings": settings }))?;
    } else if applied {
        let failed = bad.iter().filter(|report| report.action != "refuse");
        table(output, ["line", "user", "", "why it failed"], failed.map(|report| report.table_row()).collect());
        output.line(if bad.is_empty() { "Done." } else { "Done, but for the rows above." });
    } else if todo > 0 {
        output.line("Nothing was changed: use --yes to apply.");
    }
    Ok(if bad.is_empty() { ExitCode::Success } else { ExitCode::Failed })
}

async fn rows(directory: &Directory, file: &[u8]) -> Result<Vec<Row>> {
    roster::plan(file, &directory.accounts().await?, &directory.groups().await?)
}

/// Prints a table, unless it has no rows.
fn table<const N: usize>(output: &Output, header: [&str; N], rows: Vec<[String; N]>) {
    if !rows.is_empty() {
        output.table(header, rows);
    }
}

/// The option of `deploy` that sets a parameter, quoted for a shell.
fn option(name: &str, value: &str) -> String {
    let value = value.replace('\'', r"'\''");
    if name == "Architecture" { format!(" --architecture '{value}'") } else { format!(" --parameter '{name}={value}'") }
}

fn rule_row(todo: &RuleToDo) -> [String; 3] {
    let before = todo.replaces.as_ref().map(super::domains::meaning).unwrap_or_default();
    [todo.rule.domain.to_string(), super::domains::meaning(&todo.rule), before]
}

#[cfg(test)]
mod tests {
    use super::option;

    #[test]
    fn a_setting_is_an_option_that_a_shell_takes_as_it_is() {
        assert_eq!(option("CallbackUrls", "https://a.example/?b=c"), " --parameter 'CallbackUrls=https://a.example/?b=c'");
        assert_eq!(option("EmailFrom", "Ann's <a@a.example>"), r" --parameter 'EmailFrom=Ann'\''s <a@a.example>'");
        assert_eq!(option("Architecture", "arm64"), " --architecture 'arm64'");
    }
}
