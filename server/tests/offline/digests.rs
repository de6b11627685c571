//! Comparing results by digests, as a client does whose resume token is too old.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{DigestResult, ServerMessage};
use tidemark_server::engine::DatabaseOptions;

use crate::world::{Client, World, delete, field, path, set, update};

type Members = BTreeMap<DocumentPath, Version>;

fn collection(path: &str) -> Query {
    Query::collection(&CollectionPath::parse(path).unwrap())
}

fn targets() -> Vec<Target> {
    let over =
        |least: i64| collection("c").with_filter(field("n"), Operator::GreaterThanOrEqual, least);
    let mut last = collection("c").with_order(field("n"), Direction::Ascending).with_limit(20);
    last.limit_to_last = true;
    let mut offset = collection("c").with_order(field("n"), Direction::Descending).with_limit(25);
    offset.offset = 7;
    let projected = Query { projection: Some(vec![field("n")]), ..over(3) };
    let named = (0..300).step_by(7).map(|index| path(&format!("c/{index}"))).collect();
    vec![
        Target::Query(collection("c")),
        Target::Query(collection("other")),
        Target::Query(collection("none")),
        Target::Query(over(5)),
        Target::Query(projected),
        Target::Query(Query::group("c")),
        Target::Query(last),
        Target::Query(offset),
        Target::Documents(named),
    ]
}

/// The members of the target, by its definition.
fn fresh(documents: &BTreeMap<DocumentPath, Document>, target: &Target) -> Members {
    let all = documents.values();
    let found: Vec<&Document> = match target {
        Target::Query(query) => evaluate(query, all),
        Target::Documents(paths) => all.filter(|it| paths.contains(&it.path)).collect(),
        Target::Aggregate(_) => unreachable!("not among the targets"),
    };
    found.into_iter().map(|document| (document.path.clone(), document.update_version)).collect()
}

/// A client that compares what it has with what the server has.
struct Comparison<'a> {
    client: &'a Client,
    target: &'a Target,
    mine: Members,
    requests: u32,
    /// Of the frames in both directions.
    bytes: usize,
}

impl Comparison<'_> {
    async fn ask(&mut self, nodes: Vec<DigestNode>) -> Vec<DigestAnswer> {
        self.requests += 1;
        let (request, target) = (self.requests, self.target.clone());
        let question = ClientMessage::Digest { request, target, nodes: nodes.clone() };
        self.bytes += codec::encode_client(&question).len();
        self.client.connection.digest(request, self.target.clone(), nodes.clone());
        let frame = self.client.next_frame().await;
        self.bytes += frame.len();
        match codec::decode_server(&frame).unwrap() {
            ServerMessage::DigestResult(DigestResult { request: of, nodes: answers, .. }) => {
                assert_eq!(of, request);
                assert_eq!(answers.iter().map(|it| it.node).collect::<Vec<_>>(), nodes);
                answers
            }
            other => panic!("no answer to a digest: {other:?}"),
        }
    }

    /// Takes out what is not there any more and returns what is to be fetched.
    async fn run(&mut self) -> BTreeSet<DocumentPath> {
        let tree = DigestTree::new(self.mine.clone());
        let (mut open, mut wanted) = (vec![DigestNode::ROOT], BTreeSet::new());
        while !open.is_empty() {
            let nodes = open.split_off(open.len().saturating_sub(limits::DIGEST_NODES));
            for DigestAnswer { node, part } in self.ask(nodes).await {
                match part {
                    DigestPart::Children(prints) => {
                        let children = node.children().zip(prints);
                        let differing =
                            children.filter(|(it, print)| tree.fingerprint(*it) != *print);
                        open.extend(differing.map(|(child, _)| child));
                    }
                    DigestPart::Members(members) => {
                        for (_, path, _) in tree.within(node) {
                            if members.iter().all(|(other, _)| other != path) {
                                self.mine.remove(path);
                            }
                        }
                        let changed = |(path, version): &(DocumentPath, Version)| {
                            self.mine.get(path) != Some(version)
                        };
                        wanted.extend(members.into_iter().filter(changed).map(|(path, _)| path));
                    }
                }
            }
        }
        wanted
    }
}

#[tokio::test]
async fn a_comparison_finds_every_difference_of_every_kind_of_target() {
    let mut rng = StdRng::seed_from_u64(7);
    let world = World::new(DatabaseOptions::default()).await;
    let mut client = world.connect(1).await;
    let mut compared = 0;
    for round in 0..12 {
        let before = world.documents().await;
        let count = [300, 2, 40][round % 3];
        let mut writes = Vec::new();
        for _ in 0..count {
            let collection = ["c", "c", "c", "other", "x/y/c"][rng.random_range(0..5)];
            let document = format!("{collection}/{}", rng.random_range(0..300));
            let n = rng.random_range(0..10);
            writes.push(match rng.random_range(0..4) {
                0 => delete(&document),
                1 => update(&document, &[("n", n)]),
                _ => set(&document, &[("n", n)]),
            });
        }
        client.commit(writes, None).await.unwrap();
        let after = world.documents().await;
        for target in targets() {
            let (mine, theirs) = (fresh(&before, &target), fresh(&after, &target));
            let (client, target) = (&client, &target);
            let mut comparison =
                Comparison { client, target, mine: mine.clone(), requests: 0, bytes: 0 };
            let wanted = comparison.run().await;
            let changed =
                |(path, version): &(&DocumentPath, &Version)| mine.get(path) != Some(version);
            let expected: BTreeSet<DocumentPath> =
                theirs.iter().filter(changed).map(|(path, _)| path.clone()).collect();
            assert_eq!(wanted, expected, "{target:?} in round {round}");
            let mut found = comparison.mine;
            found.extend(wanted.into_iter().map(|path| (path.clone(), theirs[&path])));
            assert_eq!(found, theirs, "{target:?} in round {round}");
            compared += 1;
        }
    }
    println!("{compared} comparisons");
}

