//! Queries and targets between bytes and the model.

use super::fault::Fault;
use super::reader::{Reader, WireType};
use super::value::{read_value, write_value, write_values};
use super::write::check_count;
use super::writer;
use crate::model::{
    Cursor, Direction, DocumentPath, FieldFilter, FieldPath, Filter, Operator, Order, Query,
    Target, limits,
};

/// How deep filters may be nested before decoding stops: as in values, deeper than the model allows.
const NESTING: usize = limits::FILTER_DEPTH + 12;

/// Appends the fields of a Query.
pub(super) fn write_query(query: &Query, out: &mut Vec<u8>) {
    let parent = query.parent.as_ref().map_or("", DocumentPath::as_str);
    writer::put_bytes(1, parent.as_bytes(), out);
    writer::put_bytes(2, query.collection_id.as_bytes(), out);
    writer::put_bool(3, query.all_descendants, out);
    if let Some(filter) = &query.filter {
        writer::message(4, out, |out| write_filter(filter, out));
    }
    for order in &query.order_by {
        writer::message(5, out, |out| {
            writer::put_bytes(1, order.field.to_string().as_bytes(), out);
            writer::put_bool(2, order.direction == Direction::Descending, out);
        });
    }
    if let Some(limit) = query.limit {
        writer::one_of_uint(6, u64::from(limit), out);
    }
    for (field, cursor) in [(7, &query.start), (8, &query.end)] {
        if let Some(cursor) = cursor {
            writer::message(field, out, |out| {
                write_values(1, &cursor.values, out);
                writer::put_bool(2, cursor.before, out);
            });
        }
    }
}

fn write_filter(filter: &Filter, out: &mut Vec<u8>) {
    match filter {
        Filter::Field(filter) => writer::message(1, out, |out| {
            writer::put_bytes(1, filter.field.to_string().as_bytes(), out);
            writer::put_uint(2, operator_number(filter.operator), out);
            writer::message(3, out, |out| write_value(&filter.value, out));
        }),
        Filter::And(filters) => writer::message(2, out, |out| {
            for filter in filters {
                writer::message(1, out, |out| write_filter(filter, out));
            }
        }),
    }
}

/// Reads a Query; the model has not judged it yet.
pub(super) fn read_query(mut reader: Reader<'_>) -> Result<Query, Fault> {
    let mut query = Query {
        parent: None,
        collection_id: String::new(),
        all_descendants: false,
        filter: None,
        order_by: Vec::new(),
        limit: None,
        start: None,
        end: None,
    };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => query.parent = read_parent(reader.text(wire_type)?)?,
            2 => query.collection_id = reader.text(wire_type)?.to_owned(),
            3 => query.all_descendants = reader.boolean(wire_type)?,
            4 => query.filter = Some(read_filter(reader.message(wire_type)?)?),
            5 => {
                check_count("orders", &query.order_by, limits::QUERY_COMPONENTS)?;
                query.order_by.push(read_order(reader.message(wire_type)?)?);
            }
            6 => query.limit = Some(reader.uint32(wire_type)?),
            7 => query.start = Some(read_cursor(reader.message(wire_type)?)?),
            8 => query.end = Some(read_cursor(reader.message(wire_type)?)?),
            9 => return Err(Fault::unimplemented("`limit_to_last` in a query")),
            10 => return Err(Fault::unimplemented("`offset` in a query")),
            11 => return Err(Fault::unimplemented("a projection in a query")),
            _ => reader.skip(tag)?,
        }
    }
    Ok(query)
}

fn read_parent(path: &str) -> Result<Option<DocumentPath>, Fault> {
    Ok(if path.is_empty() { None } else { Some(DocumentPath::parse(path)?) })
}

fn read_order(mut reader: Reader<'_>) -> Result<Order, Fault> {
    let (mut field, mut direction) = ("", Direction::Ascending);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => field = reader.text(wire_type)?,
            2 if reader.boolean(wire_type)? => direction = Direction::Descending,
            2 => direction = Direction::Ascending,
            _ => reader.skip(tag)?,
        }
    }
    Ok(Order { field: FieldPath::parse(field)?, direction })
}

fn read_cursor(mut reader: Reader<'_>) -> Result<Cursor, Fault> {
    let (mut values, mut before) = (Vec::new(), false);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => {
                check_count("values of a cursor", &values, limits::QUERY_COMPONENTS)?;
                values.push(read_value(reader.message(wire_type)?)?);
            }
            2 => before = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(Cursor { values, before })
}

fn read_filter(reader: Reader<'_>) -> Result<Filter, Fault> {
    FilterReader { filters: 0 }.filter(reader, NESTING)
}

/// Counts the filters of a query while they are read.
struct FilterReader {
    /// How many filters have begun.
    filters: usize,
}

