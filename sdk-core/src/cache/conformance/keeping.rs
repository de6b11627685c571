//! Documents, targets, and what collection and clearing leave of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemark_protocol::model::{CollectionPath, Query, Version};

use super::super::{Cache, CacheBatch, Known, TargetChange};
use super::finding::Dice;
use super::{
    Case, FAILED, apply, collect, document, expect_contents, find, known, members, path, put,
    store, token,
};

pub(super) const CASES: &[Case] = &[
    starts_empty,
    keeps_documents_of_targets,
    keeps_documents_of_none,
    remembers_what_is_missing,
    counts_the_targets_of_a_document,
    takes_the_last_word,
    clears_and_removes_targets,
    drops_the_least_used_first,
    drops_a_target_with_its_documents,
    drops_nothing_that_is_needed,
    drops_nothing_within_the_budget,
    clears,
    collects_at_any_time,
];

fn starts_empty(cache: &mut dyn Cache) {
    assert_eq!(cache.metadata().expect(FAILED), None);
    assert_eq!(cache.outbox().expect(FAILED), Vec::new());
    assert_eq!(cache.rejected().expect(FAILED), Vec::new());
    assert_eq!(cache.targets().expect(FAILED), Vec::<Bytes>::new());
    assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), None);
    assert_eq!(known(cache, "c/1"), Known::Unknown);
    assert_eq!(cache.size(), 0);
    expect_contents(cache, "a", &[]);
}

fn keeps_documents_of_targets(cache: &mut dyn Cache) {
    let targets = vec![put("a", 5), members("a", &[("c/1", true)])];
    store(cache, &[("c/1", 3)], targets);
    assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), token(5));
    assert_eq!(known(cache, "c/1"), Known::Document(document("c/1", 3)));
    expect_contents(cache, "a", &[("c/1", 3)]);
    store(cache, &[("c/1", 8)], vec![put("a", 8)]);
    assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), token(8));
    expect_contents(cache, "a", &[("c/1", 8)]);
    store(cache, &[("c/1", 0)], Vec::new());
    expect_contents(cache, "a", &[]);
    let tokenless = TargetChange::Put { key: Bytes::from_static(b"a"), token: None };
    store(cache, &[], vec![tokenless]);
    assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), None);
    assert_eq!(cache.targets().expect(FAILED), [Bytes::from_static(b"a")]);
}

fn keeps_documents_of_none(cache: &mut dyn Cache) {
    store(cache, &[("c/1", 3), ("c/2", 4)], vec![put("a", 1), members("a", &[("c/1", true)])]);
    store(cache, &[], vec![members("a", &[("c/1", false)])]);
    expect_contents(cache, "a", &[]);
    for (name, version) in [("c/1", 3), ("c/2", 4)] {
        assert_eq!(known(cache, name), Known::Document(document(name, version)), "{name}");
    }
}

fn remembers_what_is_missing(cache: &mut dyn Cache) {
    store(cache, &[("c/1", 3)], Vec::new());
    store(cache, &[("c/1", 0), ("c/2", 0)], Vec::new());
    for name in ["c/1", "c/2"] {
        assert_eq!(known(cache, name), Known::Missing { at: Version(99) }, "{name}");
    }
    let documents = vec![(path("c/1"), Known::Unknown), (path("c/9"), Known::Unknown)];
    apply(cache, CacheBatch { documents, ..CacheBatch::default() });
    assert_eq!(known(cache, "c/1"), Known::Unknown);
    store(cache, &[("c/2", 100)], Vec::new());
    assert_eq!(known(cache, "c/2"), Known::Document(document("c/2", 100)));
}

fn counts_the_targets_of_a_document(cache: &mut dyn Cache) {
    let both = vec![
        put("a", 1),
        put("b", 1),
        members("a", &[("c/1", true)]),
        members("b", &[("c/1", true)]),
    ];
    store(cache, &[("c/1", 3)], both);
    store(cache, &[], vec![members("a", &[("c/1", true), ("c/1", false)])]);
    expect_contents(cache, "a", &[]);
    expect_contents(cache, "b", &[("c/1", 3)]);
}

