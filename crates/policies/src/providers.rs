//! `providers.json`: which claims of a provider's token the policies see.

use std::collections::BTreeMap;

use cedar_policy::EntityTypeName;
use serde::Deserialize;

use crate::json::{self, Unique};
use crate::problems::{Problems, SourceFile};
use crate::schema::{Kind, Schema, type_name};

/// Names that every caller's context has, and one that API Gateway reserves.
const RESERVED: [&str; 5] = ["provider", "issuer", "subject", "tokenUse", "principalId"];

/// Every provider whose tokens the policies know, by its name among the issuers.
pub(crate) struct Providers(BTreeMap<String, Provider>);

/// The part of a provider's token that the policies see.
pub(crate) struct Provider {
    /// The allowed values of `token_use`. Empty if the provider's tokens have no such claim.
    pub(crate) token_use: Vec<String>,
    pub(crate) principal: EntityTypeName,
    /// The claim with the principal's id.
    pub(crate) id: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) parents: Vec<Parent>,
}

/// An attribute of the principal.
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) from: AttributeOrigin,
    pub(crate) kind: Kind,
}

/// The origin of an attribute's value.
pub(crate) enum AttributeOrigin {
    /// A claim of the token.
    Claim(String),
    /// A constant of the deployment for all tokens of the issuer.
    Constant(String),
}

/// A group of the principal.
pub(crate) enum Parent {
    /// The same for all users of the provider.
    Fixed(EntityTypeName, String),
    /// The claim names one, or lists several.
    Claim(EntityTypeName, String),
}

pub(crate) type ProvidersFile = Unique<ProviderEntry>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ProviderEntry {
    token_use: Vec<String>,
    principal: PrincipalEntry,
    #[serde(default)]
    attributes: Unique<AttributeEntry>,
    #[serde(default)]
    parents: Vec<ParentEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalEntry {
    r#type: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeEntry {
    claim: Option<String>,
    constant: Option<String>,
    r#type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParentEntry {
    r#type: String,
    id: Option<String>,
    claim: Option<String>,
}

impl Providers {
    pub(crate) fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Provider)> {
        self.0.iter().map(|(name, provider)| (name.as_str(), provider))
    }

    pub(crate) fn principals(&self) -> impl Iterator<Item = &EntityTypeName> {
        self.0.values().map(|provider| &provider.principal)
    }

    /// Whether the principals of some provider have an attribute of that name that can be an id.
    pub(crate) fn has_text(&self, name: &str) -> bool {
        let mut attributes = self.0.values().flat_map(|provider| &provider.attributes);
        attributes.any(|it| it.name == name && matches!(it.kind, Kind::String | Kind::Entity(_)))
    }

    /// The providers, if everything that they name exists.
    pub(crate) fn resolve(
        entries: ProvidersFile,
        namespace: &str,
        file: &SourceFile,
        schema: &Schema,
        problems: &mut Problems,
    ) -> Self {
        let mut providers: BTreeMap<String, Provider> = BTreeMap::new();
        for (name, entry) in entries.0 {
            let mut check = Check { name: &name, namespace, file, schema, problems };
            let Some(provider) = entry.resolve(&mut check) else { continue };
            if let Some((other, _)) = providers.iter().find(|(_, other)| other.principal == provider.principal) {
                let message = format!("`{name}` and `{other}` have principals of one type, `{}`", provider.principal);
                let help = "two providers may give two people the same id, so each needs a type of its own";
                check.wrong(&["principal", "type"], message, Some(help));
            }
            providers.insert(name, provider);
        }
        Self(providers)
    }
}

/// The basis for checking an entry, and the list of problems.
struct Check<'a> {
    name: &'a str,
    namespace: &'a str,
    file: &'a SourceFile,
    schema: &'a Schema,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn wrong(&mut self, path: &[&str], message: String, help: Option<&str>) {
        let path: Vec<&str> = [self.name].into_iter().chain(path.iter().copied()).collect();
        self.problems.at(self.file, json::locate(&self.file.text, &path), message, help.map(str::to_owned));
    }

    fn type_named(&mut self, name: &str, path: &[&str]) -> Option<EntityTypeName> {
        let found = type_name(self.namespace, name).filter(|found| self.schema.has_type(found));
        if found.is_none() {
            let help = "types are those of the namespace in routes.json, if they are named without one";
            self.wrong(path, format!("the schema has no entity type `{name}`"), Some(help));
        }
        found
    }
}