impl FilterReader {
    fn filter(&mut self, mut reader: Reader<'_>, nesting: usize) -> Result<Filter, Fault> {
        self.filters += 1;
        // Of n conditions there are no more than n conjunctions worth having.
        if self.filters > 2 * limits::QUERY_COMPONENTS {
            return Err(Fault::invalid(format!(
                "there are more than {} filters, which is the limit",
                limits::QUERY_COMPONENTS
            )));
        }
        let mut filter = None;
        while let Some(tag @ (number, wire_type)) = reader.tag()? {
            match number {
                1 => filter = Some(Filter::Field(read_field_filter(reader.message(wire_type)?)?)),
                2 => filter = Some(Filter::And(self.filters(reader.message(wire_type)?, nesting)?)),
                3 => return Err(Fault::unimplemented("`or` in a query")),
                _ => reader.skip(tag)?,
            }
        }
        filter.ok_or_else(|| Fault::invalid("a filter has no kind that this version knows"))
    }

    fn filters(&mut self, mut reader: Reader<'_>, nesting: usize) -> Result<Vec<Filter>, Fault> {
        let nesting = nesting.checked_sub(1).ok_or_else(|| {
            let limit = limits::FILTER_DEPTH;
            Fault::invalid(format!("filters are nested more than {limit} deep, which is the limit"))
        })?;
        let mut filters = Vec::new();
        while let Some(tag @ (number, wire_type)) = reader.tag()? {
            match number {
                1 => filters.push(self.filter(reader.message(wire_type)?, nesting)?),
                _ => reader.skip(tag)?,
            }
        }
        Ok(filters)
    }
}

fn read_field_filter(mut reader: Reader<'_>) -> Result<FieldFilter, Fault> {
    let (mut field, mut operator, mut value) = ("", 0, None);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => field = reader.text(wire_type)?,
            2 => operator = reader.uint64(wire_type)?,
            3 => value = Some(read_value(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(FieldFilter {
        field: FieldPath::parse(field)?,
        operator: operator_of(operator)?,
        value: value.ok_or_else(|| Fault::invalid("a filter has no operand"))?,
    })
}

fn operator_number(operator: Operator) -> u64 {
    match operator {
        Operator::Equal => 1,
        Operator::LessThan => 2,
        Operator::LessThanOrEqual => 3,
        Operator::GreaterThan => 4,
        Operator::GreaterThanOrEqual => 5,
    }
}

fn operator_of(number: u64) -> Result<Operator, Fault> {
    Ok(match number {
        1 => Operator::Equal,
        2 => Operator::LessThan,
        3 => Operator::LessThanOrEqual,
        4 => Operator::GreaterThan,
        5 => Operator::GreaterThanOrEqual,
        6 => return Err(Fault::unimplemented("the operator `!=`")),
        7 => return Err(Fault::unimplemented("the operator `in`")),
        8 => return Err(Fault::unimplemented("the operator `not-in`")),
        9 => return Err(Fault::unimplemented("the operator `array-contains`")),
        10 => return Err(Fault::unimplemented("the operator `array-contains-any`")),
        _ => return Err(Fault::invalid("a filter has no operator that this version knows")),
    })
}

/// Appends the fields of a DocumentSet.
pub(super) fn write_documents(paths: &[DocumentPath], out: &mut Vec<u8>) {
    for path in paths {
        writer::one_of_bytes(1, path.as_str().as_bytes(), out);
    }
}

/// Reads a DocumentSet: sorted, without duplicates.
pub(super) fn read_documents(mut reader: Reader<'_>) -> Result<Target, Fault> {
    let mut paths = Vec::new();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => push_path(&mut paths, &mut reader, wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    paths.sort();
    paths.dedup();
    Ok(Target::Documents(paths))
}

/// Reads one more path of a request.
pub(super) fn push_path(
    paths: &mut Vec<DocumentPath>,
    reader: &mut Reader<'_>,
    wire_type: WireType,
) -> Result<(), Fault> {
    check_count("documents", paths, limits::DOCUMENTS_PER_REQUEST)?;
    paths.push(DocumentPath::parse(reader.text(wire_type)?)?);
    Ok(())
}

/// The target as the fields of a Listen, of two that mean the same the same one: documents
/// sorted, conjunctions flat and in one order, the order in full.
pub(super) fn write_canonical(target: &Target, out: &mut Vec<u8>) {
    match target {
        Target::Query(query) => {
            let filter = canonical_filter(query);
            let query = Query { filter, order_by: query.full_order(), ..query.clone() };
            writer::message(2, out, |out| write_query(&query, out));
        }
        Target::Documents(paths) => {
            let mut paths = paths.clone();
            paths.sort();
            paths.dedup();
            writer::message(3, out, |out| write_documents(&paths, out));
        }
    }
}

fn canonical_filter(query: &Query) -> Option<Filter> {
    let mut filters: Vec<FieldFilter> = query.field_filters().cloned().collect();
    filters.sort_by(|a, b| {
        (&a.field, operator_number(a.operator))
            .cmp(&(&b.field, operator_number(b.operator)))
            .then_with(|| a.value.compare(&b.value))
    });
    filters.dedup();
    let mut filters: Vec<Filter> = filters.into_iter().map(Filter::Field).collect();
    if filters.len() < 2 { filters.pop() } else { Some(Filter::And(filters)) }
}
