//! Starts and stops a local AWS on this machine.
//!
//! MiniStack, one Python process, plays AWS on a free port of this machine; the same code that deploys to AWS deploys the
//! templates of `infra/` and the same worker binaries into it. It runs in the background until
//! `down`, and everything about it lies in `target/local/`, so that two checkouts never meet:
//!
//! - `venv/`: the Python environment, from the hash-locked `cli/local/requirements.txt`;
//! - `ministack.log`: what MiniStack and the workers write, `ministack.log.1` the one of the run before;
//! - `tmp/`: the workers as MiniStack unpacks them;
//! - `state.json`: which process it is and what is deployed in it; `outputs.json`: where everything is, and the users;
//! - `credentials`: the root's key of this start, as the AWS CLI reads it, for nobody but the owner;
//! - `lock`: held while something changes.
//!
//! [`up`] can be called at any time, by several processes at once: one of them does the work, the others wait and find
//! it done. What it finds unchanged it leaves alone. A change of a worker, a template or the state machine is deployed
//! into the running system; a change of MiniStack itself starts a new one, and with it all messages are gone, for the
//! local AWS keeps everything in memory.

pub mod demo;
pub(crate) mod lock;
mod process;
mod root_key;
pub mod users;
pub(crate) mod venv;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::operator::deploy::{self, Options, Sources};
use crate::operator::package::{self, Architecture, Profile, Purpose, write_whole};
use crate::operator::workspace::Workspace;
use crate::output::{Reporter, Step};
use client::aws::Aws;
use client::outputs::Outputs;
use client::private_file;
use lock::Lock;
use process::Emulator;
use users::create_local_users;

/// The name of the deployment inside the local AWS.
pub const STACK: &str = "sluice";
/// The region the local AWS says it is.
pub const REGION: &str = "us-east-1";

/// The one web origin whose pages may use the local system: `sluice console` serves its page there.
pub const ALLOWED_ORIGIN: &str = "http://localhost:8080";

/// The template parameter `MaximumConcurrency` of the local system.
pub const MAXIMUM_CONCURRENCY: &str = "4";
/// The template parameter `DispatchBatchSize` of the local system. With more than 1, a message waits for the slowest of its batch, and
/// all of them share the few cores.
pub const DISPATCH_BATCH_SIZE: &str = "1";

/// Template parameters that make sense only here: signing in with a password alone, short waits, no more executions at
/// once than one Python process can run, and every way in that can be tried without another identity provider.
const PARAMETERS: [(&str, &str); 12] = [
    ("PasswordSignIn", "true"),
    ("RetryBaseSeconds", "1"),
    ("MaximumConcurrency", MAXIMUM_CONCURRENCY),
    ("DispatchBatchSize", DISPATCH_BATCH_SIZE),
    ("MetricsInstitutes", "general-hospital,st-elsewhere"),
    ("SignUp", "domains"),
    ("MultiFactor", "OPTIONAL"),
    ("StaffMultiFactor", "OPTIONAL"),
    ("DomainPrefix", "sluice-local"),
    ("CallbackUrls", "http://localhost:8080/callback"),
    ("AllowedOrigins", ALLOWED_ORIGIN),
    ("LogoutUrls", "http://localhost:8080/"),
];

/// The template parameter with the base address for the links in answers. The local API has no host name of its own.
const PUBLIC_URL: &str = "PublicUrl";

/// Which authorizer lets users in: the template parameter `Authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Authorization {
    /// The worker `authorize`, by policies, for every identity provider.
    Unified,
    /// API Gateway's JWT authorizer, for the institutes' user pool.
    Jwt,
}

impl Authorization {
    /// The environment variable that chooses the authorizer, for tests and benchmarks as for the command line.
    pub const VARIABLE: &str = "SLUICE_AUTHORIZATION";

