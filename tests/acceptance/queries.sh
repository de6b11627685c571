#!/usr/bin/env bash
# Imports the plays into a fresh server and runs the README's indexes and queries as they stand there: each result is
# what the file of the plays says, each is explained, and none scans more than 1.1 entries for a result.
source "$(dirname "$0")/common.bash"

PLAYS=examples/data/plays.jsonl.gz
MESSAGES=30913
HAMLET='"from":"HAMLET"'

tidemark() { "$TIDEMARK" "$@"; }

# The block of commands of the README, and the one line of it that contains a text.
sed -n '/^<!-- queries -->$/,/^<!-- \/queries -->$/p' README.md | grep '^tidemark ' >"$WORK/commands"
[ "$(wc -l <"$WORK/commands")" = 7 ] || fail "the README does not have two indexes and five queries"
command_with() { # command_with TEXT
    grep -F -- "$1" "$WORK/commands" >"$WORK/command" || fail "no command of the README has: $1"
    [ "$(wc -l <"$WORK/command")" = 1 ] || fail "several commands of the README have: $1"
    cat "$WORK/command"
}
# The words are the README's own: quotes in them mean what they mean to its reader.
run() { eval "$1" 2>>"$WORK/queries.log" || fail "the README's command failed: $1"; }

# The corpus as columns: from, room, number, and the document's path. It writes its keys in a fixed order.
TAB=$(printf '\t')
zcat "$PLAYS" | sed -E \
    's|^\{"room":"([^"]+)".*"seq":([0-9]+),"from":"([^"]+)".*|\3\t\1\t\2\trooms/\1/messages/\1-\2|' >"$WORK/plays"
[ "$(grep -c "$TAB" "$WORK/plays")" = "$MESSAGES" ] || fail "the corpus does not have $MESSAGES lines"

value() { sed -E -n 's|^'"$1"' +([0-9.]+).*|\1|p' "$2"; } # value NAME FILE: of an explanation

check_cost() { # check_cost WHAT FILE RESULTS: the explanation's results, and what they cost
    local results scanned read ratio
    results=$(value results "$2") scanned=$(value 'entries scanned' "$2")
    read=$(value 'documents read' "$2") ratio=$(value 'scanned/result' "$2")
    [ "$results" = "$3" ] || fail "$1: explained $results results instead of $3"
    awk -v scanned="$scanned" -v results="$results" 'BEGIN { exit !(scanned <= 1.1 * results) }' ||
        fail "$1: scanned $scanned entries for $results results"
    grep -q "| $results | $scanned | $read | $ratio |$" README.md ||
        fail "$1: the README's table does not say $results results, $scanned scanned, $read read, $ratio for each"
    say "$1: $results results, $scanned entries scanned, $ratio for each"
}

check_query() { # check_query TEXT EXPECTED: a command of the README against a file of paths in order
    local command paths="$WORK/paths"
    command=$(command_with "$1")
    case $command in *' --explain') ;; *) fail "the README does not explain: $command" ;; esac
    run "$command" >"$WORK/explained"
    run "${command% --explain} --json" | sed -E -n 's/.*"path":"([^"]+)".*/\1/p' >"$paths"
    cmp -s "$paths" "$2" || fail "$1: $(diff "$2" "$paths" | head -n 5)"
    [ -s "$2" ] || fail "$1: nothing was expected"
    check_cost "$1" "$WORK/explained" "$(wc -l <"$2")"
}

start_server
tidemark import "$PLAYS" 'rooms/{room}/messages/{room}-{seq}' 2>>"$WORK/import.log"
while read -r command; do
    run "$command"
done < <(grep '^tidemark indexes create ' "$WORK/commands")
tidemark indexes list >"$WORK/indexes"
[ "$(grep -c 'messages(.* ready$' "$WORK/indexes")" = 2 ] || fail "two indexes ready: $(cat "$WORK/indexes")"

awk -F "$TAB" '$1 == "HAMLET" && $2 == "hamlet-3-1" { print $3 "\t" $4 }' "$WORK/plays" |
    sort -n | head -n 3 | cut -f 2 >"$WORK/expected.1"
check_query rooms/hamlet-3-1/messages "$WORK/expected.1"

awk -F "$TAB" '$1 >= "P" && $1 < "Q" { print $1 "\t" $2 "\t" $2 "-" $3 "\t" $4 }' "$WORK/plays" |
    sort -t "$TAB" -k 1,1 -k 2,2 -k 3,3 >"$WORK/range"
head -n 20 "$WORK/range" | cut -f 4 >"$WORK/expected.2"
check_query 'from >= "P" and from < "Q"' "$WORK/expected.2"

# In the order of the inequality that is in it: by number.
awk -F "$TAB" '$2 == "macbeth-1-1" && ($1 == "ALL" || $1 ~ /^(First|Second) Witch$/ && $3 > 6) { print $3 "\t" $4 }' \
    "$WORK/plays" | sort -n | cut -f 2 >"$WORK/expected.3"
check_query rooms/macbeth-1-1/messages "$WORK/expected.3"

awk -F "$TAB" '$2 == "hamlet-5-2" { print $3 "\t" $4 }' "$WORK/plays" | sort -n | tail -n 3 | cut -f 2 \
    >"$WORK/expected.4"
check_query rooms/hamlet-5-2/messages "$WORK/expected.4"
run "$(command_with rooms/hamlet-5-2/messages | sed 's/ --explain$/ --json/')" |
    sed -E 's/.*"fields":(\{.*\}),"path".*/\1/' >"$WORK/fields"
! grep -E -v -q '^\{"from":"[^"]*","text":"([^"\\]|\\.)*"\}$' "$WORK/fields" || fail "fields: $(cat "$WORK/fields")"

# The live count: as the file says, then as it is after each write.
live=$(command_with ' --count')
case $live in 'tidemark watch '*' --explain') ;; *) fail "the README does not watch and explain: $live" ;; esac
spoken=$(zcat "$PLAYS" | grep -c "$HAMLET")
: >"$WORK/live"
# Without a shell in between, so that it ends with the script.
eval "exec \"\$TIDEMARK\" ${live#tidemark}" >"$WORK/live" 2>>"$WORK/queries.log" &
WATCHER=$!
CHILDREN+=("$WATCHER")
counts() { sed -E -n 's/^[0-9].*Z  count ([0-9]+)$/\1/p' "$WORK/live" | tr '\n' ' '; }
shows() { [ "$(counts)" = "$1" ]; }
wait_until "the live count to show $spoken" shows "$spoken "
check_cost 'the live count' "$WORK/live" "$spoken"
tidemark set rooms/new/messages/1 '{"from":"HAMLET","seq":1}' 2>>"$WORK/queries.log"
wait_until "the live count to have gone up" shows "$spoken $((spoken + 1)) "
tidemark set rooms/new/messages/2 '{"from":"OPHELIA","seq":2}' 2>>"$WORK/queries.log"
tidemark update rooms/new/messages/1 'from="OPHELIA"' 2>>"$WORK/queries.log"
wait_until "the live count to have gone down" shows "$spoken $((spoken + 1)) $spoken "
say "the live count: $(counts)"
kill -TERM "$WATCHER"
wait "$WATCHER" || fail "the watcher did not end in order"
CHILDREN=()
stop_server
say "the README's queries: passed in $((SECONDS - STARTED)) s"
