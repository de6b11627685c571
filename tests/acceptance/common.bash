# What the acceptance scripts share: sourced by them, never run.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
export LC_ALL=C

STARTED=$SECONDS
WORK=$(mktemp -d)
SERVER=
CHILDREN=()

say() { printf '    %s\n' "$*"; }

fail() {
    printf '\nFAILED: %s\n' "$*" >&2
    for log in "$WORK"/*.log; do
        [ -s "$log" ] || continue
        printf -- '--- the end of %s\n' "$(basename "$log")" >&2
        tail -n 20 "$log" >&2
    done
    exit 1
}

finish() {
    local status=$?
    for pid in $SERVER "${CHILDREN[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT

# The binary under test: $TIDEMARK, or what the last build left.
if [ -z "${TIDEMARK:-}" ]; then
    for profile in release debug; do
        TIDEMARK="${CARGO_TARGET_DIR:-$PWD/target}/$profile/tidemark"
        [ -x "$TIDEMARK" ] && break
    done
fi
[ -x "$TIDEMARK" ] || fail "no binary at $TIDEMARK: run cargo build --package tidemark-cli"

# A port that the kernel gives to nobody by itself: while the server is down, nothing may answer on it.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf '%s' "$port"
}

PORT=$(free_port)
export TIDEMARK_URL="ws://127.0.0.1:$PORT" TIDEMARK_STATE_DIR="$WORK/state" TIDEMARK_TIMEOUT=60s

# Waits until a command succeeds; fails by name after a minute.
wait_until() { # wait_until WHAT COMMAND...
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited a minute in vain: $what"
        sleep 0.05
    done
}

start_server() {
    : >"$WORK/server.out"
    # Descriptors that a script holds open for others must end with the script, not with the server.
    "$TIDEMARK" serve --listen "127.0.0.1:$PORT" --data "$WORK/data" --log-level warn \
        >"$WORK/server.out" 2>>"$WORK/server.log" 3>&- 4>&- &
    SERVER=$!
    wait_until "the server to be ready" grep -q serves "$WORK/server.out"
}

kill_server() {
    kill -9 "$SERVER" || fail "the server ended by itself"
    wait "$SERVER" 2>/dev/null || true
    SERVER=
}

stop_server() {
    kill -TERM "$SERVER" || fail "the server ended by itself"
    wait "$SERVER" || fail "the server did not stop in order"
    SERVER=
}
