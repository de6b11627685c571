//! Who may use whom inside the crates, read from the code: the pure parts stay pure, and a heavy
//! dependency lives in one place so that one file replaces it. Dependencies between crates are in
//! `manifests`.

use crate::source::{Problem, Tree, code_only, line_of, without_tests, words};

/// Under `folder`, the crate or module `name` may only be used in `homes` (path prefixes).
struct Rule {
    folder: &'static str,
    name: &'static str,
    homes: &'static [&'static str],
    fix: &'static str,
}

const MODEL: &str = "sdk-core/protocol/src/model/";
const PURE_MODEL: &str =
    "the model is pure: encoding belongs to protocol/src/wire, stores and bindings";
const STORE_FIX: &str = "go through server/src/store, so that another engine stays possible";
const AXUM_FIX: &str =
    "HTTP belongs to server/src/http and the session's socket; pass plain data to the rest";
const SOCKET_FIX: &str =
    "sockets belong to sdk-core/src/runtime/native.rs, behind the transport trait";
const TOKIO_FIX: &str = "the core is platform-free: take time, tasks and channels from its runtime";
const CHAT_FIX: &str = "the full-screen terminal belongs to the chat";
const TOP_FIX: &str = "tests, bench and examples stand on top: nothing imports them";

const RULES: &[Rule] = &[
    Rule { folder: MODEL, name: "wire", homes: &[], fix: "imports go model <- wire, never back" },
    Rule { folder: MODEL, name: "serde", homes: &[], fix: PURE_MODEL },
    Rule { folder: MODEL, name: "serde_json", homes: &[], fix: PURE_MODEL },
    Rule { folder: MODEL, name: "prost", homes: &[], fix: PURE_MODEL },
    Rule { folder: "", name: "surrealdb_kvs", homes: &["server/src/store/"], fix: STORE_FIX },
    Rule { folder: "", name: "surrealdb_kvs_any", homes: &["server/src/store/"], fix: STORE_FIX },
    Rule { folder: "", name: "surrealdb_cnf", homes: &["server/src/store/"], fix: STORE_FIX },
    Rule {
        folder: "",
        name: "axum",
        homes: &[
            "server/src/http",
            "server/src/session",
            "server/src/server.rs",
            "tests/",
            "bench/",
        ],
        fix: AXUM_FIX,
    },
    Rule { folder: "", name: "hyper", homes: &["server/src/http"], fix: AXUM_FIX },
    Rule { folder: "", name: "hyper_util", homes: &["server/src/http"], fix: AXUM_FIX },
    Rule { folder: "", name: "crossterm", homes: &["cli/src/commands/chat"], fix: CHAT_FIX },
    Rule {
        folder: "",
        name: "tokio_tungstenite",
        homes: &["sdk-core/src/runtime/native", "tests/", "bench/", "fuzz/"],
        fix: SOCKET_FIX,
    },
    Rule {
        folder: "sdk-core/",
        name: "tokio",
        homes: &["sdk-core/src/runtime/native"],
        fix: TOKIO_FIX,
    },
    Rule { folder: "sdk-core/protocol/", name: "tokio", homes: &[], fix: TOKIO_FIX },
    Rule {
        folder: "sdk-core/",
        name: "tidemark_server",
        homes: &[],
        fix: "client and server never import each other",
    },
    Rule {
        folder: "server/",
        name: "tidemark_core",
        homes: &[],
        fix: "client and server never import each other",
    },
    Rule {
        folder: "",
        name: "automerge",
        homes: &["sdk-core/protocol/src/model/collab"],
        fix: PURE_MODEL,
    },
    Rule { folder: "", name: "tidemark_tests", homes: &["tests/"], fix: TOP_FIX },
    Rule { folder: "", name: "tidemark_bench", homes: &["bench/"], fix: TOP_FIX },
    Rule { folder: "", name: "tidemark_quickstart", homes: &["examples/"], fix: TOP_FIX },
];

