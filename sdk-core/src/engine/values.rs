//! What listeners to aggregates are told: the server's values with this client's pending writes counted in
//! where that is exact; without a server, the last known ones, or what the cache amounts to. Part of
//! [`Engine`](super::Engine).

use std::sync::Arc;

use tidemark_protocol::model::{
    AggregateQuery, Aggregation, AggregationKind, Document, FieldPath, Matcher, Target, TargetId,
    Value, Version,
};

use super::{Action, Engine};
use crate::aggregate::AggregateSnapshot;
use crate::cache::CacheError;
use crate::snapshot::SnapshotMetadata;

/// A document of the aggregated query, as it is counted in a value and as it should be.
struct Moved {
    before: Option<Arc<Document>>,
    after: Option<Arc<Document>>,
}

impl Engine {
    /// Tells an aggregate's listeners what they want to know.
    pub(super) fn emit_values(&mut self, id: TargetId) {
        let Some((values, metadata)) = self.present_values(id) else { return };
        let from_server = self.targets.by_id.get(&id).is_some_and(|it| it.values.is_some());
        let version = if from_server { self.version_of(id) } else { Version::NONE };
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        let Target::Aggregate(aggregate) = &listened.target else { return };
        let changed = listened.told.as_ref() != Some(&values);
        let metadata_changed = metadata != listened.metadata;
        for listener in &listened.listeners {
            let Some(state) = self.targets.listeners.get_mut(listener) else { continue };
            let started = std::mem::replace(&mut state.started, true);
            if !started || changed || (state.include_metadata && metadata_changed) {
                let snapshot =
                    AggregateSnapshot::new(&aggregate.aggregations, &values, metadata, version);
                self.actions.push(Action::Aggregated { listener: *listener, snapshot });
            }
        }
        listened.metadata = metadata;
        listened.told = Some(values);
    }

    /// What there is to tell now, if anything.
    fn present_values(&mut self, id: TargetId) -> Option<(Arc<[Value]>, SnapshotMetadata)> {
        let offline = self.connection.is_offline();
        let listened = self.targets.by_id.get(&id)?;
        let Target::Aggregate(aggregate) = &listened.target else { return None };
        let (aggregate, from_cache) = (aggregate.clone(), !listened.current);
        // The server's values are about to come; what they contain is not known before.
        if self.connection.online().is_some() && !listened.attached {
            return None;
        }
        if from_cache && !offline {
            return None;
        }
        let computed = match listened.values.clone() {
            Some(values) => {
                let version = self.version_of(id);
                self.counted_in(&aggregate, values, version)
            }
            None => self.local_values(&aggregate).map(|(values, pending)| (values.into(), pending)),
        };
        match computed {
            Ok((values, has_pending_writes)) => {
                Some((values, SnapshotMetadata { from_cache, has_pending_writes }))
            }
            Err(error) => {
                tracing::warn!(%error, "an aggregate could not be computed over the cache");
                None
            }
        }
    }

    /// The server's values with pending writes counted in, as far as that is exact; and whether there are
    /// such writes.
    fn counted_in(
        &mut self,
        aggregate: &AggregateQuery,
        values: Arc<[Value]>,
        version: Version,
    ) -> Result<(Arc<[Value]>, bool), CacheError> {
        let paths: Vec<_> = self
            .documents
            .pending_paths()
            .filter(|path| aggregate.query.is_over(path.as_str()))
            .cloned()
            .collect();
        if paths.is_empty() {
            return Ok((values, false));
        }
        let matcher = Matcher::new(aggregate.matched());
        let mut moved = Vec::new();
        let mut has_pending = false;
        for path in &paths {
            let base = match self.base(path)? {
                None if self.documents.is_created(path, &self.outbox) => Some((None, version)),
                base => base,
            };
            let Some((before, at)) = base else {
                has_pending |= self.documents.is_overlaid(path, &self.outbox);
                continue;
            };
            // The values contain what was committed before them, whether or not the document does.
            let at = at.max(version);
            let (after, pending) = self.documents.laid_over(path, before.clone(), at, &self.outbox);
            if !pending {
                continue;
            }
            let counts = |document: &Arc<Document>| matcher.matches(document);
            let (before, after) = (before.filter(counts), after.filter(counts));
            if before.is_some() || after.is_some() {
                has_pending = true;
                moved.push(Moved { before, after });
            }
        }
        // Which documents a window has, only the server knows.
        if moved.is_empty() || aggregate.query.limit.is_some() || aggregate.query.offset > 0 {
            return Ok((values, has_pending));
        }
        let each = aggregate.aggregations.iter().zip(values.iter());
        let values = each.map(|(aggregation, value)| {
            adjusted(aggregation, value, &moved).unwrap_or_else(|| value.clone())
        });
        Ok((values.collect(), has_pending))
    }
}

/// The value after the moves; none where the value does not tell enough.
fn adjusted(aggregation: &Aggregation, value: &Value, moved: &[Moved]) -> Option<Value> {
    let Value::Integer(value) = value else { return None };
    let whole = i128::from(*value);
    let sum = match &aggregation.kind {
        AggregationKind::Count { up_to } => {
            let most = up_to.map_or(i128::MAX, i128::from);
            // Of what is beyond it, the value tells nothing.
            if whole >= most {
                return None;
            }
            let counted = moved
                .iter()
                .map(|it| i128::from(it.after.is_some()) - i128::from(it.before.is_some()));
            (whole + counted.sum::<i128>()).clamp(0, most)
        }
        AggregationKind::Sum(field) => {
            let mut sum = whole;
            for Moved { before, after } in moved {
                sum += integer(after.as_deref(), field)? - integer(before.as_deref(), field)?;
            }
            sum
        }
        // How many numbers it is of is not known.
        AggregationKind::Average(_) => return None,
    };
    i64::try_from(sum).ok().map(Value::Integer)
}

/// What a document adds to a sum of integers; none if that makes it no such sum.
fn integer(document: Option<&Document>, field: &FieldPath) -> Option<i128> {
    match document.and_then(|document| document.get(field)) {
        Some(Value::Integer(integer)) => Some(i128::from(*integer)),
        Some(Value::Double(_)) => None,
        Some(_) | None => Some(0),
    }
}
