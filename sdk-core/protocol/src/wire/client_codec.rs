//! The frames of a client between bytes and the model. Decoding them is the server's border: each
//! count is checked before it is reached, and what arrives in the model has been validated.

use bytes::Bytes;

use super::client::{ClientMessage, Commit, Hello, Listen};
use super::codec::Scope;
use super::digest::{read_node, write_node};
use super::fault::Fault;
use super::query::{
    push_path, read_aggregate, read_documents, read_query, write_aggregate, write_documents,
    write_query,
};
use super::reader::{Reader, WireType};
use super::write::{check_count, read_read, read_write, write_read, write_write};
use super::writer;
use crate::model::{
    AggregateQuery, ClientId, EditTime, Incarnation, ModelError, Query, ResumeToken, Target,
    TargetId, Version, WriteId, limits, validate_commit,
};

const HELLO: u32 = 1;
const LISTEN: u32 = 2;
const UNLISTEN: u32 = 3;
const COMMIT: u32 = 4;
const GET: u32 = 5;
const QUERY: u32 = 6;
const PING: u32 = 7;
const ACKNOWLEDGE: u32 = 8;
const AGGREGATE: u32 = 11;
const DIGEST: u32 = 12;

/// Encodes a ClientMessage.
pub(super) fn write_message(message: &ClientMessage) -> Bytes {
    let mut frame = Vec::with_capacity(256);
    let out = &mut frame;
    match message {
        ClientMessage::Hello(hello) => writer::message(HELLO, out, |out| write_hello(hello, out)),
        ClientMessage::Listen(listen) => {
            writer::message(LISTEN, out, |out| write_listen(listen, out));
        }
        ClientMessage::Unlisten { target } => {
            writer::message(UNLISTEN, out, |out| writer::put_uint(1, target.0.into(), out));
        }
        ClientMessage::Commit(commit) => {
            writer::message(COMMIT, out, |out| write_commit(commit, out));
        }
        ClientMessage::Get { request, paths } => writer::message(GET, out, |out| {
            writer::put_uint(1, (*request).into(), out);
            for path in paths {
                writer::one_of_bytes(2, path.as_str().as_bytes(), out);
            }
        }),
        ClientMessage::Query { request, query, explain } => writer::message(QUERY, out, |out| {
            writer::put_uint(1, (*request).into(), out);
            writer::message(2, out, |out| write_query(query, out));
            writer::put_bool(3, *explain, out);
        }),
        ClientMessage::Aggregate { request, aggregate, explain } => {
            writer::message(AGGREGATE, out, |out| {
                writer::put_uint(1, (*request).into(), out);
                writer::message(2, out, |out| write_aggregate(aggregate, out));
                writer::put_bool(3, *explain, out);
            });
        }
        ClientMessage::Ping { nonce } => {
            writer::message(PING, out, |out| writer::put_uint(1, *nonce, out));
        }
        ClientMessage::Acknowledge { through } => {
            writer::message(ACKNOWLEDGE, out, |out| writer::put_uint(1, through.0, out));
        }
        ClientMessage::Digest { request, target, nodes } => writer::message(DIGEST, out, |out| {
            writer::put_uint(1, (*request).into(), out);
            write_target(target, out);
            for node in nodes {
                writer::message(4, out, |out| write_node(*node, out));
            }
        }),
    }
    frame.into()
}

fn write_hello(hello: &Hello, out: &mut Vec<u8>) {
    writer::put_uint(1, hello.protocol_version.into(), out);
    writer::put_uint(2, hello.minimum_version.into(), out);
    writer::put_bytes(3, hello.project.as_bytes(), out);
    writer::put_bytes(4, hello.database.as_bytes(), out);
    writer::put_bytes(5, hello.token.as_bytes(), out);
    writer::put_bytes(6, &hello.client_id.0, out);
    writer::put_uint(7, hello.acknowledged_through.0, out);
    writer::put_bytes(8, hello.agent.as_bytes(), out);
}

fn write_listen(listen: &Listen, out: &mut Vec<u8>) {
    writer::put_uint(1, listen.target_id.0.into(), out);
    write_target(&listen.target, out);
    if let Some(token) = listen.resume {
        writer::message(4, out, |out| {
            writer::put_fixed(1, token.incarnation.0, out);
            writer::put_fixed(2, token.version.0, out);
        });
    }
    writer::put_bool(7, listen.reconciles, out);
}

/// Appends the oneof that names a target.
fn write_target(target: &Target, out: &mut Vec<u8>) {
    match target {
        Target::Query(query) => writer::message(2, out, |out| write_query(query, out)),
        Target::Documents(paths) => writer::message(3, out, |out| write_documents(paths, out)),
        Target::Aggregate(aggregate) => {
            writer::message(6, out, |out| write_aggregate(aggregate, out));
        }
    }
}

