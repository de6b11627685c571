//! Greeting, backoff, heartbeats, refusals.

use expect_test::expect;

use super::script::run;

#[test]
fn connects_and_greets() {
    let text = run("
        tick 0
        connected
        welcome
        ");
    expect![[r#"
        connect 1
        send hello acknowledged=0
        state online
    "#]]
    .assert_eq(&text);
}

#[test]
fn backs_off_longer_and_longer_and_goes_offline_after_ten_seconds() {
    let text = run("
        tick 0
        lost refused
        tick 0.09
        tick 0.01
        lost refused
        tick 0.16
        lost refused
        tick 0.256
        tick 9.4
        lost refused
        tick 0.1
        ");
    expect![[r#"
        connect 1
        connect 2
        connect 3
        connect 4
        state offline: unavailable: refused
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_attempt_that_hangs_is_given_up() {
    let text = run("
        tick 0
        connected
        tick 10
        tick 0.1
        late
        ");
    expect![[r#"
        connect 1
        send hello acknowledged=0
        disconnect
        state offline: unavailable: the server did not answer within 10 seconds
        connect 2
    "#]]
    .assert_eq(&text);
}

#[test]
fn pings_when_idle_and_gives_up_a_silent_server() {
    let text = run("
        online
        tick 14
        tick 1
        tick 15
        pong
        tick 15
        tick 15
        tick 15
        tick 0.1
        ");
    expect![[r#"
        send ping 1
        send ping 2
        send ping 3
        send ping 4
        state connecting
        disconnect
        connect 2
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_drained_server_is_left_for_the_time_it_asks() {
    let text = run("
        online
        go-away unavailable 2
        tick 1.9
        tick 0.2
        ");
    expect![[r#"
        state connecting
        disconnect
        connect 2
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_refusal_for_good_ends_the_attempts_until_the_app_asks() {
    let text = run("
        tick 0
        connected
        get rooms/a
        set rooms/a:n=1
        go-away permission-denied
        tick 60
        get rooms/a
        network on
        ");
    expect![[r#"
        connect 1
        send hello acknowledged=0
        state offline: permission-denied: because
        request 1 @0 [rooms/a:n=1*] cache
        disconnect
        request 3 @0 [rooms/a:n=1*] cache
        state connecting
        connect 2
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_version_we_do_not_speak_is_a_refusal_for_good() {
    let text = run("
        tick 0
        connected
        welcome version=9
        tick 60
        ");
    expect![[r#"
        connect 1
        send hello acknowledged=0
        state offline: failed-precondition: the server speaks protocol version 9; this client speaks 1 to 1
        disconnect
    "#]].assert_eq(&text);
}

#[test]
fn whoever_speaks_before_the_welcome_is_no_server_of_ours() {
    let text = run("
        tick 0
        connected
        current @10
        ");
    expect![[r#"
        connect 1
        send hello acknowledged=0
        disconnect
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_cannot_be_understood_ends_the_connection_and_nothing_is_lost() {
    let text = run("
        online
        listen A rooms
        listening 1 7 @10
        changes 7 @10 rooms/a:n=1
        undecodable
        tick 0.1
        connected
        welcome
        ");
    expect![[r#"
        send listen 1 rooms
        A @10 [rooms/a:n=1] {+rooms/a:n=1@0}
        state connecting
        disconnect
        connect 2
        send hello acknowledged=0
        state online
        send listen 1 rooms resume=1@10
    "#]]
    .assert_eq(&text);
}

#[test]
fn an_error_about_a_frame_leaves_the_connection_alone() {
    let text = run("
        online
        error invalid-argument
        error invalid-argument
        ");
    expect![[""]].assert_eq(&text);
}

#[test]
fn a_disabled_network_is_quiet_until_it_is_enabled() {
    let text = run("
        online
        network off
        network off
        tick 60
        get rooms/a
        network on
        connected
        welcome
        ");
    expect![[r#"
        disconnect
        state offline: unavailable: the network is disabled
        request 1 failed: unavailable: the document rooms/a is not in the cache; it may exist on the server
        state connecting
        connect 2
        send hello acknowledged=0
        state online
    "#]]
    .assert_eq(&text);
}

#[test]
fn close_waits_for_what_is_in_flight_and_sends_nothing_more() {
    let text = run("
        online window=1
        set rooms/a:n=1
        set rooms/b:n=1
        close
        set rooms/c:n=1
        listen A rooms
        get rooms/a
        committed 1 @10
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        write 3 failed: cancelled: the client was closed
        A failed: cancelled: the client was closed
        request 4 failed: cancelled: the client was closed
        write 1 committed @10
        disconnect
        stop
    "#]]
    .assert_eq(&text);
}

#[test]
fn close_does_not_wait_for_ever() {
    let text = run("
        online
        set rooms/a:n=1
        close
        tick 5
        ");
    expect![[r#"
        send commit 1 rooms/a acknowledged=0
        disconnect
        stop
    "#]]
    .assert_eq(&text);
}
