//! `kill -9` of whole commands at random moments, and a full disk.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;

use crate::common::{Place, Running, guest, is_root, not_run};
use crate::judge::{faults, store_faults, works};
use crate::random::Random;

/// Waits a random part of `whole` for the command's end, then kills it; says whether it had ended.
fn kill_within(running: Running, whole: Duration, random: &mut Random) -> bool {
    let ended =
        running.ends_within(whole * u32::try_from(random.below(1000)).expect("small") / 1000);
    running.kill();
    ended
}

/// What a killed command may leave: files in staging, whose writer is gone and which gc removes
/// when they are old, and temporary files of its own name. Everything else must be whole.
#[track_caller]
fn consistent(place: &Place) {
    for store in ["store", "drafts"] {
        let mut faults = store_faults(&place.data().join(store));
        faults.retain(|fault| !fault.ends_with("is left in staging"));
        assert_eq!(faults, [""; 0], "{store}");
    }
}

#[test]
fn a_run_killed_at_any_moment_leaves_a_good_directory() {
    const ROUNDS: usize = 20;
    let mut random = Random::new();
    let probe = guest("probe.wasip1");
    let timed = Place::new();
    let began = Instant::now();
    timed.vyr(&["run", &probe, "--", "args", "timed"]).run().ok();
    let first_run = began.elapsed();

    let place = Place::new();
    let mut killed = 0;
    for round in 0..ROUNDS {
        // An artifact that is new each time; until one gets that far, so are key and code.
        let word = format!("round{round}");
        let running = place.vyr(&["run", &probe, "--", "args", &word]).start();
        killed += usize::from(!kill_within(running, first_run, &mut random));
        consistent(&place);
        let ended = place.vyr(&["run", "--quiet", &probe, "--", "args", &word]).run().ok();
        assert_eq!(ended.text(), format!("probe.wasip1\nargs\n{word}\n"));
        place.vyr(&["artifact", "ls", "--json"]).run().ok().json();
        if round % 4 == 0 {
            // Everything from the beginning: the directory, its key, the store, the code.
            fs::remove_dir_all(place.data()).expect("the data directory");
        }
    }
    assert!(killed > 0, "none was killed: the moments were all too late");
    works(&place);
    consistent(&place);
}

#[test]
fn other_commands_killed_at_any_moment_leave_a_good_directory() {
    let mut random = Random::new();
    let place = Place::new();
    let hello = guest("hello.wasip2");
    let began = Instant::now();
    place.vyr(&["run", &hello]).run().ok();
    let whole = began.elapsed();
    let archive = place.path("hello.tar");
    for round in 0..12 {
        let name = format!("hello{round}");
        let arguments: &[&str] = match round % 4 {
            0 => &["artifact", "build", &hello, "--name", &name],
            1 => &["artifact", "gc", "--older-than", "0s"],
            2 => &["key", "new", &name],
            _ => &["artifact", "ls"],
        };
        kill_within(place.vyr(arguments).start(), whole / 4, &mut random);
        consistent(&place);
        place.vyr(&["artifact", "build", &hello, "--name", &name]).run().ok();
        place.vyr(&["key", "ls", "--json"]).run().ok().json();
    }
    let artifact = place.vyr(&["run", &hello, "--json"]).run().ok().json();
    let artifact = artifact["artifact_digest"].as_str().expect("a digest");
    let export = ["artifact", "export", artifact, "-o", archive.as_str()];
    kill_within(place.vyr(&export).start(), whole / 4, &mut random);
    place.vyr(&export).run().ok();
    place.vyr(&["artifact", "import", archive.as_str()]).run().ok();
    works(&place);
}

