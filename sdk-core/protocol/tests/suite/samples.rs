//! One message of each kind, with every field in use, for golden frames and as seeds for fuzzing.

use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::*;

fn path(path: &str) -> DocumentPath {
    DocumentPath::parse(path).unwrap()
}

fn field(path: &str) -> FieldPath {
    FieldPath::parse(path).unwrap()
}

/// A document with a value of each type.
pub(crate) fn document() -> Document {
    let fields = [
        ("array", Value::from(vec![Value::from(1), Value::from("two")])),
        ("boolean", Value::from(true)),
        ("bytes", Value::from(Bytes::from_static(&[0, 1, 254, 255]))),
        ("double", Value::from(-2.5)),
        ("geo_point", Value::from(GeoPoint::new(47.5, -8.25).unwrap())),
        ("integer", Value::from(-42)),
        ("map", Value::from([("inner", Value::from([("deep", 1)])), ("é", Value::from(""))])),
        ("nan", Value::from(f64::NAN)),
        ("null", Value::Null),
        ("reference", Value::from(path("rooms/b"))),
        ("string", Value::from("Grüße")),
        ("timestamp", Value::from(Timestamp::parse("2024-02-29T12:30:00.123456Z").unwrap())),
        ("vector", Value::Vector(vec![0.5, -1.0])),
    ];
    Document {
        path: path("rooms/a/messages/1"),
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        create_version: Version(1_700_000_000_000_001),
        update_version: Version(1_700_000_000_000_002),
        merge: MergeState::default(),
    }
}

/// A document that was edited by field and has collaborative fields.
pub(crate) fn merged_document() -> Document {
    let fields = [
        ("text", CollaborativeKind::Text),
        ("list", CollaborativeKind::List),
        ("map", CollaborativeKind::Map),
        ("count", CollaborativeKind::Counter),
    ];
    let clocks = Clocks {
        base: EditTime(1_700_000_000_000_001),
        fields: [(field("a.b"), EditTime(1_700_000_000_000_002))].into(),
    };
    let collaborative = Collaborative {
        epoch: Version(1_700_000_000_000_001),
        fields: fields.map(|(name, kind)| (name.to_owned(), kind)).into(),
    };
    Document {
        fields: [("text".to_owned(), Value::from("Grüße"))].into(),
        merge: MergeState {
            clocks: Some(Box::new(clocks)),
            collaborative: Some(Box::new(collaborative)),
        },
        ..document()
    }
}

fn query() -> Query {
    let filters = [
        ("a", Operator::Equal, Value::from(1)),
        ("b", Operator::LessThan, Value::from(2.5)),
        ("b", Operator::GreaterThan, Value::from(-1)),
        ("c.d", Operator::LessThanOrEqual, Value::from("x")),
        ("`e.f`", Operator::GreaterThanOrEqual, Value::from(true)),
    ];
    let query = Query::collection(&CollectionPath::parse("rooms/a/messages").unwrap());
    filters
        .into_iter()
        .fold(query, |query, (path, operator, value)| {
            query.with_filter(field(path), operator, value)
        })
        .with_order(field("b"), Direction::Descending)
        .with_order(field("a"), Direction::Ascending)
        .with_limit(20)
        .with_start(Cursor { values: vec![2.into(), 1.into()], before: true })
        .with_end(Cursor { values: vec![0.into()], before: false })
}

fn writes() -> Vec<Write> {
    let step = |path, transform| FieldTransform { field: field(path), transform };
    vec![
        Write {
            path: path("rooms/a"),
            op: WriteOp::Set(document().fields),
            transforms: vec![
                step("at", Transform::ServerTimestamp),
                step("count", Transform::Increment(1.into())),
                step("low", Transform::Minimum(0.5.into())),
                step("high", Transform::Maximum(9.into())),
                step("tags", Transform::ArrayUnion(vec!["x".into(), "y".into()])),
                step("`old tags`", Transform::ArrayRemove(vec!["z".into()])),
            ],
            precondition: Some(Precondition::Exists(false)),
        },
        Write {
            path: path("rooms/b"),
            op: WriteOp::Update {
                fields: [("a".to_owned(), Value::from([("b", 1)]))].into(),
                mask: vec![field("a.b"), field("gone")],
            },
            transforms: Vec::new(),
            precondition: Some(Precondition::UpdateVersion(Version(1_700_000_000_000_000))),
        },
        Write {
            path: path("rooms/c"),
            op: WriteOp::Delete,
            transforms: Vec::new(),
            precondition: None,
        },
        Write {
            path: path("rooms/e"),
            op: WriteOp::Merge(Collaboration {
                epoch: Version(1_700_000_000_000_000),
                changes: vec![Bytes::from_static(&[1, 2]), Bytes::from_static(&[3])],
            }),
            transforms: Vec::new(),
            precondition: None,
        },
        Write {
            path: path("rooms/d"),
            op: WriteOp::Verify,
            transforms: Vec::new(),
            precondition: Some(Precondition::Exists(true)),
        },
    ]
}

