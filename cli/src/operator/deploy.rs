//! Puts a deployment together from the templates: the same on AWS and on the local AWS, another endpoint.
//!
//! Four stacks, one after the other: `NAME-core`, `NAME-identity`, `NAME-pipeline`, `NAME-api`; and after them, where it is asked for,
//! `NAME-tables`. There are no exports
//! between them. A parameter of a later template gets the output of the same name of an earlier stack, the keys of
//! the uploaded code, or what the operator gave; everything else has its default. So a stack can be looked at,
//! updated and deleted by itself, and AWS never refuses an update because another stack holds on to an export.

pub mod bucket;
mod destroy;
mod parameters;
mod plan;
mod stack;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use aws_sdk_cloudformation::types::Stack;
use sha2::{Digest, Sha256};

pub use destroy::{Kept, Kind, With, destroy};
pub use plan::{Plan, plan};
pub use stack::{Action, Change, Planned};

use crate::operator::package::Package;
use crate::operator::workspace::Workspace;
use crate::output::Reporter;
use bucket::ArtifactStore;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;
use stack::{Input, Stacks, TemplateSource};

/// The templates in the order they are deployed in.
pub const TEMPLATES: [&str; 4] = ["core", "identity", "pipeline", "api"];

/// The templates of stacks that are deployed behind them when the operator asks for it, and brought up to date from then on.
pub const OPTIONAL: [&str; 1] = ["tables"];

/// The largest template that CloudFormation accepts in a request; it reads a larger one from a bucket.
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

/// The name of a deployment, and what the operator set.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The stacks are called `NAME-core` and so on.
    pub stack: String,
    /// Template parameters that the operator chose, by name.
    pub parameters: BTreeMap<String, String>,
    /// Tags of the stacks, which CloudFormation passes on to every resource that takes tags. The stacks also get
    /// `sluice:deployment`, and keep the tags that they have.
    pub tags: BTreeMap<String, String>,
    /// The role that CloudFormation works under, where the operator may make no roles or functions.
    pub role_arn: Option<String>,
    /// Whether to deploy the stack `NAME-tables`. If it is there, it is brought up to date in any case.
    pub tables: bool,
    /// Whether an update may replace or delete resources that hold data.
    pub allow_replacement: bool,
    /// For how many minutes after each stack's update its alarms may roll it back; 0 for no such alarms. At most 180.
    pub monitor_minutes: u16,
}

/// How long the code of an earlier build stays in the artifact bucket: 30 days.
const OLD_BUILD_SECONDS: i64 = 30 * 24 * 60 * 60;

/// The tag that names the deployment, for cost allocation.
const DEPLOYMENT_TAG: &str = "sluice:deployment";

/// Why Sluice does not deploy to this region; `None` if it does. In another partition the identity pool has other names in the
/// trust policies and tag conditions (`cognito-identity-us-gov.amazonaws.com`), and nobody has tried ours there.
fn refusal(region: &str) -> Option<String> {
    let partition = [
        ("us-gov-", "GovCloud"),
        ("cn-", "China"),
        ("us-iso", "the isolated regions"),
        ("eu-isoe-", "the isolated regions"),
        ("eusc-", "the European Sovereign Cloud"),
    ];
    let (_, place) = partition.into_iter().find(|(prefix, _)| region.starts_with(prefix))?;
    Some(format!(
        "{region} is a region of {place}, where Cognito has other names than the roles of infra/identity.yaml trust: nothing was deployed"
    ))
}

/// The result of [`deploy`].
#[derive(Debug)]
pub struct Deployment {
    /// The outputs of the deployment.
    pub outputs: Outputs,
    /// The change of each stack.
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
        for name in TEMPLATES.into_iter().chain(OPTIONAL) {
            let body = String::from_utf8(read(format!("infra/{name}.yaml"))?)
                .with_context(|| format!("infra/{name}.yaml is not UTF-8"))?;
            templates.push(Template { name, body });
        }
        Ok(Self { templates, definition: read("statemachines/ingest.asl.json".to_owned())?, packages })
    }

    fn definition_key(&self) -> String {
        format!("statemachine/{}.asl.json", const_hex::encode(Sha256::digest(&self.definition)))
    }

    /// Changes whenever these sources could give another deployment under these options.
    #[must_use]
    pub fn fingerprint(&self, options: &Options) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(options.stack.as_bytes());
        add(&[u8::from(options.tables)]);
        for (name, value) in &options.parameters {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for (name, value) in &options.tags {
            add(b"tag");
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
        const_hex::encode(hash.finalize())
    }
}

