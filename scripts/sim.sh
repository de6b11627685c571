#!/usr/bin/env bash
# The simulator for longer than the tests run it, in the release build. SEEDS, STEPS, FIRST and THREADS say
# how long; a failing seed is made shorter and its plan written to target/sim, for `sim replay FILE`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

need_cargo
say "Build (release): the simulator"
cargo build --locked --release -p tidemark-sim
say "${SEEDS:-2000} seeds of ${STEPS:-500} steps, from ${FIRST:-0}"
"$(target_dir)/release/sim" run --seeds "${SEEDS:-2000}" --steps "${STEPS:-500}" --first "${FIRST:-0}" \
    --threads "${THREADS:-$(nproc)}" --plans "$(target_dir)/sim"
note "after $(elapsed)"
