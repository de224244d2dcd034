//! `sluice hl7 ack`

use std::time::SystemTime;

use anyhow::Result;
use domain::{Charset, SubmissionId, Timestamp, Unreceivable};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Body, Piece, Verdict};
use ulid::Ulid;

use super::{Input, Run};
use crate::error::Misused;
use client::messages;

/// What the messages are answered with.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// The acknowledgment code: CA, CE, CR, AA, AE or AR. Without it, the acknowledgments that the message asks for.
    #[arg(long, value_parser = code)]
    code: Option<AckCode>,
    /// The reason for a refusal.
    #[arg(long)]
    text: Option<String>,
    /// Also print acknowledgments that MSH-15 and MSH-16 do not ask for: with `--code`, or as in original mode.
    #[arg(long)]
    always: bool,
}

pub(super) fn run(run: &mut Run<'_>, args: &Args) -> Result<()> {
    if args.text.is_some() && args.code.is_none_or(AckCode::is_success) {
        return Err(Misused::because("--text says why a message is refused: it needs --code CE, CR, AE or AR"));
    }
    run.each(&args.input.files, args.input.charset, |run, file, body| {
        let mut answers = Vec::with_capacity(body.count());
        for message in body.messages() {
            let answer = Answer::of(args, &message);
            if let Some(problem) = answer.unreceivable() {
                run.complain(messages::name(body, file, message.number()), messages::explain(&message, problem))?;
            }
            answers.push(answer);
        }
        let printed = if body.is_batch() { batch(run, body, &answers) } else { single(run, &answers) };
        if printed.is_empty() {
            run.say(format!("{file}: the message does not ask for such an acknowledgment (MSH-15, MSH-16)"))?;
            return Ok(());
        }
        run.put(&printed)
    })
}

/// The acknowledgments of a message, in order and in its character set; empty if it gets none.
fn single(run: &Run<'_>, answers: &[Answer]) -> Vec<u8> {
    let Some(answer) = answers.first() else { return Vec::new() };
    let mut printed = Vec::new();
    for code in answer.codes() {
        let (charset, bytes) = hl7::acknowledge_in(&answer.header, &answer.ack(code), None);
        printed.extend(shown(run, charset, bytes));
    }
    printed
}

/// An acknowledgment as it is printed: a terminal shows UTF-8.
fn shown(run: &Run<'_>, charset: Charset, bytes: Vec<u8>) -> Vec<u8> {
    let text = run.is_terminal.then(|| charset.decode(&bytes).ok()).flatten().map(|text| text.into_owned().into_bytes());
    text.unwrap_or(bytes)
}

fn batch(run: &Run<'_>, body: &Body, answers: &[Answer]) -> Vec<u8> {
    let acks = answers.iter().map(|it| (it.header.clone(), it.code_in_batch().map(|code| it.ack(code))));
    let time = Timestamp::from(SystemTime::now()).hl7();
    let control_id = SubmissionId::from(Ulid::generate()).control_id();
    let (charset, bytes) = hl7::acknowledge_batch_in(body, &control_id, &time, acks, None);
    shown(run, charset, bytes)
}

/// How a message is answered.
struct Answer {
    header: AckHeader,
    verdict: Verdict,
    /// The code that `--code` asks for, adapted to the verdict.
    code: Option<AckCode>,
    always: bool,
    control_id: String,
    time: String,
    read: Result<hl7::Message, Unreceivable>,
    /// The reason for a refusal, where the verdict alone does not show it.
    text: String,
}

impl Answer {
    /// Judges a message as the API does: the API refuses a message that it cannot decode, and accepts one with an unreadable MSH
    /// with a warning.
    fn of(args: &Args, message: &Piece<'_>) -> Self {
        let header = message.header();
        let read = message.read();
        let verdict = match &read {
            Ok(_) => args.code.map_or(Verdict::Accepted, AckCode::verdict),
            Err(_) => args.code.map_or(Verdict::Error, |code| if code.is_success() { Verdict::Error } else { code.verdict() }),
        };
        let code = args.code.map(|code| code.with_verdict(verdict));
        let control_id = match &read {
            Ok(read) if verdict == Verdict::Accepted => read.id.control_id().to_owned(),
            _ => SubmissionId::from(Ulid::generate()).control_id(),
        };
        let text = match &read {
            Err(error) => error.to_string(),
            Ok(_) => args.text.clone().unwrap_or_else(|| "the message is not taken".to_owned()),
        };
        let header = if args.always { header.in_original_mode() } else { header };
        Self {
            header,
            verdict,
            code,
            always: args.always,
            control_id,
            time: Timestamp::from(SystemTime::now()).hl7(),
            read,
            text,
        }
    }

    fn unreceivable(&self) -> Option<&Unreceivable> {
        self.read.as_ref().err()
    }

    /// The codes of the acknowledgments that the message gets.
    fn codes(&self) -> Vec<AckCode> {
        let asked_for = self.header.answers(self.verdict);
        match self.code {
            None => asked_for.collect(),
            Some(code) if self.always => vec![code],
            Some(code) => asked_for.filter(|it| *it == code).collect(),
        }
    }

    fn code_in_batch(&self) -> Option<AckCode> {
        let code = self.header.answer_in_batch(self.verdict);
        match self.code {
            None => code,
            Some(wanted) => self.codes().first().copied().or_else(|| code.filter(|it| !it.is_success()).map(|_| wanted)),
        }
    }

    fn ack(&self, code: AckCode) -> Ack<'_> {
        let problem = match &self.read {
            Err(error) => Some(AckProblem::of(error, &self.text)),
            Ok(_) if self.verdict != Verdict::Accepted => Some(AckProblem::internal(&self.text)),
            Ok(read) => read.delimiters.is_err().then_some(AckProblem::MSH_UNREADABLE),
        };
        Ack { code, problem, control_id: &self.control_id, time: &self.time }
    }
}

fn code(text: &str) -> Result<AckCode, String> {
    let codes = [AckCode::CA, AckCode::CE, AckCode::CR, AckCode::AA, AckCode::AE, AckCode::AR];
    let found = codes.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "HL7 table 0008 has CA, CE, CR, AA, AE and AR".to_owned())
}
