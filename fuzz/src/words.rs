//! Words that mean something to a target, for the mutator and, as files, for libFuzzer.

use crate::target;

const JSON: &[&str] = &[
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    "-0",
    "1.0",
    "1e0",
    "9007199254740991",
    "\\u0000",
    "\\ud800",
    "\\u0061",
    "\\n",
    "\u{feff}",
    "\u{e9}",
    "\u{1f600}",
    "\u{fb33}",
    ",",
    ":",
    " ",
];

const NETWORK: &[&str] = &[
    "vyrn",
    "vyrn\0\0\0\u{2}",
    "\"apply\":",
    "\"confirm\":",
    "\"standing\":",
    "\"link_key\":",
    "\"plan\":",
    "\"e30=\"",
    "\"applied\":",
    "\"ended\":",
    "\"refused\":",
    "\"category\":\"auth\"",
    "\"wire\":1",
    "\"wire\":2",
    "\"kind\":\"userspace\"",
];

const GUEST: &[&str] = &[
    "\0",
    "\u{1}",
    "\u{2}",
    "\0\0\0\0",
    "\u{1}\0\0\0\0\0\u{12}",
    "\u{7f}",
    "\u{7f}\u{7f}\u{7f}",
    "\n%%\n",
];

/// Record and message heads, the extension with a server name, other lengths.
const TLS: &[&str] = &[
    "\u{16}\u{3}\u{1}",
    "\u{16}\u{3}\u{1}\0\u{1}",
    "\u{16}\u{3}\u{3}\0\0",
    "\u{1}\0\0",
    "\0\0\0\u{6}\0\u{4}\0\0\u{1}a",
    "\0\0\0\u{d}\0\u{b}\0\0\u{8}10.0.0.1",
    "\0\r\0\u{4}\0\u{2}\u{4}\u{3}",
    "a.example",
    "A.Example.",
    "\0\0",
    "\u{2}\u{13}\u{1}\u{1}\0",
];

const OCI: &[&str] = &[
    "\"schemaVersion\":2,",
    "\"mediaType\":",
    "\"artifactType\":",
    "\"config\":",
    "\"layers\":",
    "\"manifests\":",
    "\"subject\":",
    "\"annotations\":",
    "\"platform\":{\"os\":\"wasip1\"},",
    "\"digest\":",
    "\"size\":",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.wasm.config.v0+json",
    "application/wasm",
    "application/vnd.vyr.signature.v1",
    "application/vnd.vyr.sshsig.v1",
    "application/vnd.oci.empty.v1+json",
    "org.opencontainers.image.ref.name",
    "vyr.subject",
];

const TOML: &[&str] = &[
    "[[",
    "]]",
    "{ ",
    " }",
    " = ",
    "\"\"\"",
    "'",
    "# ",
    "true",
    "false",
    "0x10",
    "1_0",
    "inf",
    "1.0",
    "2026-01-01",
    "<<<<<<< HEAD\n",
    "=======\n",
    "\u{feff}",
    "\u{202e}",
    "\\u001b",
    "\r\n",
    ",",
];

const SITE: &[&str] = &[
    "[servers.x]\n",
    "[interfaces.x]\n",
    "[interfaces.lab.at.x]\n",
    "[nodes.x]\n",
    "[constraints]\n",
    "experimental = true\n",
    "ipv6 = false\n",
    "internet = false\n",
    "uplink_mtu = 1360\n",
    "\"10.8.0.0/30\"",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "\"fd3a:91c2:77e0:ffff::/64\"",
    "\"10.9.0.1\"",
    "tcp/22",
    "udp/5000-5100",
    "protocol/47",
    "any",
    "icmp",
    "lab",
    "full",
    "split",
    "gate",
    "mesh",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];

const PLACES: &[&str] = &[
    "client:ana",
    "interface:lab",
    "profile:full",
    "lan:lab",
    "server:gate",
    "node:far",
    "mesh",
    "operators",
    "internet",
    "0.0.0.0/0",
    "::/0",
    "\"reach\"",
    "\"no-reach\"",
    "\"equal\"",
    "[[contracts]]\n",
    "port = [\"tcp/22\"]\n",
    "[]",
    "any",
];

const LOCK: &[&str] = &[
    "version 1\n",
    "ipv4 lab@gate 10.8.0.2 ana\n",
    "ipv4 lab@gate 10.8.0.2 ben\n",
    "ipv4 x@y 10.8.0.3 ana\n",
    "plan network 1 empty\n",
    "plan network 2 sha256:",
    "revoked ",
    " ana",
    "lab@gate",
    "10.8.0.14",
    "qKGmbqNofV5D+vwSAKbsCdWojbzyu9uCs8MDikxuY2A=",
    "# ",
    "\n",
    "01",
    "+1",
];

