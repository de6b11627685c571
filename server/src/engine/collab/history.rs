//! A document's history: the documents below it that hold the changes, and how they are replaced by
//! a snapshot when they have become many.

use bytes::Bytes;
use tidemark_protocol::model::collab::{CollabDocument, CollabError, TextUnit};
use tidemark_protocol::model::{
    COLLABORATIVE_ID, CollectionPath, Document, DocumentPath, Fields, MergeState, Value, Version,
};

use super::super::error::{EngineError, Rejection};
use super::view::View;
use super::{ACTOR, Written};

/// Chunks are replaced by a snapshot when they have this many bytes, and this part of the snapshot's.
const LEAST_CHUNK_BYTES: usize = 24 << 10;
const CHUNK_PART: usize = 8;
/// Or when they are this many: each is a document.
const MOST_CHUNKS: u64 = 256;

/// The name of a field of the documents of a history.
const DATA: &str = "data";
/// In the first part of a snapshot: the changes that nothing followed, one after the other. Who has
/// them need not read it.
const HEADS: &str = "heads";

/// An epoch in memory, and what is stored of it.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) epoch: Version,
    pub(super) document: CollabDocument,
    /// The parts of the snapshot, and their bytes.
    pub(super) parts: u64,
    pub(super) snapshot_bytes: usize,
    /// The chunks after it are those from the first up to, not including, the next.
    pub(super) first_chunk: u64,
    pub(super) next_chunk: u64,
    pub(super) chunk_bytes: usize,
}

/// The collection that holds a document's history.
pub(super) fn collection(path: &DocumentPath) -> Result<CollectionPath, Rejection> {
    Ok(path.collection(COLLABORATIVE_ID)?)
}

impl History {
    /// An epoch that begins with a document.
    pub(super) fn new(epoch: Version, document: CollabDocument) -> History {
        History {
            epoch,
            document,
            parts: 0,
            snapshot_bytes: 0,
            first_chunk: 0,
            next_chunk: 0,
            chunk_bytes: 0,
        }
    }

    /// Reads an epoch.
    pub(super) async fn load(
        view: View<'_>,
        path: &DocumentPath,
        epoch: Version,
    ) -> Result<History, Rejection> {
        let stored = view.collection(&collection(path)?).await?;
        let mut history = History::new(epoch, CollabDocument::new(ACTOR, TextUnit::CodePoints));
        let (mut parts, mut chunks) = (Vec::new(), Vec::new());
        for (path, stored) in &stored {
            let Some((of, kind, number)) = parse_id(path.id()) else { continue };
            let Some(Value::Bytes(data)) = stored.document.fields.get(DATA) else { continue };
            if of != epoch {
                continue;
            }
            match kind {
                Kind::Part => {
                    parts.push(data.clone());
                    history.snapshot_bytes += data.len();
                }
                Kind::Chunk => {
                    if chunks.is_empty() {
                        history.first_chunk = number;
                    }
                    chunks.push(data.clone());
                    history.next_chunk = number + 1;
                    history.chunk_bytes += data.len();
                }
            }
        }
        history.parts = parts.len() as u64;
        let document = CollabDocument::load(
            ACTOR,
            TextUnit::CodePoints,
            parts.iter().map(|part| &part[..]),
            chunks.iter().map(|chunk| &chunk[..]),
        );
        history.document = document.map_err(EngineError::corrupt)?;
        Ok(history)
    }

    /// What it takes in memory, about.
    pub(super) fn cost(&self) -> usize {
        let operations = usize::try_from(self.document.operations()).unwrap_or(usize::MAX);
        operations.saturating_mul(48).saturating_add(16 << 10)
    }

    /// Stores changes that the document holds already.
    pub(super) fn store(
        &mut self,
        path: &DocumentPath,
        version: Version,
        changes: &[Bytes],
        out: &mut Written,
    ) -> Result<(), Rejection> {
        let chunk =
            CollabDocument::chunk(changes.iter().map(|change| &change[..])).map_err(refused)?;
        let waiting = self.chunk_bytes + chunk.len();
        let is_many = self.next_chunk - self.first_chunk >= MOST_CHUNKS;
        if is_many || waiting > LEAST_CHUNK_BYTES.max(self.snapshot_bytes / CHUNK_PART) {
            return self.compact(path, version, out);
        }
        self.chunk_bytes = waiting;
        let id = chunk_id(self.epoch, self.next_chunk);
        self.next_chunk += 1;
        let fields = Fields::from([(DATA.to_owned(), Value::Bytes(chunk))]);
        out.history.push(history_document(path, &id, version, fields)?);
        Ok(())
    }

    /// Replaces everything stored by a snapshot.
    pub(super) fn compact(
        &mut self,
        path: &DocumentPath,
        version: Version,
        out: &mut Written,
    ) -> Result<(), Rejection> {
        let heads: Vec<u8> = self.document.heads().into_iter().flatten().collect();
        let parts = self.document.save();
        for chunk in self.first_chunk..self.next_chunk {
            out.history.push((collection(path)?.doc(&chunk_id(self.epoch, chunk))?, None));
        }
        for part in parts.len() as u64..self.parts {
            out.history.push((collection(path)?.doc(&part_id(self.epoch, part))?, None));
        }
        self.first_chunk = self.next_chunk;
        self.chunk_bytes = 0;
        self.parts = parts.len() as u64;
        self.snapshot_bytes = parts.iter().map(Bytes::len).sum();
        for (number, part) in parts.into_iter().enumerate() {
            let mut fields = Fields::from([(DATA.to_owned(), Value::Bytes(part))]);
            if number == 0 {
                fields.insert(HEADS.to_owned(), Value::Bytes(heads.clone().into()));
            }
            let id = part_id(self.epoch, number as u64);
            out.history.push(history_document(path, &id, version, fields)?);
        }
        Ok(())
    }

    /// Deletes everything stored of this epoch.
    pub(super) fn remove(&self, path: &DocumentPath, out: &mut Written) -> Result<(), Rejection> {
        let parts = (0..self.parts).map(|part| part_id(self.epoch, part));
        let chunks = (self.first_chunk..self.next_chunk).map(|chunk| chunk_id(self.epoch, chunk));
        for id in parts.chain(chunks) {
            out.history.push((collection(path)?.doc(&id)?, None));
        }
        Ok(())
    }
}

/// What the author of changes that cannot be merged is told.
pub(super) fn refused(error: CollabError) -> Rejection {
    tidemark_protocol::model::ModelError::from(error).into()
}

fn history_document(
    path: &DocumentPath,
    id: &str,
    version: Version,
    fields: Fields,
) -> Result<(DocumentPath, Option<Document>), Rejection> {
    let path = collection(path)?.doc(id)?;
    let document = Document {
        path: path.clone(),
        fields,
        create_version: version,
        update_version: version,
        merge: MergeState::default(),
    };
    Ok((path, Some(document)))
}

enum Kind {
    Part,
    Chunk,
}

fn part_id(epoch: Version, part: u64) -> String {
    format!("{:020}-s{part:04}", epoch.0)
}

fn chunk_id(epoch: Version, chunk: u64) -> String {
    format!("{:020}-c{chunk:012}", epoch.0)
}

fn parse_id(id: &str) -> Option<(Version, Kind, u64)> {
    let (epoch, rest) = id.split_once('-')?;
    let (kind, number) = match (rest.strip_prefix('s'), rest.strip_prefix('c')) {
        (Some(number), _) => (Kind::Part, number),
        (None, Some(number)) => (Kind::Chunk, number),
        (None, None) => return None,
    };
    Some((Version(epoch.parse().ok()?), kind, number.parse().ok()?))
}
