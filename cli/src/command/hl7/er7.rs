//! `sluice hl7 er7`

use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use anyhow::Result;
use domain::{Charset, Er7};
use flate2::bufread::MultiGzDecoder;
use hl7::NotARendition;

use super::{Run, name, named};
use client::messages::{self, charset};

/// Which renditions, and how their messages are printed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of renditions, one after another, plain or compressed with gzip; a folder means the files directly in it; `-`, or no
    /// file, means stdin.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// End segments with a line feed instead of HL7's carriage return.
    #[arg(long)]
    lf: bool,
    /// Character set of the output, whatever MSH-18 says; the canonical form is UTF-8.
    #[arg(long, alias = "encoding", value_name = "LABEL", value_parser = charset, default_value = "UTF-8")]
    charset: Charset,
}

pub(super) fn run(run: &mut Run<'_>, args: &Args) -> Result<()> {
    for path in named(&args.files)? {
        let file = name(&path);
        match messages::open(&path) {
            Ok(source) => match decompressed(BufReader::new(source)) {
                Ok(source) => read(run, args, &file, source)?,
                Err(error) => run.complain(&file, format!("cannot be read: {error}"))?,
            },
            Err(error) => run.complain(&file, format!("cannot be read: {error}"))?,
        }
    }
    Ok(())
}

/// What stands in a file. The first byte of gzip is none that JSON begins with, so that a name decides nothing.
fn decompressed<'a>(mut source: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let is_compressed = source.fill_buf()?.first() == Some(&GZIP);
    Ok(if is_compressed { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) })
}

/// ID1 of RFC 1952 §2.3.1.
const GZIP: u8 = 0x1f;

fn read(run: &mut Run<'_>, args: &Args, file: &str, source: impl BufRead) -> Result<()> {
    let mut documents = Documents { source, line: 0, ahead: Vec::new() };
    let mut number = 0;
    loop {
        let (first_line, document) = match documents.next() {
            Ok(Some(found)) => found,
            Ok(None) if number == 0 => return run.complain(file, "there is no rendition in it"),
            Ok(None) => return Ok(()),
            Err(error) => return run.complain(file, format!("cannot be read: {error}")),
        };
        number += 1;
        match hl7::read_json(&document).map_err(|error| in_file(error, first_line)) {
            // A terminal shows UTF-8.
            Ok(message) if run.is_terminal => run.put(message.as_str().as_bytes())?,
            Ok(message) => match encode(&message, args) {
                Some(bytes) => run.put(&bytes)?,
                None => {
                    let problem = format!("the message has a character that {} cannot represent", args.charset.name());
                    run.complain(format!("{file}#{number}"), problem)?;
                }
            },
            Err(error) => run.complain(format!("{file}#{number}"), error)?,
        }
    }
}

fn encode(message: &Er7, args: &Args) -> Option<Vec<u8>> {
    let text = message.as_str();
    if args.lf { args.charset.encode(&text.replace('\r', "\n")) } else { args.charset.encode(text) }
}

fn in_file(error: NotARendition, first_line: usize) -> NotARendition {
    match error {
        NotARendition::Unreadable { line, column } => NotARendition::Unreadable { line: first_line + line.max(1) - 1, column },
        other => other,
    }
}

/// Reads JSON objects that follow each other: one per line, or spread over lines of which only the first and the last begin with
/// a brace, as `json --pretty` writes them. A broken object spoils no other one, and each object is returned as soon as its last
/// line is there.
struct Documents<R> {
    source: R,
    /// The number of the line that was read last, from 1.
    line: usize,
    /// The first line of the next document, when it was needed to see the end of the one before.
    ahead: Vec<u8>,
}

impl<R: BufRead> Documents<R> {
    /// The next document, and the line that it begins in, from 1.
    fn next(&mut self) -> io::Result<Option<(usize, Vec<u8>)>> {
        let mut document = std::mem::take(&mut self.ahead);
        let mut first = self.line;
        let mut is_whole = ends_document(&document);
        while !is_whole {
            let start = document.len();
            if self.source.read_until(b'\n', &mut document)? == 0 {
                break;
            }
            self.line += 1;
            if self.line == 1 && document.starts_with(BYTE_ORDER_MARK) {
                document.drain(..BYTE_ORDER_MARK.len());
            }
            let line = document.get(start..).unwrap_or_default();
            if start == 0 {
                first = self.line;
                if line.trim_ascii().is_empty() {
                    document.clear();
                    continue;
                }
            } else if line.starts_with(b"{") {
                self.ahead = document.split_off(start);
                break;
            }
            is_whole = ends_document(document.get(start..).unwrap_or_default());
        }
        Ok((!document.is_empty()).then_some((first, document)))
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn ends_document(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'{' | b'}')) && line.trim_ascii_end().ends_with(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<(usize, String)> {
        let mut documents = Documents { source: text.as_bytes(), line: 0, ahead: Vec::new() };
        let next = || documents.next().unwrap().map(|(line, it)| (line, String::from_utf8(it).unwrap().trim_end().to_owned()));
        std::iter::from_fn(next).collect()
    }

    fn expect(text: &str, expected: &[(usize, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(line, it)| (*line, (*it).to_owned())).collect();
        assert_eq!(documents(text), expected, "{text:?}");
    }

    #[test]
    fn renditions_on_one_line_or_on_several_are_read() {
        expect("", &[]);
        expect("\n \r\n", &[]);
        expect("{\"a\":1}\n{\"b\":2}", &[(1, "{\"a\":1}"), (2, "{\"b\":2}")]);
        expect("\u{feff}{\"a\":1}\r\n\r\n{\"b\":2}\r\n", &[(1, "{\"a\":1}"), (3, "{\"b\":2}")]);
        expect("{\n  \"a\": {\n  }\n}\n{\n}\n", &[(1, "{\n  \"a\": {\n  }\n}"), (5, "{\n}")]);
    }

    #[test]
    fn a_broken_rendition_costs_only_itself() {
        expect("{\"a\":\n{\"b\":2}\n", &[(1, "{\"a\":"), (2, "{\"b\":2}")]);
        expect("junk\n{\"b\":2}\n{", &[(1, "junk"), (2, "{\"b\":2}"), (3, "{")]);
        expect("{\n  \"a\": 1,\n{\n}\n", &[(1, "{\n  \"a\": 1,"), (3, "{\n}")]);
    }
}
