//! Dependencies between the crates, from `cargo metadata`, and what every manifest takes from the
//! workspace.

use std::process::Command;

use serde_json::Value;

use crate::source::{Problem, Tree, root};

/// Each crate and the crates of this workspace it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tidemark-protocol", &[]),
    ("tidemark-core", &["tidemark-protocol"]),
    ("tidemark-server", &["tidemark-protocol"]),
    ("tidemark-cli", &["tidemark-core", "tidemark-protocol", "tidemark-server"]),
    ("tidemark-bench", &["tidemark-core", "tidemark-protocol", "tidemark-server"]),
    ("tidemark-quickstart", &["tidemark-core", "tidemark-server"]),
    ("tidemark-tests", &["tidemark-core", "tidemark-protocol", "tidemark-server"]),
    ("tidemark-sim", &["tidemark-core", "tidemark-protocol", "tidemark-server"]),
];

pub(crate) fn cargo_metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// The manifests of all members, relative to the root.
pub(crate) fn member_manifests() -> Vec<String> {
    let root = format!("{}/", root().display()).replace('\\', "/");
    packages(&cargo_metadata())
        .iter()
        .filter_map(|package| package["manifest_path"].as_str())
        .map(|path| path.replace('\\', "/").trim_start_matches(&root).to_string())
        .collect()
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().map_or(&[], Vec::as_slice)
}

/// Dependencies, dev-dependencies and build-dependencies all count.
pub(crate) fn edges(metadata: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in packages(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            problems.push(Problem {
                place: name.to_string(),
                what: "a crate that the import directions do not know".into(),
                fix: "add it to ALLOWED in tests/tests/tidy/manifests.rs and to ARCHITECTURE.md",
            });
            continue;
        };
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        let ours = dependencies.iter().filter_map(|dependency| dependency["name"].as_str());
        for dependency in ours.filter(|name| name.starts_with("tidemark-")) {
            if !allowed.contains(&dependency) {
                problems.push(Problem {
                    place: name.to_string(),
                    what: format!("depends on {dependency}"),
                    fix: "move the shared code down (protocol) or the caller up (cli, tests); see ARCHITECTURE.md",
                });
            }
        }
    }
    problems
}

/// Lints, version, edition and licence come from the workspace.
pub(crate) fn inheritance(tree: &Tree, manifests: &[String]) -> Vec<Problem> {
    const WANTED: [&str; 5] = [
        "version.workspace = true",
        "edition.workspace = true",
        "rust-version.workspace = true",
        "license.workspace = true",
        "[lints]\nworkspace = true",
    ];
    let mut problems = Vec::new();
    for manifest in manifests {
        let text = tree.text(manifest);
        for wanted in WANTED.iter().filter(|wanted| !text.contains(**wanted)) {
            problems.push(Problem {
                place: manifest.clone(),
                what: format!("has no `{}`", wanted.replace('\n', " ")),
                fix: "take it from the workspace, as the other manifests do",
            });
        }
    }
    problems
}

pub(crate) fn workspace_version(tree: &Tree) -> String {
    let manifest = tree.text("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    line.expect("the workspace has a version").trim_end_matches('"').to_string()
}

#[test]
fn edges_fails_when_the_server_depends_on_the_client() {
    let bad = serde_json::json!({ "packages": [
        { "name": "tidemark-server", "dependencies": [{ "name": "tidemark-core" }, { "name": "tidemark-protocol" }] },
        { "name": "tidemark-extra", "dependencies": [] },
    ]});
    assert_eq!(edges(&bad).len(), 2);
}

#[test]
fn inheritance_fails_without_the_lints() {
    let whole = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                 license.workspace = true\n[lints]\nworkspace = true\n";
    let bare = whole.replace("[lints]\nworkspace = true\n", "");
    let tree = Tree::sample(&[("a/Cargo.toml", whole), ("b/Cargo.toml", &bare)]);
    let found = inheritance(&tree, &["a/Cargo.toml".into(), "b/Cargo.toml".into()]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, "b/Cargo.toml");
}
