//! The text of actions, as the scripts expect it.

use std::fmt::Write as _;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::ClientMessage;

use crate::pending::{OutboxWrite, RejectedWrite, WriteEvent, WriteStage};
use crate::snapshot::{ChangeKind, DocumentSnapshot, QuerySnapshot};

fn named(writes: &[Write]) -> String {
    let paths: Vec<&str> = writes.iter().map(|write| write.path.as_str()).collect();
    paths.join(" ")
}

pub(super) fn reached(event: &WriteEvent) -> String {
    let stage = match &event.stage {
        WriteStage::Local => "is local".to_owned(),
        WriteStage::Committed(committed) => {
            let superseded = |(index, what)| format!(" superseded {index}: {what:?}");
            let superseded: String = committed.superseded().map(superseded).collect();
            format!("is committed @{}{superseded}", committed.version)
        }
        WriteStage::Rejected(error) => format!("is rejected: {error}"),
    };
    format!("stage: {} of {} {stage}", event.id, named(&event.writes))
}

pub(super) fn listed(write: &OutboxWrite) -> String {
    let waits = if write.waiting { " waits" } else { "" };
    format!("{} {}{waits}", write.id, named(&write.writes))
}

pub(super) fn refused(write: &RejectedWrite) -> String {
    format!("{} {} {}: {}", write.id, named(&write.writes), write.code, write.message)
}

pub(super) fn sent(message: &ClientMessage) -> String {
    match message {
        ClientMessage::Hello(hello) => format!("hello acknowledged={}", hello.acknowledged_through),
        ClientMessage::Listen(listen) => {
            let what = match &listen.target {
                Target::Query(query) => stated(query),
                Target::Aggregate(aggregate) => stated_aggregate(aggregate),
                Target::Documents(paths) => paths[0].as_str().to_owned(),
            };
            let resume = listen.resume.map_or_else(String::new, |token| {
                format!(" resume={}@{}", token.incarnation.0, token.version)
            });
            format!("listen {} {what}{resume}", listen.target_id)
        }
        ClientMessage::Unlisten { target } => format!("unlisten {target}"),
        ClientMessage::Commit(commit) => {
            let paths: Vec<&str> = commit.writes.iter().map(|write| write.path.as_str()).collect();
            let reads = if commit.reads.is_empty() { "" } else { " with reads" };
            let through = commit.acknowledged_through;
            let made = commit.edit_time.map_or_else(String::new, |at| format!(" made={}", at.0));
            let after = commit.follows.map_or_else(String::new, |id| format!(" after={id}"));
            let (id, paths) = (commit.write_id, paths.join(" "));
            format!("commit {id} {paths}{reads} acknowledged={through}{made}{after}")
        }
        ClientMessage::Get { request, paths } => {
            let paths: Vec<&str> = paths.iter().map(DocumentPath::as_str).collect();
            format!("get {request} {}", paths.join(" "))
        }
        ClientMessage::Query { request, query, explain } => {
            format!("query {request} {}{}", stated(query), if *explain { " explain" } else { "" })
        }
        ClientMessage::Aggregate { request, aggregate, explain } => {
            let explain = if *explain { " explain" } else { "" };
            format!("aggregate {request} {}{explain}", stated_aggregate(aggregate))
        }
        ClientMessage::Ping { nonce } => format!("ping {nonce}"),
        ClientMessage::Digest { nodes, .. } => format!("digest of {} branches", nodes.len()),
        ClientMessage::Acknowledge { through } => format!("acknowledge {through}"),
    }
}

/// What the server is asked to do beyond sorting and filtering.
fn stated(query: &Query) -> String {
    let mut text = match query.all_descendants {
        true => format!("group {}", query.collection_id),
        false => query.collection_path().as_str().to_owned(),
    };
    if let Some(fields) = &query.projection {
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        write!(text, " select={}", fields.join(",")).unwrap();
    }
    if query.nearest.is_some() {
        text.push_str(" near");
    }
    text
}

fn stated_aggregate(aggregate: &AggregateQuery) -> String {
    let names: Vec<&str> =
        aggregate.aggregations.iter().map(|aggregation| aggregation.alias.as_str()).collect();
    format!("{} of {}", names.join(" "), stated(&aggregate.query))
}

/// `[rooms/a:n=1*]`, where the star is a pending write.
pub(super) fn row(document: &DocumentSnapshot) -> String {
    let mut text = document.path().as_str().to_owned();
    match document.fields() {
        None => text.push_str("(missing)"),
        Some(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{name}={}", plain(value));
            let fields: Vec<String> = fields.iter().map(field).collect();
            if !fields.is_empty() {
                write!(text, ":{}", fields.join(",")).unwrap();
            }
        }
    }
    if document.metadata().has_pending_writes {
        text.push('*');
    }
    text
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Timestamp(time) => format!("T{}", time.as_micros()),
        other => format!("{other:?}"),
    }
}

pub(super) fn shown(snapshot: &QuerySnapshot) -> String {
    let documents: Vec<String> = snapshot.documents().iter().map(row).collect();
    let change = |change: &crate::snapshot::DocumentChange| {
        let (old, new) = (change.old_index, change.new_index);
        let name = row(&change.document);
        match change.kind {
            ChangeKind::Added => format!("+{name}@{}", new.unwrap()),
            ChangeKind::Modified => format!("~{name}@{}-{}", old.unwrap(), new.unwrap()),
            ChangeKind::Removed => format!("-{name}@{}", old.unwrap()),
        }
    };
    let changes: Vec<String> = snapshot.changes().iter().map(change).collect();
    let mut text = format!("@{} [{}]", snapshot.version(), documents.join(" "));
    if snapshot.metadata().from_cache {
        text.push_str(" cache");
    }
    if snapshot.metadata().has_pending_writes {
        text.push_str(" pending");
    }
    write!(text, " {{{}}}", changes.join(" ")).unwrap();
    text
}
