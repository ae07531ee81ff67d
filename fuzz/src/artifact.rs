//! Targets of `vyr-artifact` that read JSON and Wasm: strict JSON, manifests, configs, referrers.

use serde_json::{Value, json};
use vyr_artifact::{
    Artifact, CONFIG_BYTES_MAX, ConfigError, Descriptor, IMAGE_MANIFEST_TYPE, MANIFEST_BYTES_MAX,
    Manifest, ManifestError, Referrer, SIGNATURE_ARTIFACT_TYPE, SIGNATURE_BYTES_MAX,
    SIGNATURE_LAYER_TYPE, Signature, Spec, WASM_BYTES_MAX, WASM_CONFIG_TYPE, WASM_LAYER_TYPE,
    WasmKind, check_config, check_head,
};
use vyr_base::Digest;

use crate::checks::{colons, describes, keys, problem, short};
use crate::keys::signed_seed;
use crate::sections::parts;

/// The smallest module and the smallest component.
pub const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// See [`MODULE`].
pub const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Room that a manifest we build may need beyond the one it was read from: a title and digits.
const REBUILD_BYTES: usize = 200;

/// Strict JSON is JSON in which no key is lost; what is taken is what serde_json reads.
pub fn strict_json(input: &[u8]) {
    let plain = serde_json::from_slice::<Value>(input).ok();
    let unique = plain.as_ref().is_some_and(|value| keys(value) == colons(input));
    match vyr_artifact::strict_json(input) {
        Ok(value) => {
            assert!(unique, "a document with a key twice was taken");
            assert_eq!(Some(value), plain);
        }
        Err(error) => {
            assert!(!unique, "a document without a key twice was refused: {error:?}");
            problem(&error);
        }
    }
}

/// A manifest that is accepted says the same to a second reader, and its spec builds one again.
pub fn manifest(input: &[u8]) {
    let manifest = match Manifest::parse(input) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(["unsupported_artifact", "invalid_artifact"].contains(&error.code()));
            return problem(&error);
        }
    };
    assert!(input.len() <= MANIFEST_BYTES_MAX);
    assert_eq!(manifest.bytes(), input);
    assert_eq!(manifest.digest(), Digest::of(input));
    assert_eq!(manifest.descriptor(), Descriptor::of(input));
    assert!((2..=CONFIG_BYTES_MAX).contains(&manifest.config().size));
    assert!((8..=WASM_BYTES_MAX).contains(&manifest.wasm().size));
    same_manifest(&manifest, input);
    allowed(manifest.spec());
    assert_eq!(manifest.name(), manifest.spec().name);
    assert_eq!(manifest.args(), manifest.spec().args);
    assert_eq!(manifest.env(), &manifest.spec().env);
    assert_eq!(manifest.states(), manifest.spec().states);
    rebuilt(&manifest);
}

