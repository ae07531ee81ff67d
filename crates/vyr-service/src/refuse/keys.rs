//! Keys that people look for in a manifest and that are not there on purpose.

use vyr_base::form::Unknown;

/// Why the number of instances is one number.
pub const AUTOSCALE_WHY: &str =
    "nothing but your commit changes how many instances there are: a plan says it, and you sign it";

/// Keys of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// The fault's id.
    pub id: &'static str,
    /// The non-goal in `docs/NONGOALS.md`, or none: it is not there yet.
    pub non_goal: Option<&'static str>,
    /// In lower case; `-` counts as `_`.
    pub keys: &'static [&'static str],
    /// Why there is no such key.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

const BUILD_IT: &str =
    "build it where you build: buildah build, push it to a registry, then name it in [image] ref";

/// All of them.
pub const KEYS: &[Keys] = &[
    Keys {
        id: "build",
        non_goal: Some("K6"),
        keys: &[
            "build",
            "dockerfile",
            "containerfile",
            "context",
            "buildpack",
            "buildpacks",
            "builder",
            "build_args",
            "git",
            "repository",
            "source",
            "branch",
        ],
        why: "images are made elsewhere; a release is an image that somebody can name by digest",
        instead: BUILD_IT,
    },
    Keys {
        id: "autoscale",
        non_goal: None,
        keys: &[
            "autoscale",
            "autoscaling",
            "auto_scale",
            "auto_stop_machines",
            "auto_start_machines",
            "min_machines_running",
            "concurrency",
            "target_cpu",
        ],
        why: AUTOSCALE_WHY,
        instead: "write scale = { min = 3 } in the process; change it with vyr scale",
    },
    Keys {
        id: "privileged",
        non_goal: Some("K16"),
        keys: &[
            "privileged",
            "cap_add",
            "cap_drop",
            "capabilities",
            "security_opt",
            "userns_mode",
            "seccomp",
            "apparmor",
            "pid",
            "ipc",
            "cgroup_parent",
        ],
        why: "an instance is a machine of its own: inside of it the process may be root, and the host \
              gives nothing away",
        instead: "take the key out; `user` says whom the process runs as inside",
    },
    Keys {
        id: "host-access",
        non_goal: Some("K31"),
        keys: &[
            "devices",
            "device",
            "gpus",
            "gpu",
            "runtime",
            "kernel_modules",
            "modules",
            "sysctls",
            "hugepages",
        ],
        why: "an instance has no hardware of the host, and its kernel loads no modules",
        instead: "run what needs hardware on a machine of its own",
    },
    Keys {
        id: "kernel",
        non_goal: Some("K14"),
        keys: &[
            "kernel",
            "initrd",
            "initramfs",
            "kernel_args",
            "cmdline",
            "boot",
            "disk_image",
            "vm",
        ],
        why: "every guest boots the platform's kernel, which is pinned by digest and updated for all",
        instead: "take the key out; the root file system is yours, from the image",
    },
    Keys {
        id: "nested",
        non_goal: Some("K15"),
        keys: &["nested", "nested_virtualization", "kvm"],
        why: "no virtual machines run inside of instances",
        instead: "give each its own service",
    },
    Keys {
        id: "sidecar",
        non_goal: Some("K17"),
        keys: &["sidecars", "sidecar", "init_containers", "containers", "pod", "agents"],
        why: "an instance runs one process of one image",
        instead: "write a second process with its own instances, or start both from `command`",
    },
    Keys {
        id: "compose",
        non_goal: Some("K5"),
        keys: &["services", "depends_on", "links", "profiles", "extends", "include", "networks"],
        why: "a service is deployed for itself; several as one unit are several manifests",
        instead: "write services/NAME.toml for each; a service that waits for another one tries again",
    },
    Keys {
        id: "kubernetes",
        non_goal: Some("K1"),
        keys: &[
            "apiversion",
            "kind",
            "metadata",
            "spec",
            "chart",
            "charts",
            "helm",
            "values",
            "annotations",
            "labels",
            "selector",
            "replicas_spec",
        ],
        why: "there is no Kubernetes API here, and no charts",
        instead: "write image, processes and routes; vyr explain says what each becomes",
    },
    Keys {
        id: "udp",
        non_goal: None,
        keys: &["udp", "udp_ports", "quic", "http3"],
        why: "the ingress carries TCP only",
        instead: "serve over TCP; HTTP/3 clients fall back to HTTP/2 by themselves",
    },
    Keys {
        id: "layer-7",
        non_goal: Some("K9"),
        keys: &[
            "tls",
            "cert",
            "certs",
            "certificate",
            "certificates",
            "acme",
            "letsencrypt",
            "ssl",
            "https",
            "http",
            "path_prefix",
            "paths",
            "prefix",
            "strip_prefix",
            "rewrite",
            "redirect",
            "redirects",
            "headers",
            "middleware",
            "middlewares",
            "cors",
            "rate_limit",
            "basic_auth",
            "compress",
            "cache",
            "sticky",
            "sticky_sessions",
            "waf",
            "load_balancer",
            "http_service",
            "websocket",
            "force_https",
        ],
        why: "the ingress passes bytes on: it ends no TLS and reads no HTTP, so it holds no keys of \
              yours",
        instead: "end TLS in the process, or run a proxy as a service of its own in front of it",
    },
    Keys {
        id: "host-network",
        non_goal: Some("K13"),
        keys: &[
            "network",
            "network_mode",
            "host_network",
            "hostnetwork",
            "host_port",
            "hostport",
            "publish",
            "expose",
            "extra_hosts",
            "dns",
            "subnet",
            "vpc",
            "ip",
            "ipv6",
            "mac_address",
        ],
        why: "an instance has one address, which only the ingress reaches; networks are the site's",
        instead: "write ports in the process and [[routes]] that lead to them",
    },
    Keys {
        id: "region",
        non_goal: Some("K12"),
        keys: &["region", "regions", "primary_region", "zone", "zones", "anycast", "multi_region"],
        why: "a site is one place",
        instead: "make a site for each place, with routes of its own",
    },
    Keys {
        id: "affinity",
        non_goal: None,
        keys: &[
            "node",
            "nodes",
            "node_selector",
            "affinity",
            "constraints",
            "placement",
            "tolerations",
            "strategy",
            "deploy",
            "update",
            "rolling_update",
            "canary",
        ],
        why: "placement and rollouts are derived: spread over nodes, one instance at a time",
        instead: "take the key out; vyr explain web/http/0 says why a slot is where it is",
    },
    Keys {
        id: "secret-value",
        non_goal: Some("K25"),
        keys: &["env_file", "secret_env", "environment_secrets", "envfrom", "vault"],
        why: "secrets never go into variables: they are files of the running instance",
        instead: "vyr secret set NAME, and name it in secrets = { required = [\"NAME\"] }",
    },
    Keys {
        id: "schedule",
        non_goal: Some("K3"),
        keys: &["schedule", "cron", "function", "functions", "trigger", "job", "jobs", "task"],
        why: "a service runs until it is stopped; what ends by itself is a task",
        instead: "vyr task submit",
    },
    Keys {
        id: "observability",
        non_goal: Some("K28"),
        keys: &["logging", "log_driver", "metrics", "tracing", "apm", "dashboard", "statsd"],
        why: "logs are kept by the node, and nothing is collected from programs that did not ask",
        instead: "vyr logs SERVICE; a program sends its own metrics where it wants",
    },
    Keys {
        id: "not-yet",
        non_goal: None,
        keys: &["volumes", "volume", "mounts", "mount", "storage", "tmpfs", "backup", "backups"],
        why: "volumes are not there yet: a later version brings them, with backups",
        instead: "take the key out; what an instance writes to its disk is gone with it",
    },
];

