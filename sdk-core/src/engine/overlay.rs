//! What this client believes of each document: the remote document with the pending writes laid over
//! it. Remembers, while a change is made, how the touched documents were before, so that views can be
//! told. Driven by the engine; knows no server and no listener.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidemark_protocol::model::{
    CommitTime, Document, DocumentPath, EditTime, FieldPath, Fields, Precondition, Query, TargetId,
    Version, Write, WriteId, WriteOp, apply_write, check_precondition,
};

use super::collab::{CollabView, is_merge};
use super::listen::TargetSet;
use super::writes::Outbox;
use crate::cache::Known;

/// What is known of one document.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// As the server told it; none if it does not exist or is not known.
    remote: Option<Arc<Document>>,
    /// The version of the last word on `remote`.
    known: Version,
    /// With the pending writes that `remote` does not contain; `remote` itself where there are none.
    local: Option<Arc<Document>>,
    /// Whether there are such writes.
    overlaid: bool,
    /// When the last of them was committed; the end of time if one is not.
    until: Version,
    /// The pending writes of it, in order: the batch, and the place in it.
    pending: Vec<(WriteId, u32)>,
    /// The targets that it is in, by the server's word.
    targets: TargetSet,
    /// The change that last touched it.
    touched: u64,
}

/// How a document was before the change that is being made.
#[derive(Debug)]
pub(crate) struct Before {
    pub(crate) path: DocumentPath,
    slot: Slot,
    pub(crate) state: Seen,
}

/// What views need to know of a document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) document: Option<Arc<Document>>,
    pub(crate) pending: bool,
    /// Who has been shown everything up to this version knows from the server what came of the writes.
    pub(crate) until: Version,
    pub(crate) targets: TargetSet,
}

/// The values of collaborative fields with the pending changes in them.
#[derive(Debug)]
enum Shown {
    /// Those of an open document.
    Open(CollabView),
    /// As computed when the last change was made.
    Computed(Fields),
}

impl Shown {
    fn values(&self) -> Fields {
        match self {
            Shown::Open(view) => view.values(),
            Shown::Computed(values) => values.clone(),
        }
    }
}

/// A place in [`Documents::entries`]; so that a change looks a document up once.
type Slot = usize;

/// All documents of targets and of pending writes.
#[derive(Default)]
pub(crate) struct Documents {
    slots: HashMap<DocumentPath, Slot>,
    entries: Vec<Entry>,
    /// Slots of documents that are forgotten.
    free: Vec<Slot>,
    /// Those with pending writes.
    pending: BTreeSet<DocumentPath>,
    /// What pending changes of collaborative fields come to.
    shown: HashMap<DocumentPath, Shown>,
    /// Counts changes, to tell what the present one has touched.
    change: u64,
    touched: Vec<Before>,
}

