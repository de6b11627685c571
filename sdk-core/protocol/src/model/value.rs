//! Values, with Firestore's total order and equality.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::ModelError;
use super::number::{compare_doubles, compare_integer_double, identical_doubles};
use super::path::DocumentPath;
use super::timestamp::Timestamp;

/// A place on earth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoPoint {
    latitude: f64,
    longitude: f64,
}

impl GeoPoint {
    /// In degrees: latitude -90 to 90, longitude -180 to 180.
    pub fn new(latitude: f64, longitude: f64) -> Result<GeoPoint, ModelError> {
        if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
            return Err(ModelError::invalid(format!(
                "the place {latitude}, {longitude} is not on earth: latitudes are -90 to 90, longitudes -180 to 180"
            )));
        }
        // Adding 0.0 turns -0.0, which is the same place, into 0.0.
        Ok(GeoPoint { latitude: latitude + 0.0, longitude: longitude + 0.0 })
    }

    /// Degrees north.
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east.
    pub fn longitude(self) -> f64 {
        self.longitude
    }

    fn compare(self, other: GeoPoint) -> Ordering {
        compare_doubles(self.latitude, other.latitude)
            .then_with(|| compare_doubles(self.longitude, other.longitude))
    }
}

/// What a field holds. `PartialEq` is strict (an integer is not a double, 0.0 is not -0.0, NaN is
/// NaN): it tells whether a document changed. Queries use [`Value::compare`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Timestamp(Timestamp),
    String(String),
    Bytes(Bytes),
    Reference(DocumentPath),
    GeoPoint(GeoPoint),
    Array(Vec<Value>),
    Vector(Vec<f64>),
    Map(BTreeMap<String, Value>),
}

/// The order of types; filters compare only within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum TypeOrder {
    Null,
    Boolean,
    Number,
    Timestamp,
    String,
    Bytes,
    Reference,
    GeoPoint,
    Array,
    Vector,
    Map,
}

impl Value {
    /// Firestore's total order across all types: 1 equals 1.0, -0.0 equals 0.0, NaN is the least
    /// number and equals itself.
    pub fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
            (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
            (Value::Integer(a), Value::Double(b)) => compare_integer_double(*a, *b),
            (Value::Double(a), Value::Integer(b)) => compare_integer_double(*b, *a).reverse(),
            (Value::Double(a), Value::Double(b)) => compare_doubles(*a, *b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Reference(a), Value::Reference(b)) => a.cmp(b),
            (Value::GeoPoint(a), Value::GeoPoint(b)) => a.compare(*b),
            (Value::Array(a), Value::Array(b)) => compare_all(a, b, Value::compare),
            (Value::Vector(a), Value::Vector(b)) => a
                .len()
                .cmp(&b.len())
                .then_with(|| compare_all(a, b, |a, b| compare_doubles(*a, *b))),
            (Value::Map(a), Value::Map(b)) => compare_all(a, b, |(key_a, a), (key_b, b)| {
                key_a.as_bytes().cmp(key_b.as_bytes()).then_with(|| a.compare(b))
            }),
            _ => self.type_order().cmp(&other.type_order()),
        }
    }

    /// The type's place in the order.
    pub fn type_order(&self) -> TypeOrder {
        match self {
            Value::Null => TypeOrder::Null,
            Value::Boolean(_) => TypeOrder::Boolean,
            Value::Integer(_) | Value::Double(_) => TypeOrder::Number,
            Value::Timestamp(_) => TypeOrder::Timestamp,
            Value::String(_) => TypeOrder::String,
            Value::Bytes(_) => TypeOrder::Bytes,
            Value::Reference(_) => TypeOrder::Reference,
            Value::GeoPoint(_) => TypeOrder::GeoPoint,
            Value::Array(_) => TypeOrder::Array,
            Value::Vector(_) => TypeOrder::Vector,
            Value::Map(_) => TypeOrder::Map,
        }
    }

    /// Whether it is an integer or a double.
    pub fn is_number(&self) -> bool {
        self.type_order() == TypeOrder::Number
    }

    /// Whether `in`, `array-contains` and inequalities find nothing by it: null and NaN, which are
    /// equal to nothing there and neither below nor above anything.
    pub(super) fn equals_none(&self) -> bool {
        matches!(self, Value::Null) || self.is_nan()
    }

    /// Whether it is the double NaN.
    pub fn is_nan(&self) -> bool {
        matches!(self, Value::Double(double) if double.is_nan())
    }
}

/// Element by element, then by number of elements.
fn compare_all<T>(
    a: impl IntoIterator<Item = T>,
    b: impl IntoIterator<Item = T>,
    mut compare: impl FnMut(T, T) -> Ordering,
) -> Ordering {
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        match (a.next(), b.next()) {
            (Some(x), Some(y)) => match compare(x, y) {
                Ordering::Equal => {}
                decided @ (Ordering::Less | Ordering::Greater) => return decided,
            },
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Boolean(a), Value::Boolean(b)) => a == b,
            (Value::Integer(a), Value::Integer(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => identical_doubles(*a, *b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Reference(a), Value::Reference(b)) => a == b,
            (Value::GeoPoint(a), Value::GeoPoint(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Vector(a), Value::Vector(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| identical_doubles(*a, *b))
            }
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

// NaN equals itself here, so the relation is reflexive.
impl Eq for Value {}

macro_rules! from {
    ($($source:ty => $value:ident => $make:expr;)*) => {$(
        impl From<$source> for Value {
            fn from($value: $source) -> Value {
                $make
            }
        }
    )*};
}

from! {
    () => _unit => Value::Null;
    bool => value => Value::Boolean(value);
    i32 => value => Value::Integer(value.into());
    u32 => value => Value::Integer(value.into());
    i64 => value => Value::Integer(value);
    f32 => value => Value::Double(value.into());
    f64 => value => Value::Double(value);
    Timestamp => value => Value::Timestamp(value);
    String => value => Value::String(value);
    &str => value => Value::String(value.to_owned());
    Bytes => value => Value::Bytes(value);
    DocumentPath => value => Value::Reference(value);
    GeoPoint => value => Value::GeoPoint(value);
    BTreeMap<String, Value> => value => Value::Map(value);
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Value {
        Value::Array(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>, const N: usize> From<[(&str, T); N]> for Value {
    fn from(entries: [(&str, T); N]) -> Value {
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
    }
}
