//! The laws of applying writes. What each transform answers case by case is in `oracle`.

use proptest::prelude::*;
use tidemark_protocol::model::*;

use crate::generate::{
    document, document_path, field_path, fields, stored_value, transform, write,
};

const NOW: Version = Version(1_700_000_000_000_000);

fn existing(path: &DocumentPath, fields: Fields) -> Document {
    Document {
        path: path.clone(),
        fields,
        create_version: Version(1),
        update_version: Version(2),
        merge: Default::default(),
    }
}

fn path() -> DocumentPath {
    DocumentPath::parse("c/d").unwrap()
}

fn transforming(field: FieldPath, transform: Transform) -> Write {
    Write {
        path: path(),
        op: WriteOp::Update { fields: Fields::new(), mask: Vec::new() },
        transforms: vec![FieldTransform { field, transform }],
        precondition: None,
    }
}

fn transformed(base: &Document, field: &FieldPath, transform: Transform) -> Document {
    apply_write(Some(base), None, &transforming(field.clone(), transform), NOW.into())
        .unwrap()
        .document
        .unwrap()
}

proptest! {
    #[test]
    fn any_valid_write_leaves_a_valid_document(base in prop::option::of(fields()), write in write()) {
        prop_assert_eq!(write.validate(), Ok(()));
        let base = base.map(|fields| existing(&write.path, fields));
        let applied = apply_write(base.as_ref(), None, &write, NOW.into()).unwrap();
        if let Some(document) = &applied.document {
            prop_assert_eq!(Document::validate(&document.path, &document.fields), Ok(()));
            prop_assert_eq!(&document.path, &write.path);
            let created = base.as_ref().map_or(NOW, |base| base.create_version);
            prop_assert_eq!(document.create_version, created);
        }
        let before = base.as_ref().map(|base| &base.fields);
        let after = applied.document.as_ref().map(|document| &document.fields);
        prop_assert_eq!(applied.changed, before != after);
        if applied.changed {
            prop_assert!(applied.document.is_none_or(|document| document.update_version == NOW));
        } else {
            prop_assert_eq!(applied.document, base);
        }
        prop_assert_eq!(applied.result.transform_results.len(), write.transforms.len());
    }

    #[test]
    fn applying_again_changes_nothing_but_for_increments(base in document(), mut write in write()) {
        write.path = base.path.clone();
        write.transforms.retain(|step| !matches!(step.transform, Transform::Increment(_)));
        let once = apply_write(Some(&base), None, &write, NOW.into()).unwrap().document;
        let twice = apply_write(once.as_ref(), None, &write, NOW.into()).unwrap();
        prop_assert_eq!(twice.document, once);
        prop_assert!(!twice.changed);
    }

    #[test]
    fn an_update_touches_its_mask_only(base in fields(), new in fields(), path_ in field_path(), other in field_path()) {
        prop_assume!(!path_.is_prefix_of(&other) && !other.is_prefix_of(&path_));
        let base = existing(&path(), base);
        let given = Document { fields: new.clone(), ..base.clone() };
        let op = WriteOp::Update { fields: new, mask: vec![path_.clone()] };
        let write = Write { path: path(), op, transforms: Vec::new(), precondition: None };
        let after = apply_write(Some(&base), None, &write, NOW.into()).unwrap().document.unwrap();
        prop_assert_eq!(after.get(&path_), given.get(&path_));
        // A parent that was no map has become one, and what was beside the field in it was not there.
        prop_assert_eq!(after.get(&other), base.get(&other));
    }

    #[test]
    fn a_transform_touches_its_field_only(base in fields(), step in transform(), field in field_path(), other in field_path()) {
        prop_assume!(!field.is_prefix_of(&other) && !other.is_prefix_of(&field));
        let base = existing(&path(), base);
        let after = transformed(&base, &field, step);
        prop_assert!(after.get(&field).is_some());
        prop_assert_eq!(after.get(&other), base.get(&other));
    }

    #[test]
    fn extremes_commute(base in stored_value(), a in crate::generate::number(), b in crate::generate::number()) {
        let field = FieldPath::parse("a").unwrap();
        let base = existing(&path(), Fields::from([("a".to_owned(), base)]));
        for make in [Transform::Minimum as fn(Value) -> Transform, Transform::Maximum] {
            let ab = transformed(&transformed(&base, &field, make(a.clone())), &field, make(b.clone()));
            let ba = transformed(&transformed(&base, &field, make(b.clone())), &field, make(a.clone()));
            prop_assert!(ab.get(&field).unwrap().compare(ba.get(&field).unwrap()).is_eq());
        }
    }

    #[test]
    fn increments_of_integers_commute(base: i64, a in -1000..1000_i64, b in -1000..1000_i64) {
        let base = base / 2;
        let field = FieldPath::parse("a").unwrap();
        let base = existing(&path(), Fields::from([("a".to_owned(), Value::Integer(base))]));
        let add = |to: &Document, by| transformed(to, &field, Transform::Increment(Value::Integer(by)));
        prop_assert_eq!(add(&add(&base, a), b), add(&add(&base, b), a));
    }

    #[test]
    fn a_union_has_all_and_a_removal_none(base in stored_value(), elements in prop::collection::vec(crate::generate::number(), 0..5)) {
        let field = FieldPath::parse("a").unwrap();
        let base = existing(&path(), Fields::from([("a".to_owned(), base)]));
        let has = |document: &Document, element: &Value| match document.get(&field) {
            Some(Value::Array(array)) => array.iter().any(|other| other.compare(element).is_eq()),
            other => panic!("no array but {other:?}"),
        };
        let union = transformed(&base, &field, Transform::ArrayUnion(elements.clone()));
        let removed = transformed(&union, &field, Transform::ArrayRemove(elements.clone()));
        for element in &elements {
            prop_assert!(has(&union, element));
            prop_assert!(!has(&removed, element));
        }
    }

    #[test]
    fn a_precondition_is_about_existence_or_version(path in document_path(), fields in fields()) {
        let base = existing(&path, fields);
        let check = |current: Option<&Document>, precondition| {
            let write = Write { path: path.clone(), op: WriteOp::Delete, transforms: Vec::new(), precondition };
            check_precondition(current, &write).map_err(|error| error.code)
        };
        prop_assert_eq!(check(None, Some(Precondition::Exists(true))), Err(Code::NotFound));
        prop_assert_eq!(check(Some(&base), Some(Precondition::Exists(false))), Err(Code::AlreadyExists));
        let same = Some(Precondition::UpdateVersion(base.update_version));
        prop_assert_eq!(check(Some(&base), same), Ok(()));
        prop_assert_eq!(check(None, same), Err(Code::FailedPrecondition));
        let other = Some(Precondition::UpdateVersion(Version(base.update_version.0 + 1)));
        prop_assert_eq!(check(Some(&base), other), Err(Code::FailedPrecondition));
    }
}

