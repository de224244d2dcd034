//! `sluice policies check|package|template`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::error::ExitCode;
use crate::operator::package::{self, Architecture, Profile, Purpose, write_whole};
use crate::operator::policies;
use crate::operator::workspace::Workspace;
use crate::output::Output;

/// What to do with a folder of policies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Validate a policy folder; print each error with file, line and column.
    Check {
        #[command(flatten)]
        folder: Folder,
    },
    /// Make the zip of a Lambda authorizer for your own API: the authorizer with the policy folder.
    Package {
        #[command(flatten)]
        folder: Folder,
        /// The zip to write.
        #[arg(long, short, value_name = "FILE.zip")]
        output: PathBuf,
        /// Build for AWS; without it, for the local AWS of this machine.
        #[arg(long)]
        release: bool,
        /// The processor architecture.
        #[arg(long, value_enum, default_value = "x86_64", requires = "release")]
        architecture: Architecture,
    },
    /// Print a CloudFormation template of an Amazon Verified Permissions policy store with the folder's schema and policies.
    Template {
        #[command(flatten)]
        folder: Folder,
    },
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// Schema, policies, routes and providers; by default this checkout's workers/authorize/policies.
    #[arg(value_name = "FOLDER")]
    path: Option<PathBuf>,
}

impl Folder {
    async fn find(self) -> Result<PathBuf> {
        match self.path {
            Some(path) => Ok(path),
            None => Ok(Workspace::find().await?.policies()),
        }
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    match args.action {
        Action::Check { folder } => check(&folder.find().await?, output),
        Action::Package { folder, output: zip, release, architecture } => {
            let folder = folder.find().await?;
            // Check the folder before building anything.
            policies::load(&folder)?;
            let workspace = Workspace::find().await?;
            let purpose = if release { Purpose::Aws(architecture) } else { Purpose::Local(Profile::Dev) };
            let package = package::package_authorizer(&workspace, purpose, &folder, &output.reporter).await?;
            let bytes = std::fs::read(&package.zip).with_context(|| format!("reading {}", package.zip.display()))?;
            write_whole(&zip, &bytes)?;
            if output.is_json() {
                output.json(&json!({ "file": zip, "sizeBytes": bytes.len(), "key": package.key }))?;
            } else {
                output.line(format!("{}: {} bytes.", zip.display(), bytes.len()));
            }
            Ok(ExitCode::Success)
        }
        Action::Template { folder } => {
            output.json(&policies::template(&folder.find().await?)?)?;
            Ok(ExitCode::Success)
        }
    }
}

fn check(folder: &Path, output: &Output) -> Result<ExitCode> {
    let found = policies::check(folder);
    if output.is_json() {
        let errors: Vec<_> = found.as_ref().err().into_iter().flat_map(|errors| errors.iter()).collect();
        let errors: Vec<_> = errors
            .iter()
            .map(|it| json!({ "file": it.file, "line": it.line, "column": it.column, "message": it.message, "help": it.help }))
            .collect();
        output.json(&json!({ "folder": folder, "valid": found.is_ok(), "errors": errors }))?;
        return Ok(if found.is_ok() { ExitCode::Success } else { ExitCode::Failed });
    }
    let policies = found.map_err(|errors| policies::refusal(folder, &errors))?;
    let (count, routes) = (policies.iter().count(), policies.routes().count());
    output.line(format!("{} is valid: {count} policies, {routes} routes.", folder.display()));
    Ok(ExitCode::Success)
}
