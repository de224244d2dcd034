//! Puts a deployment together from the templates: the same on AWS and on the local AWS, another endpoint.
//!
//! Four stacks, one after the other: `NAME-core`, `NAME-identity`, `NAME-pipeline`, `NAME-api`. There are no exports
//! between them. A parameter of a later template gets the output of the same name of an earlier stack, the keys of
//! the uploaded code, or what the operator gave; everything else has its default. So a stack can be looked at,
//! updated and deleted by itself, and AWS never refuses an update because another stack holds on to an export.

pub mod bucket;
mod destroy;
mod parameters;
mod stack;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

pub use destroy::{Kept, Kind, With, destroy};
pub use stack::Change;

use crate::aws::Aws;
use crate::error::explain;
use crate::output::Reporter;
use crate::outputs::Outputs;
use crate::package::{Package, hex};
use crate::workspace::Workspace;
use bucket::ArtifactStore;
use parameters::Declared;
use stack::{Stacks, TemplateSource};

/// The templates in the order they are deployed in.
pub const TEMPLATES: [&str; 4] = ["core", "identity", "pipeline", "api"];

/// What CloudFormation takes in a request; a larger template has to lie in a bucket.
const LARGEST_INLINE_TEMPLATE_BYTES: usize = 51_200;

/// Everything a deployment is made from, read once, so that it can be compared and deployed as a whole.
#[derive(Debug)]
pub struct Sources {
    templates: Vec<Template>,
    definition: Vec<u8>,
    packages: Vec<Package>,
}

#[derive(Debug)]
struct Template {
    name: &'static str,
    body: String,
}

/// How a deployment is called and what the operator set.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stacks are called `NAME-core` and so on.
    pub stack: String,
    /// Template parameters that the operator chose, by name.
    pub parameters: BTreeMap<String, String>,
}

/// What [`deploy`] did.
#[derive(Debug)]
pub struct Deployment {
    /// Where everything is now.
    pub outputs: Outputs,
    /// What became of each stack.
    pub changes: Vec<(String, Change)>,
}

impl Sources {
    /// Reads templates and state machine of a checkout.
    ///
    /// # Errors
    /// When one of the files is not there.
    pub fn read(workspace: &Workspace, packages: Vec<Package>) -> Result<Self> {
        let read = |path: String| {
            let path = workspace.root().join(path);
            std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut templates = Vec::new();
        for name in TEMPLATES {
            let body = String::from_utf8(read(format!("infra/{name}.yaml"))?)
                .with_context(|| format!("infra/{name}.yaml is not UTF-8"))?;
            templates.push(Template { name, body });
        }
        Ok(Self { templates, definition: read("statemachines/ingest.asl.json".to_owned())?, packages })
    }

    /// Changes whenever a deployment of this under these options could come out otherwise.
    #[must_use]
    pub fn fingerprint(&self, options: &Options) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(options.stack.as_bytes());
        for (name, value) in &options.parameters {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for template in &self.templates {
            add(template.body.as_bytes());
        }
        add(&self.definition);
        for package in &self.packages {
            add(package.key.as_bytes());
        }
        hex(&hash.finalize())
    }
}

/// Creates or updates all stacks and waits for them. What is already as it should be is left alone.
///
/// # Errors
/// When a parameter is unknown or missing, AWS refuses a call, or a stack fails; the error names the failed resources
/// with their reasons. Stacks before the failed one stay deployed, and the same command goes on from there.
pub async fn deploy(aws: &Aws, sources: &Sources, options: &Options, reporter: &Reporter) -> Result<Deployment> {
    let stacks = Stacks::new(aws, reporter);
    let region = aws.region()?;
    let mut outputs = BTreeMap::new();
    let mut changes = Vec::new();
    let mut artifacts: Option<ArtifactStore> = None;

    // Before anything changes, as far as that is possible: a large template can be read only out of the bucket.
    let mut declared: BTreeMap<&str, Vec<Declared>> = BTreeMap::new();
    for template in sources.templates.iter().filter(|template| template.body.len() <= LARGEST_INLINE_TEMPLATE_BYTES) {
        declared.insert(template.name, stacks.parameters(&TemplateSource::Inline(template.body.clone())).await?);
    }
    if declared.len() == sources.templates.len() {
        parameters::check_known(declared.values().flatten(), &options.parameters)?;
    }

    for template in &sources.templates {
        let source = if template.body.len() <= LARGEST_INLINE_TEMPLATE_BYTES {
            TemplateSource::Inline(template.body.clone())
        } else {
            let store = artifacts
                .as_ref()
                .with_context(|| format!("infra/{}.yaml is larger than CloudFormation takes without a bucket", template.name))?;
            let body = template.body.as_bytes();
            let key = format!("template/{}.yaml", hex(&Sha256::digest(body)));
            store.put_bytes(&key, body).await?;
            TemplateSource::Url(store.template_url(&key, region))
        };
        let declared = match declared.remove(template.name) {
            Some(declared) => declared,
            None => stacks.parameters(&source).await?,
        };
        let values = parameters::fill(template.name, &declared, &outputs, &options.parameters)?;
        let name = format!("{}-{}", options.stack, template.name);
        let (change, found) = stacks.deploy(&name, &source, &declared, &values).await?;
        changes.push((name, change));
        outputs.extend(found);

        if artifacts.is_none() {
            let bucket = outputs.get("ArtifactBucketName").context("the first stack has no output `ArtifactBucketName`")?;
            let store = ArtifactStore::new(aws, bucket);
            outputs.extend(upload(&store, sources, reporter).await?);
            artifacts = Some(store);
        }
    }
    let outputs = Outputs::gather(&options.stack, region, aws.endpoint_url(), outputs)?;
    Ok(Deployment { outputs, changes })
}

/// Uploads code and state machine where they are not there yet; gives the template parameters that point at them.
async fn upload(store: &ArtifactStore, sources: &Sources, reporter: &Reporter) -> Result<BTreeMap<String, String>> {
    let step = reporter.step("uploading the code");
    let mut keys = BTreeMap::new();
    let mut uploaded = 0_usize;
    for package in &sources.packages {
        step.at(package.worker);
        uploaded += usize::from(store.put_file(&package.key, &package.zip).await?);
        keys.insert(package.parameter(), package.key.clone());
    }
    let definition_key = format!("statemachine/{}.asl.json", hex(&Sha256::digest(&sources.definition)));
    uploaded += usize::from(store.put_bytes(&definition_key, &sources.definition).await?);
    keys.insert("DefinitionKey".to_owned(), definition_key);
    step.done(match uploaded {
        0 => "nothing new".to_owned(),
        count => format!("{count} files"),
    });
    Ok(keys)
}

/// Where everything of a deployment is, from its stacks.
///
/// # Errors
/// When there is no such deployment, or AWS refuses.
pub async fn outputs_of(aws: &Aws, stack: &str) -> Result<Outputs> {
    let client = aws_sdk_cloudformation::Client::new(aws.config());
    let mut outputs = BTreeMap::new();
    for template in TEMPLATES {
        let name = format!("{stack}-{template}");
        let answer =
            client.describe_stacks().stack_name(&name).send().await.map_err(explain(format!("looking at the stack `{name}`")))?;
        outputs.extend(stack::outputs_of(answer.stacks().first().context("AWS describes no such stack")?));
    }
    Outputs::gather(stack, aws.region()?, aws.endpoint_url(), outputs)
}
