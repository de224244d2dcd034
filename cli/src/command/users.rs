//! `sluice users`

pub(super) mod file;

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use domain::Source;
use secrecy::SecretString;
use serde_json::json;

use super::{DeploymentArgs, warn_of_names};
use crate::error::{ExitCode, Misused};
use crate::operator::enrollment::Enrollment;
use crate::operator::users::account::{Account, Change, Right, Wish};
use crate::operator::users::address::Address;
use crate::operator::users::directory::{Directory, Invitation};
use crate::output::Output;

/// The note about a signed-in user whose rights change.
const UNTIL_THEN: &str = "A token that is issued already keeps the old rights until it expires; --sign-out ends that.";

/// What to do with the users.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lake's own staff instead of the institutes' users: they have a user pool of their own, and no institutes.
    #[arg(long, global = true)]
    staff: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Create a user. Cognito e-mails them a temporary password.
    Add(On<Add>),
    /// Change a user's rights or name.
    Set(On<Set>),
    /// Resend the invitation with a new temporary password to a user who has not signed in yet.
    Invite(On<One>),
    /// Close an account and end its sessions.
    Disable(On<One>),
    /// Open a closed account again.
    Enable(On<One>),
    /// Show the users.
    List(On<List>),
    /// Show the users who signed up and have no institute.
    Pending(On<Nothing>),
    /// Give rights to a user who has none, and remove them from the pending list.
    Approve(On<Approve>),
    /// Remove a user from the pending list without changing the account.
    Reject(On<One>),
    /// Import users from a CSV file: shows the changes, asks for confirmation and applies them.
    Import(On<Import>),
    /// Write the users into a CSV file that `import` reads.
    Export(On<Export>),
}

/// A deployment, and what to do there.
#[derive(Debug, clap::Args)]
struct On<A: clap::Args> {
    #[command(flatten)]
    deployment: DeploymentArgs,
    #[command(flatten)]
    args: A,
}

#[derive(Debug, clap::Args)]
struct Nothing {}