impl ProviderEntry {
    fn resolve(self, check: &mut Check<'_>) -> Option<Provider> {
        let principal = check.type_named(&self.principal.r#type, &["principal", "type"])?;
        if self.principal.id.is_empty() {
            check.wrong(&["principal", "id"], "a principal needs a claim for its id".to_owned(), Some("`sub`"));
        }
        let schema = check.schema;
        for (name, attribute) in schema.attributes_of(&principal) {
            if attribute.required && !self.attributes.0.contains_key(name) {
                let message = format!("the schema requires `{name}` of `{principal}`, and no claim or constant is mapped to it");
                check.wrong(&["attributes"], message, Some("fill it, or write `?` behind its name in the schema"));
            }
        }
        let attributes =
            self.attributes.0.into_iter().filter_map(|(name, entry)| entry.resolve(name, &principal, check)).collect();
        let mut parents = Vec::new();
        for (index, entry) in self.parents.into_iter().enumerate() {
            parents.extend(entry.resolve(&index.to_string(), &principal, check));
        }
        Some(Provider { token_use: self.token_use, principal, id: self.principal.id, attributes, parents })
    }
}

impl AttributeEntry {
    fn resolve(self, name: String, principal: &EntityTypeName, check: &mut Check<'_>) -> Option<Attribute> {
        let place = ["attributes", &name];
        if RESERVED.contains(&name.as_str()) {
            check.wrong(&place, format!("`{name}` is the name of something else in an answer's context"), Some("rename it"));
        }
        let from = match (self.claim, self.constant) {
            (Some(claim), None) => Some(AttributeOrigin::Claim(claim)),
            (None, Some(constant)) => Some(AttributeOrigin::Constant(constant)),
            _ => {
                check.wrong(&place, format!("`{name}` needs one of `claim` and `constant`"), None);
                None
            }
        };
        let entity = match &self.r#type {
            Some(entity) => Some(check.type_named(entity, &["attributes", &name, "type"])?),
            None => None,
        };
        let schema = check.schema;
        let Some((_, declared)) = schema.attributes_of(principal).find(|(it, _)| *it == name) else {
            check.wrong(&place, format!("by the schema `{principal}` has no `{name}`"), None);
            return None;
        };
        let kind = match (&declared.kind, entity) {
            (Some(Kind::Entity(declared)), Some(entity)) if *declared == entity => Kind::Entity(entity),
            (Some(Kind::Entity(declared)), _) => {
                let help = format!("write `\"type\": \"{}\"`", declared.basename());
                check.wrong(&place, format!("by the schema `{name}` is an entity `{declared}`"), Some(&help));
                return None;
            }
            (Some(kind), None) => kind.clone(),
            (Some(kind), Some(_)) => {
                check.wrong(&place, format!("by the schema `{name}` is {kind} and no entity"), Some("leave `type` out"));
                return None;
            }
            (None, _) => {
                let message = format!("no claim can fill `{name}`: its type is not String, Long, Bool, Set<String> or an entity");
                check.wrong(&place, message, None);
                return None;
            }
        };
        if matches!(from, Some(AttributeOrigin::Constant(_))) && !matches!(kind, Kind::String | Kind::Entity(_)) {
            check.wrong(&place, format!("a constant is text, and by the schema `{name}` is {kind}"), None);
        }
        Some(Attribute { name, from: from?, kind })
    }
}

impl ParentEntry {
    fn resolve(self, index: &str, principal: &EntityTypeName, check: &mut Check<'_>) -> Option<Parent> {
        let parent = check.type_named(&self.r#type, &["parents", index, "type"])?;
        if !check.schema.can_be_in(principal, &parent) {
            let message = format!("by the schema `{principal}` is never in `{parent}`");
            let help = format!("`entity {} in [{}]`", principal.basename(), parent.basename());
            check.wrong(&["parents", index, "type"], message, Some(&help));
        }
        match (self.id, self.claim) {
            (Some(id), None) => Some(Parent::Fixed(parent, id)),
            (None, Some(claim)) => Some(Parent::Claim(parent, claim)),
            _ => {
                check.wrong(&["parents", index], "a parent needs one of `id` and `claim`".to_owned(), None);
                None
            }
        }
    }
}
