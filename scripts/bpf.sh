#!/usr/bin/env bash
# Builds the kernel's side of Morpheus, bpf/morpheus.bpf.c, into the file that is its argument.
#
#   scripts/bpf.sh OBJECT
#
# The file is whole or not there. Ends with 3 and a reason if what builds it is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

object=${1:?usage: scripts/bpf.sh OBJECT}
missing() {
    echo "not built: $1" >&2
    exit 3
}
command -v clang >/dev/null || missing "clang is not installed"
command -v llvm-strip >/dev/null || missing "llvm-strip is not installed (package llvm)"
[[ -e /usr/include/bpf/bpf_helpers.h ]] || missing "bpf/bpf_helpers.h is not there (package libbpf-dev)"

mkdir -p "$(dirname "$object")"
part=$(mktemp "$object.XXXXXX")
trap 'rm -f "$part"' EXIT
arch=$(uname -m)
# Debian keeps asm/ in a directory of the architecture; the BPF target does not look there.
clang -g -O2 -target bpf -mcpu=v3 -Wall -Werror "-I/usr/include/$arch-linux-gnu" \
    "-D__TARGET_ARCH_$([[ $arch == x86_64 ]] && echo x86 || echo arm64)" \
    -c bpf/morpheus.bpf.c -o "$part"
# The types stay (BTF), what a debugger would want goes.
llvm-strip -g "$part"
chmod 644 "$part"
mv "$part" "$object"
