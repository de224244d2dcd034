//! The documents keep up with the code: the tests they name exist, and the API they describe is the one deployed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sluice_tests::template::template;
use sluice_tests::{Harness, adt, unique};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust below a folder, as one text.
pub(crate) fn rust(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&rust(&path)?);
        } else if path.extension().is_some_and(|it| it == "rs") {
            text.push_str(&std::fs::read_to_string(path)?);
        }
    }
    Ok(text)
}

/// The code spans of a page: what stands between backticks.
fn code_spans(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2).filter(|span| !span.contains('\n'))
}

#[test]
fn every_test_that_a_page_names_exists() -> Result<()> {
    let mut named = 0;
    for page in [
        "ARCHITECTURE",
        "AUTHORIZATION",
        "SEMANTICS",
        "ERRORS",
        "FAULTS",
        "SECURITY",
        "OPERATIONS",
        "CONFIGURATION",
        "BENCHMARKS",
        "READING",
        "HL7",
        "SQL",
        "TABLES",
        "MLLP",
        "CLI",
        "API",
        "EVENTS",
        "AWS",
        "SCALE",
        "COST",
        "CONSOLE",
    ] {
        let text = std::fs::read_to_string(root().join(format!("docs/{page}.md")))?;
        for span in code_spans(&text) {
            // `module::test` of the system or of the command, `crate: test` beside the code.
            let (places, name) = match (span.rsplit_once("::"), span.split_once(": ")) {
                (Some((module, name)), _) => {
                    let module = module.replace("::", "/");
                    (
                        vec![
                            format!("tests/it/{module}.rs"),
                            format!("cli/tests/{module}.rs"),
                            format!("tests/house/{module}.rs"),
                            format!("tests/{module}/main.rs"),
                        ],
                        name,
                    )
                }
                (None, Some((package, name))) => {
                    (["workers", "crates", "."].map(|folder| format!("{folder}/{package}")).to_vec(), name)
                }
                (None, None) => continue,
            };
            let is_name = |text: &str| {
                !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
            };
            // `Type::method` is code.
            if !is_name(name) || ["name", "test"].contains(&name) || span.starts_with(|it: char| it.is_ascii_uppercase()) {
                continue;
            }
            // A worker and a crate may have one name.
            let places: Vec<_> = places.into_iter().map(|place| root().join(place)).filter(|place| place.exists()).collect();
            ensure!(!places.is_empty(), "{page}.md names `{span}`: there is no such module");
            let read = |place: &PathBuf| if place.is_dir() { rust(place) } else { Ok(std::fs::read_to_string(place)?) };
            let code = places.iter().map(read).collect::<Result<Vec<String>>>()?.concat();
            assert!(code.contains(&format!("fn {name}(")), "{page}.md names `{span}`, which is not there");
            named += 1;
        }
    }
    assert!(named > 20, "the pages name {named} tests: is the notation still the same?");
    Ok(())
}

#[test]
fn the_programs_in_the_manual_are_the_ones_that_are_tested() -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/READING.md"))?;
    for program in ["read_catalog.py", "read_catalog.mjs", "read_catalog.rs"] {
        let code = std::fs::read_to_string(root().join("examples/read-catalog").join(program))?;
        let (_, rest) = page.split_once(&format!("<!-- {program} -->\n")).with_context(|| format!("no {program}"))?;
        let shown = rest.split_once('\n').and_then(|(_, rest)| rest.split_once("```")).context("a code block")?.0;
        assert_eq!(shown, code, "{program}");
    }
    Ok(())
}

#[test]
fn the_readme_shows_the_demo_as_it_is() -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let demo = std::fs::read_to_string(root().join("cli/src/local/demo.rs"))? + &rust(&root().join("cli/src/local/demo"))?;
    let rows: Vec<&str> = readme.lines().filter(|line| line.contains(".example  ")).collect();
    for row in &rows {
        let message = row.split("  ").map(str::trim).filter(|it| !it.is_empty()).nth(1).context("a message")?;
        assert!(demo.contains(message), "the demo has no row `{message}`");
    }
    assert_eq!(rows.len(), 15);
    Ok(())
}

