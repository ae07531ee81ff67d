//! Targets of `vyr-artifact` that decide about trust: signatures, trust files, the verdict.

use std::str;

use jiff::Timestamp;
use ssh_key::PublicKey;
use vyr_artifact::{
    AllowedSigner, AllowedSigners, Namespace, RevokedKeys, SIGNATURE_BYTES_MAX, Signature, Signer,
    TrustError, TrustFileError, TrustPolicy,
};
use vyr_base::Problem as _;

use crate::base64;
use crate::checks::{problem, refusal};
use crate::keys::KEYS;
use crate::sections::parts;
use crate::sshsig::{SshSig, armor, key_id, lines, unarmor, words};

/// The kinds of key that are accepted.
const ACCEPTED: [&[u8]; 5] = [
    b"ssh-ed25519",
    b"sk-ssh-ed25519@openssh.com",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
];

/// Most faults that are told, and longest line that is read.
const FAULTS_MAX: usize = 200;
const COLUMN_MAX: usize = (8 << 10) + 1;

/// The moment of every verdict.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_781_524_800).expect("June 2026")
}

/// A signature that is read says what a second, strict reader finds in it.
pub fn signature(input: &[u8]) {
    let signature = match Signature::parse(input) {
        Ok(signature) => signature,
        Err(error) => return problem(&error),
    };
    assert!(input.len() <= SIGNATURE_BYTES_MAX);
    let text = str::from_utf8(input).expect("an armor is ASCII");
    assert!(text.is_ascii());
    let blob = unarmor(input);
    let fields = blob.as_deref().and_then(SshSig::read);
    let Some((blob, fields)) = blob.as_ref().zip(fields) else {
        // Only kinds that are never accepted may have a second spelling.
        let kind = signature_kind(input);
        assert!(!ACCEPTED.iter().any(|name| kind == Some(name.to_vec())), "{signature:?}");
        return;
    };
    assert_eq!(signature.namespace().as_bytes(), fields.namespace);
    assert_eq!(signature.key_id().as_str(), key_id(&fields.key));
    for (columns, line_end) in [(70, "\n"), (70, "\r\n"), (1, "\n"), (4096, "\n")] {
        let other = armor(blob, columns, line_end);
        if other.len() <= SIGNATURE_BYTES_MAX {
            let again = Signature::parse(other.as_bytes()).expect("the same with other lines");
            assert_eq!(again, signature);
        }
    }
}

/// The kind of key of a signature whose lengths may be wrong.
fn signature_kind(armored: &[u8]) -> Option<Vec<u8>> {
    let blob = unarmor(armored)?;
    let length = *blob.get(17)?;
    blob.get(18..18 + usize::from(length)).map(<[u8]>::to_vec)
}

/// A list of signers that is accepted has the keys its lines show, and is read as it is written.
pub fn allowed_signers(input: &[u8]) {
    let signers = match AllowedSigners::parse(input) {
        Ok(signers) => signers,
        Err(error) => return faults(input, &error),
    };
    // Only a comment may be no UTF-8.
    let file = String::from_utf8_lossy(input);
    let expected: Vec<_> = lines(&file).collect();
    let numbers: Vec<_> = signers.entries().iter().map(AllowedSigner::line).collect();
    let all: Vec<_> = expected.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, all, "a line was passed over");
    for (entry, (_, line)) in signers.entries().iter().zip(expected) {
        let words = words(line).expect("a line that says something");
        let (kind, data) = entry.public_key().split_once(' ').expect("KIND DATA");
        assert!(words.contains(&kind) && words.contains(&data), "{line}");
        assert!(ACCEPTED.contains(&kind.as_bytes()));
        let blob = base64::decode(data).expect("one spelling");
        assert_eq!(entry.key_id().as_str(), key_id(&blob));
        let listed = words[0].split(',').any(|pattern| pattern == entry.principal());
        assert!(listed && !entry.principal().is_empty(), "{line}");
        if let (Some(after), Some(before)) = (entry.valid_after(), entry.valid_before()) {
            assert!(after < before);
        }
        let known = PublicKey::from_openssh(entry.public_key()).expect("a key");
        assert_eq!(known.to_openssh().ok().as_deref(), Some(entry.public_key()));
        written(entry);
    }
}

/// What is shown of an entry is a line with the same meaning.
fn written(entry: &AllowedSigner) {
    let line = format!("{entry}\n");
    let again = AllowedSigners::parse(line.as_bytes())
        .unwrap_or_else(|error| panic!("{line:?} is shown and cannot be read: {error}"));
    let [read] = again.entries() else { panic!("{line:?} is shown for one entry") };
    assert_eq!(read.principal(), entry.principal());
    assert_eq!(read.public_key(), entry.public_key());
    assert_eq!(read.namespaces(), entry.namespaces());
    assert_eq!(read.valid_after(), entry.valid_after());
    assert_eq!(read.valid_before(), entry.valid_before());
}

