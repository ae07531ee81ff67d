//! Guests that were stored before they knew who they are: one for a kind of machine, to start from
//! instead of booting.
//!
//! ```text
//!  a machine of a kind boots, and runs -> wish -> blank: a guest of that kind boots and is stored
//!  the next one of that kind -> find ----------------------> restored, and told who it is
//!                                  fails: it is removed, and the machine boots
//! ```
//!
//! Invariants:
//! 1. A snapshot is found under its kind alone: the digest of everything in which machines may differ
//!    before they are told who they are, root disk and VMM included. The driver looks again.
//! 2. There are at most [`SNAPSHOTS_MAX`], each of a kind of which a machine is known. When the last one
//!    is forgotten, so is it.
//! 3. A record comes last and goes first: half a snapshot is none, and is removed at the next start.
//! 4. Why a machine was booted though it might have been restored is kept, and told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use vyr_base::Digest;

/// Below the directory of machines.
pub(crate) const DIRECTORY: &str = ".snapshots";

/// More kinds than that are seldom started often, and each may be as large as its guest's memory.
pub(crate) const SNAPSHOTS_MAX: usize = 16;

/// Wishes that wait. What finds no room is wished for again by the next machine that boots.
const WISHES_MAX: usize = 16;

/// So often something may go wrong with one kind in a life of this process; then it is left alone.
const FAULTS_MAX: u32 = 3;

/// Kinds of which a fault is remembered.
const FAULTY_MAX: usize = 256;

/// A kind of machine of which a snapshot is wanted, by one that runs.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) kind: Digest,
    pub(crate) root: fs::File,
    pub(crate) memory_bytes: u64,
    pub(crate) vcpus: u8,
    pub(crate) scratch_bytes: Option<u64>,
    pub(crate) card: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Snapshots {
    directory: PathBuf,
    wishes: SyncSender<Wish>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    stored: BTreeMap<Digest, Stored>,
    turn: u64,
    faults: BTreeMap<Digest, Faults>,
    /// Kinds that somebody waits for.
    wished: BTreeSet<Digest>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    /// Which one of its kind it is.
    serial: Serial,
    /// The turn of its last use.
    used: u64,
}

/// Tells a snapshot from the one that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serial(u64);

#[derive(Debug)]
struct Faults {
    count: u32,
    last: String,
}

/// What a machine can start from.
#[derive(Debug)]
pub(crate) enum Found {
    /// This.
    Snapshot(PathBuf, Serial),
    /// Nothing, and why, unless nobody made one yet.
    Nothing(Option<String>),
}

