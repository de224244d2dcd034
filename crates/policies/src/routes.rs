//! `routes.json`: the action and the resource of each route.

use std::collections::BTreeMap;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use serde::Deserialize;

use crate::json::{self, Unique};
use crate::problems::{Problems, SourceFile};
use crate::providers::Providers;
use crate::schema::{Schema, type_name};

/// Methods of a route key. `ANY` is not allowed: a policy would then apply to methods that its author did not think of.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// All known routes. A request to any other route is denied.
pub(crate) struct Routes(BTreeMap<String, Route>);

/// The question to the policies about a request to a route.
pub(crate) struct Route {
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityTypeName,
    /// The first of these that has a value is the resource's id. Not empty.
    pub(crate) id: Vec<IdSource>,
}

/// The origin of the resource's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdSource {
    /// An attribute of the principal.
    Principal(String),
    /// A parameter of the path.
    Path(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoutesFile {
    /// The namespace of all types and actions that are named without one.
    #[serde(default)]
    namespace: String,
    routes: Unique<RouteEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteEntry {
    action: String,
    resource: ResourceEntry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceEntry {
    r#type: String,
    id: Vec<String>,
}

impl RoutesFile {
    pub(crate) fn read(file: &SourceFile, problems: &mut Problems) -> Option<Self> {
        json::read(file, problems)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The routes, if everything that they name exists. Without `providers`, which then have mistakes of their own, references to
    /// providers are not checked.
    pub(crate) fn resolve(
        self,
        file: &SourceFile,
        schema: &Schema,
        providers: Option<&Providers>,
        problems: &mut Problems,
    ) -> Option<Routes> {
        if type_name(&self.namespace, "Action").is_none() {
            let message = format!("`{}` is not a namespace", self.namespace);
            problems.at(file, json::locate(&file.text, &["namespace"]), message, None);
            return None;
        }
        let mut routes = BTreeMap::new();
        let mut shapes: BTreeMap<String, String> = BTreeMap::new();
        for (key, entry) in self.routes.0 {
            if let Some(other) = shapes.insert(shape(&key), key.clone()) {
                let message = format!("`{key}` and `{other}` are the same route: only the names of parameters differ");
                problems.at(file, json::locate(&file.text, &["routes", &key]), message, None);
            }
            if let Some(route) = entry.resolve(&self.namespace, &key, file, schema, providers, problems) {
                routes.insert(key, route);
            }
        }
        Some(Routes(routes))
    }
}

impl RouteEntry {
    fn resolve(
        self,
        namespace: &str,
        key: &str,
        file: &SourceFile,
        schema: &Schema,
        providers: Option<&Providers>,
        problems: &mut Problems,
    ) -> Option<Route> {
        let mut wrong = |path: &[&str], message: String, help: Option<&str>| {
            let path: Vec<&str> = ["routes", key].into_iter().chain(path.iter().copied()).collect();
            problems.at(file, json::locate(&file.text, &path), message, help.map(str::to_owned));
        };
        let parameters = parameters(key);
        if parameters.is_none() {
            wrong(&[], format!("`{key}` is not a route key"), Some("write it as API Gateway does: `GET /er7/{messageId}`"));
        }

        let actions = type_name(namespace, "Action")?;
        let action = EntityUid::from_type_name_and_id(actions, EntityId::new(&self.action));
        let has_action = schema.has_action(&action);
        if !has_action {
            wrong(&["action"], format!("the schema has no {action}"), None);
        }
        let resource = type_name(namespace, &self.resource.r#type).filter(|name| schema.has_type(name));
        let done_by_some = |action: &EntityUid, resource: &EntityTypeName| {
            providers.is_none_or(|providers| providers.principals().any(|it| schema.applies(action, it, resource)))
        };
        match &resource {
            None => {
                let message = format!("the schema has no entity type `{}`", self.resource.r#type);
                wrong(&["resource", "type"], message, Some("types are those of `namespace`, if they are named without one"));
            }
            Some(resource) if has_action && !done_by_some(&action, resource) => {
                let message = format!("by the schema no provider's principal does {action} to `{resource}`");
                wrong(&["action"], message, Some("`appliesTo` of the action says who does what to what"));
            }
            Some(_) => {}
        }
        if self.resource.id.is_empty() {
            wrong(&["resource", "id"], "a resource needs an id".to_owned(), Some("`path.X` or `principal.X`"));
        }
        let mut id = Vec::new();
        for (index, source) in self.resource.id.iter().enumerate() {
            let index = index.to_string();
            let place = ["resource", "id", &index];
            match source.split_once('.') {
                Some(("principal", name)) if providers.is_none_or(|providers| providers.has_text(name)) => {
                    id.push(IdSource::Principal(name.to_owned()))
                }
                Some(("principal", name)) => {
                    wrong(&place, format!("no provider's principal has the text or entity `{name}`"), None);
                }
                Some(("path", name)) if parameters.iter().flatten().any(|it| it == name) => {
                    id.push(IdSource::Path(name.to_owned()));
                }
                Some(("path", name)) => wrong(&place, format!("the route has no parameter `{name}`"), None),
                _ => wrong(&place, format!("`{source}` is neither `path.X` nor `principal.X`"), None),
            }
        }
        Some(Route { action, resource: resource?, id })
    }
}

/// The route of a method and a path.
pub(crate) struct Found<'a> {
    pub(crate) key: &'a str,
    pub(crate) route: &'a Route,
    /// The path parameters with their values, for a real path.
    pub(crate) path: BTreeMap<String, String>,
}

impl Routes {
    /// The route with API Gateway's route key, which must be equal character for character.
    pub(crate) fn get(&self, key: &str) -> Option<&Route> {
        self.0.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Route)> {
        self.0.iter().map(|(key, route)| (key.as_str(), route))
    }

    /// The route of a real path, or of a route key whose parameters may have other names. As in API Gateway, a name has
    /// precedence over a parameter, and a parameter over `{rest+}`.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let candidates = self.0.iter().filter_map(|(key, route)| {
            let (its_method, template) = key.split_once(' ')?;
            let (rank, path) = matches(template, path).filter(|_| its_method.eq_ignore_ascii_case(method))?;
            Some((rank, Found { key, route, path }))
        });
        candidates.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, found)| found)
    }
}

