//! What takes back one's own edits, kept up with the edits of others.
//!
//! Each step of the stack leads from the state after an edit to the state before it. When others
//! edit, their change is carried down the stack: each step is moved past it, and it is moved past
//! each step, so that a step deeper down meets it as if it had been made before the steps above.

use automerge::ObjId;

use super::super::value::Value;
use super::document::TextUnit;
use super::edit::{Expand, Mark};
use super::patch::{CollabPatch, PatchAction};

/// The steps kept; older ones can no longer be undone.
const MAX_STEPS: usize = 500;

/// What takes back one edit.
#[derive(Clone, Debug)]
pub(super) enum Inverse {
    Sequence { object: ObjId, change: Sequence },
    Element { object: ObjId, at: usize, restore: Value },
    Key { object: ObjId, key: String, restore: Option<Value> },
    Count { field: String, by: i64 },
    Marks { object: ObjId, field: String, restore: Vec<Mark>, expand: Expand },
}

/// What a splice inserts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// With its length in the document's unit.
    Text(String, usize),
    Elements(Vec<Value>),
}

#[derive(Clone, Debug, PartialEq)]
enum Op {
    Keep(usize),
    Delete(usize),
    /// The length, and what; none where only the length is of interest.
    Insert(usize, Option<Content>),
}

/// A change of a text or list from its front to its back; what is not named is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sequence(Vec<Op>);

impl Sequence {
    fn splice(at: usize, delete: usize, insert: usize, content: Option<Content>) -> Sequence {
        let mut change = Sequence::default();
        change.push(Op::Keep(at));
        change.push(Op::Insert(insert, content));
        change.push(Op::Delete(delete));
        change
    }

    /// Deletes `delete` and inserts the text, of the length given.
    pub(super) fn text(at: usize, delete: usize, text: String, length: usize) -> Sequence {
        Sequence::splice(at, delete, length, Some(Content::Text(text, length)))
    }

    /// Deletes `delete` and inserts the elements.
    pub(super) fn elements(at: usize, delete: usize, elements: Vec<Value>) -> Sequence {
        Sequence::splice(at, delete, elements.len(), Some(Content::Elements(elements)))
    }

    fn push(&mut self, op: Op) {
        match (self.0.last_mut(), op) {
            (_, Op::Keep(0) | Op::Delete(0) | Op::Insert(0, _)) => {}
            (Some(Op::Keep(last)), Op::Keep(more)) => *last += more,
            (Some(Op::Delete(last)), Op::Delete(more)) => *last += more,
            (_, op) => self.0.push(op),
        }
    }

    /// The splices, each at its place after those before it.
    pub(super) fn splices(self) -> Vec<(usize, usize, Option<Content>)> {
        let (mut at, mut splices) = (0, Vec::new());
        for op in self.0 {
            match op {
                Op::Keep(count) => at += count,
                Op::Delete(count) => splices.push((at, count, None)),
                Op::Insert(count, content) => {
                    splices.push((at, 0, content));
                    at += count;
                }
            }
        }
        splices
    }

    /// Two changes of one state: each as it is after the other. What both insert at one place comes
    /// in the order of the arguments.
    fn past(&self, other: &Sequence) -> (Sequence, Sequence) {
        let (mut mine, mut theirs) = (Sequence::default(), Sequence::default());
        let (mut left, mut right) = (self.0.iter().cloned(), other.0.iter().cloned());
        let (mut a, mut b) = (left.next(), right.next());
        loop {
            match (a.take(), b.take()) {
                (None, None) => return (mine, theirs),
                (Some(Op::Insert(count, content)), rest) => {
                    mine.push(Op::Insert(count, content));
                    theirs.push(Op::Keep(count));
                    (a, b) = (left.next(), rest);
                }
                (rest, Some(Op::Insert(count, content))) => {
                    mine.push(Op::Keep(count));
                    theirs.push(Op::Insert(count, content));
                    (a, b) = (rest, right.next());
                }
                (Some(op), None) => {
                    mine.push(op);
                    a = left.next();
                }
                (None, Some(op)) => {
                    theirs.push(op);
                    b = right.next();
                }
                (Some(x), Some(y)) => {
                    let (x_count, y_count) = (x.count(), y.count());
                    let both = x_count.min(y_count);
                    match (&x, &y) {
                        (Op::Keep(_), Op::Delete(_)) => theirs.push(Op::Delete(both)),
                        (Op::Delete(_), Op::Keep(_)) => mine.push(Op::Delete(both)),
                        (Op::Delete(_), Op::Delete(_)) => {}
                        _ => {
                            mine.push(Op::Keep(both));
                            theirs.push(Op::Keep(both));
                        }
                    }
                    a = if x_count > both { Some(x.less(both)) } else { left.next() };
                    b = if y_count > both { Some(y.less(both)) } else { right.next() };
                }
            }
        }
    }

    /// Where a place is after the change.
    fn position(&self, at: usize) -> usize {
        let (mut old, mut new) = (0, 0);
        for op in &self.0 {
            match op {
                Op::Keep(count) if old + count > at => return new + (at - old),
                Op::Keep(count) => {
                    old += count;
                    new += count;
                }
                Op::Delete(count) if old + count > at => return new,
                Op::Delete(count) => old += count,
                Op::Insert(count, _) => new += count,
            }
        }
        new + (at - old)
    }

