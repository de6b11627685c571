//! Random values, documents, writes, queries and messages. The alphabets are small, so that equal
//! and nearly equal things meet often.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::*;

/// Doubles where mistakes live, and any others.
pub(crate) fn double() -> impl Strategy<Value = f64> {
    let edges = vec![
        f64::NAN,
        -f64::NAN,
        f64::NEG_INFINITY,
        f64::MIN,
        -9_223_372_036_854_775_808.0,
        -9_007_199_254_740_992.0,
        -1.5,
        -1.0,
        -f64::MIN_POSITIVE,
        -5e-324,
        -0.0,
        0.0,
        5e-324,
        f64::MIN_POSITIVE,
        0.5,
        1.0,
        9_007_199_254_740_991.0,
        9_007_199_254_740_992.0,
        9_007_199_254_740_994.0,
        9_223_372_036_854_774_784.0,
        9_223_372_036_854_775_808.0,
        f64::MAX,
        f64::INFINITY,
    ];
    prop_oneof![4 => prop::sample::select(edges), 1 => any::<f64>()]
}

/// Integers where mistakes live, and any others.
pub(crate) fn integer() -> impl Strategy<Value = i64> {
    let two53 = 1_i64 << 53;
    let edges = vec![
        i64::MIN,
        i64::MIN + 1,
        -two53 - 1,
        -two53,
        -1,
        0,
        1,
        two53 - 1,
        two53,
        two53 + 1,
        two53 + 2,
        i64::MAX - 1023,
        i64::MAX - 1,
        i64::MAX,
    ];
    prop_oneof![
        4 => prop::sample::select(edges),
        1 => any::<i64>(),
        1 => (any::<i64>(), 0..64_u32).prop_map(|(integer, shift)| integer >> shift),
    ]
}

pub(crate) fn number() -> impl Strategy<Value = Value> {
    prop_oneof![integer().prop_map(Value::Integer), double().prop_map(Value::Double)]
}

fn text() -> impl Strategy<Value = String> {
    let edges =
        ["", "a", "a\0", "a\0\u{1}", "a\u{1}", "ab", "b", "é", "\u{ffff}", "😀", "\0", "\0\0"];
    let edges = edges.map(str::to_owned).to_vec();
    prop_oneof![4 => prop::sample::select(edges), 1 => ".{0,6}"]
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(prop_oneof![Just(0), Just(1), Just(0xFF), any::<u8>()], 0..5).prop_map(Bytes::from)
}

pub(crate) fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(["a", "a\0", "ab", "b", "-", "0", "é", "\0"].map(str::to_owned).to_vec()),
        1 => "[^/.]{1,8}",
    ]
    .prop_filter("reserved", |id| !(id.starts_with("__") && id.ends_with("__")))
}

pub(crate) fn document_path() -> impl Strategy<Value = DocumentPath> {
    vec((id(), id()), 1..4).prop_map(|segments| {
        let segments: Vec<String> = segments.into_iter().flat_map(|(a, b)| [a, b]).collect();
        DocumentPath::parse(&segments.join("/")).unwrap()
    })
}

pub(crate) fn collection_path() -> impl Strategy<Value = CollectionPath> {
    (option::of(document_path()), id()).prop_map(|(parent, id)| match parent {
        Some(parent) => parent.collection(&id).unwrap(),
        None => CollectionPath::parse(&id).unwrap(),
    })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    let (min, max) = (Timestamp::MIN.as_micros(), Timestamp::MAX.as_micros());
    prop_oneof![prop::sample::select(vec![min, -1, 0, 1, max]), min..=max]
        .prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

fn place() -> impl Strategy<Value = GeoPoint> {
    let latitude = prop_oneof![prop::sample::select(vec![-90.0, -0.0, 0.0, 90.0]), -90.0..=90.0];
    let longitude =
        prop_oneof![prop::sample::select(vec![-180.0, -0.0, 0.0, 180.0]), -180.0..=180.0];
    (latitude, longitude)
        .prop_map(|(latitude, longitude)| GeoPoint::new(latitude, longitude).unwrap())
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Boolean),
        6 => number(),
        1 => timestamp().prop_map(Value::Timestamp),
        3 => text().prop_map(Value::String),
        2 => data().prop_map(Value::Bytes),
        1 => document_path().prop_map(Value::Reference),
        1 => place().prop_map(Value::GeoPoint),
        1 => vec(double(), 1..4).prop_map(Value::Vector),
    ]
}

