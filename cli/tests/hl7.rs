//! `sluice hl7` as a shell sees it: files and pipes in, messages and documents out, on a machine without AWS or a sign-in.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics has failed"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use corpus::Sample;
use domain::Charset;
use flate2::Compression;
use flate2::write::GzEncoder;
use hl7::Body;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder to work in, which is also the home folder.
struct Machine(TempDir);

struct Ended {
    stdout: Vec<u8>,
    stderr: String,
}

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.arg("hl7").args(arguments).env_clear().env("HOME", self.0.path()).current_dir(self.0.path());
        // Whoever asks for a region or credentials finds none, and whoever asks the network nobody.
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("HTTPS_PROXY", "http://127.0.0.1:1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, which is to have this exit code, with this on stderr.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32, stderr: &str) -> Ended {
        ended(self.command(arguments).output().unwrap(), code, stderr)
    }

    /// The same with this on stdin.
    #[track_caller]
    fn pipe(&self, input: impl AsRef<[u8]>, arguments: &[&str], code: i32, stderr: &str) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        ended(output, code, stderr)
    }
}

#[track_caller]
fn ended(output: Output, code: i32, stderr: &str) -> Ended {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(stderr), "{said}");
    assert!(code != 0 || !said.contains("error:"), "{said}");
    assert!(!said.contains("LLER"), "what is in a message is told: {said}");
    Ended { stdout: output.stdout, stderr: said }
}

impl Ended {
    fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    fn json_lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// An admission in canonical form.
fn adt(control_id: &str, msh_18: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1||||||{msh_18}\r\
         EVN||20260102030405\rPID|1||4711^^^HIS^MR||M\u{fc}LLER^JANE||19800101|F\rPV1|1|I\r"
    )
}

fn latin_1(text: &str) -> Vec<u8> {
    Charset::for_label("iso-8859-1").unwrap().encode(text).unwrap()
}

/// A message that says that it is UTF-8, and is not, behind so many bytes.
fn undecodable() -> (Vec<u8>, usize) {
    let text = adt("bad", "UNICODE UTF-8");
    (latin_1(&text), text.find('\u{fc}').unwrap())
}

fn id(message: &str) -> String {
    domain::Er7::canonical(message).unwrap().message_id().to_string()
}

#[test]
fn a_file_name_cannot_control_the_terminal() {
    let machine = Machine::new();
    // C0, a CSI of C1, and a character that turns the rest of the line around.
    let name = "\u{1b}[2J\u{9b}31m\u{202e}7lh.hl7";
    let acts = |text: &str| text.contains(['\u{1b}', '\u{9b}', '\u{202e}']);
    let absent = machine.run(&["id", name], 1, "7lh.hl7");
    assert!(!acts(&absent.stderr), "{:?}", absent.stderr);
    machine.write(name, "MSH|^~\\&|A|B|C|D|20260102||ADT^A01|1|P|2.5\rPID|1\r");
    let found = machine.run(&["id", name], 0, "");
    assert!(!acts(&String::from_utf8(found.stdout).unwrap()));
    let json = machine.run(&["id", "--json", name], 0, "");
    let text = String::from_utf8(json.stdout).unwrap();
    assert!(!acts(&text), "{text:?}");
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
}

#[test]
fn a_message_is_json_and_comes_back() {
    let machine = Machine::new();
    let message = adt("1", "");
    machine.write("a.hl7", message.replace('\r', "\r\n"));
    let line = machine.run(&["json", "a.hl7"], 0, "");
    assert_eq!(line.text().lines().count(), 1);
    let document = &line.json_lines()[0];
    assert_eq!((&document["summary"]["controlId"], &document["dictionary"]), (&json!("1"), &json!("2.5.1")));
    assert_eq!(document["segments"][2]["fields"][2]["repetitions"][0][0]["value"], "M\u{fc}LLER");
    assert_eq!(machine.pipe(&line.stdout, &["er7"], 0, "").text(), message);
    assert_eq!(machine.pipe(&line.stdout, &["er7", "--lf", "-"], 0, "").text(), message.replace('\r', "\n"));
    assert_eq!(machine.pipe(&line.stdout, &["er7", "--charset", "8859/1"], 0, "").stdout, latin_1(&message));

    // For people it is the same in many lines, in the same order, and comes back, too.
    let pretty = machine.pipe(message.repeat(2), &["json", "--pretty"], 0, "");
    let first_line = |text: &str| text.lines().next().unwrap().to_owned();
    assert!(pretty.text().lines().count() > 200 && first_line(&pretty.text()) == "{");
    assert!(pretty.text().find("\"summary\"").unwrap() < pretty.text().find("\"delimiters\"").unwrap());
    let documents = serde_json::Deserializer::from_slice(&pretty.stdout).into_iter::<Value>();
    assert_eq!(documents.map(Result::unwrap).collect::<Vec<_>>(), [document.clone(), document.clone()]);
    assert_eq!(machine.pipe(&pretty.stdout, &["er7"], 0, "").text(), message.repeat(2));
}