    /// Whether an element is deleted by the change.
    fn deletes(&self, at: usize) -> bool {
        let mut old = 0;
        for op in &self.0 {
            match op {
                Op::Keep(count) => old += count,
                Op::Delete(count) if (old..old + count).contains(&at) => return true,
                Op::Delete(count) => old += count,
                Op::Insert(..) => {}
            }
        }
        false
    }
}

impl Op {
    fn count(&self) -> usize {
        match self {
            Op::Keep(count) | Op::Delete(count) | Op::Insert(count, _) => *count,
        }
    }

    fn less(&self, by: usize) -> Op {
        match self {
            Op::Keep(count) => Op::Keep(count - by),
            Op::Delete(count) => Op::Delete(count - by),
            Op::Insert(count, content) => Op::Insert(*count, content.clone()),
        }
    }
}

type Steps = Vec<Vec<Inverse>>;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    Editing,
    Undoing,
    Redoing,
}

/// The edits that can be undone, and those that can be made again.
#[derive(Clone, Debug, Default)]
pub(super) struct UndoStack {
    done: Steps,
    undone: Steps,
    mode: Mode,
    /// Set while edits are taken together.
    grouped: bool,
}

impl UndoStack {
    /// Notes what takes back an edit made just now.
    pub(super) fn record(&mut self, inverse: Inverse) {
        if self.mode == Mode::Editing {
            self.undone.clear();
        }
        let joined = self.grouped || self.mode != Mode::Editing;
        let steps = match self.mode {
            Mode::Editing | Mode::Redoing => &mut self.done,
            Mode::Undoing => &mut self.undone,
        };
        match steps.last_mut() {
            Some(step) if joined => step.push(inverse),
            _ => steps.push(vec![inverse]),
        }
        if steps.len() > MAX_STEPS {
            steps.remove(0);
        }
    }

    pub(super) fn open_group(&mut self) {
        self.grouped = true;
        self.done.push(vec![]);
    }

    pub(super) fn close_group(&mut self) {
        self.grouped = false;
        self.done.pop_if(|step| step.is_empty());
    }

    /// What takes back the last edit; until [`UndoStack::end`], what is recorded takes that back.
    pub(super) fn begin_undo(&mut self) -> Option<Vec<Inverse>> {
        let step = self.done.pop()?;
        self.mode = Mode::Undoing;
        self.undone.push(vec![]);
        Some(step)
    }

    pub(super) fn begin_redo(&mut self) -> Option<Vec<Inverse>> {
        let step = self.undone.pop()?;
        self.mode = Mode::Redoing;
        self.done.push(vec![]);
        Some(step)
    }

    pub(super) fn end(&mut self) {
        self.mode = Mode::Editing;
    }

    /// Forgets everything: positions and objects are others.
    pub(super) fn clear(&mut self) {
        *self = UndoStack::default();
    }

    /// Moves all steps past changes of others.
    pub(super) fn transform(&mut self, patches: &[CollabPatch], unit: TextUnit) {
        for patch in patches {
            carry(&mut self.done, patch, unit);
            carry(&mut self.undone, patch, unit);
        }
    }
}

/// Carries a change of others down a stack.
fn carry(steps: &mut Steps, patch: &CollabPatch, unit: TextUnit) {
    let mut change = match &patch.action {
        PatchAction::Splice { at, delete, insert } => {
            Sequence::splice(*at, *delete, unit.length(insert), None)
        }
        PatchAction::Elements { at, delete, insert } => {
            Sequence::splice(*at, *delete, insert.len(), None)
        }
        PatchAction::Set { at, .. } => {
            return retain(steps, |inverse| {
                !matches!(inverse, Inverse::Element { object, at: own, .. }
                    if *object == patch.object && own == at)
            });
        }
        PatchAction::Put { key, .. } | PatchAction::Remove { key } => {
            return retain(steps, |inverse| {
                !matches!(inverse, Inverse::Key { object, key: own, .. }
                    if *object == patch.object && own == key)
            });
        }
        PatchAction::Increment { .. } | PatchAction::Mark { .. } => return,
    };
    for step in steps.iter_mut().rev() {
        for inverse in step.iter_mut().rev() {
            match inverse {
                Inverse::Sequence { object, change: own } if *object == patch.object => {
                    // Theirs first: what is put back comes after what was inserted there.
                    let (theirs, moved) = change.past(own);
                    *own = moved;
                    change = theirs;
                }
                Inverse::Element { object, at, .. } if *object == patch.object => {
                    *at = match change.deletes(*at) {
                        true => usize::MAX,
                        false => change.position(*at),
                    };
                }
                Inverse::Marks { object, restore, .. } if *object == patch.object => {
                    for mark in restore {
                        mark.start = change.position(mark.start);
                        mark.end = change.position(mark.end);
                    }
                }
                Inverse::Sequence { .. }
                | Inverse::Element { .. }
                | Inverse::Key { .. }
                | Inverse::Count { .. }
                | Inverse::Marks { .. } => {}
            }
        }
        step.retain(|inverse| !matches!(inverse, Inverse::Element { at: usize::MAX, .. }));
    }
}

/// Keeps what others did not overrule. A step that becomes empty stays, so that an undo takes back
/// what the user believes to have done last, and not something else.
fn retain(steps: &mut Steps, keep: impl Fn(&Inverse) -> bool) {
    steps.iter_mut().for_each(|step| step.retain(&keep));
}
