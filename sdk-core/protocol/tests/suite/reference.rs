//! Values and documents by way of the generated code: what the hand-written codec is held against.

use tidemark_protocol::model::{
    Document, DocumentPath, Fields, GeoPoint, Timestamp, Value, Version,
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
    }
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
    })
}