const PLAN: &[&str] = &[
    "\"allowed_ips\":[\"::/0\"]",
    "\"0.0.0.0/0\"",
    "\"10.8.0.2/32\"",
    "\"toward\":\"elsewhere\"",
    "\"toward\":\"local\"",
    "\"kind\":\"mesh\"",
    "\"kind\":\"clients\"",
    "\"INTERNET\"",
    "\"lab.all\"",
    "\"MESH.peers\"",
    "\"vyr-lab\"",
    "\"vyr-mesh\"",
    "\"revoked\":[]",
    "\"services\":[\"any\"]",
    "\"experimental\":true",
    "\"epoch\":2",
    "65535",
    "0",
];

const LINKS: &[&str] =
    &["\n%%\n", "$d0", "$s0", "$d1", "$s1", "$d2", "$s2", "$d3", "$s3", "$d4", "$s4"];

const DECLARED: &[&str] = &[
    "org.opencontainers.image.title",
    "vyr.args",
    "vyr.env",
    "vyr.states",
    "vyr.limits",
    "\\\"",
    "\\\\u0000",
    "[\\\"a\\\"]",
    "{\\\"A\\\":\\\"\\\"}",
];

const CONFIG: &[&str] = &[
    "\"architecture\":\"wasm\"",
    "\"os\":",
    "wasip1",
    "wasip2",
    "\"layerDigests\":",
    "\n%%\n",
    "\0asm\u{1}\0\0\0",
    "\0asm\u{d}\0\u{1}\0",
];

const ARMOR: &[&str] =
    &["-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----", "U1NIU0lHAAAAA", "\r\n", "="];

const SIGNERS: &[&str] = &[
    "ssh-ed25519 ",
    "sk-ssh-ed25519@openssh.com ",
    "ecdsa-sha2-nistp256 ",
    "ssh-rsa ",
    "AAAA",
    "namespaces=\"",
    "vyr-artifact",
    "vyr-*",
    "valid-after=\"20260101Z\"",
    "valid-before=\"20270101000000Z\"",
    "cert-authority",
    "\\\"",
    ",",
    "!",
    "*",
    "?",
    "#",
    "\t",
    "\r\n",
    "\u{feff}",
    "\n%%\n",
];

const LOG: &[&str] = &[
    "vyr/journal/",
    "\\n9\\n",
    "9007199254740992",
    "\"checkpoint\":",
    "\"event\":",
    "\"proof\":[",
    "\"signature\":",
    ",\"v\":1}\n",
    "\"seq\":",
    "\"task.ended\"",
    "\"task.started\"",
    "\"sha256:",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "\n%%\n",
];

const TAR: &[&str] = &[
    "oci-layout",
    "index.json",
    "./",
    "../",
    "blobs/sha256/",
    "blobs/sha256/../",
    "ustar\u{0}00",
    "ustar  \u{0}",
    "0000644\u{0}",
    "77777777777\u{0}",
    "00000000000\u{0}",
    "14 path=../x\n",
    "14 size=9999\n",
    "22 SCHILY.realsize=1\n",
    "././@LongLink",
];

const BUNDLE: &[&str] = &[
    "vyr-bundle 1\n",
    "vyr-bundle 2\n",
    "\"payload\":{\"bytes\":",
    "9007199254740991",
    "4611686018427387904",
    "artifacts.tar",
    "keys/vyr-a",
    "keys/../",
    "plans/",
    ".approvals",
    ".json",
    "trust/allowed_signers",
    "age-encryption.org/v1\n",
    "\n%%\n",
];

const LAYER: &[&str] = &[
    ".wh.",
    ".wh..wh..opq",
    "GNU.sparse.major=1\n",
    "24 SCHILY.xattr.user.a=b\n",
    "18 linkpath=usr/a\n",
    "/",
    "\n%%\n",
    "\u{1f}",
];

const IMAGE: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "+encrypted",
    "\"urls\":[\"x\"]",
    "\"manifests\":[]",
    "\"architecture\":\"amd64\"",
    "\"schemaVersion\":1",
    "18446744073709551615",
    "SIGRTMIN+30",
    "web:x:4294967295:",
    "[::1]:5000/",
    "\n%%\n",
];

const SERVICE: &[&str] = &[
    "[processes.http]",
    "[[routes]]",
    "[env]",
    "memory = \"128Mi\"",
    "127Mi",
    "cpu = 0.25",
    "cpu = 64.001",
    "scale = { min = 1, max = 2 }",
    "protocol = \"udp\"",
    "privileged = true",
    "dockerfile = \"x\"",
    "hostname = \"a.example\"",
    "proxy_protocol = true",
    "none = true",
    "required = [\"KEY\"]",
    "ports = []",
    "\"manifest_digest\":",
    "\"scale\":1",
    "\"routes\":[]",
    "sha256:",
    "web/http/0",
    "*.example",
    "\\u0000",
];

