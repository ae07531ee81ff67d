#!/usr/bin/env bash
# Sees to it that this machine has what a task of the Makefile needs, then runs the task.
#
#   scripts/setup.sh build|demo|demo-guidance|demo-network|demo-services|test|test-full [COMMAND [ARGUMENT..]]
#
# As root on a system with apt-get it installs the packages that are missing and says why. As
# anyone else it says what to install. It ends with 1 only for what the task cannot do without;
# what test-full alone wants, its tests can do without: they read `not run: reason`.
#
# The command runs with RUSTUP_TOOLCHAIN set to the pinned toolchain: then rustup does not insist
# on the wasm targets of rust-toolchain.toml, which only a rebuild of the guests needs.
set -euo pipefail
cd "$(dirname "$0")/.."

task=${1:?usage: scripts/setup.sh build|demo|demo-guidance|demo-network|demo-services|test|test-full [COMMAND [ARGUMENT..]]}
shift
full=
case $task in
    build | demo | demo-guidance | demo-network | demo-services | test) ;;
    test-full)
        full=yes
        task=test
        ;;
    *)
        echo "setup: no task $task; there are build, demo, demo-guidance, demo-network," \
            "demo-services, test and test-full" >&2
        exit 1
        ;;
esac

say() { echo "setup: $*" >&2; }
# Whether a program is there, or a header.
have() {
    case $1 in
        *.h) echo "#include <$1>" | gcc -E -xc - >/dev/null 2>&1 ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# Tools: each with its Debian package and the reason we want it.
packages=()
missing=()
want() {
    local tool=$1 package=$2 reason=$3
    have "$tool" && return
    say "$tool is missing: $reason (package $package)"
    packages+=("$package")
}
need() {
    have "$1" && return
    want "$@"
    missing+=("$1")
}

need gcc gcc "links Rust programs"
need stdio.h libc6-dev "some crates compile C"
# Guidance by the kernel; without these a node has the other tiers, and says so.
want clang clang "compiles the programs for the kernel in bpf/"
want llvm-strip llvm "strips them"
want bpf/bpf_helpers.h libbpf-dev "declares what they may call"
want libelf.h libelf-dev "loads them"
want zlib.h zlib1g-dev "loads them"
if [[ $task == demo || $task == test ]]; then
    need ssh-keygen openssh-client "checks our signatures with a program that is not ours"
fi
if [[ $task == demo-network ]]; then
    need nft nftables "loads our firewalls into a kernel"
    need ip iproute2 "makes the networks of the demo"
    need wg wireguard-tools "gives the device what was exported, and looks at the router"
    need wireguard-go wireguard-go "carries the tunnel"
    need ping iputils-ping "sends the packets that are counted"
fi
if [[ $task == demo-services ]]; then
    need docker-registry docker-registry "gives the image out as registries do"
    need umoci umoci "makes the image"
    need skopeo skopeo "brings it to the registry"
    need tar2sqfs squashfs-tools-ng "makes the root disk of it"
    need mke2fs e2fsprogs "makes the scratch disks of instances"
    need qemu-system-x86_64 qemu-system-x86 "runs the microVMs"
    need zstd zstd "unpacks the kernel of microVMs"
    need nft nftables "keeps instances apart"
    need ip iproute2 "makes the network of the demo"
    need curl curl "is the clients"
    need openssl openssl "makes keys and certificates, and looks at those that are shown"
