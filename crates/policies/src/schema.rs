//! The schema of a policy folder, and the questions that it allows.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::{EntityTypeName, EntityUid, Validator};
use serde_json::Value;

use crate::problems::{Problems, SourceFile};

/// The limit of Amazon Verified Permissions (its quotas, "Schema size").
const MAX_SCHEMA_BYTES: usize = 100_000;

/// The full name of a type of the folder's namespace.
pub(crate) fn type_name(namespace: &str, name: &str) -> Option<EntityTypeName> {
    let name = if namespace.is_empty() || name.contains("::") { name.to_owned() } else { format!("{namespace}::{name}") };
    name.parse().ok()
}

/// The kinds of attribute that a token can fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Bool,
    Long,
    /// A set of strings.
    Strings,
    /// A reference to an entity.
    Entity(EntityTypeName),
}

/// An attribute of an entity type.
pub(crate) struct SchemaAttribute {
    pub(crate) required: bool,
    /// `None` for a kind that no claim can fill.
    pub(crate) kind: Option<Kind>,
}

/// A schema that Cedar accepts.
pub(crate) struct Schema {
    pub(crate) cedar: cedar_policy::Schema,
    pub(crate) validator: Validator,
    /// The schema in Cedar's JSON, which a policy store accepts.
    pub(crate) json: Value,
    /// Attributes by entity type and name.
    attributes: BTreeMap<String, BTreeMap<String, SchemaAttribute>>,
}

impl Schema {
    /// Reads `schema.cedarschema`. Warnings count as errors.
    pub(crate) fn read(file: &SourceFile, problems: &mut Problems) -> Option<Self> {
        let cedar = match cedar_policy::Schema::from_cedarschema_str(&file.text) {
            Ok((cedar, warnings)) => {
                warnings.for_each(|warning| problems.cedar(file, 0, &warning));
                cedar
            }
            Err(error) => {
                problems.cedar(file, 0, &error);
                return None;
            }
        };
        let json = match cedar_policy::schema_str_to_json_with_resolved_types(&file.text) {
            Ok((json, _)) => json,
            Err(error) => {
                problems.cedar(file, 0, &error);
                return None;
            }
        };
        let size = json.to_string().len();
        if size > MAX_SCHEMA_BYTES {
            let message = format!("the schema has {size} bytes as JSON, and Verified Permissions takes {MAX_SCHEMA_BYTES}");
            problems.at(file, 0, message, None);
        }
        if json.as_object().is_some_and(|namespaces| namespaces.len() > 1) {
            let help = Some("put everything into one namespace".to_owned());
            problems.at(file, 0, "the schema has several namespaces, and Verified Permissions takes one", help);
        }
        let attributes = attributes(&json);
        Some(Self { validator: Validator::new(cedar.clone()), cedar, json, attributes })
    }

    pub(crate) fn has_type(&self, name: &EntityTypeName) -> bool {
        self.cedar.entity_types().any(|it| it == name)
    }

    pub(crate) fn has_action(&self, action: &EntityUid) -> bool {
        self.cedar.actions().any(|it| it == action)
    }

    /// The attributes of an entity type, by name.
    pub(crate) fn attributes_of(&self, name: &EntityTypeName) -> impl Iterator<Item = (&str, &SchemaAttribute)> {
        self.attributes.get(&name.to_string()).into_iter().flatten().map(|(name, attribute)| (name.as_str(), attribute))
    }

    pub(crate) fn can_be_in(&self, member: &EntityTypeName, group: &EntityTypeName) -> bool {
        self.cedar.ancestors(member).is_some_and(|mut ancestors| ancestors.any(|it| it == group))
    }

    /// Whether the action can apply to this principal and this resource.
    pub(crate) fn applies(&self, action: &EntityUid, principal: &EntityTypeName, resource: &EntityTypeName) -> bool {
        self.cedar.principals_for_action(action).is_some_and(|mut types| types.any(|it| it == principal))
            && self.cedar.resources_for_action(action).is_some_and(|mut types| types.any(|it| it == resource))
    }
}

