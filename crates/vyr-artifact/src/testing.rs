//! What the unit tests of several modules share: Wasm heads, keys from fixed seeds, strategies.

use proptest::prelude::*;
use serde_json::json;
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::rand_core::{self, CryptoRng, RngCore};
use ssh_key::{Algorithm, EcdsaCurve};
use vyr_base::Digest;

use crate::manifest::Manifest;
use crate::oci::{IMAGE_MANIFEST_TYPE, WASM_CONFIG_TYPE, WASM_LAYER_TYPE};
use crate::spec::Spec;

/// The smallest module.
pub(crate) const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// The smallest component.
pub(crate) const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A manifest around [`MODULE`] whose config blob is `config`.
pub(crate) fn manifest_with_config(config: &[u8]) -> Manifest {
    let value = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST_TYPE,
        "config": {
            "mediaType": WASM_CONFIG_TYPE, "digest": Digest::of(config), "size": config.len(),
        },
        "layers": [{
            "mediaType": WASM_LAYER_TYPE, "digest": Digest::of(MODULE), "size": MODULE.len(),
        }],
    });
    Manifest::parse(value.to_string().as_bytes()).expect("a valid manifest")
}

/// An Ed25519 key, the same for the same seed.
pub(crate) fn ed25519(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// An ECDSA key, the same at every call.
pub(crate) fn ecdsa(curve: EcdsaCurve) -> PrivateKey {
    PrivateKey::random(&mut Counter(1), Algorithm::Ecdsa { curve }).expect("a key")
}

/// `ssh-ed25519 AAAA...` of a key, without comment.
pub(crate) fn public_line(key: &PrivateKey) -> String {
    let mut public = key.public_key().clone();
    public.set_comment("");
    public.to_openssh().expect("encodes")
}

/// Not random at all, which is what a test wants of a key.
struct Counter(u64);

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Small enough that a P-521 scalar below the order comes quickly.
            *byte = u8::try_from(self.0 >> 58).expect("six bits");
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Counter {}

/// Specs that keep every rule.
pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let text = "[^\0]{0,12}";
    (
        "[A-Za-z0-9][A-Za-z0-9._-]{0,20}",
        prop::collection::vec(text, 0..5),
        prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,8}", text, 0..5),
        prop::collection::btree_set("[a-z][a-z0-9-]{0,31}", 0..4),
    )
        .prop_map(|(name, args, env, states)| Spec {
            name,
            args,
            env,
            states: states.into_iter().collect(),
        })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An armored signature around any blob, with lines of `columns` characters.
pub(crate) fn armor(blob: &[u8], columns: usize) -> String {
    let mut text = Vec::new();
    for chunk in blob.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * n) & 63).expect("six bits");
            text.push(if n <= chunk.len() { BASE64[digit] } else { b'=' });
        }
    }
    let lines: Vec<_> =
        text.chunks(columns).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let body = lines.join("\n");
    format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n")
}

/// The blob inside an armored signature.
pub(crate) fn unarmor(armored: &str) -> Vec<u8> {
    let digits = armored.lines().filter(|line| !line.starts_with('-')).flat_map(str::bytes);
    let digits: Vec<_> =
        digits.filter_map(|c| BASE64.iter().position(|&digit| digit == c)).collect();
    let bytes = digits.chunks(4).flat_map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - chunk.len()));
        bits.to_be_bytes()[5..5 + chunk.len() * 6 / 8].to_vec()
    });
    bytes.collect()
}

/// A length-prefixed string of the SSH wire format.
pub(crate) fn wire(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes(), bytes].concat()
}

/// The signature `key` makes over exactly `data`, as an agent answers it.
pub(crate) fn raw_signature(key: &impl ssh_key::SigningKey, data: &[u8]) -> Vec<u8> {
    key.try_sign(data).expect("signs").try_into().expect("encodes")
}
