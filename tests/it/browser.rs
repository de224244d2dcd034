//! The console in a real browser, Chromium, driven by playwright-core against the local system: `console/tests`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::outputs::User;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluice::console::{Settings, Site, build};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{Harness, adt, unique};
use tokio::io::AsyncWriteExt as _;

use crate::{forge, held, renditions};

/// The browser to use. Set and not there, the test fails; not set and no browser found, it says so and is not run.
const VARIABLE: &str = "SLUICE_BROWSER";
/// A folder for pictures of the pages, which docs/CONSOLE.md shows.
const PICTURES: &str = "SLUICE_PICTURES";
/// The cases whose names contain this; all if it is not set.
const ONLY: &str = "SLUICE_BROWSER_CASES";
/// What a browser may be called.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// For all cases together, on a busy machine. The program of the cases keeps it and says which case was running.
const DEADLINE: Duration = Duration::from_secs(900);
/// For that program to end.
const GRACE: Duration = Duration::from_secs(20);
/// Of the message that is as large as the API takes one, 4 MiB, about.
const LARGE: usize = 3_900_000;

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|it| it.to_string_lossy().into_owned())
}

fn browser() -> Result<Option<PathBuf>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|it| it.is_file());
    let Some(named) = variable(VARIABLE) else { return Ok(NAMES.into_iter().find_map(find)) };
    let found = if named.contains('/') { Some(PathBuf::from(&named)).filter(|it| it.is_file()) } else { find(&named) };
    let found =
        found.with_context(|| format!("{VARIABLE} names {named}, which is not there: install Debian's package chromium"))?;
    Ok(Some(found))
}

/// A laboratory's report with two documents in it, and a third that is none.
fn report(control_id: &str, patient: &str) -> String {
    let pdf = BASE64_STANDARD.encode(include_bytes!("browser/report.pdf"));
    // Senders break long lines so.
    let (begun, rest) = pdf.split_at(64);
    let png = BASE64_STANDARD.encode(include_bytes!("browser/picture.png"));
    format!(
        "MSH|^~\\&|LAB|WEST|LAKE|HUB|20260102030405||ORU^R01^ORU_R01|{control_id}|P|2.5.1\rPID|1||{patient}^^^HIS^MR||DOE^JANE||19800101|F\r\
         OBR|1|||24331-1^Report^LN\rOBX|1|ED|24331-1^Report^LN||^application^pdf^Base64^{begun}\\.br\\{rest}||||||F\r\
         OBX|2|ED|24331-1^Picture^LN||^image^png^Base64^{png}||||||F\r\
         OBX|3|ED|24331-1^Report^LN||^application^pdf^Base64^%%%||||||F\r"
    )
}

/// A message that means no good to whoever shows it.
fn hostile() -> String {
    format!(
        "MSH|^~\\&|<b>HIS</b>|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{}|P|2.5.1\rEVN|A01|20260102030405\r\
         PID|1||4711^^^HIS^MR||<script>globalThis.owned = true</script>^<img src=x onerror=\"globalThis.owned = true\">||19800101|F\r\
         PV1|1|I\rNTE|1||\u{1b}[31mred\u{1b}]0;owned\u{7}\rNTE|2||invoice\u{202e}fdp.exe\rNTE|3||{}\r",
        unique(),
        "<i>0123456789</i>".repeat(LARGE / 17),
    )
}

