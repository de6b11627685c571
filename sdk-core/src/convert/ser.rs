//! serde types to values.

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct,
    SerializeStructVariant, SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    Serializer,
};
use tidemark_protocol::model::{DocumentPath, Fields, GeoPoint, Timestamp, Value};

use super::ConvertError;
use super::types::{BYTES, Bytes, GEO_POINT, REFERENCE, TIMESTAMP, VECTOR};

type Result<T> = std::result::Result<T, ConvertError>;

pub(super) struct ValueSerializer;

/// Gives the text inside a newtype of ours back its kind.
fn named(name: &str, inside: Value) -> Result<Value> {
    let value = match (name, inside) {
        (TIMESTAMP, Value::String(text)) => {
            Value::Timestamp(Timestamp::parse(&text).map_err(ConvertError::custom)?)
        }
        (REFERENCE, Value::String(text)) => {
            Value::Reference(DocumentPath::parse(&text).map_err(ConvertError::custom)?)
        }
        (BYTES, Value::String(text)) => {
            Value::Bytes(Bytes::from_base64(&text).map_err(ConvertError::custom)?)
        }
        (GEO_POINT, Value::Map(fields)) => geo_point(&fields)?,
        (VECTOR, Value::Array(values)) => {
            let number = |value| match value {
                Value::Double(number) => Ok(number),
                _ => Err(ConvertError::custom("a vector holds doubles")),
            };
            Value::Vector(values.into_iter().map(number).collect::<Result<_>>()?)
        }
        (_, inside) => inside,
    };
    Ok(value)
}

fn geo_point(fields: &Fields) -> Result<Value> {
    match (fields.get("latitude"), fields.get("longitude")) {
        (Some(Value::Double(latitude)), Some(Value::Double(longitude))) => {
            let point = GeoPoint::new(*latitude, *longitude).map_err(ConvertError::custom)?;
            Ok(Value::GeoPoint(point))
        }
        _ => Err(ConvertError::custom("a place has a latitude and a longitude")),
    }
}

fn integer<T: TryInto<i64> + Copy + std::fmt::Display>(number: T) -> Result<Value> {
    let integer = number
        .try_into()
        .map_err(|_| ConvertError::custom(format!("{number} does not fit into 64 bits, signed")))?;
    Ok(Value::Integer(integer))
}

impl Serializer for ValueSerializer {
    type Ok = Value;
    type Error = ConvertError;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Map;
    type SerializeStruct = Map;
    type SerializeStructVariant = Map;

