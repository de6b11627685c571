//! Edits of one replica, and what two see of each other.

use super::*;
use crate::model::collab::{CollabError, Expand, Mark, PatchAction, Side};
use crate::model::{DocumentPath, GeoPoint, Timestamp, Value};

#[test]
fn first_edits_made_apart_meet_in_one_field() {
    let (mut a, mut b) = (document(1), document(2));
    a.splice("text", 0, 0, "Hello").unwrap();
    b.splice("text", 0, 0, "World").unwrap();
    a.increment("count", 2).unwrap();
    b.increment("count", 3).unwrap();
    a.put("map", &[], "a", &Value::from(1)).unwrap();
    b.put("map", &[], "b", &Value::from(2)).unwrap();
    send(&mut a, &mut [&mut b]);
    send(&mut b, &mut [&mut a]);
    assert_eq!(a.values(), b.values());
    assert!(["HelloWorld", "WorldHello"].contains(&a.text("text").unwrap().as_str()));
    assert_eq!(a.value("count"), Some(Value::from(5)));
    assert_eq!(a.value("map"), Some(Value::from([("a", 1), ("b", 2)])));
}

#[test]
fn the_same_plain_value_is_imported_once() {
    let mut a = CollabDocument::new(&[1], TextUnit::CodePoints);
    let mut b = CollabDocument::new(&[2], TextUnit::CodePoints);
    for document in [&mut a, &mut b] {
        let plain = Value::from("plain");
        document.ensure("text", CollaborativeKind::Text, Some(&plain)).unwrap();
    }
    a.splice("text", 5, 0, "!").unwrap();
    b.splice("text", 0, 0, "very ").unwrap();
    send(&mut a, &mut [&mut b]);
    assert_eq!(b.text("text").unwrap(), "very plain!");
    let error = a.ensure("text", CollaborativeKind::List, None).unwrap_err();
    assert!(matches!(error, CollabError::Kind { .. }), "{error}");
    let error = a.ensure("x", CollaborativeKind::List, Some(&Value::from("y"))).unwrap_err();
    assert!(matches!(error, CollabError::Unsuitable { .. }), "{error}");
}

#[test]
fn positions_are_counted_as_the_holder_asks() {
    let mut points = CollabDocument::new(&[1], TextUnit::CodePoints);
    let mut units = CollabDocument::new(&[2], TextUnit::Utf16);
    for document in [&mut points, &mut units] {
        document.ensure("text", CollaborativeKind::Text, None).unwrap();
    }
    points.splice("text", 0, 0, "a👩‍👧b").unwrap();
    send(&mut points, &mut [&mut units]);
    assert_eq!(points.length("text", &[]).unwrap(), 5);
    assert_eq!(units.length("text", &[]).unwrap(), 7);
    let patch = units.splice("text", 6, 1, "c").unwrap();
    assert_eq!(patch.action, PatchAction::Splice { at: 6, delete: 1, insert: "c".to_owned() });
    let changes = units.take_changes();
    let patches = points.apply(changes.iter().map(|change| &change[..])).unwrap();
    assert_eq!(points.text("text").unwrap(), "a👩‍👧c");
    assert!(
        patches.iter().any(|patch| matches!(&patch.action, PatchAction::Splice { at: 4, .. })),
        "{patches:?}"
    );
    let error = units.splice("text", 8, 0, "x").unwrap_err();
    assert_eq!(error, CollabError::OutOfBounds { index: 8, length: 7 });
}

#[test]
fn all_values_survive_in_lists_and_maps() {
    let values = vec![
        Value::Null,
        Value::from(true),
        Value::from(i64::MIN),
        Value::from(f64::NAN),
        Value::from(-0.0),
        Value::from(Timestamp::from_micros(1_700_000_000_123_456).unwrap()),
        Value::from("text"),
        Value::from(bytes::Bytes::from_static(b"\x01c/d")),
        Value::from(DocumentPath::parse("c/d").unwrap()),
        Value::from(GeoPoint::new(1.5, -2.5).unwrap()),
        Value::Vector(vec![1.0, f64::INFINITY]),
        Value::from([("list", Value::from(vec![1, 2])), ("", Value::Null)]),
    ];
    let mut document = document(1);
    document.splice_list("list", &[], 0, 0, &values).unwrap();
    assert_eq!(document.value("list"), Some(Value::Array(values.clone())));
    for (at, value) in values.iter().enumerate() {
        document.put("map", &[], &at.to_string(), value).unwrap();
        let Some(Value::Map(map)) = document.value("map") else { panic!("a map") };
        assert_eq!(map.get(&at.to_string()), Some(value));
    }
}

