//! What a plan consists of, and how it reads in an explanation. Pure.

use tidemark_protocol::model::{CollectionPath, DocumentPath};

use crate::store::{KeyRange, ScanDirection};

/// Where documents are looked for.
#[derive(Clone, Debug)]
pub(super) enum Site {
    /// In one collection, by its own indexes.
    Collection(CollectionPath),
    /// In a collection group, by indexes of the group.
    Group {
        /// The document that they are under.
        parent: Option<DocumentPath>,
    },
}

/// What the keys of a scan are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Documents.
    Documents,
    /// Entries of an index of a collection, which end with the id.
    Ids { collection: CollectionPath, inverted: bool },
    /// Entries of an index of a group, which end with the path.
    Paths { parent: Option<DocumentPath>, inverted: bool },
}

/// One pass over stretches of keys.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) source: Source,
    /// The index's name; none for documents.
    pub(super) index: Option<String>,
    /// What it is used for, for people.
    pub(super) conditions: Vec<String>,
    /// In the order in which they are read.
    pub(super) ranges: Vec<KeyRange>,
    pub(super) direction: ScanDirection,
    /// How many of the first clauses of the query's order the documents come in.
    pub(super) presorted: usize,
    /// Every key stands for a document of the result.
    pub(super) exact: bool,
}

/// How the documents of one conjunction are found in one site.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// No document can satisfy it.
    Nothing,
    /// Only these can.
    Points(Vec<DocumentPath>),
    Scan(Scan),
    /// Those in all of these lists, each in the order of names.
    Intersection(Vec<Scan>),
    /// Whichever of these answers first.
    Race(Vec<Access>),
}

impl Access {
    /// How many of the first clauses of the order the documents come in.
    pub(super) fn presorted(&self) -> usize {
        match self {
            Access::Nothing => usize::MAX,
            Access::Points(_) | Access::Race(_) => 0,
            Access::Scan(scan) => scan.presorted,
            Access::Intersection(lists) => {
                lists.iter().map(|list| list.presorted).min().unwrap_or(0)
            }
        }
    }

    /// Every key stands for a document of the result.
    pub(super) fn is_exact(&self) -> bool {
        match self {
            Access::Scan(scan) => scan.exact,
            Access::Nothing => true,
            Access::Points(_) | Access::Intersection(_) | Access::Race(_) => false,
        }
    }

    /// The names of the indexes it can use.
    pub(super) fn indexes(&self, out: &mut Vec<String>) {
        match self {
            Access::Nothing | Access::Points(_) => {}
            Access::Scan(scan) => out.extend(scan.index.clone()),
            Access::Intersection(lists) => {
                out.extend(lists.iter().filter_map(|list| list.index.clone()));
            }
            Access::Race(contenders) => contenders.iter().for_each(|it| it.indexes(out)),
        }
    }

    /// The lines of an explanation; `clauses` is how many the order has.
    pub(super) fn describe(&self, clauses: usize, depth: usize, out: &mut Vec<String>) {
        let mut line =
            |depth: usize, text: String| out.push(format!("{}{text}", "  ".repeat(depth)));
        match self {
            Access::Nothing => line(depth, "nothing can match".to_owned()),
            Access::Points(paths) => line(depth, format!("get {} documents by name", paths.len())),
            Access::Scan(scan) => {
                let depth = match scan.presorted {
                    presorted if presorted >= clauses => depth,
                    0 => {
                        line(depth, "sort".to_owned());
                        depth + 1
                    }
                    presorted => {
                        line(
                            depth,
                            format!("sort where the first {presorted} of {clauses} are equal"),
                        );
                        depth + 1
                    }
                };
                line(depth, scan.describe());
            }
            Access::Intersection(lists) => {
                let mut depth = depth;
                if self.presorted() < clauses {
                    line(depth, "sort".to_owned());
                    depth += 1;
                }
                line(depth, format!("intersect {} lists, the shortest first", lists.len()));
                lists.iter().for_each(|list| line(depth + 1, list.describe()));
            }
            Access::Race(contenders) => {
                line(depth, "whichever is done first".to_owned());
                contenders.iter().for_each(|it| it.describe(clauses, depth + 1, out));
            }
        }
    }
}

impl Scan {
    fn describe(&self) -> String {
        let mut text = match (&self.source, &self.index) {
            (Source::Documents, _) => "scan documents".to_owned(),
            (Source::Ids { .. } | Source::Paths { .. }, index) => {
                format!("scan index {}", index.as_deref().unwrap_or_default())
            }
        };
        if self.direction == ScanDirection::Backward {
            text.push_str(" backward");
        }
        if !self.conditions.is_empty() {
            text.push_str(": ");
            text.push_str(&self.conditions.join(", "));
        }
        if !self.exact {
            text.push_str("; check documents");
        }
        text
    }
}
