//! The corpora, made: `VYR_FUZZ_WRITE=1 cargo test -p vyr-fuzz --test seeds` writes them anew.
//!
//! Without the variable the committed files are compared with what would be written. Inputs found
//! by a fuzzer are added by hand under names that begin with `found-`; they are left alone.
//!
//! It is long because it has the inputs of every target, and each is a line or two.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vyr_artifact::{
    Artifact, Descriptor, IMAGE_MANIFEST_TYPE, Namespace, Referrer, SIGNATURE_ARTIFACT_TYPE, Spec,
    WASM_CONFIG_TYPE, WASM_LAYER_TYPE, signed_bytes,
};
use vyr_base::Digest;
use vyr_fuzz::archive::seed_archive;
use vyr_fuzz::artifact::{COMPONENT, MODULE};
use vyr_fuzz::keys::{KEYS, p521_line};
use vyr_fuzz::plan::{CLIENTS, SITE};
use vyr_fuzz::sections::join;
use vyr_fuzz::words::dictionary;
use vyr_fuzz::{TARGETS, target};

/// Signed with the first of [`KEYS`].
const GOLDEN_RECEIPT: &[u8] =
    include_bytes!("../../crates/vyr-journal/tests/golden/receipt-v1.json");

/// All corpora together: what a clone of the repository can carry.
const CORPUS_BYTES_MAX: usize = 1 << 20;

/// Files by their path below `corpus/`.
type Seeds = BTreeMap<PathBuf, Vec<u8>>;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn the_committed_corpora_are_what_is_generated() {
    let seeds = seeds();
    let write = std::env::var_os("VYR_FUZZ_WRITE").is_some();
    for (path, content) in &seeds {
        let path = corpus().join(path);
        if write {
            fs::create_dir_all(path.parent().expect("a folder")).expect("room");
            fs::write(&path, content).expect("room");
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(committed == *content, "{} is not what is generated", path.display());
    }
    let mut bytes = 0;
    for path in committed() {
        bytes += fs::read(corpus().join(&path)).expect("a file").len();
        let found = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("found-"));
        assert!(found || seeds.contains_key(&path), "nothing makes {}", path.display());
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "the corpora have {bytes} bytes");
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let seeds = seeds();
    for (name, _) in TARGETS {
        let count = seeds.keys().filter(|path| path.parent() == Some(Path::new(name))).count();
        assert!(count >= 2, "{name} has {count} seeds");
    }
    for path in committed() {
        let name = path.iter().next().expect("a name").to_string_lossy();
        let name = name.strip_suffix(".dict").unwrap_or(&name);
        assert!(target(name).is_some(), "{name} is no target");
    }
}

/// Every file below `corpus/`.
fn committed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![corpus()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(corpus()).expect("below it").to_owned());
            }
        }
    }
    found
}

fn seeds() -> Seeds {
    let mut seeds = Seeds::new();
    for (name, _) in TARGETS {
        seeds.insert(PathBuf::from(format!("{name}.dict")), dictionary(name).into_bytes());
    }
    let mut add = |target: &str, name: &str, content: &[u8]| {
        let path = Path::new(target).join(name);
        assert!(seeds.insert(path, content.to_vec()).is_none(), "{target}/{name} is there twice");
    };
    base(&mut add);
    documents(&mut add);
    signing(&mut add);
    journal(&mut add);
    bundle(&mut add);
    layouts(&mut add);
    archives(&mut add);
    plans(&mut add);
    network(&mut add);
    channel(&mut add);
    services(&mut add);
    services_plans(&mut add);
    for (name, content) in vyr_fuzz::secrets::seeds() {
        add("secrets_file", name, &content);
    }
    for (name, content) in vyr_fuzz::hello::seeds() {
        add("client_hello", name, &content);
    }
    images(&mut add);
    seeds
}

type Add<'a> = &'a mut dyn FnMut(&str, &str, &[u8]);

