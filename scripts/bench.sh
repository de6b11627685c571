#!/usr/bin/env bash
# The load generator in release; its table of figures and floors goes to stdout.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# Options alone mean all workloads: `make bench ARGS=--quick`.
case "${1:-}" in
    "" | -*) set -- all "$@" ;;
esac

need_cargo
need_c_compiler
cargo build --release --locked --package tidemark-bench
exec "$(target_dir)/release/tidemark-bench" "$@"