/// Creates or updates all stacks and waits for them. Stacks that need no change stay as they are.
///
/// # Errors
/// When a parameter is unknown or missing, AWS refuses a call, an update would lose data without permission, or a stack fails;
/// the error names the failed resources with their reasons. Stacks before the failed one stay deployed, and the same command
/// resumes from there.
pub async fn deploy(aws: &Aws, sources: &Sources, options: &Options, reporter: &Reporter) -> Result<Deployment> {
    let (stacks, templates) = start(aws, sources, options, reporter).await?;
    let stacks = stacks.monitored_by_alarms(&options.stack, options.monitor_minutes).await?;
    let region = aws.region()?;
    let mut outputs = BTreeMap::new();
    let mut changes = Vec::new();
    let mut artifacts: Option<ArtifactStore> = None;
    let mut used = BTreeSet::new();

    for template in templates {
        let (read_from, key) = source(template, artifacts.as_ref(), region).await?;
        used.extend(key);
        let declared = parameters::declared(template.name, &template.body)?;
        let values = parameters::fill(template.name, &declared, &outputs, &options.parameters)?;
        let name = format!("{}-{}", options.stack, template.name);
        let input = Input { template: &read_from, declared: &declared, values: &values };
        let (change, found) = stacks.deploy(&name, input, options.allow_replacement).await?;
        changes.push((name, change));
        outputs.extend(found);

        if artifacts.is_none() {
            let bucket = outputs.get("ArtifactBucketName").context("the first stack has no output `ArtifactBucketName`")?;
            let store = ArtifactStore::new(aws, bucket);
            upload(&store, sources, reporter).await?;
            let uploaded = keys(sources);
            used.extend(uploaded.values().cloned());
            outputs.extend(uploaded);
            artifacts = Some(store);
        }
    }
    // Not earlier, because a stack that fails rolls back to the code that it had; and old code only.
    if let Some(store) = artifacts {
        let before = jiff::Timestamp::now().as_second() - OLD_BUILD_SECONDS;
        store.remove_unused(&used, before).await?;
    }
    let outputs = Outputs::gather(&options.stack, region, aws.endpoint_url(), outputs)?;
    Ok(Deployment { outputs, changes })
}

/// Refuses a wrong region or parameter before anything changes, and gives the stacks under the options' role and tags, with the
/// templates to deploy.
async fn start<'a>(
    aws: &Aws,
    sources: &'a Sources,
    options: &Options,
    reporter: &Reporter,
) -> Result<(Stacks, Vec<&'a Template>)> {
    if let Some(refusal) = refusal(aws.region()?) {
        anyhow::bail!(refusal);
    }
    let stacks = Stacks::new(aws, reporter);
    let mut templates = Vec::new();
    for template in &sources.templates {
        let is_wanted = !OPTIONAL.contains(&template.name) || options.tables;
        if is_wanted || stacks.find(&format!("{}-{}", options.stack, template.name)).await?.is_some() {
            templates.push(template);
        }
    }
    let mut known = Vec::new();
    for template in &templates {
        known.extend(parameters::declared(template.name, &template.body)?.into_iter().map(|it| it.name));
    }
    parameters::check_known(known, &options.parameters)?;
    let mut tags = options.tags.clone();
    tags.insert(DEPLOYMENT_TAG.to_owned(), options.stack.clone());
    Ok((stacks.under(options.role_arn.clone(), tags), templates))
}

/// Where CloudFormation reads a template. Uploads one that is too large for a request, and then gives its key as well.
async fn source(
    template: &Template,
    artifacts: Option<&ArtifactStore>,
    region: &str,
) -> Result<(TemplateSource, Option<String>)> {
    if template.body.len() <= LARGEST_INLINE_TEMPLATE_BYTES {
        return Ok((TemplateSource::Inline(template.body.clone()), None));
    }
    let store = artifacts
        .with_context(|| format!("infra/{}.yaml is larger than CloudFormation takes without a bucket", template.name))?;
    let body = template.body.as_bytes();
    let key = format!("template/{}.yaml", const_hex::encode(Sha256::digest(body)));
    store.put_bytes(&key, body).await?;
    Ok((TemplateSource::Url(store.template_url(&key, region)), Some(key)))
}

/// The template parameters that point at code and state machine.
fn keys(sources: &Sources) -> BTreeMap<String, String> {
    let packages = sources.packages.iter().map(|package| (package.parameter(), package.key.clone()));
    packages.chain([("DefinitionKey".to_owned(), sources.definition_key())]).collect()
}

