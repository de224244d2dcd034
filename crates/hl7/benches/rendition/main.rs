//! What reading a message takes: `cargo bench -p sluice-hl7 --bench rendition`.
//!
//! The made-up messages of `crates/corpus`, or those of the folder that `SLUICE_CORPUS` names: bytes to the canonical form and its id,
//! to JSON, compressed as it is stored, and from JSON back; batches split, acknowledgments written. Then hl7apy reads the same messages as the AWS sample does, and
//! the worst that may be sent is read in three sizes. Prints the tables of `docs/BENCHMARKS.md`.
//!
//! Times are those of one core, as the system counts them for this thread: what else runs meanwhile takes no part.
//!
//! `-- --seconds 10` measures each row for so long, and gives hl7apy at most ten times that. `-- --baseline FOLDER` runs this benchmark in
//! another checkout of the repository too, by turns with this one, and prints the ratios.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../../tests/hostile/inputs.rs"]
mod inputs;
mod python;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use domain::{Charset, Er7, Received};
use flate2::Compression;
use flate2::write::GzEncoder;
use peak_alloc::PeakAlloc;
use sluice_hl7::{Ack, AckCode, AckHeader, Delimiters, acknowledge, read_json, split, summarize, validate, write_json};

use python::{Level, Python};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let (mut seconds, mut built, mut baseline) = (5, false, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => seconds = arguments.next().context("--seconds has a number")?.parse()?,
            "--baseline" => baseline = Some(PathBuf::from(arguments.next().context("--baseline has a folder")?)),
            BUILT_AS_DEPLOYED => built = true,
            other => bail!("`{other}` is no argument of this benchmark"),
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match (built, baseline) {
        (true, _) => measure(seconds),
        (false, None) => {
            let status = as_deployed(here, seconds).status()?;
            ensure!(status.success(), "the benchmark in release ended with {status}");
            Ok(())
        }
        (false, Some(folder)) => compare(here, &folder, seconds),
    }
}

const BUILT_AS_DEPLOYED: &str = "--built-as-deployed";

/// The profile of benchmarks is for drivers. What is measured here runs in this process, so it has to be built as what is
/// deployed is.
fn as_deployed(folder: &Path, seconds: u64) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).args(["bench", "--profile", "release", "-p", "sluice-hl7", "--bench", "rendition", "--"]);
    command.args([BUILT_AS_DEPLOYED, "--seconds", &seconds.to_string()]);
    command
}

/// How often each of the two builds is measured. The best of each counts: whatever else runs only slows down.
const TURNS: usize = 3;

/// Prints the messages a second of both builds, and how many times those of the baseline this one's are.
fn compare(here: &Path, baseline: &Path, seconds: u64) -> Result<()> {
    let mut best: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for _ in 0..TURNS {
        for (build, folder) in [baseline, here].into_iter().enumerate() {
            let output = as_deployed(folder, seconds).stderr(Stdio::inherit()).output()?;
            ensure!(output.status.success(), "the benchmark in {} ended with {}", folder.display(), output.status);
            for (what, rate) in rows(&String::from_utf8(output.stdout)?) {
                let [before, now] = best.entry(what.to_owned()).or_default();
                let known = if build == 0 { before } else { now };
                *known = known.max(rate);
            }
        }
    }
    println!("| messages/s, one core | baseline | this build | ratio |\n|---|---|---|---|");
    for (what, [baseline, now]) in best.iter().filter(|(_, rates)| rates.iter().all(|it| *it > 0.0)) {
        println!("| {what} | {baseline:.0} | {now:.0} | {:.2} |", now / baseline);
    }
    Ok(())
}

/// What the rows of the table of rates are about, and their messages a second.
fn rows(printed: &str) -> impl Iterator<Item = (&str, f64)> {
    printed.lines().filter_map(|line| {
        let (what, rates) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        let (bytes, messages) = rates.split_once(" | ")?;
        bytes.parse::<f64>().ok()?;
        Some((what, messages.parse().ok()?))
    })
}