#[test]
fn files_folders_and_pipes_are_read() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("inbox")).unwrap();
    let messages = ["1", "2", "3", "4"].map(|it| adt(it, ""));
    machine.write("inbox/b.hl7", &messages[1]);
    machine.write("inbox/a.hl7", &messages[0]);
    machine.write("inbox/.hidden", "x");
    machine.write("c.hl7", format!("\u{b}{}\u{1c}\r\u{b}{}\u{1c}\r", messages[2], messages[3]));
    let ids = machine.pipe(&messages[0], &["id", "inbox", "-", "c.hl7"], 0, "").text();
    let names = ["inbox/a.hl7", "inbox/b.hl7", "-", "c.hl7#1", "c.hl7#2"];
    let expected = [0, 1, 0, 2, 3].iter().zip(names).map(|(n, name)| format!("{}  {name}\n", id(&messages[*n])));
    assert_eq!(ids, expected.collect::<String>());
    assert_eq!(machine.pipe(&messages[1], &["id"], 0, "").text(), format!("{}  -\n", id(&messages[1])));

    let lines = machine.run(&["id", "--json", "c.hl7"], 0, "").json_lines();
    assert_eq!(lines[1], json!({ "messageId": id(&messages[3]), "file": "c.hl7", "message": 2 }));
    // One that cannot be read does not keep the others from being read.
    let ids = machine.run(&["id", "missing.hl7", "c.hl7"], 1, "error: missing.hl7: cannot be read: No such file").text();
    assert_eq!(ids.lines().count(), 2);
    for command in ["json", "id", "ack", "validate"] {
        machine.run(&[command], 1, "error: -: the message is empty");
    }
    machine.run(&["er7"], 1, "error: -: there is no rendition in it");
    std::fs::create_dir(machine.path("empty")).unwrap();
    machine.run(&["json", "empty"], 1, "there are no files");
}

