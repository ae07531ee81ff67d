//! Every tampering is refused by its name; a verifier that leaves a check out lets it pass.

use serde_json::json;
use vyr_base::{Category, Problem as _};

use super::*;
use crate::checkpoint::tests::{key, keys_of};
use crate::event::tests::{at, deploy, network, one_of_each, origin, statement};
use crate::ids::TaskId;
use crate::merkle::node_hash;
use crate::proof::{HashSource, inclusion_proof, root_at};

/// The task's end among the events.
const SEQ: u64 = 6;

/// Leaf hashes as a shell stores them; no tiles below 256.
pub(crate) struct Log(pub(crate) Vec<Hash>);

impl HashSource for Log {
    type Error = std::convert::Infallible;

    fn leaves(&self, range: std::ops::Range<u64>) -> Result<Vec<Hash>, Self::Error> {
        let range = range.start.try_into().expect("small")..range.end.try_into().expect("small");
        let range: std::ops::Range<usize> = range;
        Ok(self.0[range].to_vec())
    }

    fn tile(&self, _: u8, _: u64) -> Result<Hash, Self::Error> {
        unreachable!("fewer than 256 leaves")
    }
}

/// Nine events, of which the seventh is the end of a task.
fn events() -> Vec<Event> {
    let mut kinds = one_of_each().into_iter();
    let started = kinds.find(|e| matches!(e.body, Body::NodeStarted(_))).expect("one of each");
    let mut events: Vec<Event> = (0..9).map(|seq| Event { seq, ..started.clone() }).collect();
    events[6].body = Body::Ended(Box::new(statement(3)));
    events
}

/// A log of nine events, with `edit` done to the task's end, signed with key `seed`;
/// what a node writes that has no scruples.
fn made(seed: u8, edit: impl FnOnce(&mut Event)) -> Receipt {
    let mut events = events();
    edit(&mut events[6]);
    let log = Log(events.iter().map(|event| leaf_hash(&event.to_leaf())).collect());
    let size = events.len() as u64;
    let root = root_at(size, &log).expect("all there");
    let proof = inclusion_proof(SEQ, size, &log).expect("in range");
    let checkpoint = Checkpoint { origin: origin(), size, root };
    let checkpoint = checkpoint.sign(&key(seed)).expect("signs");
    let event = events.swap_remove(6);
    let stated = Stated::of(&event.body).expect("an end");
    Receipt { event, stated, proof, checkpoint }
}

fn receipt() -> Receipt {
    made(1, |_| ())
}

fn stated(edit: impl FnOnce(&mut Statement)) -> Receipt {
    made(1, |event| match &mut event.body {
        Body::Ended(statement) => edit(statement),
        _ => panic!("the task's end"),
    })
}

fn verdict(bytes: &[u8]) -> Result<Verified, ReceiptError> {
    verify_receipt(bytes, &keys_of(&key(1)), false)
}

/// A valid receipt with `edit` done to its JSON, written canonically again.
fn edited(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = receipt().to_bytes();
    let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
    edit(&mut value);
    let mut bytes = canonical::to_vec(&value).expect("canonical");
    bytes.push(b'\n');
    bytes
}