impl Snapshots {
    /// What is there below `machines` of these kinds; everything else is removed.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(crate) fn open(
        machines: &Path,
        known: &BTreeSet<Digest>,
    ) -> io::Result<(Self, Receiver<Wish>)> {
        let directory = machines.join(DIRECTORY);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory)? {
            names.push(entry?.path());
        }
        let mut whole: Vec<(SystemTime, Digest)> = Vec::new();
        for path in names.iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
            let kind = path.file_stem().and_then(|stem| stem.to_str());
            let kind = kind.and_then(|stem| Digest::from_hex(stem).ok());
            let kind = kind.filter(|kind| known.contains(kind));
            let stored = kind.filter(|_| path.with_extension("snapshot").is_file());
            whole.extend(
                stored.and_then(|kind| Some((path.metadata().ok()?.modified().ok()?, kind))),
            );
        }
        let kept = |path: &Path| {
            let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            ["json", "snapshot"].contains(&end) && whole.iter().any(|(_, kind)| kind.hex() == stem)
        };
        for path in names.iter().filter(|path| !kept(path)) {
            remove(path);
        }
        whole.sort();
        let stored = whole.into_iter().zip(1..);
        let stored: BTreeMap<Digest, Stored> = stored
            .map(|((_, kind), turn)| (kind, Stored { serial: Serial(turn), used: turn }))
            .collect();
        let turn = stored.len() as u64;
        let (wishes, waiting) = sync_channel(WISHES_MAX);
        let inside = Mutex::new(Inside { stored, turn, ..Inside::default() });
        Ok((Self { directory, wishes, inside }, waiting))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // What is inside describes files that may be gone at any time: none is believed to be there.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the one of a kind is, or would be.
    pub(crate) fn path(&self, kind: &Digest) -> PathBuf {
        self.directory.join(format!("{}.snapshot", kind.hex()))
    }

    /// What a machine of a kind can start from. It is known to be of that kind before it asks.
    pub(crate) fn find(&self, kind: &Digest) -> Found {
        let mut inside = self.lock();
        inside.turn += 1;
        let turn = inside.turn;
        match inside.stored.get_mut(kind) {
            Some(stored) => {
                stored.used = turn;
                Found::Snapshot(self.path(kind), stored.serial)
            }
            None => Found::Nothing(inside.faults.get(kind).map(|faults| faults.last.clone())),
        }
    }

    /// A machine of that kind booted, and runs.
    pub(crate) fn wish(&self, wish: Wish) {
        let mut inside = self.lock();
        let kind = wish.kind;
        let given_up = inside.faults.get(&kind).is_some_and(|faults| faults.count >= FAULTS_MAX);
        let wanted = !inside.stored.contains_key(&kind) && !given_up;
        // With a full queue there is another time.
        if wanted && !inside.wished.contains(&kind) && self.wishes.try_send(wish).is_ok() {
            inside.wished.insert(kind);
        }
    }

    /// Somebody sees to a wish.
    pub(crate) fn taken(&self, kind: &Digest) {
        self.lock().wished.remove(kind);
    }

    /// Whether there is one of this kind.
    pub(crate) fn has(&self, kind: &Digest) -> bool {
        self.lock().stored.contains_key(kind)
    }

    /// Makes room for one more: the one that was not used for the longest, and is of no `living`
    /// machine's kind, goes. `living` is called while nobody can find any.
    ///
    /// # Errors
    /// All of them are.
    pub(crate) fn make_room(
        &self,
        living: impl FnOnce() -> BTreeSet<Digest>,
    ) -> Result<(), String> {
        let mut inside = self.lock();
        if inside.stored.len() < SNAPSHOTS_MAX {
            return Ok(());
        }
        let living = living();
        let unused = inside.stored.iter().filter(|(kind, _)| !living.contains(kind));
        let Some(oldest) = unused.min_by_key(|(_, stored)| stored.used).map(|(kind, _)| *kind)
        else {
            return Err(format!(
                "there are {SNAPSHOTS_MAX} already, and a machine runs of the kind of each"
            ));
        };
        inside.stored.remove(&oldest);
        self.remove(&oldest);
        Ok(())
    }

    /// One was made.
    pub(crate) fn add(&self, kind: Digest) {
        let mut inside = self.lock();
        inside.turn += 1;
        let turn = inside.turn;
        inside.stored.insert(kind, Stored { serial: Serial(turn), used: turn });
    }

    /// The one of a kind could not be made, or this one is of no use: nothing of it stays. If somebody
    /// else found that out before, there may be another one by now, which is not to blame.
    pub(crate) fn fail(&self, kind: Digest, which: Option<Serial>, why: &str) {
        let mut inside = self.lock();
        let present = inside.stored.get(&kind).map(|stored| stored.serial);
        if which.is_some() && present != which {
            return;
        }
        inside.stored.remove(&kind);
        self.remove(&kind);
        if inside.faults.len() >= FAULTY_MAX {
            inside.faults.clear();
        }
        let before = inside.faults.get(&kind).map_or(0, |faults| faults.count);
        inside.faults.insert(kind, Faults { count: before + 1, last: why.to_owned() });
    }

    /// Removes those of kinds of which no machine is known. `known` is called while nobody can find
    /// any.
    pub(crate) fn sweep(&self, known: impl FnOnce() -> BTreeSet<Digest>) {
        let mut inside = self.lock();
        let known = known();
        let gone: Vec<Digest> =
            inside.stored.keys().filter(|kind| !known.contains(kind)).copied().collect();
        for kind in gone {
            inside.stored.remove(&kind);
            self.remove(&kind);
        }
    }

    fn remove(&self, kind: &Digest) {
        let path = self.path(kind);
        for end in ["json", "new", "snapshot"] {
            remove(&path.with_extension(end));
        }
    }
}

/// Removes all there are, once nobody wants any.
pub(crate) fn clear(machines: &Path) {
    let directory = machines.join(DIRECTORY);
    if directory.exists() {
        remove(&directory);
    }
}