fn measure(seconds: u64) -> Result<()> {
    let (of, bytes) = messages()?;
    let counts = Counts::of(&bytes);
    println!("| {} {of} | |\n|---|---|", bytes.len());
    println!("| decoded | {} |\n| with a readable MSH | {} |", counts.decoded, counts.readable);
    println!("| with a rendition | {} |\n| with a summary | {} |", counts.rendered, counts.summarized);
    println!("| the same again from the rendition | {} |", counts.back);
    println!("| bytes, and those of the renditions | {} and {} |", counts.bytes, counts.json_bytes);

    let read: Vec<Er7> = bytes.iter().filter_map(|it| received(it)).filter(|it| Delimiters::of(it).is_ok()).collect();
    let ours = rates(&bytes, &read, Duration::from_secs(seconds))?;
    compressed(&read, Duration::from_secs(seconds))?;
    hl7apy(&read, ours, 10 * seconds)?;
    hostile()
}

/// Those of `SLUICE_CORPUS` alone where it is set, so that numbers stay those of a corpus; else the made-up ones.
fn messages() -> Result<(&'static str, Vec<Vec<u8>>)> {
    let mut samples = corpus::messages()?;
    let others = samples.split_off(corpus::made_up()?.len());
    let (of, samples) = if others.is_empty() { ("made-up files", samples) } else { ("files of SLUICE_CORPUS", others) };
    Ok((of, samples.into_iter().map(|it| it.bytes).collect()))
}

fn received(bytes: &[u8]) -> Option<Er7> {
    Received::new(bytes.to_vec(), Charset::of_message(bytes).ok()?).message().ok()
}

fn rendition(message: &Er7, json: &mut Vec<u8>) {
    json.clear();
    let delimiters = Delimiters::of(message).expect("readable");
    write_json(message, &delimiters, json).expect("memory takes everything");
}

/// How many of the messages get how far.
#[derive(Default)]
struct Counts {
    decoded: usize,
    readable: usize,
    rendered: usize,
    summarized: usize,
    back: usize,
    bytes: usize,
    json_bytes: usize,
}

impl Counts {
    fn of(messages: &[Vec<u8>]) -> Self {
        let mut counts = Self::default();
        for bytes in messages {
            counts.bytes += bytes.len();
            let Some(message) = received(bytes) else { continue };
            counts.decoded += 1;
            counts.summarized += usize::from(summarize(&message) != domain::Summary::default());
            let Ok(delimiters) = Delimiters::of(&message) else { continue };
            counts.readable += 1;
            let mut json = Vec::new();
            let written = write_json(&message, &delimiters, &mut json).is_ok();
            counts.rendered += usize::from(written && serde_json::from_slice::<serde_json::Value>(&json).is_ok());
            counts.back += usize::from(read_json(&json).as_ref() == Ok(&message));
            counts.json_bytes += json.len();
        }
        counts
    }
}

/// What one went through: messages, bytes, and seconds of this thread.
#[derive(Clone, Copy)]
struct Rate {
    messages: f64,
    bytes: f64,
    seconds: f64,
}

impl Rate {
    fn messages_per_second(self) -> f64 {
        self.messages / self.seconds
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} | {:.0}", self.bytes / self.seconds / 1e6, self.messages_per_second())
    }
}

/// Seconds that this thread has run on a core.
fn thread_seconds() -> Result<f64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(times.split(' ').next().context("a time")?.parse::<f64>()? / 1e9)
}

/// Goes through all of the items as often as the time allows; `work` gives the bytes of one.
fn rate<T>(items: &[T], time: Duration, mut work: impl FnMut(&T) -> usize) -> Result<Rate> {
    // Caches, branch predictors, the allocator, the dictionaries.
    for item in items {
        std::hint::black_box(work(item));
    }
    let began = thread_seconds()?;
    let (mut messages, mut bytes) = (0, 0);
    loop {
        for item in items {
            bytes += std::hint::black_box(work(item));
        }
        messages += items.len();
        let seconds = thread_seconds()? - began;
        if seconds >= time.as_secs_f64() {
            return Ok(Rate { messages: messages as f64, bytes: bytes as f64, seconds });
        }
    }
}

