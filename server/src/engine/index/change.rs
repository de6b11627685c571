//! What an administrator changes: declared indexes come and go, fields are exempted. A change is
//! carried out by the lane: checked against the newest set, written, then published.

use std::sync::Arc;

use tidemark_protocol::model::{Code, CollectionPath, FieldPath, IndexDefinition, ModelError};

use super::entries;
use super::list::KeyWrite;
use super::set::{Composite, FieldSetting, IndexSet, Phase, Rule, Work, governing};
use crate::engine::keys::Keys;

/// Declared indexes that a database can have at a time, besides those that are being removed.
pub(super) const COMPOSITES: usize = 200;
/// Declared indexes together with those that are being removed.
const COMPOSITES_KEPT: usize = 2 * COMPOSITES;
/// Paths whose automatic indexes are set one way or the other.
pub(super) const SETTINGS: usize = 1_000;

/// What is asked for.
#[derive(Debug)]
pub(in crate::engine) enum IndexChange {
    Create(IndexDefinition),
    Drop(u32),
    /// Sets whether the fields under a path, or all, have no automatic indexes.
    Exempt {
        collection_id: String,
        prefix: Option<FieldPath>,
        exempt: bool,
    },
}

impl IndexSet {
    /// Carries out a change here. Returns what is to be stored for it.
    pub(in crate::engine) fn apply(
        &mut self,
        keys: Keys,
        change: IndexChange,
    ) -> Result<Vec<KeyWrite>, ModelError> {
        match change {
            IndexChange::Create(definition) => self.create(keys, definition),
            IndexChange::Drop(id) => self.drop_composite(keys, id),
            IndexChange::Exempt { collection_id, prefix, exempt } => {
                self.exempt(keys, &collection_id, prefix, exempt)
            }
        }
    }

    fn create(
        &mut self,
        keys: Keys,
        definition: IndexDefinition,
    ) -> Result<Vec<KeyWrite>, ModelError> {
        definition.validate()?;
        let is_dropping =
            |it: &Composite| it.work.as_ref().is_some_and(|work| work.phase == Phase::Clear);
        let is_same = |it: &&Composite| it.definition == definition && !is_dropping(it);
        if let Some(same) = self.all_composites().find(is_same) {
            return Err(ModelError::new(
                Code::AlreadyExists,
                format!("the index {definition} exists; it is number {}", same.id),
            ));
        }
        let count = self.all_composites().filter(|it| !is_dropping(it)).count();
        if count >= COMPOSITES || self.all_composites().count() >= COMPOSITES_KEPT {
            return Err(ModelError::new(
                Code::ResourceExhausted,
                format!("the database has {count} declared indexes; the limit is {COMPOSITES}"),
            ));
        }
        self.last_id += 1;
        let composite = Composite { id: self.last_id, definition, work: Some(Work::filling()) };
        let writes = vec![composite.write(keys), self.state_write(keys)];
        let collection_id = composite.definition.collection_id.clone();
        self.collections.entry(collection_id).or_default().composites.push(Arc::new(composite));
        Ok(writes)
    }

    fn drop_composite(&mut self, keys: Keys, id: u32) -> Result<Vec<KeyWrite>, ModelError> {
        let found = self.all_composites().find(|composite| composite.id == id);
        let collection_id = found.map(|it| it.definition.collection_id.clone());
        let composite = collection_id.and_then(|collection| self.composite_mut(&collection, id));
        let Some(composite) = composite else {
            return Err(ModelError::new(Code::NotFound, format!("there is no index number {id}")));
        };
        if composite.work.as_ref().is_none_or(|work| work.phase == Phase::Fill) {
            composite.work = Some(Work::default());
        }
        Ok(vec![composite.write(keys)])
    }

    fn exempt(
        &mut self,
        keys: Keys,
        collection_id: &str,
        prefix: Option<FieldPath>,
        exempt: bool,
    ) -> Result<Vec<KeyWrite>, ModelError> {
        validate_fields(collection_id, prefix.as_ref())?;
        let count: usize = self.collections.values().map(|it| it.settings.len()).sum();
        let collection = self.collections.entry(collection_id.to_owned()).or_default();
        let settings = &mut collection.settings;
        let parent = prefix.as_ref().and_then(|prefix| {
            let shorter = &prefix.segments()[..prefix.segments().len() - 1];
            governing(settings, shorter)
        });
        let inherited = parent.is_none_or(|parent| parent.on);
        let rule = match (exempt, inherited) {
            (true, _) => Rule::Off,
            (false, true) => Rule::Inherit,
            (false, false) => Rule::On,
        };
        let mut work = parent.and_then(|parent| parent.work.as_ref()).map(|_| Work::default());
        match settings.iter_mut().find(|setting| setting.prefix == prefix) {
            Some(setting) => setting.rule = rule,
            None if rule == Rule::Inherit => return Ok(vec![]),
            None if count >= SETTINGS => {
                return Err(ModelError::new(
                    Code::ResourceExhausted,
                    format!("the database has {count} exemptions; the limit is {SETTINGS}"),
                ));
            }
            None => {
                // Its entries are in the state that those of the next shorter path are in.
                let work = work.take();
                settings.push(FieldSetting { prefix, rule, on: inherited, work });
            }
        }
        let before: Vec<_> = settings.iter().map(|it| (it.prefix.clone(), it.on)).collect();
        collection.settle_rules();
        for setting in &mut collection.settings {
            let was_on = before.iter().find(|(prefix, _)| *prefix == setting.prefix);
            if was_on.is_none_or(|(_, was_on)| *was_on != setting.on) {
                setting.work = Some(Work::default());
            }
        }
        let is_kept =
            |setting: &FieldSetting| setting.rule != Rule::Inherit || setting.work.is_some();
        let writes = collection.settings.iter().map(|setting| {
            if is_kept(setting) {
                setting.write(keys, collection_id)
            } else {
                (setting.key(keys, collection_id), None)
            }
        });
        let writes = writes.collect();
        collection.settings.retain(is_kept);
        Ok(writes)
    }
}

fn validate_fields(collection_id: &str, prefix: Option<&FieldPath>) -> Result<(), ModelError> {
    if collection_id.contains('/') {
        return Err(ModelError::invalid(
            "exemptions are for all collections of an id; give the id, not a path",
        ));
    }
    CollectionPath::parse(collection_id)?;
    let Some(prefix) = prefix else { return Ok(()) };
    if prefix.is_document_id() {
        return Err(ModelError::invalid("`__name__` needs no index and cannot be exempted"));
    }
    if !entries::is_indexable(prefix) {
        return Err(ModelError::invalid(format!(
            "a field path of more than {} bytes is never indexed automatically",
            entries::FIELD_BYTES
        )));
    }
    Ok(())
}
