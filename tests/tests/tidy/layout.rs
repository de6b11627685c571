//! The shape of Rust files: they say what they are for, stay short, and `lib.rs` is a reading list.

use crate::source::{Problem, Tree, code_only, line_of, without_tests, words};

const LONGEST: usize = 1_000;

/// The first line of every Rust file is `//!`.
pub(crate) fn headers(tree: &Tree) -> Vec<Problem> {
    let silent = tree.rust().filter(|source| !source.text.starts_with("//! "));
    silent
        .map(|source| Problem {
            place: source.path.clone(),
            what: "does not open with `//!`".into(),
            fix: "begin the file with `//!`: what it is for, who drives it, what it must not do",
        })
        .collect()
}

/// No Rust file reaches a thousand lines.
pub(crate) fn lengths(tree: &Tree) -> Vec<Problem> {
    let long = tree.rust().filter(|source| source.text.lines().count() >= LONGEST);
    long.map(|source| Problem {
        place: source.path.clone(),
        what: format!("has {} lines; the limit is {LONGEST}", source.text.lines().count()),
        fix: "split it by purpose; files are near 200 lines and looked at again at 600",
    })
    .collect()
}

/// A `lib.rs` names and orders modules; logic has a module of its own. (The harness of the tests is free.)
pub(crate) fn reading_lists(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let libs = tree.rust().filter(|source| source.path.ends_with("src/lib.rs"));
    for source in libs.filter(|source| !tree.is_test(&source.path)) {
        let code = without_tests(&code_only(&source.text));
        for at in words(&code, "fn") {
            problems.push(Problem {
                place: format!("{}:{}", source.path, line_of(&code, at)),
                what: "a function in lib.rs".into(),
                fix: "move it to a module of its own; lib.rs only says what to read in which order",
            });
        }
    }
    problems
}

#[test]
fn headers_fails_on_a_silent_file() {
    let tree = Tree::sample(&[("a.rs", "use b;\n"), ("c.rs", "//! Speaks.\n"), ("d.md", "no\n")]);
    assert_eq!(headers(&tree).len(), 1);
}

#[test]
fn lengths_fails_at_the_limit() {
    let long = "x\n".repeat(LONGEST);
    let tree = Tree::sample(&[("long.rs", &long), ("short.rs", &long[2..])]);
    assert_eq!(lengths(&tree).iter().map(|p| p.place.as_str()).collect::<Vec<_>>(), ["long.rs"]);
}

#[test]
fn reading_lists_fails_on_a_function_in_lib() {
    let tree = Tree::sample(&[
        ("a/src/lib.rs", "//! fn no\npub mod b;\nfn c() {}\n"),
        ("a/src/b.rs", "fn d() {}"),
    ]);
    assert_eq!(reading_lists(&tree)[0].place, "a/src/lib.rs:3");
}