/// Any value, also such as no document may hold (arrays in arrays, empty names).
pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            btree_map(text(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

pub(crate) fn field_name() -> impl Strategy<Value = String> {
    prop::sample::select(["a", "b", "c", "é", "x.y", "`"].map(str::to_owned).to_vec())
}

/// A value that a document may hold.
pub(crate) fn stored_value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        let in_array = |value: &Value| !matches!(value, Value::Array(_) | Value::Vector(_));
        prop_oneof![
            vec(inner.clone().prop_filter("not in an array", in_array), 0..4)
                .prop_map(Value::Array),
            btree_map(field_name(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

pub(crate) fn fields() -> impl Strategy<Value = Fields> {
    btree_map(field_name(), stored_value(), 0..5)
}

pub(crate) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![1..5_u64, 1..u64::MAX].prop_map(Version)
}

fn edit_time() -> impl Strategy<Value = EditTime> {
    any::<u64>().prop_map(EditTime)
}

fn merge_state() -> impl Strategy<Value = MergeState> {
    let clocks = (edit_time(), btree_map(field_path(), edit_time(), 0..3))
        .prop_map(|(base, fields)| Box::new(Clocks { base, fields }));
    let kind = prop_oneof![
        Just(CollaborativeKind::Text),
        Just(CollaborativeKind::List),
        Just(CollaborativeKind::Map),
        Just(CollaborativeKind::Counter),
    ];
    let collaborative = (version(), btree_map("[a-z]{1,3}", kind, 0..3))
        .prop_map(|(epoch, fields)| Box::new(Collaborative { epoch, fields }));
    (option::of(clocks), option::of(collaborative))
        .prop_map(|(clocks, collaborative)| MergeState { clocks, collaborative })
}

pub(crate) fn document() -> impl Strategy<Value = Document> {
    (document_path(), fields(), version(), version(), merge_state()).prop_map(
        |(path, fields, create_version, update_version, merge)| Document {
            path,
            fields,
            create_version,
            update_version,
            merge,
        },
    )
}

pub(crate) fn field_path() -> impl Strategy<Value = FieldPath> {
    vec(field_name(), 1..3).prop_map(|segments| FieldPath::from_segments(segments).unwrap())
}

fn mask() -> impl Strategy<Value = Vec<FieldPath>> {
    vec(field_path(), 0..4).prop_map(without_conflicts)
}

fn without_conflicts(paths: Vec<FieldPath>) -> Vec<FieldPath> {
    let mut kept: Vec<FieldPath> = Vec::new();
    for path in paths {
        if !kept.iter().any(|other| other.is_prefix_of(&path) || path.is_prefix_of(other)) {
            kept.push(path);
        }
    }
    kept
}

pub(crate) fn transform() -> impl Strategy<Value = Transform> {
    let in_array = |value: &Value| !matches!(value, Value::Array(_) | Value::Vector(_));
    let elements = || vec(stored_value().prop_filter("not in an array", in_array), 0..4);
    prop_oneof![
        Just(Transform::ServerTimestamp),
        number().prop_map(Transform::Increment),
        number().prop_map(Transform::Minimum),
        number().prop_map(Transform::Maximum),
        elements().prop_map(Transform::ArrayUnion),
        elements().prop_map(Transform::ArrayRemove),
    ]
}

fn transforms() -> impl Strategy<Value = Vec<FieldTransform>> {
    (mask(), vec(transform(), 4)).prop_map(|(fields, transforms)| {
        let pairs = fields.into_iter().zip(transforms);
        pairs.map(|(field, transform)| FieldTransform { field, transform }).collect()
    })
}

fn precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        any::<bool>().prop_map(Precondition::Exists),
        version().prop_map(Precondition::UpdateVersion),
    ]
}

/// A write that validates.
pub(crate) fn write() -> impl Strategy<Value = Write> {
    let edit = prop_oneof![
        fields().prop_map(WriteOp::Set),
        (fields(), mask()).prop_map(|(fields, mask)| WriteOp::Update { fields, mask }),
    ];
    prop_oneof![
        4 => (document_path(), edit, transforms(), option::of(precondition())).prop_map(
            |(path, op, transforms, precondition)| Write { path, op, transforms, precondition }
        ),
        1 => (document_path(), option::of(precondition())).prop_map(|(path, precondition)| Write {
            path, op: WriteOp::Delete, transforms: Vec::new(), precondition
        }),
        1 => (document_path(), precondition()).prop_map(|(path, precondition)| Write {
            path, op: WriteOp::Verify, transforms: Vec::new(), precondition: Some(precondition)
        }),
    ]
}

fn operator() -> impl Strategy<Value = Operator> {
    prop::sample::select(vec![
        Operator::Equal,
        Operator::LessThan,
        Operator::LessThanOrEqual,
        Operator::GreaterThan,
        Operator::GreaterThanOrEqual,
        Operator::NotEqual,
        Operator::In,
        Operator::NotIn,
        Operator::ArrayContains,
        Operator::ArrayContainsAny,
    ])
}

pub(crate) fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(vec![Direction::Ascending, Direction::Descending])
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (vec(stored_value(), 0..3), any::<bool>())
        .prop_map(|(values, before)| Cursor { values, before })
}

fn field_filter() -> impl Strategy<Value = Filter> {
    (field_path(), operator(), stored_value(), vec(stored_value(), 1..4)).prop_map(
        |(field, operator, value, values)| {
            let value = match operator {
                Operator::In | Operator::NotIn | Operator::ArrayContainsAny => Value::Array(values),
                Operator::Equal
                | Operator::NotEqual
                | Operator::LessThan
                | Operator::LessThanOrEqual
                | Operator::GreaterThan
                | Operator::GreaterThanOrEqual
                | Operator::ArrayContains => value,
            };
            Filter::Field(FieldFilter { field, operator, value })
        },
    )
}

fn filter() -> BoxedStrategy<Filter> {
    field_filter()
        .prop_recursive(2, 4, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Filter::And),
                vec(inner, 0..3).prop_map(Filter::Or),
            ]
        })
        .boxed()
}