fn takes_the_last_word(cache: &mut dyn Cache) {
    let targets = vec![put("a", 1), members("a", &[("c/1", true), ("c/1", false), ("c/1", true)])];
    store(cache, &[("c/1", 2), ("c/1", 0), ("c/1", 4)], targets);
    expect_contents(cache, "a", &[("c/1", 4)]);
    store(cache, &[("c/2", 2)], vec![members("unknown", &[("c/2", true)])]);
    expect_contents(cache, "unknown", &[]);
    assert_eq!(cache.targets().expect(FAILED), [Bytes::from_static(b"a")]);
}

fn clears_and_removes_targets(cache: &mut dyn Cache) {
    let targets = vec![put("a", 1), members("a", &[("c/1", true), ("c/2", true)]), put("b", 1)];
    store(cache, &[("c/1", 2), ("c/2", 2)], targets);
    let clear = || TargetChange::Clear { key: Bytes::from_static(b"a") };
    let remove = || TargetChange::Remove { key: Bytes::from_static(b"a") };
    store(cache, &[("c/2", 6)], vec![clear(), members("a", &[("c/2", true)])]);
    expect_contents(cache, "a", &[("c/2", 6)]);
    store(cache, &[], vec![members("a", &[("c/1", true)]), clear()]);
    expect_contents(cache, "a", &[]);
    store(cache, &[], vec![members("a", &[("c/1", true)]), remove()]);
    assert_eq!(cache.targets().expect(FAILED), [Bytes::from_static(b"b")]);
    expect_contents(cache, "a", &[]);
    store(cache, &[], vec![put("a", 9)]);
    expect_contents(cache, "a", &[]);
}

/// Documents `c/000`, `c/001`, …, each stored by a batch of its own.
fn fill(cache: &mut dyn Cache, count: u64) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| format!("c/{number:03}")).collect();
    names.iter().for_each(|name| store(cache, &[(name, 1)], Vec::new()));
    names
}

fn kept(cache: &dyn Cache, names: &[String]) -> Vec<bool> {
    names.iter().map(|name| known(cache, name) != Known::Unknown).collect()
}

fn drops_the_least_used_first(cache: &mut dyn Cache) {
    let names = fill(cache, 20);
    let each = cache.size() / 20;
    // Read again, or stored again, is used again.
    known(cache, &names[0]);
    store(cache, &[(&names[1], 1)], Vec::new());
    collect(cache, &[], &[], each * 10);
    assert!(cache.size() <= each * 10 && cache.size() > each * 7, "{}", cache.size());
    let kept = kept(cache, &names);
    assert!(kept[0] && kept[1] && kept[19], "{kept:?}");
    assert!(kept[2..].is_sorted(), "the older go first: {kept:?}");
    let query = Query::collection(&CollectionPath::parse("c").expect(FAILED));
    assert_eq!(find(cache, &query).len(), kept.iter().filter(|kept| **kept).count());
}

fn drops_a_target_with_its_documents(cache: &mut dyn Cache) {
    store(cache, &[("c/a", 1)], vec![put("old", 1), members("old", &[("c/a", true)])]);
    store(cache, &[], vec![put("empty", 1)]);
    let names = fill(cache, 20);
    let size = cache.size();
    store(cache, &[("c/b", 1)], vec![put("new", 1), members("new", &[("c/b", true)])]);
    collect(cache, &[], &[], size / 2);
    assert_eq!(cache.targets().expect(FAILED), [Bytes::from_static(b"new")]);
    assert_eq!(known(cache, "c/a"), Known::Unknown);
    expect_contents(cache, "new", &[("c/b", 1)]);
    assert!(kept(cache, &names).contains(&false));
}

fn drops_nothing_that_is_needed(cache: &mut dyn Cache) {
    let targets = vec![put("a", 1), members("a", &[("c/000", true), ("c/001", true)])];
    store(cache, &[], targets);
    let names = fill(cache, 6);
    store(cache, &[], vec![put("b", 1), members("b", &[("c/005", true)])]);
    super::pending::keep_pending(cache, "c/002", "c/003");
    collect(cache, &["a"], &["c/004"], 0);
    assert_eq!(kept(cache, &names), [true, true, true, true, true, false]);
    assert_eq!(cache.targets().expect(FAILED), [Bytes::from_static(b"a")]);
    expect_contents(cache, "a", &[("c/000", 1), ("c/001", 1)]);
    assert_eq!(cache.outbox().expect(FAILED).len(), 1);
    assert_eq!(cache.rejected().expect(FAILED).len(), 1);
}

