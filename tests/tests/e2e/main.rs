//! End to end: the client core and the real server with a network in between.
//!
//! Each test starts its own server; none sleeps: each waits for what must happen, with a deadline.
#![allow(clippy::unwrap_used)]

mod backpressure;
mod bad_input;
mod basics;
mod chaos;
mod clauses;
mod collab;
mod connections;
mod durability;
mod latency;
mod listening;
mod offline;
mod queries;
mod retention;
mod transactions;
mod windows;

use std::collections::BTreeMap;

use tidemark_core::{DocumentSnapshot, Error, QuerySnapshot, Value};
use tidemark_protocol::model::{DocumentPath, Write, WriteOp};

/// Fields from pairs.
fn fields<const N: usize>(pairs: [(&str, Value); N]) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A protocol write that replaces a document.
fn set<const N: usize>(path: &str, pairs: [(&str, Value); N]) -> Write {
    let path = DocumentPath::parse(path).unwrap();
    Write { path, op: WriteOp::Set(fields(pairs)), transforms: Vec::new(), precondition: None }
}

/// The ids of a result in order.
fn ids(snapshot: &QuerySnapshot) -> Vec<&str> {
    snapshot.documents().iter().map(DocumentSnapshot::id).collect()
}

/// The integer in a field.
fn integer(document: &DocumentSnapshot, field: &str) -> Option<i64> {
    match document.get(field) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

/// The code of the error that must come.
fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.expect_err("this must be refused").code().name()
}
