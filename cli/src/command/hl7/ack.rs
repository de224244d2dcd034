//! `sluice hl7 ack`

use anyhow::Result;
use domain::{SubmissionId, Timestamp, Undecodable, Unreceivable};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Condition, Delimiters, Severity};

use super::{Input, Run};
use crate::error::Misused;
use crate::messages::{Body, Message};

/// MSH-10 had 20 characters before HL7 2.7.
const CONTROL_ID_CHARACTERS: usize = 20;

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
    if args.text.is_some() && is_success(args.code) {
        return Err(Misused::because("a text says why a message is not taken: it goes with --code CE, CR, AE or AR"));
    }
    run.each(&args.input.files, args.input.encoding, |run, file, body| {
        let mut answers = Vec::with_capacity(body.count());
        for message in body.messages() {
            let answer = Answer::of(args, &message);
            if let Some(problem) = &answer.unreceivable {
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
    hl7::acknowledge_batch(body.bytes(), body.charset(), body.split(), &random_control_id(), &time, acks)
}

/// What is said of a message.
struct Answer {
    header: AckHeader,
    code: AckCode,
    condition: Condition,
    severity: Severity,
    location: Option<(&'static str, Option<usize>)>,
    detail: Option<String>,
    control_id: String,
    time: String,
    unreceivable: Option<Unreceivable>,
}

impl Answer {
    /// What the API says of it too: a message that it cannot decode is refused, and one whose MSH cannot be read is taken with a
    /// warning.
    fn of(args: &Args, message: &Message<'_>) -> Self {
        let charset = message.charset().unwrap_or(domain::Charset::UTF_8);
        let header = AckHeader::of_received(message.bytes, charset);
        let mut answer = Self {
            header: if args.always { header.wanting_all() } else { header },
            code: args.code,
            condition: Condition::ApplicationInternal,
            severity: Severity::Error,
            location: None,
            detail: None,
            control_id: random_control_id(),
            time: Timestamp::now().hl7(),
            unreceivable: None,
        };
        match message.read() {
            Err(error) => {
                let (condition, location) = match error {
                    Unreceivable::Undecodable(Undecodable::Byte { .. } | Undecodable::UnknownCharset { .. }) => {
                        (Condition::DataType, ("MSH", Some(18)))
                    }
                    Unreceivable::Empty(_) => (Condition::SegmentSequence, ("MSH", None)),
                };
                let code = match args.code {
                    AckCode::CA => AckCode::CE,
                    AckCode::AA => AckCode::AE,
                    refused => refused,
                };
                let (location, detail, unreceivable) = (Some(location), Some(error.to_string()), Some(error));
                answer = Self { code, condition, location, detail, unreceivable, ..answer };
            }
            Ok(_) if !is_success(args.code) => {
                answer.detail = Some(args.text.clone().unwrap_or_else(|| "the message is not taken".to_owned()));
            }
            Ok(er7) => {
                answer.control_id = er7.message_id().prefix(CONTROL_ID_CHARACTERS).to_owned();
                if Delimiters::of(&er7).is_err() {
                    let detail = Some("MSH is not readable: the message is kept as it came".to_owned());
                    let (condition, location) = (Condition::SegmentSequence, Some(("MSH", None)));
                    answer = Self { condition, severity: Severity::Warning, location, detail, ..answer };
                }
            }
        }
        answer
    }

    fn ack(&self) -> Ack<'_> {
        let Self { condition, severity, location, .. } = *self;
        let problem = self.detail.as_deref().map(|detail| AckProblem { condition, severity, location, detail });
        Ack { code: self.code, problem, control_id: &self.control_id, time: &self.time }
    }
}

/// The random end of a submission id.
fn random_control_id() -> String {
    let text = SubmissionId::generate().to_string();
    text.get(text.len().saturating_sub(CONTROL_ID_CHARACTERS)..).unwrap_or_default().to_owned()
}

fn is_success(code: AckCode) -> bool {
    matches!(code, AckCode::CA | AckCode::AA)
}

fn code(text: &str) -> Result<AckCode, String> {
    let codes = [AckCode::CA, AckCode::CE, AckCode::CR, AckCode::AA, AckCode::AE, AckCode::AR];
    let found = codes.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "HL7 table 0008 has CA, CE, CR, AA, AE and AR".to_owned())
}
