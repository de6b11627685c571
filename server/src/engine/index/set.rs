//! The indexes of a database as of one snapshot. The lane owns the newest set and changes it only
//! together with what is stored; readers get the set that belongs to their snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use tidemark_protocol::model::{CollectionPath, FieldPath, IndexDefinition, IndexMode, IndexScope};

use super::entries::{self, cut_value};
use super::status::Progress;
use crate::engine::keys::Keys;
use crate::store::Key;

/// Bytes of an entry's values together: with the longest path the key still fits.
const COMPOSITE_BYTES: usize = 2 * entries::VALUE_BYTES;

/// What is indexed, and how far that has come.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct IndexSet {
    /// The highest id given to a declared index.
    pub(super) last_id: u32,
    /// Set while the documents of a database from before there were indexes are added.
    pub(super) base: Option<Work>,
    pub(super) collections: HashMap<String, CollectionIndexes>,
}

/// What departs from the automatic indexes for the collections of one id.
#[derive(Clone, Debug, Default)]
pub(super) struct CollectionIndexes {
    pub(super) composites: Vec<Arc<Composite>>,
    pub(super) settings: Vec<FieldSetting>,
}

/// A declared index.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct Composite {
    /// Its number; never given out again.
    pub(in crate::engine) id: u32,
    /// What it is.
    pub(in crate::engine) definition: IndexDefinition,
    /// None: it is complete and may be used.
    pub(super) work: Option<Work>,
}

/// Whether the fields under a path have automatic indexes. The longest path that is a prefix of a
/// field's governs it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldSetting {
    /// None: all fields.
    pub(super) prefix: Option<FieldPath>,
    pub(super) rule: Rule,
    /// What the rule comes to: whether writes add entries.
    pub(super) on: bool,
    /// None: the entries of the fields governed are complete (on) or gone (off).
    pub(super) work: Option<Work>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// As the next shorter path says; kept until its work is done.
    Inherit,
    On,
    Off,
}

/// Entries of documents from before, to be removed or added chunk by chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) phase: Phase,
    pub(super) cursor: Cursor,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Entries are being removed.
    #[default]
    Clear,
    /// Documents are being read and their entries added.
    Fill,
}

/// How far a work has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cursor {
    /// The collection under way, encoded; empty before the first.
    pub(super) collection: Vec<u8>,
    /// The last key dealt with; empty before the first.
    pub(super) after: Key,
}

/// Names a work.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Job {
    Base,
    Composite { collection_id: String, id: u32 },
    Fields { collection_id: String, prefix: Option<FieldPath> },
}

impl IndexSet {
    /// Whether queries can use the automatic index of a field.
    pub(in crate::engine) fn automatic(&self, collection_id: &str, field: &FieldPath) -> bool {
        if self.base.is_some() || field.is_document_id() || !entries::is_indexable(field) {
            return false;
        }
        let Some(collection) = self.collections.get(collection_id) else { return true };
        governing(&collection.settings, field.segments())
            .is_none_or(|setting| setting.on && setting.work.is_none())
    }

    /// Whether the collections of every id are known: while not, a query of a collection group
    /// cannot merge its collections.
    pub(in crate::engine) fn collections_are_known(&self) -> bool {
        self.base.is_none()
    }

