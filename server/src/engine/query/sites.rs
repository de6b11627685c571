//! The collections of a group, read as they are needed.

use std::collections::HashSet;

use tidemark_protocol::model::{CollectionPath, Direction, DocumentPath, Query, key};

use super::context::Context;
use crate::engine::error::EngineError;
use crate::engine::keys::Keys;
use crate::store::{KeyRange, ScanDirection};

/// Collections read at a time, at first and at most.
const ROWS: (usize, usize) = (16, 1_024);

/// The rest of a group's collections, in the order of paths or in its reverse.
pub(super) struct Sites {
    collection_id: String,
    range: KeyRange,
    direction: Direction,
    waiting: std::collections::VecDeque<CollectionPath>,
    /// Those given out that have others of the group within or around them.
    nested: HashSet<CollectionPath>,
    rows: usize,
    ended: bool,
}

impl Sites {
    pub(super) fn new(keys: Keys, query: &Query, direction: Direction) -> Sites {
        let mut range = keys.collections_of(&query.collection_id);
        if let Some(parent) = &query.parent {
            let mut prefix = range.start;
            parent
                .segments()
                .for_each(|segment| key::encode_bytes(segment.as_bytes(), &mut prefix));
            range = KeyRange::prefix(&prefix);
        }
        Sites {
            collection_id: query.collection_id.clone(),
            range,
            direction,
            waiting: std::collections::VecDeque::new(),
            nested: HashSet::new(),
            rows: ROWS.0,
            ended: false,
        }
    }

    async fn read(&mut self, cx: &mut Context<'_>) -> Result<(), EngineError> {
        if self.ended || !self.waiting.is_empty() {
            return Ok(());
        }
        cx.breathe().await?;
        let direction = match self.direction {
            Direction::Ascending => ScanDirection::Forward,
            Direction::Descending => ScanDirection::Backward,
        };
        let rows = cx.view.snapshot.scan(self.range.clone(), direction, self.rows).await?;
        cx.cost.entries += rows.len() as u64;
        self.ended = rows.len() < self.rows;
        self.rows = (self.rows * 4).min(ROWS.1);
        if let Some((last, _)) = rows.last() {
            self.range.go_past(last, direction);
        }
        for (key, _) in rows {
            self.waiting.push_back(Keys::collection_of(&key)?);
        }
        Ok(())
    }

    /// The next collections. With the first document of those before: none if all of theirs come
    /// after it in the order of names.
    pub(super) async fn next(
        &mut self,
        cx: &mut Context<'_>,
        before: Option<&DocumentPath>,
    ) -> Result<Vec<CollectionPath>, EngineError> {
        loop {
            self.read(cx).await?;
            let Some(next) = self.waiting.front() else { return Ok(vec![]) };
            if before.is_some_and(|document| self.comes_after(next, document)) {
                return Ok(vec![]);
            }
            let Some(next) = self.waiting.pop_front() else { return Ok(vec![]) };
            let mut opened: Vec<CollectionPath> = self.around(&next);
            opened.push(next);
            opened.retain(|collection| !self.nested.contains(collection));
            if opened.len() > 1 {
                self.nested.extend(opened.iter().cloned());
            }
            if !opened.is_empty() {
                return Ok(opened);
            }
        }
    }

    /// Whether all documents of the collection come after the document.
    fn comes_after(&self, collection: &CollectionPath, document: &DocumentPath) -> bool {
        let place = document.segments().cmp(collection.segments());
        match self.direction {
            Direction::Ascending => place.is_lt(),
            Direction::Descending => place.is_gt() && !document.is_below(collection.as_str()),
        }
    }

    /// The collections of the group that this one is nested in. Backward they are listed after it,
    /// though some of their documents come before its own.
    fn around(&self, collection: &CollectionPath) -> Vec<CollectionPath> {
        let mut around = Vec::new();
        if self.direction == Direction::Ascending {
            return around;
        }
        let mut outer = collection.parent();
        while let Some(document) = outer {
            let parent = document.parent();
            outer = parent.parent();
            if parent.id() == self.collection_id {
                around.push(parent);
            }
        }
        around
    }
}
