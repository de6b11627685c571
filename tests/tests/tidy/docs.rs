//! Documents that name what exists: paths, items, tests, the quickstart, the version. A token in
//! backticks counts as a path when it begins with a folder of the repository or ends like a file of
//! it; `path::item` also has to name an item of that file.

use std::collections::BTreeSet;

use tidemark_protocol::model::Code;

use crate::source::{Problem, Source, Tree, code_only, line_of, words};

const EXTENSIONS: [&str; 6] = [".rs", ".md", ".toml", ".sh", ".proto", ".lock"];
/// Folders the design knows and the tree may lack: naming one is a claim that it is there.
const CLAIMS: [&str; 4] = ["sdk-wasm", "sdk-mobile", "console", "fuzz"];
/// Files of the reader, not of the repository.
const NOT_HERE: [&str; 2] = ["tidemark.toml", "target"];

fn documents(tree: &Tree) -> impl Iterator<Item = &Source> {
    tree.sources.iter().filter(|source| source.path.ends_with(".md"))
}

/// Every path, and every `path::item`, in backticks.
pub(crate) fn named_paths(tree: &Tree) -> Vec<Problem> {
    let tops: BTreeSet<&str> = tree
        .names
        .iter()
        .filter_map(|name| name.split_once('/'))
        .map(|(top, _)| top)
        .chain(CLAIMS)
        .collect();
    let mut problems = Vec::new();
    for document in documents(tree) {
        for (line, token) in backticked(&document.text) {
            let (path, item) = token.split_once("::").map_or((token, None), |(p, i)| (p, Some(i)));
            let Some(what) = wrong_with(tree, &tops, path, item) else { continue };
            // The readme of a crate may name its files from where it stands.
            let from_here =
                |folder| wrong_with(tree, &tops, &format!("{folder}/{path}"), item).is_none();
            if above(&document.path).any(from_here) {
                continue;
            }
            problems.push(Problem {
                place: format!("{}:{line}", document.path),
                what: format!("`{token}`: {what}"),
                fix: "name what exists now; what is not built is said in words, not as a path",
            });
        }
    }
    problems
}

/// The folders that a document lies in, but for the root.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn wrong_with(
    tree: &Tree,
    tops: &BTreeSet<&str>,
    path: &str,
    item: Option<&str>,
) -> Option<String> {
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
    let path = path.trim_start_matches("./");
    let top = path.split('/').next().unwrap_or_default();
    let is_file =
        EXTENSIONS.iter().any(|extension| path.ends_with(extension) && path != *extension);
    if !plain || path.is_empty() || NOT_HERE.contains(&top) {
        return None;
    }
    let found: Vec<&String> = if path.contains('/') {
        if !tops.contains(top) {
            return None;
        }
        let path = path.trim_end_matches('/');
        tree.names.iter().filter(|name| matches(name, path)).collect()
    } else if is_file {
        tree.names.iter().filter(|name| name.rsplit('/').next() == Some(path)).collect()
    } else {
        return None;
    };
    if found.is_empty() {
        return Some("there is no such file or folder".into());
    }
    let item = item?;
    let names = |name: &&String| {
        tree.sources.iter().any(|source| source.path == **name && has_item(&source.text, item))
    };
    (!found.iter().any(names)).then(|| format!("the file has no `{item}`"))
}

/// A file, a folder, or a pattern with one `*`.
fn matches(name: &str, path: &str) -> bool {
    match path.split_once('*') {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
    }
}

/// `name` or `Type::name`: each part is a word of the code.
fn has_item(text: &str, item: &str) -> bool {
    let code = code_only(text);
    item.trim_end_matches("()").split("::").all(|part| words(&code, part).next().is_some())
}

/// Tokens in single backticks, outside fenced code.
fn backticked(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|token| (index + 1, token)));
        }
    }
    found
}

/// Relative links of the documents.
pub(crate) fn links(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for document in documents(tree) {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (at, _) in document.text.match_indices("](") {
            let rest = &document.text[at + 2..];
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = resolve(folder, target.trim_end_matches('/'));
            if !tree.names.iter().any(|name| matches(name, &path)) {
                problems.push(Problem {
                    place: format!("{}:{}", document.path, line_of(&document.text, at)),
                    what: format!("links to {target}, which does not exist"),
                    fix: "correct the link, relative to the document",
                });
            }
        }
    }
    problems
}

fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The README shows `main.rs` of the quickstart, without its module header.
pub(crate) fn quickstart(readme: &str, main: &str) -> Vec<Problem> {
    let body = main.lines().skip_while(|line| {
        line.starts_with("//!") || line.starts_with("#![") || line.trim().is_empty()
    });
    let body = body.collect::<Vec<_>>().join("\n");
    let shown = between(readme, "<!-- quickstart -->", "<!-- /quickstart -->").and_then(|block| {
        block
            .trim()
            .strip_prefix("```rust\n")?
            .strip_suffix("```")
            .map(|code| code.trim_end().to_string())
    });
    if shown.as_deref() == Some(body.trim_end()) {
        return Vec::new();
    }
    let place = match &shown {
        None => "no ```rust block between the quickstart markers".to_string(),
        Some(code) => {
            let differs = body.lines().zip(code.lines()).position(|(ours, shown)| ours != shown);
            let line = differs.unwrap_or_else(|| body.lines().count().min(code.lines().count()));
            format!("differs from the compiled code at its line {}", line + 1)
        }
    };
    vec![Problem {
        place: "README.md".into(),
        what: place,
        fix: "copy examples/quickstart/src/main.rs (without its header) between the quickstart markers",
    }]
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

/// Each promise has a section that names tests (`file.rs::test`), or says that it is not built.
pub(crate) fn promises(tree: &Tree) -> Vec<Problem> {
    let text = tree.text("docs/promises.md");
    let mut problems = Vec::new();
    for number in 1..=9 {
        let heading = format!("\n## P{number} ");
        let section = text
            .split_once(heading.as_str())
            .map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
        let cited: Vec<&str> = section.map(cited_tests).unwrap_or_default();
        let absent = section.is_some_and(|section| section.contains("Not built yet"));
        if cited.is_empty() && !absent {
            problems.push(Problem {
                place: "docs/promises.md".into(),
                what: format!("P{number} names no test"),
                fix: "name tests as `path/file.rs::test_name`, or say \"Not built yet\" and what is missing",
            });
        }
        for cite in cited.into_iter().filter(|cite| !is_test_function(tree, cite)) {
            problems.push(Problem {
                place: "docs/promises.md".into(),
                what: format!("P{number} names {cite}, which is not a test"),
                fix: "name a `#[test]` function by the path of its file",
            });
        }
    }
    problems
}

fn cited_tests(section: &str) -> Vec<&str> {
    let tokens = backticked(section).into_iter().map(|(_, token)| token);
    tokens.filter(|token| token.contains(".rs::")).collect()
}

/// An attribute that ends in `test]` (or a `proptest!` block) stands before `fn name`.
fn is_test_function(tree: &Tree, cite: &str) -> bool {
    let Some((path, name)) = cite.split_once("::") else { return false };
    let Some(source) = tree.sources.iter().find(|source| source.path == path) else { return false };
    let code = code_only(&source.text);
    let Some(at) = code.find(&format!("fn {name}(")) else { return false };
    let before = &code[..at];
    let attributes = before.rfind(['}', ';']).map_or(before, |end| &before[end..]);
    attributes.contains("test]") || attributes.contains("test(")
}

/// The changelog has a section for the workspace's version.
pub(crate) fn changelog(text: &str, version: &str) -> Vec<Problem> {
    let heading = format!("## {version}");
    if text.lines().any(|line| line.starts_with(&heading)) {
        return Vec::new();
    }
    vec![Problem {
        place: "CHANGELOG.md".into(),
        what: format!("has no section `{heading}`"),
        fix: "add the section and say what changes for users",
    }]
}

/// The table of error codes says what the code says.
pub(crate) fn error_table(text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for code in Code::ALL {
        let again = if code.is_retryable() { "yes" } else { "no" };
        let (number, name, rest, http) =
            (code.number(), code.name(), code.status_name(), code.http_status());
        let row = format!(
            "| {number} | `{name}` | `{rest}` | {http} | {} | {again} |",
            code.close_code()
        );
        if !text.lines().any(|line| line == row) {
            problems.push(Problem {
                place: "docs/protocol.md".into(),
                what: format!("has no row {row}"),
                fix: "make the table agree with sdk-core/protocol/src/model/error.rs",
            });
        }
    }
    problems
}

/// A decision is numbered once and has its four parts.
pub(crate) fn decisions(tree: &Tree) -> Vec<Problem> {
    const PARTS: [&str; 4] =
        ["\n## Context\n", "\n## Options\n", "\n## Choice\n", "\n## Consequences\n"];
    let mut problems = Vec::new();
    let mut numbers = BTreeSet::new();
    for source in documents(tree).filter(|source| source.path.starts_with("docs/decisions/")) {
        let number: String = source.path["docs/decisions/".len()..].chars().take(4).collect();
        let numbered = number.chars().all(|c| c.is_ascii_digit()) && numbers.insert(number);
        let missing =
            PARTS.iter().filter(|part| !source.text.contains(**part)).map(|part| part.trim());
        let missing = missing.chain((!numbered).then_some("a number of its own"));
        problems.extend(missing.map(|part| Problem {
            place: source.path.clone(),
            what: format!("lacks {part}"),
            fix: "a decision is NNNN-name.md with Context, Options, Choice and Consequences",
        }));
    }
    problems
}

#[test]
fn named_paths_fails_on_what_is_not_there() {
    let text = "See `src/a.rs`, `src/a.rs::run`, `src/gone.rs`, `src/a.rs::missing`, `rooms/a/messages/1`,\n\
                `gone.toml`, `sdk-wasm/`, `src/*.rs`, `src/`, `0.1.0`\n```\n`src/fenced.rs`\n```\n";
    let readme = "`src/b.rs`, `src/c.rs`";
    let tree = Tree::sample(&[
        ("ARCHITECTURE.md", text),
        ("src/a.rs", "fn run() {} // missing"),
        ("src/a/README.md", readme),
        ("src/a/src/b.rs", ""),
    ]);
    let found: Vec<String> = named_paths(&tree).into_iter().map(|problem| problem.what).collect();
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn links_fails_on_a_dead_link() {
    let tree = Tree::sample(&[
        ("docs/a.md", "[b](b.md) [up](../README.md#x) [web](https://example.org) [no](c.md)"),
        ("docs/b.md", "[folder](../docs/)"),
        ("README.md", ""),
    ]);
    assert_eq!(links(&tree).len(), 1);
}

#[test]
fn quickstart_fails_on_a_difference() {
    let main = "//! Header.\n\nfn main() {\n    a();\n}\n";
    let readme = |code: &str| {
        format!("# T\n<!-- quickstart -->\n```rust\n{code}```\n<!-- /quickstart -->\n")
    };
    assert!(quickstart(&readme("fn main() {\n    a();\n}\n"), main).is_empty());
    assert!(quickstart(&readme("fn main() {\n    b();\n}\n"), main)[0].what.contains("line 2"));
    assert_eq!(quickstart("# T\n", main).len(), 1);
}

#[test]
fn promises_fails_without_a_test_and_on_a_helper() {
    let sections = (3..=9).map(|n| format!("## P{n} x\nNot built yet: y\n\n")).collect::<String>();
    let text =
        format!("# P\n\n## P1 a\n`t.rs::breaks`, `t.rs::helper`\n\n## P2 b\nnothing\n\n{sections}");
    let code = "#[tokio::test]\nasync fn breaks() {}\nfn helper() {}\n";
    let tree = Tree::sample(&[("docs/promises.md", &text), ("t.rs", code)]);
    let found: Vec<String> = promises(&tree).into_iter().map(|problem| problem.what).collect();
    assert_eq!(found, ["P1 names t.rs::helper, which is not a test", "P2 names no test"]);
}

#[test]
fn changelog_fails_without_the_version() {
    assert!(changelog("# C\n\n## 0.1.0 (unreleased)\n", "0.1.0").is_empty());
    assert_eq!(changelog("# C\n\n## 0.0.9\n", "0.1.0").len(), 1);
}

#[test]
fn error_table_fails_on_a_wrong_row() {
    assert_eq!(error_table("| 5 | `not-found` | `NOT_FOUND` | 404 | 4005 | yes |\n").len(), 16);
    let right = "| 5 | `not-found` | `NOT_FOUND` | 404 | 4005 | no |\n";
    assert_eq!(error_table(right).len(), 15);
}

#[test]
fn decisions_fails_on_a_missing_part() {
    let whole = "# T\n\n## Context\na\n\n## Options\nb\n\n## Choice\nc\n\n## Consequences\nd\n";
    let part = whole.replace("\n## Choice\n", "\n## Wish\n");
    let tree =
        Tree::sample(&[("docs/decisions/0001-a.md", whole), ("docs/decisions/0002-b.md", &part)]);
    assert_eq!(decisions(&tree).len(), 1);
}