/// The document as a plain reader sees it.
fn same_manifest(manifest: &Manifest, input: &[u8]) {
    let value: Value = serde_json::from_slice(input).expect("an accepted manifest is JSON");
    assert_eq!(keys(&value), colons(input), "a manifest with a key twice was taken");
    assert_eq!(value["schemaVersion"], 2);
    assert_eq!(value["mediaType"], IMAGE_MANIFEST_TYPE);
    let layers = value["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 1);
    let links = [
        (&value["config"], WASM_CONFIG_TYPE, manifest.config()),
        (&layers[0], WASM_LAYER_TYPE, manifest.wasm()),
    ];
    for (link, media_type, blob) in links {
        assert!(describes(link, &blob.digest.to_string(), blob.size), "{link}");
        assert_eq!(link["mediaType"], media_type);
    }
    let annotations = &value["annotations"];
    if let Some(annotations) = annotations.as_object() {
        let ours = ["vyr.args", "vyr.env", "vyr.states"];
        let unknown = |key: &&String| key.starts_with("vyr.") && !ours.contains(&key.as_str());
        assert_eq!(annotations.keys().find(unknown), None);
    }
    let declared = |key: &str| {
        annotations[key].as_str().map(|text| serde_json::from_str::<Value>(text).expect("JSON"))
    };
    let spec = manifest.spec();
    assert_eq!(declared("vyr.args").unwrap_or_else(|| json!([])), json!(spec.args));
    assert_eq!(declared("vyr.env").unwrap_or_else(|| json!({})), json!(spec.env));
    assert_eq!(declared("vyr.states").unwrap_or_else(|| json!([])), json!(spec.states));
    let hex = manifest.digest().hex();
    let title = annotations["org.opencontainers.image.title"].as_str();
    assert_eq!(spec.name, title.unwrap_or(&hex[..12]));
}

/// The rules of a spec, written again.
fn allowed(spec: &Spec) {
    let word = |text: &str, first: fn(char) -> bool, rest: fn(char) -> bool| {
        let mut chars = text.chars();
        chars.next().is_some_and(first) && chars.all(rest)
    };
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    assert!(word(&spec.name, alphanumeric, |c| c.is_ascii_alphanumeric() || "._-".contains(c)));
    assert!(spec.name.len() <= 128);
    for (key, value) in &spec.env {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        assert!(word(key, letter, |c| c.is_ascii_alphanumeric() || c == '_'), "{key:?}");
        assert!(!value.contains('\0'));
    }
    assert!(spec.args.iter().all(|arg| !arg.contains('\0')));
    assert!(spec.args.len() <= 1024 && spec.env.len() <= 1024 && spec.states.len() <= 16);
    // As a C program counts them.
    let args: usize = spec.args.iter().map(|arg| format!("{arg}\0").len()).sum();
    let env: usize = spec.env.iter().map(|(key, value)| format!("{key}={value}\0").len()).sum();
    assert!(args + env <= 128 << 10);
    for (index, state) in spec.states.iter().enumerate() {
        let lower = |c: char| c.is_ascii_lowercase();
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(word(state, lower, rest) && state.len() <= 32, "{state:?}");
        assert!(!spec.states[..index].contains(state), "{state} is there twice");
    }
}

/// The manifest's spec builds an artifact that reads back to it, the same each time.
fn rebuilt(manifest: &Manifest) {
    for (wasm, kind) in [(MODULE, WasmKind::Module), (COMPONENT, WasmKind::Component)] {
        let built = match Artifact::build(manifest.spec(), wasm) {
            Ok(built) => built,
            Err(ManifestError::TooLarge { .. }) => {
                assert!(manifest.bytes().len() + REBUILD_BYTES > MANIFEST_BYTES_MAX);
                continue;
            }
            Err(error) => panic!("a spec that was read cannot be built: {error}"),
        };
        let again = Artifact::build(manifest.spec(), wasm).expect("as before");
        assert_eq!(built, again, "building is not deterministic");
        assert_eq!(built.manifest.spec(), manifest.spec());
        assert_eq!(*built.manifest.wasm(), Descriptor::of(wasm));
        let read = Manifest::parse(built.manifest.bytes()).expect("what is built is read");
        assert_eq!(read, built.manifest);
        assert_eq!(check_config(&read, &built.config).expect("its own config"), kind);
        check_head(kind, wasm).expect("its own binary");
    }
}

/// Parts: config, layer. A config is accepted only by the manifest that names it, and says what a
/// second reader sees.
pub fn wasm_config(input: &[u8]) {
    let [config, layer] = parts(input);
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST_TYPE,
        "config": {
            "mediaType": WASM_CONFIG_TYPE, "digest": Digest::of(config), "size": config.len(),
        },
        "layers": [{
            "mediaType": WASM_LAYER_TYPE, "digest": Digest::of(layer), "size": layer.len(),
        }],
    });
    let Ok(manifest) = Manifest::parse(document.to_string().as_bytes()) else {
        assert!(config.len() < 2 || config.len() as u64 > CONFIG_BYTES_MAX || layer.len() < 8);
        return;
    };
    let longer = [config, b" "].concat();
    for other in [&longer[..], &config[1..], b"{}", layer].into_iter().filter(|o| *o != config) {
        let refused = check_config(&manifest, other);
        assert!(matches!(refused, Err(ConfigError::Digest { .. })), "another config was taken");
    }
    let kind = match check_config(&manifest, config) {
        Ok(kind) => kind,
        Err(error) => {
            if let ConfigError::Architecture { found } | ConfigError::Os { found } = &error {
                short(found);
            }
            assert!((1..=7).contains(&vyr_base::Problem::category(&error).exit_code()));
            return;
        }
    };
    let value: Value = serde_json::from_slice(config).expect("an accepted config is JSON");
    assert_eq!(keys(&value), colons(config), "a config with a key twice was taken");
    assert_eq!((&value["architecture"], &value["os"]), (&json!("wasm"), &json!(kind.os())));
    let layers = &value["layerDigests"];
    assert!(layers.is_null() || *layers == json!([Digest::of(layer)]), "{layers}");
    assert_eq!(check_head(kind, layer).is_ok(), sniffed(layer) == Some(kind));
}