const SERVICES: &[&str] = &[
    "\"kind\":\"services\"",
    "\"kind\":\"network\"",
    "\"state\":\"draining\"",
    "\"memory_bytes\":1",
    "\"mode\":\"tcp_raw\"",
    "\"default\":true",
    "\"service\":null",
    "\"secrets\":null",
    "\"address\":\"::\"",
    "\"node\":\"beta\"",
    "web/http/1",
    "fd3a:91c2:77e0:ffff::/64",
    "198.51.100.8",
];

const OTHER_TOOLS: &[&str] = &[
    "PK\u{3}\u{4}",
    "ustar",
    "services:\n",
    "  image: a\n",
    "apiVersion: v1\n",
    "kind: Pod\n",
    "FROM a\n",
    "ARG a\n",
    "{{ .Values.a }}",
    "job \"a\" {\n",
    "[Unit]\nExecStart=",
    "web: a\n",
    "#!/",
    "Dockerfile",
    ".tar.gz",
    "\n%%\n",
];

/// The words of a target.
pub fn words(name: &str) -> Vec<&'static [u8]> {
    let lists: &[&[&str]] = match name {
        "digest" => &[&["sha256:", "sha512:", "SHA256:", "0123456789abcdef", "\u{e9}"]],
        "canonical_json" | "strict_json" => &[JSON],
        "units" => &[&["ms", "Ki", "Mi", "Gi", "18446744073709551615", "\u{663}", ".5", " "]],
        "manifest" => &[JSON, OCI, DECLARED],
        "wasm_config" => &[JSON, CONFIG],
        "wasm_head" => &[CONFIG, &["(module", "(component", ";;", "(;", "\u{7f}ELF"]],
        "referrer" => &[JSON, OCI, ARMOR, &["\n%%\n"]],
        "signature" => &[ARMOR],
        "allowed_signers" | "revoked_keys" => &[SIGNERS, &["SHA256:", "-cert-v01", "SSHKRL\n\0"]],
        "trust" => &[SIGNERS, ARMOR, &["sha256:"]],
        "frontier" => &[&["\u{1}", "\0\0\0\0", "\u{10}"]],
        "checkpoint" => &[LOG, JSON, ARMOR],
        "receipt" => &[LOG, JSON, ARMOR, SIGNERS],
        "oci_layout" => &[JSON, &["\"imageLayoutVersion\":", "\"1.0.0\"", "1.0.0"]],
        "blob_read" => &[&["\n%%\n"]],
        "oci_index" | "oci_manifest" | "import_graph" => &[JSON, OCI, LINKS],
        "import_tar" => &[TAR],
        "round_trip" => &[&["\n%%\n", "=", "\n", "\0", "\"", "\\", "\u{1}", "a", "A=b", "\u{e9}"]],
        "site_toml" => &[TOML, SITE],
        "clients_toml" => &[TOML, SITE, &["state = \"staged\"", "\"revoked\"", "\"retired\""]],
        "contracts_toml" => &[TOML, PLACES],
        "vyr_lock" => &[LOCK],
        "plan_json" => &[JSON, PLAN],
        "bundle" => &[BUNDLE, JSON, ARMOR],
        "image_layers" => &[TAR, LAYER],
        "image_documents" => &[JSON, IMAGE],
        "plan_texts" => {
            &[PLACES, SITE, &["age1", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "::ffff:"]]
        }
        "network_words" => &[JSON, NETWORK],
        "guest_frames" | "guest_data" | "guest_messages" => &[GUEST],
        "client_hello" => &[TLS],
        "service_toml" => &[TOML, SERVICE],
        "service_json" => &[JSON, SERVICE],
        "refused_files" => &[OTHER_TOOLS],
        "services_plan" => &[JSON, SERVICE, SERVICES],
        "secrets_file" => &[&["# VYR_SECRETS_V1\n", "=base64:", "A=", "_B1=", "YQ==", "\r", "#"]],
        _ => &[],
    };
    lists.iter().flat_map(|list| list.iter().map(|word| word.as_bytes())).collect()
}

/// The words of a target as libFuzzer reads them (`-dict=FILE`).
pub fn dictionary(name: &str) -> String {
    assert!(target(name).is_some(), "no target {name}");
    words(name).into_iter().map(line).collect()
}

fn line(word: &[u8]) -> String {
    let plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !b"\"\\".contains(&byte);
    let spell = |byte: &u8| match *byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    format!("\"{}\"\n", word.iter().map(spell).collect::<String>())
}