#[test]
fn nested_objects_are_edited_where_they_are() {
    let (mut a, mut b) = (document(1), document(2));
    let item = Value::from([("tags", Value::from(vec!["x"])), ("done", Value::from(false))]);
    a.splice_list("list", &[], 0, 0, &[item]).unwrap();
    send(&mut a, &mut [&mut b]);
    a.put("list", &[0.into()], "done", &Value::from(true)).unwrap();
    b.splice_list("list", &[0.into(), "tags".into()], 1, 0, &[Value::from("y")]).unwrap();
    send(&mut a, &mut [&mut b]);
    send(&mut b, &mut [&mut a]);
    let both = Value::from([("tags", Value::from(vec!["x", "y"])), ("done", Value::from(true))]);
    assert_eq!(a.value("list"), Some(Value::Array(vec![both])));
    assert_eq!(a.values(), b.values());
    assert!(a.remove("map", &[], "none").is_err());
    assert!(a.put("list", &[3.into()], "x", &Value::Null).is_err());
    assert!(a.splice("map", 0, 0, "x").is_err());
}

#[test]
fn marks_and_cursors_follow_the_text() {
    let (mut a, mut b) = (document(1), document(2));
    a.splice("text", 0, 0, "the fox").unwrap();
    send(&mut a, &mut [&mut b]);
    let bold = Mark { start: 4, end: 7, name: "bold".to_owned(), value: Value::from(true) };
    a.mark("text", &bold, Expand::None).unwrap();
    let cursor = a.cursor("text", 4, Side::After).unwrap();
    let end = a.cursor("text", 7, Side::After).unwrap();
    b.splice("text", 4, 0, "quick ").unwrap();
    send(&mut b, &mut [&mut a]);
    send(&mut a, &mut [&mut b]);
    assert_eq!(a.text("text").unwrap(), "the quick fox");
    assert_eq!(a.position("text", &cursor).unwrap(), 10);
    assert_eq!(a.position("text", &end).unwrap(), 13);
    let moved = Mark { start: 10, end: 13, ..bold };
    assert_eq!(a.marks("text").unwrap(), vec![moved.clone()]);
    assert_eq!(b.marks("text").unwrap(), vec![moved.clone()]);
    b.mark("text", &Mark { value: Value::Null, ..moved.clone() }, Expand::None).unwrap();
    assert_eq!(b.marks("text").unwrap(), vec![]);
    b.undo().unwrap().unwrap();
    assert_eq!(b.marks("text").unwrap(), vec![moved]);
}

#[test]
fn undo_takes_back_ones_own_edits_only() {
    let (mut a, mut b) = (document(1), document(2));
    a.splice("text", 0, 0, "abc").unwrap();
    a.splice("text", 2, 1, "").unwrap();
    send(&mut a, &mut [&mut b]);
    b.splice("text", 1, 0, "--").unwrap();
    send(&mut b, &mut [&mut a]);
    assert_eq!(a.text("text").unwrap(), "a--b");
    a.undo().unwrap().unwrap();
    assert_eq!(a.text("text").unwrap(), "a--bc");
    a.undo().unwrap().unwrap();
    assert_eq!(a.text("text").unwrap(), "--");
    assert_eq!(a.undo().unwrap(), None);
    a.redo().unwrap().unwrap();
    assert_eq!(a.text("text").unwrap().replace("--", ""), "abc");
    a.redo().unwrap().unwrap();
    assert_eq!(a.text("text").unwrap().replace("--", ""), "ab");
    assert_eq!(a.redo().unwrap(), None);
    send(&mut a, &mut [&mut b]);
    assert_eq!(a.values(), b.values());
}