    /// The declared indexes of the collections of this id that queries can use.
    pub(in crate::engine) fn composites<'a>(
        &'a self,
        collection_id: &str,
    ) -> impl Iterator<Item = &'a Composite> + use<'a> {
        self.collections
            .get(collection_id)
            .into_iter()
            .flat_map(|collection| &collection.composites)
            .map(|composite| &**composite)
            .filter(|composite| composite.work.is_none())
    }

    /// The next work, if there is any. What all others rest on comes first, then what frees space.
    pub(super) fn next_job(&self) -> Option<(Job, &Work)> {
        if let Some(work) = &self.base {
            return Some((Job::Base, work));
        }
        let composites =
            || self.all_composites().filter_map(|it| it.work.as_ref().map(|work| (it, work)));
        let of_composite = |(composite, work): (&Composite, _)| {
            let collection_id = composite.definition.collection_id.clone();
            (Job::Composite { collection_id, id: composite.id }, work)
        };
        let least = |phase: Phase| {
            let of_phase = composites().filter(move |(_, work)| work.phase == phase);
            of_phase.min_by_key(|(composite, _)| composite.id).map(of_composite)
        };
        least(Phase::Clear).or_else(|| self.next_fields_job()).or_else(|| least(Phase::Fill))
    }

    fn next_fields_job(&self) -> Option<(Job, &Work)> {
        let waiting = self.collections.iter().filter_map(|(id, collection)| {
            let setting = collection.settings.iter().find(|setting| setting.work.is_some())?;
            Some((id, setting))
        });
        let (id, setting) = waiting.min_by_key(|(id, _)| *id)?;
        let job = Job::Fields { collection_id: id.clone(), prefix: setting.prefix.clone() };
        setting.work.as_ref().map(|work| (job, work))
    }

    /// All declared indexes, also those that are being built or removed.
    pub(super) fn all_composites(&self) -> impl Iterator<Item = &Composite> {
        self.collections.values().flat_map(|it| &it.composites).map(|composite| &**composite)
    }

    pub(super) fn setting_mut(
        &mut self,
        collection_id: &str,
        prefix: Option<&FieldPath>,
    ) -> Option<&mut FieldSetting> {
        let settings = &mut self.collections.get_mut(collection_id)?.settings;
        settings.iter_mut().find(|setting| setting.prefix.as_ref() == prefix)
    }

    pub(super) fn composite_mut(&mut self, collection_id: &str, id: u32) -> Option<&mut Composite> {
        let composites = &mut self.collections.get_mut(collection_id)?.composites;
        composites.iter_mut().find(|composite| composite.id == id).map(Arc::make_mut)
    }
}

impl CollectionIndexes {
    /// The declared indexes that writes maintain.
    pub(super) fn maintained(&self) -> impl Iterator<Item = &Composite> {
        self.composites.iter().map(|composite| &**composite).filter(|it| it.is_maintained())
    }

    /// Works out what the rules come to.
    pub(super) fn settle_rules(&mut self) {
        self.settings.sort_by_key(|setting| setting.segments().len());
        for at in 0..self.settings.len() {
            let (shorter, rest) = self.settings.split_at_mut(at);
            let setting = &mut rest[0];
            setting.on = match setting.rule {
                Rule::On => true,
                Rule::Off => false,
                Rule::Inherit => {
                    governing(shorter, setting.segments()).is_none_or(|parent| parent.on)
                }
            };
        }
    }
}

impl FieldSetting {
    pub(super) fn segments(&self) -> &[String] {
        self.prefix.as_ref().map_or(&[], FieldPath::segments)
    }
}

/// The setting that decides about a field; none: it is indexed.
pub(super) fn governing<'a, S: AsRef<str>>(
    settings: &'a [FieldSetting],
    field: &[S],
) -> Option<&'a FieldSetting> {
    let covers = |setting: &&FieldSetting| {
        let prefix = setting.segments();
        prefix.len() <= field.len()
            && prefix.iter().zip(field).all(|(prefix, segment)| prefix == segment.as_ref())
    };
    settings.iter().filter(covers).max_by_key(|setting| setting.segments().len())
}

impl Composite {
    fn is_maintained(&self) -> bool {
        self.work.as_ref().is_none_or(|work| work.phase == Phase::Fill)
    }

    /// Appends the value of the field at this position as entries have it. Returns whether it was
    /// cut off.
    pub(in crate::engine) fn append_value(
        &self,
        position: usize,
        value: &tidemark_protocol::model::Value,
        out: &mut Vec<u8>,
    ) -> bool {
        let fields = &self.definition.fields;
        let limit = entries::VALUE_BYTES.min(COMPOSITE_BYTES / fields.len());
        let is_descending = fields[position].mode == IndexMode::Descending;
        cut_value(value, is_descending, limit, out)
    }

    /// Whether the names in its entries are inverted.
    pub(in crate::engine) fn has_inverted_names(&self) -> bool {
        let last = self.definition.fields.last();
        last.is_some_and(|field| field.mode == IndexMode::Descending)
    }

    /// What its entries for documents of this collection begin with.
    pub(in crate::engine) fn prefix(&self, keys: Keys, collection: &CollectionPath) -> Key {
        match self.definition.scope {
            IndexScope::Collection => keys.composite(self.id, Some(collection)),
            IndexScope::Group => keys.composite(self.id, None),
        }
    }
}
