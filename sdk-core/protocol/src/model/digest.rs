//! Comparing what a client has of a target with what the server has, without sending either: the members
//! of the target are the leaves of a tree by the hash of their paths, and only branches that differ
//! are looked into. The client builds a [`DigestTree`] of what it has; the server runs once over its
//! result with a [`DigestSurvey`] of the branches it was asked for. Who asks for what when is theirs.

use std::collections::HashMap;

use super::error::ModelError;
use super::ids::Version;
use super::limits;
use super::path::DocumentPath;

/// Bits of a hash that one step from a branch to its branches takes.
const STEP_BITS: u32 = 4;
/// At this depth a branch is one hash: it has no branches.
const DEEPEST: u32 = u64::BITS / STEP_BITS;
/// What the names in one answer may take, of those that have branches to be told instead.
const NAMED_BYTES: usize = 1 << 20;

/// A branch of the tree: the members whose path hashes agree in their first `4 * depth` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestNode {
    /// How many steps from the root; at most 16.
    pub depth: u32,
    /// The bits that agree, at the top; the others are 0.
    pub prefix: u64,
}

/// What a set of members amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many.
    pub count: u32,
    /// The wrapping sum of their hashes.
    pub sum: u64,
}

/// What the server has in a branch.
#[derive(Clone, Debug, PartialEq)]
pub struct DigestAnswer {
    /// Which branch.
    pub node: DigestNode,
    /// What is in it.
    pub part: DigestPart,
}

/// The members of a branch: few are named, many only amount to something.
// An answer has few of them, and none is moved often.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum DigestPart {
    /// All members, each at its update version.
    Members(Vec<(DocumentPath, Version)>),
    /// The sixteen branches of the branch.
    Children([Fingerprint; 16]),
}

impl DigestNode {
    /// All members.
    pub const ROOT: DigestNode = DigestNode { depth: 0, prefix: 0 };

    /// Whether it is a branch of the tree: not too deep, and without bits below its own.
    pub fn is_valid(self) -> bool {
        self.depth <= DEEPEST && self.prefix & self.mask() == self.prefix
    }

    /// The bits that agree.
    fn mask(self) -> u64 {
        u64::MAX.checked_shl(u64::BITS - STEP_BITS * self.depth.min(DEEPEST)).unwrap_or(0)
    }

    /// Whether a path of this hash is in it.
    pub fn contains(self, hash: u64) -> bool {
        hash & self.mask() == self.prefix
    }

    /// Which of its branches a path of this hash is in.
    fn child_of(self, hash: u64) -> usize {
        let shift = u64::BITS - STEP_BITS * (self.depth.min(DEEPEST - 1) + 1);
        (hash >> shift) as usize % 16
    }

    /// Its sixteen branches, in order; the deepest has none.
    pub fn children(self) -> impl Iterator<Item = DigestNode> {
        let depth = self.depth + 1;
        let shift = u64::BITS.saturating_sub(STEP_BITS * depth);
        let of = move |index: u64| DigestNode { depth, prefix: self.prefix | (index << shift) };
        (0..16).map(of).filter(move |child| child.depth <= DEEPEST)
    }
}

impl Fingerprint {
    fn add(&mut self, member: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(member);
    }
}

