#!/usr/bin/env bash
# Builds the release binary, target/release/vyr, and beside it the programs for the kernel.
#
#   scripts/build.sh [ARGUMENT OF CARGO]...
#
# Where libelf or clang is not installed there is a binary without the tier observe, and a line that
# says so: `vyr sched status` then gives the same reason.
set -euo pipefail
cd "$(dirname "$0")/.."

features=()
if [[ -e /usr/include/libelf.h ]]; then
    features=(--features bpf)
else
    echo "built without the tier observe: libelf.h is not installed (package libelf-dev)" >&2
fi
cargo build --release --locked --package vyr --bin vyr "${features[@]}" "$@"

[[ ${#features[@]} -gt 0 ]] || exit 0
target=$(cargo metadata --locked --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# 3: what it needs is not installed, and it has said so.
scripts/bpf.sh "$target/release/morpheus.bpf.o" || [[ $? == 3 ]]