    /// The authorizer that [`Authorization::VARIABLE`] names, by default unified.
    ///
    /// # Panics
    /// When the variable has another value: a test run must not use the wrong authorizer unnoticed.
    fn of_environment() -> Self {
        let Some(named) = std::env::var_os(Self::VARIABLE) else { return Self::Unified };
        let known = [Self::Unified, Self::Jwt].into_iter().find(|it| named == it.name());
        #[expect(clippy::expect_used, reason = "whoever set the variable has to know, and a default has no other way to say it")]
        known.expect("SLUICE_AUTHORIZATION is unified or jwt")
    }

    /// Its value in the parameter and in the output of the API stack.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unified => "unified",
            Self::Jwt => "jwt",
        }
    }
}

/// How to bring the local system up.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// How the workers are built; benchmarks want release.
    pub profile: Profile,
    /// Which authorizer decides about requests.
    pub authorization: Authorization,
    /// Whether a local AWS that does not answer is stopped, with all its messages, instead of waited for.
    pub replace: bool,
    /// Whether to deploy the stack of the tables. Once it is there, it stays, with or without this.
    pub tables: bool,
    /// Template parameters in place of the local system's own, by name: a test makes waits shorter.
    pub parameters: BTreeMap<String, String>,
    /// The file of a schema for the renditions.
    pub schema: Option<PathBuf>,
    /// Shows the progress; by default it shows nothing.
    pub reporter: Reporter,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self {
            profile: Profile::Dev,
            authorization: Authorization::of_environment(),
            replace: false,
            tables: false,
            parameters: BTreeMap::new(),
            schema: None,
            reporter: Reporter::default(),
        }
    }
}

/// The answer of `local status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalStatus {
    /// Whether the local AWS runs and answers.
    pub running: bool,
    /// The id of its process, and of its process group. If `running` is false, the process lives and does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Where MiniStack and the workers write to.
    pub log_file: PathBuf,
    /// Where [`Outputs`] are kept.
    pub outputs_file: PathBuf,
    /// Addresses and names of the deployment, without the users: their passwords are in the file only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
}

/// The stored state of the running system.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    emulator: Emulator,
    /// The fingerprint of what was deployed; empty until that is done.
    #[serde(default)]
    deployed: String,
}

/// The files of the local system.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(workspace: &Workspace) -> Self {
        Self { folder: workspace.local() }
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn outputs(&self) -> PathBuf {
        self.folder.join("outputs.json")
    }

    fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("ministack.log")
    }

    fn read_state(&self) -> Option<State> {
        serde_json::from_slice(&std::fs::read(self.state()).ok()?).ok()
    }

    fn write_state(&self, state: &State) -> Result<()> {
        write_whole(&self.state(), &serde_json::to_vec_pretty(state)?)
    }

    /// Readable by nobody else, for the passwords in it.
    fn write_outputs(&self, outputs: &Outputs) -> Result<()> {
        private_file::write(&self.outputs(), &serde_json::to_vec_pretty(outputs)?)
    }
}