fn write_commit(commit: &Commit, out: &mut Vec<u8>) {
    writer::put_uint(1, commit.write_id.0, out);
    for write in &commit.writes {
        writer::message(2, out, |out| write_write(write, out));
    }
    for read in &commit.reads {
        writer::message(3, out, |out| write_read(read, out));
    }
    writer::put_uint(4, commit.acknowledged_through.0, out);
    if let Some(time) = commit.edit_time {
        writer::one_of_fixed(5, time.0, out);
    }
    if let Some(id) = commit.follows {
        writer::put_uint(6, id.0, out);
    }
}

/// Decodes a ClientMessage; a fault comes with what the frame was about.
pub(super) fn read_message(frame: &[u8]) -> Result<ClientMessage, (Scope, Fault)> {
    let (kind, body) = read_kind(frame).map_err(|fault| (Scope::Connection, fault))?;
    read_body(kind, body).map_err(|fault| (scope(kind, body), fault))
}

/// The one field of the oneof.
fn read_kind(frame: &[u8]) -> Result<(u32, Reader<'_>), Fault> {
    let mut reader = Reader::new(frame);
    let mut found = None;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            HELLO..=ACKNOWLEDGE | AGGREGATE | DIGEST if found.is_some() => {
                return Err(Fault::malformed("it holds more than one message"));
            }
            HELLO..=ACKNOWLEDGE | AGGREGATE | DIGEST => {
                found = Some((number, reader.message(wire_type)?));
            }
            9 => return Err(Fault::unimplemented("the message `authenticate`")),
            10 => return Err(Fault::unimplemented("the message `signal`")),
            _ => reader.skip(tag)?,
        }
    }
    found.ok_or_else(|| Fault::malformed("it is of no kind that this version knows"))
}

/// What a message is about, by its first field and whatever else is wrong with it.
fn scope(kind: u32, mut body: Reader<'_>) -> Scope {
    let mut id = 0;
    while let Ok(Some(tag)) = body.tag() {
        match tag {
            (1, WireType::Varint) => match body.varint() {
                Ok(found) => id = found,
                Err(_) => break,
            },
            tag => {
                if body.skip(tag).is_err() {
                    break;
                }
            }
        }
    }
    match kind {
        LISTEN | UNLISTEN => Scope::Target(TargetId(id as u32)),
        COMMIT => Scope::Write(WriteId(id)),
        GET | QUERY | AGGREGATE | DIGEST => Scope::Request(id as u32),
        _ => Scope::Connection,
    }
}

fn read_body(kind: u32, body: Reader<'_>) -> Result<ClientMessage, Fault> {
    Ok(match kind {
        HELLO => ClientMessage::Hello(read_hello(body)?),
        LISTEN => ClientMessage::Listen(read_listen(body)?),
        UNLISTEN => ClientMessage::Unlisten { target: TargetId(read_number(body)? as u32) },
        COMMIT => ClientMessage::Commit(read_commit(body)?),
        GET => read_get(body)?,
        QUERY => read_run_query(body)?,
        AGGREGATE => read_run_aggregate(body)?,
        DIGEST => read_digest(body)?,
        PING => ClientMessage::Ping { nonce: read_number(body)? },
        _ => ClientMessage::Acknowledge { through: WriteId(read_number(body)?) },
    })
}

/// Reads a message that is one number.
fn read_number(mut reader: Reader<'_>) -> Result<u64, Fault> {
    let mut number = 0;
    while let Some(tag) = reader.tag()? {
        match tag {
            (1, wire_type) => number = reader.uint64(wire_type)?,
            tag => reader.skip(tag)?,
        }
    }
    Ok(number)
}

fn read_hello(mut reader: Reader<'_>) -> Result<Hello, Fault> {
    let mut client_id: &[u8] = &[];
    let mut hello = Hello {
        protocol_version: 0,
        minimum_version: 0,
        project: String::new(),
        database: String::new(),
        token: String::new(),
        client_id: ClientId([0; 16]),
        acknowledged_through: WriteId(0),
        agent: String::new(),
    };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => hello.protocol_version = reader.uint32(wire_type)?,
            2 => hello.minimum_version = reader.uint32(wire_type)?,
            3 => hello.project = reader.text(wire_type)?.to_owned(),
            4 => hello.database = reader.text(wire_type)?.to_owned(),
            5 => hello.token = reader.text(wire_type)?.to_owned(),
            6 => client_id = reader.bytes(wire_type)?,
            7 => hello.acknowledged_through = WriteId(reader.uint64(wire_type)?),
            8 => hello.agent = reader.text(wire_type)?.to_owned(),
            _ => reader.skip(tag)?,
        }
    }
    let length = client_id.len();
    let id = client_id.try_into();
    hello.client_id = ClientId(
        id.map_err(|_| Fault::invalid(format!("a client id has 16 bytes, not {length}")))?,
    );
    Ok(hello)
}