#[test]
fn the_console_finds_in_a_file_what_the_command_finds() {
    let machine = Machine::new();
    let bad = adt("2", "").replace("19800101", "19800132") + "PV1|1|QQ\rgarbage\r";
    let batch = format!("BHS|^~\\&\r{}{bad}BTS|3\r", adt("1", ""));
    let undecodable = [bad.as_bytes(), &latin_1(&adt("3", ""))].concat();
    let mut seen = 0;
    for file in [bad.clone().into_bytes(), batch.into_bytes(), undecodable, b"MSH".to_vec(), b"nothing of HL7".to_vec()] {
        machine.write("a.hl7", &file);
        let said = machine.command(&["validate", "--json", "a.hl7"]).output().unwrap();
        let lines: Vec<Value> =
            String::from_utf8(said.stdout).unwrap().lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        let found = serde_json::to_value(validator::look(file)).unwrap();
        let of_command: Vec<_> = lines
            .iter()
            .flat_map(|line| {
                let findings = line["findings"].as_array().into_iter().flatten();
                findings.map(|it| json!([line["message"], it["severity"], it["code"], it["detail"]]))
            })
            .collect();
        let of_page: Vec<_> = found["findings"].as_array().unwrap().iter().collect();
        let of_page: Vec<_> = of_page.iter().map(|it| json!([it["message"], it["severity"], it["code"], it["detail"]])).collect();
        assert_eq!(of_page, of_command);
        let problems: Vec<_> = lines.iter().filter_map(|it| it["batchProblems"].as_array()).flatten().cloned().collect();
        assert_eq!(found["batchProblems"], json!(problems));
        let unreadable = found["unreadable"].as_array().unwrap().len();
        assert_eq!(String::from_utf8_lossy(&said.stderr).matches("not valid UTF-8").count(), unreadable);
        seen += of_page.len() + problems.len() + unreadable;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn msh_18_or_the_user_names_the_character_set_of_a_message() {
    let machine = Machine::new();
    let message = adt("1", "8859/1");
    machine.write("a.hl7", latin_1(&message));
    machine.write("utf-8.hl7", &message);
    assert!(machine.run(&["json", "a.hl7"], 0, "").text().contains("M\u{fc}LLER"));
    assert!(machine.run(&["id", "a.hl7"], 0, "").text().starts_with(&id(&message)));
    // Canonical, whatever MSH-18 goes on to say.
    for label in ["utf-8", "UNICODE UTF-8"] {
        assert!(machine.run(&["id", "--charset", label, "utf-8.hl7"], 0, "").text().starts_with(&id(&message)));
    }
    machine.write("silent.hl7", latin_1(&adt("1", "")));
    machine.run(&["json", "silent.hl7"], 1, "error: silent.hl7: not valid UTF-8: byte ");
    for label in ["iso-8859-1", "8859/1"] {
        assert!(machine.run(&["json", "--charset", label, "silent.hl7"], 0, "").text().contains("M\u{fc}LLER"));
    }
    machine.run(&["json", "--charset", "klingon", "a.hl7"], 2, "unknown character set; use a name such as");
    let greek = machine.pipe(message.replace('\u{fc}', "\u{3a9}"), &["json", "--charset", "utf-8"], 0, "");
    let refused =
        machine.pipe(&greek.stdout, &["er7", "--charset", "8859/1"], 1, "-#1: the message has a character that windows-1252");
    assert!(refused.stdout.is_empty());

    let utf_16 = Charset::for_label("utf-16le").unwrap().encode(&format!("\u{feff}{}{message}", adt("2", ""))).unwrap();
    let ids = machine.pipe(utf_16, &["id"], 0, "").text();
    assert!(ids.contains(&id(&message)) && ids.contains(&id(&adt("2", ""))), "{ids}");
}

#[test]
fn an_undecodable_message_is_reported_with_its_place_and_the_others_are_read() {
    let machine = Machine::new();
    let first = adt("1", "");
    let (bad, offset) = undecodable();
    machine.write("run.hl7", [first.as_bytes(), &bad, first.as_bytes()].concat());
    let error = format!("error: run.hl7#2: not valid UTF-8: byte {} of the file cannot be decoded", first.len() + offset);
    assert_eq!(machine.run(&["json", "run.hl7"], 1, &error).json_lines().len(), 2);
    assert_eq!(machine.run(&["id", "run.hl7"], 1, &error).text().lines().count(), 2);
    machine.run(&["validate", "run.hl7"], 1, &error);
    // The sender of each is answered.
    let acks = machine.run(&["ack", "run.hl7"], 1, &error).text();
    let codes: Vec<_> = acks.split('\r').filter_map(|it| it.strip_prefix("MSA|")).collect();
    let hint = "if it is in another set, name that in MSH-18, with --charset, or charset= in Content-Type";
    let detail = format!("the message is not valid UTF-8: byte {offset} cannot be decoded: {hint}");
    assert_eq!(codes, ["AA|1", &format!("AE|bad|{detail}"), "AA|1"]);

    machine.write("no-header.hl7", "PID|1||4711||M\u{dc}LLER\r");
    machine.run(&["json", "no-header.hl7"], 1, "error: no-header.hl7: segment 1: the message does not begin with an MSH segment");
    machine.run(&["id", "no-header.hl7"], 0, "");
}

#[test]
fn an_invalid_rendition_is_reported_with_its_line() {
    let machine = Machine::new();
    let message = adt("1", "");
    let line = machine.pipe(&message, &["json"], 0, "").text();
    machine.write("lines.json", format!("{line}\n{{\"segments\": \"M\u{dc}LLER\"}}\n{line}M\u{dc}LLER\n{line}"));
    let ended = machine.run(&["er7", "lines.json"], 1, "error: lines.json#2: not a rendition: unreadable at line 3, column ");
    assert!(ended.stderr.contains("error: lines.json#4: not a rendition: unreadable at line 5, column "), "{}", ended.stderr);
    assert_eq!(ended.text(), message.repeat(3));
    machine.pipe(&line[..line.len() / 2], &["er7"], 1, "error: -#1: not a rendition: unreadable at line 1");
    machine.pipe(&message, &["er7"], 1, "error: -#1: not a rendition");
    machine.run(&["er7", "none.json"], 1, "error: none.json: cannot be read");
}

#[test]
fn renditions_of_both_versions_are_read_plain_and_compressed() {
    let machine = Machine::new();
    let messages = [adt("1", ""), adt("2", "")];
    let [first, second] = messages.each_ref().map(|it| machine.pipe(it, &["json"], 0, "").text());
    let first = first.replacen("{\"version\":2,", "{", 1);
    assert!(first.starts_with("{\"summary\""));
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    machine.write("a.json", &first);
    machine.write("b.json.gz", gzip(&second));
    machine.write("both.json.gz", [gzip(&first), gzip(&second)].concat());
    for files in [&["a.json", "b.json.gz"][..], &["both.json.gz"]] {
        assert_eq!(machine.run(&[&["er7"], files].concat(), 0, "").text(), messages.concat());
    }
    assert_eq!(machine.pipe(gzip(&second), &["er7"], 0, "").text(), messages[1]);
    machine.write("damaged.json.gz", &gzip(&second)[..100]);
    machine.run(&["er7", "damaged.json.gz"], 1, "error: damaged.json.gz: cannot be read: ");
    let later = second.replacen("\"version\":2", "\"version\":3", 1);
    machine.pipe(later, &["er7"], 1, "error: -#1: not a rendition of a version from 1 to 2, but of version 3");
}

#[test]
fn the_corpus_goes_to_json_and_back() {
    let mut files = corpus::messages().unwrap();
    // Of a large corpus every twelfth: a process reads them all, and its arguments have a limit.
    let others = files.split_off(corpus::made_up().unwrap().len());
    files.extend(others.into_iter().step_by(12));
    assert!(files.len() >= 100, "{}", files.len());
    let (mut expected, mut ids, mut unreadable) = (String::new(), String::new(), 0);
    for Sample { bytes, .. } in &files {
        for message in Body::of(bytes.clone(), None).messages().map(|it| it.read()) {
            let Ok(message) = message else {
                unreadable += 1;
                continue;
            };
            ids.push_str(message.id.as_str());
            match message.delimiters {
                Ok(_) => expected.push_str(message.er7.as_str()),
                Err(_) => unreadable += 1,
            }
        }
    }
    let machine = Machine::new();
    let command = |name: &str| {
        let mut command = machine.command(&[name]);
        command.args(files.iter().map(|it| &it.path));
        command.output().unwrap()
    };
    let code = i32::from(unreadable > 0);
    let renditions = command("json");
    assert_eq!(renditions.status.code(), Some(code), "{}", String::from_utf8_lossy(&renditions.stderr));
    assert_eq!(renditions.stderr.split(|it| *it == b'\n').filter(|it| it.starts_with(b"error")).count(), unreadable);
    assert_eq!(machine.pipe(&renditions.stdout, &["er7"], 0, "").text(), expected);
    let found = String::from_utf8(command("id").stdout).unwrap();
    assert_eq!(found.lines().map(|it| &it[..64]).collect::<String>(), ids);
    assert!(matches!(command("validate").status.code(), Some(0 | 1)));
}

#[test]
fn acknowledgments_are_those_of_the_api() {
    let machine = Machine::new();
    let message = adt("7", "");
    machine.write("a.hl7", &message);
    let ack = machine.run(&["ack", "a.hl7"], 0, "").text();
    let segments: Vec<&str> = ack.split_terminator('\r').collect();
    let msh: Vec<&str> = segments[0].split('|').collect();
    assert_eq!((msh[2..6].join("|").as_str(), msh[8], segments[1]), ("LAKE|HUB|HIS|WEST", "ACK^A01^ACK", "MSA|AA|7"));
    assert_eq!(msh[9], &id(&message)[..20]);

    let ack = machine.pipe(&message, &["ack", "--code", "ae", "--text", "no such | patient"], 0, "").text();
    let end = "MSA|AE|7|no such \\F\\ patient\rERR|||207^Application internal error^HL70357|E||||no such \\F\\ patient\r";
    assert!(ack.ends_with(end), "{ack}");
    machine.run(&["ack", "--text", "why", "a.hl7"], 2, "it needs --code CE, CR, AE or AR");
    machine.run(&["ack", "--code", "OK", "a.hl7"], 2, "HL7 table 0008");

    // In the message's own character set, with its own name of it.
    let umlaut = adt("8", "8859/1").replace("HIS|", "H\u{dc}S|");
    let ack = machine.pipe(latin_1(&umlaut), &["ack"], 0, "").stdout;
    let ack = Charset::for_hl7("8859/1").unwrap().decode(&ack).unwrap();
    assert!(ack.contains("|H\u{dc}S|") && ack.contains("|8859/1\r"), "{ack}");

    // Both of the enhanced mode, in order; or the one that is asked for.
    let both = message.replace("2.5.1||||||", "2.5.1|||AL|AL||");
    let codes = |args: &[&str]| -> Vec<String> {
        let ack = machine.pipe(&both, args, 0, "").text();
        ack.split('\r').filter_map(|it| it.strip_prefix("MSA|")).map(|it| it[..2].to_owned()).collect()
    };
    assert_eq!(
        (codes(&["ack"]), codes(&["ack", "--code", "CA"])),
        (vec!["CA".to_owned(), "AA".to_owned()], vec!["CA".to_owned()])
    );

    // No commit acknowledgment, and an application's only of an error.
    let quiet = message.replace("2.5.1||||||", "2.5.1|||NE|ER||");
    let ended = machine.pipe(&quiet, &["ack"], 0, "the message does not ask for such an acknowledgment");
    assert!(ended.stdout.is_empty());
    assert!(machine.pipe(&quiet, &["ack", "--code", "AA"], 0, "").stdout.is_empty());
    assert!(machine.pipe(&quiet, &["ack", "--code", "AE"], 0, "").text().contains("MSA|AE|7|"));
    assert!(machine.pipe(&quiet, &["ack", "--always"], 0, "").text().contains("MSA|AA|7\r"));
    assert!(machine.pipe(&quiet, &["ack", "--always", "--code", "CA"], 0, "").text().contains("MSA|CA|7\r"));

    let ack = machine.pipe("not HL7", &["ack"], 0, "").text();
    assert!(ack.contains("MSA|AA||MSH is not readable") && ack.contains("|W|"), "{ack}");
}

#[test]
fn a_batch_is_answered_by_a_batch() {
    let machine = Machine::new();
    let [one, two] = ["1", "2"].map(|it| adt(it, ""));
    let quiet = two.replace("2.5.1||||||", "2.5.1|||NE|NE||");
    let batch = format!("FHS|^~\\&|HIS|WEST\rBHS|^~\\&|HIS|WEST|||||||B1\r{one}{quiet}BTS|2\rFTS|1\r");
    let names = |ack: &str| ack.split_terminator('\r').map(|it| it[..3].to_owned()).collect::<Vec<_>>();
    let ack = machine.pipe(&batch, &["ack"], 0, "").text();
    assert_eq!(names(&ack), ["FHS", "BHS", "MSH", "MSA", "BTS", "FTS"]);
    assert!(ack.contains("MSA|AA|1\rBTS|1\r"), "{ack}");
    let ack = machine.pipe(&batch, &["ack", "--always"], 0, "").text();
    assert_eq!(names(&ack), ["FHS", "BHS", "MSH", "MSA", "MSH", "MSA", "BTS", "FTS"]);
    // One that was cut short is answered, and told of.
    machine.pipe(batch.replace("BTS|2", "BTS|3"), &["ack"], 0, "warning: -: BTS-1 says that the batch has 3 messages; found: 2");
}

#[test]
fn a_validation_report_has_places_and_findings_and_no_values() {
    let machine = Machine::new();
    let good = adt("1", "");
    machine.write("good.hl7", &good);
    let ended = machine.run(&["validate", "good.hl7"], 0, "Messages: 1; errors: 0");
    assert!(!ended.text().contains("error"), "{}", ended.text());

    let bad = good.replace("|19800101|", "|M\u{dc}LLER|").replace("EVN||20260102030405\r", "");
    machine.write("batch.hl7", format!("BHS|^~\\&\r{good}{bad}BTS|3\r"));
    let table = machine.run(&["validate", "batch.hl7"], 1, "Messages: 2; errors: 2").text();
    for expected in ["batch.hl7#2", "PID-7", "wrong-format", "missing-segment", "bts-count"] {
        assert!(table.contains(expected), "no {expected}: {table}");
    }
    assert!(!table.contains("LLER") && !table.contains("batch.hl7#1 "), "{table}");

    let lines = machine.run(&["validate", "--json", "batch.hl7"], 1, "").json_lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["message"], &lines[0]["version"], &lines[0]["structure"]),
        (&json!(1), &json!("2.5.1"), &json!("ADT_A01"))
    );
    let findings = lines[1]["findings"].as_array().unwrap();
    let date = findings.iter().find(|it| it["code"] == "wrong-format").unwrap();
    assert_eq!(
        (&date["severity"], &date["location"]["segment"], &date["location"]["field"]),
        (&json!("error"), &json!("PID"), &json!(7))
    );
    assert_eq!(lines[2]["batchProblems"][0], json!({ "code": "bts-count", "declared": 3, "found": 2 }));
    // Counts that do not agree are an error by themselves.
    machine.pipe(format!("BHS|^~\\&\r{good}BTS|2\r"), &["validate"], 1, "Messages: 1; errors: 0");
}

