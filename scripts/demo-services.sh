#!/usr/bin/env bash
# Services, start to end, under load: a real image from a registry, two services with TLS of their own on
# one IPv6 port, a new version, the old one again, logs, a program inside, another key, a refusal.
#
# The image is Debian's nginx (examples/nginx), the registry Debian's docker-registry, an instance a microVM
# of its own; where there is no KVM its processor is emulated, and what is slow is slow for that. All of it
# runs in a mount, a process and a network namespace of its own: addresses, sockets and processes are nobody
# else's, and the kernel ends them with the script, however that ends. Files are below
# target/demo-services. Needs root.
#
#   scripts/demo-services.sh                 builds vyr and what microVMs boot, then does all that
#   VYR=PROGRAM scripts/demo-services.sh     the same with this vyr, such as target/debug/vyr; VYR_GUEST=DIRECTORY
#                                            is what its microVMs boot, as `cargo xtask guest` made it
#   scripts/demo-services.sh --inside VYR    the second half, in the namespaces, with this vyr
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/target/demo-services
# How long anything here may take before it hangs: an emulated processor on a busy machine.
hang_s=240
registry=127.0.0.1:5000
port=8443

step() { printf '\n== %s\n' "$*"; }
die() {
    echo "demo-services: $*" >&2
    exit 1
}

if [[ ${1-} != --inside ]]; then
    (($(id -u) == 0)) || die "needs root: it makes namespaces and links (nothing outside of them is touched)"
    for program in docker-registry umoci skopeo tar2sqfs mke2fs qemu-system-x86_64 nft ip curl openssl zstd \
        apt-get dpkg-deb unshare; do
        command -v "$program" >/dev/null || die "$program is not installed: scripts/setup.sh demo-services"
    done
    [[ -c /dev/net/tun ]] || die "the kernel has no /dev/net/tun, which the links of instances need"
    unshare --mount --pid --fork --mount-proc --net nft add table inet vyr_services ||
        die "namespaces or nftables do not work here"
    rm -rf "$out"
    mkdir -p "$out"

    if [[ -n ${VYR-} ]]; then
        vyr=$(realpath "$VYR")
    else
        step "build (the first time takes minutes: it compiles a WebAssembly engine)"
        scripts/build.sh
        # The same again has nothing to do, and says where it put the program.
        vyr=$(scripts/build.sh --quiet --message-format json |
            sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    fi
    [[ -x $vyr ]] || die "there is no program ${vyr:-vyr}"
    step "what microVMs boot: Debian's kernel, pinned by digest, and our first process"
    if [[ -n ${VYR_GUEST-} ]]; then
        cp -r "$VYR_GUEST" "$out/platform"
    else
        cargo xtask guest --out "$out/platform" >"$out/platform.log" 2>&1 || die "$(tail -n 3 "$out/platform.log")"
    fi
    grep -E '"(version|release)": "' "$out/platform/guest.json"
    step "nginx as Debian has it, and all that it depends on"
    scripts/debian-root.sh "$out/root" "${CARGO_TARGET_DIR:-target}/debian/nginx" nginx-light busybox-static
    du -sh "$out/root" | cut -f1
    exec unshare --mount --pid --fork --kill-child --mount-proc --net scripts/demo-services.sh --inside "$vyr"
fi

[[ $$ == 1 ]] || die "--inside is for the first process of a namespace: see the last line of the first half"
vyr=$2
umask 077
# Of the namespace's own links, for whoever looks there.
mount -t sysfs sysfs /sys
ip link set lo up
export VYR_DATA_DIR=$out/data VYR_GUEST=$out/platform USER=ana
unset SUDO_USER SSH_AUTH_SOCK

running=()
clean_up() {
    for id in "${running[@]}"; do
        kill "$id" 2>/dev/null || true
        wait "$id" 2>/dev/null || true
    done
}
trap clean_up EXIT
trap 'exit 130' INT TERM

now() { date +%s.%N; }
# Looks again and again until a command succeeds.
await() {
    local what=$1 begun=$SECONDS
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS - begun < hang_s)) || die "$what takes more than $hang_s s"
        sleep 0.05
    done
}

