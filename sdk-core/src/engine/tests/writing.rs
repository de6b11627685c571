//! The outbox and the overlay.

use expect_test::expect;

use super::script::run;

#[test]
fn a_write_shows_at_once_and_does_not_flicker() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        update rooms/a:n=2
        committed 1 @11
        current @10
        changes 7 @11 rooms/a:n=2
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @10 [rooms/a:n=2*] pending {~rooms/a:n=2*@0-0}
        send commit 1 rooms/a acknowledged=0
        write 1 committed @11
    "#]]
    .assert_eq(&text);
}

#[test]
fn metadata_listeners_see_the_write_become_final() {
    let text = run("
        online
        listen A rooms meta
        listening 1 7 @10
        current @10
        set rooms/a:n=1
        committed 1 @11
        changes 7 @11 rooms/a:n=1
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [] {}
        A @10 [rooms/a:n=1*] pending {+rooms/a:n=1*@0}
        send commit 1 rooms/a acknowledged=0
        write 1 committed @11
        A @11 [rooms/a:n=1] {~rooms/a:n=1@0-0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_rejected_write_is_rolled_back_at_once() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        set rooms/a:n=2
        set rooms/b:n=3
        batch rooms/a:n=4 rooms/c:n=4
        rejected 1 permission-denied
        rejected 3 permission-denied
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @10 [rooms/a:n=2*] pending {~rooms/a:n=2*@0-0}
        send commit 1 rooms/a acknowledged=0
        A @10 [rooms/a:n=2* rooms/b:n=3*] pending {+rooms/b:n=3*@1}
        send commit 2 rooms/b acknowledged=0
        A @10 [rooms/a:n=4* rooms/b:n=3* rooms/c:n=4*] pending {~rooms/a:n=4*@0-0 +rooms/c:n=4*@2}
        send commit 3 rooms/a rooms/c acknowledged=0 after=1
        write 1 failed: permission-denied: because
        A @10 [rooms/a:n=1 rooms/b:n=3*] pending {-rooms/c:n=4*@2 ~rooms/a:n=1@0-0}
        write 3 failed: permission-denied: because
    "#]]
    .assert_eq(&text);
}

#[test]
fn increments_add_up_under_pending_and_over_remote_changes() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        add rooms/a n 10
        add rooms/a n 100
        changes 7 @11 rooms/a:n=2
        committed 1 @12
        changes 7 @12 rooms/a:n=12
        committed 2 @13
        changes 7 @13 rooms/a:n=112
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @10 [rooms/a:n=11*] pending {~rooms/a:n=11*@0-0}
        send commit 1 rooms/a acknowledged=0
        A @10 [rooms/a:n=111*] pending {~rooms/a:n=111*@0-0}
        send commit 2 rooms/a acknowledged=0 after=1
        write 1 committed @12
        A @11 [rooms/a:n=112*] pending {~rooms/a:n=112*@0-0}
        write 2 committed @13
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_server_timestamp_is_estimated_by_the_local_clock() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        current @10
        tick 1
        set rooms/a:n=1 server
        tick 1
        set rooms/b:n=1
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [] {}
        A @10 [rooms/a:at=T2000000,n=1*] pending {+rooms/a:at=T2000000,n=1*@0}
        send commit 1 rooms/a acknowledged=0
        A @10 [rooms/a:at=T2000000,n=1* rooms/b:n=1*] pending {+rooms/b:n=1*@1}
        send commit 2 rooms/b acknowledged=0
    "#]]
    .assert_eq(&text);
}

#[test]
fn commits_are_sent_in_order_a_few_at_a_time() {
    let text = run("
        set rooms/a:n=1
        set rooms/b:n=1
        set rooms/c:n=1
        online window=2
        committed 1 @10
        committed 2 @11
        committed 3 @12
        tick 0.5
        tick 0.5
        tick 0.5
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0 made=1000000
        write 1 committed @10
        send commit 3 rooms/c acknowledged=0 made=1000000
        write 2 committed @11
        write 3 committed @12
        send acknowledge 3
    "#]]
    .assert_eq(&text);
}

#[test]
fn unanswered_commits_are_sent_again_and_taken_once() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        add rooms/a n 10
        add rooms/a n 100
        committed 2 @12
        lost reset
        tick 0.1
        connected
        welcome
        listening 1 3 @12
        changes 3 @12 rooms/a:n=111 partial
        current @12
        committed 1 @11
        committed 1 @11
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @10 [rooms/a:n=11*] pending {~rooms/a:n=11*@0-0}
        send commit 1 rooms/a acknowledged=0
        A @10 [rooms/a:n=111*] pending {~rooms/a:n=111*@0-0}
        send commit 2 rooms/a acknowledged=0 after=1
        write 2 committed @12
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send listen 1 rooms resume=1@10
        write 1 committed @11
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_write_refused_for_now_is_sent_again_and_holds_back_only_its_documents() {
    let text = run("
        online window=1
        set rooms/a:n=1
        set rooms/a:n=2
        set rooms/b:n=1
        rejected 1 unavailable
        committed 3 @10
        tick 0.1
        committed 1 @11
        committed 2 @12
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send commit 3 rooms/b acknowledged=0
        write 3 committed @10
        send commit 1 rooms/a acknowledged=0
        write 1 committed @11
        send commit 2 rooms/a acknowledged=0
        write 2 committed @12
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_write_too_large_for_the_server_is_refused_here() {
    let text = run("
        online frame=100
        set rooms/a:s=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        set rooms/a:s=a
        ");
    expect![[r#"
        write 1 failed: resource-exhausted: the request has 108 bytes; the server's limit is 100
        send commit 2 rooms/a acknowledged=1
    "#]]
    .assert_eq(&text);
}

#[test]
fn transactions_take_no_effect_here_and_are_told_when_aborted() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        transaction-get rooms/a
        result 1 @10 rooms/a:n=1
        transaction rooms/a:n=2 read=rooms/a@10
        rejected 1 aborted
        transaction rooms/a:n=3 read=rooms/a@11
        rejected 2 unavailable
        tick 0.1
        committed 2 @12
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        send get 1 rooms/a
        request 1 @10 [rooms/a:n=1]
        send commit 1 rooms/a with reads acknowledged=0
        write 2 failed: aborted: because
        send commit 2 rooms/a with reads acknowledged=1
        send commit 2 rooms/a with reads acknowledged=1
        write 3 committed @12
    "#]]
    .assert_eq(&text);
}

#[test]
fn waiting_is_for_the_writes_made_before() {
    let text = run("
        wait
        set rooms/a:n=1
        wait
        set rooms/b:n=1
        online
        committed 1 @10
        committed 2 @11
        ");
    expect![[r#"
        settled 1
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0 made=1000000
        write 2 committed @10
        settled 3
        write 4 committed @11
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_acknowledged_write_seen_already_needs_no_overlay() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        current @10
        set rooms/a:n=1
        changes 7 @11 rooms/a:n=1
        committed 1 @11
        changes 7 @12 rooms/a:n=2
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [] {}
        A @10 [rooms/a:n=1*] pending {+rooms/a:n=1*@0}
        send commit 1 rooms/a acknowledged=0
        write 1 committed @11
        A @12 [rooms/a:n=2] {~rooms/a:n=2@0-0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_pending_deletion_hides_the_document() {
    let text = run("
        online
        listen A rooms/a meta
        listen B rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        listening 2 8 @10
        changes 8 @10 rooms/a:n=1
        delete rooms/a
        committed 1 @11
        changes 7 @11 -rooms/a partial
        changes 8 @11 -rooms/a
        ");
    expect![[r#"
        send listen 1 rooms/a
        send listen 2 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @10 [] pending {-rooms/a:n=1@0}
        B @10 [] {-rooms/a:n=1@0}
        send commit 1 rooms/a acknowledged=0
        write 1 committed @11
        A @11 [] {}
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_increment_seen_before_its_answer_does_not_count_twice() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=1
        add rooms/a n 10
        changes 7 @11 rooms/b:n=2
        changes 7 @12 rooms/a:n=11
        changes 7 @13 rooms/b:n=3
        set rooms/b:n=9
        committed 1 @12
        changes 7 @14 rooms/b:n=9
        committed 2 @14
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=1] {+rooms/a:n=1@0 +rooms/b:n=1@1}
        A @10 [rooms/a:n=11* rooms/b:n=1] pending {~rooms/a:n=11*@0-0}
        send commit 1 rooms/a acknowledged=0
        A @11 [rooms/a:n=11* rooms/b:n=2] pending {~rooms/b:n=2@1-1}
        A @11 [rooms/a:n=11* rooms/b:n=9*] pending {~rooms/b:n=9*@1-1}
        send commit 2 rooms/b acknowledged=0
        write 1 committed @12
        write 2 committed @14
    "#]]
    .assert_eq(&text);
}