fn refused(bytes: &[u8]) -> ReceiptError {
    let error = verdict(bytes).expect_err("refused");
    assert_eq!(error.category(), Category::Auth, "{error}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
    error
}

#[test]
fn a_receipt_says_what_it_proves() {
    let receipt = receipt();
    let bytes = receipt.to_bytes();
    let verified = verdict(&bytes).expect("believed");
    assert_eq!(verified.stated, Stated::Task(Box::new(statement(3))));
    assert_eq!((verified.seq, verified.time), (SEQ, at(0)));
    assert_eq!(verified.receipt, Digest::of(&bytes));
    assert_eq!(verified.receipt, receipt.digest());
    assert_eq!(verified.checkpoint, *receipt.checkpoint().checkpoint());
    assert_eq!(verified.signer.principal, "node");
    assert_eq!(Receipt::parse(&bytes).expect("ours"), receipt);
    let leaf = receipt.event.to_leaf();
    let again = Receipt::new(&leaf, receipt.proof.clone(), receipt.checkpoint.clone());
    assert_eq!(again.expect("it holds"), receipt);
}

#[test]
fn what_would_not_verify_is_not_made() {
    let good = receipt();
    let new = |leaf: &[u8], proof: &[Hash]| {
        Receipt::new(leaf, proof.to_vec(), good.checkpoint.clone()).expect_err("does not hold")
    };
    let leaf = good.event.to_leaf();
    assert!(matches!(new(b"{}", &good.proof), ReceiptError::Event(_)));
    assert!(matches!(new(&leaf, &[]), ReceiptError::ProofLength { found: 0, .. }));
    let error = new(&events()[5].to_leaf(), &good.proof);
    assert_eq!(
        error.to_string(),
        "event 5 is node.started, not the end of a task or of a change of the network"
    );
}

#[test]
fn every_changed_byte_is_refused() {
    let bytes = receipt().to_bytes();
    verdict(&bytes).expect("believed");
    for place in 0..bytes.len() {
        for mask in [1, 2, 0x20, 0x80] {
            let mut other = bytes.clone();
            other[place] ^= mask;
            refused(&other);
        }
        refused(&[&bytes[..place], &bytes[place + 1..]].concat());
        refused(&[&bytes[..=place], &bytes[place..]].concat());
    }
    for end in 0..bytes.len() {
        assert!(verdict(&bytes[..end]).is_err(), "{end}");
    }
    for more in ["\n", " ", "{}", "\0"] {
        refused(&[&bytes[..], more.as_bytes()].concat());
        refused(&[more.as_bytes(), &bytes[..]].concat());
    }
}

#[test]
fn what_was_never_a_receipt_is_bad_usage() {
    let wide = vec![b' '; RECEIPT_BYTES_MAX + 1];
    for bytes in [&b""[..], b"\n", b"{}\n", b"[1,2]", b"\xff\xfe", b"ssh-ed25519 AAAA\n", &wide] {
        let error = verdict(bytes).expect_err("no receipt");
        assert!(matches!(error, ReceiptError::NotAReceipt), "{error}");
        assert_eq!(error.category(), Category::Usage);
    }
    let padded = [&receipt().to_bytes()[..], &wide].concat();
    assert!(matches!(refused(&padded), ReceiptError::TooLarge { .. }));
}

#[test]
fn a_touched_part_is_named() {
    use ReceiptError as E;
    let other = || to_base64(&leaf_hash(b"other"));
    assert!(matches!(refused(&edited(|v| v["v"] = json!(2))), E::Version { found: 2 }));
    assert!(matches!(refused(&edited(|v| v["more"] = json!(2))), E::Json(_)));
    assert!(matches!(refused(&edited(|v| v["event"]["v"] = json!(2))), E::EventVersion { .. }));
    assert!(matches!(refused(&edited(|v| v["event"]["x"] = json!(2))), E::Event(_)));
    let started = serde_json::to_value(&events()[5]).expect("JSON");
    assert!(matches!(refused(&edited(|v| v["event"] = started)), E::NotAnEnd { seq: 5, .. }));
    let proof = |edit: fn(&mut Vec<Value>)| {
        refused(&edited(|v| edit(v["proof"].as_array_mut().expect("a list"))))
    };
    assert!(matches!(proof(|p| p[1] = json!("AA==")), E::ProofHash { place: 1, .. }));
    assert!(matches!(proof(|p| drop(p.pop())), E::ProofLength { found: 3, expected: 4, .. }));
    assert!(matches!(proof(|p| p.push(p[0].clone())), E::ProofLength { found: 5, .. }));
    assert!(matches!(proof(|p| p.swap(0, 1)), E::NotInLog { .. }));
    assert!(matches!(refused(&edited(|v| v["proof"][0] = json!(other()))), E::NotInLog { .. }));
    let checkpoint = |from: &str, to: &str| {
        refused(&edited(|v| {
            let text = v["checkpoint"].as_str().expect("a text").replacen(from, to, 1);
            v["checkpoint"] = json!(text);
        }))
    };
    assert!(matches!(checkpoint("\n9\n", "\n8\n"), E::BadSignature { .. }));
    assert!(matches!(checkpoint("/07", "/08"), E::BadSignature { .. }));
    assert!(matches!(checkpoint("\n9\n", "\n09\n"), E::Checkpoint(_)));
    assert!(matches!(refused(&edited(|v| v["signature"] = json!(""))), E::SignatureSpelling));
    let predicate = |name: &str, to: Value| {
        refused(&edited(|v| v["event"]["body"]["payload"]["predicate"][name] = to))
    };
    assert!(matches!(predicate("exit_code", json!(1)), E::NotInLog { seq: SEQ, .. }));
    assert!(matches!(predicate("deterministic", json!(true)), E::NotInLog { .. }));
    let seq = |to: u64| refused(&edited(|v| v["event"]["seq"] = json!(to)));
    assert!(matches!(seq(9), E::NotCovered { seq: 9, size: 9 }));
    assert!(matches!(seq(8), E::ProofLength { seq: 8, .. }));
    assert!(matches!(seq(5), E::NotInLog { seq: 5, .. }));
    assert!(matches!(seq(3), E::Statement { fault: StatementFault::TaskSeq { .. }, .. }));
}

/// The same statement faults, from a node that signs and proves them properly.
#[test]
fn a_statement_that_contradicts_itself_is_refused() {
    use StatementFault as F;
    let fault = |edit: fn(&mut Statement)| match refused(&stated(edit).to_bytes()) {
        ReceiptError::Statement { seq: SEQ, fault } => fault,
        error => panic!("{error}"),
    };
    assert!(matches!(fault(|s| s.kind.push('x')), F::Type { .. }));
    assert!(matches!(fault(|s| s.predicate_type.clear()), F::PredicateType { .. }));
    assert!(matches!(fault(|s| s.subject.clear()), F::Subjects { count: 0 }));
    assert!(matches!(fault(|s| s.subject.push(s.subject[0].clone())), F::Subjects { count: 2 }));
    assert!(matches!(fault(|s| s.subject[0].name = "input".into()), F::SubjectName { .. }));
    let digest = fault(|s| s.predicate.output.digest = Digest::of(b"better"));
    assert!(matches!(digest, F::SubjectDigest { .. }));
    let stranger = Origin::new([8; 16]);
    let task = fault(|s| s.predicate.task_id = TaskId::new(Origin::new([8; 16]), 3));
    assert_eq!(task, F::TaskOrigin { task: TaskId::new(stranger, 3), origin: origin() });
    let late = fault(|s| s.predicate.task_id = TaskId::new(origin(), SEQ));
    assert!(matches!(late, F::TaskSeq { seq: SEQ, .. }));
    assert!(matches!(fault(|s| s.predicate.state = TaskState::Completed), F::Ending { .. }));
    assert!(matches!(fault(|s| s.predicate.reason = None), F::Ending { .. }));
    let nonzero = fault(|s| {
        s.predicate.state = TaskState::Completed;
        s.predicate.reason = None;
    });
    assert!(matches!(nonzero, F::Ending { exit_code: Some(-1), .. }));

    let elsewhere = stated(|s| {
        s.predicate.node.origin = Origin::new([8; 16]);
        s.predicate.task_id = TaskId::new(Origin::new([8; 16]), 3);
    });
    assert!(matches!(refused(&elsewhere.to_bytes()), ReceiptError::Origin { .. }));
}

#[test]
fn keys_come_from_the_reader_only() {
    let fresh = made(2, |_| ()).to_bytes();
    let error = refused(&fresh);
    let fingerprint = vyr_artifact::KeyId::of(key(2).public_key());
    assert!(matches!(&error, ReceiptError::UntrustedKey { key_id } if *key_id == fingerprint));
    assert!(error.to_string().contains(fingerprint.as_str()));
    let bytes = receipt().to_bytes();
    let nobody = verify_receipt(&bytes, &NodeKeys::default(), false).expect_err("no keys");
    assert!(matches!(nobody, ReceiptError::NoKeys));
    assert_eq!(nobody.category(), Category::Auth);
    // The statement's `ended` is in January 2027.
    let line = crate::checkpoint::tests::public_line(&key(1));
    let at_end = |options: &str| {
        let keys = NodeKeys::parse(format!("n {options} {line}").as_bytes()).expect("valid");
        verify_receipt(&bytes, &keys, false)
    };
    at_end("valid-after=\"20260101Z\",valid-before=\"20280101Z\"").expect("in time");
    let late = at_end("valid-before=\"20260101Z\"").expect_err("expired");
    assert!(matches!(late, ReceiptError::Signature(vyr_artifact::TrustError::Expired { .. })));
}

#[test]
fn a_development_key_needs_leave() {
    let bytes = stated(|s| s.predicate.signer.dev = true).to_bytes();
    assert!(matches!(refused(&bytes), ReceiptError::DevSigned { .. }));
    let verified = verify_receipt(&bytes, &keys_of(&key(1)), true).expect("allowed");
    assert!(matches!(verified.stated, Stated::Task(task) if task.predicate.signer.dev));
}

/// The same log, with the end of a change of the network instead.
fn changed(edit: impl FnOnce(&mut NetworkStatement)) -> Receipt {
    made(1, |event| {
        let mut statement = network();
        edit(&mut statement);
        event.body = Body::NetworkEnded(Box::new(statement));
    })
}

#[test]
fn a_change_of_the_network_has_a_receipt_too() {
    use StatementFault as F;
    let bytes = changed(|_| ()).to_bytes();
    let verified = verdict(&bytes).expect("believed");
    assert_eq!(verified.stated, Stated::Network(Box::new(network())));
    for place in (0..bytes.len()).step_by(3) {
        let mut other = bytes.clone();
        other[place] ^= 1;
        refused(&other);
    }
    let fault = |edit: fn(&mut NetworkStatement)| match refused(&changed(edit).to_bytes()) {
        ReceiptError::Statement { seq: SEQ, fault } => fault,
        error => panic!("{error}"),
    };
    assert!(matches!(fault(|s| s.predicate_type.clear()), F::PredicateType { .. }));
    assert!(matches!(fault(|s| s.subject[0].name = "output".into()), F::SubjectName { .. }));
    let digest = fault(|s| s.predicate.change.plan = Digest::of(b"better"));
    assert!(matches!(digest, F::SubjectDigest { name: "plan", .. }));
    let change: [fn(&mut NetworkStatement); 4] = [
        |s| s.predicate.change.change.push('x'),
        |s| s.predicate.change.interfaces.reverse(),
        |s| s.predicate.change.timings.begun = at(9),
        |s| s.predicate.change.after = None,
    ];
    for edit in change {
        assert!(matches!(fault(edit), F::Change { .. }));
    }
    let elsewhere = changed(|s| s.predicate.node.origin = Origin::new([8; 16]));
    assert!(matches!(refused(&elsewhere.to_bytes()), ReceiptError::Origin { .. }));
}

/// The same log, with the end of a deploy instead.
fn deployed(edit: impl FnOnce(&mut DeployStatement)) -> Receipt {
    made(1, |event| {
        let mut statement = deploy();
        edit(&mut statement);
        event.body = Body::DeployEnded(Box::new(statement));
    })
}

#[test]
fn a_deploy_has_a_receipt_too() {
    use StatementFault as F;
    let bytes = deployed(|_| ()).to_bytes();
    let verified = verdict(&bytes).expect("believed");
    assert_eq!(verified.stated, Stated::Deploy(Box::new(deploy())));
    for place in (0..bytes.len()).step_by(3) {
        let mut other = bytes.clone();
        other[place] ^= 1;
        refused(&other);
    }
    let fault = |edit: fn(&mut DeployStatement)| match refused(&deployed(edit).to_bytes()) {
        ReceiptError::Statement { seq: SEQ, fault } => fault,
        error => panic!("{error}"),
    };
    assert!(matches!(fault(|s| s.predicate_type.clear()), F::PredicateType { .. }));
    let digest = fault(|s| s.predicate.deploy.plan = Digest::of(b"better"));
    assert!(matches!(digest, F::SubjectDigest { name: "plan", .. }));
    let edits: [fn(&mut DeployStatement); 4] = [
        |s| s.predicate.deploy.deploy.push('x'),
        |s| s.predicate.deploy.timings.begun = at(9),
        |s| s.predicate.deploy.releases.reverse(),
        |s| s.predicate.deploy.releases[1].service = "db".into(),
    ];
    for edit in edits {
        assert!(matches!(fault(edit), F::Change { .. }));
    }
    let elsewhere = deployed(|s| s.predicate.node.origin = Origin::new([8; 16]));
    assert!(matches!(refused(&elsewhere.to_bytes()), ReceiptError::Origin { .. }));
}

/// The checks a verifier may leave out.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Check {
    Spelling,
    Statement,
    Trust,
    Signature,
    Origin,
    Inclusion,
    Dev,
}

