#!/usr/bin/env bash
# Two people chat while the server is stopped and started, then killed and started: both see every message once, and
# all in the same order, also those that were written while the server was away.
source "$(dirname "$0")/common.bash"

ROOM=green-room
SAID=0

join() { # join NAME: opens the chat with a pipe as its keyboard
    mkfifo "$WORK/$1.in"
    "$TIDEMARK" chat "$ROOM" --as "$1" --json <"$WORK/$1.in" >"$WORK/$1.out" 2>>"$WORK/$1.log" &
    CHILDREN+=($!)
}

speak() { # speak NAME TEXT
    SAID=$((SAID + 1))
    printf '%s\n' "$2" >"/dev/fd/$([ "$1" = ann ] && echo 3 || echo 4)"
}

messages() { sed -E -n 's/.*"from":"([^"]*)".*"text":"([^"]*)".*/\1: \2/p' "$WORK/$1.out"; }
has_all() { [ "$(messages "$1" | wc -l)" -ge "$SAID" ]; }
both_have_all() {
    wait_until "ann to see $SAID messages" has_all ann
    wait_until "bob to see $SAID messages" has_all bob
}

start_server
join ann
join bob
exec 3>"$WORK/ann.in" 4>"$WORK/bob.in"
speak ann "Who's there?"
both_have_all
speak bob "Nay, answer me: stand, and unfold yourself."
both_have_all

stop_server
speak ann "Long live the king!"
speak bob "Bernardo?"
start_server
both_have_all
say "messages written while the server was stopped arrived"

for act in 1 2 3; do
    speak ann "You come most carefully upon your hour. ($act)"
    kill_server
    speak bob "'Tis now struck twelve. ($act)"
    start_server
    both_have_all
done
say "messages written around three kills arrived"

# The end of input lets each leave once everything was decided on.
exec 3>&- 4>&-
wait "${CHILDREN[0]}" || fail "ann's chat did not end well"
wait "${CHILDREN[1]}" || fail "bob's chat did not end well"
messages ann >"$WORK/ann.seen"
messages bob >"$WORK/bob.seen"
[ "$(wc -l <"$WORK/ann.seen")" = "$SAID" ] || fail "ann saw $(wc -l <"$WORK/ann.seen") of $SAID messages"
[ -z "$(sort "$WORK/ann.seen" | uniq -d)" ] || fail "ann saw a message twice"
cmp -s "$WORK/ann.seen" "$WORK/bob.seen" || fail "the two saw different conversations: $(
    diff "$WORK/ann.seen" "$WORK/bob.seen")"
stop_server
say "chat across restarts: $SAID messages, the same for both, passed in $((SECONDS - STARTED)) s"
