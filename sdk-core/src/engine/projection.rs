//! A listener's own cut of a result: the target is shared with those who want whole documents, so what
//! one listener wants less of is left out here. Driven by `emit`; the documents it is made of are whole.

use std::sync::Arc;

use tidemark_protocol::model::FieldPath;

use super::view::Step;
use crate::snapshot::{Content, DocumentSnapshot};

/// The result with some fields only, kept beside the view's.
pub(crate) struct Projection {
    fields: Vec<FieldPath>,
    rows: Arc<Vec<DocumentSnapshot>>,
    /// Of the rows, when they were made.
    from_cache: bool,
}

impl Projection {
    pub(crate) fn new(fields: Vec<FieldPath>) -> Projection {
        Projection { fields, rows: Arc::default(), from_cache: true }
    }

    /// Makes the rows of a whole result.
    pub(crate) fn start(&mut self, whole: &[DocumentSnapshot], from_cache: bool) {
        self.rows = Arc::new(whole.iter().map(|row| cut(row, &self.fields)).collect());
        self.from_cache = from_cache;
    }

    /// Follows the steps to the next result, and tells them in its own documents. What steps do not
    /// tell of is made again from `whole`.
    pub(crate) fn follow(
        &mut self,
        steps: &[Step],
        from_cache: bool,
        whole: impl FnOnce() -> Arc<Vec<DocumentSnapshot>>,
    ) -> Vec<Step> {
        let mut told = Vec::with_capacity(steps.len());
        for (change, metadata_only) in steps {
            let mut change = change.clone();
            change.document = cut(&change.document, &self.fields);
            told.push((change, *metadata_only));
        }
        if from_cache != self.from_cache {
            self.start(&whole(), from_cache);
            return told;
        }
        if !told.is_empty() {
            let rows = Arc::make_mut(&mut self.rows);
            for (change, _) in &told {
                if let Some(index) = change.old_index {
                    rows.remove(index);
                }
                if let Some(index) = change.new_index {
                    rows.insert(index, change.document.clone());
                }
            }
        }
        told
    }

    pub(crate) fn shown(&self) -> Arc<Vec<DocumentSnapshot>> {
        self.rows.clone()
    }
}

/// The document with these fields only.
pub(crate) fn cut(row: &DocumentSnapshot, fields: &[FieldPath]) -> DocumentSnapshot {
    match &row.content {
        Content::Exists(document) => {
            DocumentSnapshot::existing(Arc::new(document.projected(fields)), row.metadata)
        }
        Content::Missing(_) => row.clone(),
    }
}