#[derive(Debug, clap::Args)]
struct One {
    /// The e-mail address or the user name.
    user: String,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The e-mail address. You vouch that it is the user's.
    email: Address,
    /// The user's name.
    #[arg(long)]
    name: Option<String>,
    /// The institute whose messages the user may read.
    #[arg(long, value_name = "INSTITUTE")]
    read: Option<Source>,
    /// The institute the user may submit for.
    #[arg(long, value_name = "INSTITUTE")]
    write: Option<Source>,
    /// A group to put the user into; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Send no invitation e-mail.
    #[arg(long)]
    no_invitation: bool,
    /// Read the temporary password from a line of standard input; otherwise Cognito generates one.
    #[arg(long)]
    temporary_password_stdin: bool,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The e-mail address or the user name.
    user: String,
    #[command(flatten)]
    changes: SetChanges,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct SetChanges {
    /// The institute whose messages the user may read from now on.
    #[arg(long, value_name = "INSTITUTE", conflicts_with = "no_read")]
    read: Option<Source>,
    /// The user may read nothing.
    #[arg(long)]
    no_read: bool,
    /// The institute the user may submit for from now on.
    #[arg(long, value_name = "INSTITUTE", conflicts_with = "no_write")]
    write: Option<Source>,
    /// The user may submit nothing.
    #[arg(long)]
    no_write: bool,
    /// The user's name.
    #[arg(long)]
    name: Option<String>,
    /// A group to put the user into; may be given several times.
    #[arg(long, value_name = "GROUP")]
    add_group: Vec<String>,
    /// A group to take the user out of; may be given again.
    #[arg(long, value_name = "GROUP")]
    remove_group: Vec<String>,
    /// End all sessions of the user: their tokens are no longer exchanged for AWS credentials.
    #[arg(long)]
    sign_out: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only users who can read from or write for this institute.
    #[arg(long)]
    institute: Option<Source>,
}

#[derive(Debug, clap::Args)]
struct Approve {
    /// The e-mail address or the user name.
    user: String,
    #[command(flatten)]
    rights: Rights,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Rights {
    /// The institute whose messages the user may read.
    #[arg(long, value_name = "INSTITUTE")]
    read: Option<Source>,
    /// The institute the user may submit for.
    #[arg(long, value_name = "INSTITUTE")]
    write: Option<Source>,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// CSV file in UTF-8, one user per line. The header names any of the columns email, name, read, write, groups, enabled.
    file: PathBuf,
    /// Do not ask for confirmation. Without it and without a terminal, nothing is changed.
    #[arg(long)]
    yes: bool,
    /// Nobody writes to new users; `users invite` does so later.
    #[arg(long)]
    no_invitation: bool,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// Where to; `-` is the standard output.
    file: PathBuf,
}

/// Which user pool the accounts are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Institutes,
    Staff,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let whose = if args.staff { Whose::Staff } else { Whose::Institutes };
    if let (Whose::Staff, Some(reason)) = (whose, args.action.is_not_for_staff()) {
        return Err(Misused::because(reason));
    }
    match args.action {
        Action::Add(on) => add(&on.directory(whose).await?, on.args, whose, output).await,
        Action::Set(on) => set(&on.directory(whose).await?, on.args, whose, output).await,
        Action::Invite(on) => invite(&on.directory(whose).await?, &on.args.user, output).await,
        Action::Disable(on) => switch(&on.directory(whose).await?, &on.args.user, false, output).await,
        Action::Enable(on) => switch(&on.directory(whose).await?, &on.args.user, true, output).await,
        Action::List(on) => list(&on.directory(whose).await?, on.args.institute.as_ref(), whose, output).await,
        Action::Pending(on) => pending(&on.both().await?.1, output).await,
        Action::Approve(on) => {
            let (directory, enrollment) = on.both().await?;
            approve(&directory, &enrollment, on.args, output).await
        }
        Action::Reject(on) => reject(&on.both().await?.1, &on.args.user, output).await,
        Action::Import(on) => file::import(&on.directory(whose).await?, on.args, output).await,
        Action::Export(on) => file::export(&on.directory(whose).await?, &on.args.file, output).await,
    }
}

impl Action {
    /// Why this action does not exist for the lake's staff; `None` if it does.
    fn is_not_for_staff(&self) -> Option<&'static str> {
        const NO_INSTITUTE: &str = "the lake's staff have no institutes to read from or write for: what they may do is in the \
                                    policies, so --staff goes without --read, --write and --institute";
        const NO_SIGN_UP: &str = "the lake's staff cannot sign up: create accounts with `sluice users add --staff EMAIL`";
        const NO_FILE: &str = "the lake's staff are made one by one: `sluice users add --staff EMAIL`";
        match self {
            Self::Add(on) => (on.args.read.is_some() || on.args.write.is_some()).then_some(NO_INSTITUTE),
            Self::Set(On { args: Set { changes: it, .. }, .. }) => {
                (it.read.is_some() || it.no_read || it.write.is_some() || it.no_write).then_some(NO_INSTITUTE)
            }
            Self::List(on) => on.args.institute.is_some().then_some(NO_INSTITUTE),
            Self::Pending(_) | Self::Approve(_) | Self::Reject(_) => Some(NO_SIGN_UP),
            Self::Import(_) | Self::Export(_) => Some(NO_FILE),
            Self::Invite(_) | Self::Disable(_) | Self::Enable(_) => None,
        }
    }
}

impl<A: clap::Args> On<A> {
    async fn directory(&self, whose: Whose) -> Result<Directory> {
        let (aws, outputs) = self.deployment.find().await?;
        let pool = match whose {
            Whose::Institutes => &outputs.user_pool_id,
            Whose::Staff => outputs.staff_pool()?.0,
        };
        Directory::new(&aws, &outputs, pool)
    }

    async fn both(&self) -> Result<(Directory, Enrollment)> {
        let (aws, outputs) = self.deployment.find().await?;
        Ok((Directory::new(&aws, &outputs, &outputs.user_pool_id)?, Enrollment::new(&aws, &outputs)?))
    }
}

