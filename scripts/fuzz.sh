#!/usr/bin/env bash
# Runs libFuzzer on every target of fuzz/, a bounded time each.
#
#   scripts/fuzz.sh [SECONDS [TARGET..]]      default: 30 seconds, all targets
#
# Says `not run: reason` and ends with 0 where cargo-fuzz or a nightly compiler is absent. Ends with
# 1 when a target fails; the input is then in fuzz/artifacts/, and its replay command is printed.
# What libFuzzer learns stays in fuzz/target/corpus/; fuzz/corpus/ is only read.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
shift $(($# > 0 ? 1 : 0))
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: scripts/fuzz.sh [SECONDS [TARGET..]]" >&2
    exit 2
fi

# The Makefile's setup pins a toolchain, and +nightly must win over it.
unset RUSTUP_TOOLCHAIN
if ! command -v rustup >/dev/null || ! rustup toolchain list | grep -q '^nightly'; then
    echo "not run: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "not run: cargo-fuzz is not installed (cargo install cargo-fuzz)"
    exit 0
fi

targets=("$@")
if ((${#targets[@]} == 0)); then
    for folder in fuzz/corpus/*/; do
        targets+=("$(basename "$folder")")
    done
fi

# No sanitizer: our code has no unsafe blocks here, and without one libFuzzer is twice as fast.
# Debug assertions and overflow checks stay on.
options=(--fuzz-dir fuzz/libfuzzer --target-dir fuzz/target/libfuzzer --sanitizer none)
[[ fuzz/libfuzzer/Cargo.lock -nt Cargo.lock ]] || cp Cargo.lock fuzz/libfuzzer/Cargo.lock
cargo +nightly fuzz build "${options[@]}" vyr

scratch=$(mktemp -d --tmpdir="$([[ -w /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$scratch"' EXIT
failed=()
for target in "${targets[@]}"; do
    learnt=fuzz/target/corpus/$target
    kept=fuzz/artifacts/$target
    mkdir -p "$learnt" "$kept"
    echo "fuzz: $target, $seconds s"
    # A new temporary directory each: a target that fails leaves its stores behind.
    mkdir "$scratch/$target"
    if ! VYR_FUZZ_TARGET=$target TMPDIR=$scratch/$target \
        cargo +nightly fuzz run "${options[@]}" vyr "$learnt" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=2048 \
        -dict="fuzz/corpus/$target.dict" -artifact_prefix="$kept/" -print_final_stats=1 \
        >"$scratch/log" 2>&1; then
        failed+=("$target")
        tail -n 40 "$scratch/log"
        for input in "$kept"/*; do
            echo "replay: VYR_FUZZ_TARGET=$target VYR_FUZZ_INPUT=$PWD/$input" \
                "cargo test -p vyr-fuzz --test replay -- --exact one_input --nocapture"
        done
    else
        grep -E '^stat::number_of_executed_units|DONE' "$scratch/log" || true
    fi
    rm -rf "${scratch:?}/$target"
done
if ((${#failed[@]} > 0)); then
    echo "fuzz: failed: ${failed[*]}" >&2
    exit 1
fi
