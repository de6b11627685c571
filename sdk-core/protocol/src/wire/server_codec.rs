//! The frames of the server between bytes and the model. Documents go through as they are: the
//! encoded bytes into the frame, and slices of the frame out of it.

use std::time::Duration;

use bytes::Bytes;

use super::digest;
use super::explanation::{read_explanation, write_explanation};
use super::fault::Fault;
use super::reader::Reader;
use super::server::{
    AggregateResult, Aggregated, Changes, QueryResult, Removal, ServerMessage, SessionLimits,
    Status, Welcome,
};
use super::value::{read_value, write_values};
use super::write::{read_result, write_result};
use super::writer;
use crate::model::{Code, DocumentPath, Incarnation, TargetId, Timestamp, Version, WriteId};

const WELCOME: u32 = 1;
const LISTENING: u32 = 2;
const RESET: u32 = 3;
const CHANGES: u32 = 4;
const CURRENT: u32 = 5;
const TARGET_ERROR: u32 = 6;
const COMMITTED: u32 = 7;
const REJECTED: u32 = 8;
const RESULT: u32 = 9;
const REQUEST_ERROR: u32 = 10;
const PONG: u32 = 11;
const ERROR: u32 = 12;
const GO_AWAY: u32 = 13;
const AGGREGATE_RESULT: u32 = 16;
const AGGREGATED: u32 = 17;
const STALE: u32 = 18;
const DIGEST_RESULT: u32 = 19;

/// Encodes a ServerMessage.
pub(super) fn write_message(message: &ServerMessage) -> Bytes {
    let mut frame = Vec::with_capacity(capacity(message));
    let (kind, out) = (kind(message), &mut frame);
    writer::message(kind, out, |out| match message {
        ServerMessage::Welcome(welcome) => write_welcome(welcome, out),
        ServerMessage::Listening { target, group, version } => {
            writer::put_uint(1, target.0.into(), out);
            writer::put_uint(2, (*group).into(), out);
            writer::put_fixed(3, version.0, out);
        }
        ServerMessage::Reset { target, reason } | ServerMessage::Stale { target, reason } => {
            writer::put_uint(1, target.0.into(), out);
            writer::put_bytes(2, reason.as_bytes(), out);
        }
        ServerMessage::Changes(changes) => write_changes(changes, out),
        ServerMessage::Current { version } => writer::put_fixed(1, version.0, out),
        ServerMessage::TargetError { target, status } => {
            writer::put_uint(1, target.0.into(), out);
            write_status(2, status, out);
        }
        ServerMessage::Committed { write_id, version, results } => {
            writer::put_uint(1, write_id.0, out);
            writer::put_fixed(2, version.0, out);
            for result in results {
                writer::message(3, out, |out| write_result(result, out));
            }
        }
        ServerMessage::Rejected { write_id, status } => {
            writer::put_uint(1, write_id.0, out);
            write_status(2, status, out);
        }
        ServerMessage::Result(result) => write_query_result(result, out),
        ServerMessage::AggregateResult(result) => write_aggregate_result(result, out),
        ServerMessage::Aggregated(aggregated) => write_aggregated(aggregated, out),
        ServerMessage::DigestResult(result) => digest::write_result(result, out),
        ServerMessage::RequestError { request, status } => {
            writer::put_uint(1, (*request).into(), out);
            write_status(2, status, out);
        }
        ServerMessage::Pong { nonce, server_time } => {
            writer::put_uint(1, *nonce, out);
            writer::put_fixed(2, server_time.as_micros() as u64, out);
        }
        ServerMessage::Error { status } => write_status(1, status, out),
        ServerMessage::GoAway { status, reconnect_after } => {
            write_status(1, status, out);
            if let Some(after) = reconnect_after {
                writer::one_of_uint(2, milliseconds(*after).into(), out);
            }
        }
    });
    frame.into()
}

