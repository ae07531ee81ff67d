//! The real `ssh-keygen` and this crate must give the same verdicts.
//!
//! Both directions for each kind of key, then one table of `allowed_signers` files on which the
//! two are compared, then random files. The rule of every comparison: whatever we accept,
//! `ssh-keygen` accepts. Where we refuse more, the table says so.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the crate is pure, its tests run ssh-keygen on files"
)]

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ssh_key::public::{KeyData, SkEd25519};
use ssh_key::{PrivateKey, PublicKey, SigningKey};
use tempfile::TempDir;
use vyr_artifact::{
    AllowedSigners, Namespace, RevokedKeys, SignError, Signature, TrustError, TrustPolicy,
    from_agent, render_line, sign, signature_request, signed_bytes,
};
use vyr_base::{Digest, Problem as _};

/// The moment of every verdict, for both programs.
const NOW: &str = "2026-06-15T12:00:00Z";
const NOW_OPENSSH: &str = "20260615120000Z";

/// A directory with keys, and the program to compare with.
struct Bench {
    dir: TempDir,
}

impl Bench {
    /// `None`, with the reason on standard output, where there is no `ssh-keygen`.
    fn new() -> Option<Self> {
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            println!("not run: ssh-keygen is absent");
            return None;
        }
        Some(Self { dir: TempDir::new().expect("a directory") })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).expect("writes");
        self.path(name)
    }

    /// Makes a key with `ssh-keygen` and reads it.
    ///
    /// The library does not read a private number that is shorter than its curve's, as that of one
    /// P-521 key in four is. Another key is made then.
    fn key(&self, name: &str, kind: &[&str], passphrase: &str) -> PrivateKey {
        const TRIES: usize = 64;
        let make = || {
            let _ = fs::remove_file(self.path(name));
            let made = Command::new("ssh-keygen")
                .args(["-q", "-C", name, "-N", passphrase, "-t"])
                .args(kind)
                .arg("-f")
                .arg(self.path(name))
                .output()
                .expect("ssh-keygen runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            PrivateKey::from_openssh(fs::read(self.path(name)).expect("a key file")).ok()
        };
        (0..TRIES).find_map(|_| make()).expect("a key that can be read")
    }

    /// `ssh-keygen -Y sign` with the key of that name.
    fn their_signature(&self, key: &str, namespace: &str, message: &[u8]) -> Vec<u8> {
        let path = self.path(key);
        let args = ["-q", "-Y", "sign", "-n", namespace, "-f", path.to_str().expect("UTF-8")];
        run(&args, message).expect("ssh-keygen signs")
    }

    /// `ssh-keygen -Y verify` at [`NOW`].
    fn their_verdict(&self, case: &Case<'_>) -> bool {
        let signers = self.write("allowed_signers", case.signers);
        let signature = self.write("signature", case.signature);
        let mut args = vec!["-Y", "verify", "-n", case.namespace.as_str(), "-I", case.principal];
        let time = format!("verify-time={NOW_OPENSSH}");
        args.extend(["-O", &time]);
        args.extend(["-f", signers.to_str().expect("UTF-8")]);
        args.extend(["-s", signature.to_str().expect("UTF-8")]);
        let revoked = self.write("revoked", case.revoked);
        if !case.revoked.is_empty() {
            args.extend(["-r", revoked.to_str().expect("UTF-8")]);
        }
        run(&args, case.message).is_some()
    }
}

/// Runs `ssh-keygen`; its output if it succeeds.
fn run(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("ssh-keygen")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ssh-keygen starts");
    // It may refuse before it reads; a broken pipe is then part of its answer.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("ssh-keygen ends");
    output.status.success().then_some(output.stdout)
}

/// One question to both programs.
#[derive(Clone, Copy)]
struct Case<'a> {
    signers: &'a str,
    revoked: &'a [u8],
    principal: &'a str,
    namespace: Namespace,
    message: &'a [u8],
    signature: &'a [u8],
}

/// Our answer: the principal, or why not (a trust file we refuse is a reason too).
fn our_verdict(case: &Case<'_>) -> Result<String, String> {
    let signers = AllowedSigners::parse(case.signers.as_bytes()).map_err(|e| e.to_string())?;
    let revoked = RevokedKeys::parse(case.revoked).map_err(|e| e.to_string())?;
    TrustPolicy { signers, revoked }
        .verify(case.namespace, case.message, case.signature, now())
        .map(|signer| signer.principal)
        .map_err(|error| error.to_string())
}

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn line(key: &PrivateKey) -> String {
    let mut key = key.public_key().clone();
    key.set_comment("");
    key.to_openssh().expect("encodes")
}

