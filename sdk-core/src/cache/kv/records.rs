//! The values of the store. Documents and writes are as on the wire; the rest is a few numbers.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use tidemark_protocol::model::{
    ClientId, Code, Document, EditTime, Incarnation, Read, ResumeToken, Version, Write, WriteId,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit};
use tidemark_protocol::wire::codec::{
    decode_client, decode_document, encode_client, encode_document, peek_document,
};

use crate::cache::{CacheError, ClockAnchor, Known, Making, Metadata, OutboxEntry, RejectedEntry};

fn damaged(what: &str) -> CacheError {
    CacheError::Damaged(format!("{what} cannot be read"))
}

/// Counters of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The size of what counts.
    pub(super) bytes: u64,
    /// Counts batches: what the least recently used is told by.
    pub(super) now: u64,
    /// The next target's number.
    pub(super) next_target: u32,
}

impl State {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        out.put_u64(self.bytes);
        out.put_u64(self.now);
        out.put_u32(self.next_target);
        out
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<State, CacheError> {
        if record.len() != 20 {
            return Err(damaged("the cache's counters"));
        }
        let (bytes, now) = (record.get_u64(), record.get_u64());
        Ok(State { bytes, now, next_target: record.get_u32() })
    }
}

/// What is kept of a document: when it was stored (8 bytes); then 0 and the version at which it was
/// missing, or 1 and its wire bytes.
pub(super) struct DocumentRecord(Bytes);

const MISSING: u8 = 0;
const PRESENT: u8 = 1;

impl DocumentRecord {
    /// None for what is not known.
    pub(super) fn encode(known: &Known, now: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.put_u64(now);
        match known {
            Known::Unknown => return None,
            Known::Missing { at } => {
                out.put_u8(MISSING);
                out.put_u64(at.0);
            }
            Known::Document(document) => {
                out.put_u8(PRESENT);
                out.extend_from_slice(&encode_document(document));
            }
        }
        Some(out)
    }

    pub(super) fn decode(record: Vec<u8>) -> Result<DocumentRecord, CacheError> {
        let missing_is_whole = record.len() == 17;
        match record.get(8) {
            Some(&PRESENT) => Ok(DocumentRecord(record.into())),
            Some(&MISSING) if missing_is_whole => Ok(DocumentRecord(record.into())),
            Some(_) | None => Err(damaged("a document")),
        }
    }

    /// When it was stored.
    pub(super) fn stored(&self) -> u64 {
        (&self.0[..8]).get_u64()
    }

    pub(super) fn known(&self) -> Result<Known, CacheError> {
        if self.0[8] == MISSING {
            return Ok(Known::Missing { at: Version((&self.0[9..]).get_u64()) });
        }
        let document = decode_document(&self.0.slice(9..)).map_err(|_| damaged("a document"))?;
        Ok(Known::Document(Arc::new(document)))
    }

    /// Whether it is a document in a collection of this id.
    pub(super) fn is_in_group(&self, collection_id: &str) -> bool {
        let path = || peek_document(&self.0[9..]).ok().map(|(path, ..)| path.to_owned());
        self.0[8] == PRESENT
            && path().is_some_and(|path| path.rsplit('/').nth(1) == Some(collection_id))
    }

    pub(super) fn document(&self) -> Result<Option<Arc<Document>>, CacheError> {
        Ok(self.known()?.into_document())
    }
}

/// What is kept of a target besides its members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TargetRecord {
    /// Its number, in the keys of its members.
    pub(super) id: u32,
    /// When it was stored.
    pub(super) stored: u64,
    pub(super) token: Option<ResumeToken>,
}

impl TargetRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(28);
        out.put_u32(self.id);
        out.put_u64(self.stored);
        if let Some(token) = self.token {
            out.put_u64(token.incarnation.0);
            out.put_u64(token.version.0);
        }
        out
    }

    pub(super) fn decode(mut record: &[u8]) -> Result<TargetRecord, CacheError> {
        if record.len() != 12 && record.len() != 28 {
            return Err(damaged("a target"));
        }
        let (id, stored) = (record.get_u32(), record.get_u64());
        let token = record.has_remaining().then(|| ResumeToken {
            incarnation: Incarnation(record.get_u64()),
            version: Version(record.get_u64()),
        });
        Ok(TargetRecord { id, stored, token })
    }
}

