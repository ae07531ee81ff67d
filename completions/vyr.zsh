#compdef vyr

autoload -U is-at-least

_vyr() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_vyr_commands" \
"*::: :->vyr" \
&& ret=0
    case $state in
    (vyr)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-command-$line[1]:"
        case $line[1] in
            (run)
_arguments "${_arguments_options[@]}" : \
'--input=[The guest'\''s standard input\: a file, or - for this command'\''s own]:F|-:_files' \
'--output=[Write the output to a file instead of stdout]:FILE:_files' \
'--key=[Sign with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'--memory=[Linear memory, such as 64Mi \[default\: 64Mi\]]:SIZE:_default' \
'--deadline=[Wall time, such as 10s \[default\: 60s\]]:TIME:_default' \
'--cpu=[Processor time, such as 5s \[default\: 60s\]]:TIME:_default' \
'--output-max=[Bytes of output, such as 1Gi \[default\: 1Gi\]]:SIZE:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--no-store[Do not keep the output in the store]' \
'--deterministic[Fixed clock and random seed\: the same input gives the same output]' \
'--exit-code[Exit with the guest'\''s own exit code]' \
'-q[No summary on stderr]' \
'--quiet[No summary on stderr]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':program -- A Wasm file, or sha256\:.. of an artifact:_default' \
'*::args -- The guest'\''s arguments; they become part of the artifact that is signed:_default' \
&& ret=0
;;
(up)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration \[default\: /etc/vyr/vyr.toml for root, else DATA/vyr.toml\]]:FILE:_files' \
'--checkpoint-out=[Give each new signed checkpoint to a file too, or to a command\: \`| PROGRAM WORDS..\`]:FILE|CMD:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(key)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__key_commands" \
"*::: :->key" \
&& ret=0

    case $state in
    (key)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-key-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':name -- Its file name:_default' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(trust)
_arguments "${_arguments_options[@]}" : \
'--principal=[Whose it is\: a name or an address without spaces]:NAME:_default' \
'*--namespace=[What it may sign; may be repeated]:NS:(vyr-artifact vyr-plan vyr-checkpoint vyr-bundle)' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':key -- A public key file (or the name of a key of this data directory):_files' \
&& ret=0
;;
        esac
    ;;
esac
;;
(artifact)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__artifact_commands" \
"*::: :->artifact" \
&& ret=0

    case $state in
    (artifact)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-artifact-command-$line[1]:"
        case $line[1] in
            (build)
_arguments "${_arguments_options[@]}" : \
'--name=[The artifact'\''s name]:NAME:_default' \
'*--arg=[An argument of the guest; may be repeated]:ARG:_default' \
'*--env=[A variable of the guest'\''s environment; may be repeated]:KEY=VALUE:_default' \
'*--state=[A state the guest needs; may be repeated]:NAME:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The Wasm file:_files' \
&& ret=0
;;
(sign)
_arguments "${_arguments_options[@]}" : \
'--key=[A private key, or a public key whose private half an ssh-agent holds]:FILE:_files' \
'(--key)--detached=[A signature made elsewhere with ssh-keygen -Y sign -n vyr-artifact]:FILE.sig:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':digest -- The artifact:_default' \
&& ret=0
;;
(put)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':digest -- The draft:_default' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(show)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--signature[Print its SSH signature instead]' \
'--signed-bytes[Print the exact bytes a signature covers instead]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':digest -- The artifact:_default' \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
'-o+[The tar file to write, or - for stdout]:FILE|-:_files' \
'--output=[The tar file to write, or - for stdout]:FILE|-:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::digests -- The artifacts:_default' \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':archive -- The tar file to read, or - for stdin:_files' \
&& ret=0
;;
(gc)
_arguments "${_arguments_options[@]}" : \
'--older-than=[Keep what is younger, such as outputs just made]:TIME:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--dry-run[Only say what would go]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(image)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__image_commands" \
"*::: :->image" \
&& ret=0

    case $state in
    (image)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-image-command-$line[1]:"
        case $line[1] in
            (pull)
_arguments "${_arguments_options[@]}" : \
'(--auth-file --plain-http)--layout=[Read from the directory of an OCI layout instead]:DIR:_files' \
'--auth-file=[Credentials, in the form that skopeo login writes]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--plain-http[Ask without TLS; credentials are then sent to this machine only]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::image -- REGISTRY/REPOSITORY@sha256\:.., or with --layout a digest if the layout has several images:_default' \
&& ret=0
;;
(resolve)
_arguments "${_arguments_options[@]}" : \
'--auth-file=[Credentials, in the form that skopeo login writes]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--plain-http[Ask without TLS; credentials are then sent to this machine only]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- The image'\''s name with its tag:_default' \
&& ret=0
;;
(show)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':digest -- The image, as it was pulled:_default' \
&& ret=0
;;
(build)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--again[Build it although it is there]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':digest -- The image, as it was pulled:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(task)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__task_commands" \
"*::: :->task" \
&& ret=0

    case $state in
    (task)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-task-command-$line[1]:"
        case $line[1] in
            (submit)
_arguments "${_arguments_options[@]}" : \
'--input=[The guest'\''s standard input\: a file, or - for this command'\''s own]:F|-:_files' \
'(--input)--each-line=[Submit one task for each line of a file, or of stdin for -]:F|-:_files' \
'--key=[An idempotency key\: the same key again gives the same task]:K:_default' \
'--key-file=[Sign with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'--memory=[Linear memory, such as 64Mi \[default\: the node'\''s\]]:SIZE:_default' \
'--deadline=[Wall time, such as 10s \[default\: the node'\''s\]]:TIME:_default' \
'--cpu=[Processor time, such as 5s \[default\: the node'\''s\]]:TIME:_default' \
'--output-max=[Bytes of output, such as 1Gi \[default\: the node'\''s\]]:SIZE:_default' \
'--priority=[Higher runs first\: -100 to 100]:N:_default' \
'*--bind=[Bind a state to the task; may be repeated]:STATE_ID:ro|rw:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--deterministic[Fixed clock and random seed\: the same input gives the same output]' \
'--wait[Wait for its end]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':program -- A Wasm file, or sha256\:.. of an artifact:_default' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--limit=[At most so many]:N:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--alive[Only those that have not ended]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(show)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':task -- The task:_default' \
&& ret=0
;;
(cancel)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':task -- The task:_default' \
&& ret=0
;;
(output)
_arguments "${_arguments_options[@]}" : \
'-o+[Write it to a file instead of stdout]:FILE:_files' \
'--output=[Write it to a file instead of stdout]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':task -- The task:_default' \
&& ret=0
;;
(logs)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':task -- The task:_default' \
&& ret=0
;;
(wait)
_arguments "${_arguments_options[@]}" : \
'--timeout=[Wait no longer, such as 30s]:TIME:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::tasks -- The tasks:_default' \
&& ret=0
;;
(receipt)
_arguments "${_arguments_options[@]}" : \
'-o+[Write it to a file instead of stdout]:FILE:_files' \
'--output=[Write it to a file instead of stdout]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':task -- The task:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(state)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__state_commands" \
"*::: :->state" \
&& ret=0

    case $state in
    (state)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-state-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
'--size=[What it may hold, such as 64Mi \[default\: the node'\''s\]]:SIZE:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':name -- What guests see\: /state/NAME:_default' \
&& ret=0
;;
(bind)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':task -- The task:_default' \
':state -- The state:_default' \
':access -- What the task may do with it:((ro\:"Read only"
rw\:"Read and write"))' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(traces)
_arguments "${_arguments_options[@]}" : \
'*--task=[Only this task; may be repeated]:ID:_default' \
'--artifact=[Only tasks of this artifact]:DIGEST:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--terminal[Only ends]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(metrics)
_arguments "${_arguments_options[@]}" : \
'--prefix=[Only metrics whose name begins with this, such as vyr.tasks]:P:_default' \
'--interval=[Between two looks\: 100ms to 60s]:TIME:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(events)
_arguments "${_arguments_options[@]}" : \
'--from=[Begin with this event]:N:_default' \
'--limit=[At most so many]:N:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--follow[Go on with what happens]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__events_commands" \
"*::: :->events" \
&& ret=0

    case $state in
    (events)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-events-command-$line[1]:"
        case $line[1] in
            (rebuild)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(verify)
_arguments "${_arguments_options[@]}" : \
'--trust=[The public keys of nodes\: lines of allowed_signers, or .pub files]:KEYS:_files' \
'(--journal)--threshold=[How many of several operators must have approved a plan]:K:_default' \
'--since=[A checkpoint that was kept elsewhere, as \`vyr checkpoint\` wrote it]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--journal[Check the data directory'\''s journal instead]' \
'(--journal)--allow-dev[Accept an artifact that was signed with a development key]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::file -- A receipt, as `vyr task receipt` wrote it, or a plan of plans/ beside its approvals:_files' \
&& ret=0
;;
(checkpoint)
_arguments "${_arguments_options[@]}" : \
'-o+[Write it to a file instead of stdout]:FILE:_files' \
'--output=[Write it to a file instead of stdout]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(node)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__node_commands" \
"*::: :->node" \
&& ret=0

    case $state in
    (node)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-node-command-$line[1]:"
        case $line[1] in
            (key)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--secrets[The age recipient to which secrets of its services are encrypted; made on first use]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(init)
_arguments "${_arguments_options[@]}" : \
'--name=[The site'\''s name \[default\: the directory'\''s\]]:NAME:_default' \
'--operator=[Your public key\: the first operator]:FILE.pub:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--schemas[Only write the schemas of this version again]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::directory -- Where \[default\: here\]:_files' \
&& ret=0
;;
(lock)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--update=[Ask again what the tags mean now\: that of a service, or all]::SERVICE:_default' \
'--release=[Take an IPv4 address back that its service does not ask for any more]:ADDRESS:_default' \
'--auth-file=[Credentials, in the form that skopeo login writes]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--plain-http[Ask without TLS; credentials are then sent to this machine only]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(check)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--junit=[Write the results as JUnit XML too\: a file, or - for stdout]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--spof[List what remains a single point of failure, and why]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(plan)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--out=[Write the plan, canonical JSON\: a file, or - for stdout]:FILE:_files' \
'--render=[Write what each machine gets into this new directory; keys are placeholders there]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::kind:((network\:"WireGuard, addresses, routes, firewall"
services\:"Images, instances, ingress"))' \
":: :_vyr__subcmd__plan_commands" \
"*::: :->plan" \
&& ret=0

    case $state in
    (plan)
        words=($line[2] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-plan-command-$line[2]:"
        case $line[2] in
            (sign)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'(--request --approval)--key=[Sign with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'--expires=[How long the approval counts, such as 24h]:TIME:_default' \
'--approval=[The text that was signed elsewhere]:TEXT:_files' \
'--signature=[Its signature]:SIG:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--approval)--request[Print the text to sign elsewhere]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::kind:((network\:"WireGuard, addresses, routes, firewall"
services\:"Images, instances, ingress"))' \
&& ret=0
;;
        esac
    ;;
esac
;;
(diff)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::words -- network (the default) or services; then two of\: sha256\:.. of plans/, a file, `applied`, `intent`, `empty` \[default\: applied intent\]:_default' \
&& ret=0
;;
(history)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::kind:((network\:"WireGuard, addresses, routes, firewall"
services\:"Images, instances, ingress"))' \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':id -- An address, prefix, rule, key, name, slot or invariant; or where packets come from:_default' \
'::to -- Where packets go\: client\:ID, lan\:INTERFACE, internet, an address, a prefix..:_default' \
'::service -- With which protocol and port\: any, icmp, tcp/443..:_default' \
&& ret=0
;;
(graph)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--svg=[Draw it\: a file, or - for stdout]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(apply)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'*--node=[Another host\: a machine of the plan (root at its management address) or an address; may be given several times]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--canary=[Which of several hosts is the first \[default\: the first that is named\]]:NODE:_default' \
'--parallel=[How many hosts after the first are changed at a time]:N:_default' \
'--confirm-within=[Take it back after this time unless it is confirmed]:TIME:_default' \
'*--probe=[An address that must answer a new TCP connection from the host afterwards; may be given several times]:HOST:PORT:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--node)--all[Every machine of the plan that has a management address]' \
'(--confirm-within)--no-confirm[Confirm it at once, if all steps were taken and all probes answered]' \
'--dry-run[Print the steps and take none]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':plan -- The plan, from the site'\''s plans/:_default' \
&& ret=0
;;
(confirm)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'*--node=[Another host\: a machine of the plan (root at its management address) or an address; may be given several times]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--node)--all[Every machine of the plan that has a management address]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::plan -- Only if it is this plan that waits:_default' \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'--plan=[Only if it is this plan that waits]:sha256:..:_default' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'*--node=[Another host\: a machine of the plan (root at its management address) or an address; may be given several times]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--node)--all[Every machine of the plan that has a management address]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::kind:((network\:"WireGuard, addresses, routes, firewall"))' \
&& ret=0
;;
(drift)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'*--node=[Another host\: a machine of the plan (root at its management address) or an address; may be given several times]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--node)--all[Every machine of the plan that has a management address]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::kind:((network\:"WireGuard, addresses, routes, firewall"))' \
&& ret=0
;;
(network)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__network_commands" \
"*::: :->network" \
&& ret=0

    case $state in
    (network)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-network-command-$line[1]:"
        case $line[1] in
            (start)
_arguments "${_arguments_options[@]}" : \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(receipt)
_arguments "${_arguments_options[@]}" : \
'-o+[Write it to a file instead of stdout]:FILE:_files' \
'--output=[Write it to a file instead of stdout]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::change -- The change \[default\: the last that has ended\]:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(bundle)
_arguments "${_arguments_options[@]}" : \
'--machine=[The machine of the plan, if it must be this one \[default\: which this host is\]]:NAME:_default' \
'--key=[Sign with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'-o+[The file to write (0600); nothing may be there]:FILE:_files' \
'--out=[The file to write (0600); nothing may be there]:FILE:_files' \
'--parents=[Plans before the confirmed one to take along, as far as this host kept them]:N:_default' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--digests-only[Name the artifacts, and leave their bytes out]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__bundle_commands" \
"*::: :->bundle" \
&& ret=0

    case $state in
    (bundle)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-bundle-command-$line[1]:"
        case $line[1] in
            (show)
_arguments "${_arguments_options[@]}" : \
'--trust=[Who may sign it\: an allowed_signers file]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The bundle:_files' \
&& ret=0
;;
        esac
    ;;
esac
;;
(rebuild)
_arguments "${_arguments_options[@]}" : \
'--trust=[Who may sign bundles and plans\: an allowed_signers file]:FILE:_files' \
'--identity=[The key that opens it\: an age identity file, or an SSH private key]:FILE:_files' \
'--at-least=[The lowest epoch that is taken]:EPOCH:_default' \
'--threshold=[How many of those in --trust must have approved the plan \[default\: as many as it says\]]:K:_default' \
'--node=[A host elsewhere, over OpenSSH\: it needs vyr, an SSH server, and no console]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--anyway[Go on even if the old node answers]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':bundle -- The bundle, as `vyr bundle` wrote it:_files' \
&& ret=0
;;
(server)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__server_commands" \
"*::: :->server" \
&& ret=0

    case $state in
    (server)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-server-command-$line[1]:"
        case $line[1] in
            (rotate)
_arguments "${_arguments_options[@]}" : \
'--interface=[What clients connect to \[default\: the only one that the server carries\]]:NAME:_default' \
'--public-key=[With --stage\: the public key, as vyr server key printed it on the server \[default\: asks the server of --node for it\]]:KEY:_default' \
'--port=[With --stage\: the UDP port \[default\: the next one that the server does not listen at\]]:PORT:_default' \
'--node=[Ask the server elsewhere\: a machine of the plan, or an address \[default\: this host\]]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--stage[Give it a second key, beside the one in use]' \
'--retire[The second key is the only one from now on, if all devices have moved]' \
'--force[With --retire\: also if some have not; they are named, and cut off until they have a new file]' \
'--revoke[The keys that were retired are refused for good]' \
'--abort[Take the second key out again]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':server -- The server:_default' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--node=[Ask the server elsewhere\: a machine of the plan, or an address \[default\: this host\]]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--live[Ask the server who has moved to the key that takes over, and when each last shook hands]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::server -- Only this server:_default' \
&& ret=0
;;
(key)
_arguments "${_arguments_options[@]}" : \
'--node=[Another host\: a machine of the plan, or an address]:NAME|ssh://[USER@]HOST[:PORT]:_default' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--remote-vyr=[The program on the other host]:PATH:_default' \
'--remote-data-dir=[The data directory on the other host \[default\: what it takes itself\]]:DIR:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--next[The key that takes over, beside the one in use\: with the plan that names it]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':link -- The link, as the plan names it:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(ingress)
_arguments "${_arguments_options[@]}" : \
'--config=[Its configuration]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__ingress_commands" \
"*::: :->ingress" \
&& ret=0

    case $state in
    (ingress)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-ingress-command-$line[1]:"
        case $line[1] in
            (check)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The configuration:_files' \
&& ret=0
;;
(apply)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The configuration; it names the control socket:_files' \
&& ret=0
;;
(cut)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The configuration, which names the control socket:_files' \
'*::hosts -- Addresses of hosts, without ports:_default' \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- Its configuration, which names the control socket:_files' \
&& ret=0
;;
        esac
    ;;
esac
;;
(client)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__client_commands" \
"*::: :->client" \
&& ret=0

    case $state in
    (client)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-client-command-$line[1]:"
        case $line[1] in
            (add)
_arguments "${_arguments_options[@]}" : \
'--owner=[Who holds it; for people, and in no plan]:NAME:_default' \
'--interface=[What it connects to]:INTERFACE:_default' \
'--profile=[What it may reach]:PROFILE:_default' \
'--public-key=[Its public key, where the user made the pair\: wg genkey, wg pubkey]:KEY:_default' \
'--key=[Make the pair here\: the private key is written into this new file, and nowhere else]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':id -- The device; its addresses come from this name, which never changes:_default' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--live[On a host of the site\: when each key last shook hands there, and who has not moved]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
'--key=[Its private key, as \`wg genkey\` made it]:FILE:_files' \
'--server=[Only for this server]:SERVER:_default' \
'--format=[What the device reads]:FORMAT:((wg-quick\:"A file for wg-quick and WireGuard'\''s own applications"
networkmanager\:"A NetworkManager keyfile"
networkd\:"Two files of systemd-networkd"
qr\:"A QR code on the terminal"
png\:"A QR code as a picture"))' \
'--out=[Where the files go; - for stdout \[default\: here, and stdout for qr\]]:DIR:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--force[Replace files that are there]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':id -- The device:_default' \
&& ret=0
;;
(rotate)
_arguments "${_arguments_options[@]}" : \
'--public-key=[Its new public key, where the user made the pair]:KEY:_default' \
'--key=[Make the pair here\: the private key is written into this new file, and nowhere else]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--finish[The staged key has taken over\: it becomes the active one]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':id -- The device:_default' \
&& ret=0
;;
(move)
_arguments "${_arguments_options[@]}" : \
'--machine=[The name of this host in the plan \[default\: as it was confirmed, else its host name\]]:NAME:_default' \
'--backend=[Where WireGuard runs \[default\: as it was confirmed, else the kernel, if it has it\]]:WHERE:((kernel\:"In the kernel"
userspace\:"In a process for each link, reached over its UAPI socket"))' \
'--sockets=[The directory of UAPI sockets \[default\: /var/run/wireguard\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--watch[Look on until ended\: every 10 ms while a key is staged, once a second else]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::id -- Only this device:_default' \
&& ret=0
;;
(revoke)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':which -- The device, or one public key of it:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(deploy)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--key=[Approve the plan with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'--expires=[How long that approval counts, such as 1h]:TIME:_default' \
'--update=[Ask registries again what tags mean now\: that of a service, or all]::SERVICE:_default' \
'--as=[The name of this node in the site \[default\: as last time, or the only one\]]:NODE:_default' \
'--auth-file=[Credentials, in the form that skopeo login writes]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--no-wait[Do not wait until it is in force]' \
'--plain-http[Ask without TLS; credentials are then sent to this machine only]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::path -- The directory of a site \[default\: the nearest parent with a site.toml\]:_files' \
&& ret=0
;;
(scale)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--key=[Approve the plan with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'--expires=[How long that approval counts, such as 1h]:TIME:_default' \
'--update=[Ask registries again what tags mean now\: that of a service, or all]::SERVICE:_default' \
'--as=[The name of this node in the site \[default\: as last time, or the only one\]]:NODE:_default' \
'--auth-file=[Credentials, in the form that skopeo login writes]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--key --update --as --no-wait)--edit-only[Only change the site'\''s files\: look at them, have them signed, deploy later]' \
'--no-wait[Do not wait until it is in force]' \
'--plain-http[Ask without TLS; credentials are then sent to this machine only]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::scales -- How many instances of which process, 0 to 100, such as web/http=3:_default' \
&& ret=0
;;
(ps)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--why[Say for each slot what is wanted, what runs, and the one thing it waits for]' \
'-a[List what has ended too]' \
'--all[List what has ended too]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::of -- Only of this service, SERVICE/PROCESS or slot:_default' \
&& ret=0
;;
(logs)
_arguments "${_arguments_options[@]}" : \
'--from=[Begin with this line]:NUMBER:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'-f[Go on with what it writes from now on]' \
'--follow[Go on with what it writes from now on]' \
'-t[Print the time of each line]' \
'--timestamps[Print the time of each line]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':target -- An instance, or a slot, SERVICE/PROCESS or service\: its newest:_default' \
&& ret=0
;;
(exec)
_arguments "${_arguments_options[@]}" : \
'-u+[Run as this user of the image]:USER:_default' \
'--user=[Run as this user of the image]:USER:_default' \
'-w+[Start in this directory]:DIR:_default' \
'--workdir=[Start in this directory]:DIR:_default' \
'*-e+[Set a variable; nothing secret\: who may list processes in the instance sees it]:NAME=VALUE:_default' \
'*--env=[Set a variable; nothing secret\: who may list processes in the instance sees it]:NAME=VALUE:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'-i[Pass standard input on]' \
'--interactive[Pass standard input on]' \
'-t[Give it a terminal]' \
'--tty[Give it a terminal]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':target -- An instance, or a slot, SERVICE/PROCESS or service\: its newest:_default' \
'*::argv -- The program and its arguments:_default' \
&& ret=0
;;
(service)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__service_commands" \
"*::: :->service" \
&& ret=0

    case $state in
    (service)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-service-command-$line[1]:"
        case $line[1] in
            (halt)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':slot -- The slot, such as web/http/0\: vyr ps lists them:_default' \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':slot -- The slot, such as web/http/0\: vyr ps lists them:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(release)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__release_commands" \
"*::: :->release" \
&& ret=0

    case $state in
    (release)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-release-command-$line[1]:"
        case $line[1] in
            (ls)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::service -- Only of this service:_default' \
&& ret=0
;;
(show)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':release -- Its digest, or the first hex digits of it:_default' \
&& ret=0
;;
(receipt)
_arguments "${_arguments_options[@]}" : \
'--out=[Where it is written \[default\: stdout\]]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::deploy -- The deploy \[default\: the last\]:_default' \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--key=[Approve the plan with this private key, or with this public key'\''s half in an ssh-agent]:FILE:_files' \
'--expires=[How long that approval counts, such as 1h]:TIME:_default' \
'--update=[Ask registries again what tags mean now\: that of a service, or all]::SERVICE:_default' \
'--as=[The name of this node in the site \[default\: as last time, or the only one\]]:NODE:_default' \
'--auth-file=[Credentials, in the form that skopeo login writes]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'(--key --update --as --no-wait)--edit-only[Only change the site'\''s files\: look at them, have them signed, deploy later]' \
'--no-wait[Do not wait until it is in force]' \
'--plain-http[Ask without TLS; credentials are then sent to this machine only]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':service -- The service:_default' \
'::release -- The release'\''s digest, or the first hex digits of it \[default\: the one before\]:_default' \
&& ret=0
;;
        esac
    ;;
esac
;;
(secret)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__secret_commands" \
"*::: :->secret" \
&& ret=0

    case $state in
    (secret)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-secret-command-$line[1]:"
        case $line[1] in
            (set)
_arguments "${_arguments_options[@]}" : \
'--service=[The service]:SERVICE:_default' \
'--identity=[What opens them\: an age identity file or an ssh-ed25519 private key, readable by you alone]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--exact[Take every byte, also the line'\''s end of a value of one line]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::secrets -- What, and where its value is:_default' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--service=[The service]:SERVICE:_default' \
'--identity=[What opens them\: an age identity file or an ssh-ed25519 private key, readable by you alone]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(rm)
_arguments "${_arguments_options[@]}" : \
'--service=[The service]:SERVICE:_default' \
'--identity=[What opens them\: an age identity file or an ssh-ed25519 private key, readable by you alone]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::names -- Which:_default' \
&& ret=0
;;
(rotate)
_arguments "${_arguments_options[@]}" : \
'--service=[The service]:SERVICE:_default' \
'--identity=[What opens them\: an age identity file or an ssh-ed25519 private key, readable by you alone]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--exact[Take every byte, also the line'\''s end of a value of one line]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::secrets -- What, and where its value is:_default' \
&& ret=0
;;
(confirm-none)
_arguments "${_arguments_options[@]}" : \
'--service=[The service]:SERVICE:_default' \
'--identity=[What opens them\: an age identity file or an ssh-ed25519 private key, readable by you alone]:FILE:_files' \
'--site=[The directory of the site \[default\: the nearest parent with a site.toml\]]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(sched)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__sched_commands" \
"*::: :->sched" \
&& ret=0

    case $state in
    (sched)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-sched-command-$line[1]:"
        case $line[1] in
            (status)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(top)
_arguments "${_arguments_options[@]}" : \
'--interval=[Between two looks, such as 500ms]:TIME:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(bench)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'*--only=[Only these parts]:PART:((checkpoint\:"What a checkpoint costs"
visible\:"From the kernel'\''s hint to the worker'\''s eyes"
yield\:"From a hint to the yield"
switch\:"What a context switch costs more"
starve\:"Short tasks beside hogs"
critical\:"Hogs in critical sections"))' \
'*--pieces=[Only hogs with pieces of so many milliseconds\: 1, 10 or 100]:MS:_default' \
'--out=[Where the report goes]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 short rounds, no verdicts]' \
'(--rounds --quick --only --pieces)--demo[Show instead, within half a minute, what short tasks gain by guidance]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(doctor)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(bench)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_vyr__subcmd__bench_commands" \
"*::: :->bench" \
&& ret=0

    case $state in
    (bench)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:vyr-bench-command-$line[1]:"
        case $line[1] in
            (task)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'*--only=[Only these parts]:PART:((rates\:"Tasks a second, and how long one takes"
start\:"Cold compiles and warm starts"
memory\:"Memory of live tasks"
process\:"\`hello\` as whole processes"
large\:"The transform of a large file"))' \
'--arm-ms=[Milliseconds of each arm in a round]:MS:_default' \
'--out=[Where the report goes]:DIR:_files' \
'--events=[JSON events, one a line, for the transform \[default\: made-up ones\]]:FILE:_files' \
'--large-bytes=[Input of the large transform \[default\: 1Gi\]]:SIZE:_default' \
'--against=[Compare this build with another one\: the path of its \`vyr\`]:BASE:_files' \
'--vyr=[The \`vyr\` whose \`vyr run\` is measured \[default\: this one\]]:FILE:_files' \
'--bare=[The bare embedder \[default\: \`bare\` beside this binary\]]:FILE:_files' \
'--native=[The native build of the transform \[default\: workloads/target/release/transform\]]:FILE:_files' \
'--guests=[A directory of guests to use instead of those built in]:DIR:_files' \
'--one-round=[Measure one thing in this process]:CASE:_default' \
'--cache=[The code cache of \`--one-round first-*\`]:DIR:_files' \
'--input=[The input of \`--one-round large-*\`]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 short rounds, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(node)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'*--only=[Only these parts]:PART:((sequential\:"One task after the other, beside its two commits"
streaming\:"One streaming client"
clients\:"1, 8 and 64 clients with a call a task"
receipts\:"Receipts a second"
hop\:"From the start of a task to its end, less its run and a commit"
otlp\:"One streaming client, with spans exported and without"
memory\:"Memory of an idle node and of tasks that wait"
cancel\:"How long guests live that are cancelled or overdue"))' \
'--arm-ms=[Milliseconds of each arm in a round]:MS:_default' \
'--out=[Where the report goes]:DIR:_files' \
'--dir=[Where both journals go\: a new directory in this one, on a disk]:DIR:_files' \
'--vyr=[The \`vyr\` to measure \[default\: this one\]]:FILE:_files' \
'--reference=[The reference \[default\: \`reference_node\` beside this binary\]]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 short rounds, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(plan)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'--out=[Where the report goes]:DIR:_files' \
'--against=[Compare this build with another one\: the path of its \`vyr\`]:BASE:_files' \
'--one-round=[Measure one site in this process]:CLIENTS:_default' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 rounds, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(net)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'*--only=[Only these parts]:PART:((change\:"A change of a server with 1,000 peers"
pings\:"Who notices such a change"
rollback\:"A plan that locks out, taken back"
throughput\:"What a tunnel carries, and its processor time"
latency\:"Packets beside a load"
rotate\:"A client'\''s next key"
rebuild\:"A router from its bundle"
failover\:"One of two servers killed"))' \
'--out=[Where the report goes]:DIR:_files' \
'--append=[Append the report, a line of JSON, to this file \[default\: net.jsonl in DIR\]]:FILE:_files' \
'--against=[Compare this build with another one\: the path of its \`vyr\`]:BASE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 rounds, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(ingress)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'--threads=[Threads of each proxy]:N:_default' \
'--out=[Where the report goes]:DIR:_files' \
'--vyr=[The \`vyr\` to measure \[default\: this one\]]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 small rounds, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(services)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'*--only=[Only these parts]:PART:((deploy\:"A deploy to its first answer, beside a bare boot"
start\:"A start from a snapshot, beside a boot"
memory\:"The node'\''s memory for each idle instance"
rollout\:"A rollout while clients come"))' \
'--out=[Where the report goes]:DIR:_files' \
'--append=[Append the report, a line of JSON, to this file \[default\: services.jsonl in DIR\]]:FILE:_files' \
'--vyr=[The \`vyr\` to measure \[default\: this one\]]:FILE:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 rounds, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(image)
_arguments "${_arguments_options[@]}" : \
'--rounds=[Rounds of each measurement; fewer than 20 decide nothing]:N:_default' \
'--out=[Where the report goes]:DIR:_files' \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--quick[A quick look\: 3 rounds of a small image, no verdicts]' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
        esac
    ;;
esac
;;
(completions)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':shell -- The shell:(bash elvish fish powershell zsh)' \
&& ret=0
;;
(__network-agent)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(__generate)
_arguments "${_arguments_options[@]}" : \
'--data-dir=[Where keys, trust, artifacts and compiled code lie]:DIR:_files' \
'--json[Print one JSON object on stdout and nothing else there]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':directory -- An empty directory:_files' \
&& ret=0
;;
        esac
    ;;
esac
}

(( $+functions[_vyr_commands] )) ||
_vyr_commands() {
    local commands; commands=(
'run:Run one task and print its output' \
'up:Run a node in the foreground\: tasks, journal, sockets' \
'status:Say whether a node is running, and what it is doing' \
'key:Make, list and trust signing keys' \
'artifact:Build, sign, store and move artifacts' \
'image:Take in container images by digest, and make root disks of them' \
'task:Submit tasks, and see what became of them' \
'state:Make, bind and list what tasks keep between them' \
'traces:Watch tasks as they are accepted, run and end' \
'metrics:Watch a node'\''s metrics' \
'events:Print the journal'\''s events' \
'verify:Check a receipt, or a whole journal' \
'checkpoint:Print a signed checkpoint over all events there are' \
'node:The node of this data directory' \
'init:Begin a site\: draw its prefix, write commented files' \
'lock:Allocate what the intent needs\: addresses, digests of images, the next epochs. Writes vyr.lock' \
'check:Compile the site, prove its invariants, run its contracts. Writes nothing' \
'plan:Compile the site and show what would change. Writes nothing but what it is told to' \
'diff:Compare two plans by what they mean\: what changes, and who gains or loses reach to what' \
'history:List the plans that led here, and who approved them' \
'explain:Say where something comes from, or what happens to packets' \
'graph:Show who is connected to what, and who reaches what' \
'apply:Make a host as a plan says, with a way back' \
'confirm:Keep the change that waits' \
'rollback:Take the change of the network back that waits' \
'drift:Compare a host with its plan. Changes nothing' \
'network:This host'\''s network' \
'bundle:Write what this host is into one file, to rebuild it elsewhere' \
'rebuild:Make this blank host the node that a bundle is of' \
'server:This host'\''s own keys' \
'ingress:Carry connections to ready backends\: TLS by server name, raw TCP by port' \
'client:People'\''s devices' \
'deploy:Bring the site'\''s services to this node\: lock, plan, sign, and carry the plan out' \
'scale:Run more or fewer instances of a process\: write it into services/, and deploy' \
'ps:List instances, and say why a slot is not as it should be' \
'logs:Print what an instance wrote' \
'exec:Run a program beside an instance'\''s own' \
'service:Empty a slot whatever the plan says, and let the plan have it again' \
'release:What services were made of, what became of their deploys, and the way back' \
'secret:What services are told and nobody else\: age files in the site' \
'sched:Show how the kernel guides the threads that run guests' \
'doctor:Say what this machine offers, what it does not, and why' \
'bench:Measure this build beside its references' \
'completions:Print a completion script for a shell' \
'__network-agent:Answer for this host'\''s network on stdin and stdout (the other end of \`--node\`)' \
'__generate:Write the generated documentation and completions (for \`cargo xtask generate\`)' \
    )
    _describe -t commands 'vyr commands' commands "$@"
}
(( $+functions[_vyr__subcmd____generate_commands] )) ||
_vyr__subcmd____generate_commands() {
    local commands; commands=()
    _describe -t commands 'vyr __generate commands' commands "$@"
}
(( $+functions[_vyr__subcmd____network-agent_commands] )) ||
_vyr__subcmd____network-agent_commands() {
    local commands; commands=()
    _describe -t commands 'vyr __network-agent commands' commands "$@"
}
(( $+functions[_vyr__subcmd__apply_commands] )) ||
_vyr__subcmd__apply_commands() {
    local commands; commands=()
    _describe -t commands 'vyr apply commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact_commands] )) ||
_vyr__subcmd__artifact_commands() {
    local commands; commands=(
'build:Build a draft from a Wasm file; prints its digest' \
'sign:Sign a draft or a stored artifact' \
'put:Admit a signed draft to the store' \
'ls:List artifacts and who vouches for them' \
'show:Show an artifact'\''s manifest, or its signature' \
'export:Write artifacts and their signatures as an OCI layout archive' \
'import:Take in the artifacts of an archive, if every one is trusted' \
'gc:Remove what nothing refers to' \
    )
    _describe -t commands 'vyr artifact commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__build_commands] )) ||
_vyr__subcmd__artifact__subcmd__build_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact build commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__export_commands] )) ||
_vyr__subcmd__artifact__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact export commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__gc_commands] )) ||
_vyr__subcmd__artifact__subcmd__gc_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact gc commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__import_commands] )) ||
_vyr__subcmd__artifact__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact import commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__ls_commands] )) ||
_vyr__subcmd__artifact__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__put_commands] )) ||
_vyr__subcmd__artifact__subcmd__put_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact put commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__show_commands] )) ||
_vyr__subcmd__artifact__subcmd__show_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact show commands' commands "$@"
}
(( $+functions[_vyr__subcmd__artifact__subcmd__sign_commands] )) ||
_vyr__subcmd__artifact__subcmd__sign_commands() {
    local commands; commands=()
    _describe -t commands 'vyr artifact sign commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench_commands] )) ||
_vyr__subcmd__bench_commands() {
    local commands; commands=(
'task:The task engine beside bare Wasmtime' \
'node:A node beside a reference that pays for transport and disk alone' \
'plan:The plan compiler, from 10 to 10,000 clients' \
'net:Tunnels, changes of a server with 1,000 peers, recovery, and who notices' \
'ingress:An ingress beside HAProxy with as many threads' \
'services:A deploy beside a bare boot, snapshot starts, memory of idle instances, rollouts under load' \
'image:An image to a root disk, beside mksquashfs by hand' \
    )
    _describe -t commands 'vyr bench commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__image_commands] )) ||
_vyr__subcmd__bench__subcmd__image_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench image commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__ingress_commands] )) ||
_vyr__subcmd__bench__subcmd__ingress_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench ingress commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__net_commands] )) ||
_vyr__subcmd__bench__subcmd__net_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench net commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__node_commands] )) ||
_vyr__subcmd__bench__subcmd__node_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench node commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__plan_commands] )) ||
_vyr__subcmd__bench__subcmd__plan_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench plan commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__services_commands] )) ||
_vyr__subcmd__bench__subcmd__services_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench services commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bench__subcmd__task_commands] )) ||
_vyr__subcmd__bench__subcmd__task_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bench task commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bundle_commands] )) ||
_vyr__subcmd__bundle_commands() {
    local commands; commands=(
'show:Check a bundle'\''s bytes, and print what is in clear. Nothing is decrypted' \
    )
    _describe -t commands 'vyr bundle commands' commands "$@"
}
(( $+functions[_vyr__subcmd__bundle__subcmd__show_commands] )) ||
_vyr__subcmd__bundle__subcmd__show_commands() {
    local commands; commands=()
    _describe -t commands 'vyr bundle show commands' commands "$@"
}
(( $+functions[_vyr__subcmd__check_commands] )) ||
_vyr__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'vyr check commands' commands "$@"
}
(( $+functions[_vyr__subcmd__checkpoint_commands] )) ||
_vyr__subcmd__checkpoint_commands() {
    local commands; commands=()
    _describe -t commands 'vyr checkpoint commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client_commands] )) ||
_vyr__subcmd__client_commands() {
    local commands; commands=(
'add:Add a device\: one line in clients.toml, every other byte as it was' \
'ls:List devices\: each key, its state, its addresses if they are locked' \
'export:Write what a device is given, from the plan and its private key' \
'rotate:Give a device another key, without a gap\: staged first, then in the place of the old one' \
'move:Let staged keys of this host take over that are in use' \
'revoke:Refuse a device'\''s keys, or one key, for good' \
    )
    _describe -t commands 'vyr client commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client__subcmd__add_commands] )) ||
_vyr__subcmd__client__subcmd__add_commands() {
    local commands; commands=()
    _describe -t commands 'vyr client add commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client__subcmd__export_commands] )) ||
_vyr__subcmd__client__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'vyr client export commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client__subcmd__ls_commands] )) ||
_vyr__subcmd__client__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr client ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client__subcmd__move_commands] )) ||
_vyr__subcmd__client__subcmd__move_commands() {
    local commands; commands=()
    _describe -t commands 'vyr client move commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client__subcmd__revoke_commands] )) ||
_vyr__subcmd__client__subcmd__revoke_commands() {
    local commands; commands=()
    _describe -t commands 'vyr client revoke commands' commands "$@"
}
(( $+functions[_vyr__subcmd__client__subcmd__rotate_commands] )) ||
_vyr__subcmd__client__subcmd__rotate_commands() {
    local commands; commands=()
    _describe -t commands 'vyr client rotate commands' commands "$@"
}
(( $+functions[_vyr__subcmd__completions_commands] )) ||
_vyr__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'vyr completions commands' commands "$@"
}
(( $+functions[_vyr__subcmd__confirm_commands] )) ||
_vyr__subcmd__confirm_commands() {
    local commands; commands=()
    _describe -t commands 'vyr confirm commands' commands "$@"
}
(( $+functions[_vyr__subcmd__deploy_commands] )) ||
_vyr__subcmd__deploy_commands() {
    local commands; commands=()
    _describe -t commands 'vyr deploy commands' commands "$@"
}
(( $+functions[_vyr__subcmd__diff_commands] )) ||
_vyr__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'vyr diff commands' commands "$@"
}
(( $+functions[_vyr__subcmd__doctor_commands] )) ||
_vyr__subcmd__doctor_commands() {
    local commands; commands=()
    _describe -t commands 'vyr doctor commands' commands "$@"
}
(( $+functions[_vyr__subcmd__drift_commands] )) ||
_vyr__subcmd__drift_commands() {
    local commands; commands=()
    _describe -t commands 'vyr drift commands' commands "$@"
}
(( $+functions[_vyr__subcmd__events_commands] )) ||
_vyr__subcmd__events_commands() {
    local commands; commands=(
'rebuild:Make the views of this data directory'\''s journal anew from its events' \
    )
    _describe -t commands 'vyr events commands' commands "$@"
}
(( $+functions[_vyr__subcmd__events__subcmd__rebuild_commands] )) ||
_vyr__subcmd__events__subcmd__rebuild_commands() {
    local commands; commands=()
    _describe -t commands 'vyr events rebuild commands' commands "$@"
}
(( $+functions[_vyr__subcmd__exec_commands] )) ||
_vyr__subcmd__exec_commands() {
    local commands; commands=()
    _describe -t commands 'vyr exec commands' commands "$@"
}
(( $+functions[_vyr__subcmd__explain_commands] )) ||
_vyr__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'vyr explain commands' commands "$@"
}
(( $+functions[_vyr__subcmd__graph_commands] )) ||
_vyr__subcmd__graph_commands() {
    local commands; commands=()
    _describe -t commands 'vyr graph commands' commands "$@"
}
(( $+functions[_vyr__subcmd__history_commands] )) ||
_vyr__subcmd__history_commands() {
    local commands; commands=()
    _describe -t commands 'vyr history commands' commands "$@"
}
(( $+functions[_vyr__subcmd__image_commands] )) ||
_vyr__subcmd__image_commands() {
    local commands; commands=(
'pull:Take in an image by its digest, from a registry or an OCI layout' \
'resolve:Print the digest that a tag means now' \
'show:Show an image that is here\: its layers, what it runs, its root disk' \
'build:Make the read-only root disk of an image that was pulled' \
    )
    _describe -t commands 'vyr image commands' commands "$@"
}
(( $+functions[_vyr__subcmd__image__subcmd__build_commands] )) ||
_vyr__subcmd__image__subcmd__build_commands() {
    local commands; commands=()
    _describe -t commands 'vyr image build commands' commands "$@"
}
(( $+functions[_vyr__subcmd__image__subcmd__pull_commands] )) ||
_vyr__subcmd__image__subcmd__pull_commands() {
    local commands; commands=()
    _describe -t commands 'vyr image pull commands' commands "$@"
}
(( $+functions[_vyr__subcmd__image__subcmd__resolve_commands] )) ||
_vyr__subcmd__image__subcmd__resolve_commands() {
    local commands; commands=()
    _describe -t commands 'vyr image resolve commands' commands "$@"
}
(( $+functions[_vyr__subcmd__image__subcmd__show_commands] )) ||
_vyr__subcmd__image__subcmd__show_commands() {
    local commands; commands=()
    _describe -t commands 'vyr image show commands' commands "$@"
}
(( $+functions[_vyr__subcmd__ingress_commands] )) ||
_vyr__subcmd__ingress_commands() {
    local commands; commands=(
'check:Say whether a configuration is good, with every fault of it' \
'apply:Have the ingress that runs use a configuration, without dropping a connection' \
'cut:End every connection to hosts that are gone, and would never say so' \
'status:Show the listeners, routes and counters of the ingress that runs' \
    )
    _describe -t commands 'vyr ingress commands' commands "$@"
}
(( $+functions[_vyr__subcmd__ingress__subcmd__apply_commands] )) ||
_vyr__subcmd__ingress__subcmd__apply_commands() {
    local commands; commands=()
    _describe -t commands 'vyr ingress apply commands' commands "$@"
}
(( $+functions[_vyr__subcmd__ingress__subcmd__check_commands] )) ||
_vyr__subcmd__ingress__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'vyr ingress check commands' commands "$@"
}
(( $+functions[_vyr__subcmd__ingress__subcmd__cut_commands] )) ||
_vyr__subcmd__ingress__subcmd__cut_commands() {
    local commands; commands=()
    _describe -t commands 'vyr ingress cut commands' commands "$@"
}
(( $+functions[_vyr__subcmd__ingress__subcmd__status_commands] )) ||
_vyr__subcmd__ingress__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'vyr ingress status commands' commands "$@"
}
(( $+functions[_vyr__subcmd__init_commands] )) ||
_vyr__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'vyr init commands' commands "$@"
}
(( $+functions[_vyr__subcmd__key_commands] )) ||
_vyr__subcmd__key_commands() {
    local commands; commands=(
'new:Make an Ed25519 key pair in the data directory' \
'ls:Print the trusted signers, as lines of an allowed_signers file' \
'trust:Trust a key\: add it to the list of signers' \
    )
    _describe -t commands 'vyr key commands' commands "$@"
}
(( $+functions[_vyr__subcmd__key__subcmd__ls_commands] )) ||
_vyr__subcmd__key__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr key ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__key__subcmd__new_commands] )) ||
_vyr__subcmd__key__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'vyr key new commands' commands "$@"
}
(( $+functions[_vyr__subcmd__key__subcmd__trust_commands] )) ||
_vyr__subcmd__key__subcmd__trust_commands() {
    local commands; commands=()
    _describe -t commands 'vyr key trust commands' commands "$@"
}
(( $+functions[_vyr__subcmd__lock_commands] )) ||
_vyr__subcmd__lock_commands() {
    local commands; commands=()
    _describe -t commands 'vyr lock commands' commands "$@"
}
(( $+functions[_vyr__subcmd__logs_commands] )) ||
_vyr__subcmd__logs_commands() {
    local commands; commands=()
    _describe -t commands 'vyr logs commands' commands "$@"
}
(( $+functions[_vyr__subcmd__metrics_commands] )) ||
_vyr__subcmd__metrics_commands() {
    local commands; commands=()
    _describe -t commands 'vyr metrics commands' commands "$@"
}
(( $+functions[_vyr__subcmd__network_commands] )) ||
_vyr__subcmd__network_commands() {
    local commands; commands=(
'start:Make this host as its confirmed plan says\: what a start of the machine does' \
'receipt:Print the receipt of a change that has ended\: one file that \`vyr verify\` checks without a node' \
    )
    _describe -t commands 'vyr network commands' commands "$@"
}
(( $+functions[_vyr__subcmd__network__subcmd__receipt_commands] )) ||
_vyr__subcmd__network__subcmd__receipt_commands() {
    local commands; commands=()
    _describe -t commands 'vyr network receipt commands' commands "$@"
}
(( $+functions[_vyr__subcmd__network__subcmd__start_commands] )) ||
_vyr__subcmd__network__subcmd__start_commands() {
    local commands; commands=()
    _describe -t commands 'vyr network start commands' commands "$@"
}
(( $+functions[_vyr__subcmd__node_commands] )) ||
_vyr__subcmd__node_commands() {
    local commands; commands=(
'key:Print the node'\''s public key, as a line for \`vyr verify --trust\`' \
    )
    _describe -t commands 'vyr node commands' commands "$@"
}
(( $+functions[_vyr__subcmd__node__subcmd__key_commands] )) ||
_vyr__subcmd__node__subcmd__key_commands() {
    local commands; commands=()
    _describe -t commands 'vyr node key commands' commands "$@"
}
(( $+functions[_vyr__subcmd__plan_commands] )) ||
_vyr__subcmd__plan_commands() {
    local commands; commands=(
'sign:Approve the plan\: sign its digest. Writes plans/' \
    )
    _describe -t commands 'vyr plan commands' commands "$@"
}
(( $+functions[_vyr__subcmd__plan__subcmd__sign_commands] )) ||
_vyr__subcmd__plan__subcmd__sign_commands() {
    local commands; commands=()
    _describe -t commands 'vyr plan sign commands' commands "$@"
}
(( $+functions[_vyr__subcmd__ps_commands] )) ||
_vyr__subcmd__ps_commands() {
    local commands; commands=()
    _describe -t commands 'vyr ps commands' commands "$@"
}
(( $+functions[_vyr__subcmd__rebuild_commands] )) ||
_vyr__subcmd__rebuild_commands() {
    local commands; commands=()
    _describe -t commands 'vyr rebuild commands' commands "$@"
}
(( $+functions[_vyr__subcmd__release_commands] )) ||
_vyr__subcmd__release_commands() {
    local commands; commands=(
'ls:List the releases that the site'\''s plans had, newest first' \
'show:Show what a release is made of' \
'receipt:Show the receipt of a deploy\: what was brought here, by whom, and how it ended' \
'rollback:Bring a former release of a service back\: write it into services/ and vyr.lock, and deploy' \
    )
    _describe -t commands 'vyr release commands' commands "$@"
}
(( $+functions[_vyr__subcmd__release__subcmd__ls_commands] )) ||
_vyr__subcmd__release__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr release ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__release__subcmd__receipt_commands] )) ||
_vyr__subcmd__release__subcmd__receipt_commands() {
    local commands; commands=()
    _describe -t commands 'vyr release receipt commands' commands "$@"
}
(( $+functions[_vyr__subcmd__release__subcmd__rollback_commands] )) ||
_vyr__subcmd__release__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'vyr release rollback commands' commands "$@"
}
(( $+functions[_vyr__subcmd__release__subcmd__show_commands] )) ||
_vyr__subcmd__release__subcmd__show_commands() {
    local commands; commands=()
    _describe -t commands 'vyr release show commands' commands "$@"
}
(( $+functions[_vyr__subcmd__rollback_commands] )) ||
_vyr__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'vyr rollback commands' commands "$@"
}
(( $+functions[_vyr__subcmd__run_commands] )) ||
_vyr__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'vyr run commands' commands "$@"
}
(( $+functions[_vyr__subcmd__scale_commands] )) ||
_vyr__subcmd__scale_commands() {
    local commands; commands=()
    _describe -t commands 'vyr scale commands' commands "$@"
}
(( $+functions[_vyr__subcmd__sched_commands] )) ||
_vyr__subcmd__sched_commands() {
    local commands; commands=(
'status:The tier, why it is not a higher one, and each worker'\''s hints' \
'top:The same, again and again' \
'bench:What guidance costs, how soon it is heard, and what it is good for' \
    )
    _describe -t commands 'vyr sched commands' commands "$@"
}
(( $+functions[_vyr__subcmd__sched__subcmd__bench_commands] )) ||
_vyr__subcmd__sched__subcmd__bench_commands() {
    local commands; commands=()
    _describe -t commands 'vyr sched bench commands' commands "$@"
}
(( $+functions[_vyr__subcmd__sched__subcmd__status_commands] )) ||
_vyr__subcmd__sched__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'vyr sched status commands' commands "$@"
}
(( $+functions[_vyr__subcmd__sched__subcmd__top_commands] )) ||
_vyr__subcmd__sched__subcmd__top_commands() {
    local commands; commands=()
    _describe -t commands 'vyr sched top commands' commands "$@"
}
(( $+functions[_vyr__subcmd__secret_commands] )) ||
_vyr__subcmd__secret_commands() {
    local commands; commands=(
'set:Give secrets a value\: from stdin, or from a file' \
'ls:Print the names of a service'\''s secrets; never a value' \
'rm:Remove secrets' \
'rotate:Give secrets that are there another value, or encrypt all of them anew' \
'confirm-none:Write down that a service has no secrets' \
    )
    _describe -t commands 'vyr secret commands' commands "$@"
}
(( $+functions[_vyr__subcmd__secret__subcmd__confirm-none_commands] )) ||
_vyr__subcmd__secret__subcmd__confirm-none_commands() {
    local commands; commands=()
    _describe -t commands 'vyr secret confirm-none commands' commands "$@"
}
(( $+functions[_vyr__subcmd__secret__subcmd__ls_commands] )) ||
_vyr__subcmd__secret__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr secret ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__secret__subcmd__rm_commands] )) ||
_vyr__subcmd__secret__subcmd__rm_commands() {
    local commands; commands=()
    _describe -t commands 'vyr secret rm commands' commands "$@"
}
(( $+functions[_vyr__subcmd__secret__subcmd__rotate_commands] )) ||
_vyr__subcmd__secret__subcmd__rotate_commands() {
    local commands; commands=()
    _describe -t commands 'vyr secret rotate commands' commands "$@"
}
(( $+functions[_vyr__subcmd__secret__subcmd__set_commands] )) ||
_vyr__subcmd__secret__subcmd__set_commands() {
    local commands; commands=()
    _describe -t commands 'vyr secret set commands' commands "$@"
}
(( $+functions[_vyr__subcmd__server_commands] )) ||
_vyr__subcmd__server_commands() {
    local commands; commands=(
'rotate:Give a server another key for an interface, without a gap' \
'ls:List the keys of servers\: which is in use, which takes over, which were given up' \
'key:Print the public key of a link of a host, making the private one if there is none' \
    )
    _describe -t commands 'vyr server commands' commands "$@"
}
(( $+functions[_vyr__subcmd__server__subcmd__key_commands] )) ||
_vyr__subcmd__server__subcmd__key_commands() {
    local commands; commands=()
    _describe -t commands 'vyr server key commands' commands "$@"
}
(( $+functions[_vyr__subcmd__server__subcmd__ls_commands] )) ||
_vyr__subcmd__server__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr server ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__server__subcmd__rotate_commands] )) ||
_vyr__subcmd__server__subcmd__rotate_commands() {
    local commands; commands=()
    _describe -t commands 'vyr server rotate commands' commands "$@"
}
(( $+functions[_vyr__subcmd__service_commands] )) ||
_vyr__subcmd__service_commands() {
    local commands; commands=(
'halt:Empty a slot, whatever the plan says, until it is resumed' \
'resume:Let the plan have a slot again' \
    )
    _describe -t commands 'vyr service commands' commands "$@"
}
(( $+functions[_vyr__subcmd__service__subcmd__halt_commands] )) ||
_vyr__subcmd__service__subcmd__halt_commands() {
    local commands; commands=()
    _describe -t commands 'vyr service halt commands' commands "$@"
}
(( $+functions[_vyr__subcmd__service__subcmd__resume_commands] )) ||
_vyr__subcmd__service__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'vyr service resume commands' commands "$@"
}
(( $+functions[_vyr__subcmd__state_commands] )) ||
_vyr__subcmd__state_commands() {
    local commands; commands=(
'create:Make an ephemeral state; prints its id' \
'bind:Bind a state to a task that has not begun' \
'ls:List the states that are alive' \
    )
    _describe -t commands 'vyr state commands' commands "$@"
}
(( $+functions[_vyr__subcmd__state__subcmd__bind_commands] )) ||
_vyr__subcmd__state__subcmd__bind_commands() {
    local commands; commands=()
    _describe -t commands 'vyr state bind commands' commands "$@"
}
(( $+functions[_vyr__subcmd__state__subcmd__create_commands] )) ||
_vyr__subcmd__state__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'vyr state create commands' commands "$@"
}
(( $+functions[_vyr__subcmd__state__subcmd__ls_commands] )) ||
_vyr__subcmd__state__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr state ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__status_commands] )) ||
_vyr__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'vyr status commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task_commands] )) ||
_vyr__subcmd__task_commands() {
    local commands; commands=(
'submit:Submit a task; prints its id' \
'ls:List tasks, newest first' \
'show:Show one task' \
'cancel:End a task early' \
'output:Print a task'\''s output' \
'logs:Print the last of a task'\''s log\: what it wrote to its standard error' \
'wait:Wait for tasks to end' \
'receipt:Print a task'\''s receipt\: one file that \`vyr verify\` checks without a node' \
    )
    _describe -t commands 'vyr task commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__cancel_commands] )) ||
_vyr__subcmd__task__subcmd__cancel_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task cancel commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__logs_commands] )) ||
_vyr__subcmd__task__subcmd__logs_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task logs commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__ls_commands] )) ||
_vyr__subcmd__task__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task ls commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__output_commands] )) ||
_vyr__subcmd__task__subcmd__output_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task output commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__receipt_commands] )) ||
_vyr__subcmd__task__subcmd__receipt_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task receipt commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__show_commands] )) ||
_vyr__subcmd__task__subcmd__show_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task show commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__submit_commands] )) ||
_vyr__subcmd__task__subcmd__submit_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task submit commands' commands "$@"
}
(( $+functions[_vyr__subcmd__task__subcmd__wait_commands] )) ||
_vyr__subcmd__task__subcmd__wait_commands() {
    local commands; commands=()
    _describe -t commands 'vyr task wait commands' commands "$@"
}
(( $+functions[_vyr__subcmd__traces_commands] )) ||
_vyr__subcmd__traces_commands() {
    local commands; commands=()
    _describe -t commands 'vyr traces commands' commands "$@"
}
(( $+functions[_vyr__subcmd__up_commands] )) ||
_vyr__subcmd__up_commands() {
    local commands; commands=()
    _describe -t commands 'vyr up commands' commands "$@"
}
(( $+functions[_vyr__subcmd__verify_commands] )) ||
_vyr__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'vyr verify commands' commands "$@"
}

if [ "$funcstack[1]" = "_vyr" ]; then
    _vyr "$@"
else
    compdef _vyr vyr
fi