fn measure() -> impl Strategy<Value = DistanceMeasure> {
    prop::sample::select(vec![
        DistanceMeasure::Euclidean,
        DistanceMeasure::Cosine,
        DistanceMeasure::DotProduct,
    ])
}

fn nearest() -> BoxedStrategy<Nearest> {
    let vector = vec(-1e3..1e3, 1..4);
    let rest = (1..=limits::NEAREST_DOCUMENTS, option::of(0.0..9.0), option::of(field_path()));
    (field_path(), vector, measure(), rest)
        .prop_map(|(field, vector, measure, (limit, threshold, distance_field))| Nearest {
            field,
            vector,
            measure,
            limit,
            threshold,
            distance_field,
        })
        .boxed()
}

/// A query of the collection that validates.
pub(crate) fn query_of(collection: CollectionPath) -> BoxedStrategy<Query> {
    let order = vec((field_path(), direction()), 0..3);
    let cursors = (option::of(cursor()), option::of(cursor()));
    let limits = (option::of(1..u32::MAX), any::<bool>(), prop_oneof![Just(0), 1..u32::MAX]);
    let rest = (any::<bool>(), option::of(vec(field_path(), 0..3)), option::of(nearest()));
    (option::of(filter()), order, cursors, limits, rest)
        .prop_map(move |(filter, order, (start, end), (limit, last, offset), rest)| {
            let order_by = order.into_iter().map(|(field, direction)| Order { field, direction });
            let order_by: Vec<Order> = order_by.collect();
            let limit_to_last = last && limit.is_some() && !order_by.is_empty();
            let (all_descendants, projection, nearest) = rest;
            Query {
                filter,
                order_by,
                limit,
                limit_to_last,
                offset,
                start,
                end,
                projection,
                nearest,
                all_descendants,
                ..Query::collection(&collection)
            }
        })
        .prop_filter("valid", |query| query.validate().is_ok())
        .boxed()
}