fn leaf(path: &str, operator: Operator, value: Value) -> Filter {
    let field = FieldPath::parse(path).unwrap();
    Filter::Field(FieldFilter { field, operator, value })
}

/// A query with the clauses that [`query`] lacks.
fn group_query() -> Query {
    let field = |path: &str| FieldPath::parse(path).unwrap();
    let several = || Value::from(vec![1, 2]);
    Query {
        parent: Some(path("rooms/a")),
        offset: 20,
        limit: Some(10),
        limit_to_last: true,
        projection: Some(vec![field("a"), field("c.d")]),
        ..Query::group("messages")
            .and(Filter::Or(vec![
                leaf("a", Operator::NotEqual, Value::Null),
                leaf("b", Operator::In, several()),
                leaf("c", Operator::ArrayContains, Value::from("x")),
                leaf("d", Operator::ArrayContainsAny, several()),
            ]))
            .and(leaf("e", Operator::Equal, Value::from(true)))
            .with_order(field("a"), Direction::Descending)
    }
}

/// And with what excludes some of those.
fn nearest_query() -> Query {
    let field = |path: &str| FieldPath::parse(path).unwrap();
    Query {
        nearest: Some(Nearest {
            field: field("v"),
            vector: vec![0.5, -1.0],
            measure: DistanceMeasure::Cosine,
            limit: 10,
            threshold: Some(0.25),
            distance_field: Some(field("far")),
        }),
        ..Query::group("messages").and(leaf("e", Operator::NotIn, Value::from(vec![1, 2])))
    }
}

fn aggregate() -> AggregateQuery {
    let field = |path: &str| FieldPath::parse(path).unwrap();
    let called = |alias: &str, kind| Aggregation { alias: alias.to_owned(), kind };
    AggregateQuery {
        query: Query::group("messages"),
        aggregations: vec![
            called("all", AggregationKind::Count { up_to: None }),
            called("some", AggregationKind::Count { up_to: Some(100) }),
            called("total", AggregationKind::Sum(field("n"))),
            called("mean", AggregationKind::Average(field("n"))),
        ],
    }
}

fn explanation() -> Explanation {
    let indexed = |field: &str, mode| IndexField { field: FieldPath::parse(field).unwrap(), mode };
    Explanation {
        steps: vec!["scan messages(a)".to_owned()],
        entries_scanned: 12,
        documents_read: 11,
        results: 10,
        time: Duration::from_micros(420),
        indexes: vec!["messages(a)".to_owned()],
        suggestion: Some(IndexDefinition {
            collection_id: "messages".to_owned(),
            scope: IndexScope::Group,
            fields: vec![
                indexed("a", IndexMode::Ascending),
                indexed("b", IndexMode::Descending),
                indexed("c", IndexMode::Contains),
            ],
        }),
    }
}

/// Each kind of client message, by name.
pub(crate) fn client() -> Vec<(&'static str, ClientMessage)> {
    let hello = Hello {
        protocol_version: 1,
        minimum_version: 1,
        project: "demo".to_owned(),
        database: "(default)".to_owned(),
        token: "token".to_owned(),
        client_id: ClientId(*b"0123456789abcdef"),
        acknowledged_through: WriteId(41),
        agent: "tidemark-core/0.1.0 linux".to_owned(),
    };
    let listen = Listen {
        target_id: TargetId(1),
        target: Target::Query(query()),
        resume: Some(ResumeToken {
            incarnation: Incarnation(0x0123_4567_89AB_CDEF),
            version: Version(1_700_000_000_000_000),
        }),
        reconciles: true,
    };
    let listen_documents = Listen {
        target_id: TargetId(2),
        target: Target::Documents(vec![path("rooms/a"), path("rooms/b")]),
        resume: None,
        reconciles: false,
    };
    let listen_aggregate = Listen {
        target_id: TargetId(3),
        target: Target::Aggregate(aggregate()),
        resume: None,
        reconciles: false,
    };
    let commit = Commit {
        write_id: WriteId(42),
        writes: writes(),
        reads: vec![
            Read { path: path("rooms/a"), version: Version::NONE },
            Read { path: path("rooms/b"), version: Version(1_700_000_000_000_000) },
        ],
        acknowledged_through: WriteId(41),
        edit_time: Some(EditTime(1_700_000_000_000_001)),
        follows: Some(WriteId(40)),
    };
    let digest_nodes = vec![
        DigestNode { depth: 0, prefix: 0 },
        DigestNode { depth: 2, prefix: 0xAB00_0000_0000_0000 },
    ];
    let paths = vec![path("rooms/a"), path("rooms/z")];
    vec![
        ("hello", ClientMessage::Hello(hello)),
        ("listen", ClientMessage::Listen(listen)),
        ("listen_documents", ClientMessage::Listen(listen_documents)),
        ("listen_aggregate", ClientMessage::Listen(listen_aggregate)),
        ("unlisten", ClientMessage::Unlisten { target: TargetId(1) }),
        ("commit", ClientMessage::Commit(commit)),
        ("get", ClientMessage::Get { request: 300, paths }),
        ("query", ClientMessage::Query { request: 301, query: query(), explain: false }),
        ("query_group", ClientMessage::Query { request: 302, query: group_query(), explain: true }),
        (
            "query_nearest",
            ClientMessage::Query { request: 304, query: nearest_query(), explain: false },
        ),
        (
            "aggregate",
            ClientMessage::Aggregate { request: 303, aggregate: aggregate(), explain: true },
        ),
        ("ping", ClientMessage::Ping { nonce: u64::MAX }),
        ("acknowledge", ClientMessage::Acknowledge { through: WriteId(42) }),
        (
            "digest",
            ClientMessage::Digest {
                request: 305,
                target: Target::Query(query()),
                nodes: digest_nodes,
            },
        ),
    ]
}