impl Documents {
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.slots.reserve(additional);
        self.entries.reserve(additional);
        self.touched.reserve(additional);
    }

    fn entry(&self, path: &DocumentPath) -> Option<&Entry> {
        self.slots.get(path).map(|slot| &self.entries[*slot])
    }

    /// The entry, remembered as it is before the change.
    fn touch(&mut self, path: &DocumentPath) -> &mut Entry {
        let (entries, free) = (&mut self.entries, &mut self.free);
        let slot = *self.slots.entry(path.clone()).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                entries.push(Entry::default());
                entries.len() - 1
            })
        });
        let entry = &mut self.entries[slot];
        if entry.touched != self.change + 1 {
            entry.touched = self.change + 1;
            self.touched.push(Before { path: path.clone(), slot, state: entry.seen() });
        }
        entry
    }

    /// The server says that the document is this, and in these targets. Whether that is news.
    pub(crate) fn put(&mut self, document: Arc<Document>, targets: &TargetSet) -> bool {
        let entry = self.touch(&document.path);
        for target in targets.as_slice() {
            entry.targets.insert(*target);
        }
        // What is newer came through another target.
        let news = document.update_version >= entry.known;
        if news {
            entry.known = document.update_version;
            entry.remote = Some(document);
        }
        news
    }

    /// The server says that the document left these targets; `deleted`: and everything. Whether it was
    /// there and is gone now.
    pub(crate) fn remove(
        &mut self,
        path: &DocumentPath,
        targets: &TargetSet,
        deleted: bool,
        version: Version,
    ) -> bool {
        if !self.slots.contains_key(path) {
            return false;
        }
        let entry = self.touch(path);
        for target in targets.as_slice() {
            entry.targets.remove(*target);
        }
        let gone = deleted && version >= entry.known;
        if gone {
            entry.known = version;
            entry.remote = None;
        }
        gone
    }

    /// As the server told it, and as of when; none if nothing is known of it here.
    pub(crate) fn remote(&self, path: &DocumentPath) -> Option<(Option<Arc<Document>>, Version)> {
        let entry = self.entry(path).filter(|entry| entry.is_known())?;
        Some((entry.remote.clone(), entry.known))
    }

    /// What the cache knows of a document, for want of anything newer.
    pub(crate) fn put_base(&mut self, path: &DocumentPath, known: Known) {
        if self.entry(path).is_some_and(Entry::is_known) {
            return;
        }
        let entry = match known {
            Known::Unknown => return,
            Known::Missing { .. } | Known::Document(_) => self.touch(path),
        };
        match known {
            Known::Unknown => {}
            Known::Missing { at } => entry.known = at,
            Known::Document(document) => {
                entry.known = document.update_version;
                entry.remote = Some(document);
            }
        }
    }

    /// The documents that are in a target, by the server's word or the cache's.
    pub(crate) fn members(
        &self,
        target: TargetId,
    ) -> impl Iterator<Item = (&DocumentPath, Version)> {
        self.slots.iter().filter_map(move |(path, slot)| {
            let entry = &self.entries[*slot];
            let document = entry.remote.as_ref().filter(|_| entry.targets.contains(target))?;
            Some((path, document.update_version))
        })
    }

    /// The server told what a document is that is in no target; of interest if writes are pending of it.
    pub(crate) fn put_known(&mut self, document: Arc<Document>) {
        if self.slots.contains_key(&document.path) {
            self.put(document, &TargetSet::None);
        }
    }

    /// Whether the document would be new if its pending writes take effect.
    pub(crate) fn is_created(&self, path: &DocumentPath, outbox: &Outbox) -> bool {
        let first = self.entry(path).and_then(|entry| entry.pending.first());
        let write = first.and_then(|(id, index)| outbox.write(*id, *index));
        write.is_some_and(|(write, ..)| write.precondition == Some(Precondition::Exists(false)))
    }

    /// Whether writes are pending that what the server told does not contain.
    pub(crate) fn is_overlaid(&self, path: &DocumentPath, outbox: &Outbox) -> bool {
        self.entry(path).is_some_and(|entry| {
            entry.pending.iter().any(|(id, _)| !outbox.is_contained(*id, entry.known))
        })
    }

    /// Everything up to this version is known of the targets: what of these is in one is as of then.
    pub(crate) fn settle(
        &mut self,
        paths: impl IntoIterator<Item = DocumentPath>,
        version: Version,
        is_attached: impl Fn(TargetId) -> bool,
    ) {
        for path in paths {
            let Some(entry) = self.entry(&path) else { continue };
            if entry.known < version {
                let attached = entry.targets.as_slice().iter().any(|id| is_attached(*id));
                let entry = self.touch(&path);
                if attached {
                    entry.known = version;
                }
            }
        }
    }

    /// Whether it is in any target.
    pub(crate) fn is_in_a_target(&self, path: &DocumentPath) -> bool {
        self.entry(path).is_some_and(|entry| !entry.targets.is_empty())
    }

    /// Takes these documents out of a target.
    pub(crate) fn clear_paths(&mut self, target: TargetId, paths: &[DocumentPath]) {
        for path in paths {
            if self.entry(path).is_some_and(|entry| entry.targets.contains(target)) {
                self.touch(path).targets.remove(target);
            }
        }
    }

    /// Takes all documents out of a target.
    pub(crate) fn clear(&mut self, target: TargetId) {
        let paths: Vec<DocumentPath> = self
            .slots
            .iter()
            .filter(|(_, slot)| self.entries[**slot].targets.contains(target))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &paths {
            self.touch(path).targets.remove(target);
        }
    }

    /// Whatever comes of the document is newer than what is known of it.
    pub(crate) fn forget_version(&mut self, path: &DocumentPath) {
        if let Some(slot) = self.slots.get(path) {
            self.entries[*slot].known = Version::NONE;
        }
    }

    /// Versions of another life of the database are not comparable: whatever comes is newer.
    pub(crate) fn forget_versions(&mut self) {
        for entry in &mut self.entries {
            entry.known = Version::NONE;
        }
    }

    /// Lays all pending writes, once, at the start.
    pub(crate) fn lay(&mut self, outbox: &Outbox) {
        for batch in outbox.local_batches() {
            self.push(batch.id, &batch.writes);
        }
    }

    /// Lays a batch over its documents.
    pub(crate) fn push(&mut self, id: WriteId, writes: &[Write]) {
        for (index, write) in (0u32..).zip(writes) {
            self.touch(&write.path).pending.push((id, index));
            self.pending.insert(write.path.clone());
        }
    }

    /// Takes a batch off its documents.
    pub(crate) fn pop(&mut self, id: WriteId, writes: &[Write]) {
        for write in writes {
            let entry = self.touch(&write.path);
            entry.pending.retain(|(batch, _)| *batch != id);
            if entry.pending.is_empty() {
                self.pending.remove(&write.path);
                if let Some(Shown::Computed(_)) = self.shown.get(&write.path) {
                    self.shown.remove(&write.path);
                }
            }
        }
    }

    /// The batch is committed: documents that contain it already are to be looked at again.
    pub(crate) fn reconsider(&mut self, writes: &[Write], version: Version) {
        for write in writes {
            if self.entry(&write.path).is_some_and(|entry| entry.known >= version) {
                self.touch(&write.path);
            }
        }
    }

    /// What is pending of these documents is to be laid anew.
    pub(crate) fn revise(&mut self, writes: &[Write]) {
        for write in writes {
            if self.slots.contains_key(&write.path) {
                self.touch(&write.path);
            }
        }
    }

    /// What is pending of this document is to be laid anew.
    pub(crate) fn revise_path(&mut self, path: &DocumentPath) {
        if self.slots.contains_key(path) {
            self.touch(path);
        }
    }

    /// An open document says what its collaborative fields hold; none: it is closed.
    pub(crate) fn show(&mut self, path: &DocumentPath, view: Option<CollabView>) {
        match view {
            Some(view) => self.shown.insert(path.clone(), Shown::Open(view)),
            None => self.shown.remove(path),
        };
    }

    /// What the collaborative fields of a document that is not open hold, if anything is pending.
    pub(crate) fn show_computed(&mut self, path: &DocumentPath, values: Option<Fields>) {
        match values {
            Some(values) => self.shown.insert(path.clone(), Shown::Computed(values)),
            None => self.shown.remove(path),
        };
    }

    /// Whether an open document shows its collaborative fields.
    pub(crate) fn is_open(&self, path: &DocumentPath) -> bool {
        matches!(self.shown.get(path), Some(Shown::Open(_)))
    }

    /// The last pending write of the document that would count twice if the server's next word on it
    /// contained it.
    pub(crate) fn last_uncertain(&self, path: &DocumentPath, outbox: &Outbox) -> Option<WriteId> {
        let pending = self.entry(path)?.pending.iter().rev();
        pending.copied().find(|(id, index)| outbox.may_count_twice(*id, *index)).map(|(id, _)| id)
    }

    pub(crate) fn has_pending(&self, path: &DocumentPath) -> bool {
        self.entry(path).is_some_and(|entry| entry.overlaid)
    }

    /// What a view sees of the document.
    pub(crate) fn seen(&self, path: &DocumentPath) -> Seen {
        self.entry(path).map(Entry::seen).unwrap_or_default()
    }

    /// What views see now of a document that the change has touched.
    pub(crate) fn seen_after(&self, before: &Before) -> Seen {
        self.entries[before.slot].seen()
    }

    /// The paths with pending writes.
    pub(crate) fn pending_paths(&self) -> impl Iterator<Item = &DocumentPath> {
        self.pending.iter()
    }

    /// Whether pending writes could be in the query's result.
    pub(crate) fn has_pending_of(&self, query: &Query) -> bool {
        self.pending.iter().any(|path| query.is_over(path.as_str()))
    }

    /// Another base with this client's pending writes on top, those aside that it contains: what a
    /// get or a query shows. The second is whether there are any.
    pub(crate) fn laid_over(
        &self,
        path: &DocumentPath,
        base: Option<Arc<Document>>,
        at: Version,
        outbox: &Outbox,
    ) -> (Option<Arc<Document>>, bool) {
        match self.entry(path) {
            Some(entry) => fold(base, at, &entry.pending, outbox, self.shown.get(path)),
            None => (base, false),
        }
    }

    /// Ends a change: computes what the touched documents are now, and gives them as they were before.
    /// While nobody is `watched` for, they are not computed: see [`refold`](Self::refold).
    pub(crate) fn finish(&mut self, outbox: &Outbox, watched: bool) -> Vec<Before> {
        self.change += 1;
        let touched = std::mem::take(&mut self.touched);
        for before in touched.iter().filter(|_| watched) {
            self.entries[before.slot].fold(outbox, self.shown.get(&before.path));
        }
        touched
    }

    /// Computes what all documents with pending writes are now: someone begins to watch.
    pub(crate) fn refold(&mut self, outbox: &Outbox) {
        for (path, slot) in &self.slots {
            self.entries[*slot].fold(outbox, self.shown.get(path));
        }
    }

    /// Forgets those of these documents that are in no target and have no pending writes.
    pub(crate) fn forget_unneeded(&mut self, touched: &[Before]) {
        for before in touched {
            let entry = &mut self.entries[before.slot];
            if entry.targets.is_empty() && entry.pending.is_empty() {
                *entry = Entry::default();
                self.slots.remove(&before.path);
                self.free.push(before.slot);
            }
        }
    }
}

