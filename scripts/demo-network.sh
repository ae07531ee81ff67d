#!/usr/bin/env bash
# A network, start to end, while packets flow: planned, signed, applied, a device added, its key
# rotated, a lock-out taken back, the router destroyed and made again, a hand's change found.
#
# A laptop, a router and a printer are network namespaces on two switches; WireGuard is
# wireguard-go. All of it runs in a mount and a process namespace of its own: links, sockets and
# processes are nobody else's, and the kernel ends them with the script, however that ends. Files
# are below target/demo-network. Needs root.
#
#   scripts/demo-network.sh                 builds vyr, then does all that
#   scripts/demo-network.sh --inside VYR    the second half, in the namespaces, with this vyr
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/target/demo-network
# Packets a second. A phase without a planned outage may lose as many as a rotation may.
rate=100
may_lose=10
# How long a plan that locks people out waits for its confirmation, and any wait here for its end.
confirm_s=4
hang_s=40

step() { printf '\n== %s\n' "$*"; }
die() {
    echo "demo-network: $*" >&2
    exit 1
}

if [[ ${1-} != --inside ]]; then
    (($(id -u) == 0)) || die "needs root: it makes network namespaces (nothing outside of them is touched)"
    for program in ip nft wg wireguard-go ping unshare nsenter; do
        command -v "$program" >/dev/null || die "$program is not installed: scripts/setup.sh demo-network"
    done
    [[ -c /dev/net/tun ]] || die "the kernel has no /dev/net/tun, which wireguard-go needs"
    unshare --mount --pid --fork --mount-proc --net sh -c \
        'ip link add br0 type bridge && nft add table inet vyr' ||
        die "namespaces, bridges or nftables do not work here"

    step "build (the first time takes minutes: it compiles a WebAssembly engine)"
    scripts/build.sh
    # The same again has nothing to do, and says where it put the program.
    vyr=$(scripts/build.sh --quiet --message-format json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [[ -x $vyr ]] || die "cargo did not say where it put vyr"
    exec unshare --mount --pid --fork --kill-child --mount-proc scripts/demo-network.sh --inside "$vyr"
fi

[[ $$ == 1 ]] || die "--inside is for the first process of a namespace: see the last line of the first half"
vyr=$2
umask 077
rm -rf "$out"
mkdir -p "$out"
# Sockets of data planes and names of namespaces: ours alone, in this mount namespace.
mount -t tmpfs tmpfs "$(readlink -f /var/run)"
mkdir /var/run/netns /var/run/wireguard

running=()
# Ends one of our processes, and waits for it.
end() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
clean_up() {
    for id in "${running[@]}"; do end "$id"; done
    for name in $(ip netns list 2>/dev/null | cut -d' ' -f1); do ip netns del "$name" || true; done
}
trap clean_up EXIT
trap 'exit 130' INT TERM

now() { date +%s.%N; }
# Seconds from one time to another.
between() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", b - a }'; }
# Looks again and again until a command succeeds.
await() {
    local what=$1 begun=$SECONDS
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS - begun < hang_s)) || die "$what takes more than $hang_s s"
        sleep 0.05
    done
}

inside() {
    local space=$1
    shift
    nsenter --net="/var/run/netns/$space" "$@"
}
# Runs a command of a machine, and shows the words, what it printed, and its exit code if that is
# not 0. What it printed on stdout is left in the file `said`, its exit code in `code`.
show() {
    local machine=$1 program=$2 word
    shift 2
    code=0
    printf '\n%s# %s' "$machine" "$program"
    for word in "$@"; do
        if [[ $word == *[[:space:]]* ]]; then printf " '%s'" "$word"; else printf ' %s' "$word"; fi
    done
    echo
    [[ $program == vyr ]] && program=$vyr
    # The site is where one is; the operator's name is for the receipts.
    (cd "$out/site" && VYR_DATA_DIR=$out/$machine.data USER=ana inside "$machine" \
        env -u SUDO_USER -u SSH_AUTH_SOCK "$program" "$@") >"$out/said" 2>"$out/told" </dev/null || code=$?
    cat "$out/said" "$out/told" | awk -v width=108 '
        NR <= 14 { print "    " (length($0) > width ? substr($0, 1, width) ".." : $0) }
        END { if (NR > 14) print "    .. and " NR - 14 " lines more" }'
    ((code == 0)) || echo "    exit code $code"
}
on() {
    show "$@"
    ((code == 0)) || die "this should have succeeded"
}
router() { on router vyr "$@"; }
# What must fail with an exit code.
refuses() {
    local expected=$1
    shift
    show router vyr "$@"
    ((code == expected)) || die "this should have ended with $expected, not with $code"
}
host=(--machine router --backend userspace)
# Signs the plan of the site as it is. Its digest is left in `plan`.
sign() {
    router plan sign --key ../op.key
    plan=$(head -n 1 "$out/said")
}
apply() {
    router apply "$plan" "${host[@]}" --confirm-within 60s
    router confirm
}

