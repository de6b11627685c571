//! A document's history as a listener has it: the parts of a snapshot and the chunks after it, by the
//! names that the server gives them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::collab::{CollabDocument, CollabError, TextUnit};
use tidemark_protocol::model::{Document, Value, Version};

/// The fields of the documents of a history: the changes, and in the first part of a snapshot what it
/// leads to.
const DATA: &str = "data";
const HEADS: &str = "heads";

/// The changes of one commit.
#[derive(Clone, Debug)]
struct Chunk {
    name: String,
    /// The commit.
    version: Version,
    data: Bytes,
}

/// One epoch, complete or as much as is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// 0 if there is none.
    pub(crate) epoch: Version,
    /// What the snapshot contains, as hashes.
    heads: Vec<[u8; 32]>,
    parts: Vec<Bytes>,
    /// In order of their names.
    chunks: Vec<Chunk>,
}

impl History {
    /// Reads the newest epoch out of the documents of the collection, which come in order.
    pub(crate) fn read<'a>(documents: impl IntoIterator<Item = &'a Arc<Document>>) -> History {
        let mut history = History::default();
        for document in documents {
            let Some((epoch, name)) = split(document.path.id()) else { continue };
            let Some(Value::Bytes(data)) = document.fields.get(DATA) else { continue };
            if epoch > history.epoch {
                history = History { epoch, ..History::default() };
            }
            if name.starts_with('c') {
                let (name, version) = (name.to_owned(), document.update_version);
                history.chunks.push(Chunk { name, version, data: data.clone() });
            } else {
                history.parts.push(data.clone());
            }
            if let Some(Value::Bytes(heads)) = document.fields.get(HEADS) {
                history.heads = heads.as_chunks::<32>().0.to_vec();
            }
        }
        history
    }

    /// Its document.
    pub(crate) fn load(&self, actor: &[u8], unit: TextUnit) -> Result<CollabDocument, CollabError> {
        let parts = self.parts.iter().map(|part| &part[..]);
        let chunks = self.chunks.iter().map(|chunk| &chunk.data[..]);
        CollabDocument::load(actor, unit, parts, chunks)
    }

    /// What has to be merged into a document that holds what `former` had of the same epoch, and its
    /// `own` commits.
    pub(crate) fn news(
        &self,
        former: &History,
        own: &BTreeSet<Version>,
        document: &mut CollabDocument,
    ) -> Vec<Bytes> {
        let mut news = Vec::new();
        if self.heads != former.heads && !document.has(&self.heads) {
            // The parts are one piece of bytes.
            news.push(self.parts.concat().into());
        }
        let known = |name: &String| former.chunks.binary_search_by(|it| it.name.cmp(name)).is_ok();
        let new = self.chunks.iter().filter(|it| !known(&it.name) && !own.contains(&it.version));
        news.extend(new.map(|chunk| chunk.data.clone()));
        news
    }
}

/// The epoch and the rest of a name.
fn split(id: &str) -> Option<(Version, &str)> {
    let (epoch, name) = id.split_once('-')?;
    Some((Version(epoch.parse().ok()?), name))
}
