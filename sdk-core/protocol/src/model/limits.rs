//! The limits of the data model; exceeding one is an error that states it.

/// Bytes of a document, by Firestore's size rules.
pub const DOCUMENT_BYTES: usize = 1_048_576;
/// How deep maps and arrays may be nested in a document.
pub const DEPTH: usize = 20;
/// Bytes of a document id, a collection id, or one segment of a field path.
pub const ID_BYTES: usize = 1_500;
/// Bytes of a document or collection path.
pub const PATH_BYTES: usize = 6 * 1024;
/// Segments of a document or collection path: subcollections 100 deep.
pub const PATH_SEGMENTS: usize = 200;
/// Bytes of one text or of one value of bytes.
pub const FIELD_VALUE_BYTES: usize = DOCUMENT_BYTES - 89;
/// Numbers of a vector.
pub const VECTOR_DIMENSIONS: usize = 2_048;
/// Bytes of one request: a frame from the client.
pub const REQUEST_BYTES: usize = 10 * 1024 * 1024;
/// Writes of one commit.
pub const WRITES_PER_COMMIT: usize = 500;
/// Documents that one transaction reads, one request gets, or one target names.
pub const DOCUMENTS_PER_REQUEST: usize = 10_000;
/// Transforms per document in one commit.
pub const TRANSFORMS_PER_DOCUMENT: usize = 500;
/// Filters, orders and cursor values of one query.
pub const QUERY_COMPONENTS: usize = 100;
/// How deep `and` may be nested in a filter.
pub const FILTER_DEPTH: usize = 20;
/// Fields of one declared index.
pub const INDEX_FIELDS: usize = 100;
/// Index entries of one document.
pub const INDEX_ENTRIES: usize = 40_000;
/// Bytes of a value that an index orders by.
pub const INDEXED_BYTES: usize = 1_500;
/// Disjunctions of a query, once it is written as an `or` of `and`s.
pub const DISJUNCTIONS: usize = 30;
/// Different fields of a query's inequalities.
pub const INEQUALITY_FIELDS: usize = 10;
/// Values of a `not-in`.
pub const NOT_IN_VALUES: usize = 10;
/// Aggregations of one query.
pub const AGGREGATIONS: usize = 5;
/// Documents that a search for the nearest returns.
pub const NEAREST_DOCUMENTS: u32 = 1_000;
/// Fields that a query's results are limited to.
pub const PROJECTED_FIELDS: usize = 1_000;
/// Branches of a digest that one request may ask for.
pub const DIGEST_NODES: usize = 256;
/// Members of a branch of a digest that are named one by one.
pub const DIGEST_MEMBERS: usize = 32;
/// Fields of a document whose last edits are told apart.
pub const CLOCKS_PER_DOCUMENT: usize = 500;