/// The signature of `key` over exactly `data`, as an agent answers it.
fn raw_signature(key: &impl SigningKey, data: &[u8]) -> Vec<u8> {
    key.try_sign(data).expect("signs").try_into().expect("encodes")
}

/// Signs like `vyr` does: with the file, or for P-521 as if by an agent.
fn our_signature(key: &PrivateKey, namespace: Namespace, message: &[u8]) -> String {
    match sign(key, namespace, message) {
        Err(SignError::P521 { .. }) => {
            let raw = raw_signature(key, &signature_request(namespace, message));
            from_agent(key.public_key(), namespace, &raw).expect("wraps")
        }
        signed => signed.expect("signs"),
    }
}

const KINDS: [(&str, &[&str]); 4] = [
    ("ed25519", &["ed25519"]),
    ("p256", &["ecdsa", "-b", "256"]),
    ("p384", &["ecdsa", "-b", "384"]),
    ("p521", &["ecdsa", "-b", "521"]),
];

#[test]
fn signatures_are_accepted_in_both_directions() {
    let Some(bench) = Bench::new() else { return };
    let message = signed_bytes(&Digest::of(b"an artifact"));
    for (name, kind) in KINDS {
        let key = bench.key(name, kind, "");
        let signers = render_line("ana@example.com", key.public_key(), &Namespace::ALL);
        let signers = signers.expect("a line");
        for namespace in Namespace::ALL {
            let ours = our_signature(&key, namespace, &message).into_bytes();
            let theirs = bench.their_signature(name, namespace.as_str(), &message);
            for signature in [ours, theirs] {
                let parsed = Signature::parse(&signature).expect("a signature");
                assert_eq!(parsed.namespace(), namespace.as_str());
                let case = Case {
                    signers: &signers,
                    revoked: b"",
                    principal: "ana@example.com",
                    namespace,
                    message: &message,
                    signature: &signature,
                };
                assert!(bench.their_verdict(&case), "{name} {namespace}");
                assert_eq!(our_verdict(&case).as_deref(), Ok("ana@example.com"), "{name}");
                let other = Case { message: b"sha256:0\n", ..case };
                assert!(!bench.their_verdict(&other), "{name}");
                assert!(our_verdict(&other).expect_err(name).contains("did not sign this"));
            }
        }
    }
}

#[test]
fn what_echo_and_ssh_keygen_sign_is_the_digest() {
    let Some(bench) = Bench::new() else { return };
    let key = bench.key("ana", &["ed25519"], "");
    let digest = Digest::of(b"an artifact");
    let echo = Command::new("echo").arg(digest.to_string()).output().expect("echo runs").stdout;
    assert_eq!(echo, signed_bytes(&digest));
    let theirs = bench.their_signature("ana", "vyr-artifact", &echo);
    // Ed25519 leaves no choice, so the two are the same file.
    let ours = sign(&key, Namespace::Artifact, &signed_bytes(&digest)).expect("signs");
    assert_eq!(String::from_utf8_lossy(&theirs), ours);
}

#[test]
fn keys_that_cannot_sign_say_why() {
    let Some(bench) = Bench::new() else { return };
    let locked = bench.key("locked", &["ed25519"], "secret");
    let error = sign(&locked, Namespace::Artifact, b"m").expect_err("encrypted");
    assert!(matches!(error, SignError::Encrypted { .. }));
    assert_eq!(error.hint().as_deref(), Some("ssh-add it and pass the .pub file"));
    let rsa = bench.key("rsa", &["rsa", "-b", "2048"], "");
    let error = sign(&rsa, Namespace::Artifact, b"m").expect_err("RSA");
    assert!(matches!(error, SignError::KeyType { .. }));
}

#[test]
fn signatures_by_unaccepted_kinds_of_key_are_named() {
    let Some(bench) = Bench::new() else { return };
    bench.key("rsa", &["rsa", "-b", "2048"], "");
    let signature = bench.their_signature("rsa", "vyr-artifact", b"m");
    let found = TrustPolicy::default().verify(Namespace::Artifact, b"m", &signature, now());
    let error = found.expect_err("RSA is not accepted");
    assert!(matches!(error, TrustError::UnsupportedAlgorithm { .. }), "{error}");
}

