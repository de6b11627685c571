//! What the cache answers and shows: without a server, and before its word.

use std::collections::BTreeMap;
use std::time::Duration;

use expect_test::expect;
use tidemark_protocol::model::*;
use tidemark_protocol::wire::codec::encode_document;
use tidemark_protocol::wire::server::{Changes, ServerMessage};

use super::crash::CrashCache;
use super::script::{Bench, run, target};
use super::server::{Chance, State, result};
use crate::cache::Cache;
use crate::engine::{Action, Event, ListenerId, Request, Source, Ticket};

#[test]
fn the_cache_answers_with_pending_writes_on_top() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=5 rooms/c:n=9
        unlisten A
        network off
        update rooms/a:n=7
        delete rooms/b
        set rooms/d:n=8
        query rooms order=n:desc
        query rooms min=6 limit=2
        query rooms order=n last=2 select=s
        query rooms order=n offset=1
        query rooms count sum=n
        get rooms/a rooms/b rooms/c
        get rooms/z
        query rooms from=server
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=5 rooms/c:n=9] {+rooms/a:n=1@0 +rooms/b:n=5@1 +rooms/c:n=9@2}
        send unlisten 1
        disconnect
        state offline: unavailable: the network is disabled
        request 4 @0 [rooms/c:n=9 rooms/d:n=8* rooms/a:n=7*] cache
        request 5 @0 [rooms/a:n=7* rooms/d:n=8*] cache
        request 6 @0 [rooms/d* rooms/c] cache
        request 7 @0 [rooms/d:n=8* rooms/c:n=9] cache
        request 8 @0 [3 24] cache
        request 9 @0 [rooms/a:n=7* rooms/b(missing)* rooms/c:n=9] cache
        request 10 failed: unavailable: the document rooms/z is not in the cache; it may exist on the server
        request 11 failed: unavailable: the network is disabled
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_cache_is_asked_on_request_and_by_default_only_without_a_server() {
    let text = run("
        online
        get rooms/a from=cache
        get rooms/a
        result 1 @10 rooms/a:n=1
        get rooms/z
        result 2 @10
        get rooms/a rooms/z from=cache
        get rooms/a
        lost reset
        tick 11
        get rooms/a
        get rooms/a from=server
        ");
    expect![[r#"
        request 1 failed: unavailable: the document rooms/a is not in the cache; it may exist on the server
        send get 1 rooms/a
        request 2 @10 [rooms/a:n=1]
        send get 2 rooms/z
        request 3 @10 [rooms/z(missing)]
        request 4 @0 [rooms/a:n=1 rooms/z(missing)] cache
        send get 3 rooms/a
        state connecting
        connect 2
        state offline: unavailable: reset
        request 5 @0 [rooms/a:n=1] cache
        request 6 @0 [rooms/a:n=1] cache
        request 7 failed: unavailable: reset
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_new_listen_shows_what_the_cache_has_until_the_server_s_word_comes() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=5 rooms/c:n=9
        listen B rooms min=5
        listen C rooms order=n limit=1
        listen D rooms/b
        listen E other
        listening 2 8 @11
        changes 8 @11 rooms/c:n=9@10 partial
        current @11
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=5 rooms/c:n=9] {+rooms/a:n=1@0 +rooms/b:n=5@1 +rooms/c:n=9@2}
        send listen 2 rooms
        B @0 [rooms/b:n=5 rooms/c:n=9] cache {+rooms/b:n=5@0 +rooms/c:n=9@1}
        send listen 3 rooms
        C @0 [rooms/a:n=1] cache {+rooms/a:n=1@0}
        send listen 4 rooms/b
        D @0 [rooms/b:n=5] cache {+rooms/b:n=5@0}
        send listen 5 other
        B @11 [rooms/c:n=9] {-rooms/b:n=5@0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn without_a_server_a_listen_shows_the_cache_and_follows_pending_writes() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=5 rooms/c:n=9
        unlisten A
        network off
        listen B rooms min=5
        update rooms/a:n=6
        delete rooms/c
        listen C rooms count sum=n
        set rooms/d:n=1
        listen D other
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=5 rooms/c:n=9] {+rooms/a:n=1@0 +rooms/b:n=5@1 +rooms/c:n=9@2}
        send unlisten 1
        disconnect
        state offline: unavailable: the network is disabled
        B @0 [rooms/b:n=5 rooms/c:n=9] cache {+rooms/b:n=5@0 +rooms/c:n=9@1}
        B @0 [rooms/b:n=5 rooms/a:n=6* rooms/c:n=9] cache pending {+rooms/a:n=6*@1}
        B @0 [rooms/b:n=5 rooms/a:n=6*] cache pending {-rooms/c:n=9@2}
        C @0 count=2 sum=11 cache
        C @0 count=3 sum=12 cache
        D @0 [] cache {}
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_a_result_has_not_any_more_is_looked_at() {
    let text = run("
        online
        get rooms/a
        result 1 @10 rooms/a:n=5
        get rooms/b
        result 2 @10 rooms/b:n=6
        listen A rooms min=5
        listening 1 7 @12
        changes 7 @12 rooms/c:n=7@11 partial
        current @12
        result 3 @13 rooms/a:n=1@12
        network off
        query rooms
        get rooms/b
        ");
    expect![[r#"
        send get 1 rooms/a
        request 1 @10 [rooms/a:n=5]
        send get 2 rooms/b
        request 2 @10 [rooms/b:n=6]
        send listen 1 rooms
        A @0 [rooms/a:n=5 rooms/b:n=6] cache {+rooms/a:n=5@0 +rooms/b:n=6@1}
        A @12 [rooms/c:n=7] {-rooms/b:n=6@1 -rooms/a:n=5@0 +rooms/c:n=7@0}
        send get 3 rooms/a rooms/b
        disconnect
        state offline: unavailable: the network is disabled
        request 3 @0 [rooms/a:n=1 rooms/c:n=7] cache
        request 4 @0 [rooms/b(missing)] cache
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_query_that_was_listened_to_leaves_out_what_left_it() {
    let text = run("
        online
        listen A rooms min=5
        listening 1 7 @10
        changes 7 @10 rooms/a:n=5 rooms/b:n=6
        changes 7 @11 ~rooms/a
        unlisten A
        network off
        query rooms min=5
        query rooms min=4
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=5 rooms/b:n=6] {+rooms/a:n=5@0 +rooms/b:n=6@1}
        A @11 [rooms/b:n=6] {-rooms/a:n=5@0}
        send get 1 rooms/a
        send unlisten 1
        disconnect
        state offline: unavailable: the network is disabled
        request 1 @0 [rooms/b:n=6] cache
        request 2 @0 [rooms/a:n=5 rooms/b:n=6] cache
    "#]]
    .assert_eq(&text);
}

#[test]
fn aggregates_count_pending_writes_where_that_is_exact() {
    let text = run("
        online
        listen D rooms
        listen A rooms min=5 count sum=n meta
        listening 1 1 @10
        changes 1 @10 rooms/a:n=5 rooms/b:n=6 rooms/c:n=1 partial
        listening 2 2 @10
        aggregated 2 @10 2 11 partial
        current @10
        unlisten D
        update rooms/a:n=9
        update rooms/c:n=7
        delete rooms/b
        set rooms/unknown:n=8
        set other/a:n=8
        committed 1 @11
        committed 2 @12
        aggregated 2 @12 3 22
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 count sum of rooms
        D @10 [rooms/a:n=5 rooms/b:n=6 rooms/c:n=1] {+rooms/a:n=5@0 +rooms/b:n=6@1 +rooms/c:n=1@2}
        A @10 count=2 sum=11
        send unlisten 1
        A @10 count=2 sum=15
        send commit 1 rooms/a acknowledged=0
        A @10 count=3 sum=22
        send commit 2 rooms/c acknowledged=0
        A @10 count=2 sum=16
        send commit 3 rooms/b acknowledged=0
        send commit 4 rooms/unknown acknowledged=0
        send commit 5 other/a acknowledged=0
        write 1 committed @11
        write 2 committed @12
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_is_not_known_of_values_is_not_made_up() {
    let text = run("
        online
        listen D rooms
        listen A rooms order=n limit=2 count meta
        listen B rooms sum=n meta
        listening 1 1 @10
        changes 1 @10 rooms/a:n=5 rooms/b:n=6 partial
        listening 2 2 @10
        aggregated 2 @10 2 partial
        listening 3 3 @10
        aggregated 3 @10 11 partial
        current @10
        set rooms/a:n=x
        set rooms/b:s=x
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 count of rooms
        send listen 3 sum of rooms
        D @10 [rooms/a:n=5 rooms/b:n=6] {+rooms/a:n=5@0 +rooms/b:n=6@1}
        A @10 count=2
        B @10 sum=11
        D @10 [rooms/a:n=x* rooms/b:n=6] pending {~rooms/a:n=x*@0-0}
        A @10 count=2
        B @10 sum=6
        send commit 1 rooms/a acknowledged=0
        D @10 [rooms/a:n=x* rooms/b:s=x*] pending {~rooms/b:s=x*@1-1}
        B @10 sum=0
        send commit 2 rooms/b acknowledged=0
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_aggregate_goes_on_from_the_last_values_without_a_server() {
    let text = run("
        online
        listen D rooms
        listen A rooms count
        listening 1 1 @10
        changes 1 @10 rooms/a:n=5 rooms/b:n=6 partial
        listening 2 2 @10
        aggregated 2 @10 2 partial
        current @10
        network off
        delete rooms/a
        network on
        connected
        welcome
        committed 1 @11
        listening 1 1 @11
        changes 1 @11 -rooms/a partial
        listening 2 2 @11
        aggregated 2 @11 1 partial
        current @11
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 count of rooms
        D @10 [rooms/a:n=5 rooms/b:n=6] {+rooms/a:n=5@0 +rooms/b:n=6@1}
        A @10 count=2
        disconnect
        state offline: unavailable: the network is disabled
        D @10 [rooms/b:n=6] cache {-rooms/a:n=5@0}
        A @10 count=1 cache
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send listen 1 rooms resume=1@10
        send listen 2 count of rooms
        write 1 committed @11
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_cache_makes_room_and_keeps_what_is_listened_to_or_pending() {
    const BUDGET: u64 = 40_000;
    let cache = CrashCache::with_budget(BUDGET);
    let mut bench = Bench::over(cache.clone());
    let listen = |name: &str, target: usize| {
        let documents: Vec<String> = (0..20).map(|id| format!("{name}/{id}:n={id}")).collect();
        let documents = documents.join(" ");
        format!(
            "listen {name} {name}
            listening {target} {target} @10
            changes {target} @10 {documents}"
        )
    };
    bench.run("online window=1");
    bench.run(&listen("kept", 1));
    bench.run("set pending/a:n=1\nset pending/b:n=1");
    let names: Vec<String> = (2..60).map(|target| format!("c{target}")).collect();
    for (target, name) in (2..).zip(&names) {
        bench.run(&listen(name, target));
        bench.run(&format!("unlisten {name}"));
        assert!(cache.size() <= BUDGET, "{} bytes with {target} targets", cache.size());
    }
    bench.run("network off");
    let mut count = |name: &str| {
        let text = bench.run(&format!("query {name} count"));
        text.split(['[', ']']).nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!((count("kept"), count("pending")), (20, 2));
    assert_eq!((count(&names[0]), count(names.last().unwrap())), (0, 20));
}

/// A client that knows some documents, has no server, and writes.
struct Offline {
    bench: Bench,
    state: State,
    tickets: u64,
    chance: Chance,
}

impl Offline {
    fn new(seed: u64) -> Offline {
        let mut chance = Chance(seed);
        let mut bench = Bench::new();
        bench.run("online");
        let mut state = State::new();
        for (group, name) in [(1, "rooms"), (2, "rooms/a/rooms")] {
            let mut documents = Vec::new();
            for index in 0..chance.below(150) {
                let path = DocumentPath::parse(&format!("{name}/{index}")).unwrap();
                let number = |chance: &mut Chance| Value::Integer(chance.below(30) as i64);
                let mut fields = Fields::from([("n".to_owned(), number(&mut chance))]);
                if chance.below(4) == 0 {
                    fields.insert("m".to_owned(), number(&mut chance));
                }
                let version = Version(1 + chance.below(9));
                let (create_version, update_version) = (version, version);
                let merge = MergeState::default();
                let document = Document { path, fields, create_version, update_version, merge };
                documents.push(encode_document(&document));
                state.insert(document.path.clone(), document);
            }
            let (listener, target) = (ListenerId(group), target(&[name]));
            bench.handle(Event::Listen { listener, target, include_metadata: false });
            let (version, group) = (Version(10), u32::try_from(group).unwrap());
            let changes = Changes { group, version, documents, ..Changes::default() };
            for message in [
                ServerMessage::Listening { target: TargetId(group), group, version },
                ServerMessage::Changes(changes),
            ] {
                bench.receive(message);
            }
        }
        // With a listener and without one, documents are found in the same way.
        if chance.below(2) == 0 {
            bench.handle(Event::Unlisten { listener: ListenerId(1) });
        }
        bench.handle(Event::Network { enabled: false });
        Offline { bench, state, tickets: 1_000, chance }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn write(&mut self) {
        let collection = ["rooms", "rooms/a/rooms", "rooms/b/rooms"][self.chance.below(3) as usize];
        let path = format!("{collection}/{}", self.chance.below(180));
        let path = DocumentPath::parse(&path).unwrap();
        let value = Value::Integer(self.chance.below(30) as i64);
        let name = ["n", "m"][self.chance.below(2) as usize];
        let fields = Fields::from([(name.to_owned(), value)]);
        let mask = vec![FieldPath::parse(name).unwrap()];
        let (op, precondition) = match self.chance.below(5) {
            0 => (WriteOp::Delete, None),
            1 | 2 => (WriteOp::Update { fields, mask }, Some(Precondition::Exists(true))),
            3 => (WriteOp::Update { fields, mask }, None),
            _ => (WriteOp::Set(fields), None),
        };
        let write = Write { path, op, transforms: Vec::new(), precondition };
        let current = self.state.get(&write.path);
        if check_precondition(current, &write).is_ok() {
            let at = CommitTime::pending(Version(1_000_000));
            match apply_write(current, None, &write, at).unwrap().document {
                Some(document) => self.state.insert(write.path.clone(), document),
                None => self.state.remove(&write.path),
            };
        }
        let (ticket, reads) = (self.ticket(), Vec::new());
        self.bench.handle(Event::Commit { ticket, writes: vec![write], reads, local: true });
    }

    fn any_target(&mut self) -> Target {
        let mut words: Vec<String> =
            vec![["rooms", "rooms/a/rooms"][self.chance.below(2) as usize].to_owned()];
        let number = self.chance.below(30);
        if words[0] == "rooms" && self.chance.below(3) == 0 {
            words.push("group".to_owned());
        }
        words.extend(match self.chance.below(4) {
            0 => Some(format!("min={number}")),
            1 => Some(format!("any={number},3,7,11")),
            _ => None,
        });
        words.extend(
            match self.chance.below(5) {
                0 => Some("order=n"),
                1 => Some("order=n:desc"),
                2 if !words.iter().any(|word| word.starts_with("min")) => Some("order=m"),
                _ => None,
            }
            .map(str::to_owned),
        );
        let ordered = words.iter().any(|word| word.starts_with("order"));
        let limit = 1 + self.chance.below(40);
        words.extend(match self.chance.below(4) {
            0 if ordered => Some(format!("last={limit}")),
            1 => Some(format!("limit={limit}")),
            _ => None,
        });
        if self.chance.below(4) == 0 {
            words.push(format!("offset={}", self.chance.below(10)));
        }
        words.extend(match self.chance.below(6) {
            0 => vec!["count".to_owned(), "sum=n".to_owned()],
            1 => vec!["select=m".to_owned()],
            _ => Vec::new(),
        });
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        target(&words)
    }

    fn ask(&mut self) {
        let target = self.any_target();
        let request = match target.clone() {
            Target::Query(query) => Request::Query { query, explain: false },
            Target::Aggregate(aggregate) => Request::Aggregate { aggregate, explain: false },
            Target::Documents(_) => unreachable!(),
        };
        let source = [Source::Default, Source::Cache][self.chance.below(2) as usize];
        let (ticket, timeout) = (self.ticket(), Duration::from_secs(1));
        let actions = self.bench.handle(Event::Request { ticket, request, source, timeout });
        let [Action::RequestDone { outcome: Ok(answer), .. }] = actions.as_slice() else {
            panic!("{target:?} is answered by {actions:?}")
        };
        assert!(answer.metadata.from_cache);
        if let Target::Aggregate(aggregate) = &target {
            let values = tidemark_protocol::model::aggregate(aggregate, self.state.values());
            assert_eq!(answer.values, values, "{aggregate:?}");
            return;
        }
        let shown: BTreeMap<usize, _> =
            answer.documents.iter().map(|row| row.document().unwrap()).enumerate().collect();
        let truth = result(&target, &self.state);
        assert_eq!(shown.len(), truth.len(), "{target:?}");
        for (place, truth) in truth.iter().enumerate() {
            assert_eq!((&shown[&place].path, &shown[&place].fields), (&truth.path, &truth.fields));
        }
    }
}

#[test]
fn every_query_is_answered_as_over_the_documents_themselves() {
    for seed in 0..60 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = Offline::new(seed);
            for _ in 0..60 {
                match world.chance.below(3) {
                    0 => world.write(),
                    _ => world.ask(),
                }
            }
        });
        assert!(outcome.is_ok(), "seed {seed} fails");
    }
}