# A plug on a switch: namespace, switch, its own name there, address.
plugs=0
plug() {
    plugs=$((plugs + 1))
    ip -n switch link add "p$plugs" type veth peer name "far$plugs"
    ip -n switch link set "far$plugs" netns "$1" name "$3"
    ip -n switch link set "p$plugs" master "$2" up
    ip -n "$1" link set lo up
    ip -n "$1" address add "$4" dev "$3"
    ip -n "$1" link set "$3" up
}
# A WireGuard link; the process behind it is left in `plane`.
data_plane() {
    inside "$1" wireguard-go -f "$2" >>"$out/$1.wireguard" 2>&1 &
    plane=$!
    running+=("$plane")
    await "wireguard-go in $1" inside "$1" wg show "$2"
}
# A blank host in the router's place.
blank_router() {
    ip netns add router
    plug router br0 wan0 203.0.113.5/24
    plug router br1 lan0 192.168.10.1/24
    inside router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    router_plugs=("p$((plugs - 1))" "p$plugs")
    data_plane router vyr-office
    router_plane=$plane
}

# What `ping` told: every packet has a line, its answer or that there is none yet.
log=$out/ping
: >"$log"
answered() { grep -c 'bytes from' "$log" || true; }
more_answered() { (($(answered) > $1)); }
# Packets flow: a second's worth of answers from now on.
flows() { await "traffic" more_answered "$(($(answered) + rate))"; }

phases=()
# The end of a phase begins the next one.
phase() {
    local end
    end=$(now)
    phases+=("$begun $end $1")
    begun=$end
}
# Sent, answered, lost, and the longest time without an answer in seconds, from one time to another.
# A packet counts where its first line is; an answer that came late is one.
count() {
    awk -v from="$1" -v to="$2" '
        match($0, /icmp_seq=[0-9]+/) {
            seq = substr($0, RSTART + 9, RLENGTH - 9)
            at = substr($1, 2) + 0
            if (!(seq in first)) first[seq] = at
            if (/bytes from/) {
                good[seq] = 1
                if (at > to) next
                if (at >= from && last && at - last > gap) gap = at - last
                last = at
            }
        }
        END {
            for (seq in first) if (first[seq] >= from && first[seq] < to) { sent++; if (seq in good) ok++ }
            printf "%d %d %d %.2f\n", sent, ok, sent - ok, gap
        }' "$log"
}

step "the place: a laptop at home, a router, a printer behind it"
for name in switch laptop printer; do ip netns add "$name"; done
for bridge in br0 br1; do ip -n switch link add "$bridge" up type bridge; done
plug laptop br0 wan0 203.0.113.9/24
plug printer br1 lan0 192.168.10.9/24
ip -n printer route add default via 192.168.10.1
blank_router
echo "laptop 203.0.113.9 -- 203.0.113.5 router 192.168.10.1 -- 192.168.10.9 printer"

step "1. a site, its plan, an operator's signature"
mkdir "$out/site"
for key in op backup; do
    "$vyr" --data-dir "$out/keys" key new "$key" >/dev/null 2>&1
    mv "$out/keys/keys/$key" "$out/$key.key"
    mv "$out/keys/keys/$key.pub" "$out/$key.pub"