fn base(add: Add<'_>) {
    let digest = Digest::of(b"").to_string();
    add("digest", "empty-string", digest.as_bytes());
    add("digest", "hex-only", &digest.as_bytes()[7..]);
    add("digest", "upper-case", digest.replace("e3b0", "E3B0").as_bytes());
    add("digest", "too-long", format!("{digest}0").as_bytes());
    add("digest", "two-bytes-a-character", "\u{e9}".repeat(32).as_bytes());
    add("digest", "another-algorithm", format!("sha512:{}", "0".repeat(128)).as_bytes());

    let json: &[(&str, &str)] = &[
        ("all-kinds", r#"{"a":[null,true,false,-1,0,9007199254740991],"b":{"c":""}}"#),
        ("rfc8785-order", "{\"\\r\":2,\"1\":3,\"\u{20ac}\":1,\"\u{1f600}\":4,\"\u{fb33}\":5}"),
        ("escapes", r#"["\"\\/\b\f\n\r\t\u0000\u001f\u007f"]"#),
        ("escapes-canonical", "[\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\"]"),
        ("key-twice", r#"{"a":1,"a":1}"#),
        ("key-twice-escaped", r#"{"a":{"b":[{"a":1,"\u0061":2}]}}"#),
        ("key-in-two-objects", r#"{"a":{"a":[{"a":1},{"a":-2}]},"b":1.5}"#),
        ("surrogates", r#"["\ud83d\ude00","\ud800"]"#),
        ("numbers", "[1.0,-0,1e2,0.1,9007199254740992,18446744073709551616,1e400]"),
        ("space", "{ \"a\" : 1 }\n"),
        ("strings", r#"["a","","b"]"#),
        ("map", r#"{"A":"1","B":""}"#),
        ("colon-in-string", r#"{"a:b":"c:\":d"}"#),
    ];
    for (name, text) in json {
        add("canonical_json", name, text.as_bytes());
        add("strict_json", name, text.as_bytes());
    }
    let deep = "[".repeat(127) + &"]".repeat(127);
    add("strict_json", "deep", deep.as_bytes());
    add("strict_json", "too-deep", format!("[{deep}]").as_bytes());
    add("strict_json", "byte-order-mark", b"\xef\xbb\xbf{}");

    let units = ["64Mi", "1G", "0", "250ms", "10s", "5m", "1h", "18014398509481983Ki", "1.5Gi", ""];
    for (index, text) in units.iter().enumerate() {
        add("units", &format!("{index}"), text.as_bytes());
    }
    add("units", "zeros", b"000000000000000000000000000001k");
}

/// A descriptor of `bytes`.
fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn spec() -> Spec {
    Spec {
        name: "Report-2.1".into(),
        args: ["--in", "", "\"quoted\" \\ \u{1}\u{20ac}"].map(str::to_owned).into(),
        env: [("LANG", "C"), ("_x", "a=b\n")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        states: ["cache", "db-1"].map(str::to_owned).into(),
    }
}

fn built(spec: &Spec, wasm: &[u8]) -> Artifact {
    Artifact::build(spec, wasm).expect("a valid spec")
}

fn documents(add: Add<'_>) {
    let plain = Spec { name: "a".into(), ..Spec::default() };
    let (full, small) = (built(&spec(), MODULE), built(&plain, COMPONENT));
    add("manifest", "full", full.manifest.bytes());
    add("manifest", "small", small.manifest.bytes());
    let mut value: Value = serde_json::from_slice(full.manifest.bytes()).expect("JSON");
    add("manifest", "pretty", format!("{value:#}\n").as_bytes());
    value["annotations"]["vyr.args"] = json!("[ ]");
    add("manifest", "loose-args", value.to_string().as_bytes());
    value["annotations"] = json!({"other": "1", "vyr.limits": "{}"});
    add("manifest", "unknown-annotation", value.to_string().as_bytes());
    value["annotations"] =
        json!({"org.opencontainers.image.title": "a b", "vyr.states": "[\"A\"]"});
    add("manifest", "bad-spec", value.to_string().as_bytes());
    value.as_object_mut().expect("an object").remove("annotations");
    add("manifest", "no-annotations", value.to_string().as_bytes());
    let config = value["config"].clone();
    value["config"] = json!([config["mediaType"], config["digest"], config["size"]]);
    add("manifest", "array-for-object", value.to_string().as_bytes());
    value["config"] = config;
    value["layers"] = json!([value["layers"][0], value["layers"][0]]);
    add("manifest", "two-layers", value.to_string().as_bytes());
    value["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    add("manifest", "container", value.to_string().as_bytes());
    add("manifest", "index", br#"{"schemaVersion":2,"manifests":[]}"#);
    let text = String::from_utf8(small.manifest.bytes().to_vec()).expect("JSON");
    let twice = text.replacen("\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2", 1);
    add("manifest", "key-twice", twice.as_bytes());

    add("wasm_config", "module", &join(&[&full.config, MODULE]));
    add("wasm_config", "component", &join(&[&small.config, COMPONENT]));
    add("wasm_config", "wrong-kind", &join(&[&full.config, COMPONENT]));
    let brief = br#"{"os":"wasip1","architecture":"wasm"}"#;
    add("wasm_config", "no-layers", &join(&[brief, MODULE]));
    let array = br#"["wasm","wasip1",null]"#;
    add("wasm_config", "array-for-object", &join(&[array, MODULE]));
    let layers = json!({"architecture": "wasm", "os": "wasip2", "author": "x",
        "layerDigests": [Digest::of(COMPONENT), Digest::of(MODULE)]});
    add("wasm_config", "two-layers", &join(&[layers.to_string().as_bytes(), COMPONENT]));
    let twice = br#"{"architecture":"wasm","os":"wasip1","os":"wasip1"}"#;
    add("wasm_config", "key-twice", &join(&[twice, MODULE]));

    add("wasm_head", "module", &[MODULE, b"\0\x04name"].concat());
    add("wasm_head", "component", COMPONENT);
    add("wasm_head", "old-component", b"\0asm\x0c\0\x01\0");
    add("wasm_head", "short", b"\0asm\x01");
    add("wasm_head", "text", b" \n(module)");
    add("wasm_head", "comment", b";; text");
    add("wasm_head", "elf", b"\x7fELF\x02\x01\x01\0");

    let subject = full.manifest.descriptor();
    let armored = KEYS[0].sign(Namespace::Artifact, &signed_bytes(&subject.digest));
    let (referrer, layer) = Referrer::build(&subject, &armored).expect("a signature");
    add("referrer", "ours", &join(&[&referrer, &layer]));
    let mut value: Value = serde_json::from_slice(&referrer).expect("JSON");
    value["annotations"] = json!({"made.by": "another tool"});
    add("referrer", "annotated", &join(&[format!("{value:#}").as_bytes(), b"no armor"]));
    let subject = value["subject"].clone();
    value["subject"] = json!([subject["mediaType"], subject["digest"], subject["size"]]);
    add("referrer", "array-for-object", value.to_string().as_bytes());
    value["subject"] = subject;
    value["subject"]["size"] = json!(1);
    add("referrer", "small-subject", value.to_string().as_bytes());
    value["config"] = descriptor("application/vnd.oci.empty.v1+json", b"{ }");
    add("referrer", "other-config", value.to_string().as_bytes());
    add("referrer", "not-a-referrer", full.manifest.bytes());
}

fn journal(add: Add<'_>) {
    add("frontier", "empty", &[1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let five = [&[1, 0, 0, 0, 0, 0, 0, 0, 5][..], &[7; 64]].concat();
    add("frontier", "five", &five);
    add("frontier", "short", &five[..70]);
    add("frontier", "too-many", &[&[1][..], &[0xff; 8], &[7; 64]].concat());

    let line = |key: &vyr_fuzz::keys::Key| key.line();
    let golden = str::from_utf8(GOLDEN_RECEIPT).expect("JSON");
    let receipt = |receipt: &str, keys: &str| join(&[receipt.as_bytes(), keys.as_bytes()]);
    let node = line(&KEYS[0]);
    add("receipt", "good", &receipt(golden, &node));
    let signers = format!("# ours\nnode namespaces=\"vyr-checkpoint\" {node}\n");
    add("receipt", "good-signers", &receipt(golden, &signers));
    add("receipt", "nobody", &receipt(golden, ""));
    add("receipt", "stranger", &receipt(golden, &format!("{} node-b\n", line(&KEYS[1]))));
    let expired = format!("node valid-before=\"20200101Z\" {node}\n");
    add("receipt", "expired", &receipt(golden, &expired));
    let value: Value = serde_json::from_str(golden).expect("JSON");
    let mut edited = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        edit(&mut value);
        // Keys of `Value` are sorted, and all of them are ASCII: this is canonical.
        add("receipt", name, &receipt(&format!("{value}\n"), &node));
    };
    edited("forged", &|v| v["event"]["body"]["payload"]["predicate"]["exit_code"] = json!(0));
    edited("torn", &|v| v["event"]["body"]["payload"]["subject"][0]["name"] = json!("input"));
    edited("moved", &|v| v["event"]["seq"] = json!(5));
    edited("cut", &|v| drop(v["proof"].as_array_mut().expect("a list").pop()));
    edited("swapped", &|v| v["proof"].as_array_mut().expect("a list").swap(0, 1));
    edited("version", &|v| v["v"] = json!(2));
    let text = value["checkpoint"].as_str().expect("a text").to_owned();
    let signed = |key: &vyr_fuzz::keys::Key| key.sign(Namespace::Checkpoint, text.as_bytes());
    for (index, key) in KEYS.iter().enumerate() {
        let signature = signed(key);
        edited(&format!("signed-{index}"), &|v| v["signature"] = json!(signature));
    }
    for (index, key) in KEYS.iter().enumerate() {
        let file = json!({"checkpoint": text, "signature": signed(key), "v": 1});
        add("checkpoint", &format!("file-{index}"), format!("{file}\n").as_bytes());
    }
    add("checkpoint", "text", text.as_bytes());
    add("checkpoint", "extension", format!("{text}more\n").as_bytes());
    add("checkpoint", "zero", text.replace("\n9\n", "\n09\n").as_bytes());
    add("checkpoint", "unpadded", text.replace('=', "").as_bytes());
}

fn bundle(add: Add<'_>) {
    use vyr_plan::Signed;
    use vyr_plan::bundle::{Approvals, Contents, Entry, Header, Item, Payload};
    let digest = Digest::of(b"payload");
    let header = Header {
        epoch: 7,
        machine: "nas".parse().expect("a name"),
        made: "2026-06-15T12:00:00Z".parse().expect("a time"),
        payload: Payload { bytes: 9, digest },
        plan_digest: digest,
        site: "office".parse().expect("a name"),
    };
    let lines = header.to_bytes().expect("JSON");
    let message = signed_bytes(&header.digest().expect("JSON"));
    let entry = |item, bytes| Entry { item, bytes, digest };
    let contents = Contents::new(vec![
        entry(Item::Plan(digest), 1000),
        entry(Item::Approvals(digest), 100),
        entry(Item::Key("vyr-office".into()), 45),
        entry(Item::Artifacts, 10_240),
        entry(Item::Lock, 10),
    ]);
    let list = contents.to_bytes().expect("JSON");
    let signed =
        [Signed { name: "a.approval".into(), text: b"t".to_vec(), signature: b"s".to_vec() }];
    let approvals = Approvals::of(&signed).to_bytes().expect("JSON");
    let one = |head: &[u8], list: &[u8]| join(&[head, list, &approvals]);
    for (index, key) in KEYS.iter().enumerate() {
        let armored = key.sign(Namespace::Bundle, &message);
        let head = [&lines[..], armored.as_bytes(), b"encrypted"].concat();
        add("bundle", &format!("signed-{index}"), &one(&head, &list));
    }
    let plan = KEYS[0].sign(Namespace::Plan, &message);
    add("bundle", "other-use", &one(&[&lines[..], plan.as_bytes()].concat(), &list));
    add("bundle", "unsigned", &one(&lines, &list));
    let text = String::from_utf8_lossy(&list).into_owned();
    let long = text.replace(":10240,", ":1099511627777,");
    add("bundle", "long", &one(&lines, long.as_bytes()));
    let path = text.replace("vyr.lock", "../lock");
    add("bundle", "path", &one(&lines, path.as_bytes()));
}

fn signing(add: Add<'_>) {
    let message = signed_bytes(&Digest::of(b"artifact"));
    let names = ["ed25519", "ed25519-2", "p256", "p384", "sk"];
    let mut all_lines = String::from("# everybody\n\n");
    for (key, name) in KEYS.iter().zip(names) {
        let line = key.line();
        all_lines.push_str(&format!("{name}@x,{name} {line} comment \u{e9}\n"));
        let armored = key.sign(Namespace::Artifact, &message);
        add("signature", name, armored.as_bytes());
        add("signature", &format!("{name}-crlf"), armored.replace('\n', "\r\n").as_bytes());
        let signers = format!("ana namespaces=\"vyr-*,!vyr-plan\" {line}\n");
        let trust = |signers: &str, revoked: &str, message: &[u8], armored: &str| {
            join(&[signers.as_bytes(), revoked.as_bytes(), message, armored.as_bytes()])
        };
        add("trust", &format!("{name}-good"), &trust(&signers, "", &message, &armored));
        add("trust", &format!("{name}-other"), &trust(&signers, "", b"other\n", &armored));
        add("trust", &format!("{name}-revoked"), &trust(&signers, &line, &message, &armored));
        let plan = key.sign(Namespace::Plan, &message);
        add("trust", &format!("{name}-plan"), &trust(&signers, "", &message, &plan));
        let dated = format!(
            "# dates\nold valid-before=\"20200101Z\" {line}\nana,b* valid-after=\"20260101Z\",\
             VALID-BEFORE=\"203001010000Z\" {line}\r\nx {}\n",
            KEYS[1].line(),
        );
        let revoked = format!("# nobody of ours\n{}\n", p521_line());
        add("trust", &format!("{name}-dated"), &trust(&dated, &revoked, &message, &armored));
        add("allowed_signers", &format!("{name}-dated"), dated.as_bytes());
        add("revoked_keys", name, format!("{line} comment\n").as_bytes());
    }
    let untouched = KEYS[4].sign_untouched(Namespace::Artifact, &message);
    let signers = format!("ana {}\n", KEYS[4].line());
    let parts = [signers.as_bytes(), b"", &message, untouched.as_bytes()];
    add("trust", "sk-untouched", &join(&parts));
    let wide = KEYS[0].sign(Namespace::Checkpoint, &message).replace('\n', "");
    let wide = wide.replace("E-----U", "E-----\nU").replacen("-----END", "\n-----END", 1);
    add("signature", "one-line", wide.as_bytes());
    add("signature", "empty", b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n");

    add("allowed_signers", "everybody", all_lines.as_bytes());
    let line = KEYS[0].line();
    let odd = [
        ("p521", format!("\u{e9} {}", p521_line())),
        ("patterns", format!("*@ci,!old@ci,a?b,x \t{line}\r\n")),
        ("escaped-quote", format!("a namespaces=\"v\\\"*,x\\y\" {line}\n")),
        ("hash-identity", format!("!x,x,#y,z {line}\n")),
        ("quoted-principal", format!("\"a b\" {line}\n")),
        ("authority", format!("a cert-authority,namespaces=\"x\" {line}\n")),
        ("options", format!("a namespaces=x,,foo=\"1\",valid-after=\"2026\" ,x {line}\n")),
        ("never", format!("a valid-after=\"20270101Z\",valid-before=\"20260101Z\" {line}\n")),
        ("unclosed", format!("a,,b namespaces=\"x {line}\n")),
        ("no-key", "a\nb ssh-ed25519\nc ssh-rsa AAAAB3NzaC1yc2E=\n".to_owned()),
        ("local-time", format!("a valid-after=\"20260101\" {line}\n")),
        ("control", format!("a\u{1b}[2J {line}\nb\n\u{feff}c {line}\n")),
    ];
    for (name, text) in odd {
        add("allowed_signers", name, text.as_bytes());
    }
    let latin = [b"bad\na \xe9 ".as_slice(), line.as_bytes(), b"\n# \xe9\nworse\n"].concat();
    add("allowed_signers", "latin-1", &latin);
    add("revoked_keys", "all", all_lines.replace("comment", "").as_bytes());
    let list: String = KEYS.iter().map(|key| format!("{}\n", key.line())).collect();
    add("revoked_keys", "list", format!("# gone\n{list}\n\t \n{list}").as_bytes());
    add("revoked_keys", "krl", b"SSHKRL\n\0\0\0\0\x01");
    add("revoked_keys", "fingerprint", b"SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ\n");
    add("revoked_keys", "certificate", b"ssh-ed25519-cert-v01@openssh.com AAAA\nssh-rsa\n");
}

const MANIFEST: &str = IMAGE_MANIFEST_TYPE;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A descriptor of an earlier part.
fn link(media_type: &str, part: char) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"$d{part}","size":$s{part}}}"#)
}

fn image(config: char, layers: &[char], more: &str) -> String {
    let layers: Vec<_> = layers.iter().map(|part| link(WASM_LAYER_TYPE, *part)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]{more}}}"#,
        link(WASM_CONFIG_TYPE, config),
        layers.join(","),
    )
}

fn index(manifests: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, manifests.join(","))
}

fn texts(parts: &[&str]) -> Vec<u8> {
    join(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())
}

/// Layouts by name: blobs, then an index.
fn layout_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let one = image('0', &['1'], "");
    let signed =
        format!(r#","artifactType":"{SIGNATURE_ARTIFACT_TYPE}","subject":{}"#, link(MANIFEST, '2'));
    let referrer = image('0', &['1'], &signed);
    let hint = |part: char, subject: &str| {
        let link = link(MANIFEST, part);
        let annotations = format!(
            r#","annotations":{{"vyr.subject":"{subject}","org.opencontainers.image.ref.name":"n"}}}}"#
        );
        link[..link.len() - 1].to_owned() + &annotations
    };
    let platform = link(MANIFEST, '2');
    let platform =
        platform[..platform.len() - 1].to_owned() + r#","platform":{"os":"wasip1","variant":1}}"#;
    let plain = index(&[link(MANIFEST, '2')]);
    let mut nested = vec!["config".to_owned(), "layer".to_owned(), one.clone()];
    for part in ['2', '3', '4', '5', '6', '7'] {
        let kind = if part == '2' { MANIFEST } else { INDEX };
        nested.push(index(&[link(kind, part)]));
    }
    nested.push(index(&[link(INDEX, '8')]));
    let nested: Vec<&str> = nested.iter().map(String::as_str).collect();
    let two_faced = image('0', &['1'], r#","manifests":[]"#);
    vec![
        ("none", texts(&[&index(&[])])),
        ("one", texts(&["{}", "layer", &one, &plain])),
        ("signed", {
            let both = [link(MANIFEST, '2'), link(MANIFEST, '3')];
            texts(&["{}", "layer", &one, &referrer, &index(&both)])
        }),
        ("hinted", {
            let both = [hint('2', "none"), hint('3', "$d2")];
            texts(&["{}", "layer", &one, &referrer, &index(&both)])
        }),
        ("lying-hint", {
            let both = [hint('2', "$d3"), hint('3', "$d1")];
            texts(&["{}", "layer", &one, &referrer, &index(&both)])
        }),
        ("signed-signature", {
            let subject = format!(r#","subject":{}"#, link(MANIFEST, '3'));
            let second = image('0', &[], &subject);
            let all = ['4', '2', '3'].map(|part| link(MANIFEST, part));
            texts(&["{}", "layer", &one, &referrer, &second, &index(&all)])
        }),
        ("platform", texts(&["{}", "layer", &one, &index(&[platform])])),
        ("same-twice", {
            let both = [link(MANIFEST, '2'), link(INDEX, '2')];
            texts(&["{}", "layer", &one, &index(&both)])
        }),
        ("leaf-entry", texts(&["{}", &index(&[link("text/plain", '0')])])),
        ("extra-blob", texts(&["{}", "layer", &one, "stowaway", &plain])),
        ("missing-layer", texts(&["{}", "layer", &image('0', &['1', '9'], ""), &plain])),
        ("two-faced", texts(&["{}", "layer", &two_faced, &plain])),
        ("nested", texts(&nested)),
        ("manifest-as-layer", {
            let outer = image('2', &['2'], "");
            texts(&["{}", "layer", &one, &outer, &index(&[link(MANIFEST, '3')])])
        }),
        ("two-sizes", {
            let wrong = link(MANIFEST, '2').replace("$s2", "7");
            texts(&["{}", "layer", &one, &index(&[link(MANIFEST, '2'), wrong])])
        }),
        ("array-for-object", {
            let array = format!(r#"["{MANIFEST}","$d2",$s2]"#);
            texts(&["{}", "layer", &one, &index(&[array])])
        }),
        ("not-utf-8", {
            let latin = index(&[link(MANIFEST, '2')]).replacen('{', r#"{"x":"?","#, 1);
            let image = one.replacen('{', r#"{"x":"?","#, 1);
            let mut parts = texts(&["{}", "layer", &image, &latin]);
            parts.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
            parts
        }),
        ("surrogate-unused", {
            let index = index(&[link(MANIFEST, '2')]).replacen('{', r#"{"x":"\ud800","#, 1);
            let image = one.replacen('{', r#"{"x":"\ud800","#, 1);
            texts(&["{}", "layer", &image, &index])
        }),
        ("old-schema", texts(&[r#"{"schemaVersion":1,"manifests":[]}"#])),
    ]
}

fn layouts(add: Add<'_>) {
    let markers = [
        ("ours", r#"{"imageLayoutVersion":"1.0.0"}"#),
        ("more", r#"{ "imageLayoutVersion": "1.0.0", "x": [1] }"#),
        ("other-version", r#"{"imageLayoutVersion":"1.1.0"}"#),
        ("key-twice", r#"{"imageLayoutVersion":"2","imageLayoutVersion":"1.0.0"}"#),
        ("array", r#"["1.0.0"]"#),
        ("empty", ""),
    ];
    for (name, text) in markers {
        add("oci_layout", name, text.as_bytes());
    }
    for (name, parts) in layout_seeds() {
        add("oci_index", name, &parts);
        add("import_graph", name, &parts);
    }
    let one = image('0', &['1'], "");
    let subject = format!(r#","subject":{},"artifactType":"x/y""#, link(MANIFEST, '2'));
    let manifests = [
        ("image", texts(&["{}", "layer", &one])),
        ("no-blobs", one.clone().into_bytes()),
        ("referrer", texts(&["{}", "layer", "absent", &image('0', &['1'], &subject)])),
        ("index", texts(&["{}", "layer", &one, &index(&[link(MANIFEST, '2')])])),
        ("index-of-nothing", texts(&[&index(&[])])),
        ("index-of-leaf", texts(&["leaf", &index(&[link("text/plain", '0')])])),
        ("both", texts(&["{}", "layer", &image('0', &['1'], r#","manifests":[]"#)])),
        ("array-for-object", {
            let config = format!(r#"["{WASM_CONFIG_TYPE}","$d0",$s0]"#);
            let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
            texts(&["{}", &text])
        }),
    ];
    for (name, parts) in manifests {
        add("oci_manifest", name, &parts);
    }
    let latin = one.replacen('{', r#"{"x":"?","#, 1);
    let mut latin = texts(&["{}", "layer", &latin]);
    latin.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
    add("oci_manifest", "not-utf-8", &latin);
    let artifact = built(&spec(), MODULE);
    let value: Value = serde_json::from_slice(artifact.manifest.bytes()).expect("JSON");
    let parts = [&artifact.config[..], MODULE, &value.to_string().into_bytes()];
    add("oci_manifest", "ours", &join(&parts));
    assert_eq!(Descriptor::of(MODULE).size, 8);

    add("blob_read", "sound", &join(&[b"content", b"content"]));
    add("blob_read", "changed", &join(&[b"content", b"Content"]));
    add("blob_read", "longer", &join(&[b"content", b"content."]));
    add("blob_read", "shorter", &join(&[b"content", b"conten"]));
    add("blob_read", "empty", &join(&[b"", b""]));
    add("blob_read", "emptied", &join(&[b"content", b""]));
    let long = vec![7; 9000];
    add("blob_read", "long", &join(&[&long, &long]));
    add("blob_read", "long-cut", &join(&[&long, &long[1..]]));
}

fn plans(add: Add<'_>) {
    let office = include_str!("../../examples/office/site.toml");
    add("site_toml", "small", SITE.as_bytes());
    add("site_toml", "office", office.as_bytes());
    add("site_toml", "cut", &SITE.as_bytes()[..300]);
    for (name, from, to) in [
        ("overlap", "lan = [\"10.9.0.0/24\"]", "lan = [\"10.8.0.0/16\", \"::/0\"]"),
        ("experiment", "ipv6 = true", "ipv6 = true\nexperimental = true"),
        ("no-room", "10.8.0.0/28", "10.8.0.0/30"),
        ("no-mesh", "mesh = { port = 51871, allow = [\"icmp\"] }", ""),
        ("escaped-key", "roles = ", "\"\\u001b[2J\" = "),
        ("conflict", "[profiles.full]", "<<<<<<< HEAD\n[profiles.full]"),
        ("wrong", "port = 51820", "port = 0x1_0000_0000_0000_0000_0"),
        ("public", "10.8.0.0/28", "9.8.0.0/28"),
    ] {
        assert!(SITE.contains(from), "{from}");
        add("site_toml", name, SITE.replace(from, to).as_bytes());
    }
    add("clients_toml", "small", CLIENTS.as_bytes());
    add("clients_toml", "none", b"version = 1\nclients = []\n");
    for (name, from, to) in [
        (
            "same-key",
            "PLr2LDVFNbaKTlE1x8WgR7pSk8TAYO5QjOOU2uAYGjc=",
            "qKGmbqNofV5D+vwSAKbsCdWojbzyu9uCs8MDikxuY2A=",
        ),
        ("same-id", "\"ben\"", "\"ana\""),
        ("reversed", "Ben\", interface", "B\u{202e}n\", interface"),
        ("unknown", "full", "fulll"),
    ] {
        add("clients_toml", name, CLIENTS.replace(from, to).as_bytes());
    }
    let line = CLIENTS.lines().nth(2).expect("a client").to_owned() + "\n";
    let second = line.replace("2A=", "2E=").replace("active", "staged");
    let staged = CLIENTS.replace("clients = [\n", &format!("clients = [\n{second}"));
    add("clients_toml", "second-key", staged.as_bytes());
    let many: String = (0..14).map(|n| line.replace("\"ana\"", &format!("\"a{n}\""))).collect();
    let many = CLIENTS.replace("clients = [\n", &format!("clients = [\n{many}"));
    add("clients_toml", "too-many", many.as_bytes());
    let contract = |from: &str, to: &str, expect: &str| {
        format!(
            "version = 1\n[[contracts]]\nname = \"c\"\nfrom = [{from}]\nto = [{to}]\n\
             port = [\"tcp/22\", \"icmp\"]\nexpect = \"{expect}\"\n"
        )
    };
    for (name, from, to, expect) in [
        ("reach", "\"interface:lab\"", "\"lan:lab\"", "reach"),
        ("no-reach", "\"client:ana\", \"client:ben\"", "\"internet\"", "no-reach"),
        ("equal", "\"profile:full\"", "\"0.0.0.0/0\", \"::/0\"", "equal"),
        ("nodes", "\"node:far\"", "\"node:gate\", \"mesh\"", "reach"),
        ("families", "\"10.8.0.0/28\"", "\"fd3a:91c2:77e0::/48\"", "reach"),
        ("operators", "\"operators\"", "\"server:gate\"", "no-reach"),
        ("empty", "", "\"client:nobody\"", "reach"),
    ] {
        add("contracts_toml", name, contract(from, to, expect).as_bytes());
    }
    let office = include_str!("../../examples/office/contracts/access.toml");
    add("contracts_toml", "office", office.as_bytes());

    let files = |site: &str, clients: &str| vyr_plan::Files {
        clients: Some(vyr_base::Source::new("clients.toml", clients)),
        ..vyr_plan::Files::new(vyr_base::Source::new("site.toml", site))
    };
    let compiled = |site: &str, clients: &str| {
        let intent = files(site, clients).read().expect("a good site");
        let lock = vyr_plan::allocate(&intent, &vyr_plan::Lock::default(), None).expect("room");
        let plan = vyr_plan::compile(&intent, &lock).expect("it compiles");
        (lock.to_string(), plan)
    };
    let (lock, plan) = compiled(SITE, CLIENTS);
    add("vyr_lock", "small", lock.as_bytes());
    add(
        "vyr_lock",
        "double",
        format!("{lock}ipv4 lab@gate 10.8.0.9 ana\nipv4 lab@gate 10.8.0.9 ben\n").as_bytes(),
    );
    add("vyr_lock", "two-plans", format!("{lock}plan network 2 {}\n", Digest::of(b"")).as_bytes());
    add("vyr_lock", "only-version", b"version 1\n");
    add("vyr_lock", "epoch-spelling", b"version 1\nplan network 01 empty\nplan network +2 empty\n");
    let key = "qKGmbqNofV5D+vwSAKbsCdWojbzyu9uCs8MDikxuY2A=";
    add("vyr_lock", "revoked", format!("version 1\r\nrevoked {key} ana\r\n# x\n").as_bytes());
    add("vyr_lock", "later", b"version 2\n");
    add("vyr_lock", "conflict", format!("<<<<<<< HEAD\n{lock}=======\n").as_bytes());

    add("plan_json", "small", &plan.to_bytes().expect("canonical"));
    let mut spoilt = plan.clone();
    spoilt.machines[1].sets.reverse();
    add("plan_json", "unsorted", &spoilt.to_bytes().expect("canonical"));
    let mut spoilt = plan.clone();
    for machine in &mut spoilt.machines {
        for peer in machine.links.iter_mut().flat_map(|link| &mut link.peers) {
            peer.allowed_ips = vec!["::/0".parse().expect("a prefix")];
        }
    }
    add("plan_json", "default-routes", &spoilt.to_bytes().expect("canonical"));
    let mut spoilt = plan;
    spoilt.version = 2;
    add("plan_json", "later", &spoilt.to_bytes().expect("canonical"));

    for (n, text) in [
        "ana-laptop",
        "a",
        "Ana",
        "a-",
        key,
        "10.0.0.0/8",
        "10.0.0.1/8",
        "fd00::/8",
        "::/0",
        "FD00::1",
        "10.0.0.1",
        "127.0.0.1",
        "fe80::1",
        "::ffff:1.2.3.4",
        "vpn.example.net",
        "1.2.3",
        "tcp/22",
        "udp/5000-5100",
        "tcp/9-8",
        "protocol/47",
        "any",
        "node:far",
        "lan:lab",
        "internet",
        "Ana \u{202e}",
        "192.168.010.5",
        "https://a.example/",
        "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMRJYlaYhv/6hSR+etAhBBos35urON047qaikT8V7zZq",
    ]
    .iter()
    .enumerate()
    {
        add("plan_texts", &format!("{n:02}"), text.as_bytes());
    }
}

fn channel(add: Add<'_>) {
    use vyr_channel::{
        End, ExecSpec, ExecState, Frame, GuestMessage, HostMessage, LogRecord, LogSource, Nonce,
        Phase, Process, State, VERSION, Window, data_payload, encode, frame,
    };
    let payload = |frame: Frame| match frame {
        Frame::Control(payload) => payload,
        Frame::Data(..) => unreachable!("a message is a control frame"),
    };
    let nonce = Nonce([7; 16]);
    let execs = vec![ExecState { id: 1, ended: None, stdin: 3 }];
    let state = State { phase: Phase::Running, execs, kernel: "6.12".into() };
    let welcome = encode(&GuestMessage::Welcome { version: VERSION, nonce, state });
    let end = End { code: Some(3), signal: None, oom_killed: false };
    let ended = encode(&GuestMessage::Phase(Phase::Ended(end)));
    let process = Process::root(["/bin/sh"]);
    let terminal = Some(Window { rows: 24, columns: 80 });
    let exec = encode(&HostMessage::Exec { id: 1, spec: ExecSpec { process, terminal } });
    let hello = encode(&HostMessage::Hello { version: VERSION, nonce });
    let line = |text: &str| {
        let (source, line) = (LogSource::Stdout, text.as_bytes().to_vec());
        LogRecord { source, time_ns: 1, line, cut: false }.encode()
    };
    let log = Frame::Data(0, data_payload(0, false, &[line("one"), line("two")].concat()));
    let later = Frame::Data(0, data_payload(u64::MAX - 40, true, &line("late")));
    add("guest_frames", "session", &[&welcome, &log, &ended].map(frame).concat());
    add("guest_frames", "zeros", &[vec![0; 9], frame(&log)].concat());
    add("guest_frames", "cut", &frame(&log)[..20]);
    add("guest_frames", "late", &frame(&later));
    let piece = |offset: u64, end: bool, text: &str| data_payload(offset, end, &line(text));
    let two = [piece(5, false, "one"), piece(21, true, "two")];
    add("guest_data", "lines", &join(&[&two[0], &two[1]]));
    add("guest_data", "again", &join(&[&two[0], &two[0], &two[1], &two[1]]));
    add("guest_data", "late", &data_payload(u64::MAX - 90, true, &line("late")));
    for (name, message) in
        [("welcome", welcome), ("ended", ended), ("exec", exec), ("hello", hello)]
    {
        add("guest_messages", name, &payload(message));
    }
}

/// The second plan of a site, and locks that speak of services.
fn services_plans(add: Add<'_>) {
    use vyr_fuzz::services::{plan, small};

    let (lock, plan) = plan(&small());
    add("vyr_lock", "services", lock.to_string().as_bytes());
    let given = "service-ipv4 alpha 198.51.100.7 web";
    let doubled = format!("{lock}service-ipv4 alpha 198.51.100.8 web\n{given}\n{given}2\n");
    add("vyr_lock", "services-doubled", doubled.as_bytes());
    add("services_plan", "small", &plan.to_bytes().expect("canonical"));
    let mut spoilt = plan.clone();
    spoilt.nodes[0].memory_bytes = 1 << 20;
    add("services_plan", "no-room", &spoilt.to_bytes().expect("canonical"));
    let mut spoilt = plan.clone();
    spoilt.placements.reverse();
    add("services_plan", "unsorted", &spoilt.to_bytes().expect("canonical"));
    let mut spoilt = plan;
    spoilt.placements.pop();
    add("services_plan", "a-slot-less", &spoilt.to_bytes().expect("canonical"));
}

fn services(add: Add<'_>) {
    use vyr_base::Source;
    use vyr_fuzz::service::MANIFEST;
    use vyr_service::{Release, manifest};

    let examples = [
        ("web", include_str!("../../examples/shop/services/web.toml")),
        ("db", include_str!("../../examples/shop/services/db.toml")),
        ("small", MANIFEST),
    ];
    for (name, text) in examples {
        add("service_toml", name, text.as_bytes());
        let read = manifest::read(name, &Source::new(name, text)).expect("an example is good");
        add("service_json", name, &read.manifest.to_bytes());
        let release = Release::of(&read.manifest, Digest::of(b""));
        add("service_json", &format!("release-{name}"), &release.to_bytes());
    }
    add("service_json", "slot", b"web/http/0");
    for (name, from, to) in [
        ("floor", "256Mi", "127Mi"),
        ("autoscale", "min = 2", "min = 2, max = 3"),
        ("udp", "internal = 9000", "internal = 9000, protocol = \"udp\""),
        ("build", "[env]", "[build]\n[env]"),
        ("privileged", "version = 1", "version = 1\nprivileged = true"),
        ("no-process", "process = \"http\"", "process = \"web\""),
        ("no-expect", "backend_expects_proxy_protocol = true", ""),
        ("same-name", "hostname = \"a.example\"", ""),
        ("cpu", "0.5", "0.0005"),
        ("two-faults", "required = [\"KEY\"]", "required = [\"key\"], none = 1"),
        (
            "digest",
            "app:1",
            "app:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    ] {
        assert!(MANIFEST.contains(from), "{from}");
        add("service_toml", name, MANIFEST.replacen(from, to, 1).as_bytes());
    }
    let mut tar = vec![b'a'; 300];
    tar[257..262].copy_from_slice(b"ustar");
    for (name, file, first) in [
        ("compose", "a", &b"services:\n  a:\n    image: b\n"[..]),
        ("kubernetes", "a", b"---\napiVersion: v1\nkind: Pod\n"),
        ("chart", "a", b"apiVersion: v2\nname: a\nversion: 1.0.0\n"),
        ("template", "a", b"{{ .Values.a }}\n"),
        ("dockerfile", "a", b"ARG V\nFROM a:${V}\n"),
        ("zip", "a", b"PK\x03\x04"),
        ("tar", "a", &tar),
        ("gzip", "a.tgz", b"\x1f\x8b"),
        ("procfile", "a", b"web: a b\n"),
        ("nomad", "a", b"job \"a\" {\n"),
        ("json", "a", b"{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}"),
        ("unit", "a", b"[Unit]\n[Service]\nExecStart=/a\n"),
        ("directory", ".", b""),
        ("named", "shop/Dockerfile", b""),
    ] {
        add("refused_files", name, &join(&[file.as_bytes(), first]));
    }
}

fn network(add: Add<'_>) {
    let name = "network_words";
    let apply = r#"{"apply":{"plan":"e30=","approvals":[{"name":"a","text":"AP8=","signature":""}],"machine":null,"by":"ana","within_ms":60000,"probes":["192.0.2.1:22"],"dry_run":false,"backend":{"kind":"userspace","sockets":"/run"}}}"#;
    let digest = Digest::of(b"");
    let frame = |json: &str| {
        let length = u32::try_from(json.len()).expect("it is short");
        [b"vyrn", &length.to_be_bytes()[..], json.as_bytes()].concat()
    };
    add(name, "apply", apply.as_bytes());
    add(name, "confirm", format!(r#"{{"confirm":{{"plan":"{digest}"}}}}"#).as_bytes());
    let standing = r#"{"standing":{"machine":"nas","backend":{"kind":null,"sockets":null}}}"#;
    add(name, "two-frames", &[frame(apply), frame(standing)].concat());
    add(name, "cut", &frame(apply)[..60]);
    let hello = r#"{"wire":1,"vyr":"0.1.0","machine":"nas","uid":0}"#;
    add(name, "hello", &frame(hello));
    add(name, "hello-later", hello.replace("\"wire\":1", "\"wire\":2,\"x\":[]").as_bytes());
    let applied = format!(
        r#"{{"applied":{{"plan":"{digest}","base":null,"machine":"nas","approvers":["op"],"steps":["x"],"before":"{digest}","after":"{digest}","outcome":"waits","deadline":"2026-12-01T00:00:00Z"}}}}"#
    );
    add(name, "applied", &frame(&applied));
    let refused = r#"{"refused":{"category":"conflict","message":"a","causes":["b"],"hint":null}}"#;
    add(name, "refused", &frame(refused));
    add(name, "key-twice", br#"{"link_key":{"link":"a","link":"b"}}"#);
    add(name, "unknown-key", br#"{"rollback":{"plan":null,"\u001b[2J":1}}"#);
    add(name, "array-for-object", br#"{"link_key":["vyr-a"]}"#);
    add(name, "noise", b"Welcome to nas!\n");
    add(name, "endless", b"vyrn\xff\xff\xff\xff{");
}

fn images(add: Add<'_>) {
    use vyr_fuzz::image::{seed_documents, seed_index, seed_layers};
    let layers = seed_layers();
    add("image_layers", "three", &layers);
    add("image_layers", "cut", &layers[..1700]);
    // One entry's name and kind; the target repairs checksums.
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = layers.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    for (name, kind) in [("pipe", b'6'), ("sparse", b'S'), ("block", b'4'), ("global", b'g')] {
        add("image_layers", name, &with(512 + 156, &[kind]));
    }
    add("image_layers", "up", &with(512, b"../x\0"));
    add("image_layers", "twice", &with(512, b"lib\0"));
    add("image_layers", "zeros", &[0; 2048]);
    add("image_documents", "image", &seed_documents());
    add("image_documents", "index", &seed_index());
}

fn archives(add: Add<'_>) {
    let good = seed_archive();
    add("import_tar", "good", &good);
    add("import_tar", "cut", &good[..good.len() / 2]);
    add("import_tar", "empty", b"");
    add("import_tar", "zeros", &[0; 1024]);
    add("import_tar", "gzip", &[&[0x1f, 0x8b, 8, 0], &good[4..600]].concat());
    // The target repairs checksums, so a changed header is a hostile one and not a broken one.
    let blob_at = good.windows(13).rposition(|window| window == b"blobs/sha256/").expect("a blob");
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    for (name, kind) in [
        ("hard-link", b'1'),
        ("soft-link", b'2'),
        ("device", b'3'),
        ("directory", b'5'),
        ("pipe", b'6'),
        ("contiguous", b'7'),
        ("long-name", b'L'),
        ("sparse", b'S'),
        ("extended", b'x'),
        ("global", b'g'),
    ] {
        add("import_tar", name, &with(blob_at + 156, &[kind]));
    }
    add("import_tar", "upwards", &with(blob_at, b"../../../etc/x\0"));
    add("import_tar", "absolute", &with(blob_at, b"/etc/passwd\0"));
    add("import_tar", "dotted", &with(0, b"./oci-layout\0"));
    add("import_tar", "twice", &with(1024, b"oci-layout\0"));
    add("import_tar", "bomb", &with(blob_at + 124, b"77777777777\0"));
    add("import_tar", "binary-size", &with(blob_at + 124, &[0x80, 0, 0, 0, 255, 255, 255, 255]));
    let mut pax = good[..512].to_vec();
    pax[..4].copy_from_slice(b"pax\0");
    pax[124..136].copy_from_slice(b"00000000016\0");
    pax[156] = b'x';
    let record = |text: &[u8]| {
        let mut block = text.to_vec();
        block.resize(512, 0);
        block
    };
    for (name, text) in [("pax-path", b"14 path=../xy\n"), ("pax-mtime", b"14 mtime=1.25\n")] {
        add("import_tar", name, &[&pax[..], &record(text), &good].concat());
    }

    let parts = |parts: [&str; 6]| texts(&parts);
    add(
        "round_trip",
        "full",
        &parts(["a-1.B", "--in\nx y", "A=b\n_C=", "db\ncache-1", "v1", "xy"]),
    );
    add("round_trip", "small", &parts(["a", "", "", "", "", ""]));
    add("round_trip", "escapes", &parts(["a", "\"\\\u{1}\u{7f}\u{20ac}", "A=\t", "", "\"", "x"]));
    add("round_trip", "bad-name", &parts(["a b", "", "", "", "", ""]));
    add("round_trip", "bad-states", &parts(["a", "", "1=2", "A\na\na", "", ""]));
}
