//! Which part of which index has the documents of a query: one index for each of its disjunctions,
//! made for its shape. What is found may be too much, never too little: the query itself is asked of
//! every document. So only what narrows a scan is looked at here.

use std::collections::BTreeMap;

use tidemark_protocol::model::key::{encode_collection, encode_value, encode_value_descending};
use tidemark_protocol::model::{
    Cursor, Direction, DocumentPath, FieldFilter, FieldPath, IndexDefinition, IndexField,
    IndexMode, IndexScope, Operator, Order, Query, Value,
};

/// How the documents of one disjunction are come by.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cache) enum Access {
    /// It is this one, if any.
    Document(DocumentPath),
    /// They are in a part of an index.
    Scan(Scan),
}

impl Access {
    /// The part of an index.
    pub(in crate::cache) fn scan(&self) -> Option<&Scan> {
        match self {
            Access::Scan(scan) => Some(scan),
            Access::Document(_) => None,
        }
    }
}

/// A part of an index, in the order of the query.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cache) struct Scan {
    pub(in crate::cache) index: IndexDefinition,
    /// The first key that may be in it.
    pub(in crate::cache) from: Vec<u8>,
    /// The first key after it; none: the index ends with it.
    pub(in crate::cache) to: Option<Vec<u8>>,
    /// Whether it is from the last to the first.
    pub(in crate::cache) reverse: bool,
    /// Whether it has all documents of a collection, in the order of their names.
    pub(in crate::cache) is_collection: bool,
}

/// One access for each disjunction of a query, whose full order is `order`. None if it has too many.
pub(in crate::cache) fn plan(query: &Query, order: &[Order]) -> Option<Vec<Access>> {
    let disjunctions = match &query.filter {
        None => vec![Vec::new()],
        Some(filter) => filter.disjunctions().ok()?,
    };
    Some(disjunctions.iter().map(|conditions| access(query, order, conditions)).collect())
}

fn access(query: &Query, order: &[Order], conditions: &[FieldFilter]) -> Access {
    let mut fixed: BTreeMap<&FieldPath, &Value> = BTreeMap::new();
    let mut contained = None;
    for condition in conditions {
        match (condition.operator, &condition.value) {
            (Operator::Equal, Value::Reference(path)) if condition.field.is_document_id() => {
                return Access::Document(path.clone());
            }
            (Operator::Equal, value) => {
                fixed.entry(&condition.field).or_insert(value);
            }
            (Operator::ArrayContains, value) => contained = Some((&condition.field, value)),
            _ => {}
        }
    }
    let scope = if query.all_descendants { IndexScope::Group } else { IndexScope::Collection };
    let mut fields = Vec::new();
    let mut prefix = Vec::new();
    if !query.all_descendants {
        encode_collection(&query.collection_path(), &mut prefix);
    }
    let add = |(field, value): (&FieldPath, &Value), mode, out: &mut Vec<u8>| {
        encode_value(value, out);
        IndexField { field: field.clone(), mode }
    };
    for (field, value) in &fixed {
        fields.push(add((field, value), IndexMode::Ascending, &mut prefix));
    }
    fields.extend(contained.map(|it| add(it, IndexMode::Contains, &mut prefix)));
    let order = Ordered::new(order, &fixed);
    fields.extend(order.fields());
    let (from, to) = order.range(query, conditions, &prefix);
    let is_collection = fields.is_empty() && !query.all_descendants && from == prefix;
    let index = IndexDefinition { collection_id: query.collection_id.clone(), scope, fields };
    let is_collection = is_collection && to == after(&prefix);
    Access::Scan(Scan { index, from, to, reverse: order.reverse, is_collection })
}

/// The order of a query with some fields fixed, as an index has it: names ascending.
struct Ordered<'a> {
    clauses: Vec<Clause<'a>>,
    reverse: bool,
}

struct Clause<'a> {
    field: &'a FieldPath,
    /// In the index.
    direction: Direction,
    /// What the field is, if that is known: it is not among the ordered fields of the index.
    fixed: Option<&'a Value>,
}