done
router init --name office --operator ../op.pub
router server key vyr-office
own=$(head -n 1 "$out/said")
prefix=$(sed -n 's/^prefix = "\(.*\)::\/48"$/\1/p' "$out/site/site.toml")
# What the comments that init wrote ask for.
cat >"$out/site/site.toml" <<END
version = 1
name = "office"
prefix = "$prefix::/48"

[operators]
threshold = 1
from = ["192.168.10.0/24"]

[recovery]
recipients = ["$(cut -d' ' -f1,2 "$out/backup.pub")"]

[servers.router]
management = ["192.168.10.1"]
roles = ["gateway"]

[interfaces.office]
role = "gateway"
lan = ["192.168.10.0/24"]
internet = false
ipv6 = true

[interfaces.office.at.router]
endpoint = "203.0.113.5"
port = 51820
public_key = "$own"
vpn = ["10.20.0.0/24", "$prefix:20::/64"]

[profiles.split]
lan = true
internet = false

[constraints]
office = ["split"]
END
router lock
router check
router plan
sign

step "2. applied, with a way back; confirmed"
apply

step "3. a device: its key is made on it, and stays there"
on laptop sh -c 'wg genkey | tee ../laptop.key | wg pubkey'
old_key=$(head -n 1 "$out/said")
router client add ana-laptop --owner Ana --interface office --profile split --public-key "$old_key"
router lock
sign
on laptop vyr client export ana-laptop --key ../laptop.key --out ../laptop.files
apply
file=$(find "$out/laptop.files" -name '*.conf')
[[ -f $file ]] || die "no configuration was exported"
# What `wg` takes of a file for wg-quick; the rest is what wg-quick does.
strip() { grep -vE '^(Address|DNS|MTU) *=' "$1"; }
strip "$file" >"$out/laptop.wg"
data_plane laptop ana0
on laptop wg setconf ana0 ../laptop.wg
address=$(sed -n 's/^Address *= *//p' "$file" | tr -d ' ' | tr ',' '\n' | grep -F . | head -n 1)
ip -n laptop address add "$address" dev ana0
ip -n laptop link set ana0 up
ip -n laptop route add 192.168.10.0/24 dev ana0
begun=$(now)
echo
echo "laptop# ping -i $(awk "BEGIN { print 1 / $rate }") 192.168.10.9     from here on, to the end"
inside laptop ping -n -D -O -i "$(awk "BEGIN { print 1 / $rate }")" 192.168.10.9 >"$log" 2>&1 &
running+=($!)
flows
phase "a device comes up"

step "4. its key is rotated"
on laptop sh -c 'wg genkey | tee ../laptop.next.key | wg pubkey'
new_key=$(head -n 1 "$out/said")
router client rotate ana-laptop --public-key "$new_key"
router lock
sign
on laptop vyr client export ana-laptop --key ../laptop.next.key --out ../laptop.next.files
apply
printf '\nrouter# vyr client move --watch %s &\n' "${host[*]}"
VYR_DATA_DIR=$out/router.data inside router "$vyr" client move --watch "${host[@]}" >"$out/watch" 2>&1 &
watch=$!
running+=("$watch")
await "who watches" grep -q 'not moved' "$out/watch"
file=$(find "$out/laptop.next.files" -name '*.conf')
strip "$file" >"$out/laptop.wg"
on laptop wg syncconf ana0 ../laptop.wg
# Whether a key has the device's addresses on the router.
has() { inside router wg show vyr-office allowed-ips | grep -F "$1" | grep -q '/32'; }
await "the move" has "$new_key"
has "$old_key" && die "both keys have the addresses"
end "$watch"
sed 's/^/    /' "$out/watch"
flows
router client rotate ana-laptop --finish
router lock
sign
apply
inside router wg show vyr-office peers | grep -qF "$old_key" && die "the old key is still a peer"
flows
phase "its key is rotated"