pub(crate) fn query() -> BoxedStrategy<Query> {
    collection_path().prop_flat_map(query_of).boxed()
}

fn aggregation() -> impl Strategy<Value = AggregationKind> {
    prop_oneof![
        option::of(any::<u64>()).prop_map(|up_to| AggregationKind::Count { up_to }),
        field_path().prop_map(AggregationKind::Sum),
        field_path().prop_map(AggregationKind::Average),
    ]
}

pub(crate) fn aggregate() -> BoxedStrategy<AggregateQuery> {
    (query(), vec(aggregation(), 1..4))
        .prop_map(|(query, kinds)| {
            let named = |(at, kind)| Aggregation { alias: format!("a{at}"), kind };
            AggregateQuery {
                query,
                aggregations: kinds.into_iter().enumerate().map(named).collect(),
            }
        })
        .prop_filter("valid", |aggregate| aggregate.validate().is_ok())
        .boxed()
}

pub(crate) fn target() -> BoxedStrategy<Target> {
    prop_oneof![
        query().prop_map(Target::Query),
        aggregate().prop_map(Target::Aggregate),
        prop::collection::btree_set(document_path(), 1..4)
            .prop_map(|paths| Target::Documents(paths.into_iter().collect())),
    ]
    .boxed()
}

fn target_id() -> impl Strategy<Value = TargetId> {
    any::<u32>().prop_map(TargetId)
}

fn write_id() -> impl Strategy<Value = WriteId> {
    prop_oneof![1..4_u64, 1..u64::MAX].prop_map(WriteId)
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<(u32, u32)>(), (text(), text(), text(), text()), any::<[u8; 16]>(), any::<u64>())
        .prop_map(
            |(
                (protocol_version, minimum_version),
                (project, database, token, agent),
                client_id,
                through,
            )| {
                Hello {
                    protocol_version,
                    minimum_version,
                    project,
                    database,
                    token,
                    client_id: ClientId(client_id),
                    acknowledged_through: WriteId(through),
                    agent,
                }
            },
        )
}

fn digest_node() -> impl Strategy<Value = DigestNode> {
    (0..=16_u32, any::<u64>()).prop_map(|(depth, bits)| {
        let rest = u64::MAX.checked_shr(4 * depth).unwrap_or(0);
        DigestNode { depth, prefix: bits & !rest }
    })
}

fn digest_part() -> impl Strategy<Value = DigestPart> {
    let children = any::<[(u32, u64); 16]>()
        .prop_map(|all| all.map(|(count, sum)| Fingerprint { count, sum }));
    prop_oneof![
        vec((document_path(), version()), 0..3).prop_map(DigestPart::Members),
        children.prop_map(DigestPart::Children),
    ]
}

fn digest_result() -> impl Strategy<Value = DigestResult> {
    let answer =
        (digest_node(), digest_part()).prop_map(|(node, part)| DigestAnswer { node, part });
    (any::<u32>(), version(), vec(answer, 0..3))
        .prop_map(|(request, version, nodes)| DigestResult { request, version, nodes })
}

fn superseded() -> impl Strategy<Value = Superseded> {
    prop_oneof![
        Just(Superseded::Nothing),
        vec(field_path(), 1..3).prop_map(Superseded::Fields),
        Just(Superseded::Whole),
    ]
}

