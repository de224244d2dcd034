//! A policy folder, read and validated.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cedar_policy::{PolicyId, PolicySet, ValidationMode};
use serde::Serialize;

use crate::entities::KnownEntities;
use crate::json;
use crate::problems::{PolicyErrors, Problems, SourceFile};
use crate::providers::{Providers, ProvidersFile};
use crate::routes::{Routes, RoutesFile};
use crate::schema::Schema;

/// The limit of Amazon Verified Permissions (its quotas, "Policy size").
const MAX_POLICY_BYTES: usize = 10_000;

/// Longest `@id`. It goes into log lines.
const MAX_ID_LENGTH: usize = 64;

/// The content of a policy folder: schema, policies, known entities, routes and providers. The parts fit together, and each could
/// be put into a store of Amazon Verified Permissions.
pub struct Policies {
    pub(crate) schema: Schema,
    pub(crate) set: PolicySet,
    pub(crate) entities: KnownEntities,
    pub(crate) routes: Routes,
    pub(crate) providers: Providers,
    sources: Vec<PolicySource>,
}

/// A policy with its source text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySource {
    /// Its `@id`.
    pub id: String,
    /// The file's name in the folder.
    pub file: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Its text, with the comment above it.
    pub text: String,
    /// Its text without the comment.
    #[serde(skip)]
    pub(crate) statement: String,
}

impl Policies {
    /// Reads a policy folder: `schema.cedarschema`, `*.cedar`, `routes.json`, `providers.json` and, if there is one,
    /// `entities.json`. Ignores other files.
    ///
    /// # Errors
    /// All mistakes in the files, each with its line and column.
    pub fn load(folder: &Path) -> Result<Self, PolicyErrors> {
        let mut problems = Problems::default();
        let cedar = cedar_files(folder, &mut problems);
        let files = ["schema.cedarschema", "routes.json", "providers.json"].map(|name| required(folder, name, &mut problems));
        let entities = optional(folder, "entities.json", &mut problems);
        let [schema_file, routes_file, providers_file] = files;

        let schema = schema_file.and_then(|file| Schema::read(&file, &mut problems));
        let routes = routes_file.and_then(|file| Some((RoutesFile::read(&file, &mut problems)?, file)));
        let providers = providers_file.and_then(|file| Some((json::read::<ProvidersFile>(&file, &mut problems)?, file)));
        let (set, sources) = read_policies(&cedar, schema.as_ref(), &mut problems);
        let Some(schema) = schema else { return problems.or(None) };
        let entities = match entities {
            Some(file) => KnownEntities::read(&file, &schema, &mut problems),
            None => Some(KnownEntities::default()),
        };
        let (Some((routes, routes_file)), Some((providers, providers_file))) = (routes, providers) else {
            return problems.or(None);
        };
        let before = problems.count();
        let providers = Providers::resolve(providers, routes.namespace(), &providers_file, &schema, &mut problems);
        let good_providers = (problems.count() == before).then_some(&providers);
        let routes = routes.resolve(&routes_file, &schema, good_providers, &mut problems);
        let (Some(entities), Some(routes)) = (entities, routes) else { return problems.or(None) };
        let entities = entities.with_policies(&set);
        problems.or(Some(Self { schema, set, entities, routes, providers, sources }))
    }

    /// The policies, in the order of files and lines.
    pub fn iter(&self) -> impl Iterator<Item = &PolicySource> {
        self.sources.iter()
    }

    /// The route keys that the folder knows.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|(key, _)| key)
    }

    /// The allowed values of `token_use` of each provider. Empty if its tokens have no such claim.
    #[must_use]
    pub fn token_uses(&self) -> BTreeMap<String, Vec<String>> {
        self.providers.iter().map(|(name, provider)| (name.to_owned(), provider.token_use.clone())).collect()
    }
}

fn cedar_files(folder: &Path, problems: &mut Problems) -> Vec<SourceFile> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            problems.at_line(".", 1, 1, format!("the policy folder cannot be read: {error}"), None);
            return Vec::new();
        }
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".cedar")).collect();
    names.sort_unstable();
    if names.is_empty() {
        problems.at_line(
            ".",
            1,
            1,
            "there is no policy",
            Some("without one everything is denied: write a `*.cedar` file".to_owned()),
        );
    }
    names.iter().filter_map(|name| required(folder, name, problems)).collect()
}

fn optional(folder: &Path, name: &str, problems: &mut Problems) -> Option<SourceFile> {
    if folder.join(name).exists() { required(folder, name, problems) } else { None }
}

fn required(folder: &Path, name: &str, problems: &mut Problems) -> Option<SourceFile> {
    match std::fs::read_to_string(folder.join(name)) {
        Ok(text) => Some(SourceFile { name: name.to_owned(), text }),
        Err(error) => {
            let help = "the folder's README says what belongs into it".to_owned();
            problems.at_line(name, 1, 1, format!("the file cannot be read: {error}"), Some(help));
            None
        }
    }
}