const CHECKS: [Check; 7] = [
    Check::Spelling,
    Check::Statement,
    Check::Trust,
    Check::Signature,
    Check::Origin,
    Check::Inclusion,
    Check::Dev,
];

/// A second verifier that leaves out `lax`; it shares only the arithmetic with the real one.
fn accepts(bytes: &[u8], lax: Option<Check>) -> Option<()> {
    let asks = |check: Check| lax != Some(check);
    let value: Value = serde_json::from_slice(bytes).ok()?;
    if asks(Check::Spelling) {
        let mut again = canonical::to_vec(&value).ok()?;
        again.push(b'\n');
        (again == bytes).then_some(())?;
    }
    let event: Event = serde_json::from_value(value["event"].clone()).ok()?;
    let Body::Ended(statement) = &event.body else { return None };
    if asks(Check::Statement) {
        task_fault(statement, event.seq).is_none().then_some(())?;
    }
    let text = value["checkpoint"].as_str()?;
    let signature = ssh_key::SshSig::from_pem(value["signature"].as_str()?).ok()?;
    let ours = key(1).public_key().key_data().clone();
    if asks(Check::Trust) {
        (*signature.public_key() == ours).then_some(())?;
    }
    if asks(Check::Signature) {
        let by = ssh_key::PublicKey::from(signature.public_key().clone());
        by.verify("vyr-checkpoint", text.as_bytes(), &signature).ok()?;
    }
    let checkpoint: Checkpoint = text.parse().ok()?;
    if asks(Check::Origin) {
        (statement.predicate.node.origin == checkpoint.origin).then_some(())?;
    }
    let proof = value["proof"].as_array()?.iter().map(|hash| from_base64(hash.as_str()?));
    let proof: Vec<Hash> = proof.collect::<Option<_>>()?;
    if asks(Check::Inclusion) {
        let leaf = leaf_hash(&event.to_leaf());
        let Checkpoint { size, root, .. } = checkpoint;
        verify_inclusion(leaf, event.seq, size, &proof, root).then_some(())?;
    }
    (!asks(Check::Dev) || !statement.predicate.signer.dev).then_some(())
}

