//! `--help` of every command, in files that a reviewer sees change.
//!
//! `INSTA_UPDATE=always cargo test -p sluice --test help` writes them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;

/// What a shell shows, with nothing of this machine in it.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = command.args(words).arg("--help").env_clear().env("HOME", "/home/jane").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Of a command and the commands in it.
fn write_help(command: &clap::Command, words: &[&str], text: &mut String) {
    text.push_str(&format!("$ sluice {} --help\n{}\n", words.join(" "), help(words)));
    for inner in command.get_subcommands().filter(|it| it.get_name() != "help") {
        write_help(inner, &[words, &[inner.get_name()]].concat(), text);
    }
}

#[test]
fn help_of_every_command_is_the_one_of_its_snapshot() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let command = sluice::Cli::command();
    let mut snapshots = BTreeSet::from(["sluice.snap".to_owned()]);
    settings.bind(|| insta::assert_snapshot!("sluice", help(&[])));
    for inner in command.get_subcommands().filter(|it| it.get_name() != "help") {
        let mut text = String::new();
        write_help(inner, &[inner.get_name()], &mut text);
        let name = format!("sluice-{}", inner.get_name());
        snapshots.insert(format!("{name}.snap"));
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let there: BTreeSet<_> =
        std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, snapshots, "a snapshot is left over");
}