async fn add(directory: &Directory, args: Add, whose: Whose, output: &Output) -> Result<ExitCode> {
    warn_of_names(output, args.read.iter().chain(&args.write));
    let wish = Wish {
        name: args.name,
        read: args.read.map(Right::from),
        write: args.write.map(Right::from),
        groups: Some(args.groups.into_iter().collect()),
        enabled: None,
    };
    directory.require_groups(wish.groups.iter().flatten()).await?;
    let temporary_password = args.temporary_password_stdin.then(password_line).transpose()?;
    let known = temporary_password.is_some();
    directory.create(&args.email, &wish, &Invitation { suppressed: args.no_invitation, temporary_password }).await?;
    if output.is_json() {
        output.json(&directory.find(args.email.as_str()).await?)?;
    } else {
        let changes = described(&Account::absent().changes(&wish));
        output.line(match (whose, changes.as_str()) {
            (Whose::Institutes, "") => format!("`{}` is a user: without rights.", args.email),
            (Whose::Institutes, changes) => format!("`{}` is a user: {changes}.", args.email),
            (Whose::Staff, "") => format!("`{}` is one of the lake's staff.", args.email),
            (Whose::Staff, changes) => format!("`{}` is one of the lake's staff: {changes}.", args.email),
        });
        output.line(match (args.no_invitation, known) {
            (false, _) => "Cognito sends them a temporary password.".to_owned(),
            (true, true) => "Nobody wrote to them: give them the temporary password over a secure channel.".to_owned(),
            (true, false) => {
                let staff = if whose == Whose::Staff { "--staff " } else { "" };
                format!("Nobody wrote to them: `sluice users invite {staff}{}` does.", args.email)
            }
        });
    }
    Ok(ExitCode::Success)
}

fn password_line() -> Result<SecretString> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the temporary password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "there is no temporary password on standard input");
    Ok(SecretString::from(password))
}

async fn set(directory: &Directory, args: Set, whose: Whose, output: &Output) -> Result<ExitCode> {
    let SetChanges { read, no_read, write, no_write, name, add_group, remove_group, sign_out } = args.changes;
    warn_of_names(output, read.iter().chain(&write));
    directory.require_groups(add_group.iter().chain(&remove_group)).await?;
    let account = directory.find(&args.user).await?;
    let mut groups = account.groups.clone();
    groups.extend(add_group);
    groups.retain(|group| !remove_group.contains(group));
    let right = |institute: Option<Source>, none: bool| institute.map(Right::from).or(none.then_some(Right::NONE));
    let wish = Wish { name, read: right(read, no_read), write: right(write, no_write), groups: Some(groups), enabled: None };
    let changes = account.changes(&wish);
    directory.apply(&account, &changes).await?;
    if sign_out {
        directory.sign_out(&account.username).await?;
    }
    if output.is_json() {
        output.json(&json!({ "user": directory.find(&account.username).await?, "changes": changes, "signedOut": sign_out }))?;
    } else {
        output.line(match changes.as_slice() {
            [] => format!("{}: nothing to do.", shown(&account)),
            changes => format!("{}: {}.", shown(&account), described(changes)),
        });
        if sign_out {
            output.line("Signed out everywhere.");
        } else if !changes.is_empty() && whose == Whose::Institutes {
            output.line(UNTIL_THEN);
        }
    }
    Ok(ExitCode::Success)
}

async fn invite(directory: &Directory, user: &str, output: &Output) -> Result<ExitCode> {
    let account = directory.find(user).await?;
    directory.invite(&account).await?;
    if output.is_json() {
        output.json(&json!({ "user": account }))?;
    } else {
        output.line(format!("Cognito sends {} a new temporary password.", shown(&account)));
    }
    Ok(ExitCode::Success)
}

async fn switch(directory: &Directory, user: &str, on: bool, output: &Output) -> Result<ExitCode> {
    let account = directory.find(user).await?;
    // Done even if the account is already disabled: an earlier `disable` may have stopped before it ended the sessions.
    let change = if on { Change::Enable } else { Change::Disable };
    directory.apply(&account, std::slice::from_ref(&change)).await?;
    if output.is_json() {
        output.json(&json!({ "user": Account { enabled: on, ..account }, "changes": [change] }))?;
    } else if on {
        output.line(format!("{} can sign in again.", shown(&account)));
    } else {
        output.line(format!("{} can no longer sign in, and is signed out everywhere.", shown(&account)));
    }
    Ok(ExitCode::Success)
}

