//! Searching for the nearest vectors: what is asked, and how distance is measured.

use super::error::ModelError;
use super::field_path::FieldPath;
use super::limits;

/// Asks for the documents whose vectors are nearest to one.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The field that holds a vector; documents where it holds none, or one with another number of
    /// elements, are not found.
    pub field: FieldPath,
    /// Near to what.
    pub vector: Vec<f64>,
    /// How distance is measured.
    pub measure: DistanceMeasure,
    /// How many documents at most.
    pub limit: u32,
    /// Not farther than this; for the dot product, not less than this.
    pub threshold: Option<f64>,
    /// The field of each result that tells its distance.
    pub distance_field: Option<FieldPath>,
}

/// How the distance of two vectors is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DistanceMeasure {
    /// The length of their difference.
    Euclidean,
    /// One minus the cosine of the angle between them.
    Cosine,
    /// Their dot product: greater is nearer.
    DotProduct,
}

impl Nearest {
    /// Checks the vector and the limit.
    pub fn validate(&self) -> Result<(), ModelError> {
        let dimensions = self.vector.len();
        if dimensions == 0 || dimensions > limits::VECTOR_DIMENSIONS {
            return Err(ModelError::invalid(format!(
                "the vector searched for has {dimensions} elements; it must have 1 to {}",
                limits::VECTOR_DIMENSIONS
            )));
        }
        if self.limit == 0 || self.limit > limits::NEAREST_DOCUMENTS {
            return Err(ModelError::invalid(format!(
                "a search for the nearest has the limit {}; it must be 1 to {}",
                self.limit,
                limits::NEAREST_DOCUMENTS
            )));
        }
        Ok(())
    }
}