/// How well a path fits a template, segment by segment (smaller is better), and the values of its parameters.
fn matches(template: &str, path: &str) -> Option<(Vec<u8>, BTreeMap<String, String>)> {
    let (mut rank, mut values) = (Vec::new(), BTreeMap::new());
    let mut segments = path.split('/');
    for expected in template.split('/') {
        let segment = segments.next()?;
        match parameter(expected) {
            None if expected == segment => rank.push(0),
            None => return None,
            Some(name) => {
                let is_rest = name.ends_with('+');
                let mut value = segment.to_owned();
                if is_rest {
                    segments.by_ref().for_each(|segment| value.extend(["/", segment]));
                }
                if value.is_empty() {
                    return None;
                }
                if parameter(segment).is_none() {
                    values.insert(name.trim_end_matches('+').to_owned(), value);
                }
                rank.push(if is_rest { 2 } else { 1 });
            }
        }
    }
    segments.next().is_none().then_some((rank, values))
}

/// The name in `{name}` or `{name+}`.
fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}').filter(|name| !name.trim_end_matches('+').is_empty())
}

/// The parameters of a route key, or `None` if it is not a route key.
fn parameters(key: &str) -> Option<Vec<String>> {
    let (method, path) = key.split_once(' ')?;
    let path = path.strip_prefix('/').filter(|path| !path.contains(char::is_whitespace))?;
    if !METHODS.contains(&method) {
        return None;
    }
    let segments: Vec<&str> = path.split('/').collect();
    let mut names = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        match parameter(segment) {
            Some(name) if name.ends_with('+') && index + 1 < segments.len() => return None,
            Some(name) => names.push(name.trim_end_matches('+').to_owned()),
            None if segment.contains(['{', '}', '*', '?']) || (segment.is_empty() && segments.len() > 1) => return None,
            None => {}
        }
    }
    Some(names)
}

/// The key without the names of its parameters: API Gateway distinguishes routes by the rest.
fn shape(key: &str) -> String {
    key.split('/').map(|segment| if parameter(segment).is_some() { "{}" } else { segment }).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(String, Vec<(String, String)>)> {
        let route = || Route { action: r#"Action::"a""#.parse().unwrap(), resource: "R".parse().unwrap(), id: Vec::new() };
        let keys =
            ["GET /er7", "GET /er7/{messageId}", "GET /er7/{messageId}/status", "GET /er7/new", "GET /files/{name+}", "GET /"];
        let routes = Routes(keys.into_iter().map(|key| (key.to_owned(), route())).collect());
        let found = routes.find("get", path)?;
        Some((found.key.to_owned(), found.path.into_iter().collect()))
    }

    #[test]
    fn a_route_is_found_by_its_key_or_by_a_real_path() {
        for (path, key, parameters) in [
            ("/er7", "GET /er7", &[][..]),
            ("/", "GET /", &[]),
            ("/er7/{id}", "GET /er7/{messageId}", &[]),
            ("/er7/{messageId}", "GET /er7/{messageId}", &[]),
            ("/er7/abc", "GET /er7/{messageId}", &[("messageId", "abc")]),
            ("/er7/abc?from=1", "GET /er7/{messageId}", &[("messageId", "abc")]),
            ("/er7/new", "GET /er7/new", &[]),
            ("/er7/abc/status", "GET /er7/{messageId}/status", &[("messageId", "abc")]),
            ("/files/a/b", "GET /files/{name+}", &[("name", "a/b")]),
        ] {
            let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(found(path), Some((key.to_owned(), parameters)), "{path}");
        }
        for path in ["/er7/", "/er7/abc/", "/er7/abc/other", "/ER7", "er7", "", "/files/"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn a_route_key_is_a_method_and_a_path() {
        assert_eq!(parameters("GET /a/{b}/{c+}"), Some(vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(parameters("GET /"), Some(vec![]));
        for key in
            ["GET", "GET er7", "get /er7", "ANY /er7", "$default", "GET /a//b", "GET /a/", "GET /{a+}/b", "GET /{}", "GET /a*"]
        {
            assert_eq!(parameters(key), None, "{key}");
        }
    }
}