/// The example that docs/HL7.md names.
const SCHEMA: &str = include_str!("../../examples/z-segments/schema.toml");

#[test]
fn a_schema_names_a_sites_own_segments_and_the_message_comes_back() {
    let machine = Machine::new();
    let message = format!("{}ZPI|1|x|de^German\r", adt("1", ""));
    machine.write("a.hl7", &message);
    machine.write("schema.toml", SCHEMA);
    let named = machine.run(&["json", "--schema", "schema.toml", "a.hl7"], 0, "");
    let zpi = &named.json_lines()[0]["segments"][4];
    assert_eq!((&zpi["segment"], &zpi["name"]), (&json!("ZPI"), &json!("Patient Additional Information")));
    assert_eq!(zpi["fields"][1], json!({ "position": 2, "repetitions": [[{ "position": 1, "value": "x" }]] }));
    assert_eq!(zpi["fields"][2]["repetitions"][0][1], json!({ "position": 2, "name": "Text", "value": "German" }));
    assert_eq!(machine.pipe(&named.stdout, &["er7"], 0, "").text(), message);
    let pretty = machine.run(&["json", "--pretty", "--schema", "schema.toml", "a.hl7"], 0, "");
    assert_eq!(machine.pipe(&pretty.stdout, &["er7"], 0, "").text(), message);
    // Without it the segment has no names, and the rest is the same.
    let plain = machine.run(&["json", "a.hl7"], 0, "").json_lines()[0].clone();
    assert_eq!(plain["segments"][4].get("name"), None);
    assert_eq!(plain["segments"].as_array().unwrap()[..4], named.json_lines()[0]["segments"].as_array().unwrap()[..4]);

    // As a variable, and as a setting.
    let by_variable = machine.command(&["json", "a.hl7"]).env("SLUICE_SCHEMA", "schema.toml").output().unwrap();
    assert_eq!(ended(by_variable, 0, "").stdout, named.stdout);
    machine.write("config.toml", "schema = \"schema.toml\"\n");
    let by_setting = machine.command(&["json", "a.hl7"]).env("SLUICE_CONFIG", "config.toml").output().unwrap();
    assert_eq!(ended(by_setting, 0, "").stdout, named.stdout);
}