/// Prints a row for each thing that is done with a message. Gives the rate of bytes to JSON.
fn rates(bytes: &[Vec<u8>], read: &[Er7], time: Duration) -> Result<Rate> {
    println!("\n| one core | MB/s | messages/s |\n|---|---|---|");
    let canonical = rate(bytes, time, |it| received(it).map_or(0, |_| it.len()))?;
    println!("| bytes to canonical form | {canonical} |");
    let with_id =
        rate(bytes, time, |it| received(it).map_or(0, |message| message.message_id().as_str().len().min(1) * it.len()))?;
    println!("| and its id | {with_id} |");
    let mut json = Vec::new();
    let to_json = rate(read, time, |it| {
        rendition(it, &mut json);
        it.size_bytes()
    })?;
    println!("| canonical form to JSON | {to_json} |");
    let all = rate(bytes, time, |it| {
        let Some(message) = received(it) else { return 0 };
        let id = message.message_id();
        rendition(&message, &mut json);
        id.as_str().len().min(1) * it.len()
    })?;
    println!("| bytes to canonical form, id and JSON | {all} |");
    let documents: Vec<(usize, Vec<u8>)> = read
        .iter()
        .map(|it| {
            let mut json = Vec::new();
            rendition(it, &mut json);
            (it.size_bytes(), json)
        })
        .collect();
    let back = rate(&documents, time, |(size, json)| read_json(json).map_or(0, |_| *size))?;
    println!("| JSON to canonical form (MB of the latter) | {back} |");
    let summaries = rate(read, time, |it| summarize(it).message_type.map_or(0, |_| it.size_bytes()))?;
    println!("| MSH summarized | {summaries} |");
    let reports = rate(read, time, |it| validate::validate(it).version.map_or(0, |_| it.size_bytes()))?;
    println!("| held against its version | {reports} |");
    let ack = Ack { code: AckCode::CA, problem: None, control_id: "01KAHQ3V4Q", time: "20261121120000+0000" };
    let acks = rate(bytes, time, |it| acknowledge(&AckHeader::of(it), &ack).len().min(1) * it.len())?;
    println!("| acknowledged | {acks} |");
    let batch: Vec<u8> = read.iter().flat_map(|it| it.as_str().bytes()).collect();
    let found = split(&batch, Charset::UTF_8).messages().count();
    let splits = rate(std::slice::from_ref(&batch), time, |it| split(it, Charset::UTF_8).messages().map(|it| it.len()).sum())?;
    println!("| one batch of {found} split | {} |", Rate { messages: splits.messages * found as f64, ..splits });
    Ok(to_json)
}

/// An ORU of so many numeric results.
fn report(results: u32) -> Er7 {
    const TESTS: [(&str, &str, &str, &str); 5] = [
        ("2345-7", "Glucose", "mg/dL", "70-99"),
        ("2951-2", "Sodium", "mmol/L", "136-145"),
        ("2823-3", "Potassium", "mmol/L", "3.5-5.1"),
        ("2160-0", "Creatinine", "mg/dL", "0.7-1.3"),
        ("718-7", "Hemoglobin", "g/dL", "13.5-17.5"),
    ];
    let mut text = "MSH|^~\\&|LAB|WEST|LAKE|HUB|20260102030405||ORU^R01^ORU_R01|4711|P|2.5.1\r\
                    PID|1||4711^^^HIS^MR||ROE^RICHARD||19800101|M\rOBR|1|||24323-8^CMP^LN|||20260102\r"
        .to_owned();
    let tests = TESTS.iter().cycle().zip(1..=results);
    for ((code, name, unit, range), number) in tests {
        // Numbers that do not repeat, as those of an analyzer.
        let value = f64::from(number.wrapping_mul(2_654_435_761) % 2_000) / 10.0;
        text += &format!("OBX|{number}|NM|{code}^{name}^LN||{value}|{unit}^^UCUM|{range}|N|||F\r");
    }
    Er7::canonical(&text).expect("not empty")
}

