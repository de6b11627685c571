//! Frames that nobody honest sends, each with the answer it gets; and the limits of frames.

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::*;
use tidemark_protocol::wire::codec::{self, DecodeError, Scope};
use tidemark_protocol::wire::proto::{self, client_message::Kind, value, write::Operation};

fn frame(kind: Kind) -> Bytes {
    proto::ClientMessage { kind: Some(kind) }.encode_to_vec().into()
}

fn decode(kind: Kind) -> Result<tidemark_protocol::wire::client::ClientMessage, DecodeError> {
    codec::decode_client(&frame(kind), limits::REQUEST_BYTES)
}

/// What a frame was about, the code, and the message it is refused with.
fn refusal(kind: Kind) -> (Scope, Code, String) {
    match decode(kind) {
        Err(DecodeError::Invalid { scope, error }) => (scope, error.code, error.message),
        other => panic!("not refused by a rule: {other:?}"),
    }
}

fn proto_value(kind: value::Kind) -> proto::Value {
    proto::Value { kind: Some(kind) }
}

fn set(path: &str, fields: Vec<(&str, proto::Value)>) -> proto::Write {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    proto::Write {
        path: path.to_owned(),
        operation: Some(Operation::Set(proto::MapValue { fields })),
        transforms: Vec::new(),
        precondition: None,
    }
}

fn commit(writes: Vec<proto::Write>) -> Kind {
    Kind::Commit(proto::Commit { write_id: 7, writes, ..Default::default() })
}

fn query(query: proto::Query) -> Kind {
    Kind::Query(proto::RunQuery { request_id: 9, query: Some(query), explain: false })
}

fn filtered(operator: i32) -> Kind {
    let filter = proto::FieldFilter {
        field: "a".to_owned(),
        operator,
        value: Some(proto_value(value::Kind::Integer(1))),
    };
    query(proto::Query {
        collection_id: "c".to_owned(),
        filter: Some(proto::Filter { kind: Some(proto::filter::Kind::Field(filter)) }),
        ..Default::default()
    })
}

/// A protobuf field that holds bytes.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

#[test]
fn a_broken_rule_names_what_it_was_about() {
    let (scope, code, message) = refusal(commit(vec![set("a", Vec::new())]));
    assert_eq!((scope, code), (Scope::Write(WriteId(7)), Code::InvalidArgument));
    assert!(message.contains("\"a\" is the path of a collection"), "{message}");

    let listen = Kind::Listen(proto::Listen { target_id: 5, ..Default::default() });
    assert_eq!(refusal(listen).0, Scope::Target(TargetId(5)));
    assert_eq!(refusal(query(proto::Query::default())).0, Scope::Request(9));
    let get = Kind::Get(proto::Get { request_id: 3, paths: vec![String::new()] });
    assert_eq!(refusal(get).0, Scope::Request(3));
    let hello = Kind::Hello(proto::Hello { client_id: vec![1; 15].into(), ..Default::default() });
    let (scope, _, message) = refusal(hello);
    assert_eq!(scope, Scope::Connection);
    assert!(message.contains("16 bytes, not 15"), "{message}");
}