# Runs a command in the site, and shows the words, what it printed, and its exit code if that is not 0.
# What it printed on stdout is left in the file `said`, its exit code in `code`.
show() {
    local program=$1 word
    shift
    code=0
    printf '\n# %s' "$program"
    for word in "$@"; do
        if [[ $word == *[[:space:]]* ]]; then printf " '%s'" "$word"; else printf ' %s' "$word"; fi
    done
    echo
    [[ $program == vyr ]] && program=$vyr
    (cd "$out/site" && "$program" "$@") >"$out/said" 2>"$out/told" </dev/null || code=$?
    cat "$out/said" "$out/told" | awk -v width=108 '
        NR <= 24 { print "    " (length($0) > width ? substr($0, 1, width) ".." : $0) }
        END { if (NR > 24) print "    .. and " NR - 24 " lines more" }'
    ((code == 0)) || echo "    exit code $code"
}
on() {
    show "$@"
    ((code == 0)) || die "this should have succeeded; what the node said is in target/demo-services/node.log"
}
# What must fail with an exit code.
refuses() {
    local expected=$1
    shift
    show "$@"
    ((code == expected)) || die "this should have ended with $expected, not with $code"
}
deploy() { on vyr deploy --key ../op.key --plain-http; }
# The value of a name in JSON on stdin: a string without escapes, or a number.
field() { sed -n "s/.*\"$1\" *: *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

# An image with Debian's nginx, in the registry as nginx:VERSION. The version is a variable of the image.
image() {
    local layout=$out/layout image=$out/layout:$1 word
    [[ -e $layout ]] || umoci init --layout "$layout"
    umoci new --image "$image"
    # umoci insert would be shorter, and does not write the end of its archive.
    umoci unpack --image "$image" "$out/bundle"
    cp -a "$out/root/." "$out/bundle/rootfs"
    umoci repack --image "$image" "$out/bundle"
    rm -r "$out/bundle"
    local config=(--config.entrypoint /usr/sbin/nginx --config.stopsignal SIGQUIT --config.env "VERSION=$1")
    for word in -g "daemon off;"; do config+=(--config.cmd "$word"); done
    umoci config --image "$image" "${config[@]}"
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false "oci:$image" "docker://$registry/nginx:$1"
}
# A key and a certificate of the demo's authority: `certificate NAME FILE`.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj "/CN=$1" -addext "subjectAltName=DNS:$1" -addext basicConstraints=critical,CA:FALSE \
        -CA "$out/ca.pem" -CAkey "$out/ca.key" -keyout "$out/$2.key" -out "$out/$2.pem" 2>/dev/null
}
serial() { openssl x509 -noout -serial; }
# The certificate that a client is shown who asks for a name.
shown() {
    openssl s_client -connect "[::1]:$port" -servername "$1" -CAfile "$out/ca.pem" -verify_return_error \
        </dev/null 2>/dev/null
}
# An answer to a client that believes the demo's authority and nobody else: `client NAME [ARGUMENT..]`.
client() {
    local name=$1
    shift
    curl --silent --show-error --fail --max-time 30 --cacert "$out/ca.pem" --resolve "$name:$port:[::1]" "$@" \
        "https://$name:$port/"
}
# What has to be answered, and with what in it.
answers() {
    local answer
    printf '\n$ curl --cacert ca.pem --resolve %s:%s:[::1] https://%s:%s/\n' "$1" "$port" "$1" "$port"
    answer=$(client "$1") || die "no answer"
    echo "    $answer"
    [[ $answer == *"$2"* ]] || die "the answer should have been: $2"
}
# One client after the other, each on a connection of its own: a line an answer, or what went wrong.
load() {
    local begun said
    while :; do
        begun=$(now)
        if said=$(client "$1" --output "$out/load.$2.answer" 2>&1); then
            echo "$begun $1 answered"
        else
            echo "$begun $1 failed ${said//$'\n'/ }"
        fi
    done >>"$out/load.$2" 2>&1
}
answered() { cat "$out"/load.[0-9] | grep -c ' answered$' || true; }
more_answered() { (($(answered) > $1)); }
# Some clients of each service from now on.
flows() { await "traffic" more_answered "$(($(answered) + 10))"; }
phases=()
# The end of a phase begins the next one.
phase() {
    local end
    end=$(now)
    phases+=("$begun $end $1")
    begun=$end
}
# Answered, failed, and the longest time without an answer in seconds, of clients that came within a time.
count() {
    cat "$out"/load.[0-9] | sort -n | awk -v from="$1" -v to="$2" '
        $1 < from || $1 >= to { next }
        $3 == "answered" { ok++; if (last && $1 - last > gap) gap = $1 - last; last = $1; next }
        { failed++ }
        END { printf "%d %d %.2f\n", ok, failed, gap }'
}

