//! The documents, writes and targets that the numbers of a plan stand for.

use tidemark_protocol::model::{
    AggregateQuery, Aggregation, AggregationKind, CollectionPath, Cursor, Direction, DocumentPath,
    FieldPath, FieldTransform, Fields, Operator, Precondition, Query, Target, Transform, Value,
    Write, WriteOp,
};

use crate::plan::{Edit, Op};

/// How many documents there are.
pub const DOCUMENTS: u8 = 20;
/// How many fields of a document can be named.
pub const FIELDS: u8 = 5;
/// How many shapes a target can have.
pub const SHAPES: u8 = 16;
/// How many listeners a client can have.
pub const SLOTS: u8 = 5;

/// A document by its number.
pub fn path(document: u8) -> DocumentPath {
    let text = match document % DOCUMENTS {
        at @ 0..10 => format!("c/{at}"),
        at @ 10..13 => format!("p/1/c/{at}"),
        at @ 13..16 => format!("p/2/c/{at}"),
        at => format!("d/{at}"),
    };
    DocumentPath::parse(&text).expect("it is made of good segments")
}

/// A field by its number.
pub fn field(number: u8) -> FieldPath {
    let name = ["a", "b", "n", "m.f", "m.g"][usize::from(number % FIELDS)];
    FieldPath::parse(name).expect("it is made of good segments")
}

fn tags() -> FieldPath {
    FieldPath::parse("t").expect("it is a good segment")
}

/// The time of the last commit that asked for it: shown as an estimate while it is pending.
pub const TIMESTAMP: &str = "at";

/// The shape of the target that shows [`much`].
pub const MUCH: u8 = 1;

/// Documents that are much to send.
pub fn much() -> Vec<Write> {
    let long = Value::from("much to send ".repeat(8).as_str());
    let write = |at: u8| {
        let path = DocumentPath::parse(&format!("d/much-{at}")).expect("it is a good path");
        let op = WriteOp::Set(Fields::from([("s".to_owned(), long.clone())]));
        Write { path, op, transforms: vec![], precondition: None }
    };
    (0..60).map(write).collect()
}

fn integers(of: &[i64]) -> Vec<Value> {
    of.iter().copied().map(Value::Integer).collect()
}

fn nested(fields: &[(u8, i64)]) -> (Fields, Vec<FieldPath>) {
    let (mut values, mut mask) = (Fields::new(), Vec::new());
    for (number, value) in fields {
        let path = field(*number);
        match path.segments() {
            [name] => {
                values.insert(name.clone(), Value::Integer(*value));
            }
            [map, name] => {
                let inner = values.entry(map.clone()).or_insert_with(|| Value::Map(Fields::new()));
                if let Value::Map(inner) = inner {
                    inner.insert(name.clone(), Value::Integer(*value));
                }
            }
            _ => {}
        }
        mask.push(path);
    }
    (values, mask)
}

/// The write that an edit stands for.
pub fn write(edit: &Edit) -> Write {
    let path = path(edit.document);
    let merge = |fields: &[(u8, i64)]| {
        let (fields, mask) = nested(fields);
        WriteOp::Update { fields, mask }
    };
    let transformed = |field: FieldPath, transform: Transform| {
        (merge(&[]), vec![FieldTransform { field, transform }])
    };
    let mut precondition = None;
    let (op, transforms) = match &edit.op {
        Op::Set { a, b, tags } => {
            let fields = [
                ("a".to_owned(), Value::Integer(*a)),
                ("b".to_owned(), Value::Integer(*b)),
                ("t".to_owned(), Value::Array(integers(tags))),
            ];
            (WriteOp::Set(Fields::from(fields)), vec![])
        }
        Op::Merge { fields } => (merge(fields), vec![]),
        Op::Update { field, value } => {
            precondition = Some(Precondition::Exists(true));
            (merge(&[(*field, *value)]), vec![])
        }
        Op::DeleteField { field: number } => {
            (WriteOp::Update { fields: Fields::new(), mask: vec![field(*number)] }, vec![])
        }
        Op::Create { a } => {
            precondition = Some(Precondition::Exists(false));
            (WriteOp::Set(Fields::from([("a".to_owned(), Value::Integer(*a))])), vec![])
        }
        Op::Delete => (WriteOp::Delete, vec![]),
        Op::Increment { field: number, by } => {
            transformed(field(*number), Transform::Increment(Value::Integer(*by)))
        }
        Op::Extremum { field: number, greatest: true, value } => {
            transformed(field(*number), Transform::Maximum(Value::Integer(*value)))
        }
        Op::Extremum { field: number, greatest: false, value } => {
            transformed(field(*number), Transform::Minimum(Value::Integer(*value)))
        }
        Op::Union { tags: of } => transformed(tags(), Transform::ArrayUnion(integers(of))),
        Op::Remove { tags: of } => transformed(tags(), Transform::ArrayRemove(integers(of))),
        Op::Timestamp => transformed(
            FieldPath::parse(TIMESTAMP).expect("it is a good segment"),
            Transform::ServerTimestamp,
        ),
    };
    Write { path, op, transforms, precondition }
}