impl<'a> Ordered<'a> {
    /// Of a full order; what comes after the name does not matter.
    fn new(order: &'a [Order], fixed: &BTreeMap<&'a FieldPath, &'a Value>) -> Ordered<'a> {
        let names = order.iter().position(|clause| clause.field.is_document_id());
        let order = &order[..names.map_or(order.len(), |at| at + 1)];
        let last = order.last().map_or(Direction::Ascending, |clause| clause.direction);
        let reverse = last == Direction::Descending;
        let clause = |order: &'a Order| Clause {
            field: &order.field,
            direction: if reverse { order.direction.reversed() } else { order.direction },
            fixed: fixed.get(&order.field).copied(),
        };
        Ordered { clauses: order.iter().map(clause).collect(), reverse }
    }

    fn fields(&self) -> impl Iterator<Item = IndexField> {
        let kept = self.clauses.iter().filter(|clause| clause.is_field());
        kept.map(|clause| IndexField {
            field: clause.field.clone(),
            mode: match clause.direction {
                Direction::Ascending => IndexMode::Ascending,
                Direction::Descending => IndexMode::Descending,
            },
        })
    }

    /// The part of the index, below `prefix`, that conditions and cursors leave.
    fn range(
        &self,
        query: &Query,
        conditions: &[FieldFilter],
        prefix: &[u8],
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut from = prefix.to_vec();
        let mut to = after(prefix);
        let mut narrow = |low: Option<Bound>, high: Option<Bound>| {
            let whole = |bound: &Bound| [prefix, &bound.key].concat();
            if let Some(bound) = low {
                let key = whole(&bound);
                let first = if bound.inclusive { Some(key) } else { after(&key) };
                from = first.unwrap_or_default().max(std::mem::take(&mut from));
            }
            if let Some(bound) = high {
                let key = whole(&bound);
                let end = if bound.inclusive { after(&key) } else { Some(key) };
                to = match (end, to.take()) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        };
        let first = self.clauses.iter().find(|clause| clause.fixed.is_none());
        if let Some(clause) = first {
            for condition in conditions.iter().filter(|it| it.field == *clause.field) {
                let (low, high) = clause.bounds(condition);
                narrow(low, high);
            }
        }
        let start = query.start.as_ref().map(|cursor| self.position(cursor, cursor.before));
        let end = query.end.as_ref().map(|cursor| self.position(cursor, !cursor.before));
        match self.reverse {
            true => narrow(end, start),
            false => narrow(start, end),
        }
        (from, to)
    }

    /// A cursor's position, as far as it can be told; `inclusive`: whether what is there is within.
    fn position(&self, cursor: &Cursor, mut inclusive: bool) -> Bound {
        let mut key = Vec::new();
        for (at, value) in cursor.values.iter().enumerate() {
            let Some(clause) = self.clauses.get(at) else { break };
            let is_fixed_here = clause.fixed.is_some_and(|fixed| fixed.compare(value).is_eq());
            if is_fixed_here {
                continue;
            }
            if clause.fixed.is_some() || !clause.encode(value, &mut key) {
                inclusive = true;
                break;
            }
        }
        Bound { key, inclusive }
    }
}

/// Where a range begins or ends: with what begins with the key, or not.
struct Bound {
    key: Vec<u8>,
    inclusive: bool,
}

impl Clause<'_> {
    fn is_field(&self) -> bool {
        self.fixed.is_none() && !self.field.is_document_id()
    }

    /// Appends a value of the field as the index has it. False if the field can have no such value.
    fn encode(&self, value: &Value, out: &mut Vec<u8>) -> bool {
        if self.field.is_document_id() && !matches!(value, Value::Reference(_)) {
            return false;
        }
        match self.direction {
            Direction::Ascending => encode_value(value, out),
            Direction::Descending => encode_value_descending(value, out),
        }
        true
    }

    /// What a condition on this field says of the keys.
    fn bounds(&self, condition: &FieldFilter) -> (Option<Bound>, Option<Bound>) {
        let above = match condition.operator {
            Operator::GreaterThan | Operator::GreaterThanOrEqual => true,
            Operator::LessThan | Operator::LessThanOrEqual => false,
            Operator::Equal
            | Operator::NotEqual
            | Operator::In
            | Operator::NotIn
            | Operator::ArrayContains
            | Operator::ArrayContainsAny => return (None, None),
        };
        let mut key = Vec::new();
        if !self.encode(&condition.value, &mut key) {
            return (None, None);
        }
        let inclusive =
            matches!(condition.operator, Operator::GreaterThanOrEqual | Operator::LessThanOrEqual);
        let operand = Bound { key, inclusive };
        let end = Bound { key: self.last_of_type(&condition.value, above), inclusive: true };
        // Both bounds are turned around where the index descends.
        match above == (self.direction == Direction::Ascending) {
            true => (Some(operand), Some(end)),
            false => (Some(end), Some(operand)),
        }
    }

