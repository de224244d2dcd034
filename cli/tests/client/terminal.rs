//! What a terminal gets of a message with commands for it.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::person::{Ended, Person};
use super::text;

/// Turns the reading order around.
const TURNS: &str = "\u{202e}";

/// A family name that would clear the screen and change the color of what follows, by two kinds of commands, and turn it around.
const NAME: &str = "DOE\u{1b}[2J\u{9b}31m\u{202e}";
const ESCAPED_NAME: &str = "DOE\\u{1b}[2J\\u{9b}31m\\u{202e}";

/// Runs a command that has a terminal for stdin, stdout and stderr. What it writes to the terminal is the stdout of the result.
fn on_a_terminal(person: &Person, arguments: &[&str]) -> Ended {
    let command = person.command(arguments);
    // Python can make terminals. It needs its own environment, and the command must not have that one.
    let mut python = Command::new("python3");
    let code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    python.args(["-c", code, "env", "-i"]).current_dir(person.home.path()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        let mut variable = name.to_owned();
        variable.push("=");
        variable.push(value.unwrap());
        python.arg(variable);
    }
    person.ended(python.arg(command.get_program()).args(command.get_args()).output().unwrap())
}

fn assert_harmless(shown: &str) {
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown:?}");
}

#[tokio::test]
async fn nothing_in_a_message_acts_on_the_terminal_that_shows_it() {
    let person = Person::signed_in("acts").await;
    let message = person.message("a.hl7", NAME).replace("|WEST|", &format!("|{TURNS}|"));
    std::fs::write(person.path("a.hl7"), &message).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "a.hl7"]).expect(0, "").json();
    let id = text(&sent["files"][0]["messageId"]);

    // JSON has the same values, in JSON's own escapes: everywhere, or only on a terminal where a pipe gets the rows of a file.
    let listed = ["list", "--json"];
    let shown = ["show", id, "--segment", "PID", "--json"];
    let exported = ["-q", "export", "--to", "-", "--table", "patients"];
    let pipe = |arguments: &[&str]| person.run(arguments).expect(0, "").text();
    let terminal = |arguments: &[&str]| on_a_terminal(&person, arguments).expect(0, "").text();
    for (json, value) in [
        (pipe(&listed), TURNS),
        (terminal(&listed), TURNS),
        (pipe(&shown), NAME),
        (terminal(&shown), NAME),
        (terminal(&exported), NAME),
    ] {
        assert_harmless(&json);
        let json: Value = serde_json::from_str(&json).unwrap();
        let mut values = json["values"].as_array().into_iter().flatten();
        let name = values.find(|it| it["place"] == "PID-5.1").map(|it| &it["value"]);
        let found = name.or_else(|| json.get("family_name")).unwrap_or(&json["sendingFacility"]);
        assert_eq!(found, value, "{json}");
    }

    // For people escapes stand for what would act.
    let csv = ["-q", "export", "--to", "-", "--table", "patients", "--format", "csv"];
    let er7 = ["-q", "export", "--to", "-", "--table", "raw", "--format", "er7"];
    for text in [terminal(&csv), terminal(&er7), terminal(&["get", id])] {
        assert_harmless(&text);
        assert!(text.contains(ESCAPED_NAME), "{text}");
    }
    assert_eq!(pipe(&er7), message, "a pipe gets the bytes");
    let parquet = on_a_terminal(&person, &["export", "--to", "-", "--format", "parquet"]).expect(2, "").text();
    assert!(parquet.contains("Parquet is not for a terminal"), "{parquet}");
}
