//! The kinds of value that serde does not know, as types of the app. Between values they keep their
//! kind by the name of their newtype; other formats see what is inside.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemark_protocol::model::{self, DocumentPath, ModelError, Value, Version};

use crate::error::Error;

pub(super) const TIMESTAMP: &str = "$tidemark::Timestamp";
pub(super) const GEO_POINT: &str = "$tidemark::GeoPoint";
pub(super) const REFERENCE: &str = "$tidemark::Reference";
pub(super) const BYTES: &str = "$tidemark::Bytes";
pub(super) const VECTOR: &str = "$tidemark::Vector";

/// A moment, to the microsecond. Other formats see it in RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(model::Timestamp);

impl Timestamp {
    /// From microseconds since the Unix epoch; years 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Timestamp, Error> {
        Ok(Timestamp(model::Timestamp::from_micros(micros)?))
    }

    /// Microseconds since the Unix epoch.
    pub fn as_micros(self) -> i64 {
        self.0.as_micros()
    }
}

impl From<model::Timestamp> for Timestamp {
    fn from(timestamp: model::Timestamp) -> Timestamp {
        Timestamp(timestamp)
    }
}

impl From<Version> for Timestamp {
    fn from(version: Version) -> Timestamp {
        Timestamp(version.into())
    }
}

impl From<Timestamp> for model::Timestamp {
    fn from(timestamp: Timestamp) -> model::Timestamp {
        timestamp.0
    }
}

impl From<Timestamp> for Value {
    fn from(timestamp: Timestamp) -> Value {
        Value::Timestamp(timestamp.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Timestamp, Error> {
        Ok(Timestamp(model::Timestamp::parse(text)?))
    }
}

/// A place on earth, in degrees. Other formats see a map of `latitude` and `longitude`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoPoint(model::GeoPoint);

impl GeoPoint {
    /// A latitude from -90 to 90, a longitude from -180 to 180.
    pub fn new(latitude: f64, longitude: f64) -> Result<GeoPoint, Error> {
        Ok(GeoPoint(model::GeoPoint::new(latitude, longitude)?))
    }

    /// Degrees north.
    pub fn latitude(self) -> f64 {
        self.0.latitude()
    }

    /// Degrees east.
    pub fn longitude(self) -> f64 {
        self.0.longitude()
    }
}

impl From<model::GeoPoint> for GeoPoint {
    fn from(point: model::GeoPoint) -> GeoPoint {
        GeoPoint(point)
    }
}

impl From<GeoPoint> for model::GeoPoint {
    fn from(point: GeoPoint) -> model::GeoPoint {
        point.0
    }
}

impl From<GeoPoint> for Value {
    fn from(point: GeoPoint) -> Value {
        Value::GeoPoint(point.0)
    }
}

/// A link to a document. Other formats see its path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference(DocumentPath);

impl Reference {
    /// From a path: "rooms/a".
    pub fn parse(path: &str) -> Result<Reference, Error> {
        Ok(Reference(DocumentPath::parse(path)?))
    }

    /// The path.
    pub fn path(&self) -> &DocumentPath {
        &self.0
    }
}

impl From<DocumentPath> for Reference {
    fn from(path: DocumentPath) -> Reference {
        Reference(path)
    }
}

impl From<Reference> for DocumentPath {
    fn from(reference: Reference) -> DocumentPath {
        reference.0
    }
}

impl From<Reference> for Value {
    fn from(reference: Reference) -> Value {
        Value::Reference(reference.0)
    }
}

/// Bytes. Other formats see them in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(bytes::Bytes);

impl Bytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn to_base64(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub(crate) fn from_base64(text: &str) -> Result<bytes::Bytes, ModelError> {
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| ModelError::invalid(format!("bytes are given in base64: {error}")))?;
        Ok(bytes.into())
    }
}

impl<T: Into<bytes::Bytes>> From<T> for Bytes {
    fn from(bytes: T) -> Bytes {
        Bytes(bytes.into())
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Value {
        Value::Bytes(bytes.0)
    }
}

/// A vector of numbers. Other formats see a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector(Vec<f64>);

impl Vector {
    /// The numbers.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

impl From<Vec<f64>> for Vector {
    fn from(numbers: Vec<f64>) -> Vector {
        Vector(numbers)
    }
}

impl From<Vector> for Value {
    fn from(vector: Vector) -> Value {
        Value::Vector(vector.0)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Degrees {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(TIMESTAMP, &self.0.to_string())
    }
}

impl Serialize for GeoPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let degrees = Degrees { latitude: self.latitude(), longitude: self.longitude() };
        serializer.serialize_newtype_struct(GEO_POINT, &degrees)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(REFERENCE, self.0.as_str())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(BYTES, &Bytes::to_base64(&self.0))
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(VECTOR, &self.0)
    }
}

/// Reads what is inside a newtype, as a `T`.
struct Inside<T> {
    expected: &'static str,
    inside: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Inside<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

fn inside<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    name: &'static str,
    expected: &'static str,
) -> Result<T, D::Error> {
    let inside = std::marker::PhantomData;
    deserializer.deserialize_newtype_struct(name, Inside { expected, inside })
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text: String = inside(deserializer, TIMESTAMP, "a timestamp in RFC 3339")?;
        text.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for GeoPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GeoPoint, D::Error> {
        let degrees: Degrees = inside(deserializer, GEO_POINT, "a latitude and a longitude")?;
        GeoPoint::new(degrees.latitude, degrees.longitude).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text: String = inside(deserializer, REFERENCE, "the path of a document")?;
        Reference::parse(&text).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text: String = inside(deserializer, BYTES, "bytes in base64")?;
        Bytes::from_base64(&text).map(Bytes).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Vector, D::Error> {
        inside(deserializer, VECTOR, "a list of numbers").map(Vector)
    }
}