fn resume() -> impl Strategy<Value = ResumeToken> {
    any::<(u64, u64)>().prop_map(|(incarnation, version)| ResumeToken {
        incarnation: Incarnation(incarnation),
        version: Version(version),
    })
}

fn read() -> impl Strategy<Value = Read> {
    (document_path(), any::<u64>())
        .prop_map(|(path, version)| Read { path, version: Version(version) })
}

/// A write of collaborative fields, whose changes only their module understands.
fn collaboration() -> impl Strategy<Value = Write> {
    let changes = vec(vec(any::<u8>(), 0..6).prop_map(Bytes::from), 1..3);
    (document_path(), version(), changes).prop_map(|(path, epoch, changes)| Write {
        path,
        op: WriteOp::Merge(Collaboration { epoch, changes }),
        transforms: Vec::new(),
        precondition: None,
    })
}

fn commit() -> impl Strategy<Value = Commit> {
    let order = (option::of(edit_time()), option::of(write_id()));
    (
        write_id(),
        vec(prop_oneof![4 => write().boxed(), 1 => collaboration().boxed()], 1..4),
        vec(read(), 0..3),
        any::<u64>(),
        order,
    )
        .prop_map(|(write_id, writes, reads, through, (edit_time, follows))| Commit {
            write_id,
            writes,
            reads,
            acknowledged_through: WriteId(through),
            edit_time,
            follows,
        })
}

pub(crate) fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        hello().prop_map(ClientMessage::Hello),
        (target_id(), target(), option::of(resume()), any::<bool>()).prop_map(
            |(target_id, target, resume, reconciles)| {
                ClientMessage::Listen(Listen { target_id, target, resume, reconciles })
            }
        ),
        (any::<u32>(), query(), vec(digest_node(), 0..3)).prop_map(|(request, query, nodes)| {
            ClientMessage::Digest { request, target: Target::Query(query), nodes }
        }),
        target_id().prop_map(|target| ClientMessage::Unlisten { target }),
        commit().prop_map(ClientMessage::Commit),
        (any::<u32>(), vec(document_path(), 0..4))
            .prop_map(|(request, paths)| ClientMessage::Get { request, paths }),
        (any::<u32>(), query()).prop_map(|(request, query)| ClientMessage::Query {
            request,
            query,
            explain: request % 2 == 0
        }),
        (any::<u32>(), aggregate(), any::<bool>()).prop_map(|(request, aggregate, explain)| {
            ClientMessage::Aggregate { request, aggregate, explain }
        }),
        any::<u64>().prop_map(|nonce| ClientMessage::Ping { nonce }),
        any::<u64>().prop_map(|through| ClientMessage::Acknowledge { through: WriteId(through) }),
    ]
}

fn status() -> impl Strategy<Value = Status> {
    (prop::sample::select(Code::ALL.to_vec()), text())
        .prop_map(|(code, message)| Status { code, message })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (any::<(u32, u64, u32, u32, u32, u32)>(), timestamp(), text()).prop_map(
        |(
            (protocol_version, incarnation, frame_bytes, targets, commits_in_flight, heartbeat),
            time,
            session,
        )| {
            Welcome {
                protocol_version,
                server_time: time,
                session,
                incarnation: Incarnation(incarnation),
                limits: SessionLimits { frame_bytes, targets, commits_in_flight },
                heartbeat: Duration::from_millis(heartbeat.into()),
            }
        },
    )
}

fn documents() -> impl Strategy<Value = Vec<Bytes>> {
    vec(document().prop_map(|document| codec::encode_document(&document)), 0..4)
}

fn changes() -> impl Strategy<Value = Changes> {
    let removal =
        (document_path(), any::<bool>()).prop_map(|(path, deleted)| Removal { path, deleted });
    (any::<u32>(), version(), documents(), vec(removal, 0..3), any::<bool>()).prop_map(
        |(group, version, documents, removals, partial)| Changes {
            group,
            version,
            documents,
            removals,
            partial,
        },
    )
}

