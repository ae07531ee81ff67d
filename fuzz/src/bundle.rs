//! The target of recovery bundles: what is in clear, and the lists that are inside.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vyr_artifact::{AllowedSigners, TrustPolicy};
use vyr_plan::bundle::{
    ARTIFACTS_BYTES_MAX, Approvals, Contents, ENTRIES_MAX, HEAD_BYTES_MAX, Head, Item,
    SMALL_BYTES_MAX,
};

use crate::checks::{problem, refusal};
use crate::keys::KEYS;
use crate::sections::parts;
use crate::signing::now;
use crate::sshsig::{SshSig, unarmor};

/// Parts: a file, the list inside, a plan's approvals.
///
/// A head that is believed was signed by a key over the digest of its first two lines.
pub fn bundle(input: &[u8]) {
    let [file, list, approvals] = parts(input);
    head(file);
    match Contents::parse(list) {
        Ok(contents) => inside(&contents, list),
        Err(error) => problem(&error),
    }
    match Approvals::parse(approvals) {
        Ok(read) => {
            assert_eq!(read.to_bytes().expect("it was read"), approvals);
            let again = Approvals::of(&read.signed());
            assert_eq!(again, read, "what was kept is not what is carried");
        }
        Err(error) => problem(&error),
    }
}

fn head(file: &[u8]) {
    let head = match Head::parse(file) {
        Ok(head) => head,
        Err(error) => return problem(&error),
    };
    assert!(head.payload_at <= file.len() && head.payload_at <= HEAD_BYTES_MAX);
    // The first two lines, found without the parser.
    let ends = file.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let end = ends.map(|(at, _)| at + 1).nth(1).expect("two lines");
    let (signed, rest) = file.split_at(end);
    assert_eq!(head.header.to_bytes().expect("it was read"), signed);
    let digest: String = Sha256::digest(signed).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(head.digest.hex(), digest);
    let line = signed.split(|byte| *byte == b'\n').nth(1).expect("a header");
    let header: Value = serde_json::from_slice(line).expect("a header is JSON");
    assert_eq!(header["machine"], Value::from(head.header.machine.as_str()));
    assert_eq!(header["epoch"], Value::from(head.header.epoch));
    assert_eq!(header["plan_digest"], Value::from(head.header.plan_digest.to_string()));
    let bytes = header["payload"]["bytes"].as_u64().expect("a number");
    assert_eq!(head.file_bytes(), head.payload_at as u64 + bytes);

    let everybody: String = KEYS.iter().map(|key| format!("all {}\n", key.line())).collect();
    let signers = AllowedSigners::parse(everybody.as_bytes()).expect("keys of ours");
    let policy = TrustPolicy { signers, ..TrustPolicy::default() };
    if let Err(error) = head.verify(&policy, now()) {
        return refusal(&error);
    }
    let armored = &rest[..head.payload_at - end];
    let blob = unarmor(armored).expect("an armored signature");
    let signature = SshSig::read(&blob).expect("a signature in its one spelling");
    assert_eq!(signature.namespace, b"vyr-bundle");
    let data = signature.signed_data(format!("sha256:{digest}\n").as_bytes());
    let key = KEYS.iter().find(|key| key.blob() == signature.key);
    let key = key.expect("nobody else can sign, and yet a signature was believed");
    let data = data.expect("a hash we know");
    assert!(key.makes(&signature.raw, &data), "a key did not make a signature that was believed");
}

/// A list that is read has names that rise, each of a kind we know, and lengths within bounds.
fn inside(contents: &Contents, list: &[u8]) {
    assert_eq!(contents.to_bytes().expect("it was read"), list);
    assert!(contents.entries.len() <= ENTRIES_MAX);
    let names: Vec<String> = contents.entries.iter().map(|entry| entry.item.to_string()).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    let mut small = 0_u64;
    for (entry, name) in contents.entries.iter().zip(&names) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        assert!(name.chars().all(fits) && !name.contains("..") && !name.starts_with('/'), "{name}");
        assert!(name.split('/').count() <= 2 && !name.ends_with('/'), "{name}");
        assert!(entry.bytes <= ARTIFACTS_BYTES_MAX, "{name}");
        small += if entry.item == Item::Artifacts { 0 } else { entry.bytes };
    }
    assert!(small <= SMALL_BYTES_MAX);
}
