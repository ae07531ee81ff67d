#!/usr/bin/env bash
# Tasks, start to end, on real events: sign, run, look, verify, and a forgery that is refused; then the
# same through a node: submit, watch, receipt, verify, tamper, stop.
#
# The events are what Cargo says about a build of this workspace; the task counts them. Checked
# with programs that are not ours: sha256sum and ssh-keygen. Everything is below .demo.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=.demo
data=$demo/data
events=$demo/events.ndjson
guest=workloads/bin/transform.wasip1.wasm

step() { printf '\n== %s\n' "$*"; }
show() { printf '  %-16s %s\n' "$1" "$2"; }
die() {
    echo "demo: $*" >&2
    exit 1
}
# The value of a name in JSON on stdin: a string without escapes, or a number.
field() { sed -n "s/.*\"$1\" *: *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

rm -rf "$demo"
mkdir -p "$demo"

step "build (the first time takes minutes: it compiles a WebAssembly engine)"
scripts/build.sh
# The same again has nothing to do, and says so in one JSON line a crate: our events.
scripts/build.sh --quiet --message-format json >"$events"
vyr=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$events" | tail -n 1)
[[ -x $vyr ]] || die "cargo did not say where it put vyr"
show binary "$("$vyr" --version)"
show events "$(wc -l <"$events") lines, $(wc -c <"$events") bytes"

step "sign and run: vyr run $guest -- --count-by reason"
result=$("$vyr" --data-dir "$data" run "$guest" --input "$events" --json -- --count-by reason)
artifact=$(field artifact_digest <<<"$result")
output=$(field output_digest <<<"$result")
for name in state exit_code; do
    show "$name" "$(field "$name" <<<"$result")"
done
show artifact "$artifact"
show signer "$(field signer <<<"$result")"
show input "$(field input_digest <<<"$result")"
show output "$output"
# The object `timings` holds numbers only, so it ends at the first brace.
timings=$(tr -d '\n" ' <<<"$result" | sed -n 's/.*timings:{\([^}]*\)}.*/\1/p')
while IFS=: read -r name value; do
    show "$name" "$value"
done < <(tr ',' '\n' <<<"$timings")

step "check the input and the output with sha256sum"
[[ sha256:$(sha256sum <"$events" | cut -d' ' -f1) == "$(field input_digest <<<"$result")" ]] ||
    die "the input digest is not that of $events"
"$vyr" --data-dir "$data" run "$guest" --input "$events" -- --count-by reason >"$demo/output"
tail -n 1 "$demo/output" | fold -w 96 | sed "s/^/  /"

[[ sha256:$(sha256sum <"$demo/output" | cut -d' ' -f1) == "$output" ]] ||
    die "a second run wrote another output"
echo "  both digests are those that vyr reported, and a second run wrote the same bytes"

step "check the signature with ssh-keygen"
"$vyr" --data-dir "$data" artifact show "$artifact" --signature >"$demo/signature"
"$vyr" --data-dir "$data" artifact show "$artifact" --signature --signed-bytes >"$demo/signed"
"$vyr" --data-dir "$data" key ls >"$demo/allowed_signers"
identity=$(head -n 1 "$demo/allowed_signers" | cut -d' ' -f1)
ssh-keygen -Y verify -f "$demo/allowed_signers" -I "$identity" -n vyr-artifact \
    -s "$demo/signature" <"$demo/signed" || die "ssh-keygen does not accept the signature"

step "change one byte of the artifact in a copy of the store, and run it by its digest"
cp -a "$data" "$demo/forged"
layer=$(sha256sum <"$guest" | cut -d' ' -f1)
blob=$(find "$demo/forged" -type f -name "$layer" | head -n 1)
[[ -n $blob ]] || die "the guest is not in the store under its digest"
chmod u+w "$blob"
offset=$(($(wc -c <"$blob") / 2))
byte=$(od -An -tu1 -j "$offset" -N 1 "$blob")
printf '%b' "\\x$(printf %02x $((byte ^ 1)))" |
    dd of="$blob" bs=1 seek="$offset" conv=notrunc status=none
code=0
"$vyr" --data-dir "$demo/forged" run "$artifact" --input "$events" || code=$?
[[ $code == 3 ]] || die "the forgery ended with $code, not with 3"
echo "  refused, exit code 3"

step "start a node: vyr up"
vyr_node() { "$vyr" --data-dir "$data" "$@"; }
# Not through the function: the signals below are for vyr, not for a shell around it.
"$vyr" --data-dir "$data" up >"$demo/node.log" 2>&1 &
node=$!
stop_node() { kill "$node" 2>/dev/null || true; }
trap stop_node EXIT
for _ in $(seq 100); do
    vyr_node status >"$demo/status" 2>&1 && break
    kill -0 "$node" 2>/dev/null || die "the node ended: $(tail -n 3 "$demo/node.log")"
    sleep 0.1
done
vyr_node status >"$demo/status" || die "the node does not get ready"
grep -E '^(journal|process)' "$demo/status" | sed 's/^/  /'

step "submit the same artifact to it, and watch: vyr task submit"
task=$(vyr_node task submit "$artifact" --input "$events" --key demo --json | field task_id)
again=$(vyr_node task submit "$artifact" --input "$events" --key demo --json | field task_id)
[[ $task == "$again" ]] || die "the same key gave another task"
vyr_node task wait "$task" >/dev/null || die "the task did not complete"
shown=$(vyr_node task show "$task" --json)
show task "$task"
show state "$(field state <<<"$shown")"
[[ $(field output_digest <<<"$shown") == "$output" ]] || die "the node wrote another output"
vyr_node task output "$task" | cmp -s - "$demo/output" || die "the output's bytes are others"
echo "  the output is byte for byte that of the run above"
vyr_node traces --task "$task" | head -n 3 | cut -c1-96 | sed 's/^/  /'

step "its receipt: verify it offline, then change one digit of its output's digest"
vyr_node task receipt "$task" >"$demo/receipt.json"
vyr_node node key >"$demo/node.pub"
"$vyr" verify "$demo/receipt.json" --trust "$demo/node.pub" --allow-dev | sed 's/^/  /'
digit=${output:0-1}
other=$([[ $digit == 0 ]] && echo 1 || echo 0)
sed "s/${output#sha256:}/${output:7:63}$other/g" "$demo/receipt.json" >"$demo/forged.json"
cmp -s "$demo/receipt.json" "$demo/forged.json" && die "nothing was changed"
code=0
"$vyr" verify "$demo/forged.json" --trust "$demo/node.pub" --allow-dev || code=$?
[[ $code == 3 ]] || die "the forged receipt ended with $code, not with 3"
echo "  refused, exit code 3"

step "stop the node, and verify the whole journal"
kill "$node"
wait "$node" || die "the node did not stop cleanly"
trap - EXIT
vyr_node verify --journal | sed 's/^/  /'

step "done: everything above is in $demo"