async fn list(directory: &Directory, institute: Option<&Source>, whose: Whose, output: &Output) -> Result<ExitCode> {
    let mut accounts = directory.accounts().await?;
    if let Some(institute) = institute {
        accounts.retain(|account| account.read == institute.as_str() || account.write == institute.as_str());
    }
    if output.is_json() {
        output.json(&accounts)?;
    } else {
        let rows = accounts.iter().map(|account| {
            let status = if account.enabled { account.status.clone() } else { format!("{}, disabled", account.status) };
            let groups = account.groups.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            (shown(account).to_owned(), account.name.clone(), account.read.clone(), account.write.clone(), groups, status)
        });
        match whose {
            Whose::Institutes => {
                let rows = rows.map(|(user, name, read, write, groups, status)| [user, name, read, write, groups, status]);
                output.table(["user", "name", "read", "write", "groups", "status"], rows);
            }
            Whose::Staff => {
                let rows = rows.map(|(user, name, _, _, groups, status)| [user, name, groups, status]);
                output.table(["lake staff", "name", "groups", "status"], rows);
            }
        }
    }
    Ok(ExitCode::Success)
}

async fn pending(enrollment: &Enrollment, output: &Output) -> Result<ExitCode> {
    let pending = enrollment.pending().await?;
    if output.is_json() {
        output.json(&pending)?;
    } else {
        let rows = pending.into_iter().map(|pending| {
            let email = pending.email.unwrap_or_else(|| "not verified".to_owned());
            [email, pending.username, pending.provider.unwrap_or_default(), pending.since.to_string()]
        });
        output.table(["e-mail", "user name", "provider", "since"], rows);
    }
    Ok(ExitCode::Success)
}

async fn approve(directory: &Directory, enrollment: &Enrollment, args: Approve, output: &Output) -> Result<ExitCode> {
    let account = directory.find(&args.user).await?;
    let Rights { read, write } = args.rights;
    warn_of_names(output, read.iter().chain(&write));
    let wish = Wish { read: read.map(Right::from), write: write.map(Right::from), ..Wish::default() };
    // An account that already has the requested rights comes from an interrupted approval.
    let has_no_other =
        |has: &str, wished: &Option<Right>| has.is_empty() || wished.as_ref().is_some_and(|right| right.as_str() == has);
    ensure!(
        has_no_other(&account.read, &wish.read) && has_no_other(&account.write, &wish.write),
        "{} has rights already: `sluice users set` changes them, `sluice users reject` takes the user off the list",
        shown(&account)
    );
    let changes = account.changes(&wish);
    directory.apply(&account, &changes).await?;
    // A user whose sign-up failed half way is not on the list, and can be approved all the same.
    for pending in enrollment.pending().await?.iter().filter(|pending| pending.username == account.username) {
        enrollment.remove_pending(pending).await?;
    }
    if output.is_json() {
        output.json(&json!({ "user": directory.find(&account.username).await?, "changes": changes }))?;
    } else {
        // There are no changes if an interrupted approval left only the entry to remove.
        let what = if changes.is_empty() { "has the rights".to_owned() } else { described(&changes) };
        output.line(format!("{}: {what}. It holds from their next sign-in.", shown(&account)));
    }
    Ok(ExitCode::Success)
}

async fn reject(enrollment: &Enrollment, user: &str, output: &Output) -> Result<ExitCode> {
    let pending = enrollment.find_pending(user).await?;
    enrollment.remove_pending(&pending).await?;
    if output.is_json() {
        output.json(&pending)?;
    } else {
        let username = &pending.username;
        output.line(format!("`{username}` no longer waits. `sluice users disable {username}` closes the account."));
    }
    Ok(ExitCode::Success)
}

/// How people refer to a user: by e-mail address, or by user name for users of an identity provider.
fn shown(account: &Account) -> &str {
    if account.email.is_empty() || account.is_federated() { &account.username } else { &account.email }
}

fn described(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
