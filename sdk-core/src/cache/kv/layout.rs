//! The keys of the store, by their first byte. Documents are in the order of their collections, then
//! of their ids; numbers are big-endian.

use tidemark_protocol::model::key::{encode_collection, encode_document};
use tidemark_protocol::model::{CollectionPath, DocumentPath, WriteId};

/// What a key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `d` document: when stored, version, wire bytes.
    Document,
    /// `i` number: an index's definition.
    Index,
    /// `k`: the client's metadata.
    Metadata,
    /// `m` target's number, document: a member.
    Member,
    /// `o` id: a write without an answer.
    Outbox,
    /// `r` id: a write that was rejected.
    Rejected,
    /// `s`: counters.
    State,
    /// `t` canonical encoding: a target's number, token, when stored.
    Target,
    /// `u` document: when it was last read.
    Use,
    /// `v`: the number of this layout.
    Layout,
    /// `x` index's number, 0, key: an entry, with the document's key; 1, document: one listed apart.
    Entry,
}

impl Kind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Kind::Document => b'd',
            Kind::Index => b'i',
            Kind::Metadata => b'k',
            Kind::Member => b'm',
            Kind::Outbox => b'o',
            Kind::Rejected => b'r',
            Kind::State => b's',
            Kind::Target => b't',
            Kind::Use => b'u',
            Kind::Layout => b'v',
            Kind::Entry => b'x',
        }
    }
}

/// Whether a key of this first byte counts towards the size of the cache.
pub(super) fn counts(first: u8) -> bool {
    let kinds = [Kind::Document, Kind::Index, Kind::Member, Kind::Target, Kind::Entry];
    kinds.iter().any(|kind| kind.byte() == first)
}

pub(super) fn document(path: &DocumentPath) -> Vec<u8> {
    let mut key = vec![Kind::Document.byte()];
    encode_document(path, &mut key);
    key
}

/// What the keys of a collection's documents begin with.
pub(super) fn collection(path: &CollectionPath) -> Vec<u8> {
    let mut key = vec![Kind::Document.byte()];
    encode_collection(path, &mut key);
    key
}

/// When the document of this key was last read.
pub(super) fn usage(document: &[u8]) -> Vec<u8> {
    [&[Kind::Use.byte()], &document[1..]].concat()
}

/// What the keys of a target's members begin with.
pub(super) fn members(target: u32) -> Vec<u8> {
    [&[Kind::Member.byte()], &target.to_be_bytes()[..]].concat()
}

/// `document`: its key.
pub(super) fn member(target: u32, document: &[u8]) -> Vec<u8> {
    let mut key = members(target);
    key.extend_from_slice(&document[1..]);
    key
}

/// The key of the document that is a member by this key.
pub(super) fn document_of_member(member: &[u8]) -> Vec<u8> {
    [&[Kind::Document.byte()], &member[5..]].concat()
}

pub(super) fn target(key: &[u8]) -> Vec<u8> {
    [&[Kind::Target.byte()], key].concat()
}

pub(super) fn outbox(id: WriteId) -> Vec<u8> {
    [&[Kind::Outbox.byte()], &id.0.to_be_bytes()[..]].concat()
}

pub(super) fn rejected(id: WriteId) -> Vec<u8> {
    [&[Kind::Rejected.byte()], &id.0.to_be_bytes()[..]].concat()
}

pub(super) fn index(number: u32) -> Vec<u8> {
    [&[Kind::Index.byte()], &number.to_be_bytes()[..]].concat()
}

/// What all keys of an index's entries begin with.
pub(super) fn entries(index: u32) -> Vec<u8> {
    [&[Kind::Entry.byte()], &index.to_be_bytes()[..]].concat()
}

/// What the keys of its ordered entries begin with.
pub(super) fn ordered_entries(index: u32) -> Vec<u8> {
    [&entries(index)[..], &[0]].concat()
}

/// What the keys of the documents that it lists apart begin with.
pub(super) fn long_entries(index: u32) -> Vec<u8> {
    [&entries(index)[..], &[1]].concat()
}

pub(super) fn metadata() -> Vec<u8> {
    vec![Kind::Metadata.byte()]
}

pub(super) fn state() -> Vec<u8> {
    vec![Kind::State.byte()]
}

pub(super) fn layout() -> Vec<u8> {
    vec![Kind::Layout.byte()]
}
