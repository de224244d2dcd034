//! `sluice hl7 id`

use std::io::Write;

use anyhow::Result;
use domain::MessageId;
use serde::Serialize;

use super::{Input, Run, Which};
use client::messages;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    message_id: MessageId,
    #[serde(flatten)]
    which: Which<'a>,
}

pub(super) fn run(run: &mut Run<'_>, input: &Input) -> Result<()> {
    run.each(&input.files, input.charset, |run, file, body| {
        for message in body.messages() {
            let Some(hl7::Message { id: message_id, .. }) = run.read(file, body, &message)? else { continue };
            if run.output.is_json() {
                run.json_line(&Line { message_id, which: Which { file, message: message.number() } })?;
            } else {
                writeln!(run.out, "{message_id}  {}", messages::name(body, file, message.number()))?;
            }
        }
        Ok(())
    })
}
