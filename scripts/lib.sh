# What the scripts share: sourced by them, never run. Says what it does, and loudly what it skips.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
SKIPPED=()
STARTED=$SECONDS

say() { printf '\n==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }

# Named again at the end of the run, so that nobody takes a skipped step for a passed one.
skip() {
    SKIPPED+=("$*")
    printf '\n!!! SKIPPED: %s\n' "$*"
}

elapsed() { printf '%dm%02ds' $(((SECONDS - STARTED) / 60)) $(((SECONDS - STARTED) % 60)); }

# Where cargo builds: a CARGO_TARGET_DIR that is set is respected.
target_dir() { printf '%s' "${CARGO_TARGET_DIR:-$PWD/target}"; }

need_cargo() {
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    command -v cargo >/dev/null || fail "Rust is not installed; https://rustup.rs says how"
    local have want
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$want" "${have%%-*}" | sort -V | head -n 1)" != "$want" ]; then
        fail "Rust $have is too old: this workspace needs $want (rustup update stable)"
    fi
    note "Rust $have"
}

# The storage engine compiles some C (lz4).
need_c_compiler() {
    if command -v cc >/dev/null || [ -n "${CC:-}" ]; then
        note "C compiler ${CC:-cc}"
    elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        note "no C compiler: installing gcc"
        apt-get install -y --no-install-recommends gcc libc6-dev >/dev/null || fail "could not install gcc"
    else
        fail "a C compiler is needed (Debian and Ubuntu: sudo apt-get install gcc libc6-dev)"
    fi
}

# A component that comes with Rust: rustfmt or clippy.
need_component() {
    local name=$1 command=$2
    if cargo "$command" --version >/dev/null 2>&1; then
        note "$name present"
    elif command -v rustup >/dev/null; then
        note "$name missing: installing it with rustup"
        rustup component add "$name" || fail "could not install $name"
    else
        fail "$name is missing: install it the way Rust was installed"
    fi
}

check_format() {
    say "Format"
    cargo fmt --all -- --check || fail "run: make fmt"
    note "formatted"
}

check_lints() {
    say "Lints (warnings are errors)"
    cargo clippy --locked --workspace --all-targets -- -D warnings
}