/// Seeded defects: each tampering passes a verifier without its check, and no other.
#[test]
fn every_check_is_needed() {
    let bytes = receipt().to_bytes();
    let spaced = [b" ", &bytes[..]].concat();
    let forged = edited(|v| v["event"]["body"]["payload"]["predicate"]["exit_code"] = json!(1));
    let grown = edited(|v| {
        // The forger appends an event of his own to the log and cannot sign the new root.
        let text = v["checkpoint"].as_str().expect("a text");
        let mut checkpoint: Checkpoint = text.parse().expect("ours");
        let more = leaf_hash(b"more");
        let last = from_base64(v["proof"][3].as_str().expect("a hash")).expect("a hash");
        checkpoint.size += 1;
        v["proof"][3] = json!(to_base64(&node_hash(&last, &more)));
        let log = events().into_iter().map(|event| leaf_hash(&event.to_leaf())).chain([more]);
        checkpoint.root = root_at(10, &Log(log.collect())).expect("all there");
        v["checkpoint"] = json!(checkpoint.to_string());
    });
    let moved = stated(|s| {
        s.predicate.node.origin = Origin::new([8; 16]);
        s.predicate.task_id = TaskId::new(Origin::new([8; 16]), 3);
    });
    let torn = stated(|s| s.predicate.output.digest = Digest::of(b"better"));
    let cases = [
        (Check::Spelling, spaced),
        (Check::Statement, torn.to_bytes()),
        (Check::Trust, made(2, |_| ()).to_bytes()),
        (Check::Signature, grown),
        (Check::Origin, moved.to_bytes()),
        (Check::Inclusion, forged),
        (Check::Dev, stated(|s| s.predicate.signer.dev = true).to_bytes()),
    ];
    assert!(accepts(&bytes, None).is_some());
    for (check, tampered) in cases {
        refused(&tampered);
        assert!(accepts(&tampered, None).is_none(), "{check:?}");
        for other in CHECKS {
            let passes = accepts(&tampered, Some(other)).is_some();
            assert_eq!(passes, other == check, "{check:?} without {other:?}");
        }
    }
}

/// Written by this version; its key is made of 32 bytes of 1.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/receipt-v1.json");

/// Before a first release, `VYR_GOLDEN_WRITE=1 cargo test -p vyr-journal committed_receipt` writes
/// it anew; afterwards a changed format needs a new version.
#[test]
#[expect(clippy::disallowed_methods, reason = "it writes what it reads otherwise")]
fn the_committed_receipt_is_still_believed() {
    if std::env::var_os("VYR_GOLDEN_WRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/receipt-v1.json");
        return std::fs::write(path, receipt().to_bytes()).expect("room");
    }
    verdict(GOLDEN).expect("believed");
    let same = receipt().to_bytes() == GOLDEN;
    assert!(same, "the format changed: raise its version, or see above");
}
