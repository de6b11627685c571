//! Aggregates, listened to and asked for once.

use expect_test::expect;

use super::script::run;

#[test]
fn values_show_at_consistent_points_and_only_when_they_change() {
    let text = run("
        online
        listen A rooms count sum=n
        listening 1 7 @10
        aggregated 7 @10 2 30 partial
        current @10
        aggregated 7 @11 3 60
        aggregated 7 @12 3 60
        aggregated 7 @13 4 60 partial
        aggregated 7 @13 5 61
        listen B rooms count sum=n
        unlisten A
        unlisten B
        aggregated 7 @14 6 61
        ");
    expect![[r#"
        send listen 1 count sum of rooms
        A @10 count=2 sum=30
        A @11 count=3 sum=60
        A @13 count=5 sum=61
        B @13 count=5 sum=61
        send unlisten 1
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_commit_shows_in_values_and_documents_at_once() {
    let text = run("
        online
        listen A rooms
        listen B rooms count
        listening 1 1 @10
        listening 2 2 @10
        changes 1 @10 rooms/a:n=1 partial
        aggregated 2 @10 1 partial
        current @10
        aggregated 2 @11 2 partial
        changes 1 @11 rooms/b:n=2
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 count of rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 count=1
        A @11 [rooms/a:n=1 rooms/b:n=2] {+rooms/b:n=2@1}
        B @11 count=2
    "#]]
    .assert_eq(&text);
}

#[test]
fn pending_writes_do_not_count() {
    let text = run("
        online
        listen A rooms count
        listening 1 7 @10
        aggregated 7 @10 1
        set rooms/b:n=1
        query rooms count
        computed 1 @10 1
        committed 1 @11
        aggregated 7 @11 2
        ");
    expect![[r#"
        send listen 1 count of rooms
        A @10 count=1
        send commit 1 rooms/b acknowledged=0
        send aggregate 1 count of rooms
        request 2 @10 [1]
        write 1 committed @11
        A @11 count=2
    "#]]
    .assert_eq(&text);
}

#[test]
fn values_outlive_a_connection_and_are_asked_for_anew() {
    let text = run("
        online
        listen A rooms count
        listen M rooms count meta
        listening 1 7 @10
        aggregated 7 @10 1
        lost reset
        tick 11
        listen C rooms count
        tick 1
        connected
        welcome
        listening 1 3 @12
        current @12
        aggregated 3 @12 1
        ");
    expect![[r#"
        send listen 1 count of rooms
        A @10 count=1
        M @10 count=1
        state connecting
        connect 2
        state offline: unavailable: reset
        M @10 count=1 cache
        C @10 count=1 cache
        send hello acknowledged=0
        state online
        send listen 1 count of rooms
        M @12 count=1
    "#]]
    .assert_eq(&text);
}

#[test]
fn after_a_reconnect_documents_do_not_wait_for_values() {
    let text = run("
        online
        listen A rooms
        listen B rooms count meta
        listening 1 1 @10
        listening 2 2 @10
        changes 1 @10 rooms/a:n=1 partial
        aggregated 2 @10 1 partial
        current @10
        lost reset
        tick 0.1
        connected
        welcome
        listening 1 1 @11
        changes 1 @11 rooms/b:n=1
        listening 2 2 @11
        aggregated 2 @11 2 partial
        current @11
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 count of rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 count=1
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@10
        send listen 2 count of rooms
        A @11 [rooms/a:n=1 rooms/b:n=1] {+rooms/b:n=1@1}
        B @11 count=2
    "#]]
    .assert_eq(&text);
}

#[test]
fn without_values_there_is_nothing_to_show() {
    let text = run("
        tick 0
        listen A rooms count
        lost refused
        tick 11
        ");
    expect![[r#"
        connect 1
        connect 2
        state offline: unavailable: refused
        A @0 count=0 cache
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_refused_aggregate_ends_its_listeners_and_leaves_nothing() {
    let text = run("
        online
        listen A rooms sum=n
        target-error 1 failed-precondition
        listen B rooms sum=n
        listening 2 7 @10
        reset 2
        aggregated 7 @10 5
        ");
    expect![[r#"
        send listen 1 sum of rooms
        A failed: failed-precondition: because
        send listen 2 sum of rooms
        B @10 sum=5
    "#]]
    .assert_eq(&text);
}

#[test]
fn values_that_were_not_asked_for_end_the_connection() {
    let text = run("
        online
        listen A rooms count
        listening 1 7 @10
        aggregated 7 @10 1 2
        ");
    expect![[r#"
        send listen 1 count of rooms
        state connecting
        disconnect
    "#]]
    .assert_eq(&text);
    let text = run("
        online
        query rooms
        computed 1 @10 1
        ");
    expect![[r#"
        send query 1 rooms
        state connecting
        disconnect
    "#]]
    .assert_eq(&text);
}

#[test]
fn aggregates_are_asked_again_until_they_are_answered() {
    let text = run("
        online
        query rooms count sum=n explain
        lost reset
        tick 0.1
        connected
        welcome
        request-error 2 unavailable
        tick 0.1
        computed 3 @10 1 5 explained
        query rooms count
        request-error 4 failed-precondition
        ");
    expect![[r#"
        send aggregate 1 count sum of rooms explain
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send aggregate 2 count sum of rooms explain
        send aggregate 3 count sum of rooms explain
        request 1 @10 [1 5] explained: scan
        send aggregate 4 count of rooms
        request 2 failed: failed-precondition: because
    "#]]
    .assert_eq(&text);
}
