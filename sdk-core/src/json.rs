//! Values as JSON, for the command line and for tools. The plain form is for people: timestamps in
//! RFC 3339, bytes in base64. The typed form keeps every kind: `{"$timestamp": "…"}`, `{"$bytes": "…"}`,
//! `{"$reference": "…"}`, `{"$geo": [latitude, longitude]}`, `{"$vector": […]}`, `{"$double": "NaN"}`,
//! and `{"$map": {…}}` around a map that looks like one of these. Reading takes both. Pure.

use serde_json::{Map, Number, Value as Json};
use tidemark_protocol::model::{DocumentPath, Fields, GeoPoint, Timestamp, Value};

use crate::convert::Bytes;
use crate::error::Error;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Typed,
}

/// A value in the plain form.
pub fn to_json(value: &Value) -> Json {
    write(value, Form::Plain)
}

/// A value in the typed form: [`from_json`] gives it back exactly.
pub fn to_typed_json(value: &Value) -> Json {
    write(value, Form::Typed)
}

/// Fields in the plain form.
pub fn fields_to_json(fields: &Fields) -> Json {
    write_fields(fields, Form::Plain)
}

/// Fields in the typed form: [`fields_from_json`] gives them back exactly.
pub fn fields_to_typed_json(fields: &Fields) -> Json {
    write_fields(fields, Form::Typed)
}

fn tagged(tag: &str, value: impl Into<Json>) -> Json {
    Json::Object(Map::from_iter([(tag.to_owned(), value.into())]))
}

fn write_fields(fields: &Fields, form: Form) -> Json {
    let field = |(name, value): (&String, &Value)| (name.clone(), write(value, form));
    Json::Object(fields.iter().map(field).collect())
}

fn write(value: &Value, form: Form) -> Json {
    let typed = form == Form::Typed;
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Double(value) => write_double(*value, form),
        Value::Timestamp(value) if typed => tagged("$timestamp", value.to_string()),
        Value::Timestamp(value) => Json::from(value.to_string()),
        Value::String(value) => Json::from(value.as_str()),
        Value::Bytes(value) if typed => tagged("$bytes", Bytes::to_base64(value)),
        Value::Bytes(value) => Json::from(Bytes::to_base64(value)),
        Value::Reference(value) if typed => tagged("$reference", value.as_str()),
        Value::Reference(value) => Json::from(value.as_str()),
        Value::GeoPoint(value) => {
            let (latitude, longitude) = (value.latitude(), value.longitude());
            if typed {
                tagged("$geo", vec![latitude, longitude])
            } else {
                serde_json::json!({"latitude": latitude, "longitude": longitude})
            }
        }
        Value::Array(values) => {
            Json::Array(values.iter().map(|value| write(value, form)).collect())
        }
        Value::Vector(values) => {
            let list = values.iter().map(|value| write_double(*value, form)).collect::<Vec<_>>();
            if typed { tagged("$vector", list) } else { Json::Array(list) }
        }
        Value::Map(fields) if typed && looks_tagged(fields) => {
            tagged("$map", write_fields(fields, form))
        }
        Value::Map(fields) => write_fields(fields, form),
    }
}

fn looks_tagged(fields: &Fields) -> bool {
    fields.len() == 1 && fields.keys().all(|key| key.starts_with('$'))
}

fn write_double(value: f64, form: Form) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        // JSON has no such numbers.
        None if form == Form::Plain && value.is_nan() => Json::Null,
        None => tagged("$double", value.to_string()),
    }
}

/// Reads a value in either form. An integer of JSON is an integer, a number with a fraction or an
/// exponent a double. `invalid-argument` when a tag is unknown or does not fit its content.
pub fn from_json(json: &Json) -> Result<Value, Error> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => read_number(number)?,
        Json::String(value) => Value::String(value.clone()),
        Json::Array(values) => {
            Value::Array(values.iter().map(from_json).collect::<Result<_, _>>()?)
        }
        Json::Object(object) => match object.iter().next() {
            Some((tag, content)) if object.len() == 1 && tag.starts_with('$') => {
                read_tagged(tag, content)?
            }
            _ => Value::Map(read_object(object)?),
        },
    })
}

/// Reads the fields of a document: a JSON object.
pub fn fields_from_json(json: &Json) -> Result<Fields, Error> {
    match json {
        Json::Object(object) => read_object(object),
        other => Err(Error::invalid(format!("a document is a JSON object, not {other}"))),
    }
}

fn read_object(object: &Map<String, Json>) -> Result<Fields, Error> {
    object.iter().map(|(name, value)| Ok((name.clone(), from_json(value)?))).collect()
}

