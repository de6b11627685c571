//! Random edits on several replicas, in any order of delivery, against Automerge itself; plain
//! writes and epochs under concurrent edits.

use automerge::AutoCommit;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::Value;
use crate::model::collab::rebase_late;

/// What a replica does.
#[derive(Clone, Debug)]
enum Edit {
    Text(usize, usize, String),
    List(usize, usize, Vec<i64>),
    Set(usize, i64),
    Put(u8, i64),
    Remove(u8),
    Increment(i64),
    Assign(String),
    AssignList(Vec<i64>),
    Undo,
    Redo,
    Receive(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let text = "[ab👍é]{0,4}";
    prop_oneof![
        4 => (0..40_usize, 0..4_usize, text).prop_map(|(at, delete, text)| Edit::Text(at, delete, text)),
        2 => (0..9_usize, 0..3_usize, proptest::collection::vec(0..5_i64, 0..3))
            .prop_map(|(at, delete, values)| Edit::List(at, delete, values)),
        1 => (0..9_usize, 0..5_i64).prop_map(|(at, value)| Edit::Set(at, value)),
        1 => (0..3_u8, 0..5_i64).prop_map(|(key, value)| Edit::Put(key, value)),
        1 => (0..3_u8).prop_map(Edit::Remove),
        1 => (-5..5_i64).prop_map(Edit::Increment),
        1 => "[ab👍é]{0,12}".prop_map(Edit::Assign),
        1 => proptest::collection::vec(0..5_i64, 0..6).prop_map(Edit::AssignList),
        1 => Just(Edit::Undo),
        1 => Just(Edit::Redo),
        4 => (0..30_usize).prop_map(Edit::Receive),
    ]
}

fn make(document: &mut CollabDocument, edit: &Edit) {
    let within = |at: usize, length: usize| at % (length + 1);
    let text = document.length("text", &[]).unwrap();
    let list = document.length("list", &[]).unwrap();
    let values = |values: &[i64]| values.iter().copied().map(Value::from).collect::<Vec<_>>();
    match edit {
        Edit::Text(at, delete, insert) => {
            let at = within(*at, text);
            document.splice("text", at, (*delete).min(text - at), insert).unwrap();
        }
        Edit::List(at, delete, insert) => {
            let at = within(*at, list);
            let delete = (*delete).min(list - at);
            document.splice_list("list", &[], at, delete, &values(insert)).unwrap();
        }
        Edit::Set(at, value) if list > 0 => {
            document.set("list", &[], at % list, &Value::from(*value)).unwrap();
        }
        Edit::Set(..) | Edit::Receive(_) => {}
        Edit::Put(key, value) => {
            document.put("map", &[], &key.to_string(), &Value::from(*value)).unwrap();
        }
        Edit::Remove(key) => {
            // It may not be there.
            let _ = document.remove("map", &[], &key.to_string());
        }
        Edit::Increment(by) => {
            document.increment("count", *by).unwrap();
        }
        Edit::Assign(text) => {
            document.assign("text", &Value::from(text.as_str())).unwrap();
        }
        Edit::AssignList(list) => {
            document.assign("list", &Value::Array(values(list))).unwrap();
        }
        Edit::Undo => drop(document.undo().unwrap()),
        Edit::Redo => drop(document.redo().unwrap()),
    }
}

/// What Automerge makes of all changes, without this module.
fn reference(changes: &[Bytes]) -> AutoCommit {
    let mut doc = AutoCommit::new();
    let bytes: Vec<u8> = changes.iter().flatten().copied().collect();
    doc.load_incremental(&bytes).unwrap();
    doc
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn replicas_become_what_automerge_makes_of_their_edits(
        edits in proptest::collection::vec((0..3_usize, edit()), 1..60),
    ) {
        let mut replicas = [document(1), document(2), document(3)];
        let mut sent: Vec<Bytes> = Vec::new();
        let mut received = [0; 3];
        for (replica, edit) in &edits {
            make(&mut replicas[*replica], edit);
            if let Edit::Receive(count) = edit {
                let through = (received[*replica] + count).min(sent.len());
                let changes = &sent[received[*replica]..through];
                replicas[*replica].apply(changes.iter().map(|it| &it[..])).unwrap();
                received[*replica] = through;
            } else {
                let changes = replicas[*replica].take_changes();
                sent.extend(changes);
            }
        }
        for replica in &mut replicas {
            sent.extend(replica.take_changes());
        }
        for (replica, from) in replicas.iter_mut().zip(received) {
            replica.apply(sent[from..].iter().map(|it| &it[..])).unwrap();
        }
        let mut expected = reference(&sent);
        let saved = expected.save();
        let expected =
            CollabDocument::load(&[7], TextUnit::CodePoints, [&saved[..]], []).unwrap();
        for replica in &replicas {
            prop_assert_eq!(replica.values(), expected.values());
        }
        let mut loaded = replicas[0].clone();
        let parts = loaded.save();
        let loaded = CollabDocument::load(
            &[8], TextUnit::Utf16, parts.iter().map(|it| &it[..]), [],
        ).unwrap();
        prop_assert_eq!(loaded.values(), expected.values());
    }

    /// Undoing everything leaves exactly what the others wrote.
    #[test]
    fn undoing_all_leaves_the_edits_of_others(
        edits in proptest::collection::vec((any::<bool>(), 0..20_usize, 0..3_usize, "[a-c]{0,3}"), 1..40),
    ) {
        let (mut mine, mut theirs) = (document(1), document(2));
        for (own, at, delete, insert) in &edits {
            let document = if *own { &mut mine } else { &mut theirs };
            let length = document.length("text", &[]).unwrap();
            let at = at % (length + 1);
            let delete = if *own { (*delete).min(length - at) } else { 0 };
            let insert = if *own { insert.clone() } else { insert.to_uppercase() };
            document.splice("text", at, delete, &insert).unwrap();
            let (from, to) = if *own { (&mut mine, &mut theirs) } else { (&mut theirs, &mut mine) };
            send(from, &mut [to]);
        }
        let theirs_only: usize = edits.iter().filter(|edit| !edit.0).map(|edit| edit.3.len()).sum();
        let full = mine.text("text").unwrap();
        let mut steps = 0;
        while mine.undo().unwrap().is_some() {
            steps += 1;
        }
        prop_assert_eq!(steps, edits.iter().filter(|edit| edit.0).count());
        let text = mine.text("text").unwrap();
        prop_assert!(text.chars().all(char::is_uppercase), "{}", text);
        prop_assert_eq!(text.len(), theirs_only);
        while mine.redo().unwrap().is_some() {}
        let lower = |text: &str| text.chars().filter(char::is_ascii_lowercase).collect::<String>();
        prop_assert_eq!(lower(&mine.text("text").unwrap()), lower(&full));
    }

    /// A plain write on one side keeps every insertion made at the same time on the other.
    #[test]
    fn a_plain_write_keeps_concurrent_insertions(
        start in "[a-c]{0,20}", plain in "[a-e]{0,20}",
        inserted in proptest::collection::vec((0..40_usize, "[X-Z]{1,3}"), 1..5),
    ) {
        let mut server = document(1);
        server.splice("text", 0, 0, &start).unwrap();
        let mut client = document(2);
        send(&mut server, &mut [&mut client]);
        let mut all = String::new();
        for (at, text) in &inserted {
            let length = client.length("text", &[]).unwrap();
            client.splice("text", at % (length + 1), 0, text).unwrap();
            all.push_str(text);
        }
        server.assign("text", &Value::from(plain.as_str())).unwrap();
        prop_assert_eq!(server.text("text").unwrap(), plain.clone());
        send(&mut client, &mut [&mut server]);
        let merged = server.text("text").unwrap();
        let sorted = |text: &str| { let mut c: Vec<char> = text.chars().collect(); c.sort_unstable(); c };
        let upper: String = merged.chars().filter(char::is_ascii_uppercase).collect();
        let lower: String = merged.chars().filter(char::is_ascii_lowercase).collect();
        prop_assert_eq!(sorted(&upper), sorted(&all));
        prop_assert_eq!(lower, plain);
    }

    /// Changes against a former epoch arrive in the new one, once, whatever happened there.
    #[test]
    fn epochs_keep_late_insertions(
        before in "[a-c]{0,12}",
        late in proptest::collection::vec(("[P-S]{1,3}", 0..30_usize), 1..4),
        later in proptest::collection::vec(("[T-Z]{1,3}", 0..30_usize), 0..4),
    ) {
        let mut old = document(1);
        old.splice("text", 0, 0, &before).unwrap();
        old.increment("count", 7).unwrap();
        old.put("map", &[], "k", &Value::from(1)).unwrap();
        let mut client = document(2);
        send(&mut old, &mut [&mut client]);
        let mut new = old.fresh(b"server", |_| true).unwrap();
        prop_assert_eq!(new.values(), old.values());
        let mut carried = new.heads();
        new.take_changes();
        for (text, at) in &later {
            let length = new.length("text", &[]).unwrap();
            new.splice("text", at % (length + 1), 0, text).unwrap();
        }
        new.increment("count", 1).unwrap();
        let mut twin = new.clone();
        let (mut twin_old, mut twin_carried) = (old.clone(), carried.clone());
        for (text, at) in &late {
            let length = client.length("text", &[]).unwrap();
            client.splice("text", at % (length + 1), 0, text).unwrap();
            client.increment("count", 10).unwrap();
            let changes = client.take_changes();
            let bytes = || changes.iter().map(|it| &it[..]);
            carried = rebase_late(&mut old, bytes(), &mut new, &carried).unwrap().1;
            let again = rebase_late(&mut twin_old, bytes(), &mut twin, &twin_carried).unwrap();
            twin_carried = again.1;
            // What is known already makes no difference.
            let (none, same) = rebase_late(&mut old, bytes(), &mut new, &carried).unwrap();
            prop_assert_eq!((none.len(), same), (0, carried.clone()));
        }
        prop_assert_eq!(new.heads(), twin.heads());
        let text = new.text("text").unwrap();
        let only = |letters: std::ops::RangeInclusive<char>| {
            let mut found: Vec<char> = text.chars().filter(|c| letters.contains(c)).collect();
            found.sort_unstable();
            found
        };
        let sorted = |texts: &[(String, usize)]| {
            let mut all: Vec<char> = texts.iter().flat_map(|(text, _)| text.chars()).collect();
            all.sort_unstable();
            all
        };
        prop_assert_eq!(only('P'..='S'), sorted(&late));
        prop_assert_eq!(only('T'..='Z'), sorted(&later));
        prop_assert_eq!(text.chars().filter(char::is_ascii_lowercase).collect::<String>(), before);
        let count = 8 + 10 * i64::try_from(late.len()).unwrap();
        prop_assert_eq!(new.value("count"), Some(Value::from(count)));
    }
}

#[test]
fn epochs_that_were_stored_take_late_changes() {
    let mut old = document(1);
    old.splice("text", 0, 0, "end").unwrap();
    let mut client = document(2);
    send(&mut old, &mut [&mut client]);
    let mut new = old.fresh(b"server", |_| true).unwrap();
    let mut carried = new.heads();
    for (round, text) in [" of", " it", "!"].into_iter().enumerate() {
        new.splice("text", 0, 0, "-").unwrap();
        let end = client.length("text", &[]).unwrap();
        client.splice("text", end, 0, text).unwrap();
        let changes = client.take_changes();
        let changes = changes.iter().map(|it| &it[..]);
        let (made, now) = rebase_late(&mut old, changes, &mut new, &carried).unwrap();
        assert_eq!(made.len(), 1, "round {round}");
        carried = now;
        for stored in [&mut old, &mut new] {
            let parts = stored.save();
            let parts = parts.iter().map(|it| &it[..]);
            *stored = CollabDocument::load(b"server", TextUnit::CodePoints, parts, []).unwrap();
        }
    }
    assert_eq!(new.text("text").unwrap(), "---end of it!");
}

#[test]
fn edits_are_made_beside_values_of_another_history() {
    let mut before = document(1);
    before.splice("text", 0, 0, "the fox").unwrap();
    before.increment("count", 1).unwrap();
    let mut after = before.clone();
    after.splice("text", 4, 0, "quick ").unwrap();
    after.increment("count", 2).unwrap();
    let mut new = document(2);
    new.splice("text", 0, 0, "the fox jumps").unwrap();
    new.increment("count", 5).unwrap();
    crate::model::collab::merge_values(&before, &after, &mut new).unwrap();
    assert_eq!(new.text("text").unwrap(), "the quick fox jumps");
    assert_eq!(new.value("count"), Some(Value::from(7)));
    let mut plain = CollabDocument::new(&[3], TextUnit::CodePoints);
    plain.ensure("text", CollaborativeKind::Text, Some(&Value::from("x"))).unwrap();
    assert!(plain.began_apart_from(&mut new));
    let mut same = plain.clone();
    assert!(!plain.began_apart_from(&mut same));
}
