//! What must not stay in the tree: `unwrap` in code that runs, work left for later, and names of one
//! machine. The forbidden words are put together here, so that this file does not contain them.

use crate::source::{Problem, Tree, code_only, line_of, without_tests, words};

/// `.unwrap()` outside tests.
pub(crate) fn unwraps(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in tree.rust().filter(|source| !tree.is_test(&source.path)) {
        let code = without_tests(&code_only(&source.text));
        for (at, _) in code.match_indices(".unwrap()") {
            problems.push(Problem {
                place: format!("{}:{}", source.path, line_of(&code, at)),
                what: "unwrap outside a test".into(),
                fix: "return an error, or `expect` with the invariant that holds",
            });
        }
    }
    problems
}

/// Marks of unfinished work.
pub(crate) fn leftovers(tree: &Tree) -> Vec<Problem> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!")];
    let mut problems = Vec::new();
    for source in &tree.sources {
        let in_text = marks.iter().flat_map(|mark| words(&source.text, mark));
        let code =
            if source.path.ends_with(".rs") { code_only(&source.text) } else { String::new() };
        let in_code = macros.iter().flat_map(|name| code.match_indices(name).map(|(at, _)| at));
        for at in in_text.chain(in_code) {
            problems.push(Problem {
                place: format!("{}:{}", source.path, line_of(&source.text, at)),
                what: "something is left for later".into(),
                fix: "do it, or say in the documentation that it is absent",
            });
        }
    }
    problems
}

/// Paths and hosts of one machine.
pub(crate) fn machine_names(tree: &Tree) -> Vec<Problem> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/t", "mp/"),
        concat!(".lib", "rary"),
        concat!("arti", "factory"),
    ];
    let mut problems = Vec::new();
    for source in &tree.sources {
        for (at, found) in words.iter().flat_map(|word| source.text.match_indices(*word)) {
            problems.push(Problem {
                place: format!("{}:{}", source.path, line_of(&source.text, at)),
                what: format!("names `{found}`, which is a place on one machine"),
                fix: "use a relative path, mktemp, or tempfile",
            });
        }
    }
    problems
}

#[test]
fn unwraps_fails_in_code_and_not_in_tests() {
    let bad = "fn a() { b().unwrap(); }\n#[cfg(test)]\nmod tests { fn c() { d().unwrap(); } }\n";
    let tree = Tree::sample(&[("server/src/a.rs", bad), ("tests/tests/e2e/a.rs", bad)]);
    let places: Vec<String> = unwraps(&tree).into_iter().map(|problem| problem.place).collect();
    assert_eq!(places, ["server/src/a.rs:1"]);
}

#[test]
fn leftovers_fails_on_marks_and_macros() {
    let mark = format!("// {}: later\n", concat!("TO", "DO"));
    let code = format!("//! ok\nfn a() {{ {}() }}\n", concat!("to", "do!"));
    let tree =
        Tree::sample(&[("docs/a.md", &mark), ("a.rs", &code), ("b.rs", "//! a TODOS list\n")]);
    let places: Vec<String> = leftovers(&tree).into_iter().map(|problem| problem.place).collect();
    assert_eq!(places, ["docs/a.md:1", "a.rs:2"]);
}

#[test]
fn machine_names_fails_on_a_path_of_one_machine() {
    let bad = format!("cd {}tidemark\n", concat!("/ho", "me/"));
    let tree = Tree::sample(&[("scripts/a.sh", &bad), ("scripts/b.sh", "cd ..\n")]);
    assert_eq!(machine_names(&tree).len(), 1);
}