/// The faults of a file are bounded, lie in it, and come in its order.
fn faults(input: &[u8], error: &TrustFileError) {
    assert!((1..=FAULTS_MAX).contains(&error.faults.len()));
    let last = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    for fault in &error.faults {
        assert!((1..=last).contains(&fault.line), "{fault}");
        assert!((1..=COLUMN_MAX).contains(&fault.column), "{fault}");
        refusal(&fault.kind);
        assert_ne!(fault.kind.hint().as_deref(), Some(""));
    }
    let places = error.faults.iter().map(|fault| fault.line);
    assert!(places.is_sorted(), "faults are not in the file's order: {error}");
    assert!((1..=7).contains(&error.category().exit_code()));
    assert!(!error.to_string().is_empty());
}

/// A list of revoked keys that is accepted holds the key of every line, and no other.
pub fn revoked_keys(input: &[u8]) {
    let revoked = match RevokedKeys::parse(input) {
        Ok(revoked) => revoked,
        Err(error) => return faults(input, &error),
    };
    let text = String::from_utf8_lossy(input);
    let mut listed: Vec<String> = Vec::new();
    for (_, line) in lines(&text) {
        let words = words(line).expect("a line that says something");
        let line = words[..2].join(" ");
        let key = PublicKey::from_openssh(&line).expect("a line with a key");
        assert!(revoked.contains(&key), "{line} was passed over");
        listed.push(line);
    }
    listed.sort_unstable();
    listed.dedup();
    assert_eq!((revoked.len(), revoked.is_empty()), (listed.len(), listed.is_empty()));
    for key in KEYS.iter() {
        assert_eq!(revoked.contains(key.public()), listed.contains(&key.line()));
    }
}

/// Parts: allowed signers, revoked keys, message, armored signature.
///
/// Nothing is accepted that a key of the list, asked again, would not sign the same.
pub fn trust(input: &[u8]) {
    let [signers_file, revoked_file, message, armored] = parts(input);
    let (Ok(signers), Ok(revoked)) =
        (AllowedSigners::parse(signers_file), RevokedKeys::parse(revoked_file))
    else {
        return;
    };
    let policy = TrustPolicy { signers, revoked };
    let verify = |message: &[u8]| policy.verify(Namespace::Artifact, message, armored, now());
    let verdict = verify(message);
    let any = policy.verify_any(Namespace::Artifact, message, &[b"x", armored], now());
    assert_eq!(any.ok(), verdict.as_ref().ok().cloned());
    let signer = match verdict {
        Ok(signer) => signer,
        Err(error) => return problem(&error),
    };
    vouched(&signer, [signers_file, revoked_file, message, armored]);

    for namespace in Namespace::ALL.into_iter().filter(|other| *other != Namespace::Artifact) {
        let other = policy.verify(namespace, message, armored, now());
        assert!(matches!(other, Err(TrustError::WrongNamespace { .. })), "{namespace}");
    }
    let longer = [message, b"\n"].concat();
    assert!(matches!(verify(&longer), Err(TrustError::BadSignature { .. })));
    if let Some(rest) = message.get(1..) {
        assert!(matches!(verify(rest), Err(TrustError::BadSignature { .. })));
    }
    let revoked = RevokedKeys::parse(signer.public_key.as_bytes()).expect("a key as it is told");
    let without = TrustPolicy { signers: policy.signers, revoked };
    let refused = without.verify(Namespace::Artifact, message, armored, now());
    assert!(matches!(refused, Err(TrustError::Revoked { .. })), "{refused:?}");
    let nobody = TrustPolicy::default().verify(Namespace::Artifact, message, armored, now());
    assert!(matches!(nobody, Err(TrustError::UnknownKey { .. })), "{nobody:?}");
}

/// The independent check of a signature that was accepted.
///
/// An ECDSA signature `(r, s)` has a twin, `(r, n - s)`, that verifies as well and that its key
/// would not make; no mutation comes upon it.
fn vouched(signer: &Signer, [signers, revoked, message, armored]: [&[u8]; 4]) {
    let blob = unarmor(armored).expect("an armored signature");
    let signature = SshSig::read(&blob).expect("a signature in its one spelling");
    assert_eq!(signature.namespace, b"vyr-artifact");
    assert_eq!(signer.key_id.as_str(), key_id(&signature.key));
    let kind = signature.kind().expect("a kind of key");
    let kind = str::from_utf8(kind).expect("an accepted kind");
    assert_eq!(signer.public_key, format!("{kind} {}", base64::encode(&signature.key)));

    let signers = String::from_utf8_lossy(signers);
    let of_signer = |words: &Vec<&str>| holds(words, &signer.public_key);
    let mut names = lines(&signers).filter_map(|(_, line)| words(line)).filter(of_signer);
    let named = names.any(|words| words[0].split(',').any(|name| name == signer.principal));
    assert!(named, "{signer:?} is on no line");
    let revoked = String::from_utf8_lossy(revoked);
    assert!(!lines(&revoked).filter_map(|(_, line)| words(line)).any(|words| of_signer(&words)));

    let data = signature.signed_data(message).expect("a hash we know");
    let key = KEYS.iter().find(|key| key.blob() == signature.key);
    let key = key.expect("nobody else can sign, and yet a signature was accepted");
    assert!(key.makes(&signature.raw, &data), "a key did not make a signature that was accepted");
}

/// Whether a line's words have this `KIND DATA`.
pub(crate) fn holds(words: &[&str], key: &str) -> bool {
    words.windows(2).any(|pair| key.split_once(' ') == Some((pair[0], pair[1])))
}
