//! The rules of the house that no compiler checks: layout, import directions, docs that name what
//! exists. Run by `cargo test`; each failure says the fix.
//!
//! A check is a pure function from sources to problems ([`source::Problem`]), so that each module
//! here also shows its check failing on a bad sample. It reads files and never changes one.

mod docs;
mod hygiene;
mod imports;
mod layout;
mod manifests;
mod source;

use source::{Problem, Tree};

/// Fails with every problem and its fix.
#[track_caller]
fn report(problems: &[Problem]) {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} problem(s):\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn every_module_opens_with_its_purpose() {
    report(&layout::headers(&Tree::of_repository()));
}

#[test]
fn no_file_is_too_long() {
    report(&layout::lengths(&Tree::of_repository()));
}

#[test]
fn lib_files_are_reading_lists() {
    report(&layout::reading_lists(&Tree::of_repository()));
}

#[test]
fn use_lines_follow_the_import_directions() {
    report(&imports::check(&Tree::of_repository()));
}

#[test]
fn crates_depend_in_the_allowed_directions() {
    let metadata = manifests::cargo_metadata();
    report(&manifests::edges(&metadata));
}

#[test]
fn every_crate_takes_lints_and_facts_from_the_workspace() {
    report(&manifests::inheritance(&Tree::of_repository(), &manifests::member_manifests()));
}

#[test]
fn no_unwrap_outside_tests() {
    report(&hygiene::unwraps(&Tree::of_repository()));
}

#[test]
fn nothing_is_left_for_later() {
    report(&hygiene::leftovers(&Tree::of_repository()));
}

#[test]
fn nothing_names_one_machine() {
    report(&hygiene::machine_names(&Tree::of_repository()));
}

#[test]
fn paths_and_items_named_in_docs_exist() {
    report(&docs::named_paths(&Tree::of_repository()));
}

#[test]
fn links_in_docs_lead_somewhere() {
    report(&docs::links(&Tree::of_repository()));
}

#[test]
fn the_readme_shows_the_quickstart_that_is_compiled() {
    let tree = Tree::of_repository();
    report(&docs::quickstart(tree.text("README.md"), tree.text("examples/quickstart/src/main.rs")));
}

#[test]
fn every_promise_names_tests_that_exist() {
    report(&docs::promises(&Tree::of_repository()));
}

#[test]
fn the_table_of_errors_is_the_one_in_the_code() {
    report(&docs::error_table(Tree::of_repository().text("docs/protocol.md")));
}

#[test]
fn the_changelog_tells_of_this_version() {
    let tree = Tree::of_repository();
    report(&docs::changelog(tree.text("CHANGELOG.md"), &manifests::workspace_version(&tree)));
}

#[test]
fn decisions_have_their_parts() {
    report(&docs::decisions(&Tree::of_repository()));
}
