//! Targets, groups, consistent points, resuming, the cache.

use expect_test::expect;

use super::script::run;

#[test]
fn the_first_snapshot_comes_when_the_target_is_consistent() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/b:n=2@4 rooms/a:n=1@3 partial
        changes 7 @10 rooms/c:n=3@5 partial
        current @10
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=2 rooms/c:n=3] {+rooms/a:n=1@0 +rooms/b:n=2@1 +rooms/c:n=3@2}
    "#]]
    .assert_eq(&text);
}

#[test]
fn changes_are_told_with_their_places() {
    let text = run("
        online
        listen A rooms order=n
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=2 rooms/c:n=3 rooms/d:n=4
        changes 7 @11 rooms/a:n=9
        changes 7 @12 rooms/c:n=3,s=x
        changes 7 @13 -rooms/b ~rooms/d rooms/e:n=0
        current @14
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=2 rooms/c:n=3 rooms/d:n=4] {+rooms/a:n=1@0 +rooms/b:n=2@1 +rooms/c:n=3@2 +rooms/d:n=4@3}
        A @11 [rooms/b:n=2 rooms/c:n=3 rooms/d:n=4 rooms/a:n=9] {~rooms/a:n=9@0-3}
        A @12 [rooms/b:n=2 rooms/c:n=3,s=x rooms/d:n=4 rooms/a:n=9] {~rooms/c:n=3,s=x@1-1}
        A @13 [rooms/e:n=0 rooms/c:n=3,s=x rooms/a:n=9] {-rooms/d:n=4@2 -rooms/b:n=2@0 +rooms/e:n=0@0}
        send get 1 rooms/d
    "#]].assert_eq(&text);
}

