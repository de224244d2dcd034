//! Messages are found, shown, chosen for sending, and exported.

use base64::Engine as _;
use serde_json::{Value, json};

use super::person::{Ended, Person, root};
use super::{mode, text, with_end};

/// A report with a PDF in it, and with a name that would clear the screen.
fn report(person: &Person, file: &str) -> String {
    let pdf = base64::prelude::BASE64_STANDARD.encode("%PDF-1.7 of a patient");
    let message = format!(
        "MSH|^~\\&|LAB|EAST|LAKE|HUB|20260202||ORU^R01^ORU_R01|{}-{file}|P|2.5.1\r\
         PID|1||4711^^^LAB^MR||\u{1b}[2JDOE^JANE||19800101|F\r\
         OBR|1||9|24323-8^Panel^LN\rOBX|1|NM|2951-2^Sodium^LN||140|mmol/L|||||F\r\
         OBX|2|ED|11502-2^Report^LN||^AP^../../x.exe^Base64^{pdf}||||||F\r",
        person.institute
    );
    std::fs::write(person.path(file), &message).unwrap();
    message
}

#[tokio::test]
async fn messages_are_found_and_shown_by_the_first_digits_of_their_ids() {
    let person = Person::signed_in("terminal").await;
    let message = person.message("a.hl7", "DOE");
    report(&person, "b.hl7");
    let sent = person.run(&["send", "--wait", "--json", "a.hl7", "b.hl7"]).expect(0, "").json();
    let [adt, oru] = [0, 1].map(|row: usize| text(&sent["files"][row]["messageId"]).to_owned());
    let (adt_digits, oru_digits) = (&adt[..8], &oru[..8]);

    for table in [person.run(&["list"]), person.run(&["status", adt_digits, &oru]), person.run(&["find", "--since", "2h"])] {
        let table = table.expect(0, "").text();
        assert!(table.contains(adt_digits) && table.contains(oru_digits) && !table.contains(&oru[..20]), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }
    let wide = person.run(&["list", "--wide"]).expect(0, "").text();
    assert!(wide.contains(&adt) && wide.contains("LAB EAST"), "{wide}");
    assert_eq!(person.run(&["get", adt_digits]).expect(0, "").text(), message);

    let found = |arguments: &[&str]| person.run(&[&["find", "--json"], arguments].concat()).expect(0, "").json();
    let control_id = format!("{}-b.hl7", person.institute);
    for arguments in [
        &["--control-id", &control_id] as &[&str],
        &["--sender", "EAST", "--status", "stored"],
        &["--event", "R01", "--receiver", "LAKE"],
        &["--message-from", "2026-02-02", "--from", "yesterday"],
        &[oru_digits],
    ] {
        assert_eq!(found(arguments)["messageId"], oru, "{arguments:?}");
    }
    let nothing = format!(
        "There are no messages of institute {} that this asks for. Only messages that were stored are found by what is in them; \
         the others: `sluice find --status held`, or `queued`.",
        person.institute
    );
    assert!(person.run(&["find", "--control-id", "another"]).expect(1, &nothing).stdout.is_empty());
    let none = person.run(&["find", "--control-id", "another", "--json"]).expect(1, "").stderr;
    assert_eq!(serde_json::from_str::<Value>(&none).unwrap(), json!({ "error": nothing, "exitCode": 1 }));
    person.run(&["find", "--status", "gone"]).expect(2, "invalid value 'gone' for '--status");
    person.run(&["find", "--patient", ""]).expect(2, "--patient: ");
    person.run(&["list", "--from", "2h", "--to", "3h"]).expect(2, "--from must be before --to");
    person.run(&["list", "--from", "tomorrow"]).expect(2, "not a time; one is `yesterday`");

    let tree = person.run(&["show", oru_digits]).expect(0, "").text();
    for part in ["PID  Patient Identification", "PID-5.2", "Given Name", "JANE", "OBX #2  Observation/Result", "\\u{1b}[2JDOE"] {
        assert!(tree.contains(part), "{part}: {tree}");
    }
    assert!(!tree.contains('\u{1b}'), "no colors in a pipe, and none of a message's own");
    let obx = person.run(&["show", oru_digits, "--segment", "obx", "--extract", "documents"]).expect(0, "21 bytes").text();
    assert!(obx.contains("OBX-5") && !obx.contains("PID-"), "{obx}");
    let document = person.path(&format!("documents/{oru_digits}-obx2.pdf"));
    assert_eq!((std::fs::read(&document).unwrap(), mode(&document)), (b"%PDF-1.7 of a patient".to_vec(), 0o600));
    person.run(&["show", oru_digits, "--extract", "documents"]).expect(1, "File exists");
    person.run(&["show", adt_digits, "--segment", "ZZZ"]).expect(1, "The message has no segment ZZZ.");
    let json = person.run(&["show", adt_digits, "--segment", "PID", "--json"]).expect(0, "").json();
    assert_eq!(json["values"][1], json!({ "place": "PID-3.1", "name": "ID Number", "value": "4711" }));

    let error = person.run(&["get", "00000000", "--json"]).expect(1, "").stderr;
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error, json!({ "error": "no message's id begins with 00000000", "exitCode": 1 }));
    let told = person.run(&["-v", "status", &adt]).expect(0, &format!("/er7/{adt}/status: 200 OK"));
    let quiet = person.run(&["-q", "find", "--control-id", "another"]).expect(1, "");
    assert!(quiet.stderr.is_empty() && !told.stderr.contains("Bearer"), "{}", quiet.stderr);
}