/// The hash of a path, which says where in the tree it is: FNV-1a, mixed so that the first bits, which
/// tell the branches, depend on all of the path.
fn path_hash(path: &str) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(path.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The hash of a member: of its path and its update version.
fn member_hash(path: u64, version: Version) -> u64 {
    mix(path ^ mix(version.0.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The members of a target, to be asked for any of its branches.
#[derive(Clone, Debug, Default)]
pub struct DigestTree {
    /// By the hash, which comes first, then by the path.
    members: Vec<(u64, DocumentPath, Version)>,
}

impl DigestTree {
    /// Of these members: each path once, at its update version.
    pub fn new(members: impl IntoIterator<Item = (DocumentPath, Version)>) -> DigestTree {
        let hashed =
            |(path, version): (DocumentPath, Version)| (path_hash(path.as_str()), path, version);
        let mut members: Vec<_> = members.into_iter().map(hashed).collect();
        members.sort_unstable();
        DigestTree { members }
    }

    /// The members of a branch: the hashes of their paths, the paths, the update versions.
    pub fn within(&self, node: DigestNode) -> &[(u64, DocumentPath, Version)] {
        let begin = self.members.partition_point(|(hash, ..)| *hash < node.prefix);
        let members = &self.members[begin..];
        &members[..members.partition_point(|(hash, ..)| node.contains(*hash))]
    }

    /// What a branch amounts to.
    pub fn fingerprint(&self, node: DigestNode) -> Fingerprint {
        let mut print = Fingerprint::default();
        for (hash, _, version) in self.within(node) {
            print.add(member_hash(*hash, *version));
        }
        print
    }

    /// What is in a branch, as the server tells it: its members if they are few, else what its branches
    /// amount to.
    pub fn answer(&self, node: DigestNode) -> DigestPart {
        let members = self.within(node);
        if members.len() <= limits::DIGEST_MEMBERS || node.depth >= DEEPEST {
            let named = members.iter().map(|(_, path, version)| (path.clone(), *version));
            return DigestPart::Members(named.collect());
        }
        let mut prints = [Fingerprint::default(); 16];
        for (print, child) in prints.iter_mut().zip(node.children()) {
            *print = self.fingerprint(child);
        }
        DigestPart::Children(prints)
    }
}

/// Answers for some branches in one pass over members that come in any order; what it keeps is
/// bounded by the branches, not by the members.
#[derive(Debug)]
pub struct DigestSurvey {
    /// In the order in which they were asked for, each once.
    branches: Vec<Branch>,
    by_node: HashMap<DigestNode, usize>,
    /// The depths that occur.
    depths: Vec<u32>,
    asked: Vec<DigestNode>,
    /// How many members of a branch are named.
    named: usize,
    /// Bytes of the paths kept.
    bytes: usize,
}

#[derive(Debug)]
struct Branch {
    node: DigestNode,
    /// None if there are more than are named.
    members: Option<Vec<(DocumentPath, Version)>>,
    children: [Fingerprint; 16],
}

impl DigestSurvey {
    /// Of these branches.
    pub fn new(nodes: Vec<DigestNode>) -> DigestSurvey {
        let (mut branches, mut by_node) = (Vec::new(), HashMap::new());
        for node in &nodes {
            by_node.entry(*node).or_insert_with(|| {
                let children = [Fingerprint::default(); 16];
                branches.push(Branch { node: *node, members: Some(Vec::new()), children });
                branches.len() - 1
            });
        }
        let mut depths: Vec<u32> = nodes.iter().map(|node| node.depth.min(DEEPEST)).collect();
        depths.sort_unstable();
        depths.dedup();
        let named = limits::DIGEST_MEMBERS;
        DigestSurvey { branches, by_node, depths, asked: nodes, named, bytes: 0 }
    }

    /// Names this many members of a branch before it tells what its branches amount to.
    #[must_use]
    pub fn naming(self, named: usize) -> DigestSurvey {
        DigestSurvey { named, ..self }
    }

    /// Takes a member of the target into account.
    pub fn add(&mut self, path: &str, version: Version) -> Result<(), ModelError> {
        let hash = path_hash(path);
        for depth in &self.depths {
            let node = DigestNode { depth: *depth, prefix: 0 };
            let node = DigestNode { prefix: hash & node.mask(), ..node };
            let Some(index) = self.by_node.get(&node) else { continue };
            let branch = &mut self.branches[*index];
            if let Some(members) = &mut branch.members {
                members.push((DocumentPath::parse(path)?, version));
                self.bytes += path.len();
            }
            if *depth < DEEPEST {
                if let Some(members) = &branch.members
                    && (members.len() > self.named || self.bytes > NAMED_BYTES)
                {
                    self.bytes -=
                        members.iter().map(|(path, _)| path.as_str().len()).sum::<usize>();
                    branch.members = None;
                }
                branch.children[node.child_of(hash)].add(member_hash(hash, version));
            }
        }
        Ok(())
    }

    /// The answers, in the order of the questions.
    pub fn finish(self) -> Vec<DigestAnswer> {
        let answer = |Branch { node, members, children }: Branch| match members {
            Some(members) => named(node, members),
            None => DigestAnswer { node, part: DigestPart::Children(children) },
        };
        let answers: Vec<DigestAnswer> = self.branches.into_iter().map(answer).collect();
        let asked = self.asked.iter().filter_map(|node| self.by_node.get(node));
        asked.map(|index| answers[*index].clone()).collect()
    }
}

/// A branch all of whose members are named, by the hash of their paths.
fn named(node: DigestNode, mut members: Vec<(DocumentPath, Version)>) -> DigestAnswer {
    members.sort_by_cached_key(|(path, _)| (path_hash(path.as_str()), path.clone()));
    DigestAnswer { node, part: DigestPart::Members(members) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn members(count: u64) -> Vec<(DocumentPath, Version)> {
        let path = |index| DocumentPath::parse(&format!("rooms/{index}")).unwrap();
        (0..count).map(|index| (path(index), Version(index % 7 + 1))).collect()
    }

    #[test]
    fn branches_divide_their_members() {
        let tree = DigestTree::new(members(5_000));
        assert_eq!(tree.within(DigestNode::ROOT).len(), 5_000);
        let mut nodes = vec![DigestNode::ROOT];
        while let Some(node) = nodes.pop() {
            assert!(node.is_valid());
            let within = tree.within(node);
            assert!(within.iter().all(|(hash, ..)| node.contains(*hash)));
            let children: Vec<DigestNode> = node.children().collect();
            let parts: usize = children.iter().map(|child| tree.within(*child).len()).sum();
            assert_eq!(parts, within.len());
            match tree.answer(node) {
                DigestPart::Members(named) => assert_eq!(named.len(), within.len()),
                DigestPart::Children(prints) => {
                    assert!(within.len() > limits::DIGEST_MEMBERS);
                    let count: u32 = prints.iter().map(|print| print.count).sum();
                    assert_eq!(count as usize, within.len());
                    nodes.extend(children);
                }
            }
        }
    }

    #[test]
    fn every_difference_shows_in_the_fingerprint() {
        let whole = members(100);
        let print = |members: Vec<_>| DigestTree::new(members).fingerprint(DigestNode::ROOT);
        let same = print(whole.iter().rev().cloned().collect());
        assert_eq!(print(whole.clone()), same);
        for index in 0..whole.len() {
            let mut without = whole.clone();
            let (path, version) = without.remove(index);
            assert_ne!(print(without.clone()), same);
            without.push((path, Version(version.0 + 1)));
            assert_ne!(print(without), same);
        }
    }

    #[test]
    fn a_survey_answers_as_a_tree_does() {
        let all = members(3_000);
        let tree = DigestTree::new(all.clone());
        let mut nodes = vec![DigestNode::ROOT];
        nodes.extend(DigestNode::ROOT.children());
        nodes.extend(nodes[3].children());
        nodes.extend(nodes[20].children());
        nodes.push(DigestNode { depth: 16, prefix: path_hash("rooms/7") });
        // One that is asked for twice is answered twice.
        nodes.push(nodes[5]);
        let mut survey = DigestSurvey::new(nodes.clone());
        for (path, version) in all.iter().rev() {
            survey.add(path.as_str(), *version).unwrap();
        }
        let answer = |node: &DigestNode| DigestAnswer { node: *node, part: tree.answer(*node) };
        assert_eq!(survey.finish(), nodes.iter().map(answer).collect::<Vec<_>>());
        assert_eq!(DigestSurvey::new(vec![]).finish(), vec![]);
        let mut survey = DigestSurvey::new(vec![DigestNode::ROOT]).naming(all.len());
        all.iter().for_each(|(path, version)| survey.add(path.as_str(), *version).unwrap());
        match survey.finish().remove(0).part {
            DigestPart::Members(members) => assert_eq!(members.len(), all.len()),
            DigestPart::Children(_) => panic!("all of them were to be named"),
        }
    }

    #[test]
    fn long_names_are_told_some_branches_at_a_time() {
        let mut nodes: Vec<DigestNode> = DigestNode::ROOT.children().collect();
        nodes = nodes.iter().flat_map(|node| node.children()).collect();
        let mut survey = DigestSurvey::new(nodes.clone());
        let long = ["x".repeat(1_400), "y".repeat(1_400), "z".repeat(1_400)].join("/");
        for index in 0..1_500 {
            survey.add(&format!("{long}/{index}"), Version(1)).unwrap();
        }
        let answers = survey.finish();
        let named = answers.iter().filter_map(|answer| match &answer.part {
            DigestPart::Members(members) => Some(members),
            DigestPart::Children(_) => None,
        });
        let bytes: usize = named.flatten().map(|(path, _)| path.as_str().len()).sum();
        assert!(bytes > NAMED_BYTES / 2 && bytes <= NAMED_BYTES, "{bytes}");
    }

    #[test]
    fn the_deepest_branch_names_its_members_and_has_no_branches() {
        let (path, version) = members(1).remove(0);
        let node = DigestNode { depth: 16, prefix: path_hash(path.as_str()) };
        assert!(node.is_valid());
        assert_eq!(node.children().count(), 0);
        let tree = DigestTree::new([(path.clone(), version)]);
        assert_eq!(tree.answer(node), DigestPart::Members(vec![(path, version)]));
    }

    #[test]
    fn branches_that_are_none_are_told_from_others() {
        assert!(DigestNode::ROOT.is_valid());
        assert!(DigestNode { depth: 1, prefix: 0xf << 60 }.is_valid());
        for (depth, prefix) in [(0, 1), (1, 1 << 59), (17, 0), (15, 1)] {
            assert!(!DigestNode { depth, prefix }.is_valid(), "{depth} {prefix}");
        }
    }

    /// Both sides must agree, now and later: these never change.
    #[test]
    fn the_hashes_are_these() {
        let hash = path_hash("rooms/a");
        assert_eq!(hash, 17_528_300_267_214_739_559);
        assert_eq!(member_hash(hash, Version(10)), 4_138_496_406_452_455_808);
    }
}