    fn serialize_bool(self, value: bool) -> Result<Value> {
        Ok(Value::Boolean(value))
    }
    fn serialize_i8(self, value: i8) -> Result<Value> {
        integer(value)
    }
    fn serialize_i16(self, value: i16) -> Result<Value> {
        integer(value)
    }
    fn serialize_i32(self, value: i32) -> Result<Value> {
        integer(value)
    }
    fn serialize_i64(self, value: i64) -> Result<Value> {
        integer(value)
    }
    fn serialize_i128(self, value: i128) -> Result<Value> {
        integer(value)
    }
    fn serialize_u8(self, value: u8) -> Result<Value> {
        integer(value)
    }
    fn serialize_u16(self, value: u16) -> Result<Value> {
        integer(value)
    }
    fn serialize_u32(self, value: u32) -> Result<Value> {
        integer(value)
    }
    fn serialize_u64(self, value: u64) -> Result<Value> {
        integer(value)
    }
    fn serialize_u128(self, value: u128) -> Result<Value> {
        integer(value)
    }
    fn serialize_f32(self, value: f32) -> Result<Value> {
        Ok(Value::Double(f64::from(value)))
    }
    fn serialize_f64(self, value: f64) -> Result<Value> {
        Ok(Value::Double(value))
    }
    fn serialize_char(self, value: char) -> Result<Value> {
        Ok(Value::String(value.to_string()))
    }
    fn serialize_str(self, value: &str) -> Result<Value> {
        Ok(Value::String(value.to_owned()))
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Value> {
        Ok(Value::Bytes(bytes::Bytes::copy_from_slice(value)))
    }
    fn serialize_none(self) -> Result<Value> {
        Ok(Value::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value> {
        Ok(Value::Null)
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value> {
        Ok(Value::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value> {
        Ok(Value::String(variant.to_owned()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value> {
        named(name, value.serialize(self)?)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value> {
        Ok(tagged(Some(variant), value.serialize(self)?))
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<List> {
        Ok(List { variant: None, values: Vec::with_capacity(length.unwrap_or_default()) })
    }
    fn serialize_tuple(self, length: usize) -> Result<List> {
        self.serialize_seq(Some(length))
    }
    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<List> {
        self.serialize_seq(Some(length))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<List> {
        Ok(List { variant: Some(variant), values: Vec::with_capacity(length) })
    }
    fn serialize_map(self, _length: Option<usize>) -> Result<Map> {
        Ok(Map::new(None))
    }
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Map> {
        Ok(Map::new(None))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Map> {
        Ok(Map::new(Some(variant)))
    }
}

fn tagged(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Map(Fields::from([(variant.to_owned(), value)])),
        None => value,
    }
}

pub(super) struct List {
    variant: Option<&'static str>,
    values: Vec<Value>,
}

impl List {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.values.push(value.serialize(ValueSerializer)?);
        Ok(())
    }

    fn finish(self) -> Result<Value> {
        Ok(tagged(self.variant, Value::Array(self.values)))
    }
}

impl SerializeSeq for List {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

impl SerializeTuple for List {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

impl SerializeTupleStruct for List {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

impl SerializeTupleVariant for List {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

pub(super) struct Map {
    variant: Option<&'static str>,
    fields: Fields,
    /// Set by a key, taken by its value.
    key: String,
}

impl Map {
    fn new(variant: Option<&'static str>) -> Map {
        Map { variant, fields: Fields::new(), key: String::new() }
    }

    fn put<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<()> {
        self.fields.insert(key, value.serialize(ValueSerializer)?);
        Ok(())
    }

    fn finish(self) -> Result<Value> {
        Ok(tagged(self.variant, Value::Map(self.fields)))
    }
}

impl SerializeMap for Map {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = key.serialize(KeySerializer)?;
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let key = std::mem::take(&mut self.key);
        self.put(key, value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

impl SerializeStruct for Map {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<()> {
        self.put(key.to_owned(), value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

impl SerializeStructVariant for Map {
    type Ok = Value;
    type Error = ConvertError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<()> {
        self.put(key.to_owned(), value)
    }
    fn end(self) -> Result<Value> {
        self.finish()
    }
}

/// Keys are text; numbers and booleans become it, as in JSON.
struct KeySerializer;

type None = Impossible<String, ConvertError>;

fn no_key<T>(what: &str) -> Result<T> {
    Err(ConvertError::custom(format!("{what} cannot be the key of a map")))
}

impl Serializer for KeySerializer {
    type Ok = String;
    type Error = ConvertError;
    type SerializeSeq = None;
    type SerializeTuple = None;
    type SerializeTupleStruct = None;
    type SerializeTupleVariant = None;
    type SerializeMap = None;
    type SerializeStruct = None;
    type SerializeStructVariant = None;

    fn serialize_bool(self, value: bool) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_i8(self, value: i8) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_i16(self, value: i16) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_i32(self, value: i32) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_i64(self, value: i64) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_u8(self, value: u8) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_u16(self, value: u16) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_u32(self, value: u32) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_u64(self, value: u64) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_f32(self, _: f32) -> Result<String> {
        no_key("a number with a fraction")
    }
    fn serialize_f64(self, _: f64) -> Result<String> {
        no_key("a number with a fraction")
    }
    fn serialize_char(self, value: char) -> Result<String> {
        Ok(value.to_string())
    }
    fn serialize_str(self, value: &str) -> Result<String> {
        Ok(value.to_owned())
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<String> {
        no_key("a run of bytes")
    }
    fn serialize_none(self) -> Result<String> {
        no_key("nothing")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<String> {
        no_key("nothing")
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<String> {
        no_key("nothing")
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String> {
        Ok(variant.to_owned())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String> {
        no_key("a variant with content")
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<None> {
        no_key("a list")
    }
    fn serialize_tuple(self, _: usize) -> Result<None> {
        no_key("a list")
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<None> {
        no_key("a list")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<None> {
        no_key("a list")
    }
    fn serialize_map(self, _: Option<usize>) -> Result<None> {
        no_key("a map")
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<None> {
        no_key("a struct")
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<None> {
        no_key("a struct")
    }
}