fn read_listen(mut reader: Reader<'_>) -> Result<Listen, Fault> {
    let (mut target_id, mut target, mut resume, mut reconciles) = (0, None, None, false);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => target_id = reader.uint32(wire_type)?,
            2 | 3 | 6 => target = Some(read_target(number, reader.message(wire_type)?)?),
            4 => resume = Some(read_resume(reader.message(wire_type)?)?),
            7 => reconciles = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    let target = valid_target(target)?;
    Ok(Listen { target_id: TargetId(target_id), target, resume, reconciles })
}

/// Reads a field of the oneof that names a target.
fn read_target(number: u32, reader: Reader<'_>) -> Result<Target, Fault> {
    Ok(match number {
        2 => Target::Query(read_query(reader)?),
        3 => read_documents(reader)?,
        _ => Target::Aggregate(read_aggregate(reader)?),
    })
}

fn valid_target(target: Option<Target>) -> Result<Target, Fault> {
    let target =
        target.ok_or_else(|| Fault::invalid("there is no target that this version knows"))?;
    target.validate()?;
    Ok(target)
}

fn read_digest(mut reader: Reader<'_>) -> Result<ClientMessage, Fault> {
    let (mut request, mut target, mut nodes) = (0, None, Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => request = reader.uint32(wire_type)?,
            2 | 3 | 6 => target = Some(read_target(number, reader.message(wire_type)?)?),
            4 => {
                check_count("branches of a digest", &nodes, limits::DIGEST_NODES)?;
                nodes.push(read_node(reader.message(wire_type)?)?);
            }
            _ => reader.skip(tag)?,
        }
    }
    let target = valid_target(target)?;
    if let Target::Aggregate(_) = target {
        return Err(Fault::invalid("an aggregate has no members to compare"));
    }
    Ok(ClientMessage::Digest { request, target, nodes })
}

fn read_resume(mut reader: Reader<'_>) -> Result<ResumeToken, Fault> {
    let mut token = ResumeToken { incarnation: Incarnation(0), version: Version::NONE };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => token.incarnation = Incarnation(reader.fixed64(wire_type)?),
            2 => token.version = Version(reader.fixed64(wire_type)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(token)
}

fn read_commit(mut reader: Reader<'_>) -> Result<Commit, Fault> {
    let mut commit = Commit {
        write_id: WriteId(0),
        writes: Vec::new(),
        reads: Vec::new(),
        acknowledged_through: WriteId(0),
        edit_time: None,
        follows: None,
    };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => commit.write_id = WriteId(reader.uint64(wire_type)?),
            2 => {
                check_count("writes", &commit.writes, limits::WRITES_PER_COMMIT)?;
                commit.writes.push(read_write(reader.message(wire_type)?)?);
            }
            3 => {
                check_count("reads", &commit.reads, limits::DOCUMENTS_PER_REQUEST)?;
                commit.reads.push(read_read(reader.message(wire_type)?)?);
            }
            4 => commit.acknowledged_through = WriteId(reader.uint64(wire_type)?),
            5 => commit.edit_time = Some(EditTime(reader.fixed64(wire_type)?)),
            6 => commit.follows = Some(WriteId(reader.uint64(wire_type)?)).filter(|id| id.0 > 0),
            _ => reader.skip(tag)?,
        }
    }
    if commit.write_id == WriteId(0) {
        return Err(Fault::invalid("write ids begin at 1"));
    }
    validate_commit(&commit.writes)?;
    Ok(commit)
}

fn read_get(mut reader: Reader<'_>) -> Result<ClientMessage, Fault> {
    let (mut request, mut paths) = (0, Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => request = reader.uint32(wire_type)?,
            2 => push_path(&mut paths, &mut reader, wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(ClientMessage::Get { request, paths })
}

fn read_run_query(mut reader: Reader<'_>) -> Result<ClientMessage, Fault> {
    let (mut request, mut query, mut explain) = (0, None::<Query>, false);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => request = reader.uint32(wire_type)?,
            2 => query = Some(read_query(reader.message(wire_type)?)?),
            3 => explain = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    let query = query.ok_or_else(|| ModelError::invalid("there is no query to run"))?;
    query.validate()?;
    Ok(ClientMessage::Query { request, query, explain })
}

fn read_run_aggregate(mut reader: Reader<'_>) -> Result<ClientMessage, Fault> {
    let (mut request, mut aggregate, mut explain) = (0, None::<AggregateQuery>, false);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => request = reader.uint32(wire_type)?,
            2 => aggregate = Some(read_aggregate(reader.message(wire_type)?)?),
            3 => explain = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    let aggregate = aggregate.ok_or_else(|| ModelError::invalid("there is nothing to compute"))?;
    aggregate.validate()?;
    Ok(ClientMessage::Aggregate { request, aggregate, explain })
}
