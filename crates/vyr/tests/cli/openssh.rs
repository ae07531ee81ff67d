//! The real `ssh-keygen` and `ssh-agent`, in both directions.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{HANG, Place, ends_within, guest, has, text_of};
use crate::judge::entries;
use crate::trust::{draft, key, runs, sign, trust, write_trust};

/// A key pair made by ssh-keygen: the private file.
fn keygen(place: &Place, name: &str, kind: &str) -> String {
    let file = place.path(name).into_string();
    let arguments = ["-q", "-t", kind, "-N", "", "-C", name, "-f", &file];
    place.program("ssh-keygen", &arguments).run().ok();
    file
}

/// Signs the bytes a signature of `artifact` covers, as somebody on another machine does.
fn detached(place: &Place, artifact: &str, key: &str, namespace: &str) -> String {
    let bytes = place.vyr(&["artifact", "show", artifact, "--signed-bytes"]).run().ok().stdout;
    let file = place.file("signed", bytes);
    let _ = fs::remove_file(format!("{file}.sig"));
    let arguments = ["-Y", "sign", "-f", key, "-n", namespace, &file];
    place.program("ssh-keygen", &arguments).run().ok();
    format!("{file}.sig")
}

#[test]
fn what_ssh_keygen_signs_is_believed() {
    let test = "openssh::what_ssh_keygen_signs_is_believed";
    if !has(test, "ssh-keygen") {
        return;
    }
    for kind in ["ed25519", "ecdsa"] {
        let place = Place::new();
        let ana = keygen(&place, "ana", kind);
        let public = format!("{ana}.pub");
        let arguments = ["key", "trust", &public, "--principal", "ana@example.org"];
        place.vyr(&arguments).run().ok();
        let artifact = draft(&place);
        let signature = detached(&place, &artifact, &ana, "vyr-artifact");
        place.vyr(&["artifact", "sign", &artifact, "--detached", &signature]).run().ok();
        let put = place.vyr(&["artifact", "put", &artifact, "--json"]).run().ok().json();
        assert_eq!(put["artifacts"][0]["signer"], "ana@example.org");
        runs(&place, &artifact);
    }
}

#[test]
fn a_signature_for_another_namespace_is_refused() {
    let test = "openssh::a_signature_for_another_namespace_is_refused";
    if !has(test, "ssh-keygen") {
        return;
    }
    let place = Place::new();
    let ana = keygen(&place, "ana", "ed25519");
    let public = fs::read_to_string(format!("{ana}.pub")).expect("a public key");
    // Trusted for everything, so that nothing but the signature's own namespace can decide.
    write_trust(&place, "allowed_signers", &format!("ana@example.org {public}"));
    let artifact = draft(&place);
    for namespace in ["other", "vyr-plan", "file"] {
        let signature = detached(&place, &artifact, &ana, namespace);
        place.vyr(&["artifact", "sign", &artifact, "--detached", &signature]).run().ok();
        let words = [&artifact, "namespace", &format!("{namespace:?}"), "vyr-artifact"];
        place.vyr(&["artifact", "put", &artifact]).run().refuses(3, &words);
    }
    assert_eq!(entries(&place.data()).len(), 0);
    let signature = detached(&place, &artifact, &ana, "vyr-artifact");
    place.vyr(&["artifact", "sign", &artifact, "--detached", &signature]).run().ok();
    place.vyr(&["artifact", "put", &artifact]).run().ok();
    runs(&place, &artifact);
}

#[test]
fn what_we_sign_is_believed_by_ssh_keygen() {
    let test = "openssh::what_we_sign_is_believed_by_ssh_keygen";
    if !has(test, "ssh-keygen") {
        return;
    }
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let json = place.vyr(&["run", &hello, "--json"]).run().ok().json();
    verifies(&place, text_of(&json["artifact_digest"]), "dev");
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let artifact = draft(&place);
    sign(&place, &artifact, &ana);
    verifies(&place, &artifact, "ana@example.org");
}

/// `ssh-keygen -Y verify` takes our list, our signature and the bytes we say it covers; and does
/// not, when one byte of them is another.
#[track_caller]
fn verifies(place: &Place, artifact: &str, principal: &str) {
    let signature = place.vyr(&["artifact", "show", artifact, "--signature"]).run().ok().stdout;
    let signature = place.file("signature", signature);
    let list = place.file("list", place.vyr(&["key", "ls"]).run().ok().stdout);
    let bytes = place.vyr(&["artifact", "show", artifact, "--signed-bytes"]).run().ok().stdout;
    let verify = |bytes: Vec<u8>| {
        let arguments =
            ["-Y", "verify", "-f", &list, "-I", principal, "-n", "vyr-artifact", "-s", &signature];
        place.program("ssh-keygen", &arguments).input(bytes).run()
    };
    verify(bytes.clone()).ok();
    let mut changed = bytes;
    changed[10] ^= 1;
    assert_ne!(verify(changed).code(), Some(0));
}