/// An electrocardiogram with its channels, and four reports as RTF: a good one, one that means no good, one as it is and one that is nested
/// too deeply.
fn recording() -> String {
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let good = base64(
        r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}{\*\generator Synthetic;}\f0 Sinus rhythm, 72/min\par Signed: M\'fcller \u8364?}",
    );
    let bad = base64(
        r"{\rtf1 <img src=x onerror='globalThis.owned = true'>\par {\field{\*\fldinst HYPERLINK javascript:globalThis.owned=true}{\fldrslt a link}}{\object{\*\objdata 4d5a}}\bin99999999999 x}",
    );
    let deep = base64(&format!(r"{{\rtf1 {}", "{".repeat(100_000)));
    let ramp: Vec<String> = (0..500).map(|n| format!("{n}^{}", 30 + n % 7)).collect();
    format!(
        "MSH|^~\\&|ECG|WEST|LAKE|HUB|20260102030405||ORU^W01^ORU_W01|{}|P|2.5.1\rPID|1||4711^^^HIS^MR||DOE^JANE||19800101|F\r\
         OBR|1|||11524-6^ECG^LN\rOBX|1|ED|1^Report^L||^application^rtf^Base64^{good}||||||F\rOBX|2|ED|1^Report^L||^application^rtf^Base64^{bad}||||||F\r\
         OBX|3|ED|1^Report^L||^application^rtf^A^{{\\E\\rtf1 as it is}}||||||F\rOBX|4|ED|1^Report^L||^application^rtf^Base64^{deep}||||||F\r\
         OBX|5|CD|2&CHN^Channels^L|1|1&I^ECG^5&uV^1&0^250~2&II^ECG^5&uV^1&10^250||||||F\rOBX|6|MA|2&WAV^Samples^L|1|{}||||||F\r\
         OBX|7|CD|3&CHN^Channels^L|2|1&Breath^^0.5&mL||||||F\rOBX|8|NA|3&WAV^Samples^L|2|1^2^^<b>none</b>^4||||||F\r",
        unique(),
        ramp.join("~"),
    )
}

/// Files of which the standard has much to say, and what it says: one message, and a batch of two that claims three.
fn files(fresh: &str) -> Value {
    let bad = |control_id: &str| {
        format!(
            "MSH|^~\\&|HIS|WEST|LAKE|HUB|2026-01-02||ADT^A01^ADT_A01|{control_id}|Q|2.5.1\rEVN||20261301\rPID|1||||DOE^JANE||19800132|Q\rgarbage\r\
             ZZZ|1\rPV1|1|QQ\r"
        )
    };
    let batch = format!("BHS|^~\\&|HIS\r{fresh}{}BTS|3\r", bad(&unique()));
    let looked = |text: String| json!({ "text": text, "found": validator::look(text.clone().into_bytes()) });
    json!({ "several.hl7": looked(bad(&unique())), "batch.hl7": looked(batch), "new.hl7": looked(fresh.to_owned()) })
}

async fn user(it: &Harness, read: &str, write: &str) -> Result<User> {
    let email = format!("{}@test.example", unique());
    sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, read, write).await
}

fn shown(user: &User) -> Value {
    let mut shown = json!({ "email": user.email, "password": user.password.expose_secret() });
    if let Some(pool) = &user.pool {
        shown["pool"] = json!(pool);
    }
    shown
}

#[tokio::test]
async fn people_read_send_and_release_messages_in_a_browser() -> Result<(), String> {
    // A text has no backtrace, so the reason stands at the very end of the output.
    all_cases().await.map_err(|error| format!("{error:#}"))
}

