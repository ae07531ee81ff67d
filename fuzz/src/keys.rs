//! The keys of the corpora. Everybody has their private halves, so a target can ask a key whether
//! a signature is its own: all of them sign deterministically.

use std::sync::LazyLock;

use ssh_key::private::Ed25519Keypair;
use ssh_key::public::{KeyData, SkEd25519};
use ssh_key::rand_core::{self, CryptoRng, RngCore};
use ssh_key::{Algorithm, EcdsaCurve, PrivateKey, PublicKey, SigningKey};
use vyr_artifact::{Namespace, from_agent, sign, signature_request};
use vyr_base::Digest;

use crate::sshsig::{string, wire};

const SK_KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
const SK_APPLICATION: &str = "ssh:";
const USER_PRESENT: u8 = 1;

/// A key of the corpora.
pub struct Key {
    private: PrivateKey,
    public: PublicKey,
}

/// Ed25519 twice, P-256, P-384, and an Ed25519 key that is as if on a security key.
///
/// No P-521: the library signs with it at random, so nobody could say what is its own.
pub static KEYS: LazyLock<[Key; 5]> = LazyLock::new(|| {
    let sk = ed25519(9);
    let inner = sk.public_key().key_data().ed25519().copied().expect("an Ed25519 key");
    let sk_public = KeyData::SkEd25519(SkEd25519::new(inner, SK_APPLICATION));
    [
        Key::new(ed25519(1)),
        Key::new(ed25519(2)),
        Key::new(ecdsa(EcdsaCurve::NistP256)),
        Key::new(ecdsa(EcdsaCurve::NistP384)),
        Key { private: sk, public: PublicKey::from(sk_public) },
    ]
});

/// A signature of the first key, the same at every call.
pub(crate) fn signed_seed() -> &'static str {
    static SIGNED: LazyLock<String> =
        LazyLock::new(|| KEYS[0].sign(Namespace::Artifact, b"any message"));
    &SIGNED
}

/// The `KIND DATA` of a P-521 key, which signs nothing here.
pub fn p521_line() -> String {
    Key::new(ecdsa(EcdsaCurve::NistP521)).line()
}

impl Key {
    fn new(private: PrivateKey) -> Self {
        let mut public = private.public_key().clone();
        public.set_comment("");
        Self { private, public }
    }

    /// `KIND DATA`.
    pub fn line(&self) -> String {
        self.public.to_openssh().expect("a key we made has an encoding")
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// An armored signature of `message`, the same for the same arguments.
    pub fn sign(&self, namespace: Namespace, message: &[u8]) -> String {
        if self.is_sk() {
            let raw = self.touch(USER_PRESENT, &signature_request(namespace, message));
            return from_agent(&self.public, namespace, &raw).expect("an agent's answer");
        }
        sign(&self.private, namespace, message).expect("a kind of key that signs")
    }

    /// An armored signature by a security key that nobody touched.
    pub fn sign_untouched(&self, namespace: Namespace, message: &[u8]) -> String {
        let raw = self.touch(0, &signature_request(namespace, message));
        from_agent(&self.public, namespace, &raw).expect("an agent's answer")
    }

    /// The public key on the wire.
    pub(crate) fn blob(&self) -> Vec<u8> {
        self.public.to_bytes().expect("a key we made has an encoding")
    }

    /// Whether this key, asked again to sign `data`, gives exactly this raw signature; a security
    /// key has to say that it was touched.
    pub(crate) fn makes(&self, raw: &[u8], data: &[u8]) -> bool {
        if !self.is_sk() {
            return raw_signature(&self.private, data) == raw;
        }
        match raw {
            [.., flags, _, _, _, _] if flags & USER_PRESENT != 0 => {
                let counter = &raw[raw.len() - 4..];
                self.touch_at(*flags, counter, data) == raw
            }
            _ => false,
        }
    }

    fn is_sk(&self) -> bool {
        matches!(self.public.key_data(), KeyData::SkEd25519(_))
    }

    fn touch(&self, flags: u8, data: &[u8]) -> Vec<u8> {
        self.touch_at(flags, &[0, 0, 0, 7], data)
    }

    /// What a FIDO authenticator does, in software (PROTOCOL.u2f).
    fn touch_at(&self, flags: u8, counter: &[u8], data: &[u8]) -> Vec<u8> {
        let application = Digest::of(SK_APPLICATION.as_bytes());
        let message = Digest::of(data);
        let data = [&application.as_bytes()[..], &[flags], counter, message.as_bytes()].concat();
        let plain = raw_signature(&self.private, &data);
        let mut rest = &plain[..];
        let signature = string(&mut rest).and_then(|_kind| string(&mut rest));
        let signature = signature.expect("an Ed25519 signature has two fields");
        [wire(SK_KIND), wire(signature), vec![flags], counter.to_vec()].concat()
    }
}

fn raw_signature(key: &impl SigningKey, data: &[u8]) -> Vec<u8> {
    let signature = key.try_sign(data).expect("a kind of key that signs");
    signature.try_into().expect("a signature has an encoding")
}

fn ed25519(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn ecdsa(curve: EcdsaCurve) -> PrivateKey {
    PrivateKey::random(&mut Counter(1), Algorithm::Ecdsa { curve }).expect("a key")
}

/// Not random at all, which is what a corpus wants of a key.
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