#[test]
fn the_scope_is_found_behind_what_is_wrong() {
    let write = set("", Vec::new()).encode_to_vec();
    let body = [field(2, &write), vec![0x08, 42]].concat();
    let answer = codec::decode_client(&field(4, &body).into(), limits::REQUEST_BYTES);
    let Err(DecodeError::Invalid { scope, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(scope, Scope::Write(WriteId(42)));
}

#[test]
fn what_comes_later_is_unimplemented_and_not_ignored() {
    for operator in [0, 11] {
        assert_eq!(refusal(filtered(operator)).1, Code::InvalidArgument, "{operator}");
    }
    for reserved in [9, 10] {
        let answer = codec::decode_client(&field(reserved, &[]).into(), limits::REQUEST_BYTES);
        let Err(DecodeError::Invalid { scope, error }) = answer else { panic!("{answer:?}") };
        assert_eq!((scope, error.code), (Scope::Connection, Code::Unimplemented));
    }
}

#[test]
fn frames_above_the_limit_are_not_looked_at() {
    let ping = frame(Kind::Ping(proto::Ping { nonce: 1 }));
    assert!(codec::decode_client(&ping, ping.len()).is_ok());
    let error = codec::decode_client(&ping, ping.len() - 1).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { limit: ping.len() - 1, actual: ping.len() });
}

#[test]
fn counts_are_limited_and_the_limit_is_stated() {
    let writes = |count| commit(vec![set("c/d", Vec::new()); count]);
    assert!(decode(writes(limits::WRITES_PER_COMMIT)).is_ok());
    assert!(refusal(writes(501)).2.contains("more than 500 writes"));
    assert!(refusal(writes(0)).2.contains("0 writes; it must have 1 to 500"));

    let transforming = |count| {
        let step = proto::FieldTransform {
            field: "a".to_owned(),
            transform: Some(proto::field_transform::Transform::ServerTimestamp(proto::Empty {})),
        };
        commit(vec![proto::Write { transforms: vec![step; count], ..set("c/d", Vec::new()) }])
    };
    assert!(decode(transforming(500)).is_ok());
    assert!(refusal(transforming(501)).2.contains("more than 500 transforms"));

    let reads = |count| {
        let read = proto::Read { path: "c/d".to_owned(), version: 1 };
        let writes = vec![set("c/d", Vec::new())];
        Kind::Commit(proto::Commit {
            write_id: 7,
            writes,
            reads: vec![read; count],
            acknowledged_through: 0,
            edit_time: None,
            follows: 0,
        })
    };
    assert!(decode(reads(10_000)).is_ok());
    assert!(refusal(reads(10_001)).2.contains("more than 10000 reads"));

    let get = |count| Kind::Get(proto::Get { request_id: 1, paths: vec!["c/d".to_owned(); count] });
    assert!(decode(get(10_000)).is_ok());
    assert!(refusal(get(10_001)).2.contains("more than 10000 documents"));

    let listen = |count| {
        let paths = vec!["c/d".to_owned(); count];
        let target = Some(proto::listen::Target::Documents(proto::DocumentSet { paths }));
        Kind::Listen(proto::Listen { target_id: 1, target, resume: None, reconciles: false })
    };
    assert!(decode(listen(10_000)).is_ok());
    assert!(refusal(listen(10_001)).2.contains("more than 10000 documents"));

    let ordered = |count| {
        let order_by =
            (0..count).map(|i| proto::Order { field: format!("f{i}"), descending: false });
        query(proto::Query {
            collection_id: "c".to_owned(),
            order_by: order_by.collect(),
            ..Default::default()
        })
    };
    assert!(decode(ordered(100)).is_ok());
    assert!(refusal(ordered(101)).2.contains("more than 100 orders"));

    let conjunction = |count| {
        let filters =
            vec![proto::Filter { kind: Some(proto::filter::Kind::And(Default::default())) }; count];
        let filter = proto::Filter {
            kind: Some(proto::filter::Kind::And(proto::CompositeFilter { filters })),
        };
        query(proto::Query {
            collection_id: "c".to_owned(),
            filter: Some(filter),
            ..Default::default()
        })
    };
    assert!(decode(conjunction(100)).is_ok());
    assert!(refusal(conjunction(100_000)).2.contains("more than 100 filters"));
}

#[test]
fn documents_beyond_a_limit_are_refused_with_it() {
    let text = |length: usize| proto_value(value::Kind::String("x".repeat(length)));
    let (_, code, message) =
        refusal(commit(vec![set("c/d", vec![("a", text(600_000)), ("b", text(600_000))])]));
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("1200058 bytes; the limit is 1048576"), "{message}");

    let nested = |depth: usize| {
        (0..depth).fold(proto_value(value::Kind::Null(true)), |inner, _| {
            let fields = [("m".to_owned(), inner)].into();
            proto_value(value::Kind::Map(proto::MapValue { fields }))
        })
    };
    assert!(decode(commit(vec![set("c/d", vec![("a", nested(20))])])).is_ok());
    for depth in [21, 32, 33, 200] {
        let (scope, _, message) = refusal(commit(vec![set("c/d", vec![("a", nested(depth))])]));
        assert_eq!(scope, Scope::Write(WriteId(7)));
        assert!(message.contains("nested more than 20 deep, which is the limit"), "{message}");
    }
}

#[test]
fn nesting_as_deep_as_a_frame_is_long_does_not_reach_the_end_of_the_stack() {
    // From the inside out, each level wrapped around the last.
    let mut value: std::collections::VecDeque<u8> = [0x08, 0x01].into();
    while value.len() < 400_000 {
        for tag in [0x0A, 0x52] {
            let mut length = Vec::new();
            prost::encoding::encode_varint(value.len() as u64, &mut length);
            length.into_iter().rev().for_each(|byte| value.push_front(byte));
            value.push_front(tag);
        }
    }
    let value = Bytes::from(Vec::from(value));
    assert!(codec::decode_value(&value).is_err());

    let entry = [field(1, b"a"), field(2, &value)].concat();
    let write = [field(1, b"c/d"), field(2, &field(1, &entry))].concat();
    let commit = field(4, &[vec![0x08, 7], field(2, &write)].concat());
    let answer = codec::decode_client(&commit.into(), limits::REQUEST_BYTES);
    let Err(DecodeError::Invalid { scope, error }) = answer else { panic!("{answer:?}") };
    assert_eq!((scope, error.code), (Scope::Write(WriteId(7)), Code::InvalidArgument));
    assert!(codec::decode_document(&[field(1, b"c/d"), field(4, &entry)].concat().into()).is_err());

    // Groups, which end where they like.
    assert!(codec::decode_server(&vec![0xA3; 1_000_000].into()).is_err());
    assert!(codec::decode_value(&vec![0xFB; 1_000_000].into()).is_err());
}