fn kind(message: &ServerMessage) -> u32 {
    match message {
        ServerMessage::Welcome(_) => WELCOME,
        ServerMessage::Listening { .. } => LISTENING,
        ServerMessage::Reset { .. } => RESET,
        ServerMessage::Changes(_) => CHANGES,
        ServerMessage::Current { .. } => CURRENT,
        ServerMessage::TargetError { .. } => TARGET_ERROR,
        ServerMessage::Committed { .. } => COMMITTED,
        ServerMessage::Rejected { .. } => REJECTED,
        ServerMessage::Result(_) => RESULT,
        ServerMessage::AggregateResult(_) => AGGREGATE_RESULT,
        ServerMessage::Aggregated(_) => AGGREGATED,
        ServerMessage::Stale { .. } => STALE,
        ServerMessage::DigestResult(_) => DIGEST_RESULT,
        ServerMessage::RequestError { .. } => REQUEST_ERROR,
        ServerMessage::Pong { .. } => PONG,
        ServerMessage::Error { .. } => ERROR,
        ServerMessage::GoAway { .. } => GO_AWAY,
    }
}

/// Enough for the documents, so that a snapshot does not grow step by step.
fn capacity(message: &ServerMessage) -> usize {
    const HEADER: usize = 64;
    const PER_DOCUMENT: usize = 6;
    let documents = match message {
        ServerMessage::Changes(changes) => &changes.documents,
        ServerMessage::Result(result) => &result.documents,
        _ => return HEADER,
    };
    HEADER + documents.iter().map(|document| document.len() + PER_DOCUMENT).sum::<usize>()
}

fn write_welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    writer::put_uint(1, welcome.protocol_version.into(), out);
    writer::put_fixed(2, welcome.server_time.as_micros() as u64, out);
    writer::put_bytes(3, welcome.session.as_bytes(), out);
    writer::put_fixed(4, welcome.incarnation.0, out);
    writer::message(5, out, |out| {
        writer::put_uint(1, welcome.limits.frame_bytes.into(), out);
        writer::put_uint(2, welcome.limits.targets.into(), out);
        writer::put_uint(3, welcome.limits.commits_in_flight.into(), out);
    });
    writer::put_uint(6, milliseconds(welcome.heartbeat).into(), out);
}

fn write_changes(changes: &Changes, out: &mut Vec<u8>) {
    writer::put_uint(1, changes.group.into(), out);
    writer::put_fixed(2, changes.version.0, out);
    for document in &changes.documents {
        writer::one_of_bytes(3, document, out);
    }
    for removal in &changes.removals {
        writer::message(4, out, |out| {
            writer::put_bytes(1, removal.path.as_str().as_bytes(), out);
            writer::put_bool(2, removal.deleted, out);
        });
    }
    writer::put_bool(5, changes.partial, out);
}

fn write_query_result(result: &QueryResult, out: &mut Vec<u8>) {
    writer::put_uint(1, result.request.into(), out);
    writer::put_fixed(2, result.version.0, out);
    for document in &result.documents {
        writer::one_of_bytes(3, document, out);
    }
    for path in &result.missing {
        writer::one_of_bytes(4, path.as_str().as_bytes(), out);
    }
    writer::put_bool(5, result.more, out);
    if let Some(explanation) = &result.explanation {
        writer::message(6, out, |out| write_explanation(explanation, out));
    }
}

fn write_aggregate_result(result: &AggregateResult, out: &mut Vec<u8>) {
    writer::put_uint(1, result.request.into(), out);
    writer::put_fixed(2, result.version.0, out);
    write_values(3, &result.values, out);
    if let Some(explanation) = &result.explanation {
        writer::message(4, out, |out| write_explanation(explanation, out));
    }
}

fn write_aggregated(aggregated: &Aggregated, out: &mut Vec<u8>) {
    writer::put_uint(1, aggregated.group.into(), out);
    writer::put_fixed(2, aggregated.version.0, out);
    write_values(3, &aggregated.values, out);
    writer::put_bool(4, aggregated.partial, out);
}

