//! The real binary as a server and as clients: what comes in goes out again, exit codes, and what
//! holds when the server is killed in the middle.
#![allow(clippy::unwrap_used)]

mod harness;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{Background, Ran, TestServer};
use serde_json::{Value, json};

fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn paths(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["path"].as_str()).collect()
}

/// `count` messages in three rooms, as JSON lines.
fn messages(count: usize) -> String {
    let line = |seq: usize| {
        let room = ["a", "b", "c"][seq % 3];
        format!("{}\n", json!({"room": room, "seq": seq, "text": format!("line {seq} é日")}))
    };
    (0..count).map(line).collect()
}

const TEMPLATE: &str = "rooms/{room}/messages/{room}-{seq}";

#[test]
fn documents_are_written_read_changed_and_deleted() {
    let server = TestServer::start();
    let document = r#"{"title":"Hamlet","acts":5,"at":{"$timestamp":"2026-01-02T03:04:05Z"}}"#;
    server.run(&["set", "plays/hamlet", document]).succeeds();
    let update = ["update", "plays/hamlet", "meta.genre=\"tragedy\"", "--increment", "acts=1"];
    server.run(&update).succeeds();
    server.run(&["set", "plays/hamlet", r#"{"meta":{"year":1601}}"#, "--merge"]).succeeds();
    let got = server.run(&["get", "plays/hamlet", "--json"]).succeeds();
    let line = &lines(&got.stdout)[0];
    let expected = json!({"title": "Hamlet", "acts": 6, "meta": {"genre": "tragedy", "year": 1601},
        "at": {"$timestamp": "2026-01-02T03:04:05Z"}});
    assert_eq!(line["fields"], expected);
    assert!(line["update_version"].as_u64() > line["create_version"].as_u64());

    let text = server.run(&["get", "plays/hamlet"]).succeeds().stdout;
    assert!(text.starts_with("plays/hamlet  updated 20"), "{text}");
    assert!(text.contains("  title  \"Hamlet\"\n"), "{text}");

    server.run(&["delete", "plays/hamlet"]).succeeds();
    server.run(&["delete", "plays/hamlet", "--if-exists"]).succeeds();
}

#[test]
fn failures_have_codes_hints_and_nothing_on_stdout() {
    let server = TestServer::start();
    server.run(&["set", "a/b", "{}"]).succeeds();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["get", "a/missing"], 3, "error[not-found]"),
        (&["update", "a/missing", "x=1"], 3, "error[not-found]"),
        (&["delete", "a/missing"], 3, "error[not-found]"),
        (&["set", "a/b", "{}", "--create"], 4, "error[already-exists]"),
        (&["get", "a"], 2, "error[invalid-argument]"),
        (&["set", "a/b", "[1]"], 2, "JSON object"),
        (&["set", "a/b", "nonsense"], 2, "quotes"),
        (&["update", "a/b"], 2, "required"),
        (&["query", "a", "--where", "x ~ 1"], 2, "unknown operator"),
        (&["query", "a", "--where", "x == 1 or"], 2, "expected a condition"),
        (&["query", "a", "--limit-to-last", "2"], 2, "without an order"),
        (&["query", "a", "--nearest", "v=1", "--limit", "2"], 2, "array of numbers"),
        (&["query", "a", "--start-at-document", "a/missing"], 2, "does not exist"),
        (&["indexes", "create", "a", "__name__"], 2, "do not list it"),
        (&["indexes", "drop", "77"], 3, "error[not-found]"),
        (
            &["query", "a", "--where", "x > 1", "--order-by", "y", "--start-at", "[1,2,3,4]"],
            2,
            "error[",
        ),
        (&["watch", "a/b", "--limit", "1"], 2, "queries are for collections"),
        (&["import", "/no/such/file", "a/{b}"], 1, "/no/such/file"),
        (&["import", "/no/such/file", "a/{b"], 2, "unmatched"),
        (&["get", "a/b", "--project", "another"], 3, "error[not-found]"),
        (&["frobnicate"], 2, "unrecognized"),
    ];
    for (arguments, code, message) in cases {
        let ran = server.run(arguments);
        assert_eq!(ran.code, Some(*code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn without_a_server_the_time_limit_holds() {
    let server = TestServer::start();
    let url = server.url();
    drop(server);
    let ran = Ran::of(&["get", "a/b", "--url", &url, "--timeout", "300ms"]);
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert!(ran.stderr.contains("refused"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: is the server running?"), "{}", ran.stderr);
    let ran = Ran::of(&["set", "a/b", "{}", "--url", &url, "--timeout", "300ms"]);
    assert_eq!(ran.code, Some(6), "{}", ran.stderr);
    assert!(ran.stderr.contains("no connection within 0.3 s"), "{}", ran.stderr);
}

#[test]
fn queries_filter_order_limit_and_page() {
    let server = TestServer::start();
    for n in 0..6 {
        let document = json!({"n": n, "even": n % 2 == 0}).to_string();
        server.run(&["set", &format!("numbers/d{n}"), &document]).succeeds();
    }
    let ask = |clauses: &[&str]| {
        let ran = server.run(&[&["query", "numbers", "--json"], clauses].concat()).succeeds();
        let lines = lines(&ran.stdout);
        lines.iter().map(|line| line["fields"]["n"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&["--where", "even == true"]), [0, 2, 4]);
    assert_eq!(ask(&["--where", "n>1", "--where", "n <= 4"]), [2, 3, 4]);
    assert_eq!(ask(&["--order-by", "n:desc", "--limit", "2"]), [5, 4]);
    assert_eq!(ask(&["--order-by", "n", "--start-after", "2", "--end-before", "5"]), [3, 4]);
    assert_eq!(ask(&["--where", r#"__name__ >= "numbers/d4""#]), [4, 5]);
}

/// Two shelves of numbered books.
fn books(server: &TestServer) {
    for n in 0..8 {
        let kind = ["tragedy", "comedy"][n % 2];
        let document = json!({"n": n, "kind": kind, "tags": [format!("t{}", n % 3)]}).to_string();
        server.run(&["set", &format!("shelves/s{}/books/b{n}", n / 4), &document]).succeeds();
    }
}

#[test]
fn conditions_groups_windows_and_fields() {
    let server = TestServer::start();
    books(&server);
    let ask = |clauses: &[&str]| {
        let ran = server.run(&[&["query", "--json"], clauses].concat()).succeeds();
        let lines = lines(&ran.stdout);
        let ids =
            lines.iter().map(|line| line["path"].as_str().unwrap().rsplit('/').next().unwrap());
        ids.collect::<Vec<_>>().join(" ")
    };
    let all = |clauses: &[&str]| ask(&[&["books", "--group", "--order-by", "n"], clauses].concat());
    assert_eq!(all(&["--where", r#"kind == "comedy" and (n < 2 or n in [5, 7])"#]), "b1 b5 b7");
    assert_eq!(all(&["--where", r#"kind != "comedy""#, "--where", "n > 1"]), "b2 b4 b6");
    assert_eq!(all(&["--where", r#"tags array-contains "t1""#]), "b1 b4 b7");
    assert_eq!(all(&["--where", r#"tags array-contains-any ["t1","t2"] and n < 3"#]), "b1 b2");
    assert_eq!(all(&["--where", "n not-in [0,1,2,3,4]"]), "b5 b6 b7");
    assert_eq!(all(&["--limit-to-last", "2"]), "b6 b7");
    assert_eq!(all(&["--offset", "2", "--limit", "2"]), "b2 b3");
    assert_eq!(all(&["--start-after-document", "shelves/s1/books/b5"]), "b6 b7");
    let between = ["--start-at-document", "shelves/s0/books/b1", "--end-before-document"];
    assert_eq!(all(&[&between[..], &["shelves/s0/books/b3"]].concat()), "b1 b2");
    assert_eq!(ask(&["books", "--under", "shelves/s1", "--limit", "2"]), "b4 b5");
    let part =
        server.run(&["query", "shelves/s0/books", "--select", "n,kind", "--limit", "1", "--json"]);
    assert_eq!(lines(&part.succeeds().stdout)[0]["fields"], json!({"n": 0, "kind": "tragedy"}));
    let both = ["query", "a", "--limit", "1", "--limit-to-last", "1"];
    assert_eq!(server.run(&both).code, Some(2));
}

#[test]
fn the_nearest_are_told_with_their_distance() {
    let server = TestServer::start();
    for (id, vector) in [("a", "[1,0]"), ("b", "[0,2]"), ("c", "[3,4]")] {
        let document = format!("{{\"v\":{{\"$vector\":{vector}}}}}");
        server.run(&["set", &format!("points/{id}"), &document]).succeeds();
    }
    let near = ["query", "points", "--nearest", "v=[0,1]", "--limit", "2", "--json"];
    let found = server.run(&[&near[..], &["--distance-field", "d"]].concat()).succeeds();
    let found = lines(&found.stdout);
    assert_eq!(paths(&found), ["points/b", "points/a"]);
    assert_eq!(found[0]["fields"]["d"], json!(1.0));
    let by_cosine = server.run(&[&near[..], &["--measure", "cosine"]].concat()).succeeds();
    assert_eq!(paths(&lines(&by_cosine.stdout)), ["points/b", "points/c"]);
    let live = server.run(&["watch", "points", "--nearest", "v=[0,1]", "--limit", "2"]);
    assert!(
        live.code == Some(2) && live.stderr.contains("cannot be listened to"),
        "{}",
        live.stderr
    );
}

#[test]
fn values_are_computed_once_and_followed() {
    let server = TestServer::start();
    books(&server);
    let values = ["books", "--group", "--count", "--sum", "n", "--average", "n", "--json"];
    let once = server.run(&[&["query"], &values[..]].concat()).succeeds();
    let expected = json!({"count": 8, "sum(n)": 28, "average(n)": 3.5});
    assert_eq!(lines(&once.stdout)[0]["values"], expected);
    let text = server.run(&["query", "books", "--group", "--count"]).succeeds().stdout;
    assert_eq!(text, "count  8\n");

    let until = ["--where", r#"kind == "comedy""#, "--until-count", "5"];
    let mut watch = server.spawn(&[&["watch"], &values[..], &until[..]].concat());
    let first = watch.json();
    assert_eq!((&first["type"], &first["values"]["count"]), (&json!("values"), &json!(4)));
    server.run(&["update", "shelves/s0/books/b1", "n=11"]).succeeds();
    let second = watch.json();
    assert_eq!(second["values"], json!({"count": 4, "sum(n)": 26, "average(n)": 6.5}));
    assert!(second["version"].as_u64() > first["version"].as_u64());
    server.run(&["set", "shelves/s9/books/new", r#"{"kind":"comedy","n":0}"#]).succeeds();
    assert_eq!(watch.json()["values"]["count"], 5);
    assert_eq!(watch.wait(), Some(0));
    let document = server.run(&["watch", "shelves/s0", "--count"]);
    assert_eq!(document.code, Some(2));
}

#[test]
fn explanations_suggest_a_command_and_indexes_are_managed() {
    let server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    let books = folder.path().join("books.jsonl");
    let line = |n: usize| format!("{}\n", json!({"n": n, "kind": (["tragedy", "comedy"][n % 2])}));
    std::fs::write(&books, (0..80).map(line).collect::<String>()).unwrap();
    server.import(&[books.to_str().unwrap(), "shelves/s/books/{n}"]).succeeds();
    let mut query = vec!["query", "books", "--group", "--where", r#"kind == "comedy""#];
    query.extend(["--order-by", "n:desc", "--limit", "3", "--explain"]);
    let explain = || {
        let ran = server.run(&[&query[..], &["--json"]].concat()).succeeds();
        lines(&ran.stdout).remove(0)
    };
    let before = explain();
    assert_eq!((&before["type"], &before["results"]), (&json!("explanation"), &json!(3)));
    assert_eq!(before["suggestion"], "tidemark indexes create books kind n:desc --group");
    let text = server.run(&query).succeeds().stdout;
    assert!(
        text.contains("\nwould help       tidemark indexes create books kind n:desc --group\n"),
        "{text}"
    );

    let suggested = before["suggestion"].as_str().unwrap();
    let words: Vec<&str> = suggested.split(' ').skip(1).chain(["--wait", "--json"]).collect();
    let created = lines(&server.run(&words).succeeds().stdout).remove(0);
    assert_eq!(
        (&created["state"], &created["queryScope"]),
        (&json!("READY"), &json!("COLLECTION_GROUP"))
    );
    assert_eq!(server.run(&words).code, Some(4), "it exists");
    let after = explain();
    assert_eq!((&after["entries_scanned"], &after["suggestion"]), (&json!(3), &Value::Null));
    assert_eq!(after["scanned_per_result"], json!(1.0));

    server.run(&["indexes", "exempt", "books", "tags"]).succeeds();
    let listed = server.run(&["indexes", "list"]).succeeds().stdout;
    assert!(listed.contains("group books(kind, n desc)"), "{listed}");
    assert!(listed.contains("tags of books: not indexed automatically"), "{listed}");
    let id = created["id"].to_string();
    server.run(&["indexes", "unexempt", "books", "tags"]).succeeds();
    server.run(&["indexes", "drop", &id]).succeeds();
    assert_ne!(explain()["suggestion"], Value::Null);

    let file = folder.path().join("firestore.indexes.json");
    let declared = json!({"indexes": [{"collectionGroup": "books", "queryScope": "COLLECTION", "fields": [
        {"fieldPath": "kind", "order": "ASCENDING"}, {"fieldPath": "n", "order": "DESCENDING"}]}]});
    std::fs::write(&file, declared.to_string()).unwrap();
    let import = ["indexes", "import", file.to_str().unwrap(), "--wait", "--json"];
    let imported = lines(&server.run(&import).succeeds().stdout).remove(0);
    assert_eq!(imported["created"].as_array().unwrap().len(), 1);
    let again = lines(&server.run(&import).succeeds().stdout).remove(0);
    assert_eq!(again["created"], json!([]), "what is there is kept");
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(server.run(&import).code, Some(2));
}

#[test]
fn an_import_comes_out_again_and_a_rerun_does_nothing() {
    let server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("messages.jsonl.gz");
    let mut gzip = GzEncoder::new(File::create(&input).unwrap(), Compression::fast());
    gzip.write_all(messages(700).as_bytes()).unwrap();
    gzip.finish().unwrap();
    let input = input.to_str().unwrap();

    let first = server.import(&[input, TEMPLATE, "--json"]).succeeds();
    let summary = &lines(&first.stdout)[0];
    assert_eq!(summary["imported"], 700);
    assert_eq!(summary["complete"], true);
    let again = server.import(&[input, TEMPLATE, "--json"]).succeeds();
    assert!(again.stderr.contains("already imported"), "{}", again.stderr);
    assert_eq!(lines(&again.stdout)[0]["imported"], 0);
    let fresh = server.import(&[input, TEMPLATE, "--json", "--fresh"]).succeeds();
    assert_eq!(lines(&fresh.stdout)[0]["imported"], 700);

    let exported = folder.path().join("out.jsonl.gz");
    let exported = exported.to_str().unwrap();
    server.run(&["export", "rooms/b/messages", "--out", exported]).succeeds();
    let before = server.run(&["export", "rooms/b/messages"]).succeeds().stdout;
    assert_eq!(lines(&before).len(), 233);

    let other = TestServer::start();
    other.import(&[exported]).succeeds();
    assert_eq!(other.run(&["export", "rooms/b/messages"]).succeeds().stdout, before);
}

#[test]
fn an_emptied_server_gets_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("messages.jsonl");
    std::fs::write(&input, messages(60)).unwrap();
    let mut server = TestServer::start();
    server.import(&[input.to_str().unwrap(), TEMPLATE]).succeeds();
    server.kill();
    server.forget_data();
    server.restart();
    let again = server.import(&[input.to_str().unwrap(), TEMPLATE, "--json"]).succeeds();
    assert_eq!(lines(&again.stdout)[0]["imported"], 60, "{}", again.stderr);
}

#[test]
fn a_bad_line_stops_and_the_next_run_continues_there() {
    let server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("messages.jsonl");
    let text = messages(59) + r#"{"room":"x/y","seq":1}"# + "\n" + &messages(200);
    std::fs::write(&input, text).unwrap();
    let input = input.to_str().unwrap();

    let stopped = server.import(&[input, TEMPLATE]);
    assert_eq!(stopped.code, Some(7), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("error[bad-input]: line 60: field `room`"),
        "{}",
        stopped.stderr
    );
    let again = server.import(&[input, TEMPLATE, "--skip-bad", "--json"]).succeeds();
    let summary = &lines(&again.stdout)[0];
    assert_eq!(summary["done_before"], 59);
    assert_eq!(summary["imported"], 200);
    assert_eq!(summary["bad"], 1);
}

#[test]
fn a_watch_prints_every_change_once_and_in_order() {
    let mut server = TestServer::start();
    server.run(&["set", "numbers/a", r#"{"n":1}"#]).succeeds();
    let mut watch = server.spawn(&["watch", "numbers", "--json", "--where", "n > 0"]);
    assert_eq!(watch.json()["type"], "added");
    assert_eq!(watch.json()["type"], "current");
    let steps = [
        (r#"{"n":2}"#, "numbers/b", "added"),
        (r#"{"n":3}"#, "numbers/b", "modified"),
        (r#"{"n":0}"#, "numbers/b", "removed"),
    ];
    let mut version = 0;
    for (document, path, kind) in steps {
        server.run(&["set", path, document]).succeeds();
        let line = watch.json();
        assert_eq!((line["type"].as_str(), line["path"].as_str()), (Some(kind), Some(path)));
        assert!(line["version"].as_u64().unwrap() > version, "{line}");
        version = line["version"].as_u64().unwrap();
    }
    server.kill();
    server.restart();
    server.run(&["delete", "numbers/a"]).succeeds();
    let line = watch.json_but("current");
    assert_eq!(
        (line["type"].as_str(), line["path"].as_str()),
        (Some("removed"), Some("numbers/a"))
    );
}

#[test]
fn a_document_is_watched_through_its_lives() {
    let server = TestServer::start();
    let mut watch = server.spawn(&["watch", "a/b", "--json"]);
    assert_eq!(watch.json()["type"], "current");
    for kind in ["added", "modified"] {
        server.run(&["set", "a/b", &json!({"kind": kind}).to_string()]).succeeds();
        let line = watch.json();
        assert_eq!(line["type"], kind);
        assert_eq!(line["fields"]["kind"], kind);
    }
    server.run(&["delete", "a/b"]).succeeds();
    assert_eq!(watch.json()["type"], "removed");
    watch.interrupt();
    assert_eq!(watch.wait(), Some(0));
}

#[test]
fn an_import_survives_kills_of_the_server_and_a_watch_sees_all_of_it_once() {
    const COUNT: usize = 6000;
    let mut server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("messages.jsonl");
    std::fs::write(&input, messages(COUNT)).unwrap();
    let expected = COUNT / 3;
    let until = expected.to_string();
    let watch = ["watch", "rooms/a/messages", "--json", "--until-count", &until];
    let mut watch = server.spawn(&watch);
    assert_eq!(watch.json()["type"], "current");
    let mut import = server.spawn_import(&[input.to_str().unwrap(), TEMPLATE, "--window", "50"]);
    let mut seen = Vec::new();
    for share in 1..=3 {
        // The kills come when the watch has seen a quarter more.
        while seen.len() < expected * share / 4 {
            seen.push(watch.json_but("current"));
        }
        server.kill();
        server.restart();
    }
    assert_eq!(import.wait(), Some(0), "{}", import.stderr());
    while seen.len() < expected {
        seen.push(watch.json_but("current"));
    }
    assert_eq!(watch.wait(), Some(0), "{}", watch.stderr());
    let mut unique: Vec<&str> = paths(&seen);
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), expected, "every document once");
    assert!(seen.iter().all(|line| line["type"] == "added"));
    let versions: Vec<u64> = seen.iter().map(|line| line["version"].as_u64().unwrap()).collect();
    assert!(versions.is_sorted(), "in commit order");
    for room in ["a", "b", "c"] {
        let exported = server.run(&["export", &format!("rooms/{room}/messages")]).succeeds();
        assert_eq!(lines(&exported.stdout).len(), expected);
    }
}

#[test]
fn two_people_talk_across_a_kill_of_the_server() {
    let mut server = TestServer::start();
    let mut ann = server.spawn(&["chat", "hall", "--as", "ann", "--json"]);
    let mut bob = server.spawn(&["chat", "hall", "--as", "bob", "--json"]);
    ann.say("one");
    let text = |line: &Value| line["text"].as_str().unwrap().to_owned();
    assert_eq!(text(&bob.json()), "one");
    server.kill();
    ann.say("two");
    ann.say("three");
    server.restart();
    assert_eq!(text(&bob.json()), "two");
    assert_eq!(text(&bob.json()), "three");
    bob.say("four");
    let mut heard: Vec<Value> = (0..7).map(|_| ann.json()).collect();
    let local: Vec<Value> = heard.extract_if(.., |line| line["type"] == "local").collect();
    assert_eq!(local.iter().map(text).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(heard.iter().map(text).collect::<Vec<_>>(), ["one", "two", "three", "four"]);
    let own: Vec<bool> = heard.iter().map(|line| line["own"].as_bool().unwrap()).collect();
    assert_eq!(own, [true, true, true, false]);
    for person in [&mut ann, &mut bob] {
        person.close_input();
        assert_eq!(person.wait(), Some(0), "{}", person.stderr());
    }
    let exported = server.run(&["export", "rooms/hall/messages"]).succeeds();
    assert_eq!(lines(&exported.stdout).len(), 4, "each message once");
}

#[test]
fn late_comers_see_the_last_fifty_messages() {
    let server = TestServer::start();
    let mut ann: Background = server.spawn(&["chat", "hall", "--as", "ann"]);
    for n in 0..55 {
        ann.say(&format!("message {n}"));
    }
    ann.close_input();
    assert_eq!(ann.wait(), Some(0), "{}", ann.stderr());
    let mut bob = server.spawn(&["chat", "hall", "--as", "bob"]);
    bob.close_input();
    assert_eq!(bob.wait(), Some(0), "{}", bob.stderr());
    let shown = bob.rest();
    assert_eq!(shown.len(), 50);
    assert!(shown[0].ends_with("] ann: message 5"), "{}", shown[0]);
    assert!(shown[49].ends_with("] ann: message 54"), "{}", shown[49]);
}

#[test]
fn a_reader_that_goes_away_ends_a_watch_quietly() {
    let server = TestServer::start();
    let mut watch = server.child(&["watch", "numbers", "--json"]);
    let mut output = BufReader::new(watch.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("current"), "{line}");
    drop(output);
    server.run(&["set", "numbers/a", "{}"]).succeeds();
    let ended = watch.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}
