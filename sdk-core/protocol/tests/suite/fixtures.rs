//! The recorded answers of the official Firestore emulator to thousands of queries, read into the
//! model: `tests/fixtures/queries/recorded.jsonl`, which `record.py` beside it writes and describes.
//! Other crates' tests include this file by its path and replay the same cases through their own way
//! to an answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value as Json;
use tidemark_protocol::model::*;

/// Before each document's path in a reference of `firestore.json`.
const PREFIX: &str = "projects/oracle/databases/(default)/documents/";

/// Some documents, and what was asked about them.
pub(crate) struct DataSet {
    /// In the order of their paths' text.
    pub(crate) documents: Vec<Document>,
    pub(crate) cases: Vec<Case>,
}

/// A question and its answer.
pub(crate) struct Case {
    /// What was meant to be tried: `filter`, `cursor`, `refused`, …
    pub(crate) kind: String,
    /// As recorded, for messages.
    pub(crate) json: Json,
    /// The question, unless it cannot even be put to the model.
    pub(crate) request: Result<Request, ModelError>,
    pub(crate) answer: Answer,
}

/// A question.
pub(crate) enum Request {
    Query(Query),
    Aggregate(AggregateQuery),
}

/// What the emulator answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Documents, by their places in the data set, in order.
    Found(Vec<usize>),
    /// Documents with their fields: of a query with a projection or distances.
    Fields(Vec<(usize, Fields)>),
    /// Values by alias.
    Values(BTreeMap<String, Value>),
    Refused(Code),
}

/// Why an answer of ours is not the emulator's. Each is explained in `docs/firestore-differences.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// `==` null or NaN as a comparison, not as the unary filter that clients send.
    ComparisonWithNull,
    /// Filters nested deeper than ours may be.
    FilterDepth,
    /// A limit of 0.
    LimitZero,
    /// No collection's id: all collections.
    AllCollections,
    /// A cursor with values of the implied order.
    CursorIntoImpliedOrder,
    /// A reference into another database.
    OtherDatabase,
    /// A search for vectors within maps.
    VectorInMap,
    /// A sum or average of doubles, rounded once.
    ExactSum,
    /// More than five aggregations.
    ManyAggregations,
    /// A group below a document, with filters or orders.
    GroupBelowDocument,
    /// Names in descending order.
    DescendingNames,
    /// -0.0 kept.
    NegativeZero,
    /// An operand with nanoseconds.
    Nanoseconds,
}

impl Request {
    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        match self {
            Request::Query(query) => query.validate(),
            Request::Aggregate(query) => query.validate(),
        }
    }
}

/// All that is recorded.
pub(crate) fn recorded_queries() -> impl Iterator<Item = DataSet> {
    include_str!("../fixtures/queries/recorded.jsonl").lines().map(|line| {
        let json = unfolded(serde_json::from_str(line).unwrap());
        let documents: Vec<Document> = json["documents"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, json)| {
                let path = DocumentPath::parse(path).unwrap();
                let fields = fields(json).unwrap();
                Document::validate(&path, &fields).unwrap();
                Document {
                    path,
                    fields,
                    create_version: Version(1),
                    update_version: Version(1),
                    merge: Default::default(),
                }
            })
            .collect();
        DataSet { documents, cases: list(&json["cases"]).iter().map(case).collect() }
    })
}

/// With `{"repeat": x, "times": n}` written out.
fn unfolded(json: Json) -> Json {
    let times = |json: &Json| json.get("times").and_then(Json::as_u64).map(|it| it as usize);
    match json {
        Json::Object(object) => match (object.get("repeat"), object.get("times")) {
            (Some(Json::String(letter)), Some(times)) => {
                letter.repeat(times.as_u64().unwrap() as usize).into()
            }
            _ => object.into_iter().map(|(key, value)| (key, unfolded(value))).collect(),
        },
        Json::Array(items) => match items.as_slice() {
            [item] if item.get("repeat").is_some_and(|item| !item.is_string()) => {
                vec![unfolded(item["repeat"].clone()); times(item).unwrap()].into()
            }
            _ => items.into_iter().map(unfolded).collect(),
        },
        other => other,
    }
}

fn case(json: &Json) -> Case {
    let parent = match json.get("parent") {
        Some(parent) => DocumentPath::parse(text(parent)).map(Some),
        None => Ok(None),
    };
    Case {
        kind: text(&json["kind"]).to_owned(),
        request: parent.and_then(|parent| request(&json["query"], parent)),
        answer: answer(json),
        json: json.clone(),
    }
}