fn write_status(field: u32, status: &Status, out: &mut Vec<u8>) {
    writer::message(field, out, |out| {
        writer::put_uint(1, status.code.number().into(), out);
        writer::put_bytes(2, status.message.as_bytes(), out);
    });
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Decodes a ServerMessage.
pub(super) fn read_message(frame: &Bytes) -> Result<ServerMessage, Fault> {
    let mut reader = Reader::new(frame);
    let mut found = None;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            WELCOME..=GO_AWAY | AGGREGATE_RESULT..=DIGEST_RESULT if found.is_some() => {
                return Err(Fault::malformed("it holds more than one message"));
            }
            WELCOME..=GO_AWAY | AGGREGATE_RESULT..=DIGEST_RESULT => {
                found = Some((number, reader.message(wire_type)?));
            }
            _ => reader.skip(tag)?,
        }
    }
    let (kind, body) =
        found.ok_or_else(|| Fault::malformed("it is of no kind that this version knows"))?;
    read_body(kind, body, frame)
}

fn read_body(kind: u32, body: Reader<'_>, frame: &Bytes) -> Result<ServerMessage, Fault> {
    match kind {
        WELCOME => read_welcome(body).map(ServerMessage::Welcome),
        CHANGES => read_changes(body, frame).map(ServerMessage::Changes),
        COMMITTED => read_committed(body),
        RESULT => read_query_result(body, frame).map(ServerMessage::Result),
        AGGREGATE_RESULT => read_aggregate_result(body).map(ServerMessage::AggregateResult),
        AGGREGATED => read_aggregated(body).map(ServerMessage::Aggregated),
        DIGEST_RESULT => digest::read_result(body).map(ServerMessage::DigestResult),
        GO_AWAY => read_go_away(body),
        _ => read_small(kind, body),
    }
}

/// The messages that have no more than a few of the same fields.
fn read_small(kind: u32, mut reader: Reader<'_>) -> Result<ServerMessage, Fault> {
    let (mut first, mut second, mut third, mut status) = (0, 0, 0, None);
    let mut reason = "";
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match (kind, number) {
            (CURRENT, 1) => first = reader.fixed64(wire_type)?,
            (ERROR, 1) => status = Some(read_status(reader.message(wire_type)?)?),
            (_, 1) => first = reader.uint64(wire_type)?,
            (LISTENING, 2) => second = reader.uint64(wire_type)?,
            (RESET | STALE, 2) => reason = reader.text(wire_type)?,
            (PONG, 2) => second = reader.fixed64(wire_type)?,
            (TARGET_ERROR | REJECTED | REQUEST_ERROR, 2) => {
                status = Some(read_status(reader.message(wire_type)?)?);
            }
            (LISTENING, 3) => third = reader.fixed64(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    let target = TargetId(first as u32);
    let status = status.unwrap_or_else(unknown_status);
    Ok(match kind {
        LISTENING => {
            ServerMessage::Listening { target, group: second as u32, version: Version(third) }
        }
        RESET => ServerMessage::Reset { target, reason: reason.to_owned() },
        STALE => ServerMessage::Stale { target, reason: reason.to_owned() },
        CURRENT => ServerMessage::Current { version: Version(first) },
        TARGET_ERROR => ServerMessage::TargetError { target, status },
        REJECTED => ServerMessage::Rejected { write_id: WriteId(first), status },
        REQUEST_ERROR => ServerMessage::RequestError { request: first as u32, status },
        PONG => ServerMessage::Pong { nonce: first, server_time: read_time(second)? },
        _ => ServerMessage::Error { status },
    })
}

fn read_welcome(mut reader: Reader<'_>) -> Result<Welcome, Fault> {
    let mut welcome = Welcome {
        protocol_version: 0,
        server_time: Timestamp::default(),
        session: String::new(),
        incarnation: Incarnation(0),
        limits: SessionLimits { frame_bytes: 0, targets: 0, commits_in_flight: 0 },
        heartbeat: Duration::ZERO,
    };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => welcome.protocol_version = reader.uint32(wire_type)?,
            2 => welcome.server_time = read_time(reader.fixed64(wire_type)?)?,
            3 => welcome.session = reader.text(wire_type)?.to_owned(),
            4 => welcome.incarnation = Incarnation(reader.fixed64(wire_type)?),
            5 => read_limits(&mut welcome.limits, reader.message(wire_type)?)?,
            6 => welcome.heartbeat = Duration::from_millis(reader.uint32(wire_type)?.into()),
            _ => reader.skip(tag)?,
        }
    }
    Ok(welcome)
}

