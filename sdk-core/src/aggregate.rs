//! Aggregates: values computed over the documents of a query, asked for once or listened to. The
//! server computes them; this states what is asked and carries what was answered.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tidemark_protocol::model::{
    AggregateQuery, Aggregation, AggregationKind, FieldPath, Target, Value, Version,
};
use tidemark_protocol::wire::server::Explanation;

use crate::client::Client;
use crate::engine::Source;
use crate::error::Error;
use crate::query::listenable;
use crate::queue::SnapshotQueue;
use crate::snapshot::SnapshotMetadata;
use crate::subscription::{ListenOptions, Listener};

/// One value to compute over the documents of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    aggregation: Result<Aggregation, Error>,
}

impl Aggregate {
    fn new(alias: String, kind: AggregationKind) -> Aggregate {
        Aggregate { aggregation: Ok(Aggregation { alias, kind }) }
    }

    fn of_field(what: &str, field: &str, kind: fn(FieldPath) -> AggregationKind) -> Aggregate {
        match FieldPath::parse(field) {
            Ok(path) => Aggregate::new(format!("{what}({path})"), kind(path)),
            Err(error) => Aggregate { aggregation: Err(error.into()) },
        }
    }

    /// How many documents there are, called `count`.
    pub fn count() -> Aggregate {
        Aggregate::new("count".to_owned(), AggregationKind::Count { up_to: None })
    }

    /// How many documents there are, called `count`; counting stops here, which costs less.
    pub fn count_up_to(most: u64) -> Aggregate {
        Aggregate::new("count".to_owned(), AggregationKind::Count { up_to: Some(most) })
    }

    /// The sum of a field's numbers, called `sum(field)`: an integer if all of them are integers and it
    /// fits, else a double; 0 if there are none. Like an order, it leaves out documents without the
    /// field, for all values of the query.
    pub fn sum(field: &str) -> Aggregate {
        Aggregate::of_field("sum", field, AggregationKind::Sum)
    }

    /// The average of a field's numbers, called `average(field)`: a double, or null if there are none.
    /// Like an order, it leaves out documents without the field, for all values of the query.
    pub fn average(field: &str) -> Aggregate {
        Aggregate::of_field("average", field, AggregationKind::Average)
    }

    /// Called so in the answer; no two of one query may be called the same.
    #[must_use]
    pub fn called(mut self, alias: impl Into<String>) -> Aggregate {
        if let Ok(aggregation) = &mut self.aggregation {
            aggregation.alias = alias.into();
        }
        self
    }

    pub(crate) fn into_model(self) -> Result<Aggregation, Error> {
        self.aggregation
    }
}

/// What is to be computed over the documents of a query. What is wrong with it is told by
/// [`get`](AggregateReference::get) or by the listener.
///
/// The values are the server's. This client's pending writes are counted in where that is exact: in counts
/// and in sums of integers of queries without a limit or an offset, for documents whose state at the server
/// this client knows. Where they are not, the snapshot's metadata still says that writes are pending. Without
/// a server the values are the last known, or else computed over the cache.
#[derive(Clone)]
pub struct AggregateReference {
    client: Client,
    aggregate: Result<AggregateQuery, Error>,
}

impl fmt::Debug for AggregateReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AggregateReference").field(&self.aggregate).finish()
    }
}

impl AggregateReference {
    pub(crate) fn new(client: Client, aggregate: Result<AggregateQuery, Error>) -> Self {
        AggregateReference { client, aggregate }
    }

    fn validated(&self) -> Result<AggregateQuery, Error> {
        let aggregate = self.aggregate.clone()?;
        aggregate.validate()?;
        Ok(aggregate)
    }

    /// The values as the server has them now, without pending writes; while there is no connection,
    /// computed over the cache, with them. `unavailable` when the request's time is over without an answer.
    pub async fn get(&self) -> Result<AggregateSnapshot, Error> {
        self.get_from(Source::Default).await
    }

    /// As [`get`](Self::get), from where the caller says.
    pub async fn get_from(&self, source: Source) -> Result<AggregateSnapshot, Error> {
        Ok(self.client.run_aggregate(self.validated()?, false, source).await?.0)
    }

    /// The values, and how the server came by them: which indexes it used, what it read, and the index
    /// that would help.
    pub async fn explain(&self) -> Result<(AggregateSnapshot, Explanation), Error> {
        self.client.run_aggregate(self.validated()?, true, Source::Server).await
    }

    /// The values now and after every change of theirs.
    pub fn listen(&self) -> AggregateListener {
        self.listen_with(ListenOptions::default())
    }

    /// As [`listen`](Self::listen), with options.
    pub fn listen_with(&self, options: ListenOptions) -> AggregateListener {
        let aggregate = self.validated().and_then(|aggregate| {
            listenable(&aggregate.query)?;
            Ok(Target::Aggregate(aggregate))
        });
        let queue = Arc::new(SnapshotQueue::default());
        let listener = self.client.listen_aggregate(aggregate, options, queue.clone());
        AggregateListener { _listener: listener, queue }
    }
}

/// The values computed over the documents of a query at one moment.
#[derive(Clone, Debug)]
pub struct AggregateSnapshot {
    values: Arc<[(String, Value)]>,
    metadata: SnapshotMetadata,
    version: Version,
}

impl AggregateSnapshot {
    pub(crate) fn new(
        aggregations: &[Aggregation],
        values: &[Value],
        metadata: SnapshotMetadata,
        version: Version,
    ) -> AggregateSnapshot {
        let named = |(aggregation, value): (&Aggregation, &Value)| {
            (aggregation.alias.clone(), value.clone())
        };
        let values = aggregations.iter().zip(values).map(named).collect();
        AggregateSnapshot { values, metadata, version }
    }

    /// The values and what they are called, in the order they were asked for.
    pub fn values(&self) -> &[(String, Value)] {
        &self.values
    }

    /// The value that is called so; none if none is.
    pub fn get(&self, alias: &str) -> Option<&Value> {
        self.values.iter().find(|(name, _)| name == alias).map(|(_, value)| value)
    }

    /// The first value: the one of `count`, `sum` or `average` of a query.
    pub fn value(&self) -> &Value {
        self.values.first().map_or(&Value::Null, |(_, value)| value)
    }

    /// The value called `count`; none if there is none.
    pub fn count(&self) -> Option<u64> {
        match self.get("count") {
            Some(Value::Integer(count)) => u64::try_from(*count).ok(),
            Some(_) | None => None,
        }
    }

    /// What the server has confirmed: `from_cache` while it is away, `has_pending_writes` while there are
    /// writes that could change the values, counted in or not.
    pub fn metadata(&self) -> SnapshotMetadata {
        self.metadata
    }

    /// The consistent point they are of: everything committed up to this version, and nothing later
    /// except this client's own pending writes. [`Version::NONE`] when they are computed over the cache.
    pub fn version(&self) -> Version {
        self.version
    }
}

/// Aggregates, now and whenever they change. An error is the last item. Dropping it ends the
/// listening. When the app is slow, values that came in between are left out.
#[must_use = "a listener does nothing unless it is polled"]
pub struct AggregateListener {
    /// Ends the listening when dropped.
    _listener: Listener,
    queue: Arc<SnapshotQueue<AggregateSnapshot>>,
}

impl Stream for AggregateListener {
    type Item = Result<AggregateSnapshot, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll(context)
    }
}
