#!/usr/bin/env bash
# A file tree with Debian packages and everything they depend on: what an image of them is made of.
#
#   scripts/debian-root.sh INTO CACHE [--without PATTERN]... PACKAGE...
#
# apt-get resolves them as for a machine that has nothing yet, and downloads them into CACHE; what is
# there already it does not download again. Nothing is installed here: no script of a package runs, so
# the tree has no users but those that somebody writes into its /etc/passwd.
set -euo pipefail
# Others than root read what is in an image.
umask 022

into=${1:?usage: scripts/debian-root.sh INTO CACHE [--without PATTERN]... PACKAGE...}
cache=${2:?which directory keeps the packages?}
shift 2
without=()
while [[ ${1-} == --without ]]; do
    without+=("$2")
    shift 2
done
(($# > 0)) || {
    echo "debian-root: which packages?" >&2
    exit 2
}

[[ ! -e $into ]] || {
    echo "debian-root: $into is there already" >&2
    exit 1
}
mkdir -p "$cache/partial" "$into"
cache=$(cd "$cache" && pwd)
# A machine that has no package yet.
: >"$cache/status"
nothing=(-o Dir::State::status="$cache/status" -o Dir::Cache::archives="$cache" -o Debug::NoLocking=1
    -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0)
apt-get "${nothing[@]}" install --yes -qq --download-only --no-install-recommends "$@" >&2
# What was resolved this time: the cache may have other versions too.
mapfile -t resolved < <(apt-get "${nothing[@]}" install --simulate --no-install-recommends "$@" |
    sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*\[\([a-z0-9]*\)\]).*/\1 \2 \3/p')
((${#resolved[@]} > 0)) || {
    echo "debian-root: apt-get resolved nothing" >&2
    exit 1
}

is_wanted() {
    local pattern
    for pattern in "${without[@]}"; do
        # shellcheck disable=SC2053
        [[ $1 == $pattern ]] && return 1
    done
    return 0
}
# Where Debian has one directory today, an older package may still say two.
mkdir -p "$into"/usr/{bin,sbin,lib,lib64}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$into/$name"; done
for line in "${resolved[@]}"; do
    read -r name version architecture <<<"$line"
    is_wanted "$name" || continue
    file=$cache/${name}_${version//:/%3a}_$architecture.deb
    dpkg-deb --fsys-tarfile "$file" | tar --extract --keep-directory-symlink --directory "$into"
done
mkdir -p "$into"/{proc,sys,dev,run,tmp}
chmod 1777 "$into/tmp"
