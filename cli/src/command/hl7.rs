//! `sluice hl7`: HL7v2 on the command line. Reads files and pipes; knows neither AWS nor a sign-in.

mod ack;
mod er7;
mod id;
mod json;
mod split;
mod validate;

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use domain::Charset;
use serde::Serialize;

use crate::error::ExitCode;
use crate::output::{Output, for_people, is_broken_pipe, json_text, one_line};
use client::messages;
use hl7::{Body, Piece};

/// What to do with messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print each message as a line of JSON, its rendition.
    Json(json::Args),
    /// Convert renditions back to messages in canonical form: the reverse of `json`.
    Er7(er7::Args),
    /// Print the acknowledgments that the API would give.
    Ack(ack::Args),
    /// Validate messages against their HL7 version; findings never quote values.
    Validate(validate::Args),
    /// Print the id of each message, the SHA-256 of its canonical form.
    Id(Input),
    /// Write each message of a batch to its own file, unchanged.
    Split(split::Args),
}

/// Where messages come from.
#[derive(Debug, clap::Args)]
struct Input {
    /// Files with one or several messages each; a folder means the files directly in it; `-`, or no file, means stdin.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    charset: CharsetArg,
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct CharsetArg {
    /// Character set of the messages: an IANA name (`iso-8859-1`) or a value of HL7 table 0211 (`8859/1`). Default: byte order
    /// mark, then MSH-18, then UTF-8.
    #[arg(long = "charset", alias = "encoding", value_name = "LABEL", value_parser = client::messages::charset)]
    named: Option<Charset>,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let stdout = io::stdout();
    let mut run = Run { output, is_terminal: stdout.is_terminal(), out: BufWriter::new(stdout.lock()), failed: false };
    let done = match args.command {
        Command::Json(args) => json::run(&mut run, &args),
        Command::Er7(args) => er7::run(&mut run, &args),
        Command::Ack(args) => ack::run(&mut run, &args),
        Command::Validate(args) => validate::run(&mut run, &args),
        Command::Id(input) => id::run(&mut run, &input),
        Command::Split(args) => split::run(&mut run, &args),
    };
    match done.and_then(|()| Ok(run.out.flush()?)) {
        // Whoever read the output has closed the pipe.
        Err(error) if is_broken_pipe(&error) => {}
        done => done?,
    }
    Ok(if run.failed { ExitCode::Failed } else { ExitCode::Success })
}

/// One run of a command: what it prints, and whether something went wrong.
struct Run<'a> {
    output: &'a Output,
    out: BufWriter<StdoutLock<'a>>,
    /// Standard output is a terminal.
    is_terminal: bool,
    failed: bool,
}

impl Run<'_> {
    /// Goes through the files one after the other. Reports a file that cannot be read, and goes on with the next one.
    fn each(
        &mut self,
        files: &[PathBuf],
        charset: CharsetArg,
        mut then: impl FnMut(&mut Self, &str, &Body) -> Result<()>,
    ) -> Result<()> {
        for path in named(files)? {
            let file = name(&path);
            match messages::read(&path, charset.named) {
                Ok(body) => {
                    for problem in body.problems() {
                        self.say(format!("warning: {file}: {}", messages::describe(&problem)))?;
                    }
                    then(self, &file, &body)?;
                }
                Err(problem) => self.complain(&file, problem)?,
            }
        }
        Ok(())
    }

    /// Reads a message. Reports one that cannot be decoded or is empty.
    fn read(&mut self, file: &str, body: &Body, message: &Piece<'_>) -> Result<Option<hl7::Message>> {
        match message.read() {
            Ok(read) => Ok(Some(read)),
            Err(error) => {
                self.complain(messages::name(body, file, message.number()), messages::explain(message, &error))?;
                Ok(None)
            }
        }
    }

    /// Reports an error, after the output so far. The command goes on, and ends with exit code 1.
    fn complain(&mut self, what: impl Display, problem: impl Display) -> Result<()> {
        self.failed = true;
        self.out.flush()?;
        self.output.error(&anyhow!("{what}: {problem}"));
        Ok(())
    }

    /// Prints a note, after the output so far. A note is neither an answer nor an error.
    fn say(&mut self, text: impl AsRef<str>) -> Result<()> {
        self.out.flush()?;
        self.output.reporter.say(text);
        Ok(())
    }

    /// Prints a message or a document. On a terminal, no control character in it takes effect.
    fn put(&mut self, text: &[u8]) -> Result<()> {
        if self.is_terminal {
            writeln!(self.out, "{}", for_people(text))?;
        } else {
            self.out.write_all(text)?;
        }
        Ok(())
    }

    /// Prints a line of JSON.
    fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        writeln!(self.out, "{}", json_text(&serde_json::to_string(value)?))?;
        Ok(())
    }
}

/// Which message a line of JSON is about.
#[derive(Serialize)]
struct Which<'a> {
    file: &'a str,
    /// Its 1-based index in the file.
    message: usize,
}

fn named(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if files.is_empty() { Ok(Vec::from([PathBuf::from("-")])) } else { messages::files(files, None) }
}

/// A file's name, safe to print on one line.
fn name(path: &Path) -> String {
    one_line(&path.display().to_string())
}