fn read_limits(limits: &mut SessionLimits, mut reader: Reader<'_>) -> Result<(), Fault> {
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => limits.frame_bytes = reader.uint32(wire_type)?,
            2 => limits.targets = reader.uint32(wire_type)?,
            3 => limits.commits_in_flight = reader.uint32(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn read_changes(mut reader: Reader<'_>, frame: &Bytes) -> Result<Changes, Fault> {
    let mut changes = Changes::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => changes.group = reader.uint32(wire_type)?,
            2 => changes.version = Version(reader.fixed64(wire_type)?),
            3 => changes.documents.push(frame.slice_ref(reader.bytes(wire_type)?)),
            4 => changes.removals.push(read_removal(reader.message(wire_type)?)?),
            5 => changes.partial = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(changes)
}

fn read_removal(mut reader: Reader<'_>) -> Result<Removal, Fault> {
    let (mut path, mut deleted) = ("", false);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => path = reader.text(wire_type)?,
            2 => deleted = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(Removal { path: DocumentPath::parse(path)?, deleted })
}

fn read_committed(mut reader: Reader<'_>) -> Result<ServerMessage, Fault> {
    let (mut write_id, mut version, mut results) = (WriteId(0), Version::NONE, Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => write_id = WriteId(reader.uint64(wire_type)?),
            2 => version = Version(reader.fixed64(wire_type)?),
            3 => results.push(read_result(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(ServerMessage::Committed { write_id, version, results })
}

fn read_query_result(mut reader: Reader<'_>, frame: &Bytes) -> Result<QueryResult, Fault> {
    let mut result = QueryResult::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => result.request = reader.uint32(wire_type)?,
            2 => result.version = Version(reader.fixed64(wire_type)?),
            3 => result.documents.push(frame.slice_ref(reader.bytes(wire_type)?)),
            4 => result.missing.push(DocumentPath::parse(reader.text(wire_type)?)?),
            5 => result.more = reader.boolean(wire_type)?,
            6 => result.explanation = Some(read_explanation(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(result)
}

fn read_aggregate_result(mut reader: Reader<'_>) -> Result<AggregateResult, Fault> {
    let mut result = AggregateResult::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => result.request = reader.uint32(wire_type)?,
            2 => result.version = Version(reader.fixed64(wire_type)?),
            3 => result.values.push(read_value(reader.message(wire_type)?)?),
            4 => result.explanation = Some(read_explanation(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(result)
}

fn read_aggregated(mut reader: Reader<'_>) -> Result<Aggregated, Fault> {
    let mut aggregated = Aggregated::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => aggregated.group = reader.uint32(wire_type)?,
            2 => aggregated.version = Version(reader.fixed64(wire_type)?),
            3 => aggregated.values.push(read_value(reader.message(wire_type)?)?),
            4 => aggregated.partial = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(aggregated)
}

fn read_go_away(mut reader: Reader<'_>) -> Result<ServerMessage, Fault> {
    let (mut status, mut reconnect_after) = (None, None);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => status = Some(read_status(reader.message(wire_type)?)?),
            2 => {
                let milliseconds = reader.uint32(wire_type)?;
                reconnect_after = Some(Duration::from_millis(milliseconds.into()));
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(ServerMessage::GoAway { status: status.unwrap_or_else(unknown_status), reconnect_after })
}

fn read_status(mut reader: Reader<'_>) -> Result<Status, Fault> {
    let mut status = unknown_status();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => status.code = Code::from_number(reader.uint32(wire_type)?),
            2 => status.message = reader.text(wire_type)?.to_owned(),
            _ => reader.skip(tag)?,
        }
    }
    Ok(status)
}

fn unknown_status() -> Status {
    Status { code: Code::Unknown, message: String::new() }
}

fn read_time(micros: u64) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(micros as i64)?)
}
