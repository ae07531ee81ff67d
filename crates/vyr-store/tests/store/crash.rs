//! SIGKILL after every durable step of every operation.
//!
//! A scenario runs in a child that kills itself after its n-th step, for n = 1, 2, ... until the
//! child comes to its end alive. After each death the store must open, be sound, hold the new
//! thing wholly or not at all, lose its leftovers to gc, and take the same operation again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use vyr_base::Digest;
use vyr_store::{ProbeFn, Step, Store};

use crate::common::{Artifact, check, collect_all, export, import, staging};

const SCENARIO: &str = "VYR_STORE_TEST_SCENARIO";
const DIRECTORY: &str = "VYR_STORE_TEST_DIRECTORY";
const DEADLY: &str = "VYR_STORE_TEST_DEADLY_STEP";

/// More steps than any scenario has.
const MOST_STEPS: usize = 200;

/// An operation, and what must be true around it.
struct Scenario {
    name: &'static str,
    /// Before the operation, in the parent.
    prepare: fn(&Path),
    /// The operation, told its probe.
    act: fn(&Path, Option<ProbeFn>),
    /// Once the operation has come to its end.
    done: fn(&Store),
}

const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "open", prepare: nothing, act: open, done: |_| {} },
    Scenario { name: "put", prepare: a_relative, act: put, done: put_is_whole },
    Scenario { name: "remove", prepare: a_signed_artifact, act: remove, done: removed },
    Scenario { name: "output", prepare: nothing, act: output, done: outputs_are_there },
    Scenario { name: "gc", prepare: rubbish, act: gc, done: only_the_relative_is_left },
    Scenario { name: "import", prepare: an_archive, act: import_archive, done: put_is_whole },
];

fn store(directory: &Path, probe: Option<ProbeFn>) -> Store {
    Store::open_with_probe(&directory.join("store"), probe).expect("the store opens")
}

fn nothing(_: &Path) {}

/// Shares a layer with the artifact that is put, so that the put meets a blob that is there.
fn relative() -> Artifact {
    Artifact::new(&[b"shared layer", b"layer of the relative"])
}

fn artifact() -> Artifact {
    Artifact::new(&[b"shared layer", &[7; 300_000]])
}

fn a_relative(directory: &Path) {
    relative().put(&store(directory, None)).expect("put");
}

fn a_signed_artifact(directory: &Path) {
    a_relative(directory);
    artifact().put_signed(&store(directory, None), "signature").expect("put");
}

fn open(directory: &Path, probe: Option<ProbeFn>) {
    store(directory, probe);
}

fn put(directory: &Path, probe: Option<ProbeFn>) {
    artifact().put_signed(&store(directory, probe), "signature").expect("put");
}

fn put_is_whole(store: &Store) {
    let reached = check(store).expect("sound");
    let signature = Artifact::signature(&artifact(), "signature");
    assert!(reached.contains(&artifact().digest()) && reached.contains(&signature.digest()));
    assert!(reached.contains(&relative().digest()));
}

fn remove(directory: &Path, probe: Option<ProbeFn>) {
    let store = store(directory, probe);
    // A second run finds it gone if the first died after the new index had its name.
    if store.entries().expect("an index").len() > 1 {
        assert_eq!(store.remove(&artifact().digest()).expect("it is there").len(), 2);
    }
}

fn removed(store: &Store) {
    let entries = store.entries().expect("an index");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].digest, relative().digest());
}

const SMALL: &[u8] = b"a small output";
const LARGE: &[u8] = &[9; 100_000];

fn output(directory: &Path, probe: Option<ProbeFn>) {
    let store = store(directory, probe);
    for content in [SMALL, LARGE] {
        let mut staged = store.stage();
        staged.write_all(content).expect("room");
        let stored = staged.commit().expect("room");
        assert_eq!(stored, (Digest::of(content), content.len() as u64));
    }
}

fn outputs_are_there(store: &Store) {
    for content in [SMALL, LARGE] {
        assert_eq!(store.read_blob(&Digest::of(content), 1 << 20).expect("there"), content);
    }
}

