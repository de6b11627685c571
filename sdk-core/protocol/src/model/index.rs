//! Declared indexes: what an administrator asks for, what the planner picks, what explain suggests.
//! Says nothing of how they are stored.

use std::fmt;

use super::error::ModelError;
use super::field_path::FieldPath;
use super::limits;
use super::path::validate_id;

/// Fields of documents that are kept in order together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IndexDefinition {
    /// The id of the collections that are indexed, wherever they are.
    pub collection_id: String,
    /// What one scan of it covers.
    pub scope: IndexScope,
    /// The first field decides first.
    pub fields: Vec<IndexField>,
}

/// What one scan of an index covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IndexScope {
    /// One collection.
    #[default]
    Collection,
    /// All collections of the id.
    Group,
}

/// One field of an index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IndexField {
    /// The field.
    pub field: FieldPath,
    /// How its values are kept.
    pub mode: IndexMode,
}

/// How an index keeps a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexMode {
    /// From the least to the greatest.
    Ascending,
    /// From the greatest to the least.
    Descending,
    /// The elements of an array, each of its own.
    Contains,
}

impl IndexDefinition {
    /// Checks the collection's id and the fields.
    pub fn validate(&self) -> Result<(), ModelError> {
        validate_id(&self.collection_id)?;
        let count = self.fields.len();
        if count == 0 || count > limits::INDEX_FIELDS {
            return Err(ModelError::invalid(format!(
                "an index has {count} fields; it must have 1 to {}",
                limits::INDEX_FIELDS
            )));
        }
        for (at, field) in self.fields.iter().enumerate() {
            if field.field.is_document_id() {
                return Err(ModelError::invalid(
                    "an index ends with `__name__` by itself; do not list it",
                ));
            }
            if self.fields[..at].iter().any(|earlier| earlier.field == field.field) {
                return Err(ModelError::invalid(format!(
                    "the index has the field {} twice",
                    field.field
                )));
            }
        }
        let contains = self.fields.iter().filter(|field| field.mode == IndexMode::Contains);
        if contains.count() > 1 {
            return Err(ModelError::invalid("an index has at most one `contains` field"));
        }
        Ok(())
    }
}

impl fmt::Display for IndexDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            IndexScope::Collection => write!(f, "{}(", self.collection_id)?,
            IndexScope::Group => write!(f, "group {}(", self.collection_id)?,
        }
        for (at, field) in self.fields.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let mode = match field.mode {
                IndexMode::Ascending => "",
                IndexMode::Descending => " desc",
                IndexMode::Contains => " contains",
            };
            write!(f, "{separator}{}{mode}", field.field)?;
        }
        f.write_str(")")
    }
}
