//! Between the app's serde types and values. Kinds of value that serde does not know travel as
//! newtypes with names of their own: [`Timestamp`], [`GeoPoint`], [`Reference`], [`Bytes`],
//! [`Vector`]; other formats see them as text, maps and lists. Pure.

mod de;
mod ser;
mod types;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark_protocol::model::{Fields, Value};

pub use types::{Bytes, GeoPoint, Reference, Timestamp, Vector};

use crate::error::Error;

/// Turns a serde type into a value. `invalid-argument` when there is none for it: an integer beyond 64
/// bits, a map key that is no text.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, Error> {
    Ok(value.serialize(ser::ValueSerializer)?)
}

/// Turns a struct or a map into the fields of a document.
pub fn to_fields<T: Serialize + ?Sized>(value: &T) -> Result<Fields, Error> {
    match to_value(value)? {
        Value::Map(fields) => Ok(fields),
        other => Err(Error::invalid(format!(
            "a document is made of a struct or a map, not of {}",
            de::kind(&other)
        ))),
    }
}

/// Turns a value into a serde type. `invalid-argument` when it does not fit.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    Ok(T::deserialize(de::ValueDeserializer(value))?)
}

/// Turns the fields of a document into a struct or a map.
pub fn from_fields<T: DeserializeOwned>(fields: &Fields) -> Result<T, Error> {
    Ok(T::deserialize(de::FieldsDeserializer(fields))?)
}

/// What serde reports, to become an [`Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ConvertError(String);

impl serde::ser::Error for ConvertError {
    fn custom<T: std::fmt::Display>(message: T) -> ConvertError {
        ConvertError(message.to_string())
    }
}

impl serde::de::Error for ConvertError {
    fn custom<T: std::fmt::Display>(message: T) -> ConvertError {
        ConvertError(message.to_string())
    }
}

impl From<ConvertError> for Error {
    fn from(error: ConvertError) -> Error {
        Error::invalid(error.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use tidemark_protocol::model::{DocumentPath, Value};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Box { width: i32, height: i32 },
        Line(i8, i8),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        flag: bool,
        small: i8,
        large: u64,
        real: f32,
        text: String,
        letter: char,
        absent: Option<i32>,
        present: Option<String>,
        list: Vec<Option<u16>>,
        pair: (i64, String),
        map: BTreeMap<String, f64>,
        keyed: BTreeMap<u32, bool>,
        shapes: Vec<Shape>,
        at: Timestamp,
        place: GeoPoint,
        link: Reference,
        blob: Bytes,
        vector: Vector,
        nothing: (),
    }

    fn everything() -> Everything {
        Everything {
            flag: true,
            small: -8,
            large: i64::MAX as u64,
            real: 0.5,
            text: "Łódź".to_owned(),
            letter: 'é',
            absent: None,
            present: Some("here".to_owned()),
            list: vec![Some(1), None, Some(3)],
            pair: (9, "nine".to_owned()),
            map: BTreeMap::from([("a".to_owned(), -0.0)]),
            keyed: BTreeMap::from([(7, true)]),
            shapes: vec![
                Shape::Point,
                Shape::Circle(2.5),
                Shape::Box { width: 1, height: 2 },
                Shape::Line(3, 4),
            ],
            at: Timestamp::from_micros(1_700_000_000_123_456).unwrap(),
            place: GeoPoint::new(52.5, 13.25).unwrap(),
            link: Reference::parse("rooms/a").unwrap(),
            blob: Bytes::from(vec![0, 255, 7]),
            vector: Vector::from(vec![1.0, -2.0]),
            nothing: (),
        }
    }

    #[test]
    fn everything_survives_a_round_trip() {
        let fields = to_fields(&everything()).unwrap();
        assert_eq!(fields["at"], Value::Timestamp(everything().at.into()));
        assert_eq!(fields["link"], Value::Reference(DocumentPath::parse("rooms/a").unwrap()));
        assert!(matches!(fields["place"], Value::GeoPoint(_)));
        assert!(matches!(fields["vector"], Value::Vector(_)));
        assert_eq!(fields["blob"], Value::Bytes(bytes::Bytes::from_static(&[0, 255, 7])));
        assert_eq!(fields["absent"], Value::Null);
        assert_eq!(from_fields::<Everything>(&fields).unwrap(), everything());
    }

    #[test]
    fn the_same_types_are_plain_in_other_formats() {
        let text = serde_json::to_value(everything()).unwrap();
        assert_eq!(text["at"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(text["link"], "rooms/a");
        assert_eq!(text["blob"], "AP8H");
        assert_eq!(text["place"], serde_json::json!({"latitude": 52.5, "longitude": 13.25}));
        assert_eq!(serde_json::from_value::<Everything>(text).unwrap(), everything());
    }

    #[test]
    fn values_read_as_plain_types_too() {
        let fields = to_fields(&everything()).unwrap();
        let text: BTreeMap<String, serde_json::Value> = from_fields(&fields).unwrap();
        assert_eq!(text["at"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(text["link"], "rooms/a");
        assert_eq!(from_value::<f64>(&Value::Integer(3)).unwrap(), 3.0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(to_value(&u64::MAX).is_err());
        assert!(to_fields(&3).is_err());
        assert!(from_value::<u8>(&Value::Integer(256)).is_err());
        assert!(from_value::<String>(&Value::Integer(1)).is_err());
        let error = from_value::<Everything>(&Value::Map(BTreeMap::new())).unwrap_err();
        assert!(error.message().contains("flag"), "{error}");
    }
}