#[test]
fn a_sites_own_segments_are_validated_by_the_schema() {
    let machine = Machine::new();
    machine.write("a.hl7", format!("{}ZPI||||||||M\u{dc}LLER\r", adt("1", "")));
    machine.write("schema.toml", SCHEMA);
    machine.run(&["validate", "a.hl7"], 0, "Messages: 1; errors: 0");
    let table = machine.run(&["validate", "--schema", "schema.toml", "a.hl7"], 1, "Messages: 1; errors: 1, warnings: 1").text();
    for expected in ["ZPI-1", "missing-field", "Set ID - ZPI is required", "ZPI-8", "extra-field"] {
        assert!(table.contains(expected), "no {expected}: {table}");
    }
    assert!(!table.contains("LLER"), "{table}");
}

#[test]
fn a_schema_with_a_mistake_is_refused_before_anything_is_printed() {
    let machine = Machine::new();
    machine.write("a.hl7", adt("1", ""));
    machine.write("bad.toml", SCHEMA.replace("[ZPI]", "[PID]"));
    let line = 1 + SCHEMA.lines().position(|line| line == "[ZPI]").unwrap();
    let error =
        format!("error: bad.toml: line {line}, column 2: a segment of your own is named Z and two capital letters or digits");
    for command in ["json", "validate"] {
        let ended = machine.run(&[command, "--schema", "bad.toml", "a.hl7"], 2, &error);
        assert!(ended.stdout.is_empty(), "{}", ended.text());
        let ended = machine.run(&[command, "--schema", "none.toml", "a.hl7"], 1, "error: reading none.toml: No such file");
        assert!(ended.stdout.is_empty(), "{}", ended.text());
    }
}

