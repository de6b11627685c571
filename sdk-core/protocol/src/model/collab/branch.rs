//! Edits of a text as it was at an earlier state of the history. They are made in a document that holds
//! that state and nothing else, kept from edit to edit, and merged like those of somebody else.

use std::collections::BTreeSet;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, AutoCommit, Change, ChangeHash};
use bytes::Bytes;

use super::document::{CollabDocument, guarded};
use super::error::CollabError;
use super::patch::{self, CollabPatch};

/// The document of the state edited last.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch {
    doc: Option<Box<AutoCommit>>,
    /// Counts the documents begun: each is an author of its own.
    count: u64,
}

impl CollabDocument {
    /// Makes an edit upon a state; what it changes now, and the change.
    pub(super) fn edit_at(
        &mut self,
        heads: &[ChangeHash],
        edit: impl FnOnce(&mut AutoCommit) -> Result<(), CollabError>,
    ) -> Result<(Vec<CollabPatch>, Option<[u8; 32]>), CollabError> {
        self.commit_local();
        let now = self.doc.get_heads();
        if now.len() == heads.len() && heads.iter().all(|hash| now.contains(hash)) {
            return self.edit_now(&now, edit);
        }
        let mut branch = self.branch_at(heads)?;
        edit(&mut branch)?;
        let change = match branch.pending_ops() {
            0 => None,
            _ => branch
                .commit_with(CommitOptions::default().with_time(0))
                .and_then(|hash| branch.get_change_by_hash(&hash)),
        };
        self.branch.doc = Some(branch);
        let Some(change) = change else { return Ok((vec![], None)) };
        let hash = change.hash().0;
        let bytes = Bytes::copy_from_slice(change.raw_bytes());
        let patches = self.apply_checked(vec![change], &mut |_| ())?;
        self.outgoing.push(bytes);
        Ok((patches, Some(hash)))
    }

    /// Makes an edit upon all there is, which is the state meant.
    fn edit_now(
        &mut self,
        before: &[ChangeHash],
        edit: impl FnOnce(&mut AutoCommit) -> Result<(), CollabError>,
    ) -> Result<(Vec<CollabPatch>, Option<[u8; 32]>), CollabError> {
        self.doc.update_diff_cursor();
        let edited = edit(&mut self.doc);
        self.commit_local();
        let patches = self.doc.diff_incremental();
        self.doc.reset_diff_cursor();
        edited?;
        let patches = patch::convert(&self.doc, patches);
        self.undo.transform(&patches, self.unit);
        let now = self.doc.get_heads();
        let made = if now == before { None } else { now.first() };
        Ok((patches, made.map(|hash| hash.0)))
    }

    /// A document that holds a state.
    fn branch_at(&mut self, heads: &[ChangeHash]) -> Result<Box<AutoCommit>, CollabError> {
        if let Some(mut branch) = self.branch.doc.take()
            && self.advance(&mut branch, heads)?
        {
            return Ok(branch);
        }
        self.branch.count += 1;
        let actor = [self.doc.get_actor().to_bytes(), &self.branch.count.to_be_bytes()].concat();
        let forked = guarded(|| self.doc.fork_at(heads).map_err(CollabError::automerge))?;
        Ok(Box::new(forked.with_actor(ActorId::from(actor))))
    }

    /// Brings a branch to a later state; whether it is one.
    fn advance(
        &mut self,
        branch: &mut AutoCommit,
        heads: &[ChangeHash],
    ) -> Result<bool, CollabError> {
        let (mut missing, mut seen): (Vec<Change>, BTreeSet<[u8; 32]>) = Default::default();
        let mut open = heads.to_vec();
        while let Some(hash) = open.pop() {
            let is_new = seen.insert(hash.0) && branch.get_change_meta_by_hash(&hash).is_none();
            if is_new && let Some(change) = self.doc.get_change_by_hash(&hash) {
                open.extend_from_slice(change.deps());
                missing.push(change);
            }
        }
        missing.reverse();
        branch.apply_changes(missing).map_err(CollabError::automerge)?;
        let reached = branch.get_heads();
        Ok(heads.iter().all(|hash| reached.contains(hash)) && reached.len() <= heads.len())
    }
}