step "1. an image of nginx, twice, in a registry"
cat >"$out/registry.yml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $out/registry}}
http: {addr: "$registry"}
END
docker-registry serve "$out/registry.yml" >"$out/registry.log" 2>&1 &
running+=($!)
await "the registry" curl --silent --fail "http://$registry/v2/"
install -m 755 -d "$out/root/etc/nginx"
install -m 644 examples/nginx/nginx.conf "$out/root/etc/nginx/nginx.conf"
install -m 755 examples/nginx/keys.sh "$out/root/etc/nginx/keys.sh"
# What keys.sh calls, and the user that nginx becomes: no script of a package ran.
for name in sh sed base64 mkdir uname; do ln -sf busybox "$out/root/usr/bin/$name"; done
printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n' >"$out/root/etc/passwd"
printf 'root:x:0:\nwww-data:x:33:\n' >"$out/root/etc/group"
chmod 644 "$out/root/etc/passwd" "$out/root/etc/group"
for version in 1 2; do
    image "$version" >"$out/image.log" 2>&1 || die "no image: $(tail -n 3 "$out/image.log")"
done
curl --silent "http://$registry/v2/nginx/tags/list"

step "2. a site on this host, a node, two services; each one's key is its own secret"
mkdir "$out/site"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=demo \
    -keyout "$out/ca.key" -out "$out/ca.pem" 2>/dev/null
