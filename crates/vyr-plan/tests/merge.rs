//! Two branches that each add a client, merged by git itself.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test is about git; what is tested is given texts"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vyr_base::Source;
use vyr_plan::{Applied, Files, Intent, Lock, allocate, compile, prove};

/// A repository that goes away with the test.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("room");
        let repository = Self(path);
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// Runs git as nobody in particular, whatever the machine has configured.
    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "x"),
            ("GIT_AUTHOR_EMAIL", "x@example.org"),
            ("GIT_COMMITTER_NAME", "x"),
            ("GIT_COMMITTER_EMAIL", "x@example.org"),
        ] {
            command.env(name, value);
        }
        let output = command.current_dir(&self.0).args(arguments).output().expect("git is there");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let more = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {told}{more}");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("room");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("a file")
    }

    fn commit(&self, what: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", what]);
    }

    fn intent(&self) -> Intent {
        let clients = Some(Source::new("clients.toml", self.read("clients.toml")));
        common::read(Files { clients, ..common::files() })
    }

    fn lock(&self) -> Lock {
        let source = Source::new("vyr.lock", self.read("vyr.lock"));
        Lock::parse(&source).unwrap_or_else(|faults| panic!("{}", faults[0]))
    }

    /// Adds a client as a person does, and locks.
    fn add(&self, id: &str, number: u8, applied: Option<&Applied>) {
        let key = vyr_plan::intent::Key::from_bytes([number; 32]);
        let line = format!(
            "  {{ id = \"{id}\", owner = \"x\", interface = \"south\", profile = \"split\", \
             public_key = \"{key}\", state = \"active\" }},\n]"
        );
        let clients = self.read("clients.toml");
        let end = clients.rfind(']').expect("a list");
        self.write("clients.toml", &(clients[..end].to_owned() + &line + &clients[end + 1..]));
        let lock = allocate(&self.intent(), &self.lock(), applied).expect("there is room");
        self.write("vyr.lock", &lock.to_string());
        self.commit(id);
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_branches_that_add_a_client_each_merge() {
    let repository = Repository::new("two-branches");
    let files = common::files();
    // As `vyr init` writes it.
    repository.write(".gitattributes", "vyr.lock merge=union\nclients.toml merge=union\n");
    repository.write("clients.toml", files.clients.expect("clients").text());
    let (lock, plan) = common::plan(&common::office(), None);
    let applied = Applied { digest: plan.digest().expect("canonical"), plan };
    repository.write("vyr.lock", &lock.to_string());
    repository.commit("base");
    for (branch, number) in [("hans", 1), ("ines", 2), ("jana", 3)] {
        repository.git(&["checkout", "-q", "-b", branch, "main"]);
        repository.add(branch, number, Some(&applied));
    }
    repository.git(&["checkout", "-q", "main"]);
    for branch in ["hans", "ines", "jana"] {
        repository.git(&["merge", "-q", "--no-edit", branch]);
    }

    let (intent, lock) = (repository.intent(), repository.lock());
    assert_eq!(intent.clients.len(), 15 + 3);
    assert_eq!(lock.stale(&intent, Some(&applied)), [], "nothing is left to mend");
    let plan = compile(&intent, &lock).expect("it compiles");
    assert_eq!(prove(&plan, Some(&applied.plan)), []);
    for id in ["hans", "ines", "jana"] {
        assert!(plan.client(id).is_some_and(|client| !client.addresses.is_empty()), "{id}");
    }
    assert_eq!(plan.parent, Some(applied.digest));
}