fn collection(path: &str) -> Query {
    Query::collection(&CollectionPath::parse(path).expect("it is made of good segments"))
}

fn named(name: &str) -> FieldPath {
    FieldPath::parse(name).expect("it is a good segment")
}

fn aggregate(query: Query, argument: u8) -> Target {
    let of = |alias: &str, kind| Aggregation { alias: alias.to_owned(), kind };
    let mut aggregations = vec![of("count", AggregationKind::Count { up_to: None })];
    if argument % 2 == 1 {
        aggregations.push(of("sum", AggregationKind::Sum(named("a"))));
        aggregations.push(of("average", AggregationKind::Average(named("a"))));
    }
    Target::Aggregate(AggregateQuery { query, aggregations })
}

/// A target by the number of its shape.
pub fn target(shape: u8, argument: u8) -> Target {
    let value = i64::from(argument % 6) - 1;
    let limit = u32::from(argument % 4) + 1;
    let (up, down) = (Direction::Ascending, Direction::Descending);
    let query = match shape % SHAPES {
        0 => collection("c"),
        1 => collection("d"),
        2 => Query::group("c"),
        3 => collection("c").with_filter(named("a"), Operator::Equal, value),
        4 => collection("c").with_filter(named("a"), Operator::GreaterThan, value),
        5 => collection("c").with_order(named("a"), down).with_limit(limit),
        6 => collection("c").with_order(named("b"), up).with_limit_to_last(limit),
        7 => Query::group("c").with_order(named("b"), up).with_order(named("a"), down),
        8 => collection("c").with_filter(named("t"), Operator::ArrayContains, value),
        9 => collection("p/1/c").with_filter(named("b"), Operator::NotEqual, value),
        10 => {
            let some = Value::Array(integers(&[value, value + 2]));
            collection("c").with_filter(named("b"), Operator::In, some).with_limit(limit)
        }
        11 => collection("c")
            .with_order(named("m.f"), up)
            .with_start(Cursor { values: vec![Value::Integer(value)], before: true }),
        12 => collection("c").with_order(named("a"), up).with_offset(1).with_limit(limit),
        13 => {
            let documents = [argument, argument + 3, argument + 11].map(path).to_vec();
            return Target::Documents(documents);
        }
        14 => return aggregate(collection("c"), argument),
        _ => {
            let query = collection("c").with_filter(named("b"), Operator::GreaterThan, value);
            return aggregate(query, argument);
        }
    };
    Target::Query(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_are_valid() {
        for (shape, argument) in (0..SHAPES).flat_map(|shape| (0..6).map(move |it| (shape, it))) {
            let valid = match target(shape, argument) {
                Target::Query(query) => query.validate().is_ok(),
                Target::Aggregate(aggregate) => aggregate.validate().is_ok(),
                Target::Documents(paths) => !paths.is_empty(),
            };
            assert!(valid, "{shape} of {argument}");
        }
    }
}
