//! `sluice hl7 ack`

use anyhow::Result;
use domain::{SubmissionId, Timestamp, Unreceivable};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Delimiters};

use super::{Input, Run};
use crate::error::Misused;
use crate::messages::{Body, Message};

/// What the messages are answered with.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// The acknowledgment code: CA, CE, CR, AA, AE or AR.
    #[arg(long, value_parser = code, default_value = "CA")]
    code: AckCode,
    /// Why a message is not taken.
    #[arg(long)]
    text: Option<String>,
    /// Answer also messages whose MSH-15 and MSH-16 ask for no such acknowledgment.
    #[arg(long)]
    always: bool,
}

pub(super) fn run(run: &mut Run<'_>, args: &Args) -> Result<()> {
    if args.text.is_some() && args.code.is_success() {
        return Err(Misused::because("a text says why a message is not taken: it goes with --code CE, CR, AE or AR"));
    }
    run.each(&args.input.files, args.input.encoding, |run, file, body| {
        let mut answers = Vec::with_capacity(body.count());
        for message in body.messages() {
            let answer = Answer::of(args, &message);
            if let Some(problem) = answer.unreceivable() {
                run.complain(body.name(file, message.number), message.explain(problem))?;
            }
            answers.push(answer);
        }
        let printed = if body.is_batch() { batch(body, &answers) } else { single(run, &answers) };
        if printed.is_empty() {
            run.say(format!("{file}: no such acknowledgment is asked for (MSH-15, MSH-16)"))?;
            return Ok(());
        }
        run.put(&printed)
    })
}

/// A message's acknowledgment, in its character set; nothing if it is not wanted.
fn single(run: &Run<'_>, answers: &[Answer]) -> Vec<u8> {
    let Some(answer) = answers.first() else { return Vec::new() };
    let ack = answer.ack();
    if !answer.header.wants(ack.code) {
        return Vec::new();
    }
    let (charset, bytes) = hl7::acknowledge_in(&answer.header, &ack, None);
    // What a terminal shows is UTF-8.
    let text = run.is_terminal.then(|| charset.decode(&bytes).ok()).flatten();
    text.map_or(bytes, String::into_bytes)
}

fn batch(body: &Body, answers: &[Answer]) -> Vec<u8> {
    let acks = answers.iter().map(|it| (it.header.clone(), it.ack()));
    let time = Timestamp::now().hl7();
    hl7::acknowledge_batch(body.bytes(), body.charset(), body.split(), &SubmissionId::generate().control_id(), &time, acks)
}

/// What is said of a message.
struct Answer {
    header: AckHeader,
    code: AckCode,
    control_id: String,
    time: String,
    read: Result<domain::Er7, Unreceivable>,
    /// Why it is not taken, unless that shows.
    text: String,
}

impl Answer {
    /// What the API says of it too: a message that it cannot decode is refused, and one whose MSH cannot be read is taken with a
    /// warning.
    fn of(args: &Args, message: &Message<'_>) -> Self {
        let charset = message.charset().unwrap_or(domain::Charset::UTF_8);
        let header = AckHeader::of_received(message.bytes, charset);
        let read = message.read();
        let (code, control_id) = match &read {
            Ok(er7) if args.code.is_success() => (args.code, er7.message_id().control_id().to_owned()),
            Err(_) if args.code == AckCode::CA => (AckCode::CE, SubmissionId::generate().control_id()),
            Err(_) if args.code == AckCode::AA => (AckCode::AE, SubmissionId::generate().control_id()),
            _ => (args.code, SubmissionId::generate().control_id()),
        };
        let text = match &read {
            Err(error) => error.to_string(),
            Ok(_) => args.text.clone().unwrap_or_else(|| "the message is not taken".to_owned()),
        };
        let header = if args.always { header.wanting_all() } else { header };
        Self { header, code, control_id, time: Timestamp::now().hl7(), read, text }
    }

    fn unreceivable(&self) -> Option<&Unreceivable> {
        self.read.as_ref().err()
    }

    fn ack(&self) -> Ack<'_> {
        let problem = match &self.read {
            Err(Unreceivable::Undecodable(_)) => Some(AckProblem::undecodable(&self.text)),
            Err(Unreceivable::Empty(_)) => Some(AckProblem::no_message(&self.text)),
            Ok(_) if !self.code.is_success() => Some(AckProblem::internal(&self.text)),
            Ok(er7) => Delimiters::of(er7).is_err().then_some(AckProblem::MSH_UNREADABLE),
        };
        Ack { code: self.code, problem, control_id: &self.control_id, time: &self.time }
    }
}

fn code(text: &str) -> Result<AckCode, String> {
    let codes = [AckCode::CA, AckCode::CE, AckCode::CR, AckCode::AA, AckCode::AE, AckCode::AR];
    let found = codes.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "HL7 table 0008 has CA, CE, CR, AA, AE and AR".to_owned())
}
