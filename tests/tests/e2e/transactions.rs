//! Transactions: read, decide, write, as if alone.

use rand::Rng;
use serde_json::json;
use tidemark_core::{Client, Code, Error, FieldValue, Value};
use tidemark_protocol::model::Version;
use tidemark_tests::observe::within;
use tidemark_tests::{Seed, TestServer, until};

use crate::{code, integer};

/// Reads a number and writes one more: what increment does, by hand.
async fn add_one(client: &Client, path: &str) -> Result<i64, Error> {
    let doc = client.doc(path)?;
    let run = client.transaction(|tx| {
        let doc = doc.clone();
        async move {
            let n = integer(&tx.get(&doc).await?, "n").unwrap_or(0) + 1;
            tx.set(&doc, &json!({"n": n}))?;
            Ok(n)
        }
    });
    run.await
}

/// `aborted` after the client's own attempts is an answer; the caller may go on trying.
async fn add_one_at_last(client: &Client, path: &str) -> i64 {
    loop {
        match add_one(client, path).await {
            Ok(n) => return n,
            Err(error) => assert_eq!(error.code(), Code::Aborted, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_of_concurrent_transactions_are_exact() {
    let server = TestServer::start().await;
    let runs: Vec<_> = ["alice", "bob"]
        .into_iter()
        .map(|name| {
            let client = server.client(name);
            tidemark_tests::spawn(async move {
                let mut seen = Vec::new();
                for _ in 0..30 {
                    seen.push(add_one_at_last(&client, "c/n").await);
                }
                seen
            })
        })
        .collect();
    let mut all = Vec::new();
    for run in runs {
        let seen = within("the transactions of one client", run).await.unwrap();
        assert!(seen.is_sorted(), "{seen:?}");
        all.extend(seen);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=60).collect::<Vec<_>>(), "each number was made once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_runs_the_transaction_again() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let (own, others) = (alice.doc("c/n").unwrap(), bob.doc("c/n").unwrap());
    own.set(&json!({"n": 1})).await.unwrap();
    let runs = std::sync::atomic::AtomicU32::new(0);
    let result = alice
        .transaction(|tx| {
            let run = runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (own, others) = (own.clone(), others.clone());
            async move {
                let n = integer(&tx.get(&own).await?, "n").unwrap_or(0);
                if run == 0 {
                    others.update([("n", FieldValue::from(10))]).await?;
                }
                tx.update(&own, [("n", FieldValue::from(n + 1))])?;
                Ok(n)
            }
        })
        .await
        .unwrap();
    assert_eq!((result, runs.into_inner()), (10, 2));
    assert_eq!(integer(&own.get().await.unwrap(), "n"), Some(11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_a_transaction_writes_nothing_and_is_handed_on() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let doc = alice.doc("c/n").unwrap();
    let result: Result<(), Error> = alice
        .transaction(|tx| {
            let doc = doc.clone();
            async move {
                tx.get(&doc).await?;
                tx.set(&doc, &json!({"n": 1}))?;
                Err(Error::new(Code::FailedPrecondition, "changed my mind"))
            }
        })
        .await;
    assert_eq!(code(result), "failed-precondition");
    assert!(!doc.get().await.unwrap().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_was_missing_must_still_be_missing() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let (own, others) = (alice.doc("c/x").unwrap(), bob.doc("c/x").unwrap());
    let made = alice
        .transaction(|tx| {
            let (own, others) = (own.clone(), others.clone());
            async move {
                if tx.get(&own).await?.exists() {
                    return Ok(false);
                }
                others.set(&json!({"by": "bob"})).await?;
                tx.set(&own, &json!({"by": "alice"}))?;
                Ok(true)
            }
        })
        .await
        .unwrap();
    assert!(!made, "the second run found it");
    assert_eq!(own.get().await.unwrap().get("by"), Some(&Value::from("bob")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_only_reads_has_read_one_moment() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let missing = alice.doc("c/missing").unwrap();
    let pair = (alice.doc("c/a").unwrap(), alice.doc("c/b").unwrap());
    let both = |n: i64| {
        let mut batch = bob.batch();
        batch.set(&bob.doc("c/a").unwrap(), &json!({"n": n})).unwrap();
        batch.set(&bob.doc("c/b").unwrap(), &json!({"n": n})).unwrap();
        batch.commit()
    };
    both(1).await.unwrap();
    let runs = std::sync::atomic::AtomicI64::new(1);
    let seen = alice
        .transaction(|tx| {
            let run = runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (missing, pair, both) = (missing.clone(), pair.clone(), &both);
            async move {
                tx.get(&missing).await?;
                let a = tx.get(&pair.0).await?;
                if run < 3 {
                    both(run + 1).await?;
                }
                let b = tx.get(&pair.1).await?;
                Ok((integer(&a, "n"), integer(&b, "n")))
            }
        })
        .await
        .unwrap();
    assert_eq!((seen, runs.into_inner()), ((Some(3), Some(3)), 4));
}

/// Money moves between accounts; every snapshot of both listeners shows the same sum, and where they have the same
/// version, the same accounts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_listeners_show_consistent_sums_while_money_moves() {
    const ACCOUNTS: usize = 6;
    let seed = Seed::or(11);
    let server = TestServer::start().await;
    let setup = server.client("setup");
    let mut batch = setup.batch();
    for number in 0..ACCOUNTS {
        // Two collections in one database: consistency holds across targets.
        batch.set(&setup.doc(&account(number)).unwrap(), &json!({"n": 100})).unwrap();
    }
    batch.commit().await.unwrap();

    let movers: Vec<_> = ["alice", "bob"]
        .into_iter()
        .zip(0..)
        .map(|(name, stream)| {
            let (client, mut rng) = (server.client(name), seed.rng(stream));
            tidemark_tests::spawn(async move {
                let mut moved = 0;
                while moved < 40 {
                    let (from, to) = (rng.random_range(0..ACCOUNTS), rng.random_range(0..ACCOUNTS));
                    let amount = rng.random_range(1..20);
                    if from != to && transfer(&client, from, to, amount).await {
                        moved += 1;
                    }
                }
            })
        })
        .collect();

    let watcher = server.client("watcher");
    let mut even = watcher.collection("even").unwrap().query().listen();
    let mut odd = watcher.collection("odd").unwrap().query().listen();
    let watching = tidemark_tests::spawn(async move {
        let (mut sums, mut latest): ([Option<(Version, i64)>; 2], _) = ([None, None], 0);
        loop {
            let (side, snapshot) = tokio::select! {
                snapshot = tidemark_tests::observe::next(&mut even, "even accounts") => (0, snapshot),
                snapshot = tidemark_tests::observe::next(&mut odd, "odd accounts") => (1, snapshot),
            };
            let sum =
                snapshot.documents().iter().map(|document| integer(document, "n").unwrap()).sum();
            let done = snapshot.documents().iter().any(|document| document.get("done").is_some());
            sums[side] = Some((snapshot.version(), sum));
            if let [Some((at, even)), Some((same, odd))] = sums
                && at == same
            {
                assert_eq!(even + odd, 600, "money was made or lost at {at}");
                latest += 1;
            }
            if done {
                return latest;
            }
        }
    });
    for mover in movers {
        within("all transfers", mover).await.unwrap();
    }
    let mut batch = setup.batch();
    for number in [0, 1] {
        batch
            .update(&setup.doc(&account(number)).unwrap(), [("done", FieldValue::from(true))])
            .unwrap();
    }
    batch.commit().await.unwrap();
    let compared = within("the watcher's end", watching).await.unwrap();
    assert!(compared > 0, "no snapshots were compared");
    let mut total = 0;
    for collection in ["even", "odd"] {
        let mut listener = setup.collection(collection).unwrap().query().listen();
        let snapshot = until(&mut listener, "the accounts", |_| true).await;
        total += snapshot
            .documents()
            .iter()
            .map(|document| integer(document, "n").unwrap())
            .sum::<i64>();
    }
    assert_eq!(total, 600);
}

fn account(number: usize) -> String {
    format!("{}/{number}", if number.is_multiple_of(2) { "even" } else { "odd" })
}

/// Whether the money was moved: it may be short, or others too busy.
async fn transfer(client: &Client, from: usize, to: usize, amount: i64) -> bool {
    let (from, to) = (client.doc(&account(from)).unwrap(), client.doc(&account(to)).unwrap());
    let result = client
        .transaction(|tx| {
            let (from, to) = (from.clone(), to.clone());
            async move {
                let (have, has) = (tx.get(&from).await?, tx.get(&to).await?);
                let (have, has) =
                    (integer(&have, "n").unwrap_or(0), integer(&has, "n").unwrap_or(0));
                if have < amount {
                    return Ok(false);
                }
                tx.update(&from, [("n", FieldValue::from(have - amount))])?;
                tx.update(&to, [("n", FieldValue::from(has + amount))])?;
                Ok(true)
            }
        })
        .await;
    match result {
        Ok(moved) => moved,
        Err(error) => {
            assert_eq!(error.code(), Code::Aborted, "{error}");
            false
        }
    }
}