step "5. a slip locks everybody out, the operator too: a port that no device's file has"
cp -a "$out/site" "$out/site.before"
on router sed -i 's/^port = 51820/port = 51821/' site.toml
router lock
sign
router apply "$plan" "${host[@]}" --confirm-within "${confirm_s}s"
deadline=$(sed -n 's/.*taken back at \([^ ]*\) unless.*/\1/p' "$out/told")
deadline=$(date -d "$deadline" +%s.%N)
# What was on its way may still arrive; then nothing does.
silent() {
    local before
    before=$(answered)
    sleep 0.5
    ! more_answered "$before"
}
await "the lock-out" silent
before=$(answered)
await "traffic" more_answered "$before"
back=$(between "$deadline" "$(now)")
echo "    nobody could confirm it; traffic is back ${back} s after the deadline"
flows
phase "locked out, taken back"
refuses 4 confirm
# As `git checkout .` would.
rm -rf "$out/site"
mv "$out/site.before" "$out/site"

step "6. the router is destroyed, and made again from one file"
# The digest of the host, as drift read it back.
found() { sed -n 's/.*"found" *: *"\([^"]*\)".*/\1/p' "$out/said"; }
router drift "${host[@]}" --json
digest=$(found)
[[ $digest == sha256:* ]] || die "drift told no digest"
echo "    found $digest"
router bundle "${host[@]:0:2}" --key ../op.key --out ../router.bundle --site .
unchanged=$(sha256sum <"$file")
flows
phase "before the fire"
destroyed=$(now)
end "$router_plane"
for id in $(ip netns pids router); do kill -9 "$id" 2>/dev/null || true; done
ip netns del router
rm -rf "$out/router.data"
gone() { ! ip -n switch link show "$1"; }
# A namespace ends some time after the last of its processes.
for plug in "${router_plugs[@]}"; do await "the end of the router" gone "$plug"; done
echo "    its namespace, its data plane and its data directory are gone; a blank host takes its place"
blank_router
before=$(answered)
started=$(now)
router rebuild ../router.bundle --trust operators.allowed_signers --identity ../backup.key --backend userspace
rebuilt=$(between "$started" "$(now)")
await "traffic" more_answered "$before"
back=$(between "$destroyed" "$(now)")
flows
phase "destroyed, rebuilt"
router drift "${host[@]}" --json
echo "    found $(found)"
[[ $(found) == "$digest" ]] ||
    die "the rebuilt router is another one than the old was"
[[ $(sha256sum <"$file") == "$unchanged" ]] || die "the device's file was changed"
echo "    the same digest; rebuilt in $rebuilt s; traffic is back $back s after the fire:"
echo "    a device that nobody touches notices after 15 s, and shakes hands again"

step "7. a hand changes something"
router drift "${host[@]}"
on router nft delete table inet vyr
on router ip route add 10.99.0.0/24 dev vyr-office proto 86
refuses 1 drift "${host[@]}"
grep -q firewall "$out/said" || die "drift does not name the firewall"
grep -qF 10.99.0.0/24 "$out/said" || die "drift does not name the route"
router history
plan=$(cat "$out/site/plans/applied.network")
router apply "$plan" "${host[@]}" --no-confirm
router drift "${host[@]}"
flows
phase "a hand's change, mended"
# The last packets of that phase are answered too.
flows

step "packets from the laptop to the printer, $rate a second"
bad=
printf '%-26s %7s %9s %6s %22s\n' phase sent answered lost "longest silence (s)"
for line in "${phases[@]}"; do
    read -r from to name <<<"$line"
    read -r sent good lost gap <<<"$(count "$from" "$to")"
    printf '%-26s %7d %9d %6d %22s\n' "$name" "$sent" "$good" "$lost" "$gap"
    case $name in
        locked* | destroyed*)
            # Else nobody was locked out, or nothing destroyed, and the rest shows nothing.
            ((${gap%.*} >= 1)) || bad+="; $name: packets passed all the time"
            ;;
        *) ((lost <= may_lose)) || bad+="; $name: lost more than $may_lose" ;;
    esac
done
echo "(ping asks less often while nobody answers)"
[[ -z $bad ]] || die "${bad:2}"
step "done after $SECONDS s: keys, plans, the bundle and the packets are in target/demo-network"