#[test]
fn what_is_no_signature_is_not_attached() {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let artifact = draft(&place);
    sign(&place, &artifact, &ana);
    let sound = place.vyr(&["artifact", "show", &artifact, "--signature"]).run().ok().stdout;
    let middle = sound.len() / 2;
    let long = [&sound[..], &b"\n".repeat(20_000)].concat();
    let mut changed = sound.clone();
    changed[middle] = b'*';
    let swapped = String::from_utf8_lossy(&sound).replace("SSH SIGNATURE", "PGP SIGNATURE");
    for (what, bytes) in [
        ("empty", &b""[..]),
        ("cut", &sound[..middle]),
        ("no base64", &changed),
        ("another armor", swapped.as_bytes()),
        ("binary", b"\0\xff\xfe"),
        ("long", &long),
        ("a key", ana.public.as_bytes()),
    ] {
        let file = place.file("bad.sig", bytes);
        let arguments = ["artifact", "sign", &artifact, "--detached", &file];
        let ended = place.vyr(&arguments).run();
        assert!(matches!(ended.code(), Some(2 | 3)), "{what}: {ended:?}");
        assert!(ended.stderr.contains("signature"), "{what}: {}", ended.stderr);
    }
    let shown = place.vyr(&["artifact", "show", &artifact, "--json"]).run().ok().json();
    assert_eq!(shown["signatures"], 1, "nothing was attached");
    place.vyr(&["artifact", "put", &artifact]).run().ok();
    runs(&place, &artifact);
}

/// An ssh-agent of this test alone; ended when dropped.
struct Agent {
    socket: String,
    pid: Pid,
}

impl Agent {
    fn start(place: &Place) -> Self {
        let socket = place.path("agent.sock").into_string();
        let said = place.program("ssh-agent", &["-s", "-a", &socket]).run().ok();
        let pid = said.text().split("SSH_AGENT_PID=").nth(1).expect("its pid");
        let pid = pid.split(';').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        Self { socket, pid: pid.expect("a pid") }
    }

    /// Adds a key, or takes all of them away.
    fn add(&self, argument: &str) {
        let mut command = Command::new("ssh-add");
        let done = command.args(["-q", argument]).env("SSH_AUTH_SOCK", &self.socket).output();
        assert!(done.expect("ssh-add").status.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::TERM);
        ends_within(self.pid, HANG);
    }
}

#[test]
fn an_agent_signs_for_a_public_key() {
    let test = "openssh::an_agent_signs_for_a_public_key";
    // Each is asked for, so that each that is missing is said.
    let found = ["ssh-keygen", "ssh-agent", "ssh-add"].map(|program| has(test, program));
    if found.contains(&false) {
        return;
    }
    for kind in ["ed25519", "ecdsa"] {
        let place = Place::new();
        let ana = keygen(&place, "ana", kind);
        let public = format!("{ana}.pub");
        let arguments = ["key", "trust", &public, "--principal", "ana@example.org"];
        place.vyr(&arguments).run().ok();
        let agent = Agent::start(&place);
        let artifact = draft(&place);
        let arguments = ["artifact", "sign", &artifact, "--key", &public];
        let sign = || place.vyr(&arguments).env("SSH_AUTH_SOCK", &agent.socket).run();
        sign().refuses(3, &["the ssh-agent does not sign"]);
        place.vyr(&arguments).run().refuses(3, &["no ssh-agent"]);
        let nobody = place.path("nobody.sock");
        let call = place.vyr(&arguments).env("SSH_AUTH_SOCK", nobody);
        call.run().refuses(3, &["the ssh-agent does not sign"]);

        agent.add(&ana);
        // It is the agent that holds the key now, and nobody else.
        fs::remove_file(&ana).expect("the private key");
        sign().ok();
        place.vyr(&["artifact", "put", &artifact]).run().ok();
        runs(&place, &artifact);
        verifies(&place, &artifact, "ana@example.org");
        let nop = guest("nop.wasip1");
        let call = place.vyr(&["run", &nop, "--key", &public, "--json"]);
        let json = call.env("SSH_AUTH_SOCK", &agent.socket).run().ok().json();
        assert_eq!(json["signer"], "ana@example.org");
        agent.add("-D");
        sign().refuses(3, &["the ssh-agent does not sign"]);
    }
}
