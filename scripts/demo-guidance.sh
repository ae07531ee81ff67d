#!/usr/bin/env bash
# Short tasks beside hogs, with guidance off and on: a table, a plot in text, and one as a picture.
#
# Without the kernel's side (clang, libelf, CAP_BPF and CAP_PERFMON) its rows read `not run`, and
# why. Everything is below target/demo-guidance.
set -euo pipefail
cd "$(dirname "$0")/.."

out=target/demo-guidance
step() { printf '\n== %s\n' "$*"; }

rm -rf "$out"
mkdir -p "$out"

step "build (the first time takes minutes: it compiles a WebAssembly engine)"
scripts/build.sh
# The same again has nothing to do, and says where it put the program.
vyr=$(scripts/build.sh --quiet --message-format json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[[ -x $vyr ]] || {
    echo "demo-guidance: cargo did not say where it put vyr" >&2
    exit 1
}

step "short tasks beside hogs: vyr sched bench --demo (half a minute)"
"$vyr" sched bench --demo --out "$out"

step "done: all samples are in $out/sched.json, the plot is $out/sched.svg"