/// Prints what the renditions take as they are stored, at each level of the compression and in other shapes of a rendition.
fn compressed(read: &[Er7], time: Duration) -> Result<()> {
    println!("\n| gzip, each rendition | messages | JSON, bytes | level | bytes | of the JSON | MB of JSON/s | µs a message |");
    println!("|---|---|---|---|---|---|---|---|");
    let reports = [vec![report(20)], vec![report(2_000)]];
    let kinds = [("the messages above", read), ("an ORU of 20 results", &reports[0]), ("an ORU of 2,000 results", &reports[1])];
    for (name, messages) in kinds {
        let documents: Vec<Vec<u8>> = messages
            .iter()
            .map(|it| {
                let mut json = Vec::new();
                rendition(it, &mut json);
                json
            })
            .collect();
        let plain: usize = documents.iter().map(Vec::len).sum();
        for level in (1..=6).chain([9]) {
            let compress = |json: &Vec<u8>| {
                let mut out = GzEncoder::new(Vec::new(), Compression::new(level));
                out.write_all(json).and_then(|()| out.finish()).map_or(0, |it| it.len())
            };
            let size: usize = documents.iter().map(compress).sum();
            let it = rate(&documents, time, |json| compress(json).min(1) * json.len())?;
            println!(
                "| {name} | {} | {plain} | {level} | {size} | {:.3} | {:.0} | {:.0} |",
                messages.len(),
                size as f64 / plain as f64,
                it.bytes / it.seconds / 1e6,
                1e6 / it.messages_per_second()
            );
        }
    }
    Ok(())
}

/// Prints what hl7apy does with the same messages.
fn hl7apy(read: &[Er7], ours: Rate, seconds: u64) -> Result<()> {
    let python = Python::install()?;
    let folder = tempfile::tempdir()?;
    for (n, message) in read.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{n:05}.hl7")), message.as_str())?;
    }
    println!("\n| reads and writes JSON, one core | messages | became JSON | messages/s | ratio |\n|---|---|---|---|---|");
    let per_second = ours.messages_per_second();
    println!("| hl7 | {} | {} | {per_second:.0} | |", read.len(), read.len());
    for level in [Level::Tolerant, Level::Strict] {
        let it = python.measure(folder.path(), seconds, level)?;
        let theirs = it.read as f64 / it.seconds;
        println!("| hl7apy, {} | {} | {} | {theirs:.1} | {:.0} |", level.as_str(), it.read, it.written, per_second / theirs);
    }
    Ok(())
}

/// Prints what the worst takes that may be sent, in three sizes.
fn hostile() -> Result<()> {
    println!(
        "\n| bytes to canonical form, id and JSON | 1 MiB, ms | 2 MiB, ms | 4 MiB, ms | JSON, bytes for one | back, ms | memory to write |"
    );
    println!("|---|---|---|---|---|---|---|");
    for name in inputs::NAMES {
        let mut row = format!("| {name} |");
        for size in [MIB, 2 * MIB, 4 * MIB] {
            let bytes = inputs::input(name, size);
            let began = thread_seconds()?;
            let charset = Charset::of_message(&bytes).unwrap_or(Charset::UTF_8);
            let message = Received::new(bytes, charset).message();
            let json = message.as_ref().ok().and_then(|message| {
                message.message_id();
                let delimiters = Delimiters::of(message).ok()?;
                let mut json = Vec::new();
                write_json(message, &delimiters, &mut json).ok()?;
                Some(json)
            });
            row += &format!(" {:.0} |", (thread_seconds()? - began) * 1e3);
            if size < 4 * MIB {
                continue;
            }
            let (Ok(message), Some(json)) = (message, json) else {
                row += " | | |";
                continue;
            };
            let began = thread_seconds()?;
            let back = read_json(&json);
            let took = (thread_seconds()? - began) * 1e3;
            ensure!(back.as_ref() == Ok(&message), "{name} does not come back");
            ALLOCATED.reset_peak_usage();
            let before = ALLOCATED.peak_usage();
            write_json(&message, &Delimiters::of(&message)?, &mut std::io::sink())?;
            let memory = ALLOCATED.peak_usage() - before;
            row += &format!(
                " {:.1} | {took:.0} | {:.1} KiB |",
                json.len() as f64 / message.size_bytes() as f64,
                memory as f64 / 1024.0
            );
        }
        println!("{row}");
    }
    Ok(())
}
