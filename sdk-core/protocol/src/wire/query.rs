//! Queries and targets between bytes and the model.

use super::fault::Fault;
use super::reader::{Reader, WireType};
use super::value::{read_value, read_vector, write_value, write_values, write_vector};
use super::write::check_count;
use super::writer;
use crate::model::{
    AggregateQuery, Aggregation, AggregationKind, Cursor, Direction, DistanceMeasure, DocumentPath,
    FieldFilter, FieldPath, Filter, Nearest, Operator, Order, Query, Target, limits,
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
    writer::put_bool(9, query.limit_to_last, out);
    writer::put_uint(10, query.offset.into(), out);
    if let Some(fields) = &query.projection {
        writer::message(11, out, |out| {
            for field in fields {
                writer::one_of_bytes(1, field.to_string().as_bytes(), out);
            }
        });
    }
    if let Some(nearest) = &query.nearest {
        writer::message(12, out, |out| write_nearest(nearest, out));
    }
}

fn write_nearest(nearest: &Nearest, out: &mut Vec<u8>) {
    writer::put_bytes(1, nearest.field.to_string().as_bytes(), out);
    writer::message(2, out, |out| write_vector(&nearest.vector, out));
    writer::put_uint(3, measure_number(nearest.measure), out);
    writer::put_uint(4, nearest.limit.into(), out);
    if let Some(threshold) = nearest.threshold {
        writer::one_of_fixed(5, threshold.to_bits(), out);
    }
    if let Some(field) = &nearest.distance_field {
        writer::put_bytes(6, field.to_string().as_bytes(), out);
    }
}

/// Appends the fields of an AggregateQuery.
pub(super) fn write_aggregate(aggregate: &AggregateQuery, out: &mut Vec<u8>) {
    writer::message(1, out, |out| write_query(&aggregate.query, out));
    for aggregation in &aggregate.aggregations {
        writer::message(2, out, |out| write_aggregation(aggregation, out));
    }
}

fn write_aggregation(aggregation: &Aggregation, out: &mut Vec<u8>) {
    writer::put_bytes(1, aggregation.alias.as_bytes(), out);
    match &aggregation.kind {
        AggregationKind::Count { up_to } => writer::message(2, out, |out| {
            if let Some(up_to) = up_to {
                writer::one_of_uint(1, *up_to, out);
            }
        }),
        AggregationKind::Sum(field) => writer::one_of_bytes(3, field.to_string().as_bytes(), out),
        AggregationKind::Average(field) => {
            writer::one_of_bytes(4, field.to_string().as_bytes(), out);
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
        Filter::And(filters) => writer::message(2, out, |out| write_filters(filters, out)),
        Filter::Or(filters) => writer::message(3, out, |out| write_filters(filters, out)),
    }
}

fn write_filters(filters: &[Filter], out: &mut Vec<u8>) {
    for filter in filters {
        writer::message(1, out, |out| write_filter(filter, out));
    }
}

/// Reads a Query; the model has not judged it yet.
pub(super) fn read_query(mut reader: Reader<'_>) -> Result<Query, Fault> {
    let mut query = Query::default();
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
            9 => query.limit_to_last = reader.boolean(wire_type)?,
            10 => query.offset = reader.uint32(wire_type)?,
            11 => query.projection = Some(read_projection(reader.message(wire_type)?)?),
            12 => query.nearest = Some(read_nearest(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(query)
}

fn read_projection(mut reader: Reader<'_>) -> Result<Vec<FieldPath>, Fault> {
    let mut fields = Vec::new();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => {
                check_count("fields", &fields, limits::PROJECTED_FIELDS)?;
                fields.push(FieldPath::parse(reader.text(wire_type)?)?);
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(fields)
}

fn read_nearest(mut reader: Reader<'_>) -> Result<Nearest, Fault> {
    let (mut field, mut vector, mut measure, mut limit) = ("", Vec::new(), 0, 0);
    let (mut threshold, mut distance_field) = (None, None);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => field = reader.text(wire_type)?,
            2 => vector = read_vector(reader.message(wire_type)?)?,
            3 => measure = reader.uint64(wire_type)?,
            4 => limit = reader.uint32(wire_type)?,
            5 => threshold = Some(reader.double(wire_type)?),
            6 => {
                let field = reader.text(wire_type)?;
                distance_field =
                    if field.is_empty() { None } else { Some(FieldPath::parse(field)?) };
            }
            _ => reader.skip(tag)?,
        }
    }
    let measure = measure_of(measure)?;
    let field = FieldPath::parse(field)?;
    Ok(Nearest { field, vector, measure, limit, threshold, distance_field })
}

fn measure_number(measure: DistanceMeasure) -> u64 {
    match measure {
        DistanceMeasure::Euclidean => 1,
        DistanceMeasure::Cosine => 2,
        DistanceMeasure::DotProduct => 3,
    }
}

fn measure_of(number: u64) -> Result<DistanceMeasure, Fault> {
    Ok(match number {
        1 => DistanceMeasure::Euclidean,
        2 => DistanceMeasure::Cosine,
        3 => DistanceMeasure::DotProduct,
        _ => return Err(Fault::invalid("a distance has no measure that this version knows")),
    })
}

/// Reads an AggregateQuery; the model has not judged it yet.
pub(super) fn read_aggregate(mut reader: Reader<'_>) -> Result<AggregateQuery, Fault> {
    let (mut query, mut aggregations) = (None, Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => query = Some(read_query(reader.message(wire_type)?)?),
            2 => {
                check_count("aggregations", &aggregations, limits::QUERY_COMPONENTS)?;
                aggregations.push(read_aggregation(reader.message(wire_type)?)?);
            }
            _ => reader.skip(tag)?,
        }
    }
    let query = query.ok_or_else(|| Fault::invalid("there is no query to aggregate"))?;
    Ok(AggregateQuery { query, aggregations })
}

fn read_aggregation(mut reader: Reader<'_>) -> Result<Aggregation, Fault> {
    let (mut alias, mut kind) = ("", None);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => alias = reader.text(wire_type)?,
            2 => kind = Some(read_count(reader.message(wire_type)?)?),
            3 => kind = Some(AggregationKind::Sum(FieldPath::parse(reader.text(wire_type)?)?)),
            4 => kind = Some(AggregationKind::Average(FieldPath::parse(reader.text(wire_type)?)?)),
            _ => reader.skip(tag)?,
        }
    }
    let kind =
        kind.ok_or_else(|| Fault::invalid("an aggregation has no kind that this version knows"))?;
    Ok(Aggregation { alias: alias.to_owned(), kind })
}

