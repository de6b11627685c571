#!/usr/bin/env bash
# The quick loop: format, lints, unit tests of the crates and the tidy tests.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

say "What the checks need"
need_cargo
need_c_compiler
need_component rustfmt fmt
need_component clippy clippy

check_format
check_lints

say "Unit tests"
cargo test --locked --workspace --lib --bins --quiet
say "Tidy tests"
cargo test --locked --package tidemark-tests --test tidy --quiet

say "make check: passed in $(elapsed)"
