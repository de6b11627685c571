//! The definitions of indexes and how far they have come, as they are stored.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::{
    FieldPath, IndexDefinition, IndexField, IndexMode, IndexScope, ModelError,
};

use super::list::KeyWrite;
use super::set::{Composite, Cursor, FieldSetting, IndexSet, Phase, Rule, Work};
use super::status::Progress;
use crate::engine::error::EngineError;
use crate::engine::keys::Keys;
use crate::store::{ScanDirection, Snapshot};

/// That a database has indexes at all; one from before has no such record.
#[derive(Clone, PartialEq, Message)]
struct StateRecord {
    #[prost(uint32, tag = "1")]
    last_id: u32,
    /// None: all documents are in the automatic indexes.
    #[prost(message, optional, tag = "2")]
    base: Option<WorkRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct WorkRecord {
    #[prost(bool, tag = "1")]
    fills: bool,
    #[prost(bytes = "vec", tag = "2")]
    collection: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    after: Vec<u8>,
    #[prost(uint64, tag = "4")]
    done: u64,
    #[prost(uint64, tag = "5")]
    about: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CompositeRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    collection_id: String,
    #[prost(bool, tag = "3")]
    is_group: bool,
    #[prost(message, repeated, tag = "4")]
    fields: Vec<FieldRecord>,
    #[prost(message, optional, tag = "5")]
    work: Option<WorkRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldRecord {
    #[prost(string, tag = "1")]
    path: String,
    /// 0 ascending, 1 descending, 2 contains.
    #[prost(uint32, tag = "2")]
    mode: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SettingRecord {
    #[prost(string, tag = "1")]
    collection_id: String,
    /// None: all fields.
    #[prost(string, optional, tag = "2")]
    prefix: Option<String>,
    /// 0 inherit, 1 on, 2 off.
    #[prost(uint32, tag = "3")]
    rule: u32,
    #[prost(message, optional, tag = "4")]
    work: Option<WorkRecord>,
}

/// Reads all of it.
pub(in crate::engine) async fn load(
    snapshot: &dyn Snapshot,
    keys: Keys,
) -> Result<IndexSet, EngineError> {
    let mut set = match snapshot.get(&keys.index_state()).await? {
        Some(record) => {
            let record = StateRecord::decode(record).map_err(EngineError::corrupt)?;
            let base = record.base.map(WorkRecord::read);
            IndexSet { last_id: record.last_id, base, ..IndexSet::default() }
        }
        None => IndexSet { base: Some(Work::filling()), ..IndexSet::default() },
    };
    let all = |range| snapshot.scan(range, ScanDirection::Forward, usize::MAX);
    for (_, record) in all(keys.composite_records()).await? {
        let composite = read_composite(record)?;
        let collection_id = composite.definition.collection_id.clone();
        set.collections.entry(collection_id).or_default().composites.push(Arc::new(composite));
    }
    for (_, record) in all(keys.setting_records()).await? {
        let (collection_id, setting) = read_setting(record)?;
        set.collections.entry(collection_id).or_default().settings.push(setting);
    }
    set.collections.values_mut().for_each(super::set::CollectionIndexes::settle_rules);
    Ok(set)
}

/// What a new database begins with.
pub(in crate::engine) fn fresh(keys: Keys) -> (crate::store::Key, Bytes) {
    (keys.index_state(), StateRecord::default().encode_to_vec().into())
}

impl IndexSet {
    pub(super) fn state_write(&self, keys: Keys) -> KeyWrite {
        let base = self.base.as_ref().map(WorkRecord::new);
        let record = StateRecord { last_id: self.last_id, base };
        (keys.index_state(), Some(record.encode_to_vec().into()))
    }
}

impl Composite {
    pub(super) fn write(&self, keys: Keys) -> KeyWrite {
        let definition = &self.definition;
        let fields = definition.fields.iter().map(|field| FieldRecord {
            path: field.field.to_string(),
            mode: match field.mode {
                IndexMode::Ascending => 0,
                IndexMode::Descending => 1,
                IndexMode::Contains => 2,
            },
        });
        let record = CompositeRecord {
            id: self.id,
            collection_id: definition.collection_id.clone(),
            is_group: definition.scope == IndexScope::Group,
            fields: fields.collect(),
            work: self.work.as_ref().map(WorkRecord::new),
        };
        (keys.composite_record(self.id), Some(record.encode_to_vec().into()))
    }
}

impl FieldSetting {
    pub(super) fn write(&self, keys: Keys, collection_id: &str) -> KeyWrite {
        let record = SettingRecord {
            collection_id: collection_id.to_owned(),
            prefix: self.prefix.as_ref().map(FieldPath::to_string),
            rule: match self.rule {
                Rule::Inherit => 0,
                Rule::On => 1,
                Rule::Off => 2,
            },
            work: self.work.as_ref().map(WorkRecord::new),
        };
        (self.key(keys, collection_id), Some(record.encode_to_vec().into()))
    }

    pub(super) fn key(&self, keys: Keys, collection_id: &str) -> crate::store::Key {
        keys.setting_record(collection_id, self.prefix.as_ref())
    }
}

impl Work {
    pub(super) fn filling() -> Work {
        Work { phase: Phase::Fill, ..Work::default() }
    }
}

impl WorkRecord {
    fn new(work: &Work) -> WorkRecord {
        WorkRecord {
            fills: work.phase == Phase::Fill,
            collection: work.cursor.collection.clone(),
            after: work.cursor.after.clone(),
            done: work.progress.done,
            about: work.progress.about,
        }
    }

    fn read(self) -> Work {
        Work {
            phase: if self.fills { Phase::Fill } else { Phase::Clear },
            cursor: Cursor { collection: self.collection, after: self.after },
            progress: Progress { done: self.done, about: self.about },
        }
    }
}

fn read_composite(record: Bytes) -> Result<Composite, EngineError> {
    let record = CompositeRecord::decode(record).map_err(EngineError::corrupt)?;
    let field = |field: FieldRecord| -> Result<IndexField, EngineError> {
        Ok(IndexField {
            field: FieldPath::parse(&field.path).map_err(EngineError::corrupt)?,
            mode: match field.mode {
                0 => IndexMode::Ascending,
                1 => IndexMode::Descending,
                2 => IndexMode::Contains,
                other => return Err(EngineError::corrupt(format!("an index mode {other}"))),
            },
        })
    };
    let definition = IndexDefinition {
        collection_id: record.collection_id,
        scope: if record.is_group { IndexScope::Group } else { IndexScope::Collection },
        fields: record.fields.into_iter().map(field).collect::<Result<_, _>>()?,
    };
    definition.validate().map_err(EngineError::corrupt)?;
    Ok(Composite { id: record.id, definition, work: record.work.map(WorkRecord::read) })
}

fn read_setting(record: Bytes) -> Result<(String, FieldSetting), EngineError> {
    let record = SettingRecord::decode(record).map_err(EngineError::corrupt)?;
    let prefix = record.prefix.map(|path| FieldPath::parse(&path)).transpose();
    let setting = FieldSetting {
        prefix: prefix.map_err(|error: ModelError| EngineError::corrupt(error))?,
        rule: match record.rule {
            0 => Rule::Inherit,
            1 => Rule::On,
            2 => Rule::Off,
            other => return Err(EngineError::corrupt(format!("a rule {other}"))),
        },
        on: true,
        work: record.work.map(WorkRecord::read),
    };
    Ok((record.collection_id, setting))
}
