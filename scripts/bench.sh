#!/usr/bin/env bash
# The load generator in release; its table of figures and floors goes to stdout.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

need_cargo
need_c_compiler
cargo build --release --locked --package tidemark-bench --package tidemark-cli
exec "$(target_dir)/release/tidemark-bench" "$@"
