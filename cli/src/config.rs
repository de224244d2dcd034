//! The settings file, which applies to all commands. The environment overrides it, and the command line overrides both.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory as _;
use domain::Source;
use serde::Deserialize;

use crate::Cli;
use crate::error::Misused;

/// Names another file than `$XDG_CONFIG_HOME/sluice/config.toml`.
const VARIABLE: &str = "SLUICE_CONFIG";

/// The settings. Each is also an environment variable: `limit` is `SLUICE_LIMIT`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    institute: Option<Source>,
    limit: Option<NonZeroUsize>,
    wide: Option<bool>,
    json: Option<bool>,
    quiet: Option<bool>,
    concurrency: Option<u8>,
    schema: Option<PathBuf>,
}

/// The command line, with the settings of the file as its defaults.
///
/// # Errors
/// When the file exists and cannot be read, or has an unknown setting.
pub(crate) fn command() -> Result<clap::Command> {
    let settings = read()?;
    let texts = [
        ("SLUICE_INSTITUTE", settings.institute.map(|it| it.to_string())),
        ("SLUICE_LIMIT", settings.limit.map(|it| it.to_string())),
        ("SLUICE_WIDE", settings.wide.map(|it| it.to_string())),
        ("SLUICE_JSON", settings.json.map(|it| it.to_string())),
        ("SLUICE_QUIET", settings.quiet.map(|it| it.to_string())),
        ("SLUICE_CONCURRENCY", settings.concurrency.map(|it| it.to_string())),
        ("SLUICE_SCHEMA", settings.schema.map(|it| it.display().to_string())),
    ];
    let value = |name, of_file: Option<String>| std::env::var_os(name).or(of_file.map(OsString::from));
    let given: Vec<(&str, OsString)> =
        texts.into_iter().filter_map(|(name, of_file)| Some((name, value(name, of_file)?))).collect();
    Ok(with_defaults(Cli::command(), &given))
}

fn with_defaults(command: clap::Command, given: &[(&str, OsString)]) -> clap::Command {
    let command = command.mut_args(|arg| {
        let variable = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
        match given.iter().find(|(name, _)| *name == variable) {
            // clap wants a text that lives as long as the process, and a process has one command line.
            Some((_, value)) => without_variable(arg).default_value(&*value.clone().leak()),
            None => arg,
        }
    });
    command.mut_subcommands(|inner| with_defaults(inner, given))
}

/// For clap, a variable that is set is like an argument: one for `--limit` would forbid `--all`. A default forbids nothing.
fn without_variable(arg: clap::Arg) -> clap::Arg {
    let is_set = arg.get_env().is_some_and(|name| std::env::var_os(name).is_some());
    if is_set { arg.env(None::<&'static str>) } else { arg }
}

fn read() -> Result<Settings> {
    let path = match std::env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        // Without a home folder there is no file.
        None => match client::session::config_folder() {
            Ok(folder) => folder.join("config.toml"),
            Err(_) => return Ok(Settings::default()),
        },
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os(VARIABLE).is_none() => {
            return Ok(Settings::default());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let wrong = |sentence: &str| Misused::because(format!("{}: {}", path.display(), sentence.trim_end()));
    let settings: Settings = toml::from_str(&text).map_err(|error| wrong(&error.to_string()))?;
    match settings.concurrency {
        Some(0 | 65..) => Err(wrong("`concurrency` is a number from 1 to 64")),
        _ => Ok(settings),
    }
}
