//! `sluice hl7 json`

use anyhow::Result;
use client::messages;
use hl7::{Message, Schema, Unreadable};

use super::{Input, Run};
use crate::command::schema::SchemaArg;

/// Which messages, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// Print several lines for each message, for people.
    #[arg(long)]
    pretty: bool,
    #[command(flatten)]
    schema: SchemaArg,
}

pub(super) fn run(run: &mut Run<'_>, args: &Args) -> Result<()> {
    let schema = args.schema.read()?;
    let mut document = Vec::new();
    run.each(&args.input.files, args.input.charset, |run, file, body| {
        for message in body.messages() {
            let Some(read) = run.read(file, body, &message)? else { continue };
            document.clear();
            match write(&read, schema, args.pretty, &mut document) {
                Ok(()) => run.put(&document)?,
                Err(Refused::Unreadable(reason)) => {
                    let (Unreadable::NoMsh(place) | Unreadable::Delimiters(place)) = reason;
                    run.complain(messages::name(body, file, message.number()), format!("segment {}: {reason}", place.position))?;
                }
                Err(Refused::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    })
}

enum Refused {
    Unreadable(Unreadable),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn write(message: &Message, schema: &'static Schema, pretty: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
    let delimiters = message.delimiters.map_err(Refused::Unreadable)?;
    if pretty {
        let mut line = Vec::new();
        hl7::write_json_with(&message.er7, &delimiters, schema, &mut line)?;
        // Member by member, so that their order stays.
        let mut reader = serde_json::Deserializer::from_slice(&line);
        serde_transcode::transcode(&mut reader, &mut serde_json::Serializer::pretty(&mut *out))?;
    } else {
        hl7::write_json_with(&message.er7, &delimiters, schema, out)?;
    }
    out.push(b'\n');
    Ok(())
}
