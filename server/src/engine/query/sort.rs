//! Sorts documents, also very many, without keeping a thread from others.

use std::sync::Arc;

use super::context::Context;
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;

/// Documents sorted or merged before others have the thread.
const PIECE: usize = 4_096;

type Rows = Vec<Arc<Stored>>;

/// The documents in the query's order, as many as are wanted.
pub(super) async fn sorted(mut rows: Rows, cx: &Context<'_>) -> Result<Rows, EngineError> {
    let mut pieces: Vec<Rows> = Vec::new();
    while rows.len() > PIECE {
        let mut piece = rows.split_off(rows.len() - PIECE);
        sort_and_cut(&mut piece, cx);
        pieces.push(piece);
        cx.breathe().await?;
    }
    sort_and_cut(&mut rows, cx);
    pieces.push(rows);
    while pieces.len() > 1 {
        let mut merged = Vec::with_capacity(pieces.len().div_ceil(2));
        let mut rest = pieces.into_iter();
        while let Some(left) = rest.next() {
            match rest.next() {
                Some(right) => merged.push(merge(left, right, cx).await?),
                None => merged.push(left),
            }
        }
        pieces = merged;
    }
    Ok(pieces.pop().unwrap_or_default())
}

fn sort_and_cut(rows: &mut Rows, cx: &Context<'_>) {
    rows.sort_by(|a, b| cx.matcher.compare(&a.document, &b.document));
    rows.truncate(cx.take);
}

async fn merge(left: Rows, right: Rows, cx: &Context<'_>) -> Result<Rows, EngineError> {
    let count = (left.len() + right.len()).min(cx.take);
    let mut out = Vec::with_capacity(count);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while out.len() < count {
        let is_left = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => cx.matcher.compare(&a.document, &b.document).is_le(),
            (a, _) => a.is_some(),
        };
        out.extend(if is_left { left.next() } else { right.next() });
        if out.len().is_multiple_of(PIECE) {
            cx.breathe().await?;
        }
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tidemark_protocol::model::{Code, Document, DocumentPath, Fields, Matcher, Query, Version};

    use super::*;
    use crate::engine::index::IndexSet;
    use crate::engine::keys::Keys;
    use crate::engine::query::context::{Cost, View};
    use crate::store;

    fn document(at: usize) -> Arc<Stored> {
        let path = DocumentPath::parse(&format!("c/{:06}", at * 7_919 % 20_011)).unwrap();
        let (create_version, update_version) = (Version(1), Version(1));
        Stored::encode(Document {
            path,
            fields: Fields::new(),
            create_version,
            update_version,
            merge: Default::default(),
        })
    }

    async fn sort(count: usize, take: usize, cancelled: bool) -> Result<Rows, EngineError> {
        let snapshot = store::open("mem:").await.unwrap().snapshot().await.unwrap();
        let (keys, indexes) = (Keys::new(1), IndexSet::default());
        let view = View { snapshot: &*snapshot, keys, indexes: &indexes };
        let collection = DocumentPath::parse("c/d").unwrap().parent();
        let matcher = Matcher::new(Query::collection(&collection));
        let (cost, cancelled) = (Cost::default(), || cancelled);
        let cx =
            Context { view, matcher: &matcher, ordered: true, take, cancelled: &cancelled, cost };
        sorted((0..count).map(document).collect(), &cx).await
    }

    #[tokio::test]
    async fn many_are_sorted_and_cut() {
        for (count, take) in [(0, 5), (10, 5), (20_000, 20_000), (20_000, 9_000), (8_192, 1)] {
            let sorted = sort(count, take, false).await.unwrap();
            assert_eq!(sorted.len(), count.min(take));
            let mut expected: Vec<_> =
                (0..count).map(|at| document(at).document.path.clone()).collect();
            expected.sort();
            assert!(sorted.iter().map(|row| &row.document.path).eq(&expected[..sorted.len()]));
        }
    }

    #[tokio::test]
    async fn a_sort_that_is_not_wanted_ends() {
        let error = sort(20_000, 20_000, true).await.unwrap_err();
        assert_eq!(error.status().code, Code::Cancelled);
    }
}