fn read_number(number: &Number) -> Result<Value, Error> {
    if let Some(integer) = number.as_i64() {
        return Ok(Value::Integer(integer));
    }
    match number.as_f64() {
        Some(double) if !number.is_u64() => Ok(Value::Double(double)),
        Some(_) | None => {
            Err(Error::invalid(format!("{number} does not fit into 64 bits, signed")))
        }
    }
}

fn read_tagged(tag: &str, content: &Json) -> Result<Value, Error> {
    let misfit = || Error::invalid(format!("{content} is not the content of {tag}"));
    let text = || content.as_str().ok_or_else(misfit);
    Ok(match tag {
        "$timestamp" => Value::Timestamp(Timestamp::parse(text()?)?),
        "$bytes" => Value::Bytes(Bytes::from_base64(text()?)?),
        "$reference" => Value::Reference(DocumentPath::parse(text()?)?),
        "$double" => Value::Double(read_double(content).ok_or_else(misfit)?),
        "$geo" => {
            let [latitude, longitude] = read_doubles(content).ok_or_else(misfit)?[..] else {
                return Err(misfit());
            };
            Value::GeoPoint(GeoPoint::new(latitude, longitude)?)
        }
        "$vector" => Value::Vector(read_doubles(content).ok_or_else(misfit)?),
        "$map" => Value::Map(read_object(content.as_object().ok_or_else(misfit)?)?),
        _ => {
            return Err(Error::invalid(format!(
                "{tag} is no kind of value; write a map with {{\"$map\": …}}"
            )));
        }
    })
}

fn read_doubles(json: &Json) -> Option<Vec<f64>> {
    json.as_array()?.iter().map(read_double).collect()
}

fn read_double(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.parse().ok(),
        Json::Object(object) if object.len() == 1 => object.get("$double").and_then(read_double),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn everything() -> Value {
        let map = |entries: Vec<(&str, Value)>| {
            Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        map(vec![
            ("null", Value::Null),
            ("flag", Value::Boolean(true)),
            ("integer", Value::Integer(i64::MIN)),
            ("doubles", Value::Array([1.0, -0.0, 1e300, 0.1].map(Value::Double).to_vec())),
            (
                "odd",
                Value::Array(
                    [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Value::Double).to_vec(),
                ),
            ),
            ("at", Value::Timestamp(Timestamp::from_micros(-1).unwrap())),
            ("blob", Value::Bytes(bytes::Bytes::from_static(&[1, 2, 255]))),
            ("link", Value::Reference(DocumentPath::parse("a/b").unwrap())),
            ("place", Value::GeoPoint(GeoPoint::new(1.5, -2.0).unwrap())),
            ("vector", Value::Vector(vec![1.0, f64::NAN])),
            ("$odd", Value::Integer(1)),
            ("tagged", map(vec![("$bytes", map(vec![("$map", Value::Integer(2))]))])),
        ])
    }

    #[test]
    fn the_typed_form_round_trips() {
        let json = to_typed_json(&everything());
        assert_eq!(json["at"], json!({"$timestamp": "1969-12-31T23:59:59.999999Z"}));
        assert_eq!(json["odd"][0], json!({"$double": "NaN"}));
        let text = serde_json::to_string(&json).unwrap();
        let read = from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(read, everything());
    }

    #[test]
    fn the_plain_form_is_for_people() {
        let json = to_json(&everything());
        assert_eq!(json["at"], "1969-12-31T23:59:59.999999Z");
        assert_eq!(json["blob"], "AQL/");
        assert_eq!(json["link"], "a/b");
        assert_eq!(json["place"], json!({"latitude": 1.5, "longitude": -2.0}));
        assert_eq!(json["odd"][0], Json::Null);
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(from_json(&json!(3)).unwrap(), Value::Integer(3));
        assert_eq!(from_json(&json!(3.0)).unwrap(), Value::Double(3.0));
        assert!(from_json(&json!(u64::MAX)).is_err());
    }

    #[test]
    fn wrong_tags_are_refused() {
        for wrong in [
            json!({"$timestamp": 3}),
            json!({"$timestamp": "yesterday"}),
            json!({"$bytes": "%"}),
            json!({"$reference": "a"}),
            json!({"$geo": [1]}),
            json!({"$geo": [91, 0]}),
            json!({"$vector": ["x"]}),
            json!({"$unknown": 1}),
        ] {
            assert!(from_json(&wrong).is_err(), "{wrong} is accepted");
        }
        assert!(fields_from_json(&json!([1])).is_err());
    }
}
