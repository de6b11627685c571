//! Searching for the nearest vectors: what is asked, and how distance is measured.

use std::cmp::Ordering;

use super::document::Document;
use super::error::ModelError;
use super::field_path::FieldPath;
use super::limits;
use super::value::Value;

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

impl DistanceMeasure {
    /// The distance of vectors of the same number of elements, as Firestore computes it.
    pub fn distance(self, a: &[f64], b: &[f64]) -> f64 {
        match self {
            DistanceMeasure::Euclidean => {
                let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
                sum(squares).sqrt()
            }
            DistanceMeasure::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
            DistanceMeasure::DotProduct => dot(a, b),
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum(a.iter().zip(b).map(|(a, b)| a * b))
}

/// From 0.0: the standard library's sum of nothing is -0.0.
fn sum(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |sum, number| sum + number)
}

impl Nearest {
    /// Checks the vector, the limit, the threshold.
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
        if self.threshold.is_some_and(|threshold| !threshold.is_finite()) {
            return Err(ModelError::invalid("the threshold of a distance must be a finite number"));
        }
        if self.distance_field.as_ref().is_some_and(FieldPath::is_document_id) {
            return Err(ModelError::invalid("`__name__` cannot hold a distance"));
        }
        Ok(())
    }

    /// How far the document's vector is; none if it has no such vector or is beyond the threshold.
    pub fn distance(&self, document: &Document) -> Option<f64> {
        let Some(Value::Vector(vector)) = document.get(&self.field) else { return None };
        if vector.len() != self.vector.len() {
            return None;
        }
        let distance = self.measure.distance(vector, &self.vector);
        let is_within = self.threshold.is_none_or(|threshold| match self.measure {
            DistanceMeasure::Euclidean | DistanceMeasure::Cosine => distance <= threshold,
            DistanceMeasure::DotProduct => distance.is_nan() || distance >= threshold,
        });
        is_within.then_some(distance)
    }

    /// The order of two distances, the nearest first. What is no number, which takes infinities to
    /// come about, is above all numbers.
    pub fn compare(&self, a: f64, b: f64) -> Ordering {
        // The sign of NaN would make it less than all.
        let (a, b) = (if a.is_nan() { f64::NAN } else { a }, if b.is_nan() { f64::NAN } else { b });
        match self.measure {
            DistanceMeasure::Euclidean | DistanceMeasure::Cosine => a.total_cmp(&b),
            DistanceMeasure::DotProduct => b.total_cmp(&a),
        }
    }

    /// The nearest of documents that are in the query's order, which decides between equally near
    /// ones.
    pub fn select<'a>(&self, documents: Vec<&'a Document>) -> Vec<&'a Document> {
        let mut near: Vec<(f64, &Document)> = documents
            .into_iter()
            .filter_map(|document| Some((self.distance(document)?, document)))
            .collect();
        near.sort_by(|(a, _), (b, _)| self.compare(*a, *b));
        near.truncate(self.limit as usize);
        near.into_iter().map(|(_, document)| document).collect()
    }
}