/// Each kind of server message, by name.
pub(crate) fn server() -> Vec<(&'static str, ServerMessage)> {
    let status = |code| Status { code, message: "why".to_owned() };
    let version = Version(1_700_000_000_000_003);
    let documents = || vec![codec::encode_document(&document())];
    let welcome = Welcome {
        protocol_version: 1,
        server_time: Timestamp::parse("2024-02-29T12:30:00Z").unwrap(),
        session: "s-1".to_owned(),
        incarnation: Incarnation(0x0123_4567_89AB_CDEF),
        limits: SessionLimits { frame_bytes: 10_485_760, targets: 1000, commits_in_flight: 64 },
        heartbeat: Duration::from_secs(15),
    };
    let changes = Changes {
        group: 7,
        version,
        documents: documents(),
        removals: vec![
            Removal { path: path("rooms/x"), deleted: true },
            Removal { path: path("rooms/y"), deleted: false },
        ],
        partial: true,
    };
    let result = QueryResult {
        request: 300,
        version,
        documents: documents(),
        missing: vec![path("rooms/z")],
        more: true,
        explanation: None,
    };
    let explained = QueryResult { more: false, explanation: Some(explanation()), ..result.clone() };
    let values = || vec![Value::from(3), Value::from(0.5), Value::Null];
    let aggregate_result = AggregateResult {
        request: 303,
        version,
        values: values(),
        explanation: Some(explanation()),
    };
    let aggregated = Aggregated { group: 8, version, values: values(), partial: true };
    let results = vec![
        WriteResult {
            transform_results: vec![Value::from(5), Value::Null],
            superseded: Superseded::Fields(vec![field("a.b"), field("c")]),
        },
        WriteResult { transform_results: vec![], superseded: Superseded::Whole },
        WriteResult::default(),
    ];
    let node = |depth, prefix| DigestNode { depth, prefix };
    let child = |n: u32| Fingerprint { count: n, sum: u64::from(n) << 40 };
    let digest_result = DigestResult {
        request: 305,
        version,
        nodes: vec![
            DigestAnswer {
                node: node(0, 0),
                part: DigestPart::Children(std::array::from_fn(|n| child(n as u32))),
            },
            DigestAnswer {
                node: node(2, 0xAB00_0000_0000_0000),
                part: DigestPart::Members(vec![(path("rooms/a"), version)]),
            },
        ],
    };
    let again = Some(Duration::from_millis(500));
    vec![
        ("welcome", ServerMessage::Welcome(welcome)),
        ("listening", ServerMessage::Listening { target: TargetId(1), group: 7, version }),
        ("reset", ServerMessage::Reset { target: TargetId(1), reason: "expired".to_owned() }),
        ("changes", ServerMessage::Changes(changes)),
        ("stale", ServerMessage::Stale { target: TargetId(1), reason: "expired".to_owned() }),
        ("digest_result", ServerMessage::DigestResult(digest_result)),
        ("current", ServerMessage::Current { version }),
        (
            "target_error",
            ServerMessage::TargetError { target: TargetId(1), status: status(Code::Unimplemented) },
        ),
        ("committed", ServerMessage::Committed { write_id: WriteId(42), version, results }),
        (
            "rejected",
            ServerMessage::Rejected { write_id: WriteId(43), status: status(Code::NotFound) },
        ),
        ("result", ServerMessage::Result(result)),
        ("result_explained", ServerMessage::Result(explained)),
        ("aggregate_result", ServerMessage::AggregateResult(aggregate_result)),
        ("aggregated", ServerMessage::Aggregated(aggregated)),
        (
            "request_error",
            ServerMessage::RequestError { request: 301, status: status(Code::InvalidArgument) },
        ),
        ("pong", ServerMessage::Pong { nonce: u64::MAX, server_time: Timestamp::MIN }),
        ("error", ServerMessage::Error { status: status(Code::InvalidArgument) }),
        (
            "go_away",
            ServerMessage::GoAway { status: status(Code::Unavailable), reconnect_after: again },
        ),
        (
            "go_away_for_good",
            ServerMessage::GoAway {
                status: status(Code::FailedPrecondition),
                reconnect_after: None,
            },
        ),
    ]
}