#[test]
fn a_signature_for_another_use_is_refused_by_both() {
    let Some(bench) = Bench::new() else { return };
    let key = bench.key("ana", &["ed25519"], "");
    let signature = bench.their_signature("ana", "vyr-plan", b"m");
    let case = Case {
        signers: &format!("ana {}", line(&key)),
        revoked: b"",
        principal: "ana",
        namespace: Namespace::Artifact,
        message: b"m",
        signature: &signature,
    };
    assert!(!bench.their_verdict(&case));
    assert!(our_verdict(&case).expect_err("refused").contains("\"vyr-plan\""));
}

#[test]
fn revoked_keys_are_refused_by_both() {
    let Some(bench) = Bench::new() else { return };
    let (ana, bob) = (bench.key("ana", &["ed25519"], ""), bench.key("bob", &["ed25519"], ""));
    let rsa = bench.key("rsa", &["rsa", "-b", "2048"], "");
    let signature = sign(&ana, Namespace::Artifact, b"m").expect("signs");
    let signers = format!("ana {}", line(&ana));
    let case = Case {
        signers: &signers,
        revoked: b"",
        principal: "ana",
        namespace: Namespace::Artifact,
        message: b"m",
        signature: signature.as_bytes(),
    };
    let others = format!("# lost\n{}\n{} old\n", line(&bob), line(&rsa));
    let all = format!("{others}\n{} lost in May\n", line(&ana));
    for (revoked, accepted) in [(others, true), (all, false)] {
        let case = Case { revoked: revoked.as_bytes(), ..case };
        assert_eq!(bench.their_verdict(&case), accepted, "{revoked}");
        assert_eq!(our_verdict(&case).is_ok(), accepted, "{revoked}");
    }
    // A file that cannot be read revokes everything for both.
    let broken = Case { revoked: b"SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ\n", ..case };
    assert!(!bench.their_verdict(&broken));
    assert!(our_verdict(&broken).expect_err("refused").contains("fingerprint"));
    // A real binary list, as ssh-keygen makes it.
    let krl = bench.path("krl");
    let bob_pub = bench.path("bob.pub");
    let args = ["-q", "-k", "-f", krl.to_str().expect("UTF-8"), bob_pub.to_str().expect("UTF-8")];
    run(&args, b"").expect("ssh-keygen makes a KRL");
    let krl = RevokedKeys::parse(&fs::read(krl).expect("a KRL")).expect_err("refused");
    assert!(krl.to_string().contains("binary key revocation list"));
}

/// What both programs must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Accept,
    Refuse,
    /// `ssh-keygen` accepts; we refuse the file, and its fault says why.
    Stricter,
}

