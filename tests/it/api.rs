//! The API as other people's programs see it: compares docs/openapi.yaml with the deployed system.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use client::http::{ER7, JSON};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use sluice_tests::template::template;
use sluice_tests::{Caller, DEADLINE, Harness, Node, adt, done, python, unique};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::contract::root;

/// Python with what validates, generates and tries out.
async fn tools() -> Result<PathBuf> {
    python("api", &root().join("tests/it/api/requirements.txt")).await
}

/// TypeScript, its generator and the linter.
async fn typescript() -> Result<Node> {
    Node::install("api-clients", &root().join("examples/api-clients/typescript")).await
}

fn description() -> PathBuf {
    root().join("docs/openapi.yaml")
}

#[tokio::test]
async fn every_answer_is_kept_out_of_caches_and_is_what_its_content_type_says() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let (known, unknown) = (format!("/er7/{message_id}"), format!("/er7/{}", "0".repeat(64)));
    let of_institute = format!("/institutes/{}/er7", it.institute);
    let table = [
        (Method::POST, "/er7", "application/xml", 415),
        (Method::POST, "/er7", ER7, 400),
        (Method::POST, "/er7", JSON, 400),
        (Method::POST, "/er7/uploads", JSON, 400),
        (Method::POST, "/er7/uploads/x", "", 400),
        (Method::GET, "/er7", "", 200),
        (Method::GET, "/er7?limit=0", "", 400),
        (Method::GET, known.as_str(), "", 200),
        (Method::HEAD, known.as_str(), "", 200),
        (Method::GET, unknown.as_str(), "", 404),
        (Method::HEAD, unknown.as_str(), "", 404),
        (Method::GET, "/er7/x", "", 400),
        (Method::GET, &format!("{known}/status"), "", 200),
        (Method::GET, &format!("{unknown}/status"), "", 404),
        (Method::GET, &of_institute, "", 200),
        (Method::GET, &format!("{of_institute}/{message_id}/status"), "", 200),
    ];
    for (method, path, content_type, status) in table {
        let case = format!("{method} {path} {content_type}");
        let request = reqwest::Client::new().request(method, format!("{}{path}", it.outputs.api_url));
        let mut request = request.bearer_auth(admin.token.expose_secret());
        if !content_type.is_empty() {
            request = request.header("content-type", content_type).header("accept", JSON).body("");
        }
        let answer = request.send().await?;
        let header = |name| answer.headers().get(name).and_then(|it| it.to_str().ok());
        assert_eq!((answer.status().as_u16(), header("cache-control")), (status, Some("no-store")), "{case}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{case}");
        let kind = answer.json::<serde_json::Value>().await.map(|it| it["type"].clone());
        let is_problem = kind.is_ok_and(|it| it.as_str().is_some_and(|it| it.starts_with("urn:sluice:problem:")));
        assert!(is_problem || status == 200 || case.starts_with("HEAD"), "{case}");
    }
    Ok(())
}

/// The titles of all problems in the workers and in what they share, from `HttpProblem::new(STATUS, TITLE, …)`.
fn titles() -> Result<BTreeSet<String>> {
    let mut titles = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![root().join("crates/runtime/src")];
    for worker in std::fs::read_dir(root().join("workers"))? {
        folders.push(worker?.path().join("src"));
    }
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in code.split("::new(").chain(code.split("Self::retry(")).skip(1) {
                let Some((status, rest)) = call.split_once(',') else { continue };
                if status.trim().parse::<u16>().is_err() {
                    continue;
                }
                let title = rest.split(',').next().unwrap_or_default().trim();
                let literal = |text: &str| text.strip_prefix('"').and_then(|it| it.split('"').next()).map(str::to_owned);
                let constant =
                    || code.split_once(&format!("const {title}: &str = "))?.1.split_once(';').and_then(|it| literal(it.0));
                titles
                    .insert(literal(title).or_else(constant).with_context(|| format!("{}: the title {title}", path.display()))?);
            }
        }
    }
    Ok(titles)
}