impl Entry {
    fn is_known(&self) -> bool {
        self.remote.is_some() || self.known > Version::NONE
    }

    fn fold(&mut self, outbox: &Outbox, shown: Option<&Shown>) {
        let base = self.remote.clone();
        (self.local, self.overlaid) = fold(base, self.known, &self.pending, outbox, shown);
        let laid = self.pending.iter().filter(|(id, _)| !outbox.is_contained(*id, self.known));
        let until = laid.map(|(id, _)| outbox.committed_at(*id).unwrap_or(Version(u64::MAX)));
        self.until = until.max().unwrap_or(Version::NONE);
    }

    fn seen(&self) -> Seen {
        let (document, targets) = (self.local.clone(), self.targets.clone());
        Seen { document, pending: self.overlaid, until: self.until, targets }
    }
}

/// Lays the pending writes over a base that is as of `known`, those aside that it contains: laid again,
/// an increment would count twice. The second is whether there are any.
fn fold(
    base: Option<Arc<Document>>,
    known: Version,
    pending: &[(WriteId, u32)],
    outbox: &Outbox,
    shown: Option<&Shown>,
) -> (Option<Arc<Document>>, bool) {
    let mut laid = Laid { document: base, deleted: None, edit: EditTime(0) };
    let mut overlaid = false;
    let mut merged = None;
    for (id, index) in pending.iter().filter(|(id, _)| !outbox.is_contained(*id, known)) {
        overlaid = true;
        let Some((write, at, edit)) = outbox.write(*id, *index) else { continue };
        if is_merge(write) {
            merged = Some((write, at));
        } else {
            laid.lay(write, at, edit);
        }
    }
    // The values have all changes in them, and plain writes are for the server to merge.
    if let (Some((write, at)), Some(shown)) = (merged, shown) {
        laid.show(write, at, shown.values());
    }
    (laid.document, overlaid)
}