#[test]
fn the_server_timestamp_is_the_time_of_the_commit() {
    let field = FieldPath::parse("a.t").unwrap();
    let write = transforming(field.clone(), Transform::ServerTimestamp);
    let applied = apply_write(None, None, &write, NOW.into()).unwrap();
    let time = Value::Timestamp(Timestamp::from(NOW));
    assert_eq!(applied.document.unwrap().get(&field), Some(&time));
    assert_eq!(applied.result.transform_results, [time]);
}

#[test]
fn transforms_come_after_the_fields_and_in_order() {
    let increment = |by: i64| FieldTransform {
        field: FieldPath::parse("n").unwrap(),
        transform: Transform::Increment(Value::Integer(by)),
    };
    let write = Write {
        path: path(),
        op: WriteOp::Set(Fields::from([("n".to_owned(), Value::Integer(10))])),
        transforms: vec![increment(1), increment(2)],
        precondition: None,
    };
    let applied = apply_write(None, None, &write, NOW.into()).unwrap();
    assert_eq!(applied.result.transform_results, [Value::Integer(11), Value::Integer(13)]);
    assert_eq!(applied.document.unwrap().fields["n"], Value::Integer(13));
}

#[test]
fn a_write_that_outgrows_the_document_is_refused() {
    let half = Value::from("x".repeat(limits::DOCUMENT_BYTES / 2));
    let base = existing(&path(), Fields::from([("a".to_owned(), half.clone())]));
    let op = WriteOp::Update {
        fields: Fields::from([("b".to_owned(), half)]),
        mask: vec![FieldPath::parse("b").unwrap()],
    };
    let write = Write { path: path(), op, transforms: Vec::new(), precondition: None };
    assert_eq!(write.validate(), Ok(()));
    let error = apply_write(Some(&base), None, &write, NOW.into()).unwrap_err();
    assert!(error.message.contains("the limit is 1048576"), "{error}");
}

