//! `sluice hl7 split`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{CharsetArg, Run, Which, name};
use client::messages;
use client::private_file;
use client::session::private_folder;
use hl7::{Body, Piece};

/// Longest part of a control id in a file's name. Most file systems have 255 for all of it.
const CONTROL_ID_CHARACTERS: usize = 100;

/// Which batch, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file of several messages; `-` means stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder to write to; created if it does not exist. Existing files are never overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    charset: CharsetArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    written: String,
    bytes: usize,
    #[serde(flatten)]
    which: Which<'a>,
}

pub(super) fn run(run: &mut Run<'_>, args: &Args) -> Result<()> {
    let folder = &args.out;
    let mut is_made = false;
    run.each(std::slice::from_ref(&args.file), args.charset, |run, file, body| {
        if !std::mem::replace(&mut is_made, true) {
            private_folder(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        run.failed |= !body.problems().is_empty();
        for message in body.messages() {
            if message.bytes().is_empty() {
                run.complain(file, "the file is empty")?;
                continue;
            }
            let path = folder.join(file_name(body, &message));
            if let Err(error) = private_file::write_new(&path, message.bytes()) {
                run.complain(messages::name(body, file, message.number()), format!("{error:#}"))?;
                continue;
            }
            let written = name(&path);
            if run.output.is_json() {
                let which = Which { file, message: message.number() };
                run.json_line(&Line { written, bytes: message.bytes().len(), which })?;
            } else {
                writeln!(run.out, "{written}")?;
            }
        }
        Ok(())
    })
}

/// Number and control id of the message. The number makes the name unique. It has as many digits as the last number, so that the
/// names sort in the order of the messages.
fn file_name(body: &Body, message: &Piece<'_>) -> String {
    let digits = body.count().to_string().len();
    let number = format!("{:0digits$}", message.number());
    let header = message.header();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let plain = header.control_id().chars().take(CONTROL_ID_CHARACTERS).map(|it| if is_plain(it) { it } else { '_' });
    let control_id: String = plain.collect();
    let control_id = if control_id.is_empty() { &number } else { &control_id };
    format!("{number}-{control_id}.hl7")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_id_becomes_a_safe_file_name() {
        let ids = ["4711", "../../x", "", "A/B\\C:D", "é\u{1b}[2J", &"9".repeat(200), "4711", "..", "x y", "10"];
        let messages = ids.map(|id| format!("MSH|^~\\&|||||||ADT^A01|{id}|P|2.5\r"));
        let body = Body::of(messages.concat().into_bytes(), None);
        let names: Vec<String> = body.messages().map(|it| file_name(&body, &it)).collect();
        let long = format!("06-{}.hl7", "9".repeat(100));
        let expected = [
            "01-4711.hl7",
            "02-.._.._x.hl7",
            "03-03.hl7",
            "04-A_B_C_D.hl7",
            "05-05.hl7",
            &long,
            "07-4711.hl7",
            "08-...hl7",
            "09-x_y.hl7",
            "10-10.hl7",
        ];
        assert_eq!(names, expected);
        let body = Body::of(b"PID|no header".to_vec(), None);
        assert_eq!(file_name(&body, &body.message(1).unwrap()), "1-1.hl7");
    }
}