pub(super) fn encode_metadata(metadata: &Metadata) -> Vec<u8> {
    let mut out = Vec::with_capacity(58);
    out.extend_from_slice(&metadata.client_id.0);
    out.put_u64(metadata.next_write_id.0);
    out.put_u64(metadata.acknowledged_through.0);
    out.put_u64(metadata.last_edit.0);
    out.put_u8(u8::from(metadata.clock.is_some()));
    out.put_i64(metadata.clock.map_or(0, |clock| clock.offset));
    out.put_u8(u8::from(metadata.incarnation.is_some()));
    out.put_u64(metadata.incarnation.map_or(0, |incarnation| incarnation.0));
    out
}

pub(super) fn decode_metadata(mut record: &[u8]) -> Result<Metadata, CacheError> {
    if record.len() != 58 {
        return Err(damaged("the client's metadata"));
    }
    let mut client_id = ClientId([0; 16]);
    record.copy_to_slice(&mut client_id.0);
    let mut next = || record.get_u64();
    let (next_write_id, acknowledged_through) = (WriteId(next()), WriteId(next()));
    let last_edit = EditTime(next());
    let has_clock = record.get_u8() == 1;
    let clock = ClockAnchor { offset: record.get_i64() };
    let has_incarnation = record.get_u8() == 1;
    let incarnation = Incarnation(record.get_u64());
    Ok(Metadata {
        client_id,
        next_write_id,
        acknowledged_through,
        clock: has_clock.then_some(clock),
        last_edit,
        incarnation: has_incarnation.then_some(incarnation),
    })
}

/// Writes, as the commit that they are.
fn encode_commit(id: WriteId, writes: &[Write], reads: &[Read], edit: Option<EditTime>) -> Bytes {
    encode_client(&ClientMessage::Commit(Commit {
        write_id: id,
        writes: writes.to_vec(),
        reads: reads.to_vec(),
        acknowledged_through: WriteId::default(),
        edit_time: edit,
        follows: None,
    }))
}

fn decode_commit(record: &[u8]) -> Result<Commit, CacheError> {
    match decode_client(&Bytes::copy_from_slice(record), usize::MAX) {
        Ok(ClientMessage::Commit(commit)) => Ok(commit),
        Ok(_) | Err(_) => Err(damaged("a pending write")),
    }
}

/// The local time of the call, how it was made, then a commit.
pub(super) fn encode_outbox(entry: &OutboxEntry) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(entry.at.0);
    out.put_u8(match entry.making {
        Making::Online => 0,
        Making::Offline => 1,
        Making::Unaligned => 2,
    });
    out.extend_from_slice(&encode_commit(entry.id, &entry.writes, &entry.reads, Some(entry.edit)));
    out
}

pub(super) fn decode_outbox(mut record: &[u8]) -> Result<OutboxEntry, CacheError> {
    let at = Version(record.try_get_u64().map_err(|_| damaged("a pending write"))?);
    let making = match record.try_get_u8() {
        Ok(0) => Making::Online,
        Ok(1) => Making::Offline,
        Ok(2) => Making::Unaligned,
        Ok(_) | Err(_) => return Err(damaged("a pending write")),
    };
    let commit = decode_commit(record)?;
    let edit = commit.edit_time.unwrap_or_default();
    let (id, reads) = (commit.write_id, commit.reads);
    Ok(OutboxEntry { id, writes: commit.writes.into(), reads, at, edit, making })
}

/// The local time of the call, the code, the message with its length, then a commit.
pub(super) fn encode_rejected(entry: &RejectedEntry) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(entry.at.0);
    out.put_u32(entry.code.number());
    let message = entry.message.as_bytes();
    out.put_u32(u32::try_from(message.len()).expect("a message is no gigabytes long"));
    out.extend_from_slice(message);
    out.extend_from_slice(&encode_commit(entry.id, &entry.writes, &[], None));
    out
}

pub(super) fn decode_rejected(mut record: &[u8]) -> Result<RejectedEntry, CacheError> {
    let short = |_| damaged("a rejected write");
    let at = Version(record.try_get_u64().map_err(short)?);
    let code = Code::from_number(record.try_get_u32().map_err(short)?);
    let length = record.try_get_u32().map_err(short)? as usize;
    let (message, record) =
        record.split_at_checked(length).ok_or_else(|| damaged("a rejected write"))?;
    let message = String::from_utf8_lossy(message).into_owned();
    let commit = decode_commit(record)?;
    Ok(RejectedEntry { id: commit.write_id, writes: commit.writes.into(), at, code, message })
}
