//! The Automerge document of a document's collaborative fields: loading, merging, saving.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{
    ActorId, AutoCommit, Change, ChangeHash, LoadOptions, ObjId, ROOT, ReadDoc, TextEncoding,
};
use bytes::Bytes;

use super::super::CollaborativeKind;
use super::super::document::Fields;
use super::super::value::Value;
use super::branch::Branch;
use super::change::check_change;
use super::error::CollabError;
use super::patch::{self, CollabPatch};
use super::seed;
use super::undo::UndoStack;
use super::value;

/// The bytes of one part of a saved document: fits a document's largest value.
pub const PART_BYTES: usize = 900 << 10;

/// How positions in text are counted. It is a matter of whoever holds the document and not part of
/// what is exchanged. There is no counting by what readers see as one character: that changes with
/// each version of Unicode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextUnit {
    /// Unicode code points (Rust's `char`).
    #[default]
    CodePoints,
    /// UTF-16 code units, as in JavaScript, Java and Swift's `NSString`.
    Utf16,
}

impl TextUnit {
    fn encoding(self) -> TextEncoding {
        match self {
            TextUnit::CodePoints => TextEncoding::UnicodeCodePoint,
            TextUnit::Utf16 => TextEncoding::Utf16CodeUnit,
        }
    }

    /// How long a text is in this unit.
    pub fn length(self, text: &str) -> usize {
        match self {
            TextUnit::CodePoints => text.chars().count(),
            TextUnit::Utf16 => text.encode_utf16().count(),
        }
    }
}

/// What merging changes did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// What changed in the values.
    pub patches: Vec<CollabPatch>,
    /// The changes that were not known.
    pub new: Vec<Bytes>,
}

/// A collaborative field's root object.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) kind: CollaborativeKind,
    pub(super) id: ObjId,
}

/// The collaborative fields of a document.
#[derive(Clone, Debug)]
pub struct CollabDocument {
    /// Apart, because it is large.
    pub(super) doc: Box<AutoCommit>,
    pub(super) unit: TextUnit,
    /// Follows the root keys: set by loading, by changes, and by making fields.
    pub(super) roots: BTreeMap<String, Root>,
    /// The highest operation number known; set with each change.
    max_op: u64,
    /// Local changes that [`CollabDocument::take_changes`] has not handed out yet.
    pub(super) outgoing: Vec<Bytes>,
    pub(super) undo: UndoStack,
    pub(super) branch: Branch,
}

/// Runs what decodes or merges bytes of others. Automerge is written to return errors; should it
/// panic nevertheless, that is an error here, because one client must not end a server.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, CollabError>) -> Result<T, CollabError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(CollabError::Malformed("they cannot be merged".to_owned())))
}

/// Checks that the changes come out of the document as they went in. What is encoded in another way
/// than Automerge does could be merged, and would then be missing from what is saved.
fn check_kept(
    doc: &mut AutoCommit,
    before: &[ChangeHash],
    new: &[Change],
) -> Result<(), CollabError> {
    let kept: BTreeSet<Vec<u8>> =
        doc.get_changes(before).iter().map(|change| change.raw_bytes().to_vec()).collect();
    match new.iter().all(|change| kept.contains(change.raw_bytes())) {
        true => Ok(()),
        false => Err(CollabError::Malformed("they are not encoded as Automerge does".to_owned())),
    }
}

impl CollabDocument {
    /// Without fields. An actor is the author of changes: no two that live at the same time, or
    /// have lost some of their changes, may share one.
    pub fn new(actor: &[u8], unit: TextUnit) -> CollabDocument {
        CollabDocument {
            doc: Box::new(
                AutoCommit::new_with_encoding(unit.encoding()).with_actor(ActorId::from(actor)),
            ),
            unit,
            roots: BTreeMap::new(),
            max_op: 0,
            outgoing: Vec::new(),
            undo: UndoStack::default(),
            branch: Branch::default(),
        }
    }

