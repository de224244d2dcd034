//! The authorization request: may this principal perform this action on this resource?

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use serde_json::Value;

use crate::entities::merged;
use crate::json;
use crate::policies::Policies;
use crate::providers::{AttributeOrigin, Parent, Provider};
use crate::routes::{IdSource, Route};
use crate::schema::Kind;
use crate::token::Verified;

/// Longest id of an entity that Verified Permissions accepts (API reference, EntityIdentifier). It would reject the whole request
/// as invalid, and the caller decides how long an id is.
const MAX_ID_LENGTH: usize = 200;

/// A question that fits the schema, with everything that its answer depends on.
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) principal: EntityUid,
    pub(crate) resource: EntityUid,
    /// The principal, the folder's entities around it, the resource, and the schema's actions.
    pub(crate) entities: Entities,
}

/// The principal according to the token.
pub(crate) struct Principal {
    pub(crate) entity: Entity,
    /// Its attributes that are texts or entities. An entity is represented by its id.
    pub(crate) texts: BTreeMap<String, String>,
}

/// Why the policies are not asked at all. The request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// `routes.json` does not have the route.
    NoRoute,
    /// `providers.json` has no provider of that name.
    NoProvider,
    /// The claim for the principal's id is not a text.
    NoPrincipal { claim: String },
    /// The claim for an attribute, or for the groups, does not have the schema's kind.
    Misfit { claim: String, kind: String },
    /// The schema does not allow the principal: it lacks an attribute, or its id is not in an enumeration.
    NoSuchPrincipal(EntityTypeName),
    /// None of the values that could name the resource exists.
    NoResource(Vec<IdSource>),
    /// The id of the principal or the resource is not one that every engine accepts.
    BadId,
    /// According to the schema, no principal of that type performs this action.
    NotForThem { principal: String, action: String, resource: String },
}

impl fmt::Display for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("routes.json does not have the route"),
            Self::BadId => write!(f, "an id is longer than {MAX_ID_LENGTH} characters, or has control characters"),
            Self::NoProvider => f.write_str("providers.json does not have the provider"),
            Self::NoPrincipal { claim } => write!(f, "the token has no `{claim}` to name the principal"),
            Self::Misfit { claim, kind } => write!(f, "the token's `{claim}` is not {kind}"),
            Self::NoSuchPrincipal(principal) => write!(f, "the token does not make a `{principal}` as the schema has it"),
            Self::NoResource(sources) => {
                f.write_str("the resource has no name, for the request has no ")?;
                for (index, source) in sources.iter().enumerate() {
                    write!(f, "{}`{source}`", if index == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Self::NotForThem { principal, action, resource } => {
                write!(f, "the schema does not allow {action} by a `{principal}` on a `{resource}` (`appliesTo`)")
            }
        }
    }
}

impl fmt::Display for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => write!(f, "principal.{name}"),
            Self::Path(name) => write!(f, "path.{name}"),
        }
    }
}

impl Principal {
    /// The principal of a token, by `providers.json`.
    ///
    /// # Errors
    /// [`Unasked`].
    pub(crate) fn of(
        verified: &Verified,
        provider: &Provider,
        constants: Option<&BTreeMap<String, String>>,
    ) -> Result<Self, Unasked> {
        let claims = &verified.claims;
        let id = claims.get(&provider.id).and_then(json::text);
        let id = id.ok_or_else(|| Unasked::NoPrincipal { claim: provider.id.clone() })?;
        let (mut attributes, mut texts) = (HashMap::new(), BTreeMap::new());
        for attribute in &provider.attributes {
            let constant;
            let (name, value) = match &attribute.from {
                AttributeOrigin::Claim(claim) => (claim, claims.get(claim)),
                AttributeOrigin::Constant(name) => {
                    constant = constants.and_then(|it| it.get(name)).map(|text| Value::from(text.as_str()));
                    (name, constant.as_ref())
                }
            };
            let Some(value) = value.filter(|value| is_there(value)) else { continue };
            let misfit = || Unasked::Misfit { claim: name.clone(), kind: attribute.kind.to_string() };
            let expression = expression(&attribute.kind, value).ok_or_else(misfit)?;
            attributes.insert(attribute.name.clone(), expression);
            if let (Kind::String | Kind::Entity(_), Some(text)) = (&attribute.kind, json::text(value)) {
                texts.insert(attribute.name.clone(), text.to_owned());
            }
        }
        let mut parents = HashSet::new();
        for parent in &provider.parents {
            match parent {
                Parent::Fixed(group, id) => {
                    parents.insert(uid(group, id));
                }
                Parent::Claim(group, claim) => {
                    let misfit = || Unasked::Misfit { claim: claim.clone(), kind: "one name or a list of them".to_owned() };
                    let Some(value) = claims.get(claim).filter(|value| is_there(value)) else { continue };
                    parents.extend(names(value).ok_or_else(misfit)?.map(|name| uid(group, name)));
                }
            }
        }
        let entity = Entity::new(uid(&provider.principal, id), attributes, parents)
            .map_err(|_| Unasked::NoSuchPrincipal(provider.principal.clone()))?;
        Ok(Self { entity, texts })
    }
}

