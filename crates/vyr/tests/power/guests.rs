//! What is put into the node: artifacts, inputs, and the outputs that follow from them.

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, PrivateKey};
use vyr_api::control::ArtifactHead;
use vyr_api::control::put_artifact_request::Part;
use vyr_artifact::{Artifact, Namespace, Spec, sign, signed_bytes};
use vyr_base::Digest;

use crate::random::Random;

/// Flips bits of every byte: an output is never its input, and never another task's.
const FLIP: u8 = 0x5a;

/// The same in a guest, 64 KiB at a time.
const WAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read"
        (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start") (local $n i32) (local $i i32)
        (loop $more
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 65536))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
                (then (unreachable)))
            (local.set $n (i32.load (i32.const 8)))
            (if (i32.eqz (local.get $n)) (then (return)))
            (local.set $i (i32.const 0))
            (loop $flip
                (i32.store8 offset=1024 (local.get $i)
                    (i32.xor (i32.load8_u offset=1024 (local.get $i)) (i32.const 0x5a)))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $flip (i32.lt_u (local.get $i) (local.get $n))))
            (local.set $i (i32.const 0))
            (loop $out
                (i32.store (i32.const 0) (i32.add (i32.const 1024) (local.get $i)))
                (i32.store (i32.const 4) (i32.sub (local.get $n) (local.get $i)))
                (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then (unreachable)))
                (local.set $i (i32.add (local.get $i) (i32.load (i32.const 8))))
                (br_if $out (i32.lt_u (local.get $i) (local.get $n))))
            (br $more))))"#;

/// An input above this is put into the store first; the node's limit for one in a message.
const INLINE_BYTES_MAX: u64 = 64 << 10;

/// The signer that the machine trusts.
pub(crate) struct Signer(PrivateKey);

impl Signer {
    pub(crate) fn new() -> Self {
        Self(PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("a key"))
    }

    /// The machine's `allowed_signers`.
    pub(crate) fn trust(&self) -> String {
        let key = self.0.public_key().to_openssh().expect("a public key");
        format!("ana@example.org namespaces=\"vyr-artifact\" {key}\n")
    }

    /// An artifact of this name, as the messages of a put; its digest first.
    pub(crate) fn artifact(&self, name: &str) -> (String, Vec<Part>) {
        let wasm = wat::parse_str(WAT).expect("valid text");
        let spec = Spec { name: name.to_owned(), ..Spec::default() };
        let Artifact { manifest, config } = Artifact::build(&spec, &wasm).expect("an artifact");
        let digest = manifest.digest();
        let signature = sign(&self.0, Namespace::Artifact, &signed_bytes(&digest)).expect("signed");
        let mut parts = vec![Part::Head(ArtifactHead {
            digest: digest.to_string(),
            manifest: manifest.bytes().to_vec().into(),
            signature: signature.into_bytes().into(),
        })];
        for blob in [config, wasm] {
            parts.push(Part::BlobDigest(Digest::of(&blob).to_string()));
            parts.push(Part::Chunk(blob.into()));
        }
        (digest.to_string(), parts)
    }
}

/// The input that is submitted under `key`, which is not kept anywhere: it follows from the key.
/// Keys that begin with `large` have one that goes through the store.
pub(crate) fn input_of(key: &str) -> Vec<u8> {
    let seed = Digest::of(key.as_bytes());
    let mut random =
        Random::seeded(u64::from_le_bytes(seed.as_bytes()[..8].try_into().expect("8 bytes")));
    let length = match random.below(8) {
        _ if key.starts_with("large") => INLINE_BYTES_MAX + 1 + random.below(200_000),
        // Many pages of the journal.
        0 => INLINE_BYTES_MAX - random.below(30_000),
        _ => 1 + random.below(1_500),
    };
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(usize::try_from(length).expect("short"));
    bytes
}

/// What the guest makes of it.
pub(crate) fn output_of(input: &[u8]) -> Vec<u8> {
    input.iter().map(|byte| byte ^ FLIP).collect()
}