fn read_count(mut reader: Reader<'_>) -> Result<AggregationKind, Fault> {
    let mut up_to = None;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => up_to = Some(reader.uint64(wire_type)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(AggregationKind::Count { up_to })
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
                3 => filter = Some(Filter::Or(self.filters(reader.message(wire_type)?, nesting)?)),
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
        Operator::NotEqual => 6,
        Operator::In => 7,
        Operator::NotIn => 8,
        Operator::ArrayContains => 9,
        Operator::ArrayContainsAny => 10,
    }
}

fn operator_of(number: u64) -> Result<Operator, Fault> {
    Ok(match number {
        1 => Operator::Equal,
        2 => Operator::LessThan,
        3 => Operator::LessThanOrEqual,
        4 => Operator::GreaterThan,
        5 => Operator::GreaterThanOrEqual,
        6 => Operator::NotEqual,
        7 => Operator::In,
        8 => Operator::NotIn,
        9 => Operator::ArrayContains,
        10 => Operator::ArrayContainsAny,
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
/// sorted, conditions flat and in one order, the order in full.
pub(super) fn write_canonical(target: &Target, out: &mut Vec<u8>) {
    match target {
        Target::Query(query) => {
            writer::message(2, out, |out| write_query(&canonical_query(query), out));
        }
        Target::Documents(paths) => {
            let mut paths = paths.clone();
            paths.sort();
            paths.dedup();
            writer::message(3, out, |out| write_documents(&paths, out));
        }
        Target::Aggregate(aggregate) => {
            let query = canonical_query(&aggregate.matched());
            let aggregations = aggregate.aggregations.clone();
            let aggregate = AggregateQuery { query, aggregations };
            writer::message(6, out, |out| write_aggregate(&aggregate, out));
        }
    }
}

fn canonical_query(query: &Query) -> Query {
    let projection = query.projection.clone().map(|mut fields| {
        fields.sort();
        fields.dedup();
        fields
    });
    Query {
        filter: query.filter.as_ref().and_then(canonical_filter),
        order_by: query.full_order(),
        projection,
        ..query.clone()
    }
}

/// Conditions within conditions of the same kind are lifted out, and all sorted by their bytes. A
/// conjunction of nothing is no condition.
fn canonical_filter(filter: &Filter) -> Option<Filter> {
    let (is_and, filters) = match filter {
        Filter::Field(filter) => return Some(Filter::Field(filter.clone())),
        Filter::And(filters) => (true, filters),
        Filter::Or(filters) => (false, filters),
    };
    let mut parts: Vec<(Vec<u8>, Filter)> = Vec::with_capacity(filters.len());
    let mut keep = |filter: Filter| {
        let mut bytes = Vec::new();
        write_filter(&filter, &mut bytes);
        parts.push((bytes, filter));
    };
    for filter in filters.iter().map(canonical_filter) {
        let Some(filter) = filter else {
            // No condition at all: nothing beside it matters to an `or`.
            if is_and {
                continue;
            }
            return None;
        };
        match filter {
            Filter::And(inner) if is_and => inner.into_iter().for_each(&mut keep),
            Filter::Or(inner) if !is_and => inner.into_iter().for_each(&mut keep),
            other @ (Filter::Field(_) | Filter::And(_) | Filter::Or(_)) => keep(other),
        }
    }
    parts.sort_by(|(a, _), (b, _)| a.cmp(b));
    parts.dedup_by(|(a, _), (b, _)| a == b);
    let mut parts: Vec<Filter> = parts.into_iter().map(|(_, filter)| filter).collect();
    match (parts.len(), is_and) {
        (0, true) => None,
        (1, _) => parts.pop(),
        (_, true) => Some(Filter::And(parts)),
        (_, false) => Some(Filter::Or(parts)),
    }
}