#[tokio::test]
async fn the_bytes_of_a_comparison_follow_the_difference() {
    let world = World::new(DatabaseOptions::default()).await;
    let mut client = world.connect(1).await;
    let target = Target::Query(collection("c"));
    for chunk in 0..20 {
        let name = |index: i64| format!("c/document-{}", chunk * 500 + index);
        client
            .commit((0..500).map(|it| set(&name(it), &[("n", it)])).collect(), None)
            .await
            .unwrap();
    }
    let before = fresh(&world.documents().await, &target);
    let mut told = Vec::new();
    for changes in [0, 1, 10, 100] {
        let writes: Vec<Write> = (0..changes)
            .map(|index| set(&format!("c/document-{}", index * 97), &[("n", -1 - changes)]))
            .collect();
        if !writes.is_empty() {
            client.commit(writes, None).await.unwrap();
        }
        let (client, target) = (&client, &target);
        let mut comparison =
            Comparison { client, target, mine: before.clone(), requests: 0, bytes: 0 };
        let wanted = comparison.run().await.len();
        assert_eq!(wanted, changes as usize);
        told.push((wanted, comparison.requests, comparison.bytes));
    }
    println!("changes, requests, bytes of 10,000 documents: {told:?}");
    for (changes, requests, bytes) in told {
        assert!(requests <= 6, "{changes} changes took {requests} requests");
        assert!(bytes < 600 + 2_500 * changes, "{changes} changes took {bytes} bytes");
    }
}

#[tokio::test]
async fn a_token_that_is_too_old_leaves_it_to_the_client_to_compare() {
    let options = DatabaseOptions { log_bytes: 2_000, ..DatabaseOptions::default() };
    let world = World::new(options).await;
    let mut writer = world.connect(1).await;
    let (old, _) = writer.commit(vec![set("c/a", &[])], None).await.unwrap();
    for n in 0..300 {
        writer.write(set("c/b", &[("n", n)]), None).await;
    }
    let incarnation = world.database.incarnation();
    let listener = world.connect(2).await;
    let mut newest = collection("c").with_order(field("n"), Direction::Descending);
    newest.limit = Some(5);
    let another_life = Incarnation(incarnation.0 ^ 1);
    let now = world.database.version();
    let stale = [
        (Target::Query(collection("c")), ResumeToken { incarnation, version: old }),
        (Target::Query(newest), ResumeToken { incarnation, version: old }),
        (
            Target::Documents(vec![path("c/a")]),
            ResumeToken { incarnation: another_life, version: now },
        ),
    ];
    for (target, token) in &stale {
        listener.listen(1, target, Some(*token)).await;
        let told = listener.next().await;
        let is_stale = matches!(&told, ServerMessage::Stale { target: TargetId(1), .. });
        assert!(is_stale, "{told:?}");
        let told = listener.next().await;
        assert!(matches!(told, ServerMessage::Current { .. }), "{told:?}");
    }
    assert_eq!(world.database.metrics().stale.get(), 3);
    assert_eq!(world.database.metrics().resets.get(), 0);
    // It has not begun: nobody is told of changes, and its id is free.
    writer.write(set("c/c", &[]), None).await;
    let version = world.database.version();
    let target = Target::Query(collection("c"));
    listener.listen(1, &target, Some(ResumeToken { incarnation, version })).await;
    let told = listener.next().await;
    assert!(matches!(told, ServerMessage::Listening { target: TargetId(1), .. }), "{told:?}");
    assert!(matches!(listener.next().await, ServerMessage::Current { .. }));
    let (version, _) = writer.commit(vec![set("c/d", &[])], None).await.unwrap();
    match listener.next().await {
        ServerMessage::Changes(changes) => assert_eq!(changes.version, version),
        other => panic!("no change: {other:?}"),
    }
}

#[tokio::test]
async fn a_window_is_told_whole_by_one_answer() {
    let world = World::new(DatabaseOptions::default()).await;
    let mut client = world.connect(1).await;
    let writes = (0..400).map(|it| set(&format!("c/{it}"), &[("n", it)])).collect();
    client.commit(writes, None).await.unwrap();
    let query = collection("c").with_order(field("n"), Direction::Descending).with_limit(300);
    let target = &Target::Query(query);
    let (client, mine) = (&client, Members::new());
    let mut comparison = Comparison { client, target, mine, requests: 0, bytes: 0 };
    assert_eq!(comparison.run().await.len(), 300);
    assert_eq!(comparison.requests, 1);
}

#[tokio::test]
async fn what_has_no_members_is_not_compared() {
    let world = World::new(DatabaseOptions::default()).await;
    let client = world.connect(1).await;
    let kind = AggregationKind::Count { up_to: None };
    let aggregations = vec![Aggregation { alias: "count".to_owned(), kind }];
    let target = Target::Aggregate(AggregateQuery { query: collection("c"), aggregations });
    client.connection.digest(3, target, vec![DigestNode::ROOT]);
    match client.next().await {
        ServerMessage::RequestError { request: 3, status } => {
            assert_eq!(status.code, Code::InvalidArgument);
        }
        other => panic!("no refusal: {other:?}"),
    }
}
