//! `sluice login`

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{ExitCode, Misused};
use crate::output::{Output, Reporter};
use client::deployment::Deployment;
use client::error::Environment;
use client::session::{Session, SessionFile};
use client::sign_in::{Person, UserPool};

/// Who signs in, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The account. Default: that of the last sign-in.
    email: Option<String>,
    /// The file that describes the deployment, from its operator. Default: that of the last sign-in.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stack", "local"])]
    deployment: Option<PathBuf>,
    #[command(flatten)]
    place: super::DeploymentArgs,
    /// Sign in as one of the lake's own staff, whose accounts are in a user pool of their own.
    #[arg(long)]
    staff: bool,
    /// Read the answers from stdin, one per line: the password first, then a new password or a code.
    #[arg(long)]
    password_stdin: bool,
    /// Add a second factor to the account: an authenticator that shows a code every 30 s.
    #[arg(long)]
    set_up_totp: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let file = SessionFile::find()?;
    // This sign-in replaces a session file that cannot be read.
    let last = file.read().ok().flatten();
    let deployment = deployment(&args, last.as_ref()).await?;
    let as_staff = args.staff || as_staff_again(&args, last.as_ref());
    let deployment = if as_staff { deployment.for_staff()? } else { deployment.for_institutes() };
    let last_here = last.filter(|last| last.deployment.user_pool_id == deployment.user_pool_id);
    let email = args.email.or_else(|| last_here.map(|last| last.email));
    let mut person: Box<dyn LoginPrompt> = if args.password_stdin {
        Box::new(Lines { reporter: output.reporter.clone() })
    } else {
        ensure_terminal()?;
        Box::new(Terminal)
    };
    let email = match email {
        Some(email) => email,
        None => person.email()?,
    };
    let password = person.password(&email)?;

    let pool = UserPool::of(&deployment);
    let tokens = pool.sign_in(&email, &password, person.as_mut()).await?;
    let session = Session { deployment, email, tokens };
    file.write(&session)?;
    if args.set_up_totp {
        pool.set_up_totp(&session.tokens.access, &session.email, person.as_mut()).await?;
        output.reporter.say("From now on each sign-in also needs a code from the authenticator app.");
    }
    super::whoami::show(&session, output)
}

/// The deployment: the named one, that of the last sign-in, or the local one.
async fn deployment(args: &Args, last: Option<&Session>) -> Result<Deployment> {
    if let Some(path) = &args.deployment {
        return Deployment::read(path);
    }
    match last {
        // Each start of the local system is a new deployment.
        Some(last) if !args.place.is_named() && last.deployment.endpoint_url.is_none() => Ok(last.deployment.clone()),
        _ => {
            let found = args.place.find().await;
            let lacks = |error: &anyhow::Error| error.chain().any(|cause| cause.is::<Environment>());
            if !args.place.is_named() && found.as_ref().is_err_and(lacks) {
                // A machine without a checkout or cargo has no local system, and needs neither to sign in.
                return Err(Environment::lacks(
                    "no deployment to sign in to: give the file that describes it, from its operator, with --deployment FILE",
                ));
            }
            let (_, outputs) = found.context("no deployment to sign in to (--deployment FILE names one)")?;
            Deployment::try_from(&outputs)
        }
    }
}

/// Whether this sign-in repeats one of the lake's staff, because it names no other account.
fn as_staff_again(args: &Args, last: Option<&Session>) -> bool {
    let last = last.filter(|last| last.deployment.is_for_staff() && args.deployment.is_none() && !args.place.is_named());
    last.is_some_and(|last| args.email.as_ref().is_none_or(|email| *email == last.email))
}

fn ensure_terminal() -> Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Environment::lacks("there is no terminal for the password prompt: use --password-stdin"))
}

/// Where the account's name and its password come from.
trait LoginPrompt: Person {
    fn email(&mut self) -> Result<String>;
    fn password(&mut self, email: &str) -> Result<SecretString>;
}

/// A person at a terminal, which does not echo the answers.
struct Terminal;

impl Person for Terminal {
    fn new_password(&mut self) -> Result<SecretString> {
        let first = prompt_secret("The password is a temporary one. New password: ")?;
        let second = prompt_secret("The same once more: ")?;
        ensure!(first.expose_secret() == second.expose_secret(), "the two new passwords are not the same");
        Ok(first)
    }

    fn code(&mut self) -> Result<String> {
        Ok(prompt_secret("Code of the authenticator: ")?.expose_secret().trim().to_owned())
    }

    fn add_authenticator(&mut self, uri: &SecretString) -> Result<()> {
        Reporter::for_stderr().say(format!("Add this to an authenticator app, and keep it secret:\n{}", uri.expose_secret()));
        Ok(())
    }
}

impl LoginPrompt for Terminal {
    fn email(&mut self) -> Result<String> {
        Reporter::for_stderr().say("E-mail address:");
        line()
    }

    fn password(&mut self, email: &str) -> Result<SecretString> {
        prompt_secret(&format!("Password of {email}: "))
    }
}

fn prompt_secret(prompt: &str) -> Result<SecretString> {
    rpassword::prompt_password(prompt).map(SecretString::from).context("reading from the terminal")
}

/// A program, which knows the questions in advance.
struct Lines {
    reporter: Reporter,
}

impl Person for Lines {
    fn new_password(&mut self) -> Result<SecretString> {
        line().map(SecretString::from).context("the password is temporary: a new one is needed")
    }

    fn code(&mut self) -> Result<String> {
        line().context("a code from the authenticator app is needed")
    }

    fn add_authenticator(&mut self, uri: &SecretString) -> Result<()> {
        self.reporter.say(uri.expose_secret());
        Ok(())
    }
}

impl LoginPrompt for Lines {
    fn email(&mut self) -> Result<String> {
        Err(Misused::because("--password-stdin needs the account: `sluice login EMAIL --password-stdin`"))
    }

    fn password(&mut self, _email: &str) -> Result<SecretString> {
        line().map(SecretString::from)
    }
}

fn line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading stdin")?;
    let line = line.trim_end_matches(['\r', '\n']);
    ensure!(!line.is_empty(), "nothing was entered");
    Ok(line.to_owned())
}