/// Every use of a name outside its homes. Unit tests may use what they like.
pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in tree.rust().filter(|source| !source.path.starts_with("tests/tests/tidy/")) {
        let in_tests = tree.is_test(&source.path);
        let code = without_tests(&code_only(&source.text));
        for rule in RULES.iter().filter(|rule| applies(rule, &source.path)) {
            let about_layers = rule.fix == TOP_FIX || rule.name.starts_with("tidemark_");
            if in_tests && !about_layers {
                continue;
            }
            for at in words(&code, rule.name).filter(|at| is_path(&code, *at, rule.name)) {
                problems.push(Problem {
                    place: format!("{}:{}", source.path, line_of(&code, at)),
                    what: format!("uses `{}` outside its place", rule.name),
                    fix: rule.fix,
                });
            }
        }
    }
    problems
}

fn applies(rule: &Rule, path: &str) -> bool {
    path.starts_with(rule.folder) && !rule.homes.iter().any(|home| path.starts_with(home))
}

/// A path or a `use`, not a local name or a field that happens to be called so.
fn is_path(code: &str, at: usize, name: &str) -> bool {
    let after = code[at + name.len()..].trim_start();
    let line_start = code[..at].rfind('\n').map_or(0, |n| n + 1);
    let before = code[line_start..at].trim();
    let imported = before.ends_with("use") || before.ends_with("crate");
    after.starts_with("::")
        || imported
        || before.ends_with("crate::")
        || before.ends_with("super::")
}

#[cfg(test)]
fn places(files: &[(&str, &str)]) -> Vec<String> {
    check(&Tree::sample(files)).into_iter().map(|problem| problem.place).collect()
}

#[test]
fn the_model_may_not_use_the_wire_or_an_encoding() {
    let bad = "//! x\nuse crate::wire::codec;\nuse serde::Serialize;\nuse super::super::wire;\nlet wire = 1;\n";
    let found = places(&[("sdk-core/protocol/src/model/value.rs", bad)]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        places(&[(
            "sdk-core/protocol/src/wire/codec.rs",
            "use prost::Message;\nuse crate::model;\n"
        )])
        .is_empty()
    );
}

#[test]
fn heavy_dependencies_stay_in_their_place() {
    assert_eq!(places(&[("server/src/engine/lane.rs", "use surrealdb_kvs::Datastore;")]).len(), 1);
    assert_eq!(places(&[("server/src/engine/lane.rs", "fn a(x: axum::Router) {}")]).len(), 1);
    assert_eq!(places(&[("sdk-core/src/driver.rs", "use tokio::sync::mpsc;")]).len(), 1);
    assert_eq!(places(&[("cli/src/chat.rs", "tokio_tungstenite::connect_async(u)")]).len(), 1);
    assert!(places(&[("server/src/store/kvs.rs", "use surrealdb_kvs::Datastore;")]).is_empty());
    assert!(places(&[("server/src/session/socket.rs", "use axum::extract::ws;")]).is_empty());
    assert!(
        places(&[("sdk-core/src/runtime/native.rs", "use tokio::net; use tokio_tungstenite::x;")])
            .is_empty()
    );
}

#[test]
fn unit_tests_and_comments_are_free() {
    let code = "// use axum::Router\n#[cfg(test)]\nmod tests { use tokio::time; }\n";
    assert!(places(&[("sdk-core/src/engine.rs", code)]).is_empty());
}

#[test]
fn client_and_server_never_meet_even_in_tests() {
    assert_eq!(places(&[("sdk-core/tests/x.rs", "use tidemark_server::store;")]).len(), 1);
    assert_eq!(places(&[("server/src/a.rs", "use tidemark_core::Client;")]).len(), 1);
    assert_eq!(places(&[("cli/src/a.rs", "use tidemark_tests::TestServer;")]).len(), 1);
}