#[tokio::test]
async fn an_id_that_several_messages_begin_with_names_them() {
    let person = Person::signed_in("ambiguous").await;
    let dynamodb = aws_sdk_dynamodb::Client::new(root(&person.outputs).config());
    for last in ["a", "b"] {
        let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
        let put = dynamodb.put_item().table_name(&person.outputs.table).item("source", text(&person.institute));
        let put = put.item("message_id", text(&format!("c0ffee00{}", last.repeat(56)))).item("status", text("queued"));
        put.item("received_at", text("2026-01-02T03:04:05.000Z")).send().await.unwrap();
    }
    let ended = person.run(&["status", "C0FFEE00"]).expect(1, "the ids of several messages begin with c0ffee00: c0ffee00");
    assert!(ended.stderr.contains("c0ffee00a (") && ended.stderr.contains("c0ffee00b ("), "{}", ended.stderr);
    let status = person.run(&["status", "c0ffee00b", "--json"]).expect(0, "").json();
    assert_eq!(status[0]["messageId"], format!("c0ffee00{}", "b".repeat(56)));
}

#[tokio::test]
async fn a_file_that_is_not_hl7_is_sent_only_on_request() {
    let person = Person::signed_in("nohl7").await;
    std::fs::create_dir(person.path("outbox")).unwrap();
    person.message("outbox/a.hl7", "DOE");
    person.message("outbox/b.txt", "ROE");
    std::fs::write(person.path("outbox/id_rsa"), "-----BEGIN PRIVATE KEY-----\n").unwrap();

    let dry = person.run(&["send", "--dry-run", "--json", "outbox"]).expect(1, "").json();
    assert_eq!((&dry["planned"], &dry["accepted"], &dry["refused"]), (&json!(2), &json!(0), &json!(1)), "{dry}");
    assert!(text(&dry["files"][2]["answer"]).starts_with("does not begin as HL7 does"), "{dry}");
    assert!(person.journal().is_empty());
    person.run(&["find", text(&dry["files"][0]["messageId"])]).expect(1, "");
    std::fs::write(person.path("latin1.hl7"), b"MSH|^~\\&|A||||||ADT^A01|7|P|2.5\rPID|1||\xfc\r").unwrap();
    let undecodable = person.run(&["send", "--dry-run", "latin1.hl7"]).expect(1, "0 accepted, 1 refused").text();
    assert!(undecodable.contains("not valid UTF-8"), "{undecodable}");
    person.run(&["send", "--dry-run", "--name", "*.hl7", "outbox"]).expect(0, "0 accepted, 1 would be sent, 0 refused, 0 left.");
    person.run(&["send", "--wait", "outbox"]).expect(1, "2 accepted, 1 refused, 0 left.");
    assert_eq!(person.run(&["list", "--all", "--json"]).expect(0, "").text().lines().count(), 2);
    let meant = person.run(&["send", "--any", "--wait", "outbox"]).expect(0, "1 accepted, 2 sent or stored before").text();
    assert!(meant.contains("stored, cannot be parsed"), "{meant}");
}