/// An artifact to keep, one to collect, an orphan, and what two crashed writers left behind.
fn rubbish(directory: &Path) {
    a_signed_artifact(directory);
    remove(directory, None);
    output(directory, None);
    let staging = directory.join("store/staging");
    fs::create_dir(staging.join("put-left")).expect("a directory");
    fs::write(staging.join("put-left/blob"), b"half").expect("a file");
    fs::write(staging.join("output-left"), b"half").expect("a file");
}

fn gc(directory: &Path, probe: Option<ProbeFn>) {
    store(directory, probe).gc(&collect_all()).expect("a sound store");
}

fn only_the_relative_is_left(store: &Store) {
    let reached = check(store).expect("sound");
    let left = fs::read_dir(store.root().join("blobs/sha256")).expect("a directory").count();
    assert_eq!((reached.len(), left), (4, 4), "manifest, config and two layers");
}

fn an_archive(directory: &Path) {
    let other = Store::open(&directory.join("other")).expect("another store");
    artifact().put_signed(&other, "signature").expect("put");
    let archive = export(&other, &[artifact().digest()]);
    fs::write(directory.join("archive.tar"), archive).expect("a file");
    a_relative(directory);
}

fn import_archive(directory: &Path, probe: Option<ProbeFn>) {
    let archive = fs::read(directory.join("archive.tar")).expect("the archive");
    import(&store(directory, probe), &archive);
}

#[test]
fn child() {
    let Ok(name) = std::env::var(SCENARIO) else { return };
    let directory = std::env::var_os(DIRECTORY).expect("a directory");
    let deadly: usize = std::env::var(DEADLY).expect("a step").parse().expect("a number");
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).expect("a scenario");
    let taken = AtomicUsize::new(0);
    let probe: ProbeFn = Arc::new(move |step: Step| {
        if taken.fetch_add(1, Ordering::SeqCst) + 1 == deadly {
            eprintln!("died after {step:?}");
            kill_process(getpid(), Signal::KILL).expect("to die");
        }
    });
    (scenario.act)(Path::new(&directory), Some(probe));
}

/// Runs a scenario in a child until it dies after its `deadly`-th step; says after which step it
/// died, or nothing if it came to its end.
fn run(scenario: &Scenario, directory: &Path, deadly: usize) -> Option<Step> {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario.name)
        .env(DIRECTORY, directory)
        .env(DEADLY, deadly.to_string())
        .output()
        .expect("a child");
    let narration = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return None;
    }
    assert_eq!(output.status.signal(), Some(9), "{}: {narration}", scenario.name);
    let step = narration.lines().find_map(|line| line.strip_prefix("died after "));
    let step = step.expect("the step it died after");
    Step::ALL.into_iter().find(|known| format!("{known:?}") == step)
}

fn survive(scenario: &Scenario, seen: &mut BTreeSet<Step>) {
    for deadly in 1..MOST_STEPS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let directory = directory.path();
        (scenario.prepare)(directory);
        let died = run(scenario, directory, deadly);
        let context = format!("{} died after step {deadly}, {died:?}", scenario.name);

        let store = store(directory, None);
        let reached = check(&store).unwrap_or_else(|defect| panic!("{context}: {defect}"));
        let new = [artifact(), Artifact::signature(&artifact(), "signature")];
        let here = new.map(|artifact| reached.contains(&artifact.digest()));
        assert!(here[0] == here[1], "{context}: an artifact without its signature");
        if died.is_none() {
            (scenario.done)(&store);
            assert_eq!(staging(&store), 0, "{context}");
            return;
        }
        // Once with the leftovers, once more after gc took them.
        (scenario.act)(directory, None);
        (scenario.done)(&store);
        store.gc(&collect_all()).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(staging(&store), 0, "{context}: leftovers in staging");
        check(&store).unwrap_or_else(|defect| panic!("{context}, after gc: {defect}"));
        (scenario.act)(directory, None);
        (scenario.done)(&store);
        seen.extend(died);
    }
    panic!("{} has more than {MOST_STEPS} steps", scenario.name);
}

#[test]
fn a_kill_after_any_step_leaves_a_sound_store() {
    let mut seen = BTreeSet::new();
    for scenario in &SCENARIOS {
        survive(scenario, &mut seen);
    }
    assert_eq!(seen, BTreeSet::from(Step::ALL), "every step was somebody's last");
}
