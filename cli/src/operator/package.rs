//! From the workers' source to the zips that Lambda runs.
//!
//! A zip holds `bootstrap`, `policies/` for a worker whose folder has that, and `schema.toml` for those that name the parts of
//! messages, if the deployment has a schema. It is a function of these files alone: same files, same bytes, same key `<worker>/<sha256>.zip`. So
//! an upload is needed only where the key is not there yet, and a stack changes only when a worker did. Beside each zip lies a note
//! with the size and time of the binary and the hash of the files beside it; while they agree, nothing is packed again.

mod beside;
mod build;
mod glibc;
mod pack;
mod purpose;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::operator::workspace::Workspace;
use crate::output::{Reporter, Step};
use beside::Beside;
use build::build;
pub(crate) use build::is_installed;
use client::wait::within;
use pack::{Contents, pack};

pub(crate) use pack::write_whole;
pub use purpose::{Architecture, Profile, Purpose};
pub use worker::Worker;

/// A full build takes minutes on a small machine; the limit is for one that hangs.
const BUILD_DEADLINE: Duration = Duration::from_secs(45 * 60);

/// The workers that name the parts of messages, and so read the schema.
const NAME_PARTS: [&str; 2] = ["store", "tables"];

/// A worker's code, ready to be uploaded.
#[derive(Debug, Clone)]
pub struct Package {
    /// The worker.
    pub worker: Worker,
    /// The key of the zip in the artifact bucket.
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
        format!("{}CodeKey", self.worker.logical_name())
    }
}

/// Builds all workers, and packs those that changed. Validates the policies of a folder and the schema of a file first, and packs
/// them with the workers that read them.
///
/// # Errors
/// When the policies or the schema do not validate (with the place of each error), the build fails (with the compiler's words), a
/// target is not installed, or a binary would not start on Amazon Linux 2023.
pub async fn package(
    workspace: &Workspace,
    purpose: Purpose,
    policies: &Path,
    schema: Option<&Path>,
    reporter: &Reporter,
) -> Result<Vec<Package>> {
    let template = workspace.root().join("infra/api.yaml");
    let template = std::fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    crate::operator::policies::check_for_api(policies, &template)?;
    let data = Data { policies: Beside::policies(policies)?, schema: Beside::schema(schema)? };
    let step = reporter.step("building the workers");
    package_some(workspace, purpose, Worker::all(workspace.root())?, &data, step).await
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
    let data = Data { policies: Beside::policies(policies)?, schema: Beside::default() };
    let step = reporter.step("building the authorizer");
    let mut workers = Worker::all(workspace.root())?;
    workers.retain(|worker| worker.has_policies);
    let packages = package_some(workspace, purpose, workers, &data, step).await?;
    packages.into_iter().next().context("nothing was packed")
}

/// What goes into the zips besides the binaries.
struct Data {
    policies: Beside,
    schema: Beside,
}

impl Data {
    fn of(&self, worker: &Worker) -> Beside {
        match worker.name.as_str() {
            _ if worker.has_policies => self.policies.clone(),
            name if NAME_PARTS.contains(&name) => self.schema.clone(),
            _ => Beside::default(),
        }
    }
}

async fn package_some(
    workspace: &Workspace,
    purpose: Purpose,
    workers: Vec<Worker>,
    data: &Data,
    step: Step,
) -> Result<Vec<Package>> {
    let (profile, target) = match purpose {
        Purpose::Local(profile) => (profile, None),
        Purpose::Aws(architecture) => (Profile::Release, architecture.cross_target()),
    };
    if let Some(target) = target {
        build::check_installed(target).await?;
    }
    let building = build(workspace, profile, target, &workers, &step);
    let binaries = within(BUILD_DEADLINE, "cargo build of the workers", building).await?;
    step.at("packing");

    let folder = workspace.lambda().join(match (profile, target) {
        (Profile::Dev, _) => "dev".to_owned(),
        (Profile::Release, None) => "release".to_owned(),
        (Profile::Release, Some(target)) => format!("{target}-release"),
    });
    let for_aws = matches!(purpose, Purpose::Aws(_));
    let mut tasks = Vec::new();
    for worker in workers {
        let binary = binaries.get(&worker.name).with_context(|| format!("cargo built no binary `{}`", worker.name))?.clone();
        let beside = data.of(&worker);
        // A folder of its own, so that zips with other files stay.
        let folder = match beside.short_hash() {
            none if none.is_empty() => folder.clone(),
            hash => folder.join(&worker.name).join(hash),
        };
        let contents = Contents { folder, beside };
        tasks.push(tokio::task::spawn_blocking(move || {
            if for_aws {
                glibc::check(&worker.name, &binary)?;
            }
            pack(&worker, &binary, &contents, profile).with_context(|| format!("packing `{}`", worker.name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_goes_to_the_workers_that_name_parts_of_messages_and_to_no_other() {
        let workers = Worker::all(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/z-segments/schema.toml");
        let beside = |schema: Option<&Path>| -> Vec<_> {
            let data = Data { policies: Beside::default(), schema: Beside::schema(schema).unwrap() };
            let files = |worker| data.of(worker).iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
            let all = workers.iter().map(|worker| (worker.name.as_str(), files(worker)));
            all.filter(|(_, files)| !files.is_empty()).collect()
        };
        assert_eq!(beside(Some(&example)), NAME_PARTS.map(|name| (name, vec!["schema.toml".to_owned()])));
        assert!(beside(None).is_empty());
        let absent = Beside::schema(Some(Path::new("no such schema.toml"))).unwrap_err();
        assert_eq!(absent.to_string(), "reading no such schema.toml");
    }

    #[test]
    fn a_worker_has_a_parameter_for_its_code() {
        let worker = Worker { name: "deduplicate".to_owned(), has_policies: false };
        let package = Package { worker, key: String::new(), zip: PathBuf::new(), size_bytes: 0 };
        assert_eq!(package.parameter(), "DeduplicateCodeKey");
    }
}