#[test]
fn limits_of_commits_are_stated() {
    let write = |count: usize| Write {
        path: path(),
        op: WriteOp::Set(Fields::new()),
        transforms: vec![
            FieldTransform {
                field: FieldPath::parse("n").unwrap(),
                transform: Transform::ServerTimestamp,
            };
            count
        ],
        precondition: None,
    };
    let message = |writes: &[Write]| validate_commit(writes).unwrap_err().message;
    assert_eq!(validate_commit(&vec![write(0); limits::WRITES_PER_COMMIT]), Ok(()));
    assert!(message(&[]).contains("0 writes; it must have 1 to 500"));
    assert!(message(&vec![write(0); 501]).contains("501 writes; it must have 1 to 500"));
    assert_eq!(validate_commit(&[write(250), write(250)]), Ok(()));
    assert!(message(&[write(501)]).contains("501 transforms in one commit; the limit is 500"));
    assert!(
        message(&[write(251), write(250)])
            .contains("501 transforms in one commit; the limit is 500")
    );
}

#[test]
fn writes_that_make_no_sense_are_refused() {
    let field = |path: &str| FieldPath::parse(path).unwrap();
    let update = |mask: &[&str]| Write {
        path: path(),
        op: WriteOp::Update {
            fields: Fields::new(),
            mask: mask.iter().map(|path| FieldPath::parse(path).unwrap()).collect(),
        },
        transforms: Vec::new(),
        precondition: None,
    };
    let timestamps = |paths: &[&str]| {
        let step = |path: &&str| FieldTransform {
            field: FieldPath::parse(path).unwrap(),
            transform: Transform::ServerTimestamp,
        };
        Write { transforms: paths.iter().map(step).collect(), ..update(&[]) }
    };
    let nested = Value::from(vec![1]);
    for (what, bad) in [
        ("a prefix in a mask", update(&["a", "b", "a.c"])),
        ("__name__ in a mask", update(&["__name__"])),
        ("a prefix among transforms", timestamps(&["a.b", "a"])),
        ("__name__ transformed", timestamps(&["__name__"])),
        ("an increment by text", transforming(field("a"), Transform::Increment("x".into()))),
        ("a minimum of nothing", transforming(field("a"), Transform::Minimum(Value::Null))),
        ("an array in an array", transforming(field("a"), Transform::ArrayUnion(vec![nested]))),
        ("a transform of a delete", Write { op: WriteOp::Delete, ..timestamps(&["a"]) }),
        ("a verify of nothing", Write { op: WriteOp::Verify, ..update(&[]) }),
        (
            "version 0",
            Write { precondition: Some(Precondition::UpdateVersion(Version::NONE)), ..update(&[]) },
        ),
    ] {
        assert_eq!(bad.validate().unwrap_err().code, Code::InvalidArgument, "{what}");
    }
    assert_eq!(update(&["a", "ab", "b.a"]).validate(), Ok(()));
    assert_eq!(timestamps(&["a", "a", "b"]).validate(), Ok(()));
}