async fn all_cases() -> Result<()> {
    let Some(browser) = browser()? else {
        // Past the harness, which would keep it to itself.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: the console was not tried, for this machine has no Chromium (Debian's package chromium)"
        );
        return Ok(());
    };
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let caller = it.admin().await?;
    let (control_id, hostile, fresh, dropped) = (unique(), hostile(), adt(&unique(), "DOE"), adt(&unique(), "DOE"));
    let (again, patient) = (adt(&unique(), "DOE"), unique());
    let store = async |message: &str| anyhow::Ok(it.store(&caller, message).await?.0);
    let messages = json!({
        "admission": store(&again).await?,
        "report": store(&report(&control_id, &patient)).await?,
        "hostile": store(&hostile).await?,
        "unparsable": store("not HL7 at all").await?,
        "recording": store(&recording()).await?,
    });
    // The lake has renditions of earlier versions, too.
    renditions::replace(&it, &messages["report"].as_str().context("an id")?.parse()?).await?;
    let (foreign, _) = elsewhere.store(&elsewhere.admin().await?, &adt(&unique(), "DOE")).await?;
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let envelope =
            forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &forge::unsigned_token(&it, forge::EXPIRED)).await?;
        forge::enqueue(&it, &envelope).await?;
        waiting.push(envelope);
    }
    for envelope in &waiting {
        held::until(&it, envelope, domain::Status::Held).await?;
    }
    let staff = it.outputs.users.iter().find(|it| it.pool.is_some()).context("lake staff")?;
    let mut world = json!({
        "browser": browser,
        "endpoint": it.outputs.endpoint_url,
        "apiUrl": it.outputs.api_url,
        "bucket": it.outputs.bucket,
        "clientId": it.outputs.stack_output("BrowserClientId")?,
        "institute": it.institute,
        "users": {
            "admin": shown(&user(&it, &it.institute, &it.institute).await?),
            "reader": shown(&user(&it, &it.institute, "").await?),
            "writer": shown(&user(&it, "", &it.institute).await?),
            "nobody": shown(&user(&it, "", "").await?),
            "staff": shown(staff),
        },
        "messages": messages,
        "controlId": control_id,
        "patient": patient,
        "elsewhere": foreign,
        "held": waiting.iter().map(|it| it.message_id.as_str()).collect::<Vec<_>>(),
        "hostileCharacters": LARGE,
        "fresh": fresh,
        "files": files(&fresh),
        "again": again,
        "dropped": dropped,
        "seconds": DEADLINE.as_secs(),
        "pictures": variable(PICTURES),
        "only": variable(ONLY),
    });

    let workspace = Workspace::find().await?;
    let page = build(&workspace, &Reporter::for_stderr()).await?;
    world["hasValidator"] = page.validator().is_some().into();
    if page.validator().is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: the validation by the standard was not tried, for this machine has no Rust target for WebAssembly"
        );
    }
    let site = Site::read(&page.files(), &Settings::of(it.outputs)?)?;
    let serving = tokio::spawn(site.serve(Site::listen().await?));
    let programs = page.folder().join("tests");
    std::fs::create_dir_all(&programs)?;
    for program in ["browser.mjs", "console.mjs"] {
        std::fs::copy(workspace.root().join("console/tests").join(program), programs.join(program))?;
    }
    let mut node = page.program("node")?;
    node.arg("tests/console.mjs").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut running = node.spawn()?;
    running.stdin.take().context("a standard input")?.write_all(world.to_string().as_bytes()).await?;
    let limit = DEADLINE + GRACE;
    let output = tokio::time::timeout(limit, running.wait_with_output()).await.context("the browser took too long")??;
    serving.abort();
    let [text, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    if !output.status.success() {
        // Past the harness: the whole story, and then as the error its last line, which names each case that failed.
        let _ = write!(std::io::stderr(), "{text}{errors}");
        bail!("{}", text.lines().last().unwrap_or("the browser said nothing"));
    }

    // What was released in the browser is in the lake, under the rights of whoever released it.
    for envelope in &waiting {
        held::until(&it, envelope, domain::Status::Stored).await?;
    }
    Ok(())
}

/// All JavaScript of the page, compressed as a web server would.
const MOST_BYTES: usize = 250 * 1024;
/// The validation by the standard, which the page loads when a file is chosen.
const MOST_VALIDATOR_BYTES: usize = 600 * 1024;

#[tokio::test]
async fn the_page_is_small() -> Result<()> {
    let workspace = Workspace::find().await?;
    let page = build(&workspace, &Reporter::for_stderr()).await?;
    let scripts = std::fs::read_dir(page.files().join("assets"))?.filter_map(Result::ok).map(|it| it.path());
    let scripts: Vec<PathBuf> = scripts.filter(|it| it.extension().is_some_and(|it| it == "js")).collect();
    ensure!(!scripts.is_empty(), "the page has no script");
    let compressed = |path: &Path| -> Result<usize> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&std::fs::read(path)?)?;
        Ok(encoder.finish()?.len())
    };
    let sum = scripts.iter().map(|it| compressed(it)).sum::<Result<usize>>()?;
    ensure!(sum < MOST_BYTES, "{sum} bytes");
    if let Some(validator) = page.validator() {
        let sum = compressed(&validator)?;
        ensure!(sum < MOST_VALIDATOR_BYTES, "{sum} bytes");
    }
    Ok(())
}