/// A document with some of its pending writes.
struct Laid {
    document: Option<Arc<Document>>,
    /// If a pending write has deleted it: when.
    deleted: Option<EditTime>,
    /// When it was last edited by them: what follows is not earlier, whatever it was stamped with.
    edit: EditTime,
}

impl Laid {
    /// Shows the values of collaborative fields.
    fn show(&mut self, write: &Write, at: Version, values: Fields) {
        let names = values.keys().map(|name| FieldPath::from_segments([name.as_str()]));
        let Ok(mask) = names.collect::<Result<Vec<_>, _>>() else { return };
        let write = Write {
            path: write.path.clone(),
            op: WriteOp::Update { fields: values, mask },
            transforms: Vec::new(),
            precondition: write.precondition,
        };
        self.lay(&write, at, EditTime::NOW);
    }

    /// A write whose condition does not hold here shows nothing: the server will decide.
    fn lay(&mut self, write: &Write, at: Version, edit: EditTime) {
        let holds = match write.precondition {
            // The version here is an estimate as soon as one write is pending.
            Some(Precondition::UpdateVersion(_)) => self.document.is_some(),
            Some(Precondition::Exists(_)) | None => {
                check_precondition(self.document.as_deref(), write).is_ok()
            }
        };
        if !holds {
            return;
        }
        self.edit = self.edit.max(edit);
        let time = CommitTime { version: at, edit: self.edit };
        match apply_write(self.document.as_deref(), self.deleted, write, time) {
            Ok(applied) if applied.changed => {
                self.document = applied.document.map(Arc::new);
                self.deleted = applied.deleted;
            }
            // Changes of collaborative fields are shown by what holds their history.
            Ok(_) | Err(_) => {}
        }
    }
}