fn drops_nothing_within_the_budget(cache: &mut dyn Cache) {
    let names = fill(cache, 6);
    let size = cache.size();
    collect(cache, &[], &[], size);
    assert_eq!(kept(cache, &names), [true; 6]);
    assert_eq!(cache.size(), size);
    store(cache, &names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>(), Vec::new());
    assert_eq!(cache.size(), size, "what is stored again takes no more room");
}

/// Random batches and collections: what is needed stays, and whatever is dropped, the rest is whole.
fn collects_at_any_time(cache: &mut dyn Cache) {
    let dice = &mut Dice(6);
    let keys = ["a", "b", "d", "e"];
    let mut members_of: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    super::pending::keep_pending(cache, "c/00", "c/01");
    for round in 0..300 {
        let name = format!("c/{:02}", dice.roll(60));
        let key = keys[dice.roll(4) as usize];
        let inside = dice.roll(3) > 0;
        let documents: &[(&str, u64)] = &[(&name, 1 + dice.roll(40))];
        let mut targets = Vec::new();
        // A target is told of a document together with it, as it would be by a server.
        if dice.roll(2) == 0 {
            targets = vec![put(key, round), members(key, &[(&name, inside)])];
            let members = members_of.entry(key).or_default();
            if inside {
                members.insert(name.clone())
            } else {
                members.remove(&name)
            };
        }
        store(cache, documents, targets);
        if dice.roll(10) > 0 {
            continue;
        }
        let (active, needed) = (keys[dice.roll(4) as usize], format!("c/{:02}", dice.roll(60)));
        let before: Vec<String> = all_kept(cache);
        let size = cache.size();
        let budget = size * dice.roll(10) / 10;
        collect(cache, &[active], &[&needed], budget);
        let after = all_kept(cache);
        let must_stay = |name: &String| {
            ["c/00", "c/01", needed.as_str()].contains(&name.as_str())
                || members_of.get(active).is_some_and(|members| members.contains(name))
        };
        assert!(before.iter().filter(|name| must_stay(name)).all(|name| after.contains(name)));
        assert!(cache.size() <= budget || after.iter().all(must_stay), "{} {budget}", cache.size());
        let targets = cache.targets().expect(FAILED);
        assert!(
            !members_of.contains_key(active)
                || targets.contains(&Bytes::from_static(active.as_bytes()))
        );
        members_of.retain(|key, _| targets.contains(&Bytes::from_static(key.as_bytes())));
        for (key, members) in &members_of {
            let names: BTreeSet<String> =
                super::contents(cache, key).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, *members, "what is left of target {key} is whole");
        }
    }
}

fn all_kept(cache: &dyn Cache) -> Vec<String> {
    let query = Query::collection(&CollectionPath::parse("c").expect(FAILED));
    find(cache, &query).iter().map(|document| document.path.as_str().to_owned()).collect()
}

fn clears(cache: &mut dyn Cache) {
    store(cache, &[("c/1", 2)], vec![put("a", 1), members("a", &[("c/1", true)])]);
    super::pending::keep_pending(cache, "c/2", "c/3");
    cache.clear().expect(FAILED);
    assert_eq!(cache.targets().expect(FAILED), Vec::<Bytes>::new());
    assert_eq!(known(cache, "c/1"), Known::Unknown);
    assert_eq!(cache.size(), 0);
    assert_eq!(cache.outbox().expect(FAILED).len(), 1);
    assert_eq!(cache.rejected().expect(FAILED).len(), 1);
    assert!(cache.metadata().expect(FAILED).is_some());
    store(cache, &[("c/1", 4)], vec![put("a", 2), members("a", &[("c/1", true)])]);
    expect_contents(cache, "a", &[("c/1", 4)]);
}
