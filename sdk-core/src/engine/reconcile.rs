//! Catching up when a resume token is too old to be replayed: instead of being sent the whole result, this
//! client compares digests of what it has with what the server has, fetches what differs, and listens from
//! the version of the first digest on. A [`Reconcile`] is one comparison: answers in, questions out. Driven
//! by the engine; sends nothing and applies nothing itself.
//!
//! The answers are of one version after the other, and what is listed may change in between. So nothing
//! that changed after the first answer is taken from here: such documents are taken out, and the replay
//! from the first answer's version on, which tells all that changed since, brings them back if they belong
//! to the result. What is then left has not changed since the first answer, and was in the result there.
//! That does not hold for a window, which a document enters and leaves because of others: all of it must be
//! told by the first answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_protocol::model::{
    DigestAnswer, DigestNode, DigestPart, DigestTree, Document, DocumentPath, Version, limits,
};

use super::Ticket;

/// How many documents are fetched by one request.
const FETCHED_AT_ONCE: usize = 200;

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Ask for the digests of these.
    Ask(Vec<DigestNode>),
    /// Fetch these documents, some in each request.
    Fetch(Vec<Vec<DocumentPath>>),
    /// The difference is known.
    Finish,
    /// It cannot be done: listen anew.
    GiveUp,
    /// The answer is none to what was asked.
    Misunderstood,
}

/// The comparison of one target.
#[derive(Debug)]
pub(crate) struct Reconcile {
    /// What this client has.
    tree: DigestTree,
    /// Whether the target is a window.
    window: bool,
    /// Of the first answer; set by it.
    version: Option<Version>,
    /// The request under way, and what it asks for.
    asked: Option<(u32, Vec<DigestNode>)>,
    /// To be asked for.
    open: Vec<DigestNode>,
    /// To be fetched.
    wanted: BTreeSet<DocumentPath>,
    /// The requests that fetch.
    fetches: BTreeSet<Ticket>,
    /// Not in the result, or not any more when it was looked at.
    gone: BTreeSet<DocumentPath>,
}

/// The difference between what a client had and the result at a version.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) version: Version,
    pub(crate) gone: BTreeSet<DocumentPath>,
}

impl Reconcile {
    /// Begins with what this client has; none if that is nothing.
    pub(crate) fn begin(
        members: BTreeMap<DocumentPath, Version>,
        window: bool,
    ) -> Option<Reconcile> {
        if members.is_empty() {
            return None;
        }
        Some(Reconcile {
            tree: DigestTree::new(members),
            window,
            version: None,
            asked: None,
            open: vec![DigestNode::ROOT],
            wanted: BTreeSet::new(),
            fetches: BTreeSet::new(),
            gone: BTreeSet::new(),
        })
    }

    /// What to do to begin with.
    pub(crate) fn first(&mut self) -> Next {
        self.next()
    }

    /// What [`Next::Ask`] asked for has been sent under this number.
    pub(crate) fn sent(&mut self, request: u32, nodes: Vec<DigestNode>) {
        self.asked = Some((request, nodes));
    }

    /// Whether this is the number of the request under way.
    pub(crate) fn awaits(&self, request: u32) -> bool {
        self.asked.as_ref().is_some_and(|(asked, _)| *asked == request)
    }

    /// What [`Next::Fetch`] fetches is asked for by this request.
    pub(crate) fn fetching(&mut self, ticket: Ticket) {
        self.fetches.insert(ticket);
    }

    /// Whether this request is one of its own.
    pub(crate) fn fetches(&self, ticket: Ticket) -> bool {
        self.fetches.contains(&ticket)
    }