impl Question {
    /// The question of a request to `route` with these path parameters.
    ///
    /// # Errors
    /// [`Unasked`].
    pub(crate) fn of(
        principal: &Principal,
        route: &Route,
        path: &BTreeMap<String, String>,
        policies: &Policies,
    ) -> Result<Self, Unasked> {
        let mut named = route.id.iter().filter_map(|source| match source {
            IdSource::Principal(name) => principal.texts.get(name),
            IdSource::Path(name) => path.get(name),
        });
        let id = named.find(|id| !id.is_empty()).ok_or_else(|| Unasked::NoResource(route.id.clone()))?;
        let resource = uid(&route.resource, id);

        let schema = &policies.schema.cedar;
        let uid = principal.entity.uid();
        if !(is_good_id(&uid) && is_good_id(&resource)) {
            return Err(Unasked::BadId);
        }
        let kind = || uid.type_name().clone();
        let entity = match policies.entities.get(&uid) {
            Some(known) => merged(&principal.entity, known).ok_or_else(|| Unasked::NoSuchPrincipal(kind()))?,
            None => principal.entity.clone(),
        };
        let request = Request::new(uid.clone(), route.action.clone(), resource.clone(), Context::empty(), Some(schema));
        let request = request.map_err(|_| Unasked::NotForThem {
            principal: kind().to_string(),
            action: route.action.to_string(),
            resource: route.resource.to_string(),
        })?;
        // The folder's entities were checked before, so only the principal can fail here.
        let entities = Entities::from_entities(policies.entities.around(entity, &resource), Some(schema));
        let entities = entities.map_err(|_| Unasked::NoSuchPrincipal(kind()))?;
        Ok(Self { request, principal: uid, resource, entities })
    }
}

fn is_good_id(uid: &EntityUid) -> bool {
    let id: &str = uid.id().unescaped();
    id.chars().count() <= MAX_ID_LENGTH && !id.contains(char::is_control)
}

fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

/// Whether a claim has a value. An empty text means that it has none: Cognito keeps an attribute that somebody has emptied.
fn is_there(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// One name or a list of names. Some issuers write a single name without a list.
fn names(value: &Value) -> Option<std::vec::IntoIter<&str>> {
    let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let names: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    names.map(Vec::into_iter)
}

fn expression(kind: &Kind, value: &Value) -> Option<RestrictedExpression> {
    match kind {
        Kind::String => value.as_str().map(|text| RestrictedExpression::new_string(text.to_owned())),
        Kind::Bool => value.as_bool().map(RestrictedExpression::new_bool),
        Kind::Long => value.as_i64().map(RestrictedExpression::new_long),
        Kind::Strings => {
            let texts = names(value)?.map(|text| RestrictedExpression::new_string(text.to_owned()));
            Some(RestrictedExpression::new_set(texts))
        }
        Kind::Entity(name) => value.as_str().map(|id| RestrictedExpression::new_entity_uid(uid(name, id))),
    }
}
