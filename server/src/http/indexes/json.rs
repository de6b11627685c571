//! The JSON of indexes and exemptions, close to Firebase's `firestore.indexes.json`. Converts in
//! and out; asks nobody anything.

use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_protocol::model::{
    Code, FieldPath, IndexDefinition, IndexField, IndexMode, IndexScope, ModelError,
};

use crate::engine::{ExemptionStatus, IndexState, IndexStatus, Progress};

const NAME: &str = "__name__";
/// In place of a field: all fields.
const ALL_FIELDS: &str = "*";

/// What is posted: one index, or a file of them.
pub(super) enum Posted {
    One(IndexDefinition),
    File(Import),
}

/// A file that has been understood as a whole.
pub(super) struct Import {
    pub(super) indexes: Vec<IndexDefinition>,
    pub(super) exemptions: Vec<Exemption>,
}

/// Whether a field, or without one all fields, of the collections of an id are exempt.
#[derive(Debug, PartialEq)]
pub(super) struct Exemption {
    pub(super) collection_id: String,
    pub(super) field: Option<FieldPath>,
    pub(super) exempt: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostedBody {
    indexes: Option<Vec<IndexBody>>,
    field_overrides: Option<Vec<OverrideBody>>,
    #[serde(flatten)]
    one: IndexBody,
}

/// One index. What it lacks is told when it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexBody {
    collection_group: Option<String>,
    query_scope: Option<Scope>,
    fields: Option<Vec<FieldBody>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Scope {
    Collection,
    CollectionGroup,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldBody {
    field_path: String,
    #[serde(flatten)]
    mode: ModeBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModeBody {
    order: Option<OrderBody>,
    array_config: Option<ArrayBody>,
    vector_config: Option<Value>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum OrderBody {
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ArrayBody {
    Contains,
}

/// What Firebase's file says of one field: the indexes that it has instead of the automatic ones.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OverrideBody {
    collection_group: String,
    field_path: String,
    #[serde(default)]
    ttl: bool,
    #[serde(default)]
    indexes: Vec<OverrideIndexBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OverrideIndexBody {
    query_scope: Option<Scope>,
    #[serde(flatten)]
    mode: ModeBody,
}

/// What is put: whether a field is exempt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExemptionBody {
    collection_group: String,
    field_path: String,
    exempt: bool,
}

impl ExemptionBody {
    pub(super) fn read(self) -> Result<Exemption, ModelError> {
        Exemption::new(self.collection_group, &self.field_path, self.exempt)
    }
}

impl Posted {
    pub(super) fn parse(body: PostedBody) -> Result<Posted, ModelError> {
        let PostedBody { indexes, field_overrides, one } = body;
        if indexes.is_none() && field_overrides.is_none() {
            return Ok(Posted::One(one.read()?));
        }
        let indexes = indexes.into_iter().flatten().map(IndexBody::read);
        let mut import = Import { indexes: indexes.collect::<Result<_, _>>()?, exemptions: vec![] };
        for field in field_overrides.into_iter().flatten() {
            field.read(&mut import)?;
        }
        Ok(Posted::File(import))
    }
}

impl IndexBody {
    fn read(self) -> Result<IndexDefinition, ModelError> {
        let missing = |name| ModelError::invalid(format!("the index has no `{name}`"));
        let collection_id = self.collection_group.ok_or_else(|| missing("collectionGroup"))?;
        let mut fields: Vec<_> = self
            .fields
            .ok_or_else(|| missing("fields"))?
            .into_iter()
            .map(|field| Ok((field.mode.read(&field.field_path)?, field.field_path)))
            .collect::<Result<_, ModelError>>()?;
        if fields.last().is_some_and(|(_, path)| path == NAME) {
            let named = fields.pop().map(|(mode, _)| mode);
            let implied = match fields.last() {
                Some((IndexMode::Descending, _)) => IndexMode::Descending,
                Some((IndexMode::Ascending | IndexMode::Contains, _)) | None => {
                    IndexMode::Ascending
                }
            };
            if named != Some(implied) {
                return Err(ModelError::invalid(
                    "an index ends with `__name__` in the direction of its last field; another \
                     direction is not supported",
                ));
            }
        }
        let field = |(mode, path): (IndexMode, String)| -> Result<IndexField, ModelError> {
            Ok(IndexField { field: FieldPath::parse(&path)?, mode })
        };
        let fields = fields.into_iter().map(field).collect::<Result<_, _>>()?;
        let scope = self.query_scope.unwrap_or(Scope::Collection).read();
        let definition = IndexDefinition { collection_id, scope, fields };
        definition.validate()?;
        Ok(definition)
    }
}

impl Scope {
    fn read(self) -> IndexScope {
        match self {
            Scope::Collection => IndexScope::Collection,
            Scope::CollectionGroup => IndexScope::Group,
        }
    }
}

impl ModeBody {
    fn read(&self, path: &str) -> Result<IndexMode, ModelError> {
        if self.vector_config.is_some() {
            return Err(ModelError::unimplemented("an index of vectors"));
        }
        match (self.order, self.array_config) {
            (Some(OrderBody::Ascending), None) => Ok(IndexMode::Ascending),
            (Some(OrderBody::Descending), None) => Ok(IndexMode::Descending),
            (None, Some(ArrayBody::Contains)) => Ok(IndexMode::Contains),
            (Some(_), Some(_)) | (None, None) => Err(ModelError::new(
                Code::InvalidArgument,
                format!("the field {path} of an index has either an `order` or an `arrayConfig`"),
            )),
        }
    }
}

impl OverrideBody {
    /// Adds the exemption that it stands for, and the indexes of collection groups.
    fn read(self, import: &mut Import) -> Result<(), ModelError> {
        if self.ttl {
            return Err(ModelError::unimplemented("deleting documents by time (`ttl`)"));
        }
        let in_group = |it: &&OverrideIndexBody| it.query_scope == Some(Scope::CollectionGroup);
        let exempt = self.indexes.iter().all(|it| in_group(&it));
        let exemption = Exemption::new(self.collection_group, &self.field_path, exempt)?;
        for index in self.indexes.iter().filter(in_group) {
            let Some(field) = exemption.field.clone() else {
                return Err(ModelError::invalid(
                    "an index of a collection group is of a field; `*` is not one",
                ));
            };
            let mode = index.mode.read(&self.field_path)?;
            let collection_id = exemption.collection_id.clone();
            let fields = vec![IndexField { field, mode }];
            import.indexes.push(IndexDefinition {
                collection_id,
                scope: IndexScope::Group,
                fields,
            });
        }
        import.exemptions.push(exemption);
        Ok(())
    }
}

impl Exemption {
    fn new(collection_id: String, path: &str, exempt: bool) -> Result<Exemption, ModelError> {
        let field = if path == ALL_FIELDS { None } else { Some(FieldPath::parse(path)?) };
        // The rules are those of an index of the field; all fields are as good as any.
        let some_field = field.clone().map_or_else(|| FieldPath::parse("a"), Ok)?;
        let fields = vec![IndexField { field: some_field, mode: IndexMode::Ascending }];
        let scope = IndexScope::Collection;
        let definition = IndexDefinition { collection_id, scope, fields };
        definition.validate()?;
        Ok(Exemption { collection_id: definition.collection_id, field, exempt })
    }
}

/// The answer to a listing.
pub(super) fn list(indexes: &[IndexStatus], automatic: Option<Progress>) -> Value {
    let automatic = automatic.map_or(IndexState::Ready, IndexState::Building);
    json!({ "indexes": all(indexes), "automatic": with_state(json!({}), automatic) })
}

/// The answer to a file.
pub(super) fn imported(created: &[IndexStatus], exemptions: &[ExemptionStatus]) -> Value {
    let mut answer = self::exemptions(exemptions);
    answer["created"] = all(created);
    answer
}

fn all(indexes: &[IndexStatus]) -> Value {
    indexes.iter().map(index).collect()
}

/// One index.
pub(super) fn index(status: &IndexStatus) -> Value {
    let IndexStatus { id, definition, state } = status;
    let fields = definition.fields.iter().map(|IndexField { field, mode }| {
        let path = field.to_string();
        match mode {
            IndexMode::Ascending => json!({ "fieldPath": path, "order": "ASCENDING" }),
            IndexMode::Descending => json!({ "fieldPath": path, "order": "DESCENDING" }),
            IndexMode::Contains => json!({ "fieldPath": path, "arrayConfig": "CONTAINS" }),
        }
    });
    let scope = match definition.scope {
        IndexScope::Collection => "COLLECTION",
        IndexScope::Group => "COLLECTION_GROUP",
    };
    let index = json!({
        "id": id,
        "collectionGroup": definition.collection_id,
        "queryScope": scope,
        "fields": fields.collect::<Value>(),
    });
    with_state(index, *state)
}

/// All exemptions.
pub(super) fn exemptions(exemptions: &[ExemptionStatus]) -> Value {
    let exemption = |status: &ExemptionStatus| {
        let path =
            status.field.as_ref().map_or_else(|| ALL_FIELDS.to_owned(), FieldPath::to_string);
        let exemption = json!({
            "collectionGroup": status.collection_id,
            "fieldPath": path,
            "exempt": !status.indexed,
        });
        with_state(exemption, status.state)
    };
    json!({ "exemptions": exemptions.iter().map(exemption).collect::<Value>() })
}

fn with_state(mut of: Value, state: IndexState) -> Value {
    let (state, progress) = match state {
        IndexState::Ready => ("READY", None),
        IndexState::Building(progress) => ("BUILDING", Some(progress)),
        IndexState::Dropping(progress) => ("DROPPING", Some(progress)),
    };
    of["state"] = state.into();
    if let Some(Progress { done, about }) = progress {
        of["progress"] = json!({ "done": done, "about": about });
    }
    of
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn posted(body: Value) -> Result<Posted, String> {
        let body = serde_json::from_value(body).map_err(|error| error.to_string())?;
        Posted::parse(body).map_err(|error| error.message)
    }

    fn one(fields: &Value) -> Result<String, String> {
        match posted(json!({ "collectionGroup": "c", "fields": fields }))? {
            Posted::One(definition) => Ok(definition.to_string()),
            Posted::File(_) => panic!("it is one"),
        }
    }

    #[test]
    fn a_trailing_name_is_left_out_if_its_direction_is_implied() {
        let a = |order: &str| json!({ "fieldPath": "a", "order": order });
        let name = |order: &str| json!({ "fieldPath": "__name__", "order": order });
        let tags = json!({ "fieldPath": "tags", "arrayConfig": "CONTAINS" });
        let (up, down) = ("ASCENDING", "DESCENDING");
        assert_eq!(one(&json!([a(up), name(up)])).unwrap(), "c(a)");
        assert_eq!(one(&json!([a(down), name(down)])).unwrap(), "c(a desc)");
        assert_eq!(one(&json!([a(up), tags, name(up)])).unwrap(), "c(a, tags contains)");
        for fields in [json!([a(up), name(down)]), json!([a(down), name(up)])] {
            assert!(one(&fields).unwrap_err().contains("direction of its last field"));
        }
        assert!(one(&json!([name(up)])).unwrap_err().contains("0 fields"));
        assert!(one(&json!([name(up), a(up)])).unwrap_err().contains("do not list it"));
    }

    #[test]
    fn what_is_malformed_is_told() {
        for (fields, message) in [
            (json!([{ "fieldPath": "a" }]), "either an `order` or an `arrayConfig`"),
            (json!([{ "fieldPath": "a", "order": "UP" }]), "unknown variant"),
            (json!([{ "order": "ASCENDING" }]), "fieldPath"),
            (json!([{ "fieldPath": "a..b", "order": "ASCENDING" }]), "is no field path"),
            (json!([{ "fieldPath": "v", "vectorConfig": {} }]), "not implemented"),
            (json!(7), "invalid type"),
        ] {
            let error = one(&fields).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert!(posted(json!({})).err().unwrap().contains("collectionGroup"));
        assert!(posted(json!({ "collectionGroup": "c" })).err().unwrap().contains("fields"));
    }

    #[test]
    fn a_file_of_firebase_is_understood() {
        let file = json!({
            "indexes": [{
                "collectionGroup": "talks", "queryScope": "COLLECTION_GROUP", "density": "DENSE",
                "fields": [
                    { "fieldPath": "room", "order": "ASCENDING" },
                    { "fieldPath": "`a b`.c", "order": "DESCENDING" },
                ],
            }],
            "fieldOverrides": [
                { "collectionGroup": "talks", "fieldPath": "text", "indexes": [] },
                { "collectionGroup": "talks", "fieldPath": "*", "ttl": false, "indexes": [] },
                { "collectionGroup": "talks", "fieldPath": "tags", "indexes": [
                    { "order": "ASCENDING", "queryScope": "COLLECTION" },
                    { "arrayConfig": "CONTAINS", "queryScope": "COLLECTION_GROUP" },
                ]},
            ],
        });
        let Posted::File(import) = posted(file).unwrap() else { panic!("it is a file") };
        let indexes: Vec<_> = import.indexes.iter().map(ToString::to_string).collect();
        assert_eq!(indexes, ["group talks(room, `a b`.c desc)", "group talks(tags contains)"]);
        let exemption = |field: Option<&str>, exempt| Exemption {
            collection_id: "talks".to_owned(),
            field: field.map(|field| FieldPath::parse(field).unwrap()),
            exempt,
        };
        let expected =
            [exemption(Some("text"), true), exemption(None, true), exemption(Some("tags"), false)];
        assert_eq!(import.exemptions, expected);
    }
}
