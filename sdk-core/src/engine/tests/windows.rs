//! Results that are a part of what matches, and documents of which a part is wanted.

use expect_test::expect;

use super::script::run;

#[test]
fn the_last_are_shown_in_the_order_of_the_query() {
    let text = run("
        online
        listen A rooms order=n last=2
        listening 1 1 @10
        changes 1 @10 rooms/a:n=1 rooms/b:n=2
        set rooms/c:n=3
        set rooms/z:n=0
        delete rooms/b
        committed 1 @11
        changes 1 @11 rooms/c:n=3@11 ~rooms/a
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1 rooms/b:n=2] {+rooms/a:n=1@0 +rooms/b:n=2@1}
        A @10 [rooms/b:n=2 rooms/c:n=3*] pending {-rooms/a:n=1@0 +rooms/c:n=3*@1}
        send commit 1 rooms/c acknowledged=0
        send commit 2 rooms/z acknowledged=0
        A @10 [rooms/a:n=1 rooms/c:n=3*] pending {-rooms/b:n=2@0 +rooms/a:n=1@0}
        send commit 3 rooms/b acknowledged=0
        write 1 committed @11
        A @11 [rooms/z:n=0* rooms/c:n=3] pending {-rooms/a:n=1@0 +rooms/z:n=0*@0}
    "#]]
    .assert_eq(&text);
}

#[test]
fn behind_an_offset_a_new_document_shows_when_the_server_has_it() {
    let text = run("
        online
        listen A rooms order=n offset=1 limit=2
        listening 1 1 @10
        changes 1 @10 rooms/b:n=2 rooms/c:n=3
        set rooms/z:n=0
        set rooms/d:n=9
        update rooms/b:n=5
        delete rooms/c
        committed 1 @11
        changes 1 @11 rooms/a:n=1@5 ~rooms/c
        query rooms order=n offset=1
        result 1 @11 rooms/a:n=1@5 rooms/b:n=2@6
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/b:n=2 rooms/c:n=3] {+rooms/b:n=2@0 +rooms/c:n=3@1}
        send commit 1 rooms/z acknowledged=0
        send commit 2 rooms/d acknowledged=0
        A @10 [rooms/c:n=3 rooms/b:n=5*] pending {~rooms/b:n=5*@0-1}
        send commit 3 rooms/b acknowledged=0
        A @10 [rooms/b:n=5*] pending {-rooms/c:n=3@0}
        send commit 4 rooms/c acknowledged=0
        write 1 committed @11
        A @11 [rooms/a:n=1 rooms/b:n=5*] pending {+rooms/a:n=1@0}
        send query 1 rooms
        request 5 @11 [rooms/a:n=1 rooms/b:n=5*]
    "#]]
    .assert_eq(&text);
}

#[test]
fn groups_and_alternatives_take_in_pending_writes() {
    let text = run("
        online
        listen A messages group any=1,5
        listening 1 1 @10
        changes 1 @10 rooms/a/messages/x:n=1
        set rooms/b/messages/y:n=5
        set rooms/b/messages/z:n=2
        set rooms/b/other/z:n=5
        ");
    expect![[r#"
        send listen 1 group messages
        A @10 [rooms/a/messages/x:n=1] {+rooms/a/messages/x:n=1@0}
        A @10 [rooms/a/messages/x:n=1 rooms/b/messages/y:n=5*] pending {+rooms/b/messages/y:n=5*@1}
        send commit 1 rooms/b/messages/y acknowledged=0
        send commit 2 rooms/b/messages/z acknowledged=0
        send commit 3 rooms/b/other/z acknowledged=0
    "#]]
    .assert_eq(&text);
}

#[test]
fn listeners_who_want_a_part_share_the_whole() {
    let text = run("
        online
        listen A rooms order=n select=s
        listen B rooms order=n
        listening 1 1 @10
        changes 1 @10 rooms/a:n=1,s=x rooms/b:n=2,s=y
        set rooms/c:n=0,s=z
        changes 1 @11 rooms/b:n=0,s=y -rooms/a
        listen C rooms order=n select=n meta
        lost reset
        tick 11
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:s=x rooms/b:s=y] {+rooms/a:s=x@0 +rooms/b:s=y@1}
        B @10 [rooms/a:n=1,s=x rooms/b:n=2,s=y] {+rooms/a:n=1,s=x@0 +rooms/b:n=2,s=y@1}
        A @10 [rooms/c:s=z* rooms/a:s=x rooms/b:s=y] pending {+rooms/c:s=z*@0}
        B @10 [rooms/c:n=0,s=z* rooms/a:n=1,s=x rooms/b:n=2,s=y] pending {+rooms/c:n=0,s=z*@0}
        send commit 1 rooms/c acknowledged=0
        A @11 [rooms/b:s=y rooms/c:s=z*] pending {-rooms/a:s=x@1 ~rooms/b:s=y@1-0}
        B @11 [rooms/b:n=0,s=y rooms/c:n=0,s=z*] pending {-rooms/a:n=1,s=x@1 ~rooms/b:n=0,s=y@1-0}
        C @11 [rooms/b:n=0 rooms/c:n=0*] pending {+rooms/b:n=0@0 +rooms/c:n=0*@1}
        state connecting
        connect 2
        state offline: unavailable: reset
        C @11 [rooms/b:n=0 rooms/c:n=0*] cache pending {}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_part_is_asked_for_where_nothing_is_pending() {
    let text = run("
        online
        set other/a:n=1
        query rooms order=n select=s
        result 1 @10 rooms/b:s=y rooms/a:s=x
        set rooms/b:n=0,s=z
        query rooms order=n select=s
        result 2 @10 rooms/b:n=1,s=y rooms/a:n=2,s=x
        ");
    expect![[r#"
        send commit 1 other/a acknowledged=0
        send query 1 rooms select=s
        request 2 @10 [rooms/b:s=y rooms/a:s=x]
        send commit 2 rooms/b acknowledged=0
        send query 2 rooms
        request 4 @10 [rooms/b:s=z* rooms/a:s=x]
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_part_is_asked_for_again_whole_when_a_write_came_in_between() {
    let text = run("
        online
        query rooms order=n select=s
        add rooms/a n 5
        result 1 @10 rooms/b:s=y rooms/a:s=x
        committed 1 @11
        result 2 @12 rooms/b:n=1,s=y@3 rooms/a:n=7,s=x@11
        ");
    expect![[r#"
        send query 1 rooms select=s
        send commit 1 rooms/a acknowledged=0
        send query 2 rooms
        write 2 committed @11
        request 1 @12 [rooms/b:s=y rooms/a:s=x]
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_nearest_are_as_the_server_says() {
    let text = run("
        online
        set rooms/a:n=1
        query rooms near select=n explain
        result 1 @10 rooms/c:n=3 rooms/b:n=2 explained
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        send query 1 rooms select=n near explain
        request 2 @10 [rooms/c:n=3 rooms/b:n=2] explained: scan
    "#]]
    .assert_eq(&text);
}
