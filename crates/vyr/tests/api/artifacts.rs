//! `PutArtifact`, and what is refused: nothing of a refused artifact is kept.

use serde_json::json;
use tonic::Code;
use vyr_api::ApiError;
use vyr_api::control::put_artifact_request::Part;
use vyr_artifact::{Namespace, Spec, sign, signed_bytes};
use vyr_base::Digest;

use crate::daemon::{Daemon, Signed, block, new_key, put, put_blob, refused, wait};

/// A change to the messages of a put that is otherwise right.
type Defect = fn(&Daemon, &mut Vec<Part>);

fn head(parts: &mut [Part]) -> &mut vyr_api::control::ArtifactHead {
    match parts.first_mut() {
        Some(Part::Head(head)) => head,
        other => panic!("{other:?} is no head"),
    }
}

const DEFECTS: [(&str, Defect, &str, &str); 13] = [
    (
        "another digest",
        |_, parts| head(parts).digest = Digest::of(b"another").to_string(),
        "auth",
        "digest is not",
    ),
    (
        "a digest of another form",
        |_, parts| head(parts).digest = "md5:00".to_owned(),
        "usage",
        "sha256",
    ),
    ("no signature", |_, parts| head(parts).signature.clear(), "auth", "refused"),
    (
        "a signature by a stranger",
        |_, parts| {
            let head = head(parts);
            let digest: Digest = head.digest.parse().expect("a digest");
            let signed = sign(&new_key(), Namespace::Artifact, &signed_bytes(&digest));
            head.signature = signed.expect("signed").into_bytes().into();
        },
        "auth",
        "not in the list of allowed signers",
    ),
    (
        "a signature for something else",
        |daemon, parts| {
            let signed = sign(&daemon.key, Namespace::Plan, head(parts).digest.as_bytes());
            head(parts).signature = signed.expect("signed").into_bytes().into();
        },
        "auth",
        "refused",
    ),
    (
        "a flipped bit of a blob",
        |_, parts| {
            let Some(Part::Chunk(bytes)) = parts.last_mut() else { panic!("a chunk") };
            let mut flipped = bytes.to_vec();
            flipped[0] ^= 1;
            *bytes = flipped.into();
        },
        "usage",
        "send the exact bytes",
    ),
    (
        "a blob that is too short",
        |_, parts| {
            let Some(Part::Chunk(bytes)) = parts.last_mut() else { panic!("a chunk") };
            let _ = bytes.split_off(bytes.len() - 1);
        },
        "usage",
        "sha256:",
    ),
    (
        "a blob that is too long",
        |_, parts| parts.push(Part::Chunk(vec![0].into())),
        "usage",
        "blob",
    ),
    ("a missing blob", |_, parts| parts.truncate(3), "usage", "did not come"),
    ("no blob", |_, parts| parts.truncate(1), "usage", "did not come"),
    (
        "an extra blob",
        |_, parts| {
            parts.push(Part::BlobDigest(Digest::of(b"extra").to_string()));
            parts.push(Part::Chunk(b"extra".to_vec().into()));
        },
        "usage",
        "not a blob that the manifest names",
    ),
    (
        "a chunk of more than 1 MiB",
        |_, parts| parts[2] = Part::Chunk(vec![0; (1 << 20) + 1].into()),
        "usage",
        "1 MiB",
    ),
    ("a second head", |_, parts| parts.push(parts[0].clone()), "usage", "second head"),
];

#[test]
fn a_put_with_a_defect_is_refused_and_nothing_is_kept() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let signed = daemon.signed("hello", &[]);
        for (what, defect, category, word) in DEFECTS {
            let mut parts = signed.parts();
            defect(&daemon, &mut parts);
            let error = refused(put(&mut client, parts).await, category, &[word]);
            assert!(!error.retryable, "{what}: {error:?}");
            let submitted = client.submit(&signed.head.digest, b"").await;
            assert_eq!(submitted.expect_err(what).category, "not_found", "{what}");
        }
        // Without a defect it is taken, and runs.
        let stored = put(&mut client, signed.parts()).await.expect("put");
        assert_eq!(stored.digest, signed.head.digest);
        assert_eq!((stored.signer.as_str(), stored.existed), ("ana@example.org", false));
        let task = client.submit(&stored.digest, b"").await.expect("accepted");
        assert_eq!(wait(&mut client, &task).await.1.exit_code, Some(0));
    });
}

#[test]
fn a_message_beyond_the_largest_ends_the_call() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let signed = daemon.signed("hello", &[]);
        let mut parts = signed.parts();
        parts[2] = Part::Chunk(vec![0; 3 << 20].into());
        let error = put(&mut client, parts).await.expect_err("too large");
        assert_eq!(error.code, Code::OutOfRange, "{error:?}");
        put(&mut client, signed.parts()).await.expect("the connection goes on");
    });
}