/// Brings the local system up and says where everything is. Does only what is not done yet.
///
/// # Errors
/// When this machine lacks Python, the workers do not build, or a stack fails; the local AWS may be running even then, and the
/// next call resumes from there.
pub async fn up(options: UpOptions) -> Result<Outputs> {
    let UpOptions { profile, authorization, replace, tables, parameters: others, schema, reporter } = options;
    let workspace = Workspace::find().await?;
    let files = Files::new(&workspace);
    std::fs::create_dir_all(&files.folder).with_context(|| format!("creating {}", files.folder.display()))?;
    let _lock = Lock::acquire(&files.folder, &reporter).await?;

    let policies = workspace.policies();
    let (packages, mut state) = tokio::try_join!(
        package::package(&workspace, Purpose::Local(profile), &policies, schema.as_deref(), &reporter),
        emulator(&workspace, &files, replace, &reporter)
    )?;
    let endpoint = state.emulator.endpoint_url();
    let root_key = root_key::read(&files.credentials())?;
    let aws = Aws::local(&endpoint, REGION, &root_key);
    let mut parameters: BTreeMap<String, String> =
        PARAMETERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parameters.insert("Architecture".to_owned(), Architecture::host().name().to_owned());
    parameters.insert("Authorization".to_owned(), authorization.name().to_owned());
    parameters.extend(others);
    let known = Outputs::read(&files.outputs()).ok().filter(|outputs| outputs.endpoint_url.as_ref() == Some(&endpoint));
    if let Some(outputs) = &known {
        parameters.insert(PUBLIC_URL.to_owned(), outputs.api_url.clone());
    }
    // A changed template may replace any resource here: the data is made up.
    let mut deployment = Options { stack: STACK.to_owned(), parameters, allow_replacement: true, ..Options::default() };
    deployment.tables = tables || known.as_ref().is_some_and(|it| it.stack_outputs.contains_key("TablesBucketName"));
    let sources = Sources::read(&workspace, packages)?;

    if let Some(outputs) = &known
        && state.deployed == sources.fingerprint(&deployment)
        && deploy::outputs_of(&aws, STACK).await.is_ok()
    {
        return Ok(outputs.clone());
    }

    state.deployed = String::new();
    files.write_state(&state)?;
    let mut outputs = deploy_here(&aws, &sources, &deployment, &reporter.brief()).await?;
    if deployment.parameters.get(PUBLIC_URL) != Some(&outputs.api_url) {
        // Known only now: the API has its address once it is deployed.
        deployment.parameters.insert(PUBLIC_URL.to_owned(), outputs.api_url.clone());
        outputs = deploy_here(&aws, &sources, &deployment, &Reporter::silent()).await?;
    }
    outputs.users = match known {
        Some(known) if known.user_pool_id == outputs.user_pool_id && !known.users.is_empty() => known.users,
        _ => {
            let step = reporter.step("creating the users");
            let users = create_local_users(&aws, &outputs).await?;
            step.done(format!("{}", users.len()));
            users
        }
    };
    outputs.root_key = Some(root_key);
    files.write_outputs(&outputs)?;
    state.deployed = sources.fingerprint(&deployment);
    files.write_state(&state)?;
    Ok(outputs)
}

async fn deploy_here(aws: &Aws, sources: &Sources, options: &Options, reporter: &Reporter) -> Result<Outputs> {
    let deployment = deploy::deploy(aws, sources, options, reporter)
        .await
        .context("deploying to the local AWS (`sluice local down` and `up` start from nothing)")?;
    Ok(deployment.outputs)
}

/// The running local AWS if it is ours, of this version, and answers in the end; otherwise a new one.
async fn emulator(workspace: &Workspace, files: &Files, replace: bool, reporter: &Reporter) -> Result<State> {
    let version = venv::version(workspace)?;
    if let Some(state) = files.read_state() {
        if state.emulator.version == version && keeps(&state.emulator, replace, SILENCE_DEADLINE, reporter).await? {
            return Ok(state);
        }
        stop(files, &state.emulator, reporter).await?;
    }
    let python = venv::prepare(workspace, reporter).await?;
    let step = reporter.step("starting the local AWS");
    let emulator = process::start(workspace, &python, &files.log(), version).await?;
    step.done(emulator.endpoint_url());
    let state = State { emulator, deployed: String::new() };
    files.write_state(&state)?;
    Ok(state)
}

