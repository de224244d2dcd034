//! From the workers' source to the zips that Lambda runs.
//!
//! A zip holds `bootstrap`, for the authorizer its policies as well, and is a function of these files alone: same files,
//! same bytes, same key `<worker>/<sha256>.zip`. So an upload is needed only where the key is not there yet, and a stack
//! changes only when a worker did. Beside each zip lies a note with the size and time of the binary and the hash of the
//! policies it was made from; while they agree, nothing is packed again.

mod glibc;
mod policy_files;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::error::Environment;
use crate::output::{Reporter, Step};
use crate::wait::within;
use crate::workspace::{Workspace, cargo};
use policy_files::PolicyFiles;

/// The workers: each is a package of the workspace, its binary, and a function of the pipeline or, `enroll`, of the identity
/// and, `authorize`, of the API stack.
pub const WORKERS: [&str; 10] =
    ["submit", "dispatch", "deduplicate", "parse", "store", "publish", "status", "fetch", "enroll", AUTHORIZE];

/// The worker whose zip holds policies.
const AUTHORIZE: &str = "authorize";

/// A build from nothing takes minutes on a small machine; this is for one that hangs.
const BUILD_DEADLINE: Duration = Duration::from_secs(45 * 60);

/// The cargo profile of the workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Quick to build.
    #[default]
    Dev,
    /// What runs on AWS, and what benchmarks measure.
    Release,
}

/// The processor the functions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Architecture {
    /// Intel and AMD.
    #[value(name = "x86_64")]
    X86_64,
    /// Graviton.
    #[value(name = "arm64")]
    Arm64,
}

impl Architecture {
    /// The one of this machine.
    #[must_use]
    pub fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 }
    }

    /// The name CloudFormation has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The target to name to cargo; none where the compiler makes it anyway.
    fn cross_target(self) -> Option<&'static str> {
        let native = self == Self::host() && cfg!(all(target_os = "linux", target_env = "gnu"));
        (!native).then(|| self.target())
    }
}

/// What to build the workers for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// To run on this very machine, under the local AWS.
    Local(Profile),
    /// To run on AWS: release, for the architecture, and against a C library that Amazon Linux 2023 has.
    Aws(Architecture),
}

/// A worker's code, ready to be uploaded.
#[derive(Debug, Clone)]
pub struct Package {
    /// Which of [`WORKERS`].
    pub worker: &'static str,
    /// Where it belongs in the artifact bucket.
    pub key: String,
    /// The zip on this machine.
    pub zip: PathBuf,
    /// The size of the zip.
    pub size_bytes: u64,
}

impl Package {
    /// The template parameter that takes the key: `SubmitCodeKey` for `submit`.
    #[must_use]
    pub fn parameter(&self) -> String {
        let mut letters = self.worker.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).chain("CodeKey".chars()).collect()
    }
}

/// Builds all workers and packs those that changed, the authorizer with the policies of a folder, which are validated first.
///
/// # Errors
/// When the policies do not validate (with the place of each error), the build fails (with the compiler's words), a target
/// is not installed, or a binary would not start on Amazon Linux 2023.
pub async fn package(workspace: &Workspace, purpose: Purpose, policies: &Path, reporter: &Reporter) -> Result<Vec<Package>> {
    let template = workspace.root().join("infra/api.yaml");
    let template = std::fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    crate::policies::check_for_api(policies, &template)?;
    let step = reporter.step("building the workers");
    package_some(workspace, purpose, &WORKERS, &PolicyFiles::validated(policies)?, step).await
}

/// Builds the authorizer alone and packs it with the policies of a folder, for an API of one's own.
///
/// # Errors
/// As [`package`].
pub async fn package_authorizer(
    workspace: &Workspace,
    purpose: Purpose,
    policies: &Path,
    reporter: &Reporter,
) -> Result<Package> {
    let step = reporter.step("building the authorizer");
    let packages = package_some(workspace, purpose, &[AUTHORIZE], &PolicyFiles::validated(policies)?, step).await?;
    packages.into_iter().next().context("nothing was packed")
}

