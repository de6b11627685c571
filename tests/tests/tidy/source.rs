//! The repository as the checks see it: its text files, and Rust code without comments, strings and
//! tests. Driven by `main`; it judges nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a check found: where, what, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: String,
    pub(crate) what: String,
    pub(crate) fix: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}: {}\n      fix: {}", self.place, self.what, self.fix)
    }
}

/// One text file; `path` is relative to the repository, with forward slashes.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All text files, and the names of all files.
pub(crate) struct Tree {
    pub(crate) sources: Vec<Source>,
    pub(crate) names: BTreeSet<String>,
    /// Path prefixes of modules declared under `#[cfg(test)]`; set once the sources are read.
    test_modules: Vec<String>,
}

const TEXT: [&str; 10] = ["rs", "md", "toml", "sh", "proto", "json", "yml", "yaml", "run", "txt"];
const TEXT_NAMES: [&str; 4] = ["Makefile", "NOTICE", ".gitignore", ".gitattributes"];
const NOT_OURS: [&str; 4] = ["target", "node_modules", "tidemark-data", ".git"];

pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies in the repository's root").to_path_buf()
}

impl Tree {
    pub(crate) fn of_repository() -> Tree {
        let mut tree = Tree::empty();
        tree.walk(&root(), "");
        tree.find_test_modules();
        assert!(tree.names.contains("Cargo.toml"), "{} is not the repository", root().display());
        tree
    }

    /// A tree for the self-tests of the checks.
    pub(crate) fn sample(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::empty();
        for (path, text) in files {
            tree.names.insert((*path).to_string());
            tree.sources.push(Source { path: (*path).to_string(), text: (*text).to_string() });
        }
        tree.find_test_modules();
        tree
    }

    fn empty() -> Tree {
        Tree { sources: Vec::new(), names: BTreeSet::new(), test_modules: Vec::new() }
    }

    fn find_test_modules(&mut self) {
        let mut found = Vec::new();
        for parent in self.rust() {
            let base = module_directory(&parent.path);
            found.extend(test_modules(&parent.text).iter().map(|module| format!("{base}{module}")));
        }
        self.test_modules = found;
    }

    fn walk(&mut self, directory: &Path, prefix: &str) {
        let entries = std::fs::read_dir(directory).expect("the repository can be read");
        let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            // A file may vanish while others work in the tree; what is gone needs no check.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"));
            } else {
                if is_text(&name)
                    && let Ok(text) = std::fs::read_to_string(entry.path())
                {
                    self.sources.push(Source { path: path.clone(), text });
                }
                self.names.insert(path);
            }
        }
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.path.ends_with(".rs"))
    }

    /// The text of a file that has to be there.
    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> &str {
        let found = self.sources.iter().find(|source| source.path == path);
        &found.unwrap_or_else(|| panic!("{path} is missing: write it")).text
    }

    /// Test folders, conformance suites, and modules declared under `#[cfg(test)]`.
    pub(crate) fn is_test(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| {
            matches!(*part, "tests" | "benches" | "fuzz" | "conformance.rs" | "conformance")
        }) {
            return true;
        }
        self.test_modules.iter().any(|module| {
            let rest = path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    }
}

fn is_text(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or(name, |(_, extension)| extension);
    TEXT.contains(&extension) || TEXT_NAMES.contains(&name)
}

/// Where the modules declared in this file lie, with a slash at the end.
fn module_directory(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => format!("{directory}/"),
        other => format!("{directory}/{}/", other.trim_end_matches(".rs")),
    }
}

fn test_modules(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut after_attribute = false;
    for line in text.lines().map(str::trim) {
        if let Some(module) = declared_module(line)
            && after_attribute
        {
            found.push(module);
        }
        let other_attribute = line.starts_with("#[") && after_attribute;
        after_attribute = line.starts_with("#[cfg(test)]") || other_attribute;
    }
    found
}

fn declared_module(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub(crate) ").unwrap_or(line);
    rest.strip_prefix("mod ")?.strip_suffix(';')
}

/// The code with comments, strings and characters blanked; lines stay where they are.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !after_word(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        if end > at {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(if bytes[at].is_ascii() { char::from(bytes[at]) } else { ' ' });
            at += 1;
        }
    }
    out
}

fn after_word(bytes: &[u8], at: usize) -> bool {
    at > 0
        && bytes[at - 1] != b'b'
        && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut i = at;
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"` or `r#"…"#`; `at` itself where this is no raw string.
fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return at;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = at + 2 + hashes;
    let end = bytes[body..].windows(close.len()).position(|window| window == close);
    end.map_or(bytes.len(), |n| body + n + close.len())
}

/// The end of a character literal; `at` itself for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            let end = bytes[at + 3..].iter().position(|byte| *byte == b'\'');
            end.map_or(bytes.len(), |n| at + 3 + n + 1)
        }
        Some(_) => {
            let quote = bytes[at + 2..].iter().take(4).position(|byte| *byte == b'\'');
            match quote {
                Some(n) if n == 0 || !bytes[at + 1].is_ascii() => at + 2 + n + 1,
                _ => at,
            }
        }
        None => at,
    }
}

/// Blanks `#[cfg(test)] mod … { … }` in code that went through [`code_only`].
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let end = item_end(from);
        out.extend(from[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &from[end..];
    }
    out.push_str(rest);
    out
}

/// The end of the item that an attribute stands on: its `;` or its closing brace.
fn item_end(code: &str) -> usize {
    let mut depth = 0usize;
    for (i, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return i + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return i + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether `word` stands in `code` as an identifier of its own; yields the offsets.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[*at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

#[test]
fn code_only_blanks_comments_strings_and_characters() {
    let code = code_only(
        "let a = \"x.unwrap()\"; // y.unwrap()\nlet b = r#\"\"z\"#; /* /* n */ */ c('\\n', '{', &'a d)",
    );
    assert!(!code.contains("unwrap") && !code.contains('z') && !code.contains('n'), "{code}");
    assert!(code.contains("let b") && code.contains("'a d") && !code.contains('{'), "{code}");
    assert_eq!(code.matches('\n').count(), 1);
}

#[test]
fn without_tests_blanks_only_the_test_module() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { if x {} } }\nfn c() {}";
    let rest = without_tests(code);
    assert!(rest.contains("fn a") && rest.contains("fn c") && !rest.contains("fn b"), "{rest}");
}

#[test]
fn a_module_declared_for_tests_is_a_test_file() {
    let parent = "mod real;\n#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod cases;\nmod other;";
    let tree = Tree::sample(&[("a/src/engine.rs", parent)]);
    assert!(tree.is_test("a/src/engine/cases.rs"));
    assert!(!tree.is_test("a/src/engine/real.rs") && !tree.is_test("a/src/engine/other.rs"));
}
