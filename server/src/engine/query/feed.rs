//! Reads the keys of one scan in batches, and tells which documents they stand for.

use std::collections::VecDeque;

use bytes::Bytes;

use super::context::Context;
use super::plan::{Scan, Source};
use crate::engine::error::EngineError;
use crate::engine::index::entry_name;
use crate::store::{Key, KeyRange, ScanDirection};

/// The rest of a scan.
pub(super) struct Feed {
    source: Source,
    index: Option<String>,
    ranges: VecDeque<KeyRange>,
    direction: ScanDirection,
}

/// A document found by an index, not read yet.
pub(super) struct Found {
    pub(super) key: Key,
    /// The indexed values were cut off: entries next to each other are in no order.
    pub(super) truncated: bool,
}

/// A batch of documents, read or not.
pub(super) enum Batch {
    Documents(Vec<Bytes>),
    Found(Vec<Found>),
}

impl Feed {
    pub(super) fn new(scan: Scan) -> Feed {
        let Scan { source, index, ranges, direction, .. } = scan;
        Feed { source, index, ranges: ranges.into(), direction }
    }

    /// Whether all has been read.
    pub(super) fn is_done(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn is_of_documents(&self) -> bool {
        self.source == Source::Documents
    }

    pub(super) fn direction(&self) -> ScanDirection {
        self.direction
    }

    /// Whether the names in its keys are inverted.
    pub(super) fn inverted_names(&self) -> bool {
        match self.source {
            Source::Documents => false,
            Source::Ids { inverted, .. } | Source::Paths { inverted, .. } => inverted,
        }
    }

    /// Up to so many of the next rows.
    pub(super) async fn rows(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, EngineError> {
        cx.breathe().await?;
        if let Some(index) = &self.index
            && !cx.cost.indexes.contains(index)
        {
            cx.cost.indexes.insert(index.clone());
        }
        let mut rows = Vec::new();
        while rows.len() < limit {
            let Some(range) = self.ranges.front_mut() else { break };
            if range.is_empty() {
                self.ranges.pop_front();
                continue;
            }
            let wanted = limit - rows.len();
            let found = cx.view.snapshot.scan(range.clone(), self.direction, wanted).await?;
            if let Some((last, _)) = found.last() {
                range.go_past(last, self.direction);
            }
            if found.len() < wanted {
                self.ranges.pop_front();
            }
            rows.extend(found);
        }
        cx.cost.entries += rows.len() as u64;
        Ok(rows)
    }

    /// Leaves out what comes before a key.
    pub(super) fn seek(&mut self, key: &[u8]) {
        while let Some(range) = self.ranges.front_mut() {
            match self.direction {
                ScanDirection::Forward => {
                    if range.start.as_slice() < key {
                        range.start = key.to_vec();
                    }
                }
                ScanDirection::Backward => {
                    let mut end = key.to_vec();
                    end.push(0);
                    if range.end > end {
                        range.end = end;
                    }
                }
            }
            if !range.is_empty() {
                return;
            }
            self.ranges.pop_front();
        }
    }

    /// Up to so many of the next documents.
    pub(super) async fn batch(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Result<Batch, EngineError> {
        let rows = self.rows(cx, limit).await?;
        if self.source == Source::Documents {
            return Ok(Batch::Documents(rows.into_iter().map(|(_, value)| value).collect()));
        }
        let mut found = Vec::with_capacity(rows.len());
        for (key, value) in &rows {
            found.extend(self.found(cx, key, value)?);
        }
        Ok(Batch::Found(found))
    }

    /// The document of an entry; none if it is not where documents are looked for.
    fn found(
        &self,
        cx: &Context<'_>,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Found>, EngineError> {
        let name = entry_name(key, value)?;
        let truncated = name.truncated;
        let key = match &self.source {
            Source::Documents => key.to_vec(),
            Source::Ids { collection, inverted } => {
                name.document_key(cx.view.keys, collection, *inverted)
            }
            Source::Paths { parent, inverted } => {
                let path = name.group_document(*inverted)?;
                if parent.as_ref().is_some_and(|parent| !path.is_below(parent.as_str())) {
                    return Ok(None);
                }
                cx.view.keys.document(&path)
            }
        };
        Ok(Some(Found { key, truncated }))
    }

    /// The name in an entry of a list, as it stands there, and the document it is of.
    pub(super) fn named(
        &self,
        cx: &Context<'_>,
        key: &[u8],
        value: &[u8],
    ) -> Result<Named, EngineError> {
        let inverted = self.inverted_names();
        let name = entry_name(key, value)?;
        Ok(Named {
            name: name.upright(inverted).into_owned(),
            before: name.before.to_vec(),
            found: self.found(cx, key, value)?,
        })
    }

    /// The key of the entry that a name would have in this list.
    pub(super) fn key_of(&self, before: &[u8], name: &[u8]) -> Key {
        let inverted = self.inverted_names();
        let mut key = before.to_vec();
        key.extend(name.iter().map(|byte| if inverted { !byte } else { *byte }));
        key
    }
}

/// An entry of a list.
pub(super) struct Named {
    /// In the order of names.
    pub(super) name: Vec<u8>,
    /// What all keys of the list begin with.
    pub(super) before: Vec<u8>,
    pub(super) found: Option<Found>,
}