#[test]
fn each_kind_of_problem_is_in_the_description_and_on_the_page() -> Result<()> {
    let kinds: BTreeSet<String> = titles()?.iter().map(|title| runtime::problem_type(title)).collect();
    assert!(kinds.contains("urn:sluice:problem:duplicate") && kinds.contains("urn:sluice:problem:bad-request"), "{kinds:?}");
    let described = template(&description())?;
    let described = described["components"]["schemas"]["ProblemType"]["examples"].as_array().context("examples")?.clone();
    let described: BTreeSet<String> = described.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect();
    assert_eq!(described, kinds);
    let page = std::fs::read_to_string(root().join("docs/API.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(kind, _)| kind);
    let rows: BTreeSet<String> = rows.map(|kind| format!("urn:sluice:problem:{kind}")).collect();
    assert_eq!(rows, kinds);
    Ok(())
}

#[tokio::test]
async fn the_description_is_valid_and_the_linter_finds_nothing() -> Result<()> {
    done(Command::new(tools().await?).args(["-m", "openapi_spec_validator"]).arg(description())).await?;
    let mut lint = typescript().await?.package("@redocly/cli/bin/cli.js")?;
    lint.args(["lint", "--extends", "recommended", "--max-problems", "1000"]).arg(description());
    lint.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    done(lint.arg(root().join("docs/asyncapi.yaml"))).await?;
    // The check of the check: a description without an operation's id has a problem.
    let folder = tempfile::tempdir()?;
    let worse = folder.path().join("openapi.yaml");
    std::fs::write(&worse, std::fs::read_to_string(description())?.replacen("operationId: submit\n", "operationId: fetch\n", 1))?;
    let mut lint = typescript().await?.package("@redocly/cli/bin/cli.js")?;
    lint.args(["lint", "--extends", "recommended"]).arg(worse).env("REDOCLY_TELEMETRY", "off");
    ensure!(done(&mut lint).await.is_err(), "two operations of one name went unnoticed");
    Ok(())
}

/// Runs a client for a file, with the token on its standard input.
async fn run(command: &mut Command, it: &Harness, file: &std::path::Path, caller: &Caller) -> Result<Output> {
    command.arg(&it.outputs.api_url).arg(file).kill_on_drop(true);
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    program.stdin.take().context("a standard input")?.write_all(caller.token.expose_secret().as_bytes()).await?;
    Ok(tokio::time::timeout(DEADLINE, program.wait_with_output()).await??)
}

#[tokio::test]
async fn generated_clients_send_read_page_and_handle_problems() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let examples = root().join("examples/api-clients");
    // Each command as examples/api-clients/README.md has it.
    let interpreter = tools().await?;
    let bin = interpreter.parent().context("a folder of programs")?;
    let path = std::env::join_paths(
        std::iter::once(bin.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut generate = Command::new(bin.join("openapi-python-client"));
    generate.args(["generate", "--meta", "none", "--output-path"]).arg(folder.path().join("sluice_api"));
    // It formats what it made with `ruff`.
    generate.arg("--path").arg(description()).arg("--config").arg(examples.join("python/generator.yaml")).env("PATH", path);
    done(&mut generate).await?;
    std::fs::copy(examples.join("python/client.py"), folder.path().join("client.py"))?;
    let mut in_python = Command::new(&interpreter);
    in_python.arg(folder.path().join("client.py"));

    let node = typescript().await?;
    for file in ["client.ts", "tsconfig.json"] {
        std::fs::copy(examples.join("typescript").join(file), node.folder.join(file))?;
    }
    done(node.package("openapi-typescript/bin/cli.js")?.arg(description()).args(["-o", "api.d.ts"])).await?;
    done(node.package("typescript/bin/tsc")?.args(["-p", "."])).await?;
    let mut in_typescript = node.command("node")?;
    in_typescript.arg("client.js");

    let it = Harness::new()?;
    let admin = it.admin().await?;
    for n in 0..4 {
        it.store(&admin, &adt(&format!("{n}-{}", unique()), "DOE")).await?;
    }
    for (language, command) in [("Python", &mut in_python), ("TypeScript", &mut in_typescript)] {
        // Line ends that the canonical form has not, so that the received bytes are a form of their own.
        let message = adt(&unique(), "MÜLLER").replace('\r', "\r\n");
        let file = folder.path().join(format!("{language}.hl7"));
        std::fs::write(&file, &message)?;
        let output = run(command, &it, &file, &admin).await?;
        let [text, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).replace("True", "true"));
        let header = message.lines().next().context("MSH")?;
        let expected = format!(
            "status stored\ner7 {header}\njson true\nreceived true\nlisted 1\nproblem urn:sluice:problem:not-found 404\ngateway true\n"
        );
        assert_eq!((text.as_str(), output.status.success()), (expected.as_str(), true), "{language}: {errors}");
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_is_in_the_description() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let (folder, scratch) = (root().join("tests/it/api"), tempfile::tempdir()?);
    let interpreter = tools().await?;
    let mut schemathesis = Command::new(interpreter.parent().context("a folder of programs")?.join("schemathesis"));
    schemathesis.arg("--config-file").arg(folder.join("schemathesis.toml")).arg("run").arg(description());
    schemathesis.args(["--url", &it.outputs.api_url]).env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", &folder);
    schemathesis.env("SLUICE_TOKEN", admin.token.expose_secret()).env("SLUICE_MESSAGE_ID", message_id.as_str());
    schemathesis.env("SLUICE_SOURCE", &it.institute).current_dir(scratch.path());
    let report = done(&mut schemathesis).await?;
    // It has succeeded; and it has tried something.
    let tried = report.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<u32>().ok());
    ensure!(tried.is_some_and(|tried| tried > 200), "{report}");
    Ok(())
}