#[test]
fn unknown_fields_are_passed_over() {
    let document = Document {
        path: DocumentPath::parse("c/d").unwrap(),
        fields: [("a".to_owned(), Value::Integer(1))].into(),
        create_version: Version(1),
        update_version: Version(2),
        merge: Default::default(),
    };
    let bytes = codec::encode_document(&document);
    let unknown: [&[u8]; 5] = [
        &[0x78, 0xFF, 0x01],
        &[0x79, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x7A, 2, 1, 2],
        &[0x7B, 0x08, 1, 0x13, 0x14, 0x7C],
        &[0x7D, 1, 2, 3, 4],
    ];
    for unknown in unknown {
        for bytes in [[&bytes, unknown].concat(), [unknown, &bytes].concat()] {
            let bytes = Bytes::from(bytes);
            assert_eq!(codec::decode_document(&bytes).unwrap(), document);
            assert_eq!(codec::peek_document(&bytes).unwrap().0, "c/d");
            assert!(proto::Document::decode(bytes).is_ok());
        }
    }
}

#[test]
fn what_is_no_frame_is_malformed() {
    let ping = frame(Kind::Ping(proto::Ping { nonce: 1 })).to_vec();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("trailing garbage", [&ping[..], &[0xFF]].concat()),
        ("a cut", ping[..ping.len() - 1].to_vec()),
        ("an unknown kind", field(15, &[])),
        ("another wire type", vec![0x38, 1]),
        ("field number 0", vec![0x00, 1]),
        ("wire type 7", vec![0x07]),
        ("an endless number", vec![0xFF; 20]),
        ("a number of 65 bits", [&[0x80; 9][..], &[0x02]].concat()),
        ("a length beyond the end", vec![0x3A, 0x7F]),
        ("a length beyond memory", [&[0x3A][..], &[0xFF; 9], &[0x01]].concat()),
        ("the end of a group", vec![0x7C]),
        ("a group without end", vec![0x7B, 0x08, 1]),
    ] {
        let answer = codec::decode_client(&bytes.into(), limits::REQUEST_BYTES);
        assert!(matches!(answer, Err(DecodeError::Malformed(_))), "{what}: {answer:?}");
    }
}

#[test]
fn of_equal_names_the_last_counts() {
    let entry = |integer| [field(1, b"a"), field(2, &[0x18, integer])].concat();
    let bytes = [field(1, b"c/d"), field(4, &entry(2)), field(4, &entry(4))].concat();
    let document = codec::decode_document(&bytes.into()).unwrap();
    assert_eq!(document.fields, [("a".to_owned(), Value::Integer(2))].into());
}

#[test]
fn texts_and_values_that_are_none_are_refused() {
    let not_utf8 =
        [field(1, b"c/d"), field(4, &[field(1, b"a"), field(2, &field(6, &[0xFF]))].concat())];
    let no_kind = [field(1, b"c/d"), field(4, &[field(1, b"a"), field(2, &[])].concat())];
    let no_value = [field(1, b"c/d"), field(4, &field(1, b"a"))];
    let later_kind =
        [field(1, b"c/d"), field(4, &[field(1, b"a"), field(2, &field(13, &[]))].concat())];
    let no_place = [
        field(1, b"c/d"),
        field(
            4,
            &[field(1, b"a"), field(2, &field(9, &[0x09, 0, 0, 0, 0, 0, 0, 0xF0, 0x7F]))].concat(),
        ),
    ];
    for bytes in [not_utf8, no_kind, no_value, later_kind, no_place] {
        let answer = codec::decode_document(&bytes.concat().into());
        assert!(matches!(answer, Err(DecodeError::Invalid { .. })), "{answer:?}");
    }
}

#[test]
fn a_huge_frame_of_little_things_is_bounded() {
    // Five million empty writes, filters or documents would be gigabytes as objects.
    for kind in [4, 5] {
        let body = [0x12, 0x00].repeat(limits::REQUEST_BYTES / 2 - 10);
        let answer = codec::decode_client(&field(kind, &body).into(), limits::REQUEST_BYTES);
        assert!(matches!(answer, Err(DecodeError::Invalid { .. })), "{answer:?}");
    }
}