fn answer(json: &Json) -> Answer {
    let places = list(&json["found"]).iter().map(|place| place.as_u64().unwrap() as usize);
    if let Some(code) = code(json) {
        Answer::Refused(code)
    } else if let Some(values) = json.get("values") {
        Answer::Values(fields(values).unwrap().into_iter().collect())
    } else if let Some(all) = json.get("fields") {
        Answer::Fields(places.zip(list(all).iter().map(|it| fields(it).unwrap())).collect())
    } else {
        Answer::Found(places.collect())
    }
}

fn request(json: &Json, parent: Option<DocumentPath>) -> Result<Request, ModelError> {
    if let Some(all) = json.get("aggregations") {
        let aggregations = list(all).iter().enumerate().map(aggregation);
        Ok(Request::Aggregate(AggregateQuery {
            query: query(&json["query"], parent)?,
            aggregations: aggregations.collect::<Result<_, _>>()?,
        }))
    } else {
        Ok(Request::Query(query(json, parent)?))
    }
}

// Differences ------------------------------------------------------------------------------------------

/// Why our answer is not the recorded one; none if it ought to be.
pub(crate) fn difference(case: &Case, ours: &Answer) -> Option<Difference> {
    let json = &case.json["query"];
    let query = if json.get("aggregations").is_some() { &json["query"] } else { json };
    let is_refused = matches!(ours, Answer::Refused(Code::InvalidArgument));
    let message = case.json["message"].as_str().unwrap_or_default();
    let without_id = list(&query["from"])
        .first()
        .is_none_or(|from| from.get("collectionId").is_none_or(|id| id == ""));
    if message.starts_with("Firestore does not support descending key scans") {
        Some(Difference::DescendingNames)
    } else if is_refused {
        if matches!(case.answer, Answer::Refused(Code::Unknown)) {
            Some(Difference::ManyAggregations)
        } else if without_id {
            Some(Difference::AllCollections)
        } else if query["limit"] == 0 {
            Some(Difference::LimitZero)
        } else if json.to_string().contains("projects/other/") {
            Some(Difference::OtherDatabase)
        } else if depth(&query["where"]) > limits::FILTER_DEPTH {
            Some(Difference::FilterDepth)
        } else {
            None
        }
    } else if without_negative_zeros(ours) == case.answer {
        Some(Difference::NegativeZero)
    } else if message.starts_with("collection group queries are only allowed at the root") {
        Some(Difference::GroupBelowDocument)
    } else if message.starts_with("Cursor has too many values") {
        Some(Difference::CursorIntoImpliedOrder)
    } else if are_nearly_equal(ours, &case.answer) {
        Some(Difference::ExactSum)
    } else if compares_with_null(&query["where"]) {
        Some(Difference::ComparisonWithNull)
    } else if has_nanoseconds(&query["where"]) {
        Some(Difference::Nanoseconds)
    } else if query["findNearest"]["vectorField"]["fieldPath"] == "m.v" {
        Some(Difference::VectorInMap)
    } else {
        None
    }
}

fn depth(filter: &Json) -> usize {
    let filters = list(&filter["compositeFilter"]["filters"]);
    usize::from(!filters.is_empty()) + filters.iter().map(depth).max().unwrap_or(0)
}

fn compares_with_null(filter: &Json) -> bool {
    let filter = &filter["fieldFilter"];
    let is_null = filter["value"].get("nullValue").is_some();
    matches!(filter["op"].as_str(), Some("EQUAL" | "NOT_EQUAL"))
        && (is_null || filter["value"]["doubleValue"] == "NaN")
}

fn has_nanoseconds(filter: &Json) -> bool {
    let time = filter["fieldFilter"]["value"]["timestampValue"].as_str().unwrap_or_default();
    time.len() > "2024-02-29T12:30:00.123456Z".len()
}

fn without_negative_zeros(answer: &Answer) -> Answer {
    match answer {
        Answer::Fields(found) => Answer::Fields(
            found.iter().map(|(place, fields)| (*place, positive_fields(fields))).collect(),
        ),
        Answer::Found(_) | Answer::Values(_) | Answer::Refused(_) => answer.clone(),
    }
}

fn positive_fields(fields: &Fields) -> Fields {
    fields.iter().map(|(name, value)| (name.clone(), positive(value))).collect()
}

fn positive(value: &Value) -> Value {
    match value {
        // Adding 0.0 makes -0.0 positive.
        Value::Double(double) => Value::Double(double + 0.0),
        Value::Array(values) => Value::Array(values.iter().map(positive).collect()),
        Value::Map(fields) => Value::Map(positive_fields(fields)),
        Value::Vector(values) => Value::Vector(values.iter().map(|double| double + 0.0).collect()),
        other => other.clone(),
    }
}