/// Principal given to `ssh-keygen`, the file, and the verdicts. `{ana}` signed, `{bob}` did not.
const TABLE: &[(&str, &str, Expect)] = {
    use Expect::{Accept, Refuse, Stricter};
    &[
        ("ana", "ana {ana}\n", Accept),
        ("ana", "ana {ana}", Accept),
        ("ana", "ana {ana} her laptop\n", Accept),
        ("ana", "# team\n\n  \t\nana {ana}\n# end", Accept),
        ("ana", "ana {ana}\r\n", Accept),
        ("ana", "  ana\t \tnamespaces=\"vyr-artifact\"\t{ana}\n", Accept),
        ("ana", "ana,bob {ana}\n", Accept),
        ("ana", "*,!bob {ana}\n", Accept),
        ("ana@x.org", "*@x.org {ana}\n", Accept),
        ("ana", "bob {bob}\nana {ana}\n", Accept),
        ("ana", "ana namespaces=\"vyr-artifact\" {ana}\n", Accept),
        ("ana", "ana namespaces=\"file,vyr-*\" {ana}\n", Accept),
        ("ana", "ana namespaces=\"vyr-?rtifact\" {ana}\n", Accept),
        ("ana", "ana NameSpaces=\"vyr-artifact\" {ana}\n", Accept),
        ("ana", "ana namespaces=\"a\\\"b c,vyr-artifact\" {ana}\n", Accept),
        ("ana", "ana valid-after=\"20260101Z\" {ana}\n", Accept),
        ("ana", "ana valid-after=\"20260615120000Z\" {ana}\n", Accept),
        ("ana", "ana valid-before=\"20260615120000Z\" {ana}\n", Accept),
        ("ana", "ana valid-before=\"202606151201Z\",namespaces=\"vyr-*\" {ana}\n", Accept),
        ("ana", "ana namespaces=\"file\" {ana}\nana {ana}\n", Accept),
        ("ana", "ana valid-before=\"20200101Z\" {ana}\nana {ana}\n", Accept),
        ("ana", "", Refuse),
        ("ana", "ana {bob}\n", Refuse),
        ("ana", "#ana {ana}\n", Refuse),
        ("ana", "!ana {ana}\n", Refuse),
        ("ana", "ana,!ana {ana}\n", Refuse),
        ("ana", "ana namespaces=\"file\" {ana}\n", Refuse),
        ("ana", "ana namespaces=\"VYR-ARTIFACT\" {ana}\n", Refuse),
        ("ana", "ana namespaces=\"vyr-*,!vyr-artifact\" {ana}\n", Refuse),
        ("ana", "ana namespaces=\"\" {ana}\n", Refuse),
        ("ana", "ana namespaces=vyr-artifact {ana}\n", Refuse),
        ("ana", "ana namespaces=\"vyr-*\",namespaces=\"vyr-*\" {ana}\n", Refuse),
        ("ana", "ana namespaces=\"vyr-* {ana}\n", Refuse),
        ("ana", "ana valid-after=\"20260615120001Z\" {ana}\n", Refuse),
        ("ana", "ana valid-before=\"20260615115959Z\" {ana}\n", Refuse),
        ("ana", "ana valid-before=\"20200101Z\" {ana}\n", Refuse),
        ("ana", "ana valid-after=\"20260102Z\",valid-before=\"20260101Z\" {ana}\n", Refuse),
        ("ana", "ana valid-after=\"2026Z\" {ana}\n", Refuse),
        ("ana", "ana valid-after=\"19700101Z\" {ana}\n", Refuse),
        ("ana", "ana namespaces=\"vyr-*\", {ana}\n", Refuse),
        ("ana", "ana cert-authority {ana}\n", Refuse),
        ("ana", "ana no-touch-required {ana}\n", Refuse),
        ("ana", "ana ssh-ed25519\n", Refuse),
        ("ana", "ana {ana-data}\n", Refuse),
        ("ana", "ana\n", Refuse),
        ("ana", "ana {ana-short}\n", Refuse),
        ("ana", "ana valid-after=\"20260101\" {ana}\n", Stricter),
        ("ana", "ana valid-after=\"20260101\",namespaces=\"vyr-*\" {ana}\n", Stricter),
        ("ana", "ana {ana}\nbob {rsa}\n", Stricter),
        ("ana", "bob cert-authority {bob}\nana {ana}\n", Stricter),
        ("ana", "bob\nana {ana}\n", Stricter),
        ("ana", "\"ana\" {ana}\n", Stricter),
        ("ana", "ana,,bob {ana}\n", Stricter),
    ]
};

