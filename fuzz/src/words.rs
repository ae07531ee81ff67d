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