/// Not by chance: the kernel ends whoever writes a file past a size, so that each write of a first
/// run in turn is the last.
#[test]
fn a_run_that_dies_writing_leaves_a_good_directory() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let data = place.data();
    let mut died = 0;
    for blocks in [0, 1, 2, 4, 16, 64, 78, 79, 80, 100, 200, 280, 281, 400, 2000] {
        // In blocks of 512 bytes, as POSIX has it.
        let script = format!("ulimit -f {blocks}; exec \"$@\"");
        let arguments = ["-c", &script, "sh", crate::common::VYR, "--data-dir", data.as_str()];
        let ended = place.program("sh", &[&arguments[..], &["run", &hello]].concat()).run();
        died += usize::from(ended.code() != Some(0));
        consistent(&place);
        place.vyr(&["artifact", "ls", "--json"]).run().ok().json();
        let ran = place.vyr(&["run", "--quiet", &hello]).run().ok();
        assert_eq!(ran.text(), "hello from vyr\n", "{blocks} blocks");
        fs::remove_dir_all(&data).expect("the data directory");
    }
    assert!(died >= 5, "only {died} died");
}

/// A mounted tmpfs; unmounted when dropped.
struct SmallDisk {
    place: Place,
}

impl SmallDisk {
    fn mount(test: &str, kibibytes: usize) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let place = Place::new();
        let disk = place.path("disk");
        fs::create_dir(&disk).expect("a directory");
        let options = format!("mode=700,size={kibibytes}k");
        let arguments = ["-t", "tmpfs", "-o", &options, "vyr-test", disk.as_str()];
        if place.program("mount", &arguments).run().code() != Some(0) {
            not_run(test, "may not mount");
            return None;
        }
        Some(Self { place })
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.place.path("disk").join(name)
    }

    /// Takes all space but some pages.
    fn fill_but(&self, pages: usize) {
        let reserve = self.path("reserve");
        fs::write(&reserve, vec![1; pages * 4096]).expect("room for the reserve");
        let mut filler = File::create(self.path("filler")).expect("a file");
        while filler.write_all(&[1; 4096]).is_ok() {}
        fs::remove_file(&reserve).expect("the reserve");
    }

    fn clear(&self) {
        fs::remove_file(self.path("filler")).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let disk = self.place.path("disk");
        let _ = std::process::Command::new("umount").arg(disk).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_written() {
    let test = "crash::a_full_disk_is_told_and_leaves_nothing_half_written";
    let Some(disk) = SmallDisk::mount(test, 4096) else { return };
    let hello = guest("hello.wasip1");
    let data = disk.path("data");
    let (mut refused, mut pages) = (0, 0);
    // From no room at all to room for everything: Wasm, signature, index, key, code, output.
    loop {
        disk.fill_but(pages);
        let ended = disk.place.vyr_on(&data, &["run", "--quiet", &hello]).run();
        disk.clear();
        assert_eq!(faults(&data), [""; 0], "{pages} pages");
        if ended.code() == Some(0) {
            assert_eq!(ended.text(), "hello from vyr\n");
            break;
        }
        refused += 1;
        assert_eq!(ended.code(), Some(6), "{pages} pages: {ended:?}");
        assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
        pages += 1 + pages / 8;
        assert!(pages < 1024, "it never fits");
        if data.exists() && refused % 2 == 0 {
            // Half of the tries begin with an empty disk.
            fs::remove_dir_all(&data).expect("the data directory");
        }
    }
    assert!(refused >= 5, "only {refused} tries met the end of the disk");
}

#[test]
fn an_output_that_does_not_fit_is_told_and_not_kept() {
    let test = "crash::an_output_that_does_not_fit_is_told_and_not_kept";
    let Some(disk) = SmallDisk::mount(test, 4096) else { return };
    let data = disk.path("data");
    let probe = guest("probe.wasip1");
    let run = |bytes: &str, more: &[&str]| {
        let arguments = [&["run", "--quiet"], more, &[&probe, "--", "output", bytes]].concat();
        disk.place.vyr_on(&data, &arguments).run()
    };
    run("1000", &[]).ok();
    let ended = run("8000000", &[]).exits(6);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--no-store") || ended.stderr.contains("gc"), "{}", ended.stderr);
    assert_eq!(faults(&data), [""; 0]);
    assert_eq!(run("8000000", &["--no-store"]).ok().stdout.len(), 8_000_000);
    run("2000", &[]).ok();
}
