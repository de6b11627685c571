//! What Automerge by itself makes of edits: the floor that measurements compare with.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjType, ROOT};

use super::error::CollabError;

/// Applies splices (place, deleted, inserted) to one text and saves it: the text, and what is saved.
/// Nothing else happens in between.
pub fn bare_text<'a>(
    splices: impl IntoIterator<Item = (usize, usize, &'a str)>,
) -> Result<(String, Vec<u8>), CollabError> {
    use automerge::ReadDoc;
    let mut doc = AutoCommit::new();
    let text = doc.put_object(ROOT, "text", ObjType::Text).map_err(CollabError::automerge)?;
    for (at, delete, insert) in splices {
        doc.splice_text(&text, at, delete.cast_signed(), insert).map_err(CollabError::automerge)?;
    }
    let saved = doc.save();
    Ok((doc.text(&text).map_err(CollabError::automerge)?, saved))
}
