# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_vyr_global_optspecs
    string join \n data-dir= json h/help V/version
end

function __fish_vyr_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_vyr_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_vyr_using_subcommand
    set -l cmd (__fish_vyr_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c vyr -n "__fish_vyr_needs_command" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_needs_command" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_needs_command" -s V -l version -d 'Print version'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "run" -d 'Run one task and print its output'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "up" -d 'Run a node in the foreground: tasks, journal, sockets'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "status" -d 'Say whether a node is running, and what it is doing'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "key" -d 'Make, list and trust signing keys'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "artifact" -d 'Build, sign, store and move artifacts'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "image" -d 'Take in container images by digest, and make root disks of them'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "task" -d 'Submit tasks, and see what became of them'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "state" -d 'Make, bind and list what tasks keep between them'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "traces" -d 'Watch tasks as they are accepted, run and end'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "metrics" -d 'Watch a node\'s metrics'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "events" -d 'Print the journal\'s events'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "verify" -d 'Check a receipt, or a whole journal'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "checkpoint" -d 'Print a signed checkpoint over all events there are'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "node" -d 'The node of this data directory'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "init" -d 'Begin a site: draw its prefix, write commented files'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "lock" -d 'Allocate what the intent needs: addresses, digests of images, the next epochs. Writes vyr.lock'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "check" -d 'Compile the site, prove its invariants, run its contracts. Writes nothing'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "plan" -d 'Compile the site and show what would change. Writes nothing but what it is told to'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "diff" -d 'Compare two plans by what they mean: what changes, and who gains or loses reach to what'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "history" -d 'List the plans that led here, and who approved them'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "explain" -d 'Say where something comes from, or what happens to packets'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "graph" -d 'Show who is connected to what, and who reaches what'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "apply" -d 'Make a host as a plan says, with a way back'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "confirm" -d 'Keep the change that waits'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "rollback" -d 'Take the change of the network back that waits'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "drift" -d 'Compare a host with its plan. Changes nothing'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "network" -d 'This host\'s network'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "bundle" -d 'Write what this host is into one file, to rebuild it elsewhere'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "rebuild" -d 'Make this blank host the node that a bundle is of'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "server" -d 'This host\'s own keys'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "ingress" -d 'Carry connections to ready backends: TLS by server name, raw TCP by port'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "client" -d 'People\'s devices'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "deploy" -d 'Bring the site\'s services to this node: lock, plan, sign, and carry the plan out'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "scale" -d 'Run more or fewer instances of a process: write it into services/, and deploy'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "ps" -d 'List instances, and say why a slot is not as it should be'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "logs" -d 'Print what an instance wrote'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "exec" -d 'Run a program beside an instance\'s own'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "service" -d 'Empty a slot whatever the plan says, and let the plan have it again'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "release" -d 'What services were made of, what became of their deploys, and the way back'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "secret" -d 'What services are told and nobody else: age files in the site'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "sched" -d 'Show how the kernel guides the threads that run guests'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "doctor" -d 'Say what this machine offers, what it does not, and why'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "bench" -d 'Measure this build beside its references'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "__network-agent" -d 'Answer for this host\'s network on stdin and stdout (the other end of `--node`)'
complete -c vyr -n "__fish_vyr_needs_command" -f -a "__generate" -d 'Write the generated documentation and completions (for `cargo xtask generate`)'
complete -c vyr -n "__fish_vyr_using_subcommand run" -l input -d 'The guest\'s standard input: a file, or - for this command\'s own' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand run" -l output -d 'Write the output to a file instead of stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand run" -l key -d 'Sign with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand run" -l memory -d 'Linear memory, such as 64Mi [default: 64Mi]' -r
complete -c vyr -n "__fish_vyr_using_subcommand run" -l deadline -d 'Wall time, such as 10s [default: 60s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand run" -l cpu -d 'Processor time, such as 5s [default: 60s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand run" -l output-max -d 'Bytes of output, such as 1Gi [default: 1Gi]' -r
complete -c vyr -n "__fish_vyr_using_subcommand run" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand run" -l no-store -d 'Do not keep the output in the store'
complete -c vyr -n "__fish_vyr_using_subcommand run" -l deterministic -d 'Fixed clock and random seed: the same input gives the same output'
complete -c vyr -n "__fish_vyr_using_subcommand run" -l exit-code -d 'Exit with the guest\'s own exit code'
complete -c vyr -n "__fish_vyr_using_subcommand run" -s q -l quiet -d 'No summary on stderr'
complete -c vyr -n "__fish_vyr_using_subcommand run" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand up" -l config -d 'The configuration [default: /etc/vyr/vyr.toml for root, else DATA/vyr.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand up" -l checkpoint-out -d 'Give each new signed checkpoint to a file too, or to a command: `| PROGRAM WORDS..`' -r
complete -c vyr -n "__fish_vyr_using_subcommand up" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand up" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand up" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand status" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand status" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand key; and not __fish_seen_subcommand_from new ls trust" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand key; and not __fish_seen_subcommand_from new ls trust" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand key; and not __fish_seen_subcommand_from new ls trust" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand key; and not __fish_seen_subcommand_from new ls trust" -f -a "new" -d 'Make an Ed25519 key pair in the data directory'
complete -c vyr -n "__fish_vyr_using_subcommand key; and not __fish_seen_subcommand_from new ls trust" -f -a "ls" -d 'Print the trusted signers, as lines of an allowed_signers file'
complete -c vyr -n "__fish_vyr_using_subcommand key; and not __fish_seen_subcommand_from new ls trust" -f -a "trust" -d 'Trust a key: add it to the list of signers'
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from new" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from new" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from trust" -l principal -d 'Whose it is: a name or an address without spaces' -r
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from trust" -l namespace -d 'What it may sign; may be repeated' -r -f -a "vyr-artifact\t''
vyr-plan\t''
vyr-checkpoint\t''
vyr-bundle\t''"
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from trust" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from trust" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand key; and __fish_seen_subcommand_from trust" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "build" -d 'Build a draft from a Wasm file; prints its digest'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "sign" -d 'Sign a draft or a stored artifact'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "put" -d 'Admit a signed draft to the store'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "ls" -d 'List artifacts and who vouches for them'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "show" -d 'Show an artifact\'s manifest, or its signature'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "export" -d 'Write artifacts and their signatures as an OCI layout archive'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "import" -d 'Take in the artifacts of an archive, if every one is trusted'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and not __fish_seen_subcommand_from build sign put ls show export import gc" -f -a "gc" -d 'Remove what nothing refers to'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -l name -d 'The artifact\'s name' -r
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -l arg -d 'An argument of the guest; may be repeated' -r
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -l env -d 'A variable of the guest\'s environment; may be repeated' -r
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -l state -d 'A state the guest needs; may be repeated' -r
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from sign" -l key -d 'A private key, or a public key whose private half an ssh-agent holds' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from sign" -l detached -d 'A signature made elsewhere with ssh-keygen -Y sign -n vyr-artifact' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from sign" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from sign" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from put" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from put" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from put" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from show" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from show" -l signature -d 'Print its SSH signature instead'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from show" -l signed-bytes -d 'Print the exact bytes a signature covers instead'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from export" -s o -l output -d 'The tar file to write, or - for stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from export" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from export" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from import" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from import" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from gc" -l older-than -d 'Keep what is younger, such as outputs just made' -r
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from gc" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from gc" -l dry-run -d 'Only say what would go'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from gc" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand artifact; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -f -a "pull" -d 'Take in an image by its digest, from a registry or an OCI layout'
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -f -a "resolve" -d 'Print the digest that a tag means now'
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -f -a "show" -d 'Show an image that is here: its layers, what it runs, its root disk'
complete -c vyr -n "__fish_vyr_using_subcommand image; and not __fish_seen_subcommand_from pull resolve show build" -f -a "build" -d 'Make the read-only root disk of an image that was pulled'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from pull" -l layout -d 'Read from the directory of an OCI layout instead' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from pull" -l auth-file -d 'Credentials, in the form that skopeo login writes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from pull" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from pull" -l plain-http -d 'Ask without TLS; credentials are then sent to this machine only'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from pull" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from resolve" -l auth-file -d 'Credentials, in the form that skopeo login writes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from resolve" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from resolve" -l plain-http -d 'Ask without TLS; credentials are then sent to this machine only'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from resolve" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from resolve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from show" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from build" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from build" -l again -d 'Build it although it is there'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from build" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand image; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "submit" -d 'Submit a task; prints its id'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "ls" -d 'List tasks, newest first'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "show" -d 'Show one task'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "cancel" -d 'End a task early'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "output" -d 'Print a task\'s output'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "logs" -d 'Print the last of a task\'s log: what it wrote to its standard error'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "wait" -d 'Wait for tasks to end'
complete -c vyr -n "__fish_vyr_using_subcommand task; and not __fish_seen_subcommand_from submit ls show cancel output logs wait receipt" -f -a "receipt" -d 'Print a task\'s receipt: one file that `vyr verify` checks without a node'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l input -d 'The guest\'s standard input: a file, or - for this command\'s own' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l each-line -d 'Submit one task for each line of a file, or of stdin for -' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l key -d 'An idempotency key: the same key again gives the same task' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l key-file -d 'Sign with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l memory -d 'Linear memory, such as 64Mi [default: the node\'s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l deadline -d 'Wall time, such as 10s [default: the node\'s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l cpu -d 'Processor time, such as 5s [default: the node\'s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l output-max -d 'Bytes of output, such as 1Gi [default: the node\'s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l priority -d 'Higher runs first: -100 to 100' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l bind -d 'Bind a state to the task; may be repeated' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l deterministic -d 'Fixed clock and random seed: the same input gives the same output'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l wait -d 'Wait for its end'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from submit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from ls" -l limit -d 'At most so many' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from ls" -l alive -d 'Only those that have not ended'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from show" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from cancel" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from cancel" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from output" -s o -l output -d 'Write it to a file instead of stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from output" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from output" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from output" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from logs" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from logs" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from wait" -l timeout -d 'Wait no longer, such as 30s' -r
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from wait" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from wait" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from receipt" -s o -l output -d 'Write it to a file instead of stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from receipt" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from receipt" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand task; and __fish_seen_subcommand_from receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand state; and not __fish_seen_subcommand_from create bind ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand state; and not __fish_seen_subcommand_from create bind ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand state; and not __fish_seen_subcommand_from create bind ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand state; and not __fish_seen_subcommand_from create bind ls" -f -a "create" -d 'Make an ephemeral state; prints its id'
complete -c vyr -n "__fish_vyr_using_subcommand state; and not __fish_seen_subcommand_from create bind ls" -f -a "bind" -d 'Bind a state to a task that has not begun'
complete -c vyr -n "__fish_vyr_using_subcommand state; and not __fish_seen_subcommand_from create bind ls" -f -a "ls" -d 'List the states that are alive'
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from create" -l size -d 'What it may hold, such as 64Mi [default: the node\'s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from create" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from create" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from bind" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from bind" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from bind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand state; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand traces" -l task -d 'Only this task; may be repeated' -r
complete -c vyr -n "__fish_vyr_using_subcommand traces" -l artifact -d 'Only tasks of this artifact' -r
complete -c vyr -n "__fish_vyr_using_subcommand traces" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand traces" -l terminal -d 'Only ends'
complete -c vyr -n "__fish_vyr_using_subcommand traces" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand traces" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand metrics" -l prefix -d 'Only metrics whose name begins with this, such as vyr.tasks' -r
complete -c vyr -n "__fish_vyr_using_subcommand metrics" -l interval -d 'Between two looks: 100ms to 60s' -r
complete -c vyr -n "__fish_vyr_using_subcommand metrics" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand metrics" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -l from -d 'Begin with this event' -r
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -l limit -d 'At most so many' -r
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -l follow -d 'Go on with what happens'
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand events; and not __fish_seen_subcommand_from rebuild" -f -a "rebuild" -d 'Make the views of this data directory\'s journal anew from its events'
complete -c vyr -n "__fish_vyr_using_subcommand events; and __fish_seen_subcommand_from rebuild" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand events; and __fish_seen_subcommand_from rebuild" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand events; and __fish_seen_subcommand_from rebuild" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l trust -d 'The public keys of nodes: lines of allowed_signers, or .pub files' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l threshold -d 'How many of several operators must have approved a plan' -r
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l since -d 'A checkpoint that was kept elsewhere, as `vyr checkpoint` wrote it' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l journal -d 'Check the data directory\'s journal instead'
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l allow-dev -d 'Accept an artifact that was signed with a development key'
complete -c vyr -n "__fish_vyr_using_subcommand verify" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand checkpoint" -s o -l output -d 'Write it to a file instead of stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand checkpoint" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand checkpoint" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand checkpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand node; and not __fish_seen_subcommand_from key" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand node; and not __fish_seen_subcommand_from key" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand node; and not __fish_seen_subcommand_from key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand node; and not __fish_seen_subcommand_from key" -f -a "key" -d 'Print the node\'s public key, as a line for `vyr verify --trust`'
complete -c vyr -n "__fish_vyr_using_subcommand node; and __fish_seen_subcommand_from key" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand node; and __fish_seen_subcommand_from key" -l secrets -d 'The age recipient to which secrets of its services are encrypted; made on first use'
complete -c vyr -n "__fish_vyr_using_subcommand node; and __fish_seen_subcommand_from key" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand node; and __fish_seen_subcommand_from key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand init" -l name -d 'The site\'s name [default: the directory\'s]' -r
complete -c vyr -n "__fish_vyr_using_subcommand init" -l operator -d 'Your public key: the first operator' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand init" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand init" -l schemas -d 'Only write the schemas of this version again'
complete -c vyr -n "__fish_vyr_using_subcommand init" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l update -d 'Ask again what the tags mean now: that of a service, or all' -r
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l release -d 'Take an IPv4 address back that its service does not ask for any more' -r
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l auth-file -d 'Credentials, in the form that skopeo login writes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l plain-http -d 'Ask without TLS; credentials are then sent to this machine only'
complete -c vyr -n "__fish_vyr_using_subcommand lock" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand lock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand check" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand check" -l junit -d 'Write the results as JUnit XML too: a file, or - for stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand check" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand check" -l spof -d 'List what remains a single point of failure, and why'
complete -c vyr -n "__fish_vyr_using_subcommand check" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -l out -d 'Write the plan, canonical JSON: a file, or - for stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -l render -d 'Write what each machine gets into this new directory; keys are placeholders there' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand plan; and not __fish_seen_subcommand_from sign" -a "sign" -d 'Approve the plan: sign its digest. Writes plans/'
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l key -d 'Sign with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l expires -d 'How long the approval counts, such as 24h' -r
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l approval -d 'The text that was signed elsewhere' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l signature -d 'Its signature' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l request -d 'Print the text to sign elsewhere'
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand plan; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand diff" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand diff" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand diff" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand history" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand history" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand history" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand explain" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand explain" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand explain" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand graph" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand graph" -l svg -d 'Draw it: a file, or - for stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand graph" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand graph" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand graph" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l node -d 'Another host: a machine of the plan (root at its management address) or an address; may be given several times' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l canary -d 'Which of several hosts is the first [default: the first that is named]' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l parallel -d 'How many hosts after the first are changed at a time' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l confirm-within -d 'Take it back after this time unless it is confirmed' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l probe -d 'An address that must answer a new TCP connection from the host afterwards; may be given several times' -r
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l all -d 'Every machine of the plan that has a management address'
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l no-confirm -d 'Confirm it at once, if all steps were taken and all probes answered'
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l dry-run -d 'Print the steps and take none'
complete -c vyr -n "__fish_vyr_using_subcommand apply" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l node -d 'Another host: a machine of the plan (root at its management address) or an address; may be given several times' -r
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l all -d 'Every machine of the plan that has a management address'
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand confirm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l plan -d 'Only if it is this plan that waits' -r
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l node -d 'Another host: a machine of the plan (root at its management address) or an address; may be given several times' -r
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l all -d 'Every machine of the plan that has a management address'
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l node -d 'Another host: a machine of the plan (root at its management address) or an address; may be given several times' -r
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l all -d 'Every machine of the plan that has a management address'
complete -c vyr -n "__fish_vyr_using_subcommand drift" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand drift" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand network; and not __fish_seen_subcommand_from start receipt" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand network; and not __fish_seen_subcommand_from start receipt" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand network; and not __fish_seen_subcommand_from start receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand network; and not __fish_seen_subcommand_from start receipt" -f -a "start" -d 'Make this host as its confirmed plan says: what a start of the machine does'
complete -c vyr -n "__fish_vyr_using_subcommand network; and not __fish_seen_subcommand_from start receipt" -f -a "receipt" -d 'Print the receipt of a change that has ended: one file that `vyr verify` checks without a node'
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from start" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from start" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from start" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from start" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from start" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from receipt" -s o -l output -d 'Write it to a file instead of stdout' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from receipt" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from receipt" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand network; and __fish_seen_subcommand_from receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l machine -d 'The machine of the plan, if it must be this one [default: which this host is]' -r
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l key -d 'Sign with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -s o -l out -d 'The file to write (0600); nothing may be there' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l parents -d 'Plans before the confirmed one to take along, as far as this host kept them' -r
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l digests-only -d 'Name the artifacts, and leave their bytes out'
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and not __fish_seen_subcommand_from show" -f -a "show" -d 'Check a bundle\'s bytes, and print what is in clear. Nothing is decrypted'
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and __fish_seen_subcommand_from show" -l trust -d 'Who may sign it: an allowed_signers file' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and __fish_seen_subcommand_from show" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bundle; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l trust -d 'Who may sign bundles and plans: an allowed_signers file' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l identity -d 'The key that opens it: an age identity file, or an SSH private key' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l at-least -d 'The lowest epoch that is taken' -r
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l threshold -d 'How many of those in --trust must have approved the plan [default: as many as it says]' -r
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l node -d 'A host elsewhere, over OpenSSH: it needs vyr, an SSH server, and no console' -r
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l anyway -d 'Go on even if the old node answers'
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand rebuild" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand server; and not __fish_seen_subcommand_from rotate ls key" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and not __fish_seen_subcommand_from rotate ls key" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand server; and not __fish_seen_subcommand_from rotate ls key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand server; and not __fish_seen_subcommand_from rotate ls key" -f -a "rotate" -d 'Give a server another key for an interface, without a gap'
complete -c vyr -n "__fish_vyr_using_subcommand server; and not __fish_seen_subcommand_from rotate ls key" -f -a "ls" -d 'List the keys of servers: which is in use, which takes over, which were given up'
complete -c vyr -n "__fish_vyr_using_subcommand server; and not __fish_seen_subcommand_from rotate ls key" -f -a "key" -d 'Print the public key of a link of a host, making the private one if there is none'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l interface -d 'What clients connect to [default: the only one that the server carries]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l public-key -d 'With --stage: the public key, as vyr server key printed it on the server [default: asks the server of --node for it]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l port -d 'With --stage: the UDP port [default: the next one that the server does not listen at]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l node -d 'Ask the server elsewhere: a machine of the plan, or an address [default: this host]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l stage -d 'Give it a second key, beside the one in use'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l retire -d 'The second key is the only one from now on, if all devices have moved'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l force -d 'With --retire: also if some have not; they are named, and cut off until they have a new file'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l revoke -d 'The keys that were retired are refused for good'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l abort -d 'Take the second key out again'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l node -d 'Ask the server elsewhere: a machine of the plan, or an address [default: this host]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l live -d 'Ask the server who has moved to the key that takes over, and when each last shook hands'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l node -d 'Another host: a machine of the plan, or an address' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l remote-vyr -d 'The program on the other host' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l remote-data-dir -d 'The data directory on the other host [default: what it takes itself]' -r
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l next -d 'The key that takes over, beside the one in use: with the plan that names it'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand server; and __fish_seen_subcommand_from key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -l config -d 'Its configuration' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -f -a "check" -d 'Say whether a configuration is good, with every fault of it'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -f -a "apply" -d 'Have the ingress that runs use a configuration, without dropping a connection'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -f -a "cut" -d 'End every connection to hosts that are gone, and would never say so'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and not __fish_seen_subcommand_from check apply cut status" -f -a "status" -d 'Show the listeners, routes and counters of the ingress that runs'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from check" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from check" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from apply" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from apply" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from cut" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from cut" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from cut" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from status" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from status" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand ingress; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -f -a "add" -d 'Add a device: one line in clients.toml, every other byte as it was'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -f -a "ls" -d 'List devices: each key, its state, its addresses if they are locked'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -f -a "export" -d 'Write what a device is given, from the plan and its private key'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -f -a "rotate" -d 'Give a device another key, without a gap: staged first, then in the place of the old one'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -f -a "move" -d 'Let staged keys of this host take over that are in use'
complete -c vyr -n "__fish_vyr_using_subcommand client; and not __fish_seen_subcommand_from add ls export rotate move revoke" -f -a "revoke" -d 'Refuse a device\'s keys, or one key, for good'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l owner -d 'Who holds it; for people, and in no plan' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l interface -d 'What it connects to' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l profile -d 'What it may reach' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l public-key -d 'Its public key, where the user made the pair: wg genkey, wg pubkey' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l key -d 'Make the pair here: the private key is written into this new file, and nowhere else' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l live -d 'On a host of the site: when each key last shook hands there, and who has not moved'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l key -d 'Its private key, as `wg genkey` made it' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l server -d 'Only for this server' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l format -d 'What the device reads' -r -f -a "wg-quick\t'A file for wg-quick and WireGuard\'s own applications'
networkmanager\t'A NetworkManager keyfile'
networkd\t'Two files of systemd-networkd'
qr\t'A QR code on the terminal'
png\t'A QR code as a picture'"
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l out -d 'Where the files go; - for stdout [default: here, and stdout for qr]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l force -d 'Replace files that are there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -l public-key -d 'Its new public key, where the user made the pair' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -l key -d 'Make the pair here: the private key is written into this new file, and nowhere else' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -l finish -d 'The staged key has taken over: it becomes the active one'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -l machine -d 'The name of this host in the plan [default: as it was confirmed, else its host name]' -r
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -l backend -d 'Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]' -r -f -a "kernel\t'In the kernel'
userspace\t'In a process for each link, reached over its UAPI socket'"
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -l sockets -d 'The directory of UAPI sockets [default: /var/run/wireguard]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -l watch -d 'Look on until ended: every 10 ms while a key is staged, once a second else'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from move" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from revoke" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from revoke" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from revoke" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand client; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l key -d 'Approve the plan with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l expires -d 'How long that approval counts, such as 1h' -r
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l update -d 'Ask registries again what tags mean now: that of a service, or all' -r
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l as -d 'The name of this node in the site [default: as last time, or the only one]' -r
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l auth-file -d 'Credentials, in the form that skopeo login writes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l no-wait -d 'Do not wait until it is in force'
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l plain-http -d 'Ask without TLS; credentials are then sent to this machine only'
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand deploy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l key -d 'Approve the plan with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l expires -d 'How long that approval counts, such as 1h' -r
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l update -d 'Ask registries again what tags mean now: that of a service, or all' -r
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l as -d 'The name of this node in the site [default: as last time, or the only one]' -r
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l auth-file -d 'Credentials, in the form that skopeo login writes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l edit-only -d 'Only change the site\'s files: look at them, have them signed, deploy later'
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l no-wait -d 'Do not wait until it is in force'
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l plain-http -d 'Ask without TLS; credentials are then sent to this machine only'
complete -c vyr -n "__fish_vyr_using_subcommand scale" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand scale" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand ps" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand ps" -l why -d 'Say for each slot what is wanted, what runs, and the one thing it waits for'
complete -c vyr -n "__fish_vyr_using_subcommand ps" -s a -l all -d 'List what has ended too'
complete -c vyr -n "__fish_vyr_using_subcommand ps" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand logs" -l from -d 'Begin with this line' -r
complete -c vyr -n "__fish_vyr_using_subcommand logs" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand logs" -s f -l follow -d 'Go on with what it writes from now on'
complete -c vyr -n "__fish_vyr_using_subcommand logs" -s t -l timestamps -d 'Print the time of each line'
complete -c vyr -n "__fish_vyr_using_subcommand logs" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand exec" -s u -l user -d 'Run as this user of the image' -r
complete -c vyr -n "__fish_vyr_using_subcommand exec" -s w -l workdir -d 'Start in this directory' -r
complete -c vyr -n "__fish_vyr_using_subcommand exec" -s e -l env -d 'Set a variable; nothing secret: who may list processes in the instance sees it' -r
complete -c vyr -n "__fish_vyr_using_subcommand exec" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand exec" -s i -l interactive -d 'Pass standard input on'
complete -c vyr -n "__fish_vyr_using_subcommand exec" -s t -l tty -d 'Give it a terminal'
complete -c vyr -n "__fish_vyr_using_subcommand exec" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand service; and not __fish_seen_subcommand_from halt resume" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand service; and not __fish_seen_subcommand_from halt resume" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand service; and not __fish_seen_subcommand_from halt resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand service; and not __fish_seen_subcommand_from halt resume" -f -a "halt" -d 'Empty a slot, whatever the plan says, until it is resumed'
complete -c vyr -n "__fish_vyr_using_subcommand service; and not __fish_seen_subcommand_from halt resume" -f -a "resume" -d 'Let the plan have a slot again'
complete -c vyr -n "__fish_vyr_using_subcommand service; and __fish_seen_subcommand_from halt" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand service; and __fish_seen_subcommand_from halt" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand service; and __fish_seen_subcommand_from halt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand service; and __fish_seen_subcommand_from resume" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand service; and __fish_seen_subcommand_from resume" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand service; and __fish_seen_subcommand_from resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -f -a "ls" -d 'List the releases that the site\'s plans had, newest first'
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -f -a "show" -d 'Show what a release is made of'
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -f -a "receipt" -d 'Show the receipt of a deploy: what was brought here, by whom, and how it ended'
complete -c vyr -n "__fish_vyr_using_subcommand release; and not __fish_seen_subcommand_from ls show receipt rollback" -f -a "rollback" -d 'Bring a former release of a service back: write it into services/ and vyr.lock, and deploy'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from ls" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from show" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from show" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from show" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from receipt" -l out -d 'Where it is written [default: stdout]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from receipt" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from receipt" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l key -d 'Approve the plan with this private key, or with this public key\'s half in an ssh-agent' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l expires -d 'How long that approval counts, such as 1h' -r
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l update -d 'Ask registries again what tags mean now: that of a service, or all' -r
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l as -d 'The name of this node in the site [default: as last time, or the only one]' -r
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l auth-file -d 'Credentials, in the form that skopeo login writes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l edit-only -d 'Only change the site\'s files: look at them, have them signed, deploy later'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l no-wait -d 'Do not wait until it is in force'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l plain-http -d 'Ask without TLS; credentials are then sent to this machine only'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand release; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -f -a "set" -d 'Give secrets a value: from stdin, or from a file'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -f -a "ls" -d 'Print the names of a service\'s secrets; never a value'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -f -a "rm" -d 'Remove secrets'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -f -a "rotate" -d 'Give secrets that are there another value, or encrypt all of them anew'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and not __fish_seen_subcommand_from set ls rm rotate confirm-none" -f -a "confirm-none" -d 'Write down that a service has no secrets'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -l service -d 'The service' -r
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -l identity -d 'What opens them: an age identity file or an ssh-ed25519 private key, readable by you alone' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -l exact -d 'Take every byte, also the line\'s end of a value of one line'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from ls" -l service -d 'The service' -r
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from ls" -l identity -d 'What opens them: an age identity file or an ssh-ed25519 private key, readable by you alone' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from ls" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from ls" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from ls" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rm" -l service -d 'The service' -r
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rm" -l identity -d 'What opens them: an age identity file or an ssh-ed25519 private key, readable by you alone' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rm" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rm" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rm" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l service -d 'The service' -r
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l identity -d 'What opens them: an age identity file or an ssh-ed25519 private key, readable by you alone' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l exact -d 'Take every byte, also the line\'s end of a value of one line'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from confirm-none" -l service -d 'The service' -r
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from confirm-none" -l identity -d 'What opens them: an age identity file or an ssh-ed25519 private key, readable by you alone' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from confirm-none" -l site -d 'The directory of the site [default: the nearest parent with a site.toml]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from confirm-none" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from confirm-none" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand secret; and __fish_seen_subcommand_from confirm-none" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and not __fish_seen_subcommand_from status top bench" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand sched; and not __fish_seen_subcommand_from status top bench" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and not __fish_seen_subcommand_from status top bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and not __fish_seen_subcommand_from status top bench" -f -a "status" -d 'The tier, why it is not a higher one, and each worker\'s hints'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and not __fish_seen_subcommand_from status top bench" -f -a "top" -d 'The same, again and again'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and not __fish_seen_subcommand_from status top bench" -f -a "bench" -d 'What guidance costs, how soon it is heard, and what it is good for'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from status" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from status" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from top" -l interval -d 'Between two looks, such as 500ms' -r
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from top" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from top" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l only -d 'Only these parts' -r -f -a "checkpoint\t'What a checkpoint costs'
visible\t'From the kernel\'s hint to the worker\'s eyes'
yield\t'From a hint to the yield'
switch\t'What a context switch costs more'
starve\t'Short tasks beside hogs'
critical\t'Hogs in critical sections'"
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l pieces -d 'Only hogs with pieces of so many milliseconds: 1, 10 or 100' -r
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l quick -d 'A quick look: 3 short rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l demo -d 'Show instead, within half a minute, what short tasks gain by guidance'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand sched; and __fish_seen_subcommand_from bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand doctor" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand doctor" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "task" -d 'The task engine beside bare Wasmtime'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "node" -d 'A node beside a reference that pays for transport and disk alone'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "plan" -d 'The plan compiler, from 10 to 10,000 clients'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "net" -d 'Tunnels, changes of a server with 1,000 peers, recovery, and who notices'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "ingress" -d 'An ingress beside HAProxy with as many threads'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "services" -d 'A deploy beside a bare boot, snapshot starts, memory of idle instances, rollouts under load'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and not __fish_seen_subcommand_from task node plan net ingress services image" -f -a "image" -d 'An image to a root disk, beside mksquashfs by hand'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l only -d 'Only these parts' -r -f -a "rates\t'Tasks a second, and how long one takes'
start\t'Cold compiles and warm starts'
memory\t'Memory of live tasks'
process\t'`hello` as whole processes'
large\t'The transform of a large file'"
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l arm-ms -d 'Milliseconds of each arm in a round' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l events -d 'JSON events, one a line, for the transform [default: made-up ones]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l large-bytes -d 'Input of the large transform [default: 1Gi]' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l against -d 'Compare this build with another one: the path of its `vyr`' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l vyr -d 'The `vyr` whose `vyr run` is measured [default: this one]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l bare -d 'The bare embedder [default: `bare` beside this binary]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l native -d 'The native build of the transform [default: workloads/target/release/transform]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l guests -d 'A directory of guests to use instead of those built in' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l one-round -d 'Measure one thing in this process' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l cache -d 'The code cache of `--one-round first-*`' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l input -d 'The input of `--one-round large-*`' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l quick -d 'A quick look: 3 short rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from task" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l only -d 'Only these parts' -r -f -a "sequential\t'One task after the other, beside its two commits'
streaming\t'One streaming client'
clients\t'1, 8 and 64 clients with a call a task'
receipts\t'Receipts a second'
hop\t'From the start of a task to its end, less its run and a commit'
otlp\t'One streaming client, with spans exported and without'
memory\t'Memory of an idle node and of tasks that wait'
cancel\t'How long guests live that are cancelled or overdue'"
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l arm-ms -d 'Milliseconds of each arm in a round' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l dir -d 'Where both journals go: a new directory in this one, on a disk' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l vyr -d 'The `vyr` to measure [default: this one]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l reference -d 'The reference [default: `reference_node` beside this binary]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l quick -d 'A quick look: 3 short rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from node" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l against -d 'Compare this build with another one: the path of its `vyr`' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l one-round -d 'Measure one site in this process' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l quick -d 'A quick look: 3 rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l only -d 'Only these parts' -r -f -a "change\t'A change of a server with 1,000 peers'
pings\t'Who notices such a change'
rollback\t'A plan that locks out, taken back'
throughput\t'What a tunnel carries, and its processor time'
latency\t'Packets beside a load'
rotate\t'A client\'s next key'
rebuild\t'A router from its bundle'
failover\t'One of two servers killed'"
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l append -d 'Append the report, a line of JSON, to this file [default: net.jsonl in DIR]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l against -d 'Compare this build with another one: the path of its `vyr`' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l quick -d 'A quick look: 3 rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from net" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l threads -d 'Threads of each proxy' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l vyr -d 'The `vyr` to measure [default: this one]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l quick -d 'A quick look: 3 small rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from ingress" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l only -d 'Only these parts' -r -f -a "deploy\t'A deploy to its first answer, beside a bare boot'
start\t'A start from a snapshot, beside a boot'
memory\t'The node\'s memory for each idle instance'
rollout\t'A rollout while clients come'"
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l append -d 'Append the report, a line of JSON, to this file [default: services.jsonl in DIR]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l vyr -d 'The `vyr` to measure [default: this one]' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l quick -d 'A quick look: 3 rounds, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from services" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from image" -l rounds -d 'Rounds of each measurement; fewer than 20 decide nothing' -r
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from image" -l out -d 'Where the report goes' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from image" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from image" -l quick -d 'A quick look: 3 rounds of a small image, no verdicts'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from image" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand bench; and __fish_seen_subcommand_from image" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand completions" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand completions" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand __network-agent" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand __network-agent" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand __network-agent" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vyr -n "__fish_vyr_using_subcommand __generate" -l data-dir -d 'Where keys, trust, artifacts and compiled code lie' -r -F
complete -c vyr -n "__fish_vyr_using_subcommand __generate" -l json -d 'Print one JSON object on stdout and nothing else there'
complete -c vyr -n "__fish_vyr_using_subcommand __generate" -s h -l help -d 'Print help (see more with \'--help\')'