fn query_result() -> impl Strategy<Value = QueryResult> {
    let rest = (vec(document_path(), 0..3), any::<bool>(), option::of(explanation()));
    (any::<u32>(), version(), documents(), rest).prop_map(
        |(request, version, documents, (missing, more, explanation))| QueryResult {
            request,
            version,
            documents,
            missing,
            more,
            explanation,
        },
    )
}

fn index_definition() -> impl Strategy<Value = IndexDefinition> {
    let mode = prop::sample::select(vec![
        IndexMode::Ascending,
        IndexMode::Descending,
        IndexMode::Contains,
    ]);
    let fields =
        vec((field_path(), mode).prop_map(|(field, mode)| IndexField { field, mode }), 0..3);
    (text(), any::<bool>(), fields).prop_map(|(collection_id, group, fields)| IndexDefinition {
        collection_id,
        scope: if group { IndexScope::Group } else { IndexScope::Collection },
        fields,
    })
}

fn explanation() -> impl Strategy<Value = Explanation> {
    let counts = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
    (vec(text(), 0..3), counts, vec(text(), 0..2), option::of(index_definition())).prop_map(
        |(steps, (entries_scanned, documents_read, results, micros), indexes, suggestion)| {
            Explanation {
                steps,
                entries_scanned,
                documents_read,
                results,
                time: Duration::from_micros(micros.into()),
                indexes,
                suggestion,
            }
        },
    )
}

fn aggregate_result() -> impl Strategy<Value = AggregateResult> {
    (any::<u32>(), version(), vec(value(), 0..3), option::of(explanation())).prop_map(
        |(request, version, values, explanation)| AggregateResult {
            request,
            version,
            values,
            explanation,
        },
    )
}

fn aggregated() -> impl Strategy<Value = Aggregated> {
    (any::<u32>(), version(), vec(value(), 0..3), any::<bool>()).prop_map(
        |(group, version, values, partial)| Aggregated { group, version, values, partial },
    )
}

pub(crate) fn server_message() -> impl Strategy<Value = ServerMessage> {
    let results = vec(
        (vec(value(), 0..3), superseded()).prop_map(|(transform_results, superseded)| {
            WriteResult { transform_results, superseded }
        }),
        0..3,
    );
    prop_oneof![
        welcome().prop_map(ServerMessage::Welcome),
        (target_id(), any::<u32>(), version()).prop_map(|(target, group, version)| {
            ServerMessage::Listening { target, group, version }
        }),
        (target_id(), text()).prop_map(|(target, reason)| ServerMessage::Reset { target, reason }),
        (target_id(), text()).prop_map(|(target, reason)| ServerMessage::Stale { target, reason }),
        digest_result().prop_map(ServerMessage::DigestResult),
        changes().prop_map(ServerMessage::Changes),
        version().prop_map(|version| ServerMessage::Current { version }),
        (target_id(), status())
            .prop_map(|(target, status)| ServerMessage::TargetError { target, status }),
        (write_id(), version(), results).prop_map(|(write_id, version, results)| {
            ServerMessage::Committed { write_id, version, results }
        }),
        (write_id(), status())
            .prop_map(|(write_id, status)| ServerMessage::Rejected { write_id, status }),
        query_result().prop_map(ServerMessage::Result),
        aggregate_result().prop_map(ServerMessage::AggregateResult),
        aggregated().prop_map(ServerMessage::Aggregated),
        (any::<u32>(), status())
            .prop_map(|(request, status)| ServerMessage::RequestError { request, status }),
        (any::<u64>(), timestamp())
            .prop_map(|(nonce, server_time)| ServerMessage::Pong { nonce, server_time }),
        status().prop_map(|status| ServerMessage::Error { status }),
        (status(), option::of(any::<u32>())).prop_map(|(status, after)| ServerMessage::GoAway {
            status,
            reconnect_after: after.map(|after| Duration::from_millis(after.into())),
        }),
    ]
}