/// What cannot be removed is said; a snapshot that stays so is not used.
fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            eprintln!("vyr machines: cannot remove {}: {e}", path.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(number: usize) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    fn store(of: &Snapshots, number: usize) {
        for end in ["snapshot", "json"] {
            fs::write(of.path(&kind(number)).with_extension(end), "x").expect("room");
        }
        of.add(kind(number));
    }

    fn kinds(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<Digest> {
        numbers.into_iter().map(kind).collect()
    }

    fn names(below: &Path) -> usize {
        fs::read_dir(below.join(DIRECTORY)).expect("a directory").count()
    }

    fn has(of: &Snapshots, number: usize) -> bool {
        matches!(of.find(&kind(number)), Found::Snapshot(..))
    }

    #[test]
    fn so_many_are_kept_and_the_ones_that_are_used() {
        let below = tempfile::tempdir().expect("room");
        let (of, _wishes) = Snapshots::open(below.path(), &kinds([])).expect("room");
        for number in 0..SNAPSHOTS_MAX {
            of.make_room(|| panic!("there is room")).expect("there is room");
            store(&of, number);
        }
        assert!(has(&of, 0), "it is used");
        // The oldest is 1; a machine of its kind runs.
        of.make_room(|| kinds([1])).expect("others are not used");
        store(&of, SNAPSHOTS_MAX);
        assert!(has(&of, 0) && has(&of, 1) && !has(&of, 2));
        assert_eq!(names(below.path()), 2 * SNAPSHOTS_MAX);
        let all = || kinds(0..=SNAPSHOTS_MAX);
        assert!(of.make_room(all).expect_err("all are used").contains("16"));
        of.sweep(|| kinds([1]));
        assert!(has(&of, 1) && !has(&of, 0));
        assert_eq!(names(below.path()), 2);
    }

    #[test]
    fn half_of_one_is_none_and_what_nobody_knows_goes() {
        let below = tempfile::tempdir().expect("room");
        let (of, _wishes) = Snapshots::open(below.path(), &kinds([])).expect("room");
        for number in 0..3 {
            store(&of, number);
        }
        fs::remove_file(of.path(&kind(1)).with_extension("json")).expect("it was written");
        fs::write(of.path(&kind(3)).with_extension("new"), "half").expect("room");
        fs::write(of.path(&kind(4)).with_extension("json"), "no more").expect("room");
        fs::write(below.path().join(DIRECTORY).join("stray"), "x").expect("room");
        drop(of);
        let (of, _wishes) = Snapshots::open(below.path(), &kinds([0, 1, 3, 4])).expect("room");
        assert!(has(&of, 0), "it is whole, and its kind is known");
        for number in 1..5 {
            assert!(!has(&of, number), "{number}");
        }
        assert_eq!(names(below.path()), 2);
        clear(below.path());
        assert!(!below.path().join(DIRECTORY).exists());
    }

    #[test]
    fn a_fault_is_remembered_and_told_and_the_third_is_the_last() {
        let below = tempfile::tempdir().expect("room");
        let (of, wishes) = Snapshots::open(below.path(), &kinds([])).expect("room");
        let wish = |number| Wish {
            kind: kind(number),
            root: fs::File::open("/dev/null").expect("it is there"),
            memory_bytes: 1,
            vcpus: 1,
            scratch_bytes: None,
            card: false,
        };
        for count in 1..=FAULTS_MAX {
            of.wish(wish(1));
            // Who wishes for the same waits for the same.
            of.wish(wish(1));
            assert_eq!(wishes.try_recv().expect("a wish").kind, kind(1));
            assert!(wishes.try_recv().is_err());
            of.taken(&kind(1));
            store(&of, 1);
            let Found::Snapshot(_, first) = of.find(&kind(1)) else { panic!("it was stored") };
            store(&of, 1);
            of.fail(kind(1), Some(first), "it was the one before");
            let Found::Snapshot(_, second) = of.find(&kind(1)) else { panic!("it is another") };
            of.fail(kind(1), Some(second), &format!("reason {count}"));
            of.fail(kind(1), Some(second), "found by another one, too");
            assert_eq!(names(below.path()), 0, "nothing of it stays");
            match of.find(&kind(1)) {
                Found::Nothing(Some(why)) => assert_eq!(why, format!("reason {count}")),
                other => panic!("{other:?}"),
            }
        }
        of.wish(wish(1));
        assert!(wishes.try_recv().is_err(), "it is left alone");
        // What is there is not wished for, and wishes are bounded.
        store(&of, 2);
        of.wish(wish(2));
        assert!(wishes.try_recv().is_err());
        (3..3 + 2 * WISHES_MAX).for_each(|number| of.wish(wish(number)));
        assert_eq!(wishes.try_iter().count(), WISHES_MAX);
    }
}
