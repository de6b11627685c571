//! What an administrator is told of the indexes.

use tidemark_protocol::model::{FieldPath, IndexDefinition};

use super::set::{IndexSet, Phase, Rule, Work};

/// How far a work in the background has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents added, or entries removed.
    pub done: u64,
    /// How many there were when the work began; 0 when it is not known.
    pub about: u64,
}

/// What an index, or a group of automatic ones, can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// Documents from before it was asked for are being added: queries do not use it yet.
    Building(Progress),
    /// It is complete.
    Ready,
    /// It is not used any more and its entries are being removed.
    Dropping(Progress),
}

/// A declared index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStatus {
    /// Its number in the database.
    pub id: u32,
    /// What it is.
    pub definition: IndexDefinition,
    /// What it can be used for.
    pub state: IndexState,
}

/// Whether fields have automatic indexes, where that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExemptionStatus {
    /// The id of the collections.
    pub collection_id: String,
    /// The field, and all that are nested in it; none for all fields.
    pub field: Option<FieldPath>,
    /// False: they are exempt.
    pub indexed: bool,
    /// How far that has come.
    pub state: IndexState,
}

impl IndexState {
    fn of(work: Option<&Work>) -> IndexState {
        match work {
            None => IndexState::Ready,
            Some(work) => match work.phase {
                Phase::Fill => IndexState::Building(work.progress),
                Phase::Clear => IndexState::Dropping(work.progress),
            },
        }
    }
}

impl IndexSet {
    /// The declared indexes, by id.
    pub(in crate::engine) fn statuses(&self) -> Vec<IndexStatus> {
        let mut statuses: Vec<_> = self
            .all_composites()
            .map(|composite| IndexStatus {
                id: composite.id,
                definition: composite.definition.clone(),
                state: IndexState::of(composite.work.as_ref()),
            })
            .collect();
        statuses.sort_by_key(|status| status.id);
        statuses
    }

    /// What was set about automatic indexes, by collection id and field.
    pub(in crate::engine) fn exemptions(&self) -> Vec<ExemptionStatus> {
        let settings = self.collections.iter().flat_map(|(collection_id, collection)| {
            collection.settings.iter().map(move |setting| (collection_id, setting))
        });
        let mut statuses: Vec<_> = settings
            .filter(|(_, setting)| setting.rule != Rule::Inherit || setting.work.is_some())
            .map(|(collection_id, setting)| ExemptionStatus {
                collection_id: collection_id.clone(),
                field: setting.prefix.clone(),
                indexed: setting.on,
                state: match (IndexState::of(setting.work.as_ref()), setting.on) {
                    // What is left of before goes first.
                    (IndexState::Dropping(progress), true) => IndexState::Building(progress),
                    (state, _) => state,
                },
            })
            .collect();
        statuses.sort_by(|a, b| (&a.collection_id, &a.field).cmp(&(&b.collection_id, &b.field)));
        statuses
    }

    /// How far the automatic indexes of a database from before there were any have come; none:
    /// they are complete.
    pub(in crate::engine) fn automatic_build(&self) -> Option<Progress> {
        self.base.as_ref().map(|work| work.progress)
    }

    /// How many indexes and groups of automatic ones are being built or removed.
    pub(in crate::engine) fn under_way(&self) -> u64 {
        let composites = self.all_composites().filter(|it| it.work.is_some()).count();
        let settings = self.collections.values().flat_map(|collection| &collection.settings);
        let settings = settings.filter(|setting| setting.work.is_some()).count();
        (usize::from(self.base.is_some()) + composites + settings) as u64
    }

    /// Whether anything is being built or removed.
    pub(in crate::engine) fn is_settled(&self) -> bool {
        self.next_job().is_none()
    }
}
