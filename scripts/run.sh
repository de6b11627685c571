#!/usr/bin/env bash
# Builds the server for release and serves. Arguments go to `tidemark serve`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

say "What the build needs"
need_cargo
need_c_compiler

binary="$(target_dir)/release/tidemark"
if [ -x "$binary" ]; then
    say "Building what changed since the last time"
else
    say "Building the server (release). The first time this compiles every dependency: some minutes on two cores."
fi
cargo build --release --locked --package tidemark-cli
note "built in $(elapsed): $binary"

say "Serving; data in ./tidemark-data; stop with Ctrl-C"
exec "$binary" serve --data ./tidemark-data "$@"