#[test]
fn one_commit_that_hits_several_targets_shows_in_all_at_once() {
    let text = run("
        online
        listen A rooms
        listen B rooms min=5
        listening 1 7 @10
        current @10
        listening 2 8 @10
        current @10
        changes 7 @11 rooms/a:n=9 partial
        changes 8 @11 rooms/a:n=9
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 rooms
        A @10 [] {}
        B @10 [] {}
        A @11 [rooms/a:n=9] {+rooms/a:n=9@0}
        B @11 [rooms/a:n=9] {+rooms/a:n=9@0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn listeners_of_one_target_share_it() {
    let text = run("
        online
        listen A rooms
        listen B rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        listen C rooms
        unlisten A
        unlisten B
        changes 7 @11 rooms/a:n=2
        unlisten C
        changes 7 @12 rooms/a:n=3
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        C @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        C @11 [rooms/a:n=2] {~rooms/a:n=2@0-0}
        send unlisten 1
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_group_may_serve_several_targets_and_be_announced_again() {
    let text = run("
        online
        listen A rooms
        listen B rooms min=0
        listening 1 7 @10
        listening 2 7 @10
        changes 7 @10 rooms/a:n=1
        listening 1 9 @11
        current @11
        changes 9 @12 rooms/a:n=2 partial
        changes 7 @12 rooms/a:n=2
        changes 55 @13 rooms/zzz:n=1
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @12 [rooms/a:n=2] {~rooms/a:n=2@0-0}
        B @12 [rooms/a:n=2] {~rooms/a:n=2@0-0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_document_that_does_not_exist_is_news_too() {
    let text = run("
        online
        listen A rooms/a
        listening 1 7 @10
        changes 7 @10 -rooms/a
        changes 7 @11 rooms/a:n=1
        changes 7 @12 -rooms/a
        ");
    expect![[r#"
        send listen 1 rooms/a
        A @10 [] {}
        A @11 [rooms/a:n=1] {+rooms/a:n=1@0}
        A @12 [] {-rooms/a:n=1@0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_new_connection_resumes_and_tells_only_the_difference() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=2
        changes 7 @12 rooms/a:n=3 partial
        lost reset
        tick 0.1
        connected
        welcome
        listening 1 3 @20
        changes 3 @20 rooms/a:n=4@15 -rooms/b partial
        current @20
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=2] {+rooms/a:n=1@0 +rooms/b:n=2@1}
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@10
        A @20 [rooms/a:n=4] {-rooms/b:n=2@1 ~rooms/a:n=4@0-0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_reset_replaces_everything_in_one_step() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=2
        lost reset
        tick 0.1
        connected
        welcome
        listening 1 3 @20
        reset 1
        changes 3 @20 rooms/b:n=2@10 rooms/c:n=3@15
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=2] {+rooms/a:n=1@0 +rooms/b:n=2@1}
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@10
        A @20 [rooms/b:n=2 rooms/c:n=3] {-rooms/a:n=1@0 +rooms/c:n=3@1}
        send get 1 rooms/a
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_wiped_database_replaces_what_was_newer() {
    let text = run("
        online
        listen A rooms
        listen B rooms min=0
        listening 1 7 @100
        changes 7 @100 rooms/a:n=1
        listening 2 8 @100
        changes 8 @100 rooms/a:n=1
        lost reset
        tick 0.1
        connected
        welcome incarnation=2
        listening 1 1 @5
        reset 1
        changes 1 @5 rooms/a:n=2 partial
        listening 2 2 @5
        reset 2
        changes 2 @5 rooms/a:n=2
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 rooms
        A @100 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @100 [rooms/a:n=1] {+rooms/a:n=1@0}
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@100
        send listen 2 rooms resume=1@100
        A @5 [rooms/a:n=2] {~rooms/a:n=2@0-0}
        B @5 [rooms/a:n=2] {~rooms/a:n=2@0-0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_refused_target_ends_its_listeners_only() {
    let text = run("
        online
        listen A rooms
        listen B rooms
        listen C other
        target-error 1 permission-denied
        listening 2 7 @10
        changes 7 @10 other/a:n=1
        unlisten A
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 other
        A failed: permission-denied: because
        B failed: permission-denied: because
        C @10 [other/a:n=1] {+other/a:n=1@0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn without_a_network_listeners_see_the_cache() {
    let text = run("
        listen A rooms
        tick 0
        lost refused
        set rooms/a:n=1
        tick 10
        connected
        set rooms/b:n=2
        welcome
        listening 1 7 @10
        current @10
        committed 1 @11
        committed 2 @12
        changes 7 @12 rooms/a:n=1@11 rooms/b:n=2
        ");
    expect![[r#"
        connect 1
        A @0 [rooms/a:n=1*] cache pending {+rooms/a:n=1*@0}
        connect 2
        state offline: unavailable: refused
        send hello acknowledged=0
        A @0 [rooms/a:n=1* rooms/b:n=2*] cache pending {+rooms/b:n=2*@1}
        state online
        send commit 1 rooms/a acknowledged=0 made=1000000
        send commit 2 rooms/b acknowledged=0 made=11000000
        send listen 1 rooms
        write 1 committed @11
        write 2 committed @12
    "#]]
    .assert_eq(&text);
}

#[test]
fn metadata_is_told_to_those_who_want_it() {
    let text = run("
        online
        listen A rooms meta
        listen B rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        network off
        network on
        connected
        welcome
        listening 1 7 @10
        current @10
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        disconnect
        state offline: unavailable: the network is disabled
        A @10 [rooms/a:n=1] cache {}
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@10
        A @10 [rooms/a:n=1] {}
    "#]]
    .assert_eq(&text);
}

#[test]
fn listening_again_resumes_from_what_the_cache_remembers() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1 rooms/b:n=1
        unlisten A
        listen B rooms
        listening 2 8 @12
        changes 8 @12 rooms/b:n=2@11 partial
        current @12
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=1] {+rooms/a:n=1@0 +rooms/b:n=1@1}
        send unlisten 1
        send listen 2 rooms resume=1@10
        B @10 [rooms/a:n=1 rooms/b:n=1] cache {+rooms/a:n=1@0 +rooms/b:n=1@1}
        B @12 [rooms/a:n=1 rooms/b:n=2] {~rooms/b:n=2@1-1}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_limit_shows_what_fits() {
    let text = run("
        online
        listen A rooms order=n limit=2
        listening 1 7 @10
        changes 7 @10 rooms/b:n=2 rooms/d:n=4
        set rooms/a:n=1
        committed 1 @11
        changes 7 @11 rooms/a:n=1 ~rooms/d
        changes 7 @12 -rooms/a rooms/d:n=4@10
        delete rooms/b
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/b:n=2 rooms/d:n=4] {+rooms/b:n=2@0 +rooms/d:n=4@1}
        A @10 [rooms/a:n=1* rooms/b:n=2] pending {-rooms/d:n=4@1 +rooms/a:n=1*@0}
        send commit 1 rooms/a acknowledged=0
        write 1 committed @11
        A @12 [rooms/b:n=2 rooms/d:n=4] {-rooms/a:n=1@0 +rooms/d:n=4@1}
        A @12 [rooms/d:n=4] {-rooms/b:n=2@0}
        send commit 2 rooms/b acknowledged=1
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_listen_that_is_taken_back_leaves_nothing() {
    let text = run("
        online
        listen A rooms
        unlisten A
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        listen B rooms
        ");
    expect![[r#"
        send listen 1 rooms
        send unlisten 1
        send listen 2 rooms
    "#]]
    .assert_eq(&text);
}

#[test]
fn after_a_reconnect_nothing_shows_before_all_targets_are_back() {
    let text = run("
        online
        listen A rooms
        listen B rooms min=0
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        listening 2 8 @10
        changes 8 @10 rooms/a:n=1
        lost reset
        tick 0.1
        connected
        welcome
        listening 1 7 @20
        changes 7 @20 rooms/a:n=2
        listening 2 8 @21
        changes 8 @21 rooms/a:n=2@20
        changes 7 @22 rooms/a:n=3 partial
        changes 8 @22 rooms/a:n=3
        ");
    expect![[r#"
        send listen 1 rooms
        send listen 2 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        state connecting
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@10
        send listen 2 rooms resume=1@10
        A @21 [rooms/a:n=2] {~rooms/a:n=2@0-0}
        B @21 [rooms/a:n=2] {~rooms/a:n=2@0-0}
        A @22 [rooms/a:n=3] {~rooms/a:n=3@0-0}
        B @22 [rooms/a:n=3] {~rooms/a:n=3@0-0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_the_server_said_survives_a_crash_a_second_later() {
    let said = "
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        ";
    let again = "
        crash
        listen B rooms
        online
        ";
    let text = run(&format!("{said}{again}"));
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        send listen 1 rooms
    "#]]
    .assert_eq(&text);
    let text = run(&format!("{said}tick 1\n{again}"));
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        B @10 [rooms/a:n=1] cache {+rooms/a:n=1@0}
        send listen 1 rooms resume=1@10
    "#]]
    .assert_eq(&text);
}
