#!/usr/bin/env bash
# Two people chat with a cache. One is offline for a hundred messages, edits and deletions; her process is killed and
# started again, still offline. Meanwhile the other goes on, the server is killed and started again, and its log is
# trimmed beyond what either has seen. Back online both show the same history, once each, with nothing lost.
source "$(dirname "$0")/common.bash"

ROOM=cabin
ONLINE_URL=$TIDEMARK_URL
OFFLINE_URL="ws://127.0.0.1:$(free_port)" # where nobody listens: a tunnel

# join NAME URL: opens the chat with a pipe as its keyboard. NAME.out is of this run alone.
declare -A PID KEYBOARD
join() {
    rm -f "$WORK/$1.in"
    mkfifo "$WORK/$1.in"
    TIDEMARK_URL=$2 "$TIDEMARK" chat "$ROOM" --as "$1" --json --cache "$WORK/$1.cache" \
        <"$WORK/$1.in" >"$WORK/$1.out" 2>>"$WORK/$1.log" 3>&- 4>&- &
    PID[$1]=$!
    CHILDREN+=("${PID[$1]}")
    if [ "$1" = ann ]; then exec 3>"$WORK/ann.in"; KEYBOARD[ann]=3; else exec 4>"$WORK/bob.in"; KEYBOARD[bob]=4; fi
}
speak() { printf '%s\n' "$2" >"/dev/fd/${KEYBOARD[$1]}"; } # speak NAME TEXT
lines() { grep -c "\"type\":\"$2\"" "$WORK/$1.out" || true; } # lines NAME TYPE
has() { [ "$(lines "$1" "$2")" -ge "$3" ]; }            # has NAME TYPE COUNT
leave() {                                                    # leave NAME: the end of input; all that waits is sent first
    if [ "$1" = ann ]; then exec 3>&-; else exec 4>&-; fi
    wait "${PID[$1]}" || fail "$1's chat did not end well"
}
# What a fresh look at the room shows, in its order: "author: text".
history() { # history NAME FILE
    join "$1" "$ONLINE_URL"
    leave "$1"
    sed -E -n 's/.*"type":"message".*/&/p' "$WORK/$1.out" |
        sed -E 's/.*"from":"([^"]*)".*"text":"([^"]*)".*/\1: \2/' >"$2"
}

start_server
join ann "$ONLINE_URL"
join bob "$ONLINE_URL"
for n in 1 2 3 4 5; do
    speak ann "ann before $n"
    speak bob "bob before $n"
done
wait_until "ann to see ten messages" has ann message 10
wait_until "bob to see ten messages" has bob message 10
leave ann
say "ten messages, seen by both"

# Into the tunnel: a hundred messages, every tenth edited, every twentieth deleted.
join ann "$OFFLINE_URL"
wait_until "ann to see ten messages from her cache" has ann message 10
for n in $(seq 1 50); do
    speak ann "ann offline $n"
    [ $((n % 10)) -ne 0 ] || speak ann "/edit ann offline $n, edited"
    [ $((n % 20)) -ne 0 ] || speak ann "/delete"
done
wait_until "fifty messages in ann's outbox" has ann local 50
kill -9 "${PID[ann]}"
wait "${PID[ann]}" 2>/dev/null || true
exec 3>&-
say "ann's process is killed in the tunnel, with fifty messages unsent"

join ann "$OFFLINE_URL"
wait_until "ann to see ten messages again" has ann message 10
wait_until "ann to find what waits" has ann local 48 # two of the fifty were deleted
for n in $(seq 51 100); do
    speak ann "ann offline $n"
    [ $((n % 10)) -ne 0 ] || speak ann "/edit ann offline $n, edited"
    [ $((n % 20)) -ne 0 ] || speak ann "/delete"
done
wait_until "ninety-eight messages in ann's outbox" has ann local 98
leave ann
say "and she writes fifty more"

# Meanwhile: bob goes on, the server is killed, and forgets its log.
for n in $(seq 1 40); do speak bob "bob meanwhile $n"; done
wait_until "bob to see fifty messages" has bob message 50
kill_server
speak bob "bob while the server is away"
export TIDEMARK_LOG_RETENTION=1ms
start_server
wait_until "bob to see his message after the restart" has bob message 51
kill_server
speak bob "bob after the log was trimmed"
start_server
wait_until "bob to see what he wrote after the log was trimmed" has bob message 52
say "bob wrote forty-two messages; the server was killed twice and has trimmed its log"

join ann "$ONLINE_URL"
# 52 of bob and before, 100 of ann less 5 deleted.
wait_until "ann to see all messages" has ann message 147
wait_until "bob to see all messages" has bob message 147
# A counter of the server since it was started.
counter() { # counter NAME
    exec 5<>"/dev/tcp/127.0.0.1/$PORT"
    printf 'GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n' >&5
    sed -n "s/^$1 //p" <&5
    exec 5>&-
}
[ "$(counter tidemark_listens_stale_total)" -ge 1 ] || fail "ann's token was not older than the log"
speak bob "good night"
wait_until "ann to see the last message" has ann message 148
wait_until "bob to see the last message" has bob message 148
leave ann
leave bob

history ann "$WORK/ann.seen"
history bob "$WORK/bob.seen"
for n in $(seq 1 100); do
    [ $((n % 20)) -ne 0 ] || continue
    text="ann offline $n"
    [ $((n % 10)) -ne 0 ] || text="$text, edited"
    printf 'ann: %s\n' "$text"
done >"$WORK/ann.meant"
grep '^ann: ann offline' "$WORK/ann.seen" >"$WORK/ann.said" || true
cmp -s "$WORK/ann.meant" "$WORK/ann.said" || fail "ann's messages are not what she wrote, in her order: $(
    diff "$WORK/ann.meant" "$WORK/ann.said" | head -n 20)"
[ "$(wc -l <"$WORK/ann.seen")" = 148 ] || fail "ann sees $(wc -l <"$WORK/ann.seen") of 148 messages"
[ -z "$(sort "$WORK/ann.seen" | uniq -d)" ] || fail "ann sees a message twice"
cmp -s "$WORK/ann.seen" "$WORK/bob.seen" || fail "the two see different histories: $(
    diff "$WORK/ann.seen" "$WORK/bob.seen" | head -n 20)"
stop_server
say "chat in a tunnel: 148 messages, the same for both, once each, passed in $((SECONDS - STARTED)) s"
