#!/usr/bin/env bash
# Imports the plays while the server is killed five times, under the eyes of three watchers: afterwards exactly the
# plays are there, and each watcher has printed every change once and in the order of commits.
source "$(dirname "$0")/common.bash"

PLAYS=examples/data/plays.jsonl.gz
MESSAGES=30913
BUSY=loves_labours_lost-5-2
KILLS=5
# The collection of more than 1,000 documents: some are there before, the others come during the import.
LINES_BEFORE=1200
LINES=3000

# "room seq" of each line of the corpus, which writes its keys in a fixed order.
keys() { sed -E 's/^\{"room":"([^"]+)".*"seq":([0-9]+),"from".*/\1 \2/'; }

# "version path" of each document or added line; strings escape their quotes, so that text cannot look like a key.
changes() {
    sed -E -n 's/.*"path":"([^"]+)".*/\1/p' "$1" >"$1.paths"
    sed -E -n 's/.*"'"$2"'":([0-9]+).*/\1/p' "$1" >"$1.versions"
    paste -d ' ' "$1.versions" "$1.paths"
}

watch() { # watch NAME COLLECTION
    "$TIDEMARK" watch --json "$2" >"$WORK/$1.watch" 2>>"$WORK/$1.log" &
    CHILDREN+=($!)
    wait_until "watcher $1 to be current" grep -q '"type":"current"' "$WORK/$1.watch"
}

zcat "$PLAYS" >"$WORK/plays.jsonl"
keys <"$WORK/plays.jsonl" >"$WORK/keys"
[ "$(wc -l <"$WORK/keys")" = "$MESSAGES" ] || fail "the corpus does not have $MESSAGES lines"
head -n "$LINES_BEFORE" "$WORK/plays.jsonl" >"$WORK/before.jsonl"
head -n "$LINES" "$WORK/plays.jsonl" | tail -n +$((LINES_BEFORE + 1)) >"$WORK/during.jsonl"

start_server
"$TIDEMARK" import "$WORK/before.jsonl" 'lines/{room}-{seq}' 2>>"$WORK/before.log"
watch busy-1 "rooms/$BUSY/messages"
watch busy-2 "rooms/$BUSY/messages"
watch lines lines

"$TIDEMARK" import "$PLAYS" 'rooms/{room}/messages/{room}-{seq}' 2>>"$WORK/import.log" &
IMPORT=$!
"$TIDEMARK" import --window 1 "$WORK/during.jsonl" 'lines/{room}-{seq}' 2>>"$WORK/during.log" &
DURING=$!
CHILDREN+=("$IMPORT" "$DURING")

# Each kill comes when the import has reached a room; the last room is well before the end.
for number in $(seq "$KILLS"); do
    room=$(sed -n "$((MESSAGES * number / (KILLS + 2)))p" "$WORK/keys" | cut -d ' ' -f 1)
    "$TIDEMARK" watch --json "rooms/$room/messages" --until-count 1 >/dev/null 2>>"$WORK/milestone.log"
    kill -0 "$IMPORT" 2>/dev/null || fail "the import ended before kill $number"
    kill_server
    start_server
    say "kill $number when the import had reached $room"
done
wait "$IMPORT" || fail "the import did not succeed"
wait "$DURING" || fail "the import of lines did not succeed"

# What is stored: the documents of every room, and no others.
stored() { "$TIDEMARK" query --json "rooms/$1/messages" 2>>"$WORK/query.log"; }
cut -d ' ' -f 1 "$WORK/keys" | sort -u | while read -r room; do stored "$room"; done >"$WORK/stored"
changes "$WORK/stored" update_version | cut -d ' ' -f 2 | sort >"$WORK/stored.sorted"
sed -E 's|^([^ ]+) ([0-9]+)$|rooms/\1/messages/\1-\2|' "$WORK/keys" | sort >"$WORK/expected"
cmp -s "$WORK/stored.sorted" "$WORK/expected" ||
    fail "$(wc -l <"$WORK/stored.sorted") documents instead of exactly $MESSAGES: $(
        diff "$WORK/expected" "$WORK/stored.sorted" | head -n 5)"
say "exactly $MESSAGES documents"

# What was watched: all that is stored, once, in the order of versions.
caught_up() { [ "$(grep -c '"type":"added"' "$1")" -ge "$2" ]; }
check_watcher() { # check_watcher NAME COLLECTION COUNT
    local printed="$WORK/$1.watch"
    wait_until "watcher $1 to have printed $3 changes" caught_up "$printed" "$3"
    "$TIDEMARK" query --json "$2" >"$WORK/$1.query" 2>>"$WORK/query.log"
    changes "$WORK/$1.query" update_version | sort -k1,1n -k2 >"$WORK/$1.expected"
    grep -v '"type":"current"' "$printed" >"$WORK/$1.lines"
    ! grep -v -q '"type":"added"' "$WORK/$1.lines" || fail "watcher $1 printed a change that never was"
    changes "$WORK/$1.lines" version >"$WORK/$1.printed"
    [ "$(wc -l <"$WORK/$1.expected")" = "$3" ] || fail "$2 does not have $3 documents"
    cmp -s "$WORK/$1.printed" "$WORK/$1.expected" ||
        fail "watcher $1: $(diff "$WORK/$1.expected" "$WORK/$1.printed" | head -n 5)"
    say "watcher $1 of $2 printed $3 changes, each once and in order"
}
check_watcher busy-1 "rooms/$BUSY/messages" "$(grep -c "^$BUSY " "$WORK/keys")"
check_watcher busy-2 "rooms/$BUSY/messages" "$(grep -c "^$BUSY " "$WORK/keys")"
check_watcher lines lines "$LINES"
stop_server
say "import under $KILLS kills: passed in $((SECONDS - STARTED)) s"
