//! `query`: prints the documents of a query; and what `watch` needs to build the same query.

use tidemark_core::{Client, Direction, Query, Value};

use crate::args::{ClientArgs, QueryArgs, QueryCommandArgs};
use crate::connection::Connection;
use crate::failure::Outcome;
use crate::output::{Output, note};
use crate::value::parse_value;

/// Prints the result in its order.
pub(crate) async fn run(client: &ClientArgs, args: &QueryCommandArgs) -> Outcome<u8> {
    let connection = Connection::open(client)?;
    let query = build(connection.client(), &args.collection, &args.query)?;
    let snapshot = connection.wait(query.get()).await?;
    let mut out = Output::new(client.json);
    for document in snapshot.documents() {
        out.document(document)?;
    }
    out.flush()?;
    if !out.is_json() {
        let count = snapshot.documents().len();
        note(format_args!("{count} document{}", if count == 1 { "" } else { "s" }));
    }
    connection.close().await;
    Ok(0)
}

/// The query of a collection with its clauses.
pub(crate) fn build(client: &Client, collection: &str, args: &QueryArgs) -> Outcome<Query> {
    let mut query = client.collection(collection)?.query();
    for clause in &args.conditions {
        query = query.filter(&clause.field, clause.operator, clause.value.clone());
    }
    for order in &args.order_by {
        let (field, direction) = direction(order);
        query = query.order_by(field, direction);
    }
    if let Some(limit) = args.limit {
        query = query.limit(limit);
    }
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
}