/// Whether the values are the same but for what adding up in another order, or integers as doubles,
/// explains.
fn are_nearly_equal(ours: &Answer, theirs: &Answer) -> bool {
    let (Answer::Values(ours), Answer::Values(theirs)) = (ours, theirs) else { return false };
    // The numbers of the data sets are small, or at most 2^63 and rounded to 2^11 each.
    let nearly = |ours: &f64, theirs: &f64| {
        (ours - theirs).abs() <= (ours.abs().max(2.0_f64.powi(53)) * f64::EPSILON) * 4.0
    };
    ours.keys().eq(theirs.keys())
        && ours.values().zip(theirs.values()).all(|values| match values {
            (Value::Double(ours), Value::Double(theirs)) if ours.is_finite() => {
                nearly(ours, theirs)
            }
            (ours, theirs) => ours == theirs,
        })
}

// The requests of Firestore's REST interface ---------------------------------------------------------

fn malformed(what: &str) -> ModelError {
    ModelError::invalid(format!("{what} is malformed"))
}

fn all<T>(
    json: &Json,
    read: impl FnMut(&Json) -> Result<T, ModelError>,
) -> Result<Vec<T>, ModelError> {
    list(json).iter().map(read).collect()
}

fn query(json: &Json, parent: Option<DocumentPath>) -> Result<Query, ModelError> {
    let [from] = list(&json["from"]) else { return Err(malformed("from")) };
    let number = |name: &str| match json.get(name) {
        None => Ok(None),
        // A 32-bit number with a sign in Firestore's protocol.
        Some(json) => match json.as_i64().map(i32::try_from) {
            Some(Ok(number)) => u32::try_from(number).map(Some).map_err(|_| malformed(name)),
            _ => Err(malformed(name)),
        },
    };
    let select = json.get("select").map(|json| all(&json["fields"], field));
    Ok(Query {
        parent,
        collection_id: from.get("collectionId").map(text).ok_or_else(|| malformed("from"))?.into(),
        all_descendants: from["allDescendants"] == true,
        filter: json.get("where").map(filter).transpose()?,
        order_by: all(&json["orderBy"], order)?,
        offset: number("offset")?.unwrap_or(0),
        limit: number("limit")?,
        limit_to_last: json["limitToLast"] == true,
        start: json.get("startAt").map(cursor).transpose()?,
        end: json.get("endAt").map(cursor).transpose()?,
        projection: select.transpose()?,
        nearest: json.get("findNearest").map(nearest).transpose()?,
    })
}

pub(crate) fn field(json: &Json) -> Result<FieldPath, ModelError> {
    FieldPath::parse(json["fieldPath"].as_str().unwrap_or_default())
}

pub(crate) fn filter(json: &Json) -> Result<Filter, ModelError> {
    let leaf = |json: &Json, operator, value| {
        Ok(Filter::Field(FieldFilter { field: field(&json["field"])?, operator, value }))
    };
    if let Some(json) = json.get("fieldFilter") {
        leaf(json, operator(&json["op"])?, value(&json["value"])?)
    } else if let Some(json) = json.get("unaryFilter") {
        match text(&json["op"]) {
            "IS_NULL" => leaf(json, Operator::Equal, Value::Null),
            "IS_NOT_NULL" => leaf(json, Operator::NotEqual, Value::Null),
            "IS_NAN" => leaf(json, Operator::Equal, Value::Double(f64::NAN)),
            "IS_NOT_NAN" => leaf(json, Operator::NotEqual, Value::Double(f64::NAN)),
            _ => Err(malformed("a unary operator")),
        }
    } else {
        let json = &json["compositeFilter"];
        let filters = all(&json["filters"], filter)?;
        match json["op"].as_str() {
            Some("AND") => Ok(Filter::And(filters)),
            Some("OR") => Ok(Filter::Or(filters)),
            _ => Err(malformed("a filter")),
        }
    }
}

pub(crate) fn operator(json: &Json) -> Result<Operator, ModelError> {
    Ok(match text(json) {
        "EQUAL" => Operator::Equal,
        "NOT_EQUAL" => Operator::NotEqual,
        "LESS_THAN" => Operator::LessThan,
        "LESS_THAN_OR_EQUAL" => Operator::LessThanOrEqual,
        "GREATER_THAN" => Operator::GreaterThan,
        "GREATER_THAN_OR_EQUAL" => Operator::GreaterThanOrEqual,
        "IN" => Operator::In,
        "NOT_IN" => Operator::NotIn,
        "ARRAY_CONTAINS" => Operator::ArrayContains,
        "ARRAY_CONTAINS_ANY" => Operator::ArrayContainsAny,
        _ => return Err(malformed("an operator")),
    })
}

pub(crate) fn order(json: &Json) -> Result<Order, ModelError> {
    let is_descending = json["direction"] == "DESCENDING";
    let direction = if is_descending { Direction::Descending } else { Direction::Ascending };
    Ok(Order { field: field(&json["field"])?, direction })
}