/// Whether the local AWS is there and answers. A silent one is busy, and it holds all messages. So this function waits for it, up
/// to `limit`, unless the caller wants to replace it.
async fn keeps(emulator: &Emulator, replace: bool, limit: Duration, reporter: &Reporter) -> Result<bool> {
    let began = tokio::time::Instant::now();
    let mut waiting: Option<Step> = None;
    loop {
        if emulator.is_healthy().await {
            if let Some(step) = waiting {
                step.done("it answers");
            }
            return Ok(true);
        }
        if replace || !emulator.is_alive() {
            return Ok(false);
        }
        anyhow::ensure!(
            began.elapsed() < limit,
            "the local AWS (process {}) runs and has not answered for {} seconds. It holds all messages in memory, so it was \
             left alone. Try again when the machine is less busy, or stop it and start a new one, without the messages: \
             `sluice local up --replace`",
            emulator.pid,
            limit.as_secs(),
        );
        if waiting.is_none() {
            reporter.say(format!(
                "The local AWS (process {}) runs and does not answer: it is busy or stuck. It holds all messages in memory, so it is \
                 waited for; `--replace` would start a new one without them.",
                emulator.pid
            ));
            waiting = Some(reporter.step("waiting for the local AWS"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Stops the local system, with every process that it started. Says whether it ran. Its messages are gone then.
///
/// # Errors
/// When one of its processes could not be stopped.
pub async fn down(reporter: &Reporter) -> Result<bool> {
    let workspace = Workspace::find().await?;
    let files = Files::new(&workspace);
    if !files.folder.is_dir() {
        return Ok(false);
    }
    let _lock = Lock::acquire(&files.folder, reporter).await?;
    match files.read_state() {
        Some(state) => stop(&files, &state.emulator, reporter).await,
        None => Ok(false),
    }
}

async fn stop(files: &Files, emulator: &Emulator, reporter: &Reporter) -> Result<bool> {
    let ran = emulator.is_alive() || emulator.has_members();
    if ran {
        let step = reporter.step("stopping the local AWS");
        emulator.stop().await?;
        step.done("");
    }
    let _ = std::fs::remove_dir_all(files.folder.join("tmp"));
    for file in [files.state(), files.outputs(), files.credentials()] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(ran)
}

/// Looks whether the local system runs. Changes nothing.
///
/// # Errors
/// When there is no checkout.
pub async fn status() -> Result<LocalStatus> {
    let workspace = Workspace::find().await?;
    let files = Files::new(&workspace);
    let state = files.read_state();
    let alive = state.filter(|state| state.emulator.is_alive());
    let running = match &alive {
        Some(state) => state.emulator.is_healthy().await,
        None => false,
    };
    let outputs = Outputs::read(&files.outputs()).ok().filter(|_| running);
    Ok(LocalStatus {
        running,
        pid: alive.map(|state| state.emulator.pid),
        log_file: files.log(),
        outputs_file: files.outputs(),
        outputs: outputs.map(|outputs| outputs.without_secrets()),
    })
}

/// The outputs of the running local system, with its users.
///
/// # Errors
/// When it does not run, or its deployment never finished.
pub async fn running() -> Result<Outputs> {
    let workspace = Workspace::find().await?;
    let files = Files::new(&workspace);
    let state = files.read_state().context("the local system does not run: start it with `sluice local up`")?;
    anyhow::ensure!(state.emulator.is_alive(), "the local system does not run: start it with `sluice local up`");
    let healthy = async {
        while !state.emulator.is_healthy().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    let silent = "the local system does not answer: `sluice local up` waits for it";
    client::wait::within(Duration::from_secs(60), silent, healthy).await?;
    Outputs::read(&files.outputs()).context("the local system is not deployed: finish it with `sluice local up`")
}

/// How long the local AWS may take to answer a question about its health.
const HEALTH_DEADLINE: Duration = Duration::from_secs(5);
/// How long a local AWS that runs may be silent before `up` gives up on it, and leaves it as it is.
const SILENCE_DEADLINE: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_local_aws_is_found_again_and_is_gone_after_its_stop() {
        let workspace = Workspace::find().await.unwrap();
        std::fs::create_dir_all(workspace.local()).unwrap();
        let lock = Lock::acquire(&workspace.local(), &Reporter::silent()).await.unwrap();
        let python = venv::prepare(&workspace, &Reporter::silent()).await.unwrap();
        drop(lock);

        // Beside the one that other tests use.
        let elsewhere = std::env::temp_dir().join(format!("sluice-emulator-{}", std::process::id()));
        let workspace = workspace.with_target(elsewhere.clone());
        let files = Files::new(&workspace);
        std::fs::create_dir_all(&files.folder).unwrap();
        let emulator = process::start(&workspace, &python, &files.log(), "1".to_owned()).await.unwrap();
        files.write_state(&State { emulator, deployed: String::new() }).unwrap();

        let found = files.read_state().unwrap().emulator;
        assert!(found.is_healthy().await);
        // A process that later got the same id, or another server on its port, does not count.
        assert!(!Emulator { started: "earlier".to_owned(), ..found.clone() }.is_healthy().await);
        assert!(!Emulator { port: 1, ..found.clone() }.is_healthy().await);

        assert!(stop(&files, &found, &Reporter::silent()).await.unwrap());
        assert!(!found.is_alive() && !found.has_members());
        assert!(std::net::TcpListener::bind(("127.0.0.1", found.port)).is_ok());
        assert!(files.read_state().is_none());
        assert!(!stop(&files, &found, &Reporter::silent()).await.unwrap());
        std::fs::remove_dir_all(elsewhere).unwrap();
    }

    /// A living process, and a server at its port that leaves out its first `silent` answers. The first of them is a connection
    /// that stays open without a byte.
    async fn stand_in(silent: usize) -> (std::process::Child, Emulator, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                match counted.fetch_add(1, Ordering::SeqCst) {
                    0 if silent > 0 => held.push(stream),
                    number if number < silent => drop(stream),
                    _ => {
                        let mut request = [0; 1024];
                        let _ = stream.read(&mut request).await;
                        let body = r#"{"auth":"enabled"}"#;
                        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                    }
                }
            }
        });
        let (child, emulator) = process::stand_in(port);
        (child, emulator, asked)
    }

    #[tokio::test]
    async fn a_local_aws_that_is_silent_for_a_while_is_waited_for() {
        let (mut child, emulator, asked) = stand_in(4).await;
        assert!(keeps(&emulator, false, SILENCE_DEADLINE, &Reporter::silent()).await.unwrap());
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        assert!(emulator.is_alive(), "nobody stopped it");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_local_aws_that_stays_silent_is_left_alone_unless_it_is_to_be_replaced() {
        let (mut child, mut emulator, _) = stand_in(0).await;
        // Nobody listens there.
        emulator.port = 1;
        let error = keeps(&emulator, false, Duration::ZERO, &Reporter::silent()).await.unwrap_err().to_string();
        assert!(error.contains("--replace") && error.contains(&emulator.pid.to_string()), "{error}");
        assert!(emulator.is_alive(), "nobody stopped it");
        assert!(!keeps(&emulator, true, SILENCE_DEADLINE, &Reporter::silent()).await.unwrap());
        // A local AWS whose process has ended is not waited for.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!keeps(&emulator, false, SILENCE_DEADLINE, &Reporter::silent()).await.unwrap());
    }

    #[tokio::test]
    async fn a_local_aws_that_cannot_start_says_why() {
        let workspace = Workspace::find().await.unwrap();
        let elsewhere = std::env::temp_dir().join(format!("sluice-no-emulator-{}", std::process::id()));
        let workspace = workspace.with_target(elsewhere.clone());
        let files = Files::new(&workspace);
        std::fs::create_dir_all(&files.folder).unwrap();
        let python = elsewhere.join("python");
        std::fs::write(&python, "#!/bin/sh\necho no such module\nsleep 0.3\nexit 3\n").unwrap();
        std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = process::start(&workspace, &python, &files.log(), "1".to_owned()).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no such module") && text.contains("exit status: 3"), "{text}");
        std::fs::remove_dir_all(elsewhere).unwrap();
    }
}
