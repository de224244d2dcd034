//! `sluice show`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::builder::BoolishValueParser;
use domain::{Er7, MessageId};
use hl7::walk::{Segment, Value, Walk};
use serde_json::json;

use super::ids::{self, GivenId};
use super::schema::SchemaArg;
use crate::error::ExitCode;
use crate::output::{Line, Output, Style, for_people, shortened};
use crate::user::documents::documents;
use client::Client;
use client::private_file;
use client::read::{self, Format};
use client::session::private_folder;

/// Longer values are cut: a document would fill the screen.
const LONGEST_VALUE: usize = 400;

/// The width of the column of places.
const PLACE: usize = 14;

/// The width of the column of names.
const NAME: usize = 30;

/// Which message, and what of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The message's id, or its first 8 digits or more.
    #[arg(value_name = "ID")]
    id: GivenId,
    /// Only segments with this name: OBX. May be given several times.
    #[arg(long, value_name = "NAME")]
    segment: Vec<String>,
    /// Also write the documents in OBX-5 (PDFs, images, text) to this folder; created if it does not exist. Existing files are
    /// never overwritten, and no file name comes from the message.
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
    /// Show values in full, however long they are.
    #[arg(long, env = "SLUICE_WIDE", value_parser = BoolishValueParser::new())]
    wide: bool,
    #[command(flatten)]
    schema: SchemaArg,
}

/// Prints a message as a tree: each value with its place and with the name that its version of HL7, or the schema, has for it.
pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let schema = args.schema.read()?;
    let client = Client::open()?;
    let id = args.id.resolve(&client, None).await?;
    let bytes = read::message(&client, &id, Format::Er7).await.with_context(|| id.to_string())?;
    let text = String::from_utf8(bytes).context("the message is not UTF-8")?;
    let message = Er7::canonical(&text)?;
    let walk = match Walk::with(&message, schema) {
        Ok(walk) => walk,
        Err(unreadable) => {
            output.reporter.say(format!("{unreadable}, so it is shown as it is."));
            output.line(for_people(text.as_bytes()));
            return Ok(ExitCode::Success);
        }
    };
    let is_wanted =
        |segment: &Segment<'_>| args.segment.is_empty() || args.segment.iter().any(|name| name.eq_ignore_ascii_case(segment.id));
    for segment in walk.segments().filter(is_wanted) {
        if output.is_json() {
            output.json_line(&json_of(&walk, &segment))?;
        } else {
            output.painted(lines(&walk, &segment, args.wide));
        }
    }
    let is_there = |name: &str| walk.segments().any(|segment| name.eq_ignore_ascii_case(segment.id));
    let missing: Vec<&str> = args.segment.iter().map(String::as_str).filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        output.reporter.say(format!("The message has no segment {}.", missing.join(", ")));
    }
    match &args.extract {
        Some(folder) => extract(&walk, &id, folder, output),
        None if missing.is_empty() => Ok(ExitCode::Success),
        None => Ok(ExitCode::Failed),
    }
}

fn lines(walk: &Walk<'_>, segment: &Segment<'_>, wide: bool) -> Vec<Line> {
    let name = walk.definition(segment).map_or("", |it| it.name);
    let number = if segment.occurrence > 1 { format!(" #{}", segment.occurrence) } else { String::new() };
    let heading = Line::default().with(Style::Heading, format!("{}{number}", segment.id)).with(Style::Plain, "  ");
    let mut lines = vec![heading.with(Style::Plain, name)];
    let mut above = None;
    for value in walk.values(segment) {
        let names = walk.names(segment, &value);
        // A field with parts has a line of its own, above them.
        let field = (value.field, value.repetition.0);
        if value.component.is_some() && above != Some(field) {
            let whole = Value { component: None, subcomponent: None, ..value.clone() };
            lines.push(place(&whole.place(segment.id), 2).with(Style::Name, names.field.unwrap_or_default()));
        }
        above = Some(field);
        let depth = 2 + 2 * usize::from(value.component.is_some());
        let name = match (names.component, names.subcomponent) {
            (Some(component), Some(subcomponent)) => format!("{component}, {subcomponent}"),
            (component, subcomponent) => {
                subcomponent.or(component).or(names.field.filter(|_| value.component.is_none())).unwrap_or_default().to_owned()
            }
        };
        let text = if wide { value.text.clone() } else { cut(&value.text) };
        let name = format!("{:NAME$} ", shortened(&name, NAME));
        lines.push(place(&value.place(segment.id), depth).with(Style::Name, name).with(Style::Plain, text));
    }
    lines
}

fn place(place: &str, depth: usize) -> Line {
    let width = PLACE + depth;
    Line::default().with(Style::Dim, format!("{:width$} ", format!("{}{place}", " ".repeat(depth))))
}

fn cut(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST_VALUE { text.to_owned() } else { format!("{} ({length} characters)", shortened(text, 60)) }
}

fn json_of(walk: &Walk<'_>, segment: &Segment<'_>) -> serde_json::Value {
    let values = walk.values(segment).map(|value| {
        let names = walk.names(segment, &value);
        let name = names.subcomponent.or(names.component).or(names.field);
        json!({ "place": value.place(segment.id), "name": name, "value": value.text })
    });
    json!({
        "segment": segment.id,
        "occurrence": segment.occurrence,
        "name": walk.definition(segment).map(|it| it.name),
        "values": values.collect::<Vec<_>>(),
    })
}

fn extract(walk: &Walk<'_>, id: &MessageId, folder: &Path, output: &Output) -> Result<ExitCode> {
    private_folder(folder).with_context(|| format!("making {}", folder.display()))?;
    let (mut written, mut code) = (0, ExitCode::Success);
    for document in documents(walk) {
        let path = folder.join(document.file_name(&ids::shortened(id, ids::SHORT)));
        match &document.content {
            Ok(bytes) => {
                private_file::write_new(&path, bytes)?;
                written += 1;
                output.reporter.say(format!("{}: {} bytes", path.display(), bytes.len()));
            }
            Err(why) => {
                output.reporter.say(format!("OBX #{}: the document cannot be written: {why}", document.place.0));
                code = ExitCode::Failed;
            }
        }
    }
    if written == 0 && code == ExitCode::Success {
        output.reporter.say("The message has no documents.");
    }
    Ok(code)
}
