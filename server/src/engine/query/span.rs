//! Stretches of an index: places between its keys, by the encoded values that come before them. Pure;
//! the planner computes with them before it knows what the keys begin with.

use std::cmp::Ordering;

use tidemark_protocol::model::{FieldFilter, Operator, TypeOrder, Value, key};

use crate::store::{Key, KeyRange};

/// A place between keys: before or after all that begin with these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) bytes: Vec<u8>,
    pub(super) after: bool,
}

/// The keys between two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) low: Position,
    pub(super) high: Position,
}

impl Position {
    pub(super) fn before(bytes: Vec<u8>) -> Position {
        Position { bytes, after: false }
    }

    pub(super) fn after(bytes: Vec<u8>) -> Position {
        Position { bytes, after: true }
    }

    /// The first key behind it, of the keys with a prefix.
    fn key(&self, prefix: &[u8]) -> Key {
        let key = [prefix, &self.bytes].concat();
        if self.after { KeyRange::prefix(&key).end } else { key }
    }

    /// The same place where every byte is inverted.
    fn inverted(self) -> Position {
        Position { bytes: self.bytes.iter().map(|byte| !byte).collect(), after: !self.after }
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Position) -> Ordering {
        let common = self.bytes.len().min(other.bytes.len());
        let within =
            |longer: &Position| if longer.after { Ordering::Less } else { Ordering::Greater };
        self.bytes[..common].cmp(&other.bytes[..common]).then_with(|| {
            match self.bytes.len().cmp(&other.bytes.len()) {
                Ordering::Equal => self.after.cmp(&other.after),
                Ordering::Greater => within(other),
                Ordering::Less => within(self).reverse(),
            }
        })
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Position) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Span {
    /// Everything.
    pub(super) fn all() -> Span {
        Span { low: Position::before(vec![]), high: Position::after(vec![]) }
    }

    /// The keys that begin with these bytes.
    pub(super) fn of(bytes: Vec<u8>) -> Span {
        Span { low: Position::before(bytes.clone()), high: Position::after(bytes) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.low >= self.high
    }

    pub(super) fn intersect(&self, other: &Span) -> Span {
        Span {
            low: self.low.clone().max(other.low.clone()),
            high: self.high.clone().min(other.high.clone()),
        }
    }

    pub(super) fn inverted(self) -> Span {
        Span { low: self.high.inverted(), high: self.low.inverted() }
    }

    pub(super) fn keys(&self, prefix: &[u8]) -> KeyRange {
        KeyRange { start: self.low.key(prefix), end: self.high.key(prefix) }
    }
}

/// All of the spans that is in one; they stay in order.
pub(super) fn narrow(spans: &mut Vec<Span>, to: &Span) {
    *spans = spans.iter().map(|span| span.intersect(to)).filter(|span| !span.is_empty()).collect();
}

/// All of the spans that is not in one.
fn exclude(spans: &mut Vec<Span>, hole: &Span) {
    *spans = spans
        .iter()
        .flat_map(|span| {
            let below =
                Span { low: span.low.clone(), high: span.high.clone().min(hole.low.clone()) };
            let above =
                Span { low: span.low.clone().max(hole.high.clone()), high: span.high.clone() };
            [below, above]
        })
        .filter(|span| !span.is_empty())
        .collect();
}

/// Where the values are that satisfy conditions on one field, in ascending order.
pub(super) struct ValueSpans {
    pub(super) spans: Vec<Span>,
    /// No other values are there.
    pub(super) exact: bool,
}

impl ValueSpans {
    /// `encode` gives the bytes of a value and whether they were cut off.
    pub(super) fn of<'f>(
        filters: impl IntoIterator<Item = &'f FieldFilter>,
        encode: impl Fn(&Value) -> (Vec<u8>, bool),
    ) -> ValueSpans {
        let mut out = ValueSpans { spans: vec![Span::all()], exact: true };
        for filter in filters {
            out.apply(filter, &encode);
        }
        out
    }

    fn apply(&mut self, filter: &FieldFilter, encode: &impl Fn(&Value) -> (Vec<u8>, bool)) {
        let not_null = || {
            let mut null = Vec::new();
            key::encode_value(&Value::Null, &mut null);
            Span { low: Position::after(null), high: Position::after(vec![]) }
        };
        match (filter.operator, &filter.value) {
            (Operator::NotEqual, value) => {
                narrow(&mut self.spans, &not_null());
                self.exclude_value(encode(value));
            }
            (Operator::NotIn, Value::Array(values)) => {
                narrow(&mut self.spans, &not_null());
                // With a null among them nothing is left; the matcher knows.
                self.exact &= !values.iter().any(|value| matches!(value, Value::Null));
                // NaN excludes nothing.
                let values = values.iter().filter(|value| !value.is_nan());
                values.for_each(|value| self.exclude_value(encode(value)));
            }
            (
                operator @ (Operator::LessThan
                | Operator::LessThanOrEqual
                | Operator::GreaterThan
                | Operator::GreaterThanOrEqual),
                value,
            ) => self.bound(operator, value, encode(value)),
            (
                Operator::NotIn
                | Operator::Equal
                | Operator::In
                | Operator::ArrayContains
                | Operator::ArrayContainsAny,
                _,
            ) => self.exact = false,
        }
    }

    fn exclude_value(&mut self, (bytes, cut): (Vec<u8>, bool)) {
        if cut {
            self.exact = false;
        } else {
            exclude(&mut self.spans, &Span::of(bytes));
        }
    }

    fn bound(&mut self, operator: Operator, value: &Value, (bytes, cut): (Vec<u8>, bool)) {
        let mut span = type_span(value);
        if value.is_nan() || matches!(value, Value::Null) {
            self.exact = false;
            return narrow(&mut self.spans, &span);
        }
        // What was cut off may be on either side.
        self.exact &= !cut;
        match operator {
            Operator::LessThan => span.high = Position { bytes, after: cut },
            Operator::LessThanOrEqual => span.high = Position::after(bytes),
            Operator::GreaterThan => span.low = Position { bytes, after: !cut },
            Operator::GreaterThanOrEqual => span.low = Position::before(bytes),
            Operator::Equal
            | Operator::NotEqual
            | Operator::In
            | Operator::NotIn
            | Operator::ArrayContains
            | Operator::ArrayContainsAny => {}
        }
        narrow(&mut self.spans, &span);
    }
}

/// Where the values are that a value is compared with: of numbers NaN only with NaN.
fn type_span(value: &Value) -> Span {
    let encode = |value: &Value| {
        let mut bytes = Vec::new();
        key::encode_value(value, &mut bytes);
        bytes
    };
    let tag = |value: &Value| encode(value)[..1].to_vec();
    match value.type_order() {
        TypeOrder::Boolean => Span {
            low: Position::before(encode(&Value::Boolean(false))),
            high: Position::after(encode(&Value::Boolean(true))),
        },
        TypeOrder::Number if !value.is_nan() => Span {
            low: Position::after(encode(&Value::Double(f64::NAN))),
            high: Position::after(tag(value)),
        },
        TypeOrder::Null
        | TypeOrder::Number
        | TypeOrder::Timestamp
        | TypeOrder::String
        | TypeOrder::Bytes
        | TypeOrder::Reference
        | TypeOrder::GeoPoint
        | TypeOrder::Array
        | TypeOrder::Vector
        | TypeOrder::Map => Span::of(tag(value)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tidemark_protocol::model::FieldPath;

    fn encode(value: &Value) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        key::encode_value(value, &mut bytes);
        (bytes, false)
    }

    fn holds(spans: &[Span], value: &Value) -> bool {
        let bytes = encode(value).0;
        spans.iter().any(|span| {
            let range = span.keys(&[]);
            range.start <= bytes && bytes < range.end
        })
    }

    #[test]
    fn places_are_ordered_around_what_begins_with_them() {
        let before = |bytes: &[u8]| Position::before(bytes.to_vec());
        let after = |bytes: &[u8]| Position::after(bytes.to_vec());
        let sorted = [
            before(b""),
            before(b"a"),
            before(b"ab"),
            after(b"ab"),
            after(b"a"),
            before(b"b"),
            after(b"b"),
            after(b""),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} {b:?}");
                let inverted = a.clone().inverted().cmp(&b.clone().inverted());
                assert_eq!(inverted, j.cmp(&i), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn spans_hold_what_satisfies_and_only_that() {
        let values = [
            Value::Null,
            Value::from(false),
            Value::from(true),
            Value::Double(f64::NAN),
            Value::from(-1.5),
            Value::from(1),
            Value::from(2.5),
            Value::from(""),
            Value::from("a"),
            Value::from("a\0b"),
            Value::from("b"),
            Value::Array(vec![Value::from(1)]),
            Value::from([("k", 1)]),
        ];
        let orderings = [
            (Operator::LessThan, Ordering::Less, false),
            (Operator::LessThanOrEqual, Ordering::Less, true),
            (Operator::GreaterThan, Ordering::Greater, false),
            (Operator::GreaterThanOrEqual, Ordering::Greater, true),
        ];
        let field = FieldPath::parse("f").unwrap();
        for operand in values.iter().filter(|it| !it.is_nan() && !matches!(it, Value::Null)) {
            for (operator, ordering, inclusive) in orderings {
                let filter = FieldFilter { field: field.clone(), operator, value: operand.clone() };
                let found = ValueSpans::of([&filter], encode);
                assert!(found.exact);
                for value in &values {
                    let compared = value.compare(operand);
                    let satisfies = value.type_order() == operand.type_order()
                        && !value.is_nan()
                        && (compared == ordering || inclusive && compared.is_eq());
                    assert_eq!(
                        holds(&found.spans, value),
                        satisfies,
                        "{value:?} {operator:?} {operand:?}"
                    );
                }
            }
            let filter = FieldFilter {
                field: field.clone(),
                operator: Operator::NotEqual,
                value: operand.clone(),
            };
            let found = ValueSpans::of([&filter], encode);
            for value in &values {
                let satisfies = !matches!(value, Value::Null) && value.compare(operand).is_ne();
                assert_eq!(holds(&found.spans, value), satisfies, "{value:?} != {operand:?}");
            }
        }
    }
}
