//! The outbox over restarts: stages, order, edit times, what was rejected, and disks that fail.

use expect_test::expect;

use super::script::run;

#[test]
fn a_write_is_shown_then_stored_then_sent() {
    let text = run("
        stages
        online
        listen A rooms
        listening 1 7 @10
        current @10
        set rooms/a:n=1
        committed 1 @11
        set rooms/b:n=1
        rejected 2 permission-denied
        transaction rooms/c:n=1 read=rooms/c@0
        committed 3 @12
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [] {}
        A @10 [rooms/a:n=1*] pending {+rooms/a:n=1*@0}
        stage: 1 of rooms/a is local
        write 1 is 1
        send commit 1 rooms/a acknowledged=0
        stage: 1 of rooms/a is committed @11
        write 1 committed @11
        A @10 [rooms/a:n=1* rooms/b:n=1*] pending {+rooms/b:n=1*@1}
        stage: 2 of rooms/b is local
        write 2 is 2
        send commit 2 rooms/b acknowledged=1
        A @10 [rooms/a:n=1*] pending {-rooms/b:n=1*@1}
        stage: 2 of rooms/b is rejected: permission-denied: because
        write 2 failed: permission-denied: because
        send commit 3 rooms/c with reads acknowledged=2
        write 3 committed @12
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_could_not_be_stored_is_taken_back() {
    let text = run("
        stages
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        disk-full
        set rooms/a:n=2
        set rooms/a:n=3
        committed 2 @11
        writes
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @10 [rooms/a:n=2*] pending {~rooms/a:n=2*@0-0}
        A @10 [rooms/a:n=1] {~rooms/a:n=1@0-0}
        write 1 failed: internal: the cache failed: the disk is full
        A @10 [rooms/a:n=3*] pending {~rooms/a:n=3*@0-0}
        stage: 2 of rooms/a is local
        write 2 is 2
        send commit 2 rooms/a acknowledged=1
        stage: 2 of rooms/a is committed @11
        write 2 committed @11
        writes 3: pending [] rejected []
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_outbox_survives_the_process_and_the_machine() {
    let text = run("
        stages
        set rooms/a:n=1
        batch rooms/a:n=2 rooms/b:n=2
        crash
        writes
        set rooms/c:n=3
        online
        committed 1 @2000000
        committed 2 @2000001
        restart
        writes
        online
        committed 3 @2000002
        tick 1
        writes
        restart
        online
        set rooms/d:n=1
        ");
    expect![[r#"
        stage: 1 of rooms/a is local
        write 1 is 1
        stage: 2 of rooms/a rooms/b is local
        write 2 is 2
        writes 3: pending [1 rooms/a waits, 2 rooms/a rooms/b waits] rejected []
        stage: 3 of rooms/c is local
        write 4 is 3
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/a rooms/b acknowledged=0 made=1000000 after=1
        send commit 3 rooms/c acknowledged=0 made=1000000
        stage: 1 of rooms/a is committed @2000000
        stage: 2 of rooms/a rooms/b is committed @2000001
        writes 5: pending [3 rooms/c waits] rejected []
        send commit 3 rooms/c acknowledged=2 made=1000000
        stage: 3 of rooms/c is committed @2000002
        send acknowledge 3
        writes 6: pending [] rejected []
        stage: 4 of rooms/d is local
        write 7 is 4
        send commit 4 rooms/d acknowledged=3
    "#]]
    .assert_eq(&text);
}

#[test]
fn answers_that_a_crash_forgets_are_asked_for_again() {
    let text = run("
        stages
        online
        set rooms/a:n=1
        set rooms/b:n=1
        committed 1 @2000000
        crash
        online
        committed 1 @2000000
        committed 2 @2000001
        tick 1
        crash
        writes
        online
        ");
    expect![[r#"
        stage: 1 of rooms/a is local
        write 1 is 1
        send commit 1 rooms/a acknowledged=0
        stage: 2 of rooms/b is local
        write 2 is 2
        send commit 2 rooms/b acknowledged=0
        stage: 1 of rooms/a is committed @2000000
        write 1 committed @2000000
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0 made=1000001
        stage: 1 of rooms/a is committed @2000000
        stage: 2 of rooms/b is committed @2000001
        send acknowledge 2
        writes 3: pending [] rejected []
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_answer_acknowledged_in_a_forgotten_run_is_no_rejection() {
    let text = run("
        stages
        online
        set rooms/a:n=1
        crash
        listen A rooms
        online
        rejected 1 failed-precondition
        listening 1 7 @2000000
        changes 7 @2000000 rooms/a:n=1
        set rooms/b:n=1
        rejected 2 failed-precondition
        writes
        ");
    expect![[r#"
        stage: 1 of rooms/a is local
        write 1 is 1
        send commit 1 rooms/a acknowledged=0
        A @0 [rooms/a:n=1*] cache pending {+rooms/a:n=1*@0}
        send commit 1 rooms/a acknowledged=0 made=1000000
        send listen 1 rooms
        A @0 [] cache {-rooms/a:n=1*@0}
        stage: 1 of rooms/a is committed @0
        A @2000000 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @2000000 [rooms/a:n=1 rooms/b:n=1*] pending {+rooms/b:n=1*@1}
        stage: 2 of rooms/b is local
        write 2 is 2
        send commit 2 rooms/b acknowledged=1
        A @2000000 [rooms/a:n=1] {-rooms/b:n=1*@1}
        stage: 2 of rooms/b is rejected: failed-precondition: because
        write 2 failed: failed-precondition: because
        writes 3: pending [] rejected [2 rooms/b failed-precondition: because]
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_was_rejected_waits_for_the_app() {
    let text = run("
        online
        set rooms/a:n=1
        rejected 1 permission-denied
        set rooms/b:n=1
        set rooms/c:n=1
        rejected 2 already-exists
        committed 3 @2000000
        crash
        stages
        writes
        online
        retry 1
        writes
        retry 1
        discard 2
        discard 2
        committed 4 @2000001
        writes
        restart
        writes
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        write 1 failed: permission-denied: because
        send commit 2 rooms/b acknowledged=1
        send commit 3 rooms/c acknowledged=1
        write 2 failed: already-exists: because
        write 3 committed @2000000
        writes 4: pending [3 rooms/c waits] rejected [1 rooms/a permission-denied: because, 2 rooms/b already-exists: because]
        send commit 3 rooms/c acknowledged=2 made=1000002
        stage: 4 of rooms/a is local
        write 5 is 4
        send commit 4 rooms/a acknowledged=2
        writes 6: pending [3 rooms/c, 4 rooms/a] rejected [2 rooms/b already-exists: because]
        write 7 failed: not-found: no rejected write 1 waits for a decision
        discarded 8
        discarded 9 failed: not-found: no rejected write 2 waits for a decision
        stage: 4 of rooms/a is committed @2000001
        write 5 committed @2000001
        writes 10: pending [3 rooms/c] rejected []
        writes 11: pending [3 rooms/c waits] rejected []
    "#]].assert_eq(&text);
}

#[test]
fn a_rejection_after_a_restart_leaves_no_trace() {
    let text = run("
        stages
        set rooms/a:n=1
        set rooms/a:n=2
        restart
        listen A rooms
        online
        rejected 1 permission-denied
        rejected 2 permission-denied
        listening 1 7 @10
        current @10
        restart
        writes
        ");
    expect![[r#"
        stage: 1 of rooms/a is local
        write 1 is 1
        stage: 2 of rooms/a is local
        write 2 is 2
        A @0 [rooms/a:n=2*] cache pending {+rooms/a:n=2*@0}
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/a acknowledged=0 made=1000000 after=1
        send listen 1 rooms
        stage: 1 of rooms/a is rejected: permission-denied: because
        A @0 [] cache {-rooms/a:n=2*@0}
        stage: 2 of rooms/a is rejected: permission-denied: because
        writes 3: pending [] rejected [1 rooms/a permission-denied: because, 2 rooms/a permission-denied: because]
    "#]].assert_eq(&text);
}

#[test]
fn what_waited_carries_the_time_of_its_making() {
    let text = run("
        set rooms/a:n=1
        tick 5
        online
        set rooms/b:n=1
        rejected 2 unavailable
        tick 0.2
        rejected 2 unavailable
        tick 2
        lost reset
        set rooms/c:n=1
        tick 1
        connected
        welcome
        ");
    expect![[r#"
        connect 1
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0
        send commit 2 rooms/b acknowledged=0
        send commit 2 rooms/b acknowledged=0 made=6000000
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0 made=6000000
        send commit 3 rooms/c acknowledged=0 made=8200000
    "#]]
    .assert_eq(&text);
}

#[test]
fn edits_made_before_the_first_contact_are_moved_to_the_server_s_time() {
    let text = run("
        set rooms/a:n=1
        tick 2
        set rooms/b:n=1
        restart
        tick 3
        set rooms/c:n=1
        online ahead=100
        lost reset
        tick 1
        set rooms/d:n=1
        connected
        welcome ahead=100
        ");
    expect![[r#"
        connect 1
        connect 1
        send commit 1 rooms/a acknowledged=0 made=101000000
        send commit 2 rooms/b acknowledged=0 made=103000000
        send commit 3 rooms/c acknowledged=0 made=106000000
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=101000000
        send commit 2 rooms/b acknowledged=0 made=103000000
        send commit 3 rooms/c acknowledged=0 made=106000000
        send commit 4 rooms/d acknowledged=0 made=107000000
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_later_edit_of_someone_else_shows_over_a_write_that_has_waited() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        lost reset
        update rooms/a:n=2
        tick 1
        connected
        welcome
        listening 1 7 @1500000
        changes 7 @1500000 rooms/a:n=3
        stages
        committed 1 @1600000 superseded=n
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        state connecting
        A @10 [rooms/a:n=2*] pending {~rooms/a:n=2*@0-0}
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send listen 1 rooms resume=1@10
        A @1500000 [rooms/a:n=3*] pending {~rooms/a:n=3*@0-0}
        stage: 1 of rooms/a is committed @1600000 superseded 0: Fields([FieldPath(["n"])])
        write 1 committed @1600000
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_may_have_been_taken_without_its_time_holds_back_what_would_carry_one() {
    let text = run("
        online
        set rooms/a:n=1
        set rooms/a:n=2
        add rooms/a n 5
        set rooms/b:n=1
        lost reset
        tick 1
        connected
        welcome
        committed 1 @1500000
        committed 2 @1500001
        committed 3 @1500002
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send commit 2 rooms/a acknowledged=0 after=1
        send commit 3 rooms/a acknowledged=0 after=2
        send commit 4 rooms/b acknowledged=0
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 4 rooms/b acknowledged=0 made=1000003
        write 1 committed @1500000
        send commit 2 rooms/a acknowledged=0 made=1500000
        write 2 committed @1500001
        send commit 3 rooms/a acknowledged=0 made=1500001
        write 3 committed @1500002
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_server_is_told_which_write_comes_before_and_never_of_two() {
    let text = run("
        online
        set rooms/a:n=1
        set rooms/b:n=1
        batch rooms/a:n=2 rooms/b:n=2
        set rooms/a:n=3
        committed 2 @1500000
        rejected 1 unavailable
        rejected 3 unavailable
        rejected 4 unavailable
        tick 0.2
        committed 1 @1500001
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send commit 2 rooms/b acknowledged=0
        write 2 committed @1500000
        send commit 3 rooms/a rooms/b acknowledged=0 after=1
        send commit 4 rooms/a acknowledged=0 after=3
        send commit 1 rooms/a acknowledged=0
        send commit 3 rooms/a rooms/b acknowledged=0 after=1
        send commit 4 rooms/a acknowledged=0 after=3
        write 1 committed @1500001
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_had_no_effect_is_shown_until_the_listener_is_past_it() {
    let text = run("
        set rooms/a:n=1
        set rooms/b:m=1,n=1
        online
        listen A rooms
        listening 1 7 @10
        current @10
        listen B rooms limit=1
        stages
        committed 1 @1500000 superseded
        committed 2 @1500001 superseded=n
        changes 7 @1500001 rooms/a:n=9
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0 made=1000000
        send listen 1 rooms
        A @0 [rooms/a:n=1* rooms/b:m=1,n=1*] cache pending {+rooms/a:n=1*@0 +rooms/b:m=1,n=1*@1}
        send listen 2 rooms
        B @0 [rooms/a:n=1*] cache pending {+rooms/a:n=1*@0}
        stage: 1 of rooms/a is committed @1500000 superseded 0: Whole
        write 1 committed @1500000
        stage: 2 of rooms/b is committed @1500001 superseded 0: Fields([FieldPath(["n"])])
        write 2 committed @1500001
        A @1500001 [rooms/a:n=9] {-rooms/b:m=1,n=1*@1 ~rooms/a:n=9@0-0}
        B @0 [rooms/b:m=1,n=1*] cache pending {-rooms/a:n=1*@0 +rooms/b:m=1,n=1*@0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_answer_under_way_shows_what_was_committed_meanwhile() {
    let text = run("
        online
        set rooms/a:n=1
        query rooms order=n
        committed 1 @20
        result 1 @10 rooms/b:n=2
        query rooms order=n
        result 2 @20 rooms/a:n=1 rooms/b:n=2
        set rooms/c:n=3
        committed 2 @30
        get rooms/c
        result 3 @30
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send query 1 rooms
        write 1 committed @20
        request 2 @10 [rooms/a:n=1* rooms/b:n=2]
        send query 2 rooms
        request 3 @20 [rooms/a:n=1 rooms/b:n=2]
        send commit 2 rooms/c acknowledged=1
        write 4 committed @30
        send get 3 rooms/c
        request 5 @30 [rooms/c(missing)]
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_may_have_been_taken_before_shows_with_what_follows_it() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:m=1,n=1
        update rooms/a:n=2
        lost reset
        update rooms/a:n=3
        tick 1
        connected
        welcome
        listening 1 7 @1500000
        changes 7 @1500000 rooms/a:m=1,n=2
        committed 1 @1500000
        committed 2 @2100000
        changes 7 @2100000 rooms/a:m=1,n=3
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:m=1,n=1] {+rooms/a:m=1,n=1@0}
        A @10 [rooms/a:m=1,n=2*] pending {~rooms/a:m=1,n=2*@0-0}
        send commit 1 rooms/a acknowledged=0
        state connecting
        A @10 [rooms/a:m=1,n=3*] pending {~rooms/a:m=1,n=3*@0-0}
        connect 2
        send hello acknowledged=0
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send listen 1 rooms resume=1@10
        write 1 committed @1500000
        send commit 2 rooms/a acknowledged=0 made=1500000
        write 2 committed @2100000
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_rejection_that_could_not_be_stored_is_stored_with_what_comes_next() {
    let text = run("
        online
        set rooms/a:n=1
        disk-full
        rejected 1 permission-denied
        tick 1
        crash
        writes
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        write 1 failed: permission-denied: because
        send acknowledge 1
        writes 2: pending [] rejected [1 rooms/a permission-denied: because]
    "#]]
    .assert_eq(&text);
}