    /// What was saved, part by part, and the chunks of changes since.
    pub fn load<'a>(
        actor: &[u8],
        unit: TextUnit,
        parts: impl IntoIterator<Item = &'a [u8]>,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<CollabDocument, CollabError> {
        let saved: Vec<u8> = parts.into_iter().flatten().copied().collect();
        let changes: Vec<u8> = chunks.into_iter().flatten().copied().collect();
        let doc = guarded(|| {
            let options = LoadOptions::new().text_encoding(unit.encoding());
            let mut doc =
                AutoCommit::load_with_options(&saved, options).map_err(CollabError::automerge)?;
            doc.load_incremental(&changes).map_err(CollabError::automerge)?;
            Ok(doc)
        })?;
        let mut loaded = CollabDocument {
            doc: Box::new(doc.with_actor(ActorId::from(actor))),
            ..CollabDocument::new(actor, unit)
        };
        if !loaded.doc.get_missing_deps(&[]).is_empty() {
            return Err(CollabError::MissingDependencies);
        }
        let known = loaded.doc.get_changes_meta(&[]);
        loaded.max_op = known.iter().map(|change| change.max_op).max().unwrap_or(0);
        loaded.roots = loaded.read_roots()?;
        Ok(loaded)
    }

    /// How positions in its texts are counted.
    pub fn unit(&self) -> TextUnit {
        self.unit
    }

    /// Its fields and what they are.
    pub fn kinds(&self) -> BTreeMap<String, CollaborativeKind> {
        self.roots.iter().map(|(field, root)| (field.clone(), root.kind)).collect()
    }

    /// What a field is.
    pub fn kind(&self, field: &str) -> Option<CollaborativeKind> {
        self.roots.get(field).map(|root| root.kind)
    }

    /// The value of a field.
    pub fn value(&self, field: &str) -> Option<Value> {
        let value = self.doc.map_range(ROOT, field.to_owned()..=field.to_owned()).next()?;
        Some(value::materialise(&*self.doc, &value.value, || value.id(), 0))
    }

    /// The values of all fields.
    pub fn values(&self) -> Fields {
        self.roots.keys().filter_map(|field| Some((field.clone(), self.value(field)?))).collect()
    }

    /// How many operations its history has.
    pub fn operations(&self) -> u64 {
        self.doc.stats().num_ops
    }

    /// The changes that nothing follows, as bytes: the state of the history.
    pub fn heads(&mut self) -> Vec<[u8; 32]> {
        self.commit_local();
        self.doc.get_heads().into_iter().map(|hash| hash.0).collect()
    }

    /// Merges changes of others, and tells what they changed. Changes that are known already change
    /// nothing. After an error the document must be loaded again.
    pub fn apply<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<CollabPatch>, CollabError> {
        Ok(self.merge(changes)?.patches)
    }

    /// As [`CollabDocument::apply`]; tells as well which of the changes were not known.
    pub fn merge<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Merged, CollabError> {
        let changes = changes.into_iter().map(check_change).collect::<Result<Vec<_>, _>>()?;
        let mut new = Vec::new();
        let patches = self.apply_checked(changes, &mut |change| {
            new.push(Bytes::copy_from_slice(change.raw_bytes()));
        })?;
        Ok(Merged { patches, new })
    }

    /// As [`CollabDocument::apply`], of changes in the chunks that the server stored: several in
    /// one, compressed.
    pub fn apply_chunks<'a>(
        &mut self,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<CollabPatch>, CollabError> {
        let bytes: Vec<u8> = chunks.into_iter().flatten().copied().collect();
        self.commit_local();
        let before = self.doc.get_heads();
        self.doc.update_diff_cursor();
        let doc = &mut self.doc;
        let patches = guarded(|| {
            doc.load_incremental(&bytes).map_err(CollabError::automerge)?;
            Ok(doc.diff_incremental())
        });
        self.doc.reset_diff_cursor();
        let patches = patch::convert(&self.doc, patches?);
        if !self.doc.get_missing_deps(&[]).is_empty() {
            return Err(CollabError::MissingDependencies);
        }
        let added = self.doc.get_changes_meta(&before);
        self.max_op = added.iter().map(|change| change.max_op).fold(self.max_op, u64::max);
        self.roots = self.read_roots()?;
        self.undo.transform(&patches, self.unit);
        Ok(patches)
    }

    /// Merges checked changes; `each_new` is shown those that were not known.
    pub(super) fn apply_checked(
        &mut self,
        changes: Vec<Change>,
        each_new: &mut dyn FnMut(&Change),
    ) -> Result<Vec<CollabPatch>, CollabError> {
        self.commit_local();
        let new = self.unknown(changes)?;
        if new.is_empty() {
            return Ok(vec![]);
        }
        new.iter().for_each(each_new);
        self.max_op = new.iter().map(Change::max_op).fold(self.max_op, u64::max);
        let before = self.doc.get_heads();
        self.doc.update_diff_cursor();
        let doc = &mut self.doc;
        let patches = guarded(|| {
            doc.apply_changes(new.iter().cloned()).map_err(CollabError::automerge)?;
            check_kept(doc, &before, &new)?;
            Ok(doc.diff_incremental())
        });
        self.doc.reset_diff_cursor();
        let patches = patch::convert(&self.doc, patches?);
        let roots = guarded(|| self.read_roots())?;
        for (field, root) in &self.roots {
            let found = roots.get(field).map(|root| root.kind);
            if found != Some(root.kind) {
                return Err(CollabError::Malformed(format!("they replace the field `{field}`")));
            }
        }
        self.roots = roots;
        self.undo.transform(&patches, self.unit);
        Ok(patches)
    }

    /// The changes that are not known, if all they rest on is there and they number their
    /// operations as this document would.
    fn unknown(&mut self, changes: Vec<Change>) -> Result<Vec<Change>, CollabError> {
        let mut arriving = BTreeSet::new();
        let mut max_op = self.max_op;
        let mut new = Vec::with_capacity(changes.len());
        for change in changes {
            if self.knows(&change.hash()) || !arriving.insert(change.hash().0) {
                continue;
            }
            if !change.deps().iter().all(|hash| arriving.contains(&hash.0) || self.knows(hash)) {
                return Err(CollabError::MissingDependencies);
            }
            if change.start_op().get() > max_op + 1 {
                let message = "their operations are numbered beyond what they rest on";
                return Err(CollabError::Malformed(message.to_owned()));
            }
            max_op = max_op.max(change.max_op());
            new.push(change);
        }
        Ok(new)
    }

    fn knows(&mut self, hash: &ChangeHash) -> bool {
        self.doc.get_change_meta_by_hash(hash).is_some()
    }

    /// The root objects; an error if one was not made by a seed, or two seeds are at odds.
    fn read_roots(&self) -> Result<BTreeMap<String, Root>, CollabError> {
        let mut roots = BTreeMap::new();
        for item in self.doc.map_range(ROOT, ..) {
            let field = item.key.to_string();
            let kind = seed::seeded_kind(&field, &item.id()).ok_or_else(|| {
                CollabError::Malformed(format!("the field `{field}` was not made by its seed"))
            })?;
            if item.conflict {
                let found = self.kind(&field).unwrap_or(kind);
                let expected = self.other_kind(&field, found)?;
                return Err(CollabError::Kind { field, expected, found });
            }
            roots.insert(field, Root { kind, id: item.id() });
        }
        Ok(roots)
    }

    fn other_kind(
        &self,
        field: &str,
        found: CollaborativeKind,
    ) -> Result<CollaborativeKind, CollabError> {
        let all = self.doc.get_all(ROOT, field).map_err(CollabError::automerge)?;
        let mut kinds = all.iter().filter_map(|(_, id)| seed::seeded_kind(field, id));
        kinds
            .find(|kind| *kind != found)
            .ok_or_else(|| CollabError::Malformed(format!("they replace the field `{field}`")))
    }

    /// Makes a field collaborative. `plain` is the value it held so far; whoever begins with the
    /// same makes the same changes, so that first edits made apart merge.
    pub fn ensure(
        &mut self,
        field: &str,
        kind: CollaborativeKind,
        plain: Option<&Value>,
    ) -> Result<(), CollabError> {
        if let Some(root) = self.roots.get(field) {
            return match root.kind == kind {
                true => Ok(()),
                false => Err(CollabError::Kind {
                    field: field.to_owned(),
                    expected: kind,
                    found: root.kind,
                }),
            };
        }
        let changes = match plain {
            Some(plain) => seed::import(field, kind, plain)?,
            None => vec![seed::seed(field, kind)?],
        };
        let mut made = Vec::new();
        self.apply_checked(changes, &mut |change| {
            made.push(Bytes::copy_from_slice(change.raw_bytes()));
        })?;
        self.outgoing.extend(made);
        Ok(())
    }

    /// Ends the change that local edits are gathered in.
    pub(super) fn commit_local(&mut self) {
        if self.doc.pending_ops() == 0 {
            return;
        }
        self.doc.commit_with(CommitOptions::default().with_time(0));
        if let Some(change) = self.doc.get_last_local_change() {
            self.max_op = self.max_op.max(change.max_op());
            self.outgoing.push(Bytes::copy_from_slice(change.raw_bytes()));
        }
    }

    /// Whether it holds the changes with these hashes.
    pub fn has(&mut self, heads: &[[u8; 32]]) -> bool {
        self.commit_local();
        heads.iter().all(|hash| self.knows(&ChangeHash(*hash)))
    }

    /// Whether there are local edits that were not taken yet.
    pub fn has_changes(&self) -> bool {
        !self.outgoing.is_empty() || self.doc.pending_ops() > 0
    }

    /// The local edits since the last time, as changes for others.
    pub fn take_changes(&mut self) -> Vec<Bytes> {
        self.commit_local();
        std::mem::take(&mut self.outgoing)
    }

    /// The whole history, compressed, in parts of at most [`PART_BYTES`].
    pub fn save(&mut self) -> Vec<Bytes> {
        self.commit_local();
        let saved = Bytes::from(self.doc.save());
        (0..saved.len())
            .step_by(PART_BYTES)
            .map(|at| saved.slice(at..saved.len().min(at + PART_BYTES)))
            .collect()
    }

    /// Changes as they are stored: one after the other, those that are worth it compressed.
    pub fn chunk<'a>(changes: impl IntoIterator<Item = &'a [u8]>) -> Result<Bytes, CollabError> {
        let mut chunk = Vec::new();
        for bytes in changes {
            chunk.extend_from_slice(&check_change(bytes)?.bytes());
        }
        Ok(chunk.into())
    }

    /// Notes an operation number made by other means than an edit.
    pub(super) fn note_op(&mut self, number: u64) {
        self.max_op = self.max_op.max(number);
    }

    /// Hands back changes taken too early.
    pub(super) fn put_back(&mut self, changes: Vec<Bytes>) {
        self.outgoing.splice(0..0, changes);
    }
}