/// Uploads code and state machine where they are not there yet.
async fn upload(store: &ArtifactStore, sources: &Sources, reporter: &Reporter) -> Result<()> {
    let step = reporter.step("uploading the code");
    let mut uploaded = 0_usize;
    for package in &sources.packages {
        step.at(package.worker.name.clone());
        uploaded += usize::from(store.put_file(&package.key, &package.zip).await?);
    }
    uploaded += usize::from(store.put_bytes(&sources.definition_key(), &sources.definition).await?);
    step.done(match uploaded {
        0 => "nothing new".to_owned(),
        count => format!("{count} files"),
    });
    Ok(())
}

/// The stacks of a deployment, in the order they are deployed in.
async fn stacks_of(aws: &Aws, stack: &str) -> Result<Vec<Stack>> {
    let client = aws_sdk_cloudformation::Client::new(aws.config());
    let mut found = Vec::new();
    for template in TEMPLATES {
        let name = format!("{stack}-{template}");
        let answer =
            client.describe_stacks().stack_name(&name).send().await.map_err(explain(format!("looking at the stack `{name}`")))?;
        found.push(answer.stacks.unwrap_or_default().into_iter().next().context("AWS describes no such stack")?);
    }
    let stacks = Stacks::new(aws, &Reporter::silent());
    for template in OPTIONAL {
        found.extend(stacks.find(&format!("{stack}-{template}")).await?);
    }
    Ok(found)
}

/// The outputs of a deployment, gathered from its stacks.
///
/// # Errors
/// When there is no such deployment, or AWS refuses.
pub async fn outputs_of(aws: &Aws, stack: &str) -> Result<Outputs> {
    let outputs = stacks_of(aws, stack).await?.iter().flat_map(stack::outputs_of).collect();
    Outputs::gather(stack, aws.region()?, aws.endpoint_url(), outputs)
}

/// The parameters of a deployment's stacks that are no stack's output: the operator's choices and the defaults. CloudFormation
/// discloses no secret parameters, so they are missing.
///
/// # Errors
/// When there is no such deployment, or AWS refuses.
pub(crate) async fn settings_of(aws: &Aws, stack: &str) -> Result<BTreeMap<String, String>> {
    const SECRET: &str = "****";
    let mut given = BTreeMap::new();
    let mut settings = BTreeMap::new();
    for stack in stacks_of(aws, stack).await? {
        let own = stack.parameters().iter().filter_map(|it| Some((it.parameter_key()?, it.parameter_value()?)));
        let own = own.filter(|(name, value)| {
            !given.contains_key(*name) && !name.ends_with("CodeKey") && *name != "DefinitionKey" && *value != SECRET
        });
        settings.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        given.extend(stack::outputs_of(&stack));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_s3::operation::delete_object::DeleteObjectOutput;
    use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
    use aws_sdk_s3::primitives::DateTime;
    use aws_sdk_s3::types::Object;
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::bucket::ArtifactStore;
    use super::refusal;

    #[tokio::test]
    async fn code_that_is_old_and_not_deployed_is_removed() {
        let object = |key: &str, secs| Object::builder().key(key).last_modified(DateTime::from_secs(secs)).build();
        let objects = [object("submit/old.zip", 1), object("submit/live.zip", 1), object("submit/new.zip", 100)];
        let list = mock!(aws_sdk_s3::Client::list_objects_v2)
            .then_output(move || ListObjectsV2Output::builder().set_contents(Some(objects.to_vec())).build());
        let delete = mock!(aws_sdk_s3::Client::delete_object)
            .match_requests(|request| request.key() == Some("submit/old.zip"))
            .then_output(|| DeleteObjectOutput::builder().build());
        let client = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [&list, &delete]);
        let used = BTreeSet::from(["submit/live.zip".to_owned()]);
        assert_eq!(ArtifactStore::of(client, "artifacts").remove_unused(&used, 100).await.unwrap(), 1);
        assert_eq!(delete.num_calls(), 1);
    }

    #[test]
    fn a_region_of_another_partition_is_refused_with_a_sentence() {
        for region in ["eu-central-1", "us-east-1", "ca-west-1"] {
            assert_eq!(refusal(region), None, "{region}");
        }
        for region in ["us-gov-west-1", "us-gov-east-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"] {
            assert!(refusal(region).is_some_and(|it| it.contains(region) && it.contains("nothing was deployed")), "{region}");
        }
    }
}
