//! `query`: prints the documents of a query, the values computed over them, or how the server came by
//! either; and what `watch` needs to build the same query.

use tidemark_core::{
    Aggregate, AggregateReference, AggregateSnapshot, Direction, DistanceMeasure, DocumentSnapshot,
    Explanation, Filter, Query, Value,
};

use serde_json::{Value as Json, json};

use super::indexes::create_command;
use crate::args::{AggregateArgs, ClientArgs, Measure, QueryArgs, QueryCommandArgs};
use crate::connection::Connection;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, display_width, note, printable, value_text};
use crate::value::{parse_value, to_json};

/// Prints the result in its order.
pub(crate) async fn run(client: &ClientArgs, args: &QueryCommandArgs) -> Outcome<u8> {
    let connection = Connection::open(client)?;
    let mut out = Output::new(client.json);
    let query = build(&connection, &args.collection, &args.query).await?;
    match (aggregate(&query, &args.aggregate), args.explain) {
        (Some(aggregate), false) => {
            let snapshot = connection.wait(aggregate.get()).await?;
            print_values(&mut out, &snapshot)?;
        }
        (Some(aggregate), true) => {
            let (snapshot, explanation) = connection.wait(aggregate.explain()).await?;
            print_values(&mut out, &snapshot)?;
            print_explanation(&mut out, &explanation)?;
        }
        (None, true) => {
            let (_, explanation) = connection.wait(query.explain()).await?;
            print_explanation(&mut out, &explanation)?;
        }
        (None, false) => {
            let snapshot = connection.wait(query.get()).await?;
            for document in snapshot.documents() {
                out.document(document)?;
            }
            out.flush()?;
            if !out.is_json() {
                let count = snapshot.documents().len();
                note(format_args!("{count} document{}", if count == 1 { "" } else { "s" }));
            }
        }
    }
    out.flush()?;
    connection.close().await;
    Ok(0)
}

/// The query of a collection, or of a group, with its clauses. Asks for the documents that it begins
/// or ends at.
pub(crate) async fn build(
    connection: &Connection,
    collection: &str,
    args: &QueryArgs,
) -> Outcome<Query> {
    let client = connection.client();
    let mut query = match (&args.under, args.group) {
        (Some(document), _) => client.doc(document)?.collection_group(collection),
        (None, true) => client.collection_group(collection),
        (None, false) => client.collection(collection)?.query(),
    };
    for clause in &args.conditions {
        query = query.matching(Filter::from(clause.0.clone()));
    }
    for order in &args.order_by {
        let (field, direction) = direction(order);
        query = query.order_by(field, direction);
    }
    query = match (&args.nearest, args.limit, args.limit_to_last) {
        (Some(text), limit, _) => nearest(query, text, args, limit.unwrap_or_default())?,
        (None, Some(limit), _) => query.limit(limit),
        (None, None, Some(limit)) => query.limit_to_last(limit),
        (None, None, None) => query,
    };
    if let Some(offset) = args.offset {
        query = query.offset(offset);
    }
    if !args.select.is_empty() {
        query = query.select(&args.select);
    }
    query = cut_by_values(query, args)?;
    cut_by_documents(connection, query, args).await
}

fn cut_by_values(mut query: Query, args: &QueryArgs) -> Outcome<Query> {
    if let Some(text) = &args.start_at {
        query = query.start_at(cursor("--start-at", text)?);
    }
    if let Some(text) = &args.start_after {
        query = query.start_after(cursor("--start-after", text)?);
    }
    if let Some(text) = &args.end_at {
        query = query.end_at(cursor("--end-at", text)?);
    }
    if let Some(text) = &args.end_before {
        query = query.end_before(cursor("--end-before", text)?);
    }
    Ok(query)
}

async fn cut_by_documents(
    connection: &Connection,
    mut query: Query,
    args: &QueryArgs,
) -> Outcome<Query> {
    type Cut = fn(Query, &DocumentSnapshot) -> Query;
    let cuts: [(&Option<String>, Cut); 4] = [
        (&args.start_at_document, Query::start_at_document),
        (&args.start_after_document, Query::start_after_document),
        (&args.end_at_document, Query::end_at_document),
        (&args.end_before_document, Query::end_before_document),
    ];
    for (path, cut) in cuts {
        if let Some(path) = path {
            let document = connection.wait(connection.client().doc(path)?.get()).await?;
            query = cut(query, &document);
        }
    }
    Ok(query)
}

/// `FIELD=[0.5,1]`
fn nearest(query: Query, text: &str, args: &QueryArgs, limit: u32) -> Outcome<Query> {
    let Some((field, vector)) = text.rsplit_once('=') else {
        return Err(Failure::usage(format!("`{text}` is no FIELD=[NUMBER,…]")));
    };
    let Ok(vector) = serde_json::from_str::<Vec<f64>>(vector) else {
        return Err(Failure::usage(format!("`{vector}` is no array of numbers")));
    };
    let measure = match args.measure {
        Measure::Euclidean => DistanceMeasure::Euclidean,
        Measure::Cosine => DistanceMeasure::Cosine,
        Measure::DotProduct => DistanceMeasure::DotProduct,
    };
    let mut query = query.find_nearest(field.trim(), vector, measure, limit);
    if let Some(threshold) = args.threshold {
        query = query.distance_threshold(threshold);
    }
    if let Some(field) = &args.distance_field {
        query = query.distance_field(field);
    }
    Ok(query)
}