#[test]
fn a_batch_is_split_into_files_that_stay_in_their_folder() {
    let machine = Machine::new();
    let ids = ["../../x", "", &"9".repeat(200), "4711", "4711", "a/b\u{7}"];
    let mut messages: Vec<Vec<u8>> = ids.iter().map(|id| adt(id, "").replace('\r', "\r\n").into_bytes()).collect();
    messages.push(undecodable().0);
    let batch = [b"BHS|^~\\&\r\n".as_slice(), &messages.concat(), b"BTS|7\r\n"].concat();
    machine.write("batch.hl7", &batch);
    let written = machine.run(&["split", "batch.hl7", "--out", "out/deep"], 0, "").text();
    let long = format!("3-{}.hl7", "9".repeat(100));
    let names = ["1-.._.._x.hl7", "2-2.hl7", &long, "4-4711.hl7", "5-4711.hl7", "6-6.hl7", "7-bad.hl7"];
    assert_eq!(written, names.map(|it| format!("out/deep/{it}\n")).concat());
    for (name, message) in names.iter().zip(&messages) {
        let path = machine.path("out/deep").join(name);
        assert_eq!((&std::fs::read(&path).unwrap(), path.metadata().unwrap().permissions().mode() & 0o777), (message, 0o600));
    }
    let everywhere = |folder: &str| {
        let mut names: Vec<_> =
            std::fs::read_dir(machine.path(folder)).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!((everywhere("."), everywhere("out")), (vec!["batch.hl7".to_owned(), "out".to_owned()], vec!["deep".to_owned()]));
    assert_eq!(everywhere("out/deep").len(), names.len());

    // Again: nothing is overwritten, not even through a link to what is not there yet.
    machine.write("out/deep/4-4711.hl7", "mine");
    std::fs::remove_file(machine.path("out/deep/5-4711.hl7")).unwrap();
    std::os::unix::fs::symlink(machine.path("elsewhere"), machine.path("out/deep/5-4711.hl7")).unwrap();
    let again = machine.run(&["split", "batch.hl7", "--out", "out/deep"], 1, "error: batch.hl7#4: writing out/deep/4-4711.hl7: ");
    assert!(again.stdout.is_empty() && !machine.path("elsewhere").exists());
    assert_eq!(std::fs::read(machine.path("out/deep/4-4711.hl7")).unwrap(), b"mine");

    // A batch that is not what its trailer says is split all the same, and the exit code says so.
    let short = [b"BHS|^~\\&\r\n".as_slice(), &messages[0], b"BTS|2\r"].concat();
    let lines = machine.pipe(short, &["split", "-", "--out", "short", "--json"], 1, "BTS-1 says that the batch has 2 messages");
    let expected = json!({ "written": "short/1-.._.._x.hl7", "bytes": messages[0].len(), "file": "-", "message": 1 });
    assert_eq!(lines.json_lines(), [expected]);
    machine.run(&["split", "none.hl7", "--out", "none"], 1, "error: none.hl7: cannot be read");
    machine.run(&["split", "batch.hl7"], 2, "--out");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let machine = Machine::new();
    machine.write("many.hl7", adt("1", "").repeat(2_000));
    for command in ["json", "id"] {
        let mut child = machine.command(&[command, "many.hl7"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        ended(child.wait_with_output().unwrap(), 0, "");
    }
}