fi
if [[ $task == test ]]; then
    need git git "lists the repository's files"
    want haproxy haproxy "receives PROXY headers from our ingress, and is what it is measured against"
    need skopeo skopeo "reads our stores with a program that is not ours"
    want tar2sqfs squashfs-tools-ng "makes root disks of images"
    want unsquashfs squashfs-tools "takes them apart again, and makes those of the benchmark"
    want umoci umoci "makes and unpacks images with a program that is not ours"
    want docker-registry docker-registry "gives images out as registries do"
    want openssl openssl "makes the certificates of that registry and of services"
    want psql postgresql-client "asks a database that is a service"
    want curl curl "asks services"
    want zstd zstd "packs layers"
    need strace strace "counts the syncs of a node"
    want bpftool bpftool "looks into the kernel's maps with a program that is not ours"
    want nft nftables "loads our firewalls into a kernel"
    want ip iproute2 "makes the networks in which they are tried"
    want ping iputils-ping "sends the packets that are counted in them"
    want wg-quick wireguard-tools "reads our configurations with a program that is not ours"
    want wireguard-go wireguard-go "carries tunnels where the kernel has no WireGuard"
    want iperf3 iperf3 "loads the tunnels that vyr bench net measures"
    want age age "opens our recovery bundles with a program that is not ours"
    want zbarimg zbar-tools "reads our QR codes as a telephone does"
    want qemu-system-x86_64 qemu-system-x86 "runs microVMs, and the machine whose power goes off"
    want mke2fs e2fsprogs "makes the scratch disks of microVMs"
    want mksquashfs squashfs-tools "makes the root disks of microVMs"
    want busybox busybox-static "is what runs in the microVMs of tests"
    want zstd zstd "unpacks the kernel of microVMs"
    # Debian's package starts a server and will again at each boot: nobody asked for that here.
    if [[ -d /run/systemd/system || $(cat /proc/1/comm) == init ]]; then
        have /usr/sbin/sshd ||
            say "sshd is missing (package openssh-server): hosts elsewhere are not tried; it is" \
                "not installed for you, because it would let people into this machine"
    else
        want /usr/sbin/sshd openssh-server "is asked for hosts elsewhere, in networks of a test's own"
    fi
fi
if [[ $full ]]; then
    want mkfs.ext4 e2fsprogs "makes the file systems of those machines"
fi

if ((${#packages[@]} > 0)); then
    if [[ $(id -u) == 0 ]] && have apt-get; then
        say "installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >&2 || say "the package lists could not be renewed"
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2 ||
            say "apt-get could not install all of them"
    else
        say "as root, run: apt-get install ${packages[*]}"
    fi
fi
for tool in "${missing[@]}"; do
    if ! have "$tool"; then
        say "$tool is still missing, and make $task cannot do without it"
        exit 1
    fi
done

# Rust: the pinned toolchain, by rustup if it is there.
channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
if ! have cargo && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    export PATH
fi
if have rustup; then
    export RUSTUP_TOOLCHAIN=$channel
    if ! rustup toolchain list | grep -q "^$channel-"; then
        say "Rust $channel is missing: the workspace is built with it; rustup installs it"
        if ! rustup toolchain install "$channel" --profile minimal >&2; then
            say "rustup could not install Rust $channel"
            exit 1
        fi
    fi
    musl=x86_64-unknown-linux-musl
    if [[ $task == demo-services ]] && ! rustup target list --installed | grep -qx "$musl"; then
        say "target $musl is missing: the first process of microVMs is built for it"
        if ! rustup target add "$musl" >&2; then
            say "rustup could not add $musl"
            exit 1
        fi
    fi
    if [[ $task == test ]]; then
        rustup component add rustfmt clippy >&2 || say "rustfmt or clippy could not be added"
        installed=$(rustup target list --installed)
        for target in wasm32-wasip1 wasm32-wasip2 x86_64-unknown-linux-musl; do
            grep -qx "$target" <<<"$installed" && continue
            case $target in
                wasm32-*)
                    reason="it rebuilds the guests in workloads/"
                    without="the committed guests are used as they are"
                    ;;
                *)
                    reason="plans are compiled against another C library"
                    without="that step will be not run"
                    ;;
            esac
            say "target $target is missing: $reason"
            rustup target add "$target" >&2 || say "rustup could not add $target; $without"
        done
    fi
elif have cargo; then
    minor=$(cut -d. -f2 <<<"$channel")
    actual=$(rustc --version | cut -d. -f2)
    if ((actual < minor)); then
        say "this is $(rustc --version); Vyr needs Rust $channel or later"
        exit 1
    fi
    say "there is no rustup; using $(rustc --version)"
else
    say "cargo is missing: install rustup, which then installs Rust $channel"
    exit 1
fi

if [[ $task == test ]]; then
    have cargo-nextest || say "cargo-nextest is not installed; cargo test is used instead"
    have cargo-deny || say "cargo-deny is not installed; its step will be not run"
fi

if (($# > 0)); then
    exec "$@"
fi