#[test]
fn a_second_put_finds_the_first() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let signed = daemon.signed("hello", &[]);
        assert!(!put(&mut client, signed.parts()).await.expect("put").existed);
        assert!(put(&mut client, signed.parts()).await.expect("put").existed);
        // Blobs that are here need not come again.
        let short = vec![Part::Head(signed.head.clone())];
        assert!(put(&mut client, short).await.expect("put").existed);
        // Being here is no reason to believe a stranger.
        let spec = Spec { name: "hello".to_owned(), ..Spec::default() };
        let stranger = Signed::new(&spec, &new_key());
        assert_eq!(stranger.head.digest, signed.head.digest);
        refused(put(&mut client, stranger.parts()).await, "auth", &["allowed signers"]);
    });
}

#[test]
fn artifacts_share_blobs_and_the_bytes_sent_are_checked_all_the_same() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        put(&mut client, daemon.signed("probe", &["echo"]).parts()).await.expect("put");
        // The same module with another argument: its blobs are here already.
        let second = daemon.signed("probe", &["exit", "7"]);
        let mut flipped = second.clone();
        flipped.blobs[1].1[100] ^= 1;
        refused(put(&mut client, flipped.parts()).await, "usage", &["are others"]);
        let mut long = second.clone();
        long.blobs[1].1.push(0);
        refused(put(&mut client, long.parts()).await, "usage", &["are others"]);
        let second = put(&mut client, second.parts()).await.expect("put");
        assert!(!second.existed);
        let task = client.submit(&second.digest, b"").await.expect("accepted");
        assert_eq!(wait(&mut client, &task).await.1.exit_code, Some(7));
    });
}

#[test]
fn a_put_onto_a_blob_that_lost_a_byte_is_not_acknowledged() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let signed = daemon.signed("hello", &[]);
        put(&mut client, signed.parts()).await.expect("put");
        let (digest, wasm) = &signed.blobs[1];
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let path = daemon.data().join("store/blobs/sha256").join(hex);
        let mut flipped = wasm.clone();
        flipped[100] ^= 1;
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, flipped).expect("written");
        let again = put(&mut client, signed.parts()).await;
        refused(again, "auth", &["tampered", "remove the store's copy"]);
        // As the hint says.
        std::fs::remove_file(&path).expect("removed");
        assert!(!put(&mut client, signed.parts()).await.expect("put").existed);
        assert_eq!(&std::fs::read(&path).expect("there"), wasm);
    });
}

/// The manifest of a container image, as registries serve it.
fn container() -> Vec<u8> {
    let blob = |kind: &str, name: &[u8]| json!({"digest": Digest::of(name).to_string(), "mediaType": kind, "size": name.len()});
    let manifest = json!({
        "config": blob("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar+gzip", b"layer")],
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "schemaVersion": 2,
    });
    manifest.to_string().into_bytes()
}

/// An index of images for two platforms.
fn container_index() -> Vec<u8> {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let one = |arch: &str| json!({"digest": Digest::of(arch.as_bytes()).to_string(), "mediaType": kind, "platform": {"architecture": arch, "os": "linux"}, "size": 7});
    let index = json!({
        "manifests": [one("amd64"), one("arm64")],
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "schemaVersion": 2,
    });
    index.to_string().into_bytes()
}

#[test]
fn a_container_image_is_an_unsupported_artifact() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        for manifest in [container(), container_index()] {
            let digest = Digest::of(&manifest);
            // Signed by somebody we trust, so that nothing else is wrong with it.
            let signature = sign(&daemon.key, Namespace::Artifact, &signed_bytes(&digest));
            let head = vyr_api::control::ArtifactHead {
                digest: digest.to_string(),
                manifest: manifest.clone().into(),
                signature: signature.expect("signed").into_bytes().into(),
            };
            let put = put(&mut client, vec![Part::Head(head)]).await;
            unsupported(refused(put, "unsupported_artifact", &[&digest.to_string()]));
            assert_eq!(put_blob(&mut client, &manifest).await, digest.to_string());
            let submitted = client.submit(&digest.to_string(), b"").await;
            unsupported(refused(submitted, "unsupported_artifact", &[&digest.to_string()]));
        }
        // Other bytes of the store are no artifact, and no container either.
        let digest = put_blob(&mut client, b"bytes").await;
        let other = client.submit(&digest, b"").await.expect_err("no artifact");
        assert_ne!(other.category, "unsupported_artifact", "{other:?}");
    });
}

fn unsupported(error: ApiError) {
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.hint.expect("a hint").contains("vyr deploy"));
    assert!(!error.retryable);
}
