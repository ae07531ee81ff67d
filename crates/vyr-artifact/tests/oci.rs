//! What we write is read by `oci-spec`, another implementation of the OCI image specification,
//! and what it writes is read by us.

use oci_spec::image::{
    DescriptorBuilder, ImageManifest, ImageManifestBuilder, MediaType, Sha256Digest,
};
use vyr_artifact::{
    Artifact, Descriptor, Manifest, ManifestError, Namespace, Referrer, SIGNATURE_ARTIFACT_TYPE,
    Spec, WASM_CONFIG_TYPE, WASM_LAYER_TYPE, sign,
};
use vyr_base::Digest;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn artifact() -> Artifact {
    let spec = Spec {
        name: "wordcount".into(),
        args: vec!["--top".into(), "3".into()],
        ..Spec::default()
    };
    Artifact::build(&spec, MODULE).expect("valid")
}

fn describes(found: &oci_spec::image::Descriptor, expected: &Descriptor) -> bool {
    found.size() == expected.size && found.digest().to_string() == expected.digest.to_string()
}

#[test]
fn our_manifests_are_oci_manifests() {
    let Artifact { manifest, config } = artifact();
    let read = ImageManifest::from_reader(manifest.bytes()).expect("an OCI manifest");
    assert_eq!(read.schema_version(), 2);
    assert_eq!(read.media_type(), &Some(MediaType::ImageManifest));
    assert_eq!(read.config().media_type().to_string(), WASM_CONFIG_TYPE);
    assert!(describes(read.config(), &Descriptor::of(&config)));
    assert_eq!(read.layers().len(), 1);
    assert_eq!(read.layers()[0].media_type().to_string(), WASM_LAYER_TYPE);
    assert!(describes(&read.layers()[0], manifest.wasm()));
    let annotations = read.annotations().clone().expect("has some");
    assert_eq!(annotations["org.opencontainers.image.title"], "wordcount");
    assert_eq!(annotations["vyr.args"], r#"["--top","3"]"#);
}

#[test]
fn our_referrers_are_oci_manifests() {
    let seed = ssh_key::private::Ed25519Keypair::from_seed(&[1; 32]);
    let armored = sign(&seed.into(), Namespace::Artifact, b"m").expect("signs");
    let subject = artifact().manifest.descriptor();
    let (manifest, layer) = Referrer::build(&subject, &armored).expect("a signature");
    let read = ImageManifest::from_reader(&manifest[..]).expect("an OCI manifest");
    assert_eq!(
        read.artifact_type().as_ref().expect("has one").to_string(),
        SIGNATURE_ARTIFACT_TYPE
    );
    assert_eq!(read.config().media_type(), &MediaType::EmptyJSON);
    assert!(describes(read.config(), &Descriptor::of(b"{}")));
    assert!(describes(&read.layers()[0], &Descriptor::of(&layer)));
    assert!(describes(read.subject().as_ref().expect("has one"), &subject));
}

/// A manifest as `oci-spec` writes it.
fn theirs(config_type: &str) -> Vec<u8> {
    let describe = |media_type: &str, bytes: &[u8]| {
        let digest: Sha256Digest = Digest::of(bytes).hex().parse().expect("hex");
        DescriptorBuilder::default()
            .media_type(MediaType::from(media_type))
            .size(bytes.len() as u64)
            .digest(digest)
            .build()
            .expect("a descriptor")
    };
    ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(describe(config_type, b"{}"))
        .layers(vec![describe(WASM_LAYER_TYPE, MODULE)])
        .build()
        .and_then(|manifest| manifest.to_string_pretty())
        .expect("a manifest")
        .into_bytes()
}

#[test]
fn manifests_of_others_are_read() {
    let bytes = theirs(WASM_CONFIG_TYPE);
    let manifest = Manifest::parse(&bytes).expect("valid");
    assert_eq!(*manifest.wasm(), Descriptor::of(MODULE));
    assert_eq!(manifest.digest(), Digest::of(&bytes));
    assert_eq!(manifest.name(), &manifest.digest().hex()[..12]);
    let container = theirs("application/vnd.oci.image.config.v1+json");
    assert!(matches!(Manifest::parse(&container), Err(ManifestError::ContainerImage)));
}
