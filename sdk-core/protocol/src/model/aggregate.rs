//! Aggregates over the documents of a query: what is asked, and the running state that answers it.
//! Documents can be added and removed in any order: sums are exact inside and rounded once.

use super::document::Document;
use super::exact_sum::ExactSum;
use super::field_path::FieldPath;
use super::query::{Order, Query};
use super::value::Value;

/// Values computed over the documents of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateQuery {
    /// The documents.
    pub query: Query,
    /// What to compute; the values come in this order.
    pub aggregations: Vec<Aggregation>,
}

/// One value to compute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregation {
    /// What the value is called.
    pub alias: String,
    /// How it is computed.
    pub kind: AggregationKind,
}

/// How a value is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AggregationKind {
    /// How many documents; counting stops at `up_to`.
    Count {
        /// The most that is counted.
        up_to: Option<u64>,
    },
    /// The sum of a field's numbers.
    Sum(FieldPath),
    /// Their average; null if there are none.
    Average(FieldPath),
}

impl AggregateQuery {
    /// The query whose documents are aggregated: only those that have every aggregated field, in the
    /// order of these fields after its own. (Firestore orders by them, which matters with a limit.)
    pub fn matched(&self) -> Query {
        let mut fields: Vec<&FieldPath> =
            self.aggregations.iter().filter_map(|aggregation| aggregation.kind.field()).collect();
        if fields.is_empty() {
            return self.query.clone();
        }
        fields.sort();
        let mut order = self.query.full_order();
        let name = order.pop().expect("every order ends with the name");
        for field in fields {
            if !order.iter().any(|clause| clause.field == *field) {
                order.push(Order { field: field.clone(), direction: name.direction });
            }
        }
        Query { order_by: order, ..self.query.clone() }
    }
}

impl AggregationKind {
    /// The field that is aggregated.
    pub fn field(&self) -> Option<&FieldPath> {
        match self {
            AggregationKind::Count { .. } => None,
            AggregationKind::Sum(field) | AggregationKind::Average(field) => Some(field),
        }
    }
}

/// The numbers of one field.
#[derive(Clone, Debug, Default, PartialEq)]
struct Numbers {
    /// How many there are.
    count: u64,
    /// How many of them are doubles.
    doubles: u64,
    sum: ExactSum,
}

/// One running value.
#[derive(Clone, Debug, PartialEq)]
enum Running {
    Count { up_to: Option<u64> },
    Sum(FieldPath, Box<Numbers>),
    Average(FieldPath, Box<Numbers>),
}

/// The aggregates of a set of documents.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateState {
    documents: u64,
    running: Vec<Running>,
}

impl AggregateState {
    /// Of no documents.
    pub fn new(aggregations: &[Aggregation]) -> AggregateState {
        let running = |aggregation: &Aggregation| match &aggregation.kind {
            AggregationKind::Count { up_to } => Running::Count { up_to: *up_to },
            AggregationKind::Sum(field) => Running::Sum(field.clone(), Box::default()),
            AggregationKind::Average(field) => Running::Average(field.clone(), Box::default()),
        };
        AggregateState { documents: 0, running: aggregations.iter().map(running).collect() }
    }

    /// How many documents there are.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Takes a document in.
    pub fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.apply(document, true);
    }

    /// Takes a document out that was taken in.
    pub fn remove(&mut self, document: &Document) {
        self.documents = self.documents.saturating_sub(1);
        self.apply(document, false);
    }

    /// Counts documents whose fields do not matter: for counts only.
    pub fn add_count(&mut self, documents: u64) {
        self.documents += documents;
    }

    fn apply(&mut self, document: &Document, add: bool) {
        for running in &mut self.running {
            match running {
                Running::Count { .. } => {}
                Running::Sum(field, numbers) | Running::Average(field, numbers) => {
                    if let Some(value) = document.get(field) {
                        numbers.apply(value, add);
                    }
                }
            }
        }
    }

    /// The values, in the order of the aggregations.
    pub fn values(&self) -> Vec<Value> {
        self.running
            .iter()
            .map(|running| match running {
                Running::Count { up_to } => {
                    let count = up_to.map_or(self.documents, |up_to| up_to.min(self.documents));
                    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
                }
                Running::Sum(_, numbers) => numbers.sum(),
                Running::Average(_, numbers) => numbers.average(),
            })
            .collect()
    }
}

impl Numbers {
    fn apply(&mut self, value: &Value, add: bool) {
        let double = match value {
            Value::Integer(integer) => {
                self.sum.add_integer(if add {
                    i128::from(*integer)
                } else {
                    -i128::from(*integer)
                });
                0
            }
            Value::Double(double) => {
                if add {
                    self.sum.add_double(*double);
                } else {
                    self.sum.remove_double(*double);
                }
                1
            }
            _ => return,
        };
        if add {
            self.count += 1;
            self.doubles += double;
        } else {
            self.count = self.count.saturating_sub(1);
            self.doubles = self.doubles.saturating_sub(double);
        }
    }

    /// An integer if all are integers and it fits, else a double.
    fn sum(&self) -> Value {
        match self.sum.as_integer() {
            Some(integer) if self.doubles == 0 => Value::Integer(integer),
            Some(_) | None => Value::Double(self.sum.as_double()),
        }
    }

    fn average(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        Value::Double(self.sum.as_double() / self.count as f64)
    }
}