pub(crate) fn cursor(json: &Json) -> Result<Cursor, ModelError> {
    Ok(Cursor { values: all(&json["values"], value)?, before: json["before"] == true })
}

fn nearest(json: &Json) -> Result<Nearest, ModelError> {
    let Value::Vector(vector) = value(&json["queryVector"])? else {
        return Err(malformed("the vector"));
    };
    let name = json.get("distanceResultField").map(text).filter(|name| !name.is_empty());
    Ok(Nearest {
        field: field(&json["vectorField"])?,
        vector,
        measure: match json["distanceMeasure"].as_str() {
            Some("EUCLIDEAN") => DistanceMeasure::Euclidean,
            Some("COSINE") => DistanceMeasure::Cosine,
            Some("DOT_PRODUCT") => DistanceMeasure::DotProduct,
            _ => return Err(malformed("the measure")),
        },
        limit: json["limit"]
            .as_i64()
            .and_then(|limit| u32::try_from(limit).ok())
            .ok_or_else(|| malformed("the limit"))?,
        threshold: json.get("distanceThreshold").map(double),
        // A name, not a path.
        distance_field: name.map(|name| FieldPath::from_segments([name])).transpose()?,
    })
}

fn aggregation((place, json): (usize, &Json)) -> Result<Aggregation, ModelError> {
    let kind = if let Some(json) = json.get("count") {
        let up_to = json.get("upTo").map(|it| text(it).parse().map_err(|_| malformed("up_to")));
        AggregationKind::Count { up_to: up_to.transpose()? }
    } else if let Some(json) = json.get("sum") {
        AggregationKind::Sum(field(&json["field"])?)
    } else if let Some(json) = json.get("avg") {
        AggregationKind::Average(field(&json["field"])?)
    } else {
        return Err(malformed("an aggregation"));
    };
    let alias = json.get("alias").map(text).filter(|alias| !alias.is_empty());
    Ok(Aggregation { alias: alias.map_or(format!("field_{}", place + 1), str::to_owned), kind })
}

// Values -----------------------------------------------------------------------------------------

pub(crate) fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(json: &Json) -> &str {
    json.as_str().unwrap()
}

pub(crate) fn code(json: &Json) -> Option<Code> {
    let name = json.get("error")?.as_str()?;
    Code::ALL.into_iter().find(|code| code.status_name() == name)
}

/// Firestore's JSON of a value; an error where the model refuses it already.
pub(crate) fn value(json: &Json) -> Result<Value, ModelError> {
    let Some((kind, json)) = json.as_object().and_then(|it| it.iter().next()) else {
        return Err(malformed("a value"));
    };
    Ok(match kind.as_str() {
        "nullValue" => Value::Null,
        "booleanValue" => Value::Boolean(json.as_bool().unwrap()),
        "integerValue" => Value::Integer(text(json).parse().unwrap()),
        "doubleValue" => Value::Double(double(json)),
        "timestampValue" => Value::Timestamp(text(json).parse()?),
        "stringValue" => Value::String(text(json).to_owned()),
        "bytesValue" => Value::Bytes(base64(text(json))),
        "referenceValue" => Value::Reference(path(json)?),
        "geoPointValue" => {
            let degrees = |name| json.get(name).map_or(0.0, double);
            Value::GeoPoint(GeoPoint::new(degrees("latitude"), degrees("longitude"))?)
        }
        "arrayValue" => Value::Array(all(&json["values"], value)?),
        "mapValue" if json["fields"]["__type__"]["stringValue"] == "__vector__" => {
            let numbers = all(&json["fields"]["value"]["arrayValue"]["values"], |number| {
                number.get("doubleValue").map(double).ok_or_else(|| malformed("a vector"))
            });
            Value::Vector(numbers?)
        }
        "mapValue" => Value::Map(fields(&json["fields"])?),
        other => panic!("{other}"),
    })
}

pub(crate) fn double(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| text(json).replace("Infinity", "inf").parse().unwrap())
}

/// With either of the prefixes that the recorded references have.
fn path(json: &Json) -> Result<DocumentPath, ModelError> {
    let path = text(json);
    let relative = path.strip_prefix(PREFIX).or_else(|| path.strip_prefix('/'));
    DocumentPath::parse(relative.ok_or_else(|| malformed("a reference"))?)
}

pub(crate) fn fields(json: &Json) -> Result<Fields, ModelError> {
    let Some(fields) = json.as_object() else { return Ok(Fields::new()) };
    fields.iter().map(|(name, json)| Ok((name.clone(), value(json)?))).collect()
}

fn base64(text: &str) -> Bytes {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.trim_end_matches('=');
    let bits: Vec<u8> = text
        .chars()
        .map(|c| DIGITS.find(c).unwrap())
        .flat_map(|digit| (0..6).rev().map(move |bit| (digit >> bit & 1) as u8))
        .collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}