    /// The requests under way.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.fetches.iter().copied()
    }

    /// Takes the answer to the request under way.
    pub(crate) fn answered(&mut self, version: Version, answers: Vec<DigestAnswer>) -> Next {
        let Some((_, asked)) = self.asked.take() else { return Next::Misunderstood };
        let answered: Vec<DigestNode> = answers.iter().map(|answer| answer.node).collect();
        if answered != asked {
            return Next::Misunderstood;
        }
        let first = *self.version.get_or_insert(version);
        for DigestAnswer { node, part } in answers {
            match part {
                DigestPart::Members(members) => self.compare_members(node, members, first),
                DigestPart::Children(_) if self.window => return Next::GiveUp,
                DigestPart::Children(prints) => {
                    let mut any = false;
                    for (child, theirs) in node.children().zip(prints) {
                        any = true;
                        if self.tree.fingerprint(child) != theirs {
                            self.open.push(child);
                        }
                    }
                    if !any {
                        return Next::Misunderstood;
                    }
                }
            }
        }
        self.next()
    }

    fn compare_members(
        &mut self,
        node: DigestNode,
        members: Vec<(DocumentPath, Version)>,
        first: Version,
    ) {
        let mut theirs: BTreeMap<DocumentPath, Version> = members.into_iter().collect();
        for (_, path, version) in self.tree.within(node) {
            match theirs.remove(path) {
                Some(their) if their == *version && their <= first => {}
                Some(their) if their <= first => {
                    self.wanted.insert(path.clone());
                }
                Some(_) | None => {
                    self.gone.insert(path.clone());
                }
            }
        }
        let unknown = theirs.into_iter().filter(|(_, version)| *version <= first);
        self.wanted.extend(unknown.map(|(path, _)| path));
    }

    fn next(&mut self) -> Next {
        if !self.open.is_empty() {
            let rest = self.open.split_off(self.open.len().min(limits::DIGEST_NODES));
            return Next::Ask(std::mem::replace(&mut self.open, rest));
        }
        if !self.wanted.is_empty() {
            let wanted: Vec<DocumentPath> = std::mem::take(&mut self.wanted).into_iter().collect();
            return Next::Fetch(wanted.chunks(FETCHED_AT_ONCE).map(<[_]>::to_vec).collect());
        }
        if self.fetches.is_empty() { Next::Finish } else { Next::Fetch(Vec::new()) }
    }

    /// Takes fetched documents; gives those that are to be kept. What is missing, or has changed since
    /// the first answer, leaves the target.
    pub(crate) fn fetched(
        &mut self,
        ticket: Ticket,
        paths: Vec<DocumentPath>,
        documents: Vec<Arc<Document>>,
    ) -> (Vec<Arc<Document>>, Next) {
        self.fetches.remove(&ticket);
        let first = self.version.unwrap_or(Version::NONE);
        let kept: Vec<Arc<Document>> =
            documents.into_iter().filter(|document| document.update_version <= first).collect();
        self.gone.extend(paths);
        for document in &kept {
            self.gone.remove(&document.path);
        }
        (kept, self.next())
    }

    /// After [`Next::Finish`].
    pub(crate) fn into_difference(self) -> Difference {
        Difference { version: self.version.unwrap_or(Version::NONE), gone: self.gone }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tidemark_protocol::model::Fields;

    use super::*;
    use crate::engine::tests::server::Chance;

    fn path(index: u64) -> DocumentPath {
        DocumentPath::parse(&format!("rooms/{index}")).unwrap()
    }

    fn document(path: &DocumentPath, version: Version) -> Arc<Document> {
        let merge = tidemark_protocol::model::MergeState::default();
        Arc::new(Document {
            path: path.clone(),
            fields: Fields::new(),
            create_version: Version(1),
            update_version: version,
            merge,
        })
    }

    type Members = BTreeMap<DocumentPath, Version>;

    /// Compares `mine` with a server whose state changes between any two answers. Gives what this client
    /// has at the end, the first version, and what was sent: members named, and documents.
    fn run(
        mine: &Members,
        theirs: &mut Members,
        mut change: impl FnMut(&mut Members, &mut Version),
    ) -> (Members, Members, usize, usize) {
        let mut version = Version(1_000);
        let mut reconcile = Reconcile::begin(mine.clone(), false).unwrap();
        let (mut named, mut sent, mut at_first) = (0, 0, None);
        let mut kept = Members::new();
        let mut queue = Vec::new();
        let mut next = reconcile.first();
        loop {
            change(theirs, &mut version);
            next = match next {
                Next::Ask(nodes) => {
                    assert!(nodes.len() <= limits::DIGEST_NODES);
                    at_first.get_or_insert_with(|| theirs.clone());
                    let tree = DigestTree::new(theirs.clone());
                    let answer = |node: &DigestNode| {
                        let part = tree.answer(*node);
                        named += match &part {
                            DigestPart::Members(members) => members.len(),
                            DigestPart::Children(_) => 16,
                        };
                        DigestAnswer { node: *node, part }
                    };
                    let answers = nodes.iter().map(answer).collect();
                    reconcile.sent(7, nodes);
                    assert!(reconcile.awaits(7) && !reconcile.awaits(8));
                    reconcile.answered(version, answers)
                }
                Next::Fetch(batches) => {
                    for paths in batches {
                        let ticket = Ticket(queue.len() as u64 + sent as u64);
                        reconcile.fetching(ticket);
                        queue.push((ticket, paths));
                    }
                    let (ticket, paths) = queue.pop().unwrap();
                    let found = |path: &DocumentPath| Some(document(path, *theirs.get(path)?));
                    let documents: Vec<_> = paths.iter().filter_map(found).collect();
                    sent += documents.len();
                    let (documents, next) = reconcile.fetched(ticket, paths, documents);
                    let member = |it: &Arc<Document>| (it.path.clone(), it.update_version);
                    kept.extend(documents.iter().map(member));
                    next
                }
                Next::Finish => break,
                Next::GiveUp | Next::Misunderstood => panic!("{next:?}"),
            };
        }
        let difference = reconcile.into_difference();
        let mut result = mine.clone();
        result.extend(kept);
        result.retain(|path, _| !difference.gone.contains(path));
        (result, at_first.unwrap(), named, sent)
    }

    fn random(seed: u64, count: u64, differing: u64) -> (Members, Members) {
        let mut chance = Chance(seed);
        let mine: Members =
            (0..count).map(|index| (path(index), Version(chance.below(900)))).collect();
        let mut theirs = mine.clone();
        for _ in 0..differing {
            let path = path(chance.below(count + count / 4));
            match chance.below(3) {
                0 => theirs.remove(&path),
                _ => theirs.insert(path, Version(901 + chance.below(90))),
            };
        }
        (mine, theirs)
    }

    #[test]
    fn the_difference_leads_to_the_server_s_members() {
        for seed in 0..60 {
            let (mine, mut theirs) = random(seed, 1 + seed * 37, seed * 3);
            let (result, at_first, _, _) = run(&mine, &mut theirs, |_, _| {});
            assert_eq!(result, at_first, "seed {seed}");
        }
    }

    #[test]
    fn what_changes_meanwhile_is_left_to_the_replay() {
        for seed in 0..60 {
            let (mine, mut theirs) = random(seed, 1 + seed * 37, seed * 3);
            let mut chance = Chance(seed + 1_000);
            let mut changed = BTreeSet::new();
            let mut first = true;
            let (result, at_first, _, _) = run(&mine, &mut theirs, |members, version| {
                if std::mem::take(&mut first) {
                    return;
                }
                for _ in 0..chance.below(4) {
                    version.0 += 1;
                    let path = path(chance.below(seed * 40 + 2));
                    changed.insert(path.clone());
                    match chance.below(3) {
                        0 => members.remove(&path),
                        _ => members.insert(path, *version),
                    };
                }
            });
            // The replay tells these: of those in the result the document; of others that they left,
            // but only if they were there at the first answer.
            let mut replayed = result;
            for path in &changed {
                match theirs.get(path) {
                    Some(version) => drop(replayed.insert(path.clone(), *version)),
                    None if at_first.contains_key(path) => drop(replayed.remove(path)),
                    None => {}
                }
            }
            assert_eq!(replayed, theirs, "seed {seed}");
        }
    }

    #[test]
    fn what_is_sent_follows_the_difference() {
        for (count, differing) in [(10_000, 0), (10_000, 1), (10_000, 10), (40_000, 10)] {
            let (mine, mut theirs) = random(5, count, differing);
            let differing = differing as usize;
            let (result, at_first, named, sent) = run(&mine, &mut theirs, |_, _| {});
            assert_eq!(result, at_first);
            assert!(sent <= differing, "{sent} documents for {differing}");
            let depth = count.ilog(16) as usize;
            let bound = 16 + differing * (16 * depth + limits::DIGEST_MEMBERS);
            assert!(named <= bound, "{named} members and prints for {differing} of {count}");
        }
    }

    #[test]
    fn a_window_is_told_at_once_or_given_up() {
        let (mine, mut theirs) = random(1, 20, 5);
        let (result, at_first, _, _) = run(&mine, &mut theirs, |_, _| {});
        assert_eq!(result, at_first);
        let (mine, theirs) = random(1, 200, 5);
        let mut reconcile = Reconcile::begin(mine, true).unwrap();
        let Next::Ask(nodes) = reconcile.first() else { panic!("nothing is asked") };
        let part = DigestTree::new(theirs).answer(DigestNode::ROOT);
        reconcile.sent(1, nodes);
        let answers = vec![DigestAnswer { node: DigestNode::ROOT, part }];
        assert_eq!(reconcile.answered(Version(1_000), answers), Next::GiveUp);
    }

    #[test]
    fn who_has_nothing_does_not_compare() {
        assert!(Reconcile::begin(Members::new(), false).is_none());
    }

    #[test]
    fn an_answer_to_something_else_is_misunderstood() {
        let (mine, _) = random(1, 20, 0);
        let mut reconcile = Reconcile::begin(mine, false).unwrap();
        let Next::Ask(nodes) = reconcile.first() else { panic!("nothing is asked") };
        reconcile.sent(1, nodes);
        let node = DigestNode { depth: 1, prefix: 0 };
        let answers = vec![DigestAnswer { node, part: DigestPart::Members(Vec::new()) }];
        assert_eq!(reconcile.answered(Version(1), answers), Next::Misunderstood);
        assert_eq!(reconcile.answered(Version(1), Vec::new()), Next::Misunderstood);
    }
}