/// What is to be computed, if anything.
pub(crate) fn aggregate(query: &Query, args: &AggregateArgs) -> Option<AggregateReference> {
    let count = args.count.then(Aggregate::count);
    let sums = args.sum.iter().map(|field| Aggregate::sum(field));
    let averages = args.average.iter().map(|field| Aggregate::average(field));
    let wanted: Vec<Aggregate> = count.into_iter().chain(sums).chain(averages).collect();
    (!wanted.is_empty()).then(|| query.aggregate(wanted))
}

fn print_values(out: &mut Output, snapshot: &AggregateSnapshot) -> Outcome<()> {
    if out.is_json() {
        return out.line(json!({
            "version": snapshot.version().0,
            "values": values_json(snapshot),
        }));
    }
    let width = snapshot.values().iter().map(|(name, _)| display_width(name)).max().unwrap_or(0);
    for (name, value) in snapshot.values() {
        let gap = " ".repeat(width - display_width(name));
        let name = out.colour().paint("36", &printable(name));
        out.line(format_args!("{name}{gap}  {}", value_text(value)))?;
    }
    Ok(())
}

/// The values by their names, in typed form.
pub(crate) fn values_json(snapshot: &AggregateSnapshot) -> Json {
    let values = snapshot.values().iter();
    Json::Object(values.map(|(name, value)| (name.clone(), to_json(value))).collect())
}

/// How the server came by a result.
pub(crate) fn print_explanation(out: &mut Output, explanation: &Explanation) -> Outcome<()> {
    let ratio = scanned_per_result(explanation);
    let help = explanation.suggestion.as_ref().map(create_command);
    if out.is_json() {
        return out.line(json!({
            "type": "explanation",
            "results": explanation.results,
            "entries_scanned": explanation.entries_scanned,
            "documents_read": explanation.documents_read,
            "scanned_per_result": ratio,
            "milliseconds": explanation.time.as_secs_f64() * 1000.0,
            "indexes": explanation.indexes,
            "steps": explanation.steps,
            "suggestion": help,
        }));
    }
    for step in &explanation.steps {
        out.line(printable(step))?;
    }
    let milliseconds = explanation.time.as_secs_f64() * 1000.0;
    let Explanation { entries_scanned, documents_read, results, .. } = explanation;
    out.line(format_args!("results          {results}"))?;
    out.line(format_args!("entries scanned  {entries_scanned}"))?;
    out.line(format_args!("documents read   {documents_read}"))?;
    out.line(format_args!("scanned/result   {ratio:.2}"))?;
    out.line(format_args!("time             {milliseconds:.2} ms"))?;
    match help {
        Some(command) => out.line(format_args!("would help       {command}")),
        None => Ok(()),
    }
}

/// What each result cost; without a result, what finding none did.
fn scanned_per_result(explanation: &Explanation) -> f64 {
    explanation.entries_scanned as f64 / explanation.results.max(1) as f64
}

fn direction(order: &str) -> (&str, Direction) {
    match (order.strip_suffix(":desc"), order.strip_suffix(":asc")) {
        (Some(field), _) => (field, Direction::Descending),
        (None, Some(field)) => (field, Direction::Ascending),
        (None, None) => (order, Direction::Ascending),
    }
}

/// An array is one value for each ordered field; anything else is the value of the first.
fn cursor(option: &str, text: &str) -> Outcome<Vec<Value>> {
    match parse_value(option, text)? {
        Value::Array(values) => Ok(values),
        value => Ok(vec![value]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_suffixes() {
        assert_eq!(direction("at:desc"), ("at", Direction::Descending));
        assert_eq!(direction("at:asc"), ("at", Direction::Ascending));
        assert_eq!(direction("a.b"), ("a.b", Direction::Ascending));
    }

    #[test]
    fn a_cursor_is_a_value_or_several() {
        assert_eq!(cursor("--start-at", "3").unwrap(), [Value::Integer(3)]);
        assert_eq!(cursor("--start-at", "[3,\"x\"]").unwrap().len(), 2);
        assert!(cursor("--start-at", "x").unwrap_err().message().contains("--start-at"));
    }

    #[test]
    fn a_result_has_its_cost_and_so_has_none() {
        let of = |entries_scanned, results| {
            scanned_per_result(&Explanation { entries_scanned, results, ..Explanation::default() })
        };
        assert_eq!((of(11, 10), of(0, 0), of(7, 0)), (1.1, 0.0, 7.0));
    }
}