/// The kind of a binary is told from its first eight bytes and from nothing else.
pub fn wasm_head(input: &[u8]) {
    let expected = sniffed(input);
    match WasmKind::sniff(input) {
        Ok(kind) => {
            assert_eq!(Some(kind), expected);
            assert_eq!(WasmKind::from_os(kind.os()), Some(kind));
            assert_eq!(WasmKind::sniff(&input[..WasmKind::HEAD_BYTES]), Ok(kind));
        }
        Err(error) => {
            assert_eq!(expected, None);
            problem(&error);
            assert!(vyr_base::Problem::hint(&error).is_some());
        }
    }
    for kind in [WasmKind::Module, WasmKind::Component] {
        assert_eq!(check_head(kind, input).is_ok(), expected == Some(kind));
    }
}

fn sniffed(wasm: &[u8]) -> Option<WasmKind> {
    match wasm.get(..8)? {
        MODULE => Some(WasmKind::Module),
        COMPONENT => Some(WasmKind::Component),
        _ => None,
    }
}

/// Parts: a referrer manifest, an armored signature. What is accepted is built again the same.
pub fn referrer(input: &[u8]) {
    let [bytes, armored] = parts(input);
    match Referrer::parse(bytes) {
        Ok(referrer) => same_referrer(&referrer, bytes),
        Err(error) => problem(&error),
    }
    let Ok(armored) = std::str::from_utf8(armored) else { return };
    let subject = Descriptor::of(input);
    let built = Referrer::build(&subject, armored);
    assert_eq!(built.is_ok(), Signature::parse(armored.as_bytes()).is_ok());
    if let Ok((bytes, layer)) = built
        && (2..=MANIFEST_BYTES_MAX as u64).contains(&subject.size)
    {
        assert_eq!(layer, armored.as_bytes());
        let read = Referrer::parse(&bytes).expect("what is built is read");
        assert_eq!((read.subject(), *read.signature()), (&subject, Descriptor::of(&layer)));
        same_referrer(&read, &bytes);
    }
}

fn same_referrer(referrer: &Referrer, bytes: &[u8]) {
    assert_eq!(referrer.digest(), Digest::of(bytes));
    assert!((1..=SIGNATURE_BYTES_MAX as u64).contains(&referrer.signature().size));
    assert!((2..=MANIFEST_BYTES_MAX as u64).contains(&referrer.subject().size));
    let value: Value = serde_json::from_slice(bytes).expect("an accepted referrer is JSON");
    assert_eq!(keys(&value), colons(bytes), "a referrer with a key twice was taken");
    assert_eq!(value["artifactType"], SIGNATURE_ARTIFACT_TYPE);
    let layers = value["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0]["mediaType"], SIGNATURE_LAYER_TYPE);
    assert_eq!(value["subject"]["mediaType"], IMAGE_MANIFEST_TYPE);
    let empty = Descriptor::of(Referrer::EMPTY_CONFIG);
    let links = [
        (&layers[0], referrer.signature()),
        (&value["subject"], referrer.subject()),
        (&value["config"], &empty),
    ];
    for (link, blob) in links {
        assert!(describes(link, &blob.digest.to_string(), blob.size), "{link}");
    }
    let (built, _) = Referrer::build(referrer.subject(), signed_seed()).expect("a signature");
    let again = Referrer::parse(&built).expect("what is built is read");
    assert_eq!(again.subject(), referrer.subject());
}
