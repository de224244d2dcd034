//! `entities.json`: facts that do not come from tokens.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid, EvalResult, PolicySet};
use serde_json::Value;

use crate::json;
use crate::problems::{Problems, SourceFile};
use crate::schema::Schema;

/// The entities of the folder. Each question includes those that can affect its answer.
#[derive(Default)]
pub(crate) struct KnownEntities {
    entities: HashMap<EntityUid, Known>,
    /// The entities that a policy names, since they can affect every answer.
    by_policies: Vec<EntityUid>,
}

struct Known {
    entity: Entity,
    /// Its parents, and the entities in its attributes.
    refers_to: Vec<EntityUid>,
}

impl KnownEntities {
    pub(crate) fn read(file: &SourceFile, schema: &Schema, problems: &mut Problems) -> Option<Self> {
        let values: Vec<Value> = json::read(file, problems)?;
        let mut known: HashMap<EntityUid, Known> = HashMap::new();
        for (index, value) in values.into_iter().enumerate() {
            // Lazy, because every search begins at the first byte of the file.
            let place = || json::locate(&file.text, &[&index.to_string()]);
            let entity = match Entity::from_json_value(value, Some(&schema.cedar)) {
                Ok(entity) => entity,
                Err(error) => {
                    problems.cedar(file, place(), &error);
                    continue;
                }
            };
            // Cedar checks an entity against the schema when it becomes one of several.
            if let Err(error) = Entities::from_entities([entity.clone()], Some(&schema.cedar)) {
                problems.cedar(file, place(), &error);
            }
            let uid = entity.uid();
            if known.insert(uid.clone(), Known { refers_to: references(&entity), entity }).is_some() {
                problems.at(file, place(), format!("{uid} stands here twice"), None);
            }
        }
        let all = known.values().map(|it| it.entity.clone());
        if let Err(error) = Entities::from_entities(all, None) {
            problems.cedar(file, 0, &error);
        }
        Some(Self { entities: known, by_policies: Vec::new() })
    }

    pub(crate) fn with_policies(mut self, policies: &PolicySet) -> Self {
        let named: HashSet<EntityUid> = policies.policies().flat_map(|policy| policy.entity_literals()).collect();
        self.by_policies = named.into_iter().filter(|uid| self.entities.contains_key(uid)).collect();
        self
    }

    /// The entity that the folder has for the principal.
    pub(crate) fn get(&self, uid: &EntityUid) -> Option<&Entity> {
        self.entities.get(uid).map(|it| &it.entity)
    }

    /// The principal, and every known entity that it, the resource or a policy leads to.
    pub(crate) fn around(&self, principal: Entity, resource: &EntityUid) -> Vec<Entity> {
        if self.entities.is_empty() {
            return vec![principal];
        }
        let mut seen = HashSet::from([principal.uid()]);
        let mut open = references(&principal);
        open.push(resource.clone());
        open.extend(self.by_policies.iter().cloned());
        let mut found = vec![principal];
        while let Some(uid) = open.pop() {
            if let Some(known) = self.entities.get(&uid)
                && seen.insert(uid)
            {
                found.push(known.entity.clone());
                open.extend(known.refers_to.iter().cloned());
            }
        }
        found
    }
}

/// Every entity that an entity names.
fn references(entity: &Entity) -> Vec<EntityUid> {
    let (_, _, parents) = entity.clone().into_inner();
    let mut found: Vec<EntityUid> = parents.into_iter().collect();
    let attributes = entity.attrs().chain(entity.tags());
    attributes.filter_map(|(_, value)| value.ok()).for_each(|value| named_in(&value, &mut found));
    found
}

fn named_in(value: &EvalResult, found: &mut Vec<EntityUid>) {
    match value {
        EvalResult::EntityUid(uid) => found.push(uid.clone()),
        EvalResult::Set(set) => set.iter().for_each(|value| named_in(value, found)),
        EvalResult::Record(record) => record.iter().for_each(|(_, value)| named_in(value, found)),
        _ => {}
    }
}

/// The principal, merged from the token and the folder. The folder has precedence.
pub(crate) fn merged(token: &Entity, folder: &Entity) -> Option<Entity> {
    let mut merged = folder.to_json_value().ok()?;
    let token = token.to_json_value().ok()?;
    let attributes = merged.get_mut("attrs")?.as_object_mut()?;
    for (name, value) in token.get("attrs")?.as_object()? {
        attributes.entry(name).or_insert_with(|| value.clone());
    }
    merged.get_mut("parents")?.as_array_mut()?.extend(token.get("parents")?.as_array()?.iter().cloned());
    Entity::from_json_value(merged, None).ok()
}