/// Method and path of every operation of docs/openapi.yaml, and the statuses of its answers.
fn openapi() -> Result<Vec<(String, BTreeSet<u16>)>> {
    let description = template(&root().join("docs/openapi.yaml"))?;
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().context("paths")? {
        for (method, operation) in methods.as_object().context("methods")? {
            let answers = operation["responses"].as_object().context("responses")?.keys();
            let answers = answers.map(|status| Ok(status.parse()?)).collect::<Result<_>>()?;
            operations.push((format!("{} {path}", method.to_ascii_uppercase()), answers));
        }
    }
    Ok(operations)
}

#[test]
fn openapi_describes_the_routes_that_are_deployed() -> Result<()> {
    let template = std::fs::read_to_string(root().join("infra/api.yaml"))?;
    let deployed: BTreeSet<String> = template
        .lines()
        .filter_map(|line| line.trim().strip_prefix("RouteKey: "))
        .map(|key| key.trim_matches('"').to_owned())
        .collect();
    let described: BTreeSet<String> = openapi()?.into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(deployed, described);
    Ok(())
}

#[tokio::test]
async fn openapi_describes_the_answers() -> Result<()> {
    let operations = openapi()?;
    let answers =
        |operation: &str| operations.iter().find(|(name, _)| name == operation).map(|(_, answers)| answers.clone()).unwrap();
    assert_eq!(answers("POST /er7"), BTreeSet::from([200, 202, 204, 400, 401, 403, 409, 413, 415, 429, 500, 503]));
    let read = BTreeSet::from([200, 304, 400, 401, 403, 404, 406, 410, 429, 500, 503]);
    assert_eq!(answers("HEAD /er7/{messageId}"), read);
    assert_eq!(answers("GET /er7/{messageId}"), &read | &BTreeSet::from([307]));
    assert_eq!(answers("GET /er7"), BTreeSet::from([200, 400, 401, 403, 429, 500, 503]));
    let status = BTreeSet::from([200, 400, 401, 403, 404, 429, 500, 503]);
    assert_eq!(answers("GET /er7/{messageId}/status"), status);
    assert_eq!(answers("GET /institutes/{source}/er7/{messageId}/status"), status);
    assert_eq!(answers("POST /er7/uploads"), BTreeSet::from([201, 400, 401, 403, 413, 429, 500, 503]));
    let with_404 = answers("POST /er7").into_iter().chain([404]).collect();
    assert_eq!(answers("POST /er7/uploads/{uploadId}"), with_404);
    assert_eq!(answers("POST /er7/status"), answers("GET /er7"));
    assert_eq!(answers("POST /er7/search"), answers("GET /er7"));
    assert_eq!(answers("GET /institutes/{source}/er7"), answers("GET /er7"));
    assert_eq!(answers("GET /institutes/{source}/summary"), answers("GET /er7"));

    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    let members =
        |answer: &client::http::Answer| -> BTreeSet<String> { answer.json().as_object().unwrap().keys().cloned().collect() };
    let submitted = it.submit(&admin, &message).await?;
    assert_eq!(members(&submitted), ["messageId", "submissionId", "status", "statusUrl"].map(str::to_owned).into());
    let status_url = submitted.text("statusUrl");
    let status = it.api.final_status(&submitted.text("messageId"), &admin.token, sluice_tests::DEADLINE).await?;
    let required = ["messageId", "status", "state", "submissions", "receivedAt", "storedAt"].map(str::to_owned);
    assert_eq!(status.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), required.into());
    let by_url =
        reqwest::Client::new().get(status_url).bearer_auth(secrecy::ExposeSecret::expose_secret(&admin.token)).send().await?;
    assert_eq!(by_url.status(), 200, "statusUrl is where the status is");
    let duplicate = it.submit(&admin, &message).await?;
    assert_eq!(members(&duplicate), ["type", "title", "status", "detail", "messageId", "traceId"].map(str::to_owned).into());
    Ok(())
}
