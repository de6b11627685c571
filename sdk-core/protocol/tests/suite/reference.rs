//! Values and documents by way of the generated code: what the hand-written codec is held against.

use tidemark_protocol::model::{
    Clocks, Collaborative, CollaborativeKind, Document, DocumentPath, EditTime, FieldPath, Fields,
    GeoPoint, MergeState, Timestamp, Value, Version,
};
use tidemark_protocol::wire::proto;
use tidemark_protocol::wire::proto::value::Kind;

pub(crate) fn value(value: &Value) -> proto::Value {
    let kind = match value {
        Value::Null => Kind::Null(true),
        Value::Boolean(value) => Kind::Boolean(*value),
        Value::Integer(value) => Kind::Integer(*value),
        Value::Double(value) => Kind::Double(*value),
        Value::Timestamp(value) => Kind::Timestamp(value.as_micros()),
        Value::String(value) => Kind::String(value.clone()),
        Value::Bytes(value) => Kind::Bytes(value.clone()),
        Value::Reference(value) => Kind::Reference(value.to_string()),
        Value::GeoPoint(value) => Kind::GeoPoint(proto::GeoPoint {
            latitude: value.latitude(),
            longitude: value.longitude(),
        }),
        Value::Array(values) => Kind::Array(array(values)),
        Value::Vector(values) => Kind::Vector(proto::VectorValue { values: values.clone() }),
        Value::Map(fields) => Kind::Map(map(fields)),
    };
    proto::Value { kind: Some(kind) }
}

pub(crate) fn array(values: &[Value]) -> proto::ArrayValue {
    proto::ArrayValue { values: values.iter().map(value).collect() }
}

pub(crate) fn map(fields: &Fields) -> proto::MapValue {
    let fields = fields.iter().map(|(name, field)| (name.clone(), value(field))).collect();
    proto::MapValue { fields }
}

pub(crate) fn document(document: &Document) -> proto::Document {
    proto::Document {
        path: document.path.to_string(),
        create_version: document.create_version.0,
        update_version: document.update_version.0,
        fields: map(&document.fields).fields,
        clocks: document.merge.clocks.as_deref().map(clocks),
        collaborative: document.merge.collaborative.as_deref().map(collaborative),
    }
}

fn clocks(clocks: &Clocks) -> proto::Clocks {
    let fields = clocks.fields.iter();
    let fields =
        fields.map(|(field, time)| proto::FieldClock { field: field.to_string(), time: time.0 });
    proto::Clocks { base: clocks.base.0, fields: fields.collect() }
}

fn collaborative(collaborative: &Collaborative) -> proto::Collaborative {
    let field = |(name, kind): (&String, &CollaborativeKind)| {
        let kind = match kind {
            CollaborativeKind::Text => proto::CollaborativeKind::Text,
            CollaborativeKind::List => proto::CollaborativeKind::List,
            CollaborativeKind::Map => proto::CollaborativeKind::Map,
            CollaborativeKind::Counter => proto::CollaborativeKind::Counter,
        };
        proto::CollaborativeField { name: name.clone(), kind: kind.into() }
    };
    let fields = collaborative.fields.iter().map(field).collect();
    proto::Collaborative { epoch: collaborative.epoch.0, fields }
}

/// None where the model refuses.
pub(crate) fn value_back(value: proto::Value) -> Option<Value> {
    Some(match value.kind? {
        Kind::Null(_) => Value::Null,
        Kind::Boolean(value) => Value::Boolean(value),
        Kind::Integer(value) => Value::Integer(value),
        Kind::Double(value) => Value::Double(value),
        Kind::Timestamp(value) => Value::Timestamp(Timestamp::from_micros(value).ok()?),
        Kind::String(value) => Value::String(value),
        Kind::Bytes(value) => Value::Bytes(value),
        Kind::Reference(value) => Value::Reference(DocumentPath::parse(&value).ok()?),
        Kind::GeoPoint(place) => {
            Value::GeoPoint(GeoPoint::new(place.latitude, place.longitude).ok()?)
        }
        Kind::Array(array) => {
            Value::Array(array.values.into_iter().map(value_back).collect::<Option<_>>()?)
        }
        Kind::Vector(vector) => Value::Vector(vector.values),
        Kind::Map(map) => Value::Map(fields_back(map.fields)?),
    })
}

fn fields_back(fields: std::collections::BTreeMap<String, proto::Value>) -> Option<Fields> {
    fields.into_iter().map(|(name, field)| Some((name, value_back(field)?))).collect()
}

pub(crate) fn document_back(document: proto::Document) -> Option<Document> {
    Some(Document {
        path: DocumentPath::parse(&document.path).ok()?,
        fields: fields_back(document.fields)?,
        create_version: Version(document.create_version),
        update_version: Version(document.update_version),
        merge: MergeState {
            clocks: match document.clocks {
                Some(clocks) => Some(Box::new(clocks_back(clocks)?)),
                None => None,
            },
            collaborative: match document.collaborative {
                Some(collaborative) => Some(Box::new(collaborative_back(collaborative)?)),
                None => None,
            },
        },
    })
}

fn clocks_back(clocks: proto::Clocks) -> Option<Clocks> {
    let field = |clock: proto::FieldClock| {
        Some((FieldPath::parse(&clock.field).ok()?, EditTime(clock.time)))
    };
    let fields = clocks.fields.into_iter().map(field).collect::<Option<_>>()?;
    Some(Clocks { base: EditTime(clocks.base), fields })
}

fn collaborative_back(collaborative: proto::Collaborative) -> Option<Collaborative> {
    let field = |field: proto::CollaborativeField| {
        let kind = match proto::CollaborativeKind::try_from(field.kind).ok()? {
            proto::CollaborativeKind::Unspecified => return None,
            proto::CollaborativeKind::Text => CollaborativeKind::Text,
            proto::CollaborativeKind::List => CollaborativeKind::List,
            proto::CollaborativeKind::Map => CollaborativeKind::Map,
            proto::CollaborativeKind::Counter => CollaborativeKind::Counter,
        };
        Some((field.name, kind))
    };
    let fields = collaborative.fields.into_iter().map(field).collect::<Option<_>>()?;
    Some(Collaborative { epoch: Version(collaborative.epoch), fields })
}