"$vyr" --data-dir "$out/keys" key new op >/dev/null 2>&1
mv "$out/keys/keys/op" "$out/op.key"
mv "$out/keys/keys/op.pub" "$out/op.pub"
on vyr init --name house --operator ../op.pub
echo "[images]
plain_http = [\"$registry\"]" >"$out/node.toml"
"$vyr" up --config "$out/node.toml" >"$out/node.log" 2>&1 </dev/null &
running+=($!)
await "the node" "$vyr" status
on vyr node key --secrets
recipient=$(grep -o 'age1[a-z0-9]*' "$out/said" | head -n 1)
cat >>"$out/site/site.toml" <<END

[nodes.house]
memory = "2Gi"
cpu = 2
secrets = "$recipient"
END
# Who is to change secrets later.
mkdir -p "$out/site/secrets" "$out/site/services"
cat "$out/op.pub" >"$out/site/secrets/recipients"
# A service with this version of the image.
service() {
    cat >"$out/site/services/$1.toml" <<END
version = 1

[image]
ref = "$registry/nginx:$2"

[env]
prestart = ["/etc/nginx/keys.sh"]

[processes.web]
resources = { memory = "128Mi", disk = "1Gi" }
ports = [{ name = "tls", internal = 8443 }]
health = { type = "http", port = 8080, path = "/healthz", interval_seconds = 1 }
grace_seconds = 5

[[routes]]
hostname = "$1.example.org"
port = $port
process = "web"
to = "tls"

[secrets]
required = ["TLS_CERT", "TLS_KEY"]
END
}
for name in shop blog; do
    service "$name" 1
    certificate "$name.example.org" "$name"
    on vyr secret set "TLS_KEY=../$name.key" "TLS_CERT=../$name.pem" --service "$name"
done
on cat services/shop.toml
deploy
on vyr ps

step "3. clients: one port, two certificates, and nobody else's name"
for name in shop blog; do
    answers "$name.example.org" "$name-web-0 version 1"
    is=$(shown "$name.example.org" | serial) || die "$name shows no certificate"
    [[ $is == "$(serial <"$out/$name.pem")" ]] || die "$name shows a certificate that is not its own"
    echo "    $is, as in $name.pem"
done
printf '\n$ curl .. https://nobody.example.org:%s/\n' "$port"
if client nobody.example.org --insecure 2>"$out/told"; then die "a name that nobody has was answered"; fi
sed 's/^/    /' "$out/told"
# Refused in its handshake, and not for want of a listener.
grep -q '(35)' "$out/told" || die "it should have been refused in its handshake"
on vyr exec shop -- /bin/uname -r
[[ $(cat "$out/said") == "$(field release <"$out/platform/guest.json")" ]] ||
    die "it does not run on a kernel of its own"
echo "    this host has $(uname -r)"

clients=0
for name in shop.example.org blog.example.org shop.example.org; do
    clients=$((clients + 1))
    load "$name" "$clients" &
    running+=($!)
done
begun=$(now)
echo
echo "from here on, to the end: two clients of shop, one of blog, a connection for each answer"
flows
phase "nothing happens"
first=$(cd "$out/site" && "$vyr" release ls shop --json | head -n 1 | field release)

step "4. shop rolls forward"
on sed -i 's/nginx:1/nginx:2/' services/shop.toml
deploy
answers shop.example.org "version 2"
answers blog.example.org "version 1"
flows
phase "shop rolls forward"

step "5. and back"
on vyr release rollback shop --key ../op.key --plain-http
answers shop.example.org "version 1"
on vyr release ls shop
again=$(cd "$out/site" && "$vyr" release ls shop --json | grep '"current":true' | field release)
[[ $again == "$first" ]] || die "this is another release than the first one: $again"
echo "    the same release as at first, by its digest"
flows
phase "shop rolls back"

step "6. another key and certificate for shop"
before=$(shown shop.example.org | serial)
certificate shop.example.org shop.next
on vyr secret rotate TLS_KEY=../shop.next.key TLS_CERT=../shop.next.pem --service shop --identity ../op.key
deploy
after=$(shown shop.example.org | serial)
[[ $after != "$before" && $after == "$(serial <"$out/shop.next.pem")" ]] || die "shop shows $after"
echo "    $before before, $after now"
flows
phase "shop has another key"

step "7. what an instance wrote, and a program beside its own"
on vyr logs shop
grep -q '"GET / HTTP/1.1" 200' "$out/said" || die "the log has no answer"
refuses 7 vyr exec shop -- /bin/sh -c 'echo inside; exit 7'
# No byte of a key is anywhere in what the node keeps.
pem=$(sed -n 2p "$out/shop.next.key")
# As the secrets' file has it: base64 of the PEM.
coded=$(base64 -w 0 "$out/shop.next.key" | cut -c 60-120)
! grep -rqsF -e "$pem" -e "$coded" "$out/data" "$out/site" || die "the key of shop is on the node's disk"
echo "    the key of shop is in no file of the node or the site"
flows
phase "logs, a program"

step "8. what is not deployed: a Compose file"
printf 'services:\n  web:\n    image: nginx\n    ports: ["80:80"]\n' >"$out/docker-compose.yml"
refuses 2 vyr deploy ../docker-compose.yml
grep -q 'hint: ' "$out/told" || die "nobody is told what to do instead"
flows
phase "a refusal"

step "9. the receipt of the last deploy, checked without the node"
on vyr node key
cp "$out/said" "$out/node.keys"
on vyr release receipt --out ../receipt.json
on vyr verify ../receipt.json --trust ../node.keys
flows
phase "a receipt"

step "10. nothing of it is wanted any more"
for id in "${running[@]: -3}"; do
    kill "$id"
    wait "$id" 2>/dev/null || true
done
running=("${running[@]:0:2}")
on rm -r services secrets/shop.age secrets/blog.age
deploy
is_over() { ! "$vyr" ps --json | grep -qE '"state":"(booting|ready|draining)"'; }
await "the end of all instances" is_over
on vyr ps

step "clients of both services, each with a connection of its own"
bad=
printf '%-24s %9s %7s %22s\n' phase answered failed "longest silence (s)"
for line in "${phases[@]}"; do
    read -r from to name <<<"$line"
    read -r good failed gap <<<"$(count "$from" "$to")"
    printf '%-24s %9d %7d %22s\n' "$name" "$good" "$failed" "$gap"
    ((failed == 0)) || bad+="; $name: $failed clients failed"
    # Else nothing was shown.
    ((good > 0)) || bad+="; $name: nobody was answered"
done
grep -h ' failed ' "$out"/load.[0-9] | sed 's/^/    /' || true
[[ -z $bad ]] || die "${bad:2}"
step "done after $SECONDS s: site, registry, logs and the receipt are in target/demo-services"