    /// What the greatest (or the least) values of a type begin with. A comparison holds only within
    /// one type.
    fn last_of_type(&self, value: &Value, greatest: bool) -> Vec<u8> {
        let mut key = Vec::new();
        match value {
            // The only type whose values do not begin with the same byte.
            Value::Boolean(_) => self.encode(&Value::Boolean(greatest), &mut key),
            other => self.encode(other, &mut key),
        };
        key.truncate(1);
        key
    }
}

/// The first key after all that begin with this one.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tidemark_protocol::model::{CollectionPath, Matcher};

    use super::*;

    fn scan(query: &Query) -> Scan {
        let matcher = Matcher::new(query.clone());
        match plan(query, matcher.order()).unwrap().pop() {
            Some(Access::Scan(scan)) => scan,
            other => panic!("{other:?}"),
        }
    }

    fn field(name: &str) -> FieldPath {
        FieldPath::parse(name).unwrap()
    }

    fn rooms() -> Query {
        Query::collection(&CollectionPath::parse("rooms").unwrap())
    }

    #[test]
    fn an_index_is_made_for_what_is_fixed_contained_and_ordered() {
        let query = rooms()
            .with_filter(field("z"), Operator::Equal, 1)
            .with_filter(field("tags"), Operator::ArrayContains, "x")
            .with_filter(field("b"), Operator::Equal, 2)
            .with_order(field("b"), Direction::Ascending)
            .with_order(field("n"), Direction::Descending);
        let scan = scan(&query);
        assert_eq!(scan.index.to_string(), "rooms(b, z, tags contains, n)");
        assert!(scan.reverse, "names descend with the last clause");
    }

    #[test]
    fn a_query_and_its_reverse_share_an_index() {
        let query = rooms().with_order(field("n"), Direction::Descending).with_limit(3);
        let (one, other) = (scan(&query), scan(&query.reversed()));
        assert_eq!(one.index, other.index);
        assert_eq!((one.from, one.to), (other.from, other.to));
        assert_ne!(one.reverse, other.reverse);
    }

    #[test]
    fn a_whole_collection_needs_no_index() {
        assert!(scan(&rooms()).is_collection);
        let names = Cursor {
            values: vec![Value::Reference(DocumentPath::parse("rooms/m").unwrap())],
            before: true,
        };
        assert!(!scan(&rooms().with_start(names)).is_collection);
        assert!(!scan(&Query::group("rooms")).is_collection);
        assert!(!scan(&rooms().with_order(field("n"), Direction::Ascending)).is_collection);
    }

    #[test]
    fn a_range_ends_with_the_type_of_its_operand() {
        for direction in [Direction::Ascending, Direction::Descending] {
            for (operand, inside, outside) in [
                (Value::from(5), Value::from(6), Value::from("a")),
                (Value::from(5), Value::from(i64::MAX), Value::from(4)),
                (Value::from(false), Value::from(true), Value::from(0)),
                (Value::from("a"), Value::from("b"), Value::Null),
            ] {
                let query = rooms()
                    .with_filter(field("n"), Operator::GreaterThan, operand)
                    .with_order(field("n"), direction);
                let scan = scan(&query);
                let key = |value: &Value| {
                    let mut key = Vec::new();
                    encode_collection(&query.collection_path(), &mut key);
                    let mode = scan.index.fields[0].mode;
                    super::super::extended(&key, mode, value)
                };
                let holds = |value: &Value| {
                    let key = key(value);
                    key >= scan.from && scan.to.as_ref().is_none_or(|to| key < *to)
                };
                assert!(holds(&inside), "{inside:?} {direction:?}");
                assert!(!holds(&outside), "{outside:?} {direction:?}");
            }
        }
    }
}