/// The policies of all files. Each file is read by itself, so that places refer to it.
fn read_policies(files: &[SourceFile], schema: Option<&Schema>, problems: &mut Problems) -> (PolicySet, Vec<PolicySource>) {
    let (mut set, mut sources) = (PolicySet::new(), Vec::new());
    let (mut ids, mut names) = (HashMap::new(), HashMap::new());
    for file in files {
        let read = match file.text.parse::<PolicySet>() {
            Ok(read) => read,
            Err(errors) => {
                problems.cedar(file, 0, &errors);
                continue;
            }
        };
        let mut of_file = PolicySet::new();
        let mut places = HashMap::new();
        for (offset, policy) in in_order(&file.text, &read, file, problems) {
            let statement = policy.to_cedar().unwrap_or_default();
            if statement.len() > MAX_POLICY_BYTES {
                let length = statement.len();
                let message = format!("the policy has {length} bytes, and Verified Permissions takes {MAX_POLICY_BYTES}");
                problems.at(file, offset, message, None);
            }
            let Some(id) = policy.annotation("id").map(str::to_owned).filter(|id| is_id(id)) else {
                let message = "the policy has no `@id` of letters, digits, `.`, `_` and `-`";
                let help = format!("write `@id(\"…\")` before it, at most {MAX_ID_LENGTH} characters");
                problems.at(file, offset, message, Some(help));
                places.insert(policy.id().clone(), offset);
                let _ = of_file.add(policy);
                continue;
            };
            let taken = ids.insert(id.clone(), file.name.clone());
            if let Some(other) = &taken {
                problems.at(file, offset, format!("the id `{id}` stands twice, also in {other}"), None);
            } else if let Some(other) = names.insert(logical_id(&id), id.clone()) {
                let help = Some("a policy store's template names them by letters and digits alone".to_owned());
                problems.at(file, offset, format!("the ids `{id}` and `{other}` are too much alike"), help);
            }
            let effect = policy.effect().to_string();
            let policy = policy.new_id(PolicyId::new(&id));
            places.insert(policy.id().clone(), offset);
            let text = format!("{}{statement}", comment_above(&file.text, offset));
            sources.push(PolicySource { id, file: file.name.clone(), effect, text, statement });
            if taken.is_none() {
                let _ = set.add(policy.clone());
            }
            let _ = of_file.add(policy);
        }
        if let Some(schema) = schema {
            let result = schema.validator.validate(&of_file, ValidationMode::Strict);
            let place = |id: &PolicyId| places.get(id).copied().unwrap_or_default();
            result.validation_errors().for_each(|error| problems.cedar(file, place(error.policy_id()), error));
            result.validation_warnings().for_each(|warning| problems.cedar(file, place(warning.policy_id()), warning));
        }
    }
    (set, sources)
}

/// The policies of a file, with the byte at which each begins. Templates are mistakes, because nothing here would ever link them.
fn in_order(text: &str, set: &PolicySet, file: &SourceFile, problems: &mut Problems) -> Vec<(usize, cedar_policy::Policy)> {
    // Cedar names them `policy0`, `policy1` and so on in the order of the text.
    let number = |id: &PolicyId| -> usize { id.to_string().trim_start_matches("policy").parse().unwrap_or_default() };
    let policies = set.policies().map(|it| (number(it.id()), it.to_cedar().unwrap_or_default(), Some(it)));
    let templates = set.templates().map(|it| (number(it.id()), it.to_cedar(), None));
    let mut all: Vec<_> = policies.chain(templates).collect();
    all.sort_by_key(|(number, ..)| *number);
    let (mut from, mut found) = (0, Vec::new());
    for (_, statement, policy) in all {
        let offset = text.get(from..).and_then(|rest| rest.find(&statement)).map_or(from, |at| from + at);
        from = offset + statement.len();
        match policy {
            Some(policy) => found.push((offset, policy.clone())),
            None => problems.at(file, offset, "a template is not a policy", Some("write the principal and resource".to_owned())),
        }
    }
    found
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_LENGTH).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A policy's name in a CloudFormation template: `Policy` and the words of its id.
pub(crate) fn logical_id(id: &str) -> String {
    let words = id.split(|c: char| !c.is_ascii_alphanumeric());
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().map(|first| first.to_ascii_uppercase()).chain(letters).collect::<String>()
    };
    ["Policy".to_owned()].into_iter().chain(words.map(capital)).collect()
}

/// The lines of comment directly above a place.
fn comment_above(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or_default();
    let mut lines: Vec<&str> = before.lines().rev().take_while(|line| line.trim_start().starts_with("//")).collect();
    lines.reverse();
    lines.iter().map(|line| format!("{}\n", line.trim())).collect()
}
