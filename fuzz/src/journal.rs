//! Targets of `vyr-journal`: what a stranger hands over as a receipt or a checkpoint, and the
//! stored edge of the tree.

use std::str;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vyr_artifact::Signer;
use vyr_base::{Category, Digest, Problem as _};
use vyr_journal::{
    CHECKPOINT_BYTES_MAX, Checkpoint, Frontier, NodeKeys, RECEIPT_BYTES_MAX, Receipt, ReceiptError,
    SignedCheckpoint, verify_receipt,
};

use crate::base64;
use crate::checks::problem;
use crate::keys::KEYS;
use crate::sections::parts;
use crate::signing::{holds, now};
use crate::sshsig::{SshSig, key_id, lines, unarmor, words};

/// A stored edge that is read has one hash for each bit of its size, and grows.
pub fn frontier(input: &[u8]) {
    let mut frontier = match Frontier::from_bytes(input) {
        Ok(frontier) => frontier,
        Err(error) => return problem(&error),
    };
    assert_eq!(frontier.to_bytes(), input);
    let (head, hashes) = input.split_at(9);
    let size = head[1..].iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte));
    assert_eq!((head[0], frontier.size()), (1, size));
    assert_eq!(hashes.len(), 32 * size.count_ones() as usize);
    assert_eq!(frontier.append(Digest::of(b"leaf"), |_, _| ()), size);
    assert_eq!(frontier.peaks().len(), (size + 1).count_ones() as usize);
}

/// A text or a file: what is read is written the same, and says what its lines say.
pub fn checkpoint(input: &[u8]) {
    if let Some(checkpoint) = str::from_utf8(input).ok().and_then(|text| text.parse().ok()) {
        text(&checkpoint, input);
    }
    let signed = match SignedCheckpoint::parse(input) {
        Ok(signed) => signed,
        Err(error) => return problem(&error),
    };
    assert!(input.len() <= CHECKPOINT_BYTES_MAX);
    assert_eq!(signed.to_bytes(), input);
    let written = signed.checkpoint().to_string();
    text(signed.checkpoint(), written.as_bytes());
    let everybody: String = KEYS.iter().map(|key| key.line() + "\n").collect();
    let keys = NodeKeys::parse(everybody.as_bytes()).expect("keys of ours");
    match signed.verify(&keys, now()) {
        Ok(signer) => signed_by(&signer, &everybody, &written, signed.signature()),
        Err(error) => problem(&error),
    }
}

fn text(checkpoint: &Checkpoint, text: &[u8]) {
    assert_eq!(checkpoint.to_string().as_bytes(), text);
    let text = str::from_utf8(text).expect("it is ASCII");
    let found: Vec<&str> = text.split('\n').collect();
    let [origin, size, root, ""] = found[..] else { panic!("{text:?} has other lines") };
    assert_eq!(checkpoint.origin.to_string(), origin);
    assert_eq!(checkpoint.size.to_string(), size);
    assert_eq!(base64::decode(root).as_deref(), Some(&checkpoint.root.as_bytes()[..]));
}

/// The independent check of a signature that was believed.
fn signed_by(signer: &Signer, keys: &str, text: &str, armored: &str) {
    let blob = unarmor(armored.as_bytes()).expect("an armored signature");
    let signature = SshSig::read(&blob).expect("a signature in its one spelling");
    assert_eq!(signature.namespace, b"vyr-checkpoint");
    assert_eq!(signer.key_id.as_str(), key_id(&signature.key));
    let mut listed = lines(keys).filter_map(|(_, line)| words(line));
    assert!(listed.any(|words| holds(&words, &signer.public_key)), "{signer:?} is on no line");
    let data = signature.signed_data(text.as_bytes()).expect("a hash we know");
    let key = KEYS.iter().find(|key| key.blob() == signature.key);
    let key = key.expect("nobody else can sign, and yet a signature was believed");
    assert!(key.makes(&signature.raw, &data), "a key did not make a signature that was believed");
}

/// Parts: a receipt, a file of keys.
///
/// What is believed leads from its event to its signed root by arithmetic of our own.
pub fn receipt(input: &[u8]) {
    let [file, keys_file] = parts(input);
    match Receipt::parse(file) {
        Ok(receipt) => {
            assert!(file.len() <= RECEIPT_BYTES_MAX);
            assert_eq!(receipt.to_bytes(), file);
            assert_eq!(receipt.digest(), Digest::of(file));
        }
        Err(error) => problem(&error),
    }
    let nobody = verify_receipt(file, &NodeKeys::default(), true);
    refused(&nobody.expect_err("nobody is trusted"));
    let keys = match NodeKeys::parse(keys_file) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(!error.faults.is_empty());
            return;
        }
    };
    let verified = match verify_receipt(file, &keys, true) {
        Ok(verified) => verified,
        Err(error) => return refused(&error),
    };
    let value: Value = serde_json::from_slice(file).expect("a receipt is JSON");
    let of = |name: &str| value[name].as_str().expect("a text");
    text(&verified.checkpoint, of("checkpoint").as_bytes());
    let keys_text = String::from_utf8_lossy(keys_file);
    signed_by(&verified.signer, &keys_text, of("checkpoint"), of("signature"));

    // Keys of `Value` are sorted, all of ours are ASCII, and text that needs escapes has one way.
    let leaf = serde_json::to_vec(&value["event"]).expect("JSON");
    let proof = value["proof"].as_array().expect("a list").iter();
    let proof = proof.map(|hash| base64::decode(hash.as_str().expect("a text")).expect("base64"));
    let proof: Vec<Vec<u8>> = proof.collect();
    let leaf = Sha256::new().chain_update([0]).chain_update(leaf).finalize().to_vec();
    let root = climb(leaf, verified.seq, verified.checkpoint.size, &proof);
    assert_eq!(root, verified.checkpoint.root.as_bytes());
    assert_eq!(value["event"]["seq"].as_u64(), Some(verified.seq));
    assert_eq!(value["event"]["body"]["event"], "task.ended");
    let predicate = &value["event"]["body"]["payload"]["predicate"];
    assert_eq!(predicate["node"]["origin"], verified.checkpoint.origin.to_string());
    let ended: Timestamp =
        predicate["timings"]["ended"].as_str().expect("a text").parse().expect("a time");
    assert_eq!(ended, verified.stated.ended());

    // Every byte counts: the last, and one that the input chooses.
    for place in [file.len() - 1, keys_file.len() * 31 % file.len()] {
        let mut other = file.to_vec();
        other[place] ^= 1;
        refused(&verify_receipt(&other, &keys, true).expect_err("a byte was changed"));
    }
}

/// The root over a leaf, by the definition of a path (RFC 6962, section 2.1.1).
fn climb(leaf: Vec<u8>, index: u64, size: u64, proof: &[Vec<u8>]) -> Vec<u8> {
    if size == 1 {
        assert!(index == 0 && proof.is_empty(), "a proof is too long");
        return leaf;
    }
    let (sibling, rest) = proof.split_last().expect("a proof is too short");
    let half = size.next_power_of_two() / 2;
    let node = |left: &[u8], right: &[u8]| {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().to_vec()
    };
    if index < half {
        node(&climb(leaf, index, half, rest), sibling)
    } else {
        node(sibling, &climb(leaf, index - half, size - half, rest))
    }
}

fn refused(error: &ReceiptError) {
    problem(error);
    assert!(matches!(error.category(), Category::Auth | Category::Usage));
}