/// Keys that have another name here: what people call it, and what it is called.
const ELSEWHERE: &[(&[&str], &str, &str)] = &[
    (
        &["environment", "variables"],
        "variables are in `vars`",
        "write them in [env.vars], or in `vars` of a process",
    ),
    (
        &["cmd", "args", "entrypoint", "exec"],
        "program and arguments are one list",
        "write command = [\"/bin/app\", \"--option\"]",
    ),
    (
        &["replicas", "instances", "count", "scaling", "desired_count"],
        "the number of instances is in `scale`",
        "write scale = { min = 2 } in the process",
    ),
    (
        &["healthcheck", "health_check", "checks", "readiness", "liveness", "probes", "probe"],
        "what makes an instance ready is in `health` of the process",
        "write health = { type = \"http\", port = 8080, path = \"/healthz\" }",
    ),
    (
        &["limits", "requests", "mem_limit", "memory_limit", "cpus", "cpu_limit"],
        "what an instance may use is in `resources` of the process",
        "write resources = { memory = \"256Mi\", cpu = 1.0 }",
    ),
    (
        &["domain", "domains", "hosts", "ingress", "ingresses", "endpoints", "listen"],
        "how a service is reached is in [[routes]]",
        "write hostname, port, process and to in [[routes]]",
    ),
    (
        &["name", "app", "service"],
        "a service has the name of its file",
        "name the file so: services/NAME.toml",
    ),
    (
        &["tag", "digest", "registry"],
        "an image is named in one text",
        "write ref = \"REGISTRY/REPOSITORY:TAG\" in [image]",
    ),
];

/// What is said about a key that no table of a manifest has there.
pub fn key(key: &str) -> Option<Unknown> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let refused = KEYS.iter().find(|row| row.keys.contains(&key.as_str()));
    let refused =
        refused.map(|row| Unknown { id: Some(row.id), why: row.why, hint: Some(row.instead) });
    refused.or_else(|| {
        let (_, why, hint) = ELSEWHERE.iter().find(|(keys, ..)| keys.contains(&key.as_str()))?;
        Some(Unknown { id: None, why, hint: Some(hint) })
    })
}
