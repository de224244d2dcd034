//! The running local AWS: what a web page, another user of the machine and the well-known keys get from it.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_s3::config::Credentials;
use client::aws::Aws;
use reqwest::{Client, Method};
use secrecy::ExposeSecret as _;
use sluice::operator::workspace::Workspace;
use sluice_tests::Harness;

async fn asked(it: &Harness, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<u16> {
    let mut request = Client::new().request(method, format!("{}{path}", it.aws.endpoint_url().context("an endpoint")?));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.send().await?.status().as_u16())
}

#[tokio::test]
async fn only_this_machines_pages_are_served() -> Result<()> {
    let it = Harness::new()?;
    let own = it.aws.endpoint_url().context("an endpoint")?.to_owned();
    let port = own.rsplit(':').next().context("a port")?;
    for path in ["/_ministack/health", "/oauth2/authorize"] {
        let health = async |headers: &[(&str, &str)]| asked(&it, Method::GET, path, headers).await;
        for origin in [own.as_str(), "http://localhost:8080"] {
            assert_ne!(health(&[("origin", origin)]).await?, 403, "{path} {origin}");
        }
        for origin in ["https://elsewhere.example", "http://localhost:8081", "null"] {
            assert_eq!(health(&[("origin", origin)]).await?, 403, "{path} {origin}");
        }
        assert_ne!(health(&[("host", &format!("localhost:{port}"))]).await?, 403, "{path}");
        for host in [format!("rebound.example:{port}"), "localhost".to_owned()] {
            assert_eq!(health(&[("host", &host)]).await?, 403, "{path} {host}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_root_has_a_secret_of_this_start() -> Result<()> {
    let it = Harness::new()?;
    let tables = async |aws: &Aws| aws_sdk_dynamodb::Client::new(aws.config()).list_tables().send().await;
    assert!(tables(&it.aws).await?.table_names().contains(&it.outputs.table));
    let key = it.outputs.root_key.as_ref().context("a root key")?;
    let secret = key.secret_access_key.expose_secret();
    for (id, secret) in [("test", "test"), ("test", secret), (&*key.access_key_id, "test"), ("000000000000", secret)] {
        let endpoint = it.aws.endpoint_url().context("an endpoint")?;
        let stranger = Aws::with_credentials(endpoint, &it.outputs.region, Credentials::new(id, secret, None, None, "stranger"));
        let error = tables(&stranger).await.expect_err(id);
        let refusals = ["UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch"];
        assert!(error.code().is_some_and(|code| refusals.contains(&code)), "{id}: {error:?}");
    }
    // Files that hold it are their owner's, and no process has it among its arguments.
    let local = Workspace::find().await?.target().join("local");
    for file in ["credentials", "outputs.json"] {
        assert_eq!(local.join(file).metadata()?.permissions().mode() & 0o777, 0o600, "{file}");
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(process.path().join(file)).unwrap_or_default();
            assert!(!bytes.windows(secret.len()).any(|it| it == secret.as_bytes()), "{} {file}", process.path().display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_administration_is_closed() -> Result<()> {
    let it = Harness::new()?;
    assert_eq!(asked(&it, Method::GET, "/_ministack/health", &[]).await?, 200);
    let key = it.outputs.root_key.as_ref().context("a root key")?;
    let bearer = format!("Bearer {}", key.secret_access_key.expose_secret());
    assert_eq!(asked(&it, Method::GET, "/_ministack/ses/messages", &[("authorization", &bearer)]).await?, 200);
    for (method, path) in [
        (Method::POST, "/_ministack/reset"),
        (Method::POST, "/_ministack/config"),
        (Method::GET, "/_ministack/ses/messages"),
        (Method::GET, "/_ministack/lambda-code/any"),
    ] {
        for headers in [&[][..], &[("authorization", "Bearer test")]] {
            assert_eq!(asked(&it, method.clone(), path, headers).await?, 403, "{path}");
        }
    }
    let tables = aws_sdk_dynamodb::Client::new(it.aws.config()).list_tables().send().await?;
    assert!(tables.table_names().contains(&it.outputs.table), "it is all still there");
    Ok(())
}