fn attributes(schema: &Value) -> BTreeMap<String, BTreeMap<String, SchemaAttribute>> {
    let mut types = BTreeMap::new();
    for (namespace, declarations) in schema.as_object().into_iter().flatten() {
        for (name, entity) in declarations.get("entityTypes").and_then(Value::as_object).into_iter().flatten() {
            let name = if namespace.is_empty() { name.clone() } else { format!("{namespace}::{name}") };
            let attributes = entity.get("shape").and_then(|shape| shape.get("attributes")?.as_object()).into_iter().flatten();
            let attributes = attributes.map(|(name, declared)| {
                let required = declared.get("required").and_then(Value::as_bool).unwrap_or(true);
                (name.clone(), SchemaAttribute { required, kind: kind(schema, declared) })
            });
            types.insert(name, attributes.collect());
        }
    }
    types
}

/// The definition of a type, if its name is that of a common type. Cedar allows no cycles among these.
fn definition<'a>(schema: &'a Value, mut declared: &'a Value) -> &'a Value {
    while let Some(name) = declared.get("type").and_then(Value::as_str) {
        let (namespace, name) = name.rsplit_once("::").unwrap_or(("", name));
        let common = schema.get(namespace).and_then(|it| it.get("commonTypes")).and_then(|it| it.get(name));
        match common {
            Some(common) => declared = common,
            None => break,
        }
    }
    declared
}

fn kind(schema: &Value, declared: &Value) -> Option<Kind> {
    let declared = definition(schema, declared);
    match declared.get("type")?.as_str()? {
        "String" => Some(Kind::String),
        "Bool" | "Boolean" => Some(Kind::Bool),
        "Long" => Some(Kind::Long),
        "Entity" => declared.get("name")?.as_str()?.parse().ok().map(Kind::Entity),
        "Set" => (kind(schema, declared.get("element")?)? == Kind::String).then_some(Kind::Strings),
        _ => None,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("a String"),
            Self::Bool => f.write_str("a Bool"),
            Self::Long => f.write_str("a Long"),
            Self::Strings => f.write_str("a Set<String>"),
            Self::Entity(name) => write!(f, "an entity `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_kind_that_the_schema_says() {
        let text = r#"
            namespace A {
                type Name = String;
                type Names = Set<Name>;
                type Person = { name: Name, alias?: String };
                entity Group;
                entity User in [Group] = {
                    name?: Name, names: Names, age: Long, admin: Bool, group?: Group, groups: Set<Group>, person: Person
                };
                action go appliesTo { principal: User, resource: Group };
            }"#;
        let file = SourceFile { name: "schema.cedarschema".to_owned(), text: text.to_owned() };
        let mut problems = Problems::default();
        let schema = problems_free(Schema::read(&file, &mut problems), problems);
        let group = || "A::Group".parse().unwrap();
        let user = "A::User".parse().unwrap();
        let kinds: Vec<_> = schema.attributes_of(&user).map(|(name, it)| (name, &it.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("admin", &Some(Kind::Bool)),
                ("age", &Some(Kind::Long)),
                ("group", &Some(Kind::Entity(group()))),
                ("groups", &None),
                ("name", &Some(Kind::String)),
                ("names", &Some(Kind::Strings)),
                ("person", &None),
            ]
        );
        let optional: Vec<_> = schema.attributes_of(&user).filter(|(_, it)| !it.required).map(|(name, _)| name).collect();
        assert_eq!(optional, ["group", "name"]);
        assert!(schema.can_be_in(&user, &group()) && !schema.can_be_in(&group(), &user));
    }

    fn problems_free<T>(value: Option<T>, problems: Problems) -> T {
        problems.or(value).unwrap_or_else(|errors| panic!("{errors}"))
    }
}