async fn package_some(
    workspace: &Workspace,
    purpose: Purpose,
    workers: &[&'static str],
    policies: &PolicyFiles,
    step: Step,
) -> Result<Vec<Package>> {
    let (profile, target) = match purpose {
        Purpose::Local(profile) => (profile, None),
        Purpose::Aws(architecture) => (Profile::Release, architecture.cross_target()),
    };
    if let Some(target) = target {
        check_installed(target).await?;
    }
    let building = build(workspace, profile, target, workers, &step);
    let binaries = within(BUILD_DEADLINE, "cargo build of the workers", building).await?;
    step.at("packing");

    let folder = workspace.lambda().join(match (profile, target) {
        (Profile::Dev, _) => "dev".to_owned(),
        (Profile::Release, None) => "release".to_owned(),
        (Profile::Release, Some(target)) => format!("{target}-release"),
    });
    let for_aws = matches!(purpose, Purpose::Aws(_));
    let mut tasks = Vec::new();
    for worker in workers.iter().copied() {
        let binary = binaries.get(worker).with_context(|| format!("cargo built no binary `{worker}`"))?.clone();
        let contents = match worker {
            // Beside other policies' zips.
            AUTHORIZE => Contents { folder: folder.join(AUTHORIZE).join(policies.short_hash()), beside: policies.clone() },
            _ => Contents { folder: folder.clone(), beside: PolicyFiles::default() },
        };
        tasks.push(tokio::task::spawn_blocking(move || {
            if for_aws {
                glibc::check(worker, &binary)?;
            }
            pack(worker, &binary, &contents, profile).with_context(|| format!("packing `{worker}`"))
        }));
    }
    let mut packages = Vec::new();
    for task in tasks {
        packages.push(task.await.context("a packing task ended early")??);
    }
    let megabytes = packages.iter().map(|package| package.size_bytes).sum::<u64>() / 1_000_000;
    step.done(format!("{} zips, {megabytes} MB", packages.len()));
    Ok(packages)
}

async fn check_installed(target: &str) -> Result<()> {
    let output = within(Duration::from_secs(30), "rustc --print target-libdir", async {
        Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .kill_on_drop(true)
            .output()
            .await
            .context("running rustc")
    })
    .await?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && libraries.is_dir() {
        return Ok(());
    }
    Err(Environment::lacks(format!(
        "the Rust target `{target}` is not installed: run `rustup target add {target}` and install a linker for it \
         (on Debian `apt install gcc-aarch64-linux-gnu` for arm64)"
    )))
}

/// Runs cargo and gives the path of each worker's binary.
async fn build(
    workspace: &Workspace,
    profile: Profile,
    target: Option<&str>,
    workers: &[&'static str],
    step: &Step,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = Command::new(cargo());
    command
        .current_dir(workspace.root())
        .args(["build", "--message-format=json-render-diagnostics", "--bins"])
        .arg("--target-dir")
        .arg(workspace.target())
        .args(workers.iter().flat_map(|worker| ["--package", worker]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if profile == Profile::Release {
        command.arg("--release");
    }
    if let Some(target) = target {
        command.args(["--target", target]);
        // Debian's cross linker, where it is installed and nothing else is asked for.
        let (variable, linker) = ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        if target == Architecture::Arm64.target() && std::env::var_os(variable).is_none() && on_path(linker) {
            command.env(variable, linker);
        }
    }
    let mut child = command
        .spawn()
        .map_err(|error| Environment::lacks(format!("cargo could not be run ({error}): install Rust from https://rustup.rs")))?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;

    let messages = async {
        let mut text = Vec::new();
        BufReader::new(stdout).read_to_end(&mut text).await.map(|_| text)
    };
    let story = async {
        let mut lines = BufReader::new(stderr).lines();
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await? {
            step.at(line.trim().to_owned());
            all.push(line);
        }
        std::io::Result::Ok(all)
    };
    let (messages, story) = tokio::try_join!(messages, story).context("reading what cargo says")?;
    let status = child.wait().await.context("waiting for cargo")?;
    if !status.success() {
        let errors: Vec<_> = story.iter().filter(|line| !line.trim_start().starts_with("Compiling ")).collect();
        let shown = errors.iter().take(80).map(|line| line.as_str()).collect::<Vec<_>>().join("\n");
        bail!("the workers do not build:\n{shown}");
    }
    Ok(executables(&messages))
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The binaries that cargo reports, by name.
fn executables(messages: &[u8]) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: PathBuf,
    }
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .map(|message| (message.target.name, message.executable))
        .collect()
}

/// Where a zip is made, and what is in it besides the binary.
struct Contents {
    folder: PathBuf,
    beside: PolicyFiles,
}

/// What a zip was made from. While the binary has this size and time, the zip is its zip.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    format: u32,
    policies: String,
    binary_bytes: u64,
    binary_modified_ns: u128,
    zip_bytes: u64,
    sha256: String,
}

/// Raise it when the zip of the same binary would come out otherwise.
const FORMAT: u32 = 2;

fn pack(worker: &'static str, binary: &Path, contents: &Contents, profile: Profile) -> Result<Package> {
    let Contents { folder, beside } = contents;
    let policies = beside.hash();
    let zip = folder.join(format!("{worker}.zip"));
    let note_path = folder.join(format!("{worker}.json"));
    let metadata = std::fs::metadata(binary)?;
    let binary_modified_ns = metadata.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let noted = std::fs::read(&note_path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok()).filter(|note| {
        note.format == FORMAT
            && note.policies == policies
            && note.binary_bytes == metadata.len()
            && note.binary_modified_ns == binary_modified_ns
            && std::fs::metadata(&zip).is_ok_and(|metadata| metadata.len() == note.zip_bytes)
    });
    let note = match noted {
        Some(note) => note,
        None => {
            std::fs::create_dir_all(folder)?;
            let bytes = match profile {
                Profile::Dev => without_debug_symbols(binary)?,
                Profile::Release => std::fs::read(binary)?,
            };
            // A zip for this machine is unpacked right away: quickly made is better than small.
            let level = if profile == Profile::Dev { 1 } else { 9 };
            let packed = zip_files(&bytes, beside, level)?;
            let note = Note {
                format: FORMAT,
                policies,
                binary_bytes: metadata.len(),
                binary_modified_ns,
                zip_bytes: packed.len() as u64,
                sha256: hex(&Sha256::digest(&packed)),
            };
            write_whole(&zip, &packed)?;
            write_whole(&note_path, &serde_json::to_vec_pretty(&note)?)?;
            note
        }
    };
    Ok(Package { worker, key: format!("{worker}/{}.zip", note.sha256), zip, size_bytes: note.zip_bytes })
}

/// A zip with `bootstrap`, and `policies/` if there are any. The same bytes always give the same zip.
fn zip_files(binary: &[u8], policies: &PolicyFiles, level: i64) -> Result<Vec<u8>> {
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .compression_level(Some(level))
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("bootstrap", options)?;
    writer.write_all(binary)?;
    for (name, content) in policies.iter() {
        writer.start_file(format!("policies/{name}"), options.unix_permissions(0o644))?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The binary as `strip` leaves it, or as it is where there is no `strip`: a dev binary is mostly line tables.
fn without_debug_symbols(binary: &Path) -> Result<Vec<u8>> {
    let stripped = binary.with_extension("stripped");
    let done = std::process::Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .args([&stripped, binary])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    let bytes = std::fs::read(if done { &stripped } else { binary })?;
    if done {
        std::fs::remove_file(&stripped)?;
    }
    ensure!(!bytes.is_empty(), "the binary is empty");
    Ok(bytes)
}

/// Writes a file that another process sees either not at all or whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    std::fs::write(&unfinished, bytes).with_context(|| format!("writing {}", path.display()))?;
    std::fs::rename(&unfinished, path).with_context(|| format!("writing {}", path.display()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_same_binary_gives_the_same_zip() {
        let first = zip_files(b"\x7fELF and so on", &PolicyFiles::default(), 9).unwrap();
        std::thread::sleep(Duration::from_millis(2_100)); // longer than the two seconds a zip's clock counts in
        assert_eq!(first, zip_files(b"\x7fELF and so on", &PolicyFiles::default(), 9).unwrap());
        assert_ne!(first, zip_files(b"\x7fELF and so off", &PolicyFiles::default(), 9).unwrap());
    }

    #[test]
    fn a_zip_holds_one_executable_bootstrap() {
        let zip = zip_files(b"content", &PolicyFiles::default(), 1).unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
        assert_eq!(archive.len(), 1);
        let mut file = archive.by_name("bootstrap").unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    #[test]
    fn a_binary_is_packed_again_only_when_it_changed() {
        let folder = std::env::temp_dir().join(format!("sluice-pack-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let binary = folder.join("submit");
        std::fs::write(&binary, "one").unwrap();
        let pack = |beside: &PolicyFiles| {
            let contents = Contents { folder: folder.clone(), beside: beside.clone() };
            pack("submit", &binary, &contents, Profile::Release).unwrap()
        };
        let none = PolicyFiles::default();
        let first = pack(&none);
        let packed_at = std::fs::metadata(&first.zip).unwrap().modified().unwrap();
        assert_eq!(pack(&none).key, first.key);
        assert_eq!(std::fs::metadata(&first.zip).unwrap().modified().unwrap(), packed_at);

        std::fs::write(&binary, "another").unwrap();
        let second = pack(&none);
        assert_ne!(second.key, first.key);

        let policies = folder.join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        std::fs::write(policies.join("a.cedar"), "permit (principal, action, resource);").unwrap();
        std::fs::write(policies.join("README.md"), "no policy").unwrap();
        std::fs::write(policies.join("outputs.json"), "{}").unwrap();
        let third = pack(&PolicyFiles::read(&policies).unwrap());
        assert_ne!(third.key, second.key);
        let archive = zip::ZipArchive::new(std::fs::File::open(&third.zip).unwrap()).unwrap();
        assert_eq!(archive.file_names().map(|name| name.unwrap()).collect::<Vec<_>>(), ["bootstrap", "policies/a.cedar"]);
        std::fs::write(policies.join("a.cedar"), "forbid (principal, action, resource);").unwrap();
        assert_ne!(pack(&PolicyFiles::read(&policies).unwrap()).key, third.key);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_worker_has_a_parameter_for_its_code() {
        let package = Package { worker: "deduplicate", key: String::new(), zip: PathBuf::new(), size_bytes: 0 };
        assert_eq!(package.parameter(), "DeduplicateCodeKey");
    }

    #[test]
    fn only_executables_count_among_the_messages_of_cargo() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"domain","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"submit","kind":["bin"]},"executable":"/t/debug/submit"}
{"reason":"build-finished","success":true}
"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["submit"], Path::new("/t/debug/submit"));
    }
}
