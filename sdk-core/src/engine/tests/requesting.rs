//! Gets and queries.

use expect_test::expect;

use super::script::run;

#[test]
fn answers_come_in_parts_and_in_the_order_asked() {
    let text = run("
        online
        get rooms/b rooms/a rooms/z
        result 1 @10 rooms/a:n=1 more
        result 1 @10 rooms/b:n=2
        query rooms order=n
        result 2 @11 rooms/b:n=1 rooms/a:n=2
        result 2 @11 rooms/b:n=1
        ");
    expect![[r#"
        send get 1 rooms/b rooms/a rooms/z
        request 1 @10 [rooms/b:n=2 rooms/a:n=1 rooms/z(missing)]
        send query 2 rooms
        request 2 @11 [rooms/b:n=1 rooms/a:n=2]
    "#]]
    .assert_eq(&text);
}

#[test]
fn pending_writes_are_laid_over_answers() {
    let text = run("
        online
        set rooms/a:n=5
        update rooms/b:s=x
        get rooms/a rooms/b rooms/c
        result 1 @10 rooms/b:n=1
        transaction-get rooms/a
        result 2 @10
        query rooms order=n limit=2
        result 3 @10 rooms/b:n=1 rooms/c:n=3
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send commit 2 rooms/b acknowledged=0
        send get 1 rooms/a rooms/b rooms/c
        request 3 @10 [rooms/a:n=5* rooms/b:n=1,s=x* rooms/c(missing)]
        send get 2 rooms/a
        request 4 @10 [rooms/a(missing)]
        send query 3 rooms
        request 5 @10 [rooms/b:n=1,s=x* rooms/c:n=3]
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_committed_write_is_not_laid_over_what_contains_it() {
    let text = run("
        online
        listen A other
        add rooms/b n 1
        get rooms/b
        committed 1 @10
        result 1 @11 rooms/b:n=2@10
        ");
    expect![[r#"
        send listen 1 other
        send commit 1 rooms/b acknowledged=0
        send get 1 rooms/b
        write 1 committed @10
        request 2 @11 [rooms/b:n=2]
    "#]]
    .assert_eq(&text);
}

#[test]
fn requests_survive_a_lost_connection() {
    let text = run("
        online
        get rooms/a
        query rooms
        result 1 @10 rooms/a:n=1 more
        lost reset
        tick 0.1
        connected
        welcome
        result 3 @11 rooms/a:n=2
        result 4 @11
        ");
    expect![[r#"
        send get 1 rooms/a
        send query 2 rooms
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send get 3 rooms/a
        send query 4 rooms
        request 1 @11 [rooms/a:n=2]
        request 2 @11 []
    "#]]
    .assert_eq(&text);
}

#[test]
fn requests_end_with_their_time() {
    let text = run("
        tick 0
        get rooms/a
        lost refused
        tick 59.9
        tick 0.1
        ");
    expect![[r#"
        connect 1
        connect 2
        state offline: unavailable: refused
        request 1 failed: unavailable: the document rooms/a is not in the cache; it may exist on the server
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_refusal_for_now_is_asked_again_and_others_are_told() {
    let text = run("
        online
        get rooms/a
        request-error 1 unavailable
        tick 0.1
        request-error 2 permission-denied
        ");
    expect![[r#"
        send get 1 rooms/a
        send get 2 rooms/a
        request 1 failed: permission-denied: because
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_disabled_network_fails_requests() {
    let text = run("
        online
        get rooms/a
        network off
        query rooms
        ");
    expect![[r#"
        send get 1 rooms/a
        disconnect
        state offline: unavailable: the network is disabled
        request 1 failed: unavailable: the document rooms/a is not in the cache; it may exist on the server
        request 2 @0 [] cache
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_answer_that_may_contain_an_increment_waits_for_the_word_on_it() {
    let text = run("
        online
        add rooms/a n 1
        get rooms/a
        get rooms/b
        result 1 @10 rooms/a:n=1
        result 2 @10 rooms/b:n=1
        committed 1 @10
        add rooms/a n 1
        query rooms
        result 3 @11 rooms/a:n=2
        lost reset
        tick 0.1
        connected
        welcome
        committed 2 @11
        result 4 @11 rooms/a:n=2
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send get 1 rooms/a
        send get 2 rooms/b
        request 3 @10 [rooms/b:n=1]
        request 2 @10 [rooms/a:n=1]
        write 1 committed @10
        send commit 2 rooms/a acknowledged=1
        send query 3 rooms
        state connecting
        connect 2
        send hello acknowledged=1
        state online
        send commit 2 rooms/a acknowledged=1 made=1000001
        send query 4 rooms
        write 4 committed @11
        request 5 @11 [rooms/a:n=2]
    "#]]
    .assert_eq(&text);
}
