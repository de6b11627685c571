#!/usr/bin/env bash
# Licences, advisories, bans and sources of the dependencies, by deny.toml.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

need_cargo
cargo deny --version >/dev/null 2>&1 || fail "cargo-deny is not installed (cargo install --locked cargo-deny)"
exec cargo deny --locked check