fn parquet_rows(path: &std::path::Path) -> Vec<String> {
    use parquet::file::reader::FileReader as _;
    let reader = parquet::file::reader::SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect()
}

#[tokio::test]
async fn messages_are_exported_as_tables_under_the_users_own_credentials() {
    let person = Person::signed_in("export").await;
    let adt = person.message("a.hl7", "DOE");
    for file in ["b.hl7", "c.hl7", "d.hl7"] {
        report(&person, file);
    }
    std::fs::write(person.path("no-hl7"), format!("no HL7 {}", person.institute)).unwrap();
    let files = ["a.hl7", "b.hl7", "c.hl7", "d.hl7", "no-hl7"];
    let sent =
        person.run(&[&["send", "--wait", "--any", "--json", "--concurrency", "1"], &files[..]].concat()).expect(0, "").json();
    let ids: Vec<_> = sent["files"].as_array().unwrap().iter().map(|row| text(&row["messageId"]).to_owned()).collect();
    // The token ended long ago, and the session renews it.
    let token = text(&person.session()["idToken"]).to_owned();
    person.change_session(|session| session["idToken"] = with_end(&token, 1_000).into());

    let lines = |ended: Ended| -> Vec<Value> { ended.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let messages = lines(person.run(&["export", "--to", "-", "--from", "yesterday"]).expect(0, "5 messages, 5 rows."));
    assert_eq!(messages.iter().map(|row| text(&row["message_id"])).collect::<Vec<_>>(), ids, "oldest first");
    assert_eq!((&messages[1]["message_type"], &messages[4]["state"]), (&json!("ORU"), &json!("error")));
    let results =
        lines(person.run(&["export", "--to", "-", "--type", "ORU", "--table", "observations"]).expect(0, "3 messages, 6 rows."));
    let (patient, value) = (text(&results[0]["patient_id"]), &results[0]["value_number"]);
    assert_eq!((patient, value, text(&results[0]["code"])), ("4711", &json!(140.0), "2951-2"));
    assert!(results[1].get("value").is_none(), "a document is no value");

    // To a file, which is there when it is whole; broken off by a disk that does not take the second part.
    let export = ["export", "--to", "all.csv", "--table", "segments", "--part", "2", "--until", "2099-01-01"];
    let obstacle = person.path("all.csv.partial/part-00002.csv");
    std::fs::create_dir_all(&obstacle).unwrap();
    person.run(&export).expect(1, "part-00002.csv");
    assert!(!person.path("all.csv").exists());
    person.run(&["export", "--to", "all.csv", "--table", "raw"]).expect(1, "holds what another export left");
    std::fs::remove_dir(&obstacle).unwrap();
    person.run(&export).expect(0, "Resuming behind 2 messages.").expect(0, "5 messages, 17 rows.");
    let csv = std::fs::read_to_string(person.path("all.csv")).unwrap();
    assert_eq!((csv.lines().count(), csv.matches("message_id").count(), mode(&person.path("all.csv"))), (18, 1, 0o600));
    assert!(!person.path("all.csv.partial").exists());
    person.run(&export).expect(2, "no file is overwritten");

    // Parquet of several parts, whole in a file and on stdout, with columns of one's own.
    person.run(&["export", "--to", "all.parquet", "--table", "fields", "--part", "2"]).expect(0, "5 messages, ");
    let stdout =
        person.run(&["export", "--to", "-", "--format", "parquet", "--table", "fields", "--part", "2"]).expect(0, "").stdout;
    std::fs::write(person.path("stdout.parquet"), stdout).unwrap();
    let [whole, streamed] = ["all.parquet", "stdout.parquet"].map(|name| parquet_rows(&person.path(name)));
    assert!(whole.len() > 60 && whole == streamed, "{} and {}", whole.len(), streamed.len());
    assert!(whole.iter().any(|row| row.contains("name: \"Given Name\", value: \"JANE\"")), "{whole:?}");
    let mapping =
        "version = 1\n[patients]\nrow = \"PID\"\ncolumns = [{ name = \"sex\", from = \"PID-8.1\", source = \"§3.4.2.8\" }]\n";
    std::fs::write(person.path("own.toml"), mapping).unwrap();
    let own = ["export", "--to", "-", "--table", "patients", "--mapping", "own.toml", "--type", "ORU"];
    let sexes = lines(person.run(&own).expect(0, "3 messages, 3 rows."));
    assert_eq!((text(&sexes[0]["sex"]), sexes[0].as_object().unwrap().len()), ("F", 4));
    std::fs::write(person.path("own.toml"), mapping.replace("PID-8.1", "PID-80.1")).unwrap();
    person.run(&own).expect(2, "own.toml: line 4, column 36: PID has ");

    // Whoever reads along may have enough.
    for form in ["ndjson", "csv", "er7", "parquet"] {
        let table = if form == "er7" { "raw" } else { "fields" };
        let mut child = person.command(&["export", "--to", "-", "--table", table, "--format", form]).spawn().unwrap();
        drop(child.stdout.take());
        let ended = person.ended(child.wait_with_output().unwrap()).expect(0, "");
        assert!(ended.stderr.is_empty(), "{form}: {}", ended.stderr);
    }
    let mut child = person.command(&["get", &ids[0]]).spawn().unwrap();
    drop(child.stdout.take());
    assert!(person.ended(child.wait_with_output().unwrap()).expect(0, "").stderr.is_empty());

    // A plain run of messages, which other commands take, and a folder that engines take.
    person.run(&["export", "--to", "run.er7", "--type", "ADT^A01"]).expect(0, "1 messages, 1 rows.");
    assert_eq!(std::fs::read_to_string(person.path("run.er7")).unwrap(), adt);
    let done = person.run(&["export", "--to", "lake/", "--table", "observations", "--json"]).expect(0, "").json();
    assert_eq!(done, json!({ "messages": 5, "rows": 6, "failed": [] }));
    // Two days, if midnight was in between.
    let inside = |path| std::fs::read_dir(path).unwrap().map(|it| it.unwrap().path()).collect::<Vec<_>>();
    let days = inside(person.path("lake"));
    assert!(days.iter().all(|day| day.file_name().unwrap().to_str().unwrap().starts_with("date=20")));
    let rows = days.into_iter().flat_map(inside).map(|part| std::fs::read_to_string(part).unwrap().lines().count());
    assert_eq!(rows.sum::<usize>(), 6);

    // A message that is gone is named, and the others are exported.
    let prefix = format!("source={}/protocol=hl7v2/format=er7/", person.institute);
    let s3 = root(&person.outputs).s3();
    let listed = s3.list_objects_v2().bucket(&person.outputs.bucket).prefix(prefix).send().await.unwrap();
    let key = listed.contents().iter().find_map(|it| it.key().filter(|key| key.contains(&ids[1]))).unwrap();
    let versions = s3.list_object_versions().bucket(&person.outputs.bucket).prefix(key).send().await.unwrap();
    for version in versions.versions() {
        let delete = s3.delete_object().bucket(&person.outputs.bucket).key(key).version_id(version.version_id().unwrap());
        delete.send().await.unwrap();
    }
    let ended = person.run(&["export", "--to", "rest.ndjson", "--table", "raw"]).expect(1, "4 messages, 4 rows.");
    assert!(ended.stderr.contains(&format!("1 messages are gone or do not match their records: {}", ids[1])), "{}", ended.stderr);
    assert!(person.path("rest.ndjson").exists());

    // Where no message can be read, the right may be missing, and there is no file.
    for object in listed.contents() {
        let versions =
            s3.list_object_versions().bucket(&person.outputs.bucket).prefix(object.key().unwrap()).send().await.unwrap();
        for version in versions.versions() {
            let (key, version) = (version.key().unwrap(), version.version_id().unwrap());
            s3.delete_object().bucket(&person.outputs.bucket).key(key).version_id(version).send().await.unwrap();
        }
    }
    let none = ["export", "--to", "none.ndjson", "--table", "raw"];
    person.run(&none).expect(1, "needs s3:GetObject").expect(1, &format!("S3 refuses message {}", ids[0]));
    assert!(!person.path("none.ndjson").exists());
    person.run(&["export", "--to", "rows.txt"]).expect(2, "ends in none of .parquet, .csv");
}