#[test]
fn undo_of_lists_maps_and_counters() {
    let (mut a, mut b) = (document(1), document(2));
    a.group(|a| {
        a.splice_list("list", &[], 0, 0, &[Value::from(1), Value::from(2)]).unwrap();
        a.put("map", &[], "k", &Value::from("mine")).unwrap();
        a.increment("count", 5).unwrap();
    });
    a.set("list", &[], 1, &Value::from(3)).unwrap();
    a.remove("map", &[], "k").unwrap();
    send(&mut a, &mut [&mut b]);
    b.splice_list("list", &[], 0, 0, &[Value::from(0)]).unwrap();
    b.increment("count", 1).unwrap();
    send(&mut b, &mut [&mut a]);
    a.undo().unwrap().unwrap();
    assert_eq!(a.value("map"), Some(Value::from([("k", "mine")])));
    a.undo().unwrap().unwrap();
    assert_eq!(a.value("list"), Some(Value::from(vec![0, 1, 2])));
    send(&mut a, &mut [&mut b]);
    b.put("map", &[], "k", &Value::from("theirs")).unwrap();
    send(&mut b, &mut [&mut a]);
    a.undo().unwrap().unwrap();
    assert_eq!(a.value("map"), Some(Value::from([("k", "theirs")])), "what others wrote stays");
    assert_eq!(a.value("list"), Some(Value::from(vec![0])));
    assert_eq!(a.value("count"), Some(Value::from(1)));
}

#[test]
fn an_edit_of_what_was_seen_merges_with_what_came_since() {
    let (mut a, mut b) = (document(1), document(2));
    a.splice("text", 0, 0, "the fox").unwrap();
    send(&mut a, &mut [&mut b]);
    let seen = a.heads();
    b.splice("text", 0, 4, "").unwrap();
    send(&mut b, &mut [&mut a]);
    assert_eq!(a.text("text").unwrap(), "fox");
    a.splice_at("text", &seen, 7, 0, " jumps").unwrap();
    let (patches, with) = a.splice_at("text", &seen, 4, 0, "quick ").unwrap();
    assert!(with.len() == 1 && a.heads().contains(&with[0]));
    let quick = PatchAction::Splice { at: 0, delete: 0, insert: "quick ".to_owned() };
    assert_eq!(patches.iter().map(|it| it.action.clone()).collect::<Vec<_>>(), vec![quick]);
    assert_eq!(a.text("text").unwrap(), "quick fox jumps");
    send(&mut a, &mut [&mut b]);
    assert_eq!(b.text("text").unwrap(), "quick fox jumps");
    let error = a.splice_at("text", &seen, 8, 0, "x").unwrap_err();
    assert_eq!(error, CollabError::OutOfBounds { index: 8, length: 7 });
    let error = a.splice_at("text", &[[7; 32]], 0, 0, "x").unwrap_err();
    assert_eq!(error, CollabError::MissingDependencies);
}

#[test]
fn a_saved_document_goes_on() {
    let mut a = document(1);
    a.splice("text", 0, 0, "saved").unwrap();
    let parts = a.save();
    a.splice("text", 5, 0, "!").unwrap();
    let heads = a.heads();
    let taken = a.take_changes();
    let chunk = CollabDocument::chunk(taken[taken.len() - 1..].iter().map(|it| &it[..])).unwrap();
    let unit = TextUnit::CodePoints;
    let load = |chunks: &[&[u8]]| {
        CollabDocument::load(&[9], unit, parts.iter().map(|it| &it[..]), chunks.iter().copied())
    };
    let mut loaded = load(&[&chunk]).unwrap();
    assert_eq!((loaded.values(), loaded.heads()), (a.values(), heads));
    let mut late = load(&[]).unwrap();
    assert_eq!(late.apply_chunks([&chunk[..]]).unwrap().len(), 1);
    late.splice("text", 0, 0, "> ").unwrap();
    send(&mut late, &mut [&mut a]);
    assert_eq!(a.text("text").unwrap(), "> saved!");
}