#[test]
fn allowed_signers_mean_the_same_to_both() {
    let Some(bench) = Bench::new() else { return };
    let (ana, bob) = (bench.key("ana", &["ed25519"], ""), bench.key("bob", &["ed25519"], ""));
    let rsa = bench.key("rsa", &["rsa", "-b", "2048"], "");
    let signature = sign(&ana, Namespace::Artifact, b"m").expect("signs");
    let ana_line = line(&ana);
    let mut wrong = Vec::new();
    for &(principal, template, expected) in TABLE {
        let file = template
            .replace("{ana}", &ana_line)
            .replace("{bob}", &line(&bob))
            .replace("{rsa}", &line(&rsa))
            .replace("{ana-data}", &ana_line["ssh-ed25519 ".len()..])
            .replace("{ana-short}", &ana_line[..ana_line.len() - 4]);
        let case = Case {
            signers: &file,
            revoked: b"",
            principal,
            namespace: Namespace::Artifact,
            message: b"m",
            signature: signature.as_bytes(),
        };
        let (theirs, ours) = (bench.their_verdict(&case), our_verdict(&case));
        let found = match (theirs, ours.is_ok()) {
            (true, true) => Some(Expect::Accept),
            (false, false) => Some(Expect::Refuse),
            (true, false) => Some(Expect::Stricter),
            (false, true) => None,
        };
        if found != Some(expected) {
            wrong.push(format!("{template:?}: expected {expected:?}, found {found:?} ({ours:?})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files out of parts that matter, where a person would not think of the combination.
fn random_file() -> impl Strategy<Value = String> {
    let principals = prop::sample::select(vec!["ana", "bob,ana", "*", "*,!ana", "bob", "a?a"]);
    let good = prop::sample::select(vec![
        "namespaces=\"vyr-*\"",
        "namespaces=\"file\"",
        "NAMESPACES=\"*,!vyr-plan\"",
        "valid-after=\"20260615Z\"",
        "valid-after=\"20270101Z\"",
        "valid-before=\"202606151200Z\"",
        "Valid-Before=\"20260614235959Z\"",
    ]);
    let bad = prop::sample::select(vec![
        "valid-before=\"20200101\"",
        "cert-authority",
        "nonsense",
        "namespaces=\"vyr-*",
        "",
    ]);
    let option = prop_oneof![12 => good, 1 => bad];
    let key = prop_oneof![
        12 => prop::sample::select(vec!["{ana}", "{ana} note", "{bob}"]),
        1 => prop::sample::select(vec!["{rsa}", "x"]),
    ];
    let line = (principals, prop::collection::vec(option, 0..3), key).prop_map(
        |(principals, options, key)| {
            let options = options.join(",");
            let space = if options.is_empty() { "" } else { " " };
            format!("{principals} {options}{space}{key}\n")
        },
    );
    prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
}

#[test]
fn random_allowed_signers_are_never_judged_more_kindly() {
    let Some(bench) = Bench::new() else { return };
    let (ana, bob) = (bench.key("ana", &["ed25519"], ""), bench.key("bob", &["ed25519"], ""));
    let rsa = bench.key("rsa", &["rsa", "-b", "2048"], "");
    let signature = sign(&ana, Namespace::Artifact, b"m").expect("signs");
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    // A fixed seed: the same files at every run, since each costs a process.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let (accepted, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    TestRunner::new_with_rng(config, rng)
        .run(&random_file(), |template| {
            let file = template
                .replace("{ana}", &line(&ana))
                .replace("{bob}", &line(&bob))
                .replace("{rsa}", &line(&rsa));
            let case = Case {
                signers: &file,
                revoked: b"",
                principal: "ana",
                namespace: Namespace::Artifact,
                message: b"m",
                signature: signature.as_bytes(),
            };
            let ours = our_verdict(&case);
            // `ssh-keygen` is told an identity where we answer with one: tell it ours, a name
            // that our pattern matches, or where we refuse, the name most lines list.
            let principal = match ours.as_deref() {
                Ok("*") => "zoe",
                Ok("a?a") | Err(_) => "ana",
                Ok(name) => name,
            };
            if AllowedSigners::parse(file.as_bytes()).is_ok() {
                let theirs = bench.their_verdict(&Case { principal, ..case });
                prop_assert_eq!(theirs, ours.is_ok(), "{}: {:?}", template, ours);
                let count = if theirs { &accepted } else { &refused };
                count.set(count.get() + 1);
            }
            Ok(())
        })
        .expect("the same verdict");
    // The comparison must have compared something.
    let (accepted, refused) = (accepted.get(), refused.get());
    assert!(accepted >= 40 && refused >= 40, "{accepted} accepted, {refused} refused");
}

/// A length-prefixed string of the SSH wire format.
fn wire(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes(), bytes].concat()
}

#[test]
fn a_security_key_is_verified_as_ssh_keygen_does_and_must_be_touched() {
    let Some(bench) = Bench::new() else { return };
    // An authenticator in software: PROTOCOL.u2f says what it signs.
    let inner = bench.key("inner", &["ed25519"], "");
    let point = *inner.public_key().key_data().ed25519().expect("Ed25519");
    let public = PublicKey::from(KeyData::SkEd25519(SkEd25519::new(point, "ssh:")));
    let signers = render_line("ana", &public, &[Namespace::Artifact]).expect("a line");
    for (flags, accepted) in [(0x01, true), (0x05, true), (0x00, false), (0x04, false)] {
        let trailer = [flags, 0, 0, 0, 42];
        let data = [
            &Digest::of(b"ssh:").as_bytes()[..],
            &trailer,
            Digest::of(&signature_request(Namespace::Artifact, b"m")).as_bytes(),
        ]
        .concat();
        let raw = raw_signature(&inner, &data);
        let raw =
            [wire(b"sk-ssh-ed25519@openssh.com"), wire(&raw[raw.len() - 64..]), trailer.to_vec()]
                .concat();
        let signature = from_agent(&public, Namespace::Artifact, &raw).expect("wraps");
        let case = Case {
            signers: &signers,
            revoked: b"",
            principal: "ana",
            namespace: Namespace::Artifact,
            message: b"m",
            signature: signature.as_bytes(),
        };
        let ours = our_verdict(&case);
        assert_eq!(ours.is_ok(), accepted, "flags {flags}: {ours:?}");
        let theirs = bench.their_verdict(&case);
        println!("flags {flags}: ssh-keygen {theirs}, vyr {}", ours.is_ok());
        assert!(theirs || !accepted, "ssh-keygen refuses a touched key");
    }
}
