//! Encoding and decoding: there and back, and in agreement with the generated code.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use tidemark_protocol::model::{Document, Query, Target, limits};
use tidemark_protocol::wire::server::{Changes, ServerMessage};
use tidemark_protocol::wire::{codec, proto};

use crate::generate::{client_message, document, query, server_message, target, value, write};
use crate::reference;

/// How bytes come to be wrong.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Change(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<Index>;
    let one = prop_oneof![
        index().prop_map(Damage::Cut),
        (index(), any::<u8>()).prop_map(|(at, to)| Damage::Change(at, to)),
        (index(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        index().prop_map(Damage::Remove),
        (index(), index()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ];
    prop::collection::vec(one, 1..4)
}

fn damaged(bytes: &[u8], damages: &[Damage]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match damage {
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Change(at, to) => bytes[at.index(length)] = *to,
            Damage::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Damage::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Damage::Remove(at) => drop(bytes.remove(at.index(length))),
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn values_go_round_as_the_generated_code_has_them(value in value()) {
        let bytes = codec::encode_value(&value);
        prop_assert_eq!(&bytes[..], reference::value(&value).encode_to_vec());
        prop_assert_eq!(codec::decode_value(&bytes).unwrap(), value);
    }

    #[test]
    fn documents_go_round_as_the_generated_code_has_them(document in document()) {
        let bytes = codec::encode_document(&document);
        prop_assert_eq!(&bytes[..], reference::document(&document).encode_to_vec());
        prop_assert_eq!(&codec::decode_document(&bytes).unwrap(), &document);
        let peeked = codec::peek_document(&bytes).unwrap();
        prop_assert_eq!(peeked, (document.path.as_str(), document.create_version, document.update_version));
    }

    #[test]
    fn damaged_documents_are_read_as_the_generated_code_reads_them(
        document in document(),
        damage in damage(),
    ) {
        let bytes = damaged(&codec::encode_document(&document), &damage);
        let expected = proto::Document::decode(bytes.clone()).ok().and_then(reference::document_back);
        match (codec::decode_document(&bytes), expected) {
            (Ok(found), expected) => prop_assert_eq!(Some(found), expected),
            // Ours also refuses what is overwritten by a later field of the same oneof or name.
            (Err(_), Some(expected)) => {
                prop_assert!(codec::encode_document(&expected).len() < bytes.len());
            }
            (Err(_), None) => {}
        }
        let _ = codec::peek_document(&bytes);
    }

    #[test]
    fn writes_go_round(write in write()) {
        prop_assert_eq!(codec::decode_write(&codec::encode_write(&write)).unwrap(), write);
    }

    #[test]
    fn queries_go_round(query in query()) {
        prop_assert_eq!(codec::decode_query(&codec::encode_query(&query)).unwrap(), query);
    }

    #[test]
    fn client_frames_go_round_as_the_generated_code_has_them(message in client_message()) {
        let frame = codec::encode_client(&message);
        let generated = proto::ClientMessage::decode(frame.clone()).unwrap();
        prop_assert_eq!(generated.encode_to_vec(), &frame[..]);
        prop_assert_eq!(codec::decode_client(&frame, limits::REQUEST_BYTES).unwrap(), message);
    }

    #[test]
    fn server_frames_go_round_as_the_generated_code_has_them(message in server_message()) {
        let frame = codec::encode_server(&message);
        let generated = proto::ServerMessage::decode(frame.clone()).unwrap();
        prop_assert_eq!(generated.encode_to_vec(), &frame[..]);
        prop_assert_eq!(codec::decode_server(&frame).unwrap(), message);
    }

    #[test]
    fn damaged_client_frames_are_answered(message in client_message(), damage in damage()) {
        let frame = damaged(&codec::encode_client(&message), &damage);
        if let Ok(read) = codec::decode_client(&frame, limits::REQUEST_BYTES) {
            let again = codec::encode_client(&read);
            prop_assert_eq!(codec::decode_client(&again, limits::REQUEST_BYTES).unwrap(), read);
            prop_assert!(proto::ClientMessage::decode(frame).is_ok());
        }
    }

    #[test]
    fn damaged_server_frames_are_answered(message in server_message(), damage in damage()) {
        let frame = damaged(&codec::encode_server(&message), &damage);
        if let Ok(read) = codec::decode_server(&frame) {
            prop_assert_eq!(codec::decode_server(&codec::encode_server(&read)).unwrap(), read);
            prop_assert!(proto::ServerMessage::decode(frame).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let bytes = Bytes::from(bytes);
        let _ = codec::decode_client(&bytes, limits::REQUEST_BYTES);
        let _ = codec::decode_server(&bytes);
        let _ = codec::decode_document(&bytes);
        let _ = codec::decode_value(&bytes);
        let _ = codec::decode_write(&bytes);
        let _ = codec::decode_query(&bytes);
        let _ = codec::peek_document(&bytes);
    }

    #[test]
    fn a_canonical_target_keeps_its_meaning(target in target(), documents in prop::collection::vec(document(), 0..6)) {
        let canonical = codec::canonical_target(&target);
        prop_assert_eq!(&codec::canonical_target(&target), &canonical);
        let listen = [&[0x12, canonical.len() as u8][..], &canonical].concat();
        prop_assume!(canonical.len() < 128);
        let read = codec::decode_client(&listen.into(), limits::REQUEST_BYTES).unwrap();
        let tidemark_protocol::wire::client::ClientMessage::Listen(read) = read else {
            panic!("no listen");
        };
        prop_assert_eq!(&codec::canonical_target(&read.target), &canonical);
        match (&target, &read.target) {
            (Target::Query(query), Target::Query(read)) => same_query(query, read, &documents)?,
            (Target::Aggregate(aggregate), Target::Aggregate(read)) => {
                prop_assert_eq!(&aggregate.aggregations, &read.aggregations);
                same_query(&aggregate.matched(), &read.query, &documents)?;
            }
            (target, read) => prop_assert_eq!(target, read),
        }
    }

    #[test]
    fn documents_share_the_frame(documents in prop::collection::vec(document(), 1..4)) {
        let documents: Vec<Bytes> = documents.iter().map(codec::encode_document).collect();
        let frame = codec::encode_server(&ServerMessage::Changes(Changes {
            documents: documents.clone(), ..Changes::default()
        }));
        let ServerMessage::Changes(changes) = codec::decode_server(&frame).unwrap() else {
            panic!("no changes");
        };
        prop_assert_eq!(&changes.documents, &documents);
        for document in &changes.documents {
            prop_assert!(frame.as_ptr_range().contains(&document.as_ptr()));
        }
    }
}

fn same_query(query: &Query, read: &Query, documents: &[Document]) -> Result<(), TestCaseError> {
    prop_assert_eq!(query.full_order(), read.full_order());
    let found = |query: &Query| {
        documents.iter().map(|document| query.matches(document)).collect::<Vec<_>>()
    };
    prop_assert_eq!(found(query), found(read));
    Ok(())
}

#[test]
fn targets_that_mean_the_same_have_one_canonical_form() {
    use tidemark_protocol::model::*;
    let field = |path: &str| FieldPath::parse(path).unwrap();
    let leaf = |path: &str, value: i64| {
        Filter::Field(FieldFilter {
            field: field(path),
            operator: Operator::LessThan,
            value: value.into(),
        })
    };
    let query = |filter| {
        let all = Query::collection(&CollectionPath::parse("c").unwrap());
        codec::canonical_target(&Target::Query(Query { filter: Some(filter), ..all }))
    };
    let plain = query(Filter::And(vec![leaf("a", 1), leaf("b", 2)]));
    assert_eq!(query(Filter::And(vec![leaf("b", 2), leaf("a", 1), leaf("b", 2)])), plain);
    assert_eq!(query(Filter::And(vec![Filter::And(vec![leaf("b", 2)]), leaf("a", 1)])), plain);
    assert_ne!(query(Filter::And(vec![leaf("a", 1), leaf("b", 3)])), plain);
    assert_ne!(query(leaf("a", 1)), plain);
    assert_eq!(query(Filter::And(vec![leaf("a", 1)])), query(leaf("a", 1)));

    let ordered = |names: &[&str]| {
        let all = Query::collection(&CollectionPath::parse("c").unwrap());
        let order =
            |query: Query, name: &&str| query.with_order(field(name), Direction::Descending);
        codec::canonical_target(&Target::Query(names.iter().fold(all, order)))
    };
    assert_eq!(ordered(&["a"]), ordered(&["a", "__name__"]));
    assert_ne!(ordered(&["a"]), ordered(&["a", "b"]));

    let path = |id: &str| DocumentPath::parse(&format!("c/{id}")).unwrap();
    let documents = |ids: &[&str]| {
        codec::canonical_target(&Target::Documents(ids.iter().map(|id| path(id)).collect()))
    };
    assert_eq!(documents(&["b", "a", "b"]), documents(&["a", "b"]));
    assert_ne!(documents(&["a"]), documents(&["a", "b"]));
}

#[test]
fn long_bodies_get_their_length_in_as_many_bytes_as_it_takes() {
    for length in [0, 120, 127, 128, 129, 16_000, 16_383, 16_384, 2_097_152] {
        let document = Document {
            path: tidemark_protocol::model::DocumentPath::parse("c/d").unwrap(),
            fields: [("a".to_owned(), "x".repeat(length).into())].into(),
            create_version: tidemark_protocol::model::Version(1),
            update_version: tidemark_protocol::model::Version(2),
            merge: Default::default(),
        };
        let bytes = codec::encode_document(&document);
        assert_eq!(bytes, reference::document(&document).encode_to_vec(), "{length}");
        assert_eq!(codec::decode_document(&bytes).unwrap(), document, "{length}");
    }
}
