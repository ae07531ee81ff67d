//! A guest that is nobody, booted to be stored: it has a user, a cgroup and a mark of its own like any
//! machine, and a card with nobody at its other end.
//!
//! One at a time, in a directory of a fixed name. What a life of `machines` that was killed left of it is
//! found by its record, which is there before it starts, and ended.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vyr_vm::vmm::{Link, Machine, QemuMachine, Spec, Vmm};

use super::error::text;
use super::keeper::{Keeper, Which};
use super::place::Place;
use super::record;
use super::snapshots::{Snapshots, Wish};
use super::users::kill_marked;
use crate::data_dir::replace;

/// Below the directory of machines.
pub(crate) const DIRECTORY: &str = ".blank";
const RECORD: &str = "blank.json";
const VERSION: u32 = 1;

/// A record is smaller.
const BYTES_MAX: u64 = 4 << 10;

/// From the VMM's start to the guest's first word: an emulated guest on a busy host takes a minute.
const BOOT: Duration = Duration::from_secs(300);

/// A card's address: the next guest sets its own.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Stays free on the disk when a snapshot is as large as its guest's memory, which it hardly ever is:
/// machines that run need room for what they write.
const SPARE_BYTES: u64 = 1 << 30;

/// Who is to be ended if nobody remembers it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    mark: String,
}

/// Fulfils wishes, one after the other.
pub(crate) fn serve(keeper: &Keeper, wishes: &Receiver<Wish>) {
    let Some(snapshots) = &keeper.snapshots else { return };
    while let Ok(wish) = wishes.recv() {
        let kind = wish.kind;
        snapshots.taken(&kind);
        // Others may have wished for the same, and whoever did may be forgotten.
        if snapshots.has(&kind) || !keeper.kinds(Which::Known).contains(&kind) {
            continue;
        }
        let begun = Instant::now();
        match make(keeper, snapshots, wish) {
            Ok(()) => {
                let bytes = fs::metadata(snapshots.path(&kind)).map_or(0, |of| of.len());
                eprintln!(
                    "vyr machines: snapshot {} of {} MiB was made in {:.1} s",
                    short(&kind.hex()),
                    bytes >> 20,
                    begun.elapsed().as_secs_f64()
                );
                // Whoever it was made for may have gone meanwhile.
                snapshots.sweep(|| keeper.kinds(Which::Known));
            }
            Err(why) => {
                let why = format!("no snapshot could be made: {why}");
                eprintln!("vyr machines: {}: {why}; such machines boot", short(&kind.hex()));
                snapshots.fail(kind, None, &why);
            }
        }
    }
}

/// Digits that people need to tell one kind from another.
pub(crate) fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

/// Ends what is left of an earlier life.
pub(crate) fn clear(place: &Place) {
    let directory = place.directory.join(DIRECTORY);
    if !directory.exists() {
        return;
    }
    kill_left(place);
    if let Err(e) = fs::remove_dir_all(&directory) {
        eprintln!("vyr machines: cannot remove {}: {e}", directory.display());
    }
}

/// Ends the guest that a record tells of.
pub(crate) fn kill_left(place: &Place) {
    let directory = place.directory.join(DIRECTORY);
    match read(&directory) {
        Ok(record) => {
            kill_marked(&record.mark);
            remove_group(place, &record.mark);
        }
        // Nothing was started before it was written.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => eprintln!("vyr machines: {}: {e}", directory.join(RECORD).display()),
    }
}

fn read(directory: &Path) -> io::Result<Record> {
    let path = directory.join(RECORD);
    if fs::metadata(&path)?.len() > BYTES_MAX {
        return Err(io::Error::other("it is too long"));
    }
    let record: Record = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
    if record.version != VERSION {
        return Err(io::Error::other(format!("its version is {}", record.version)));
    }
    Ok(record)
}

fn remove_group(place: &Place, mark: &str) {
    if let Ok(cgroups) = &place.cgroups {
        // It is gone already when its VMM was seen to end.
        let _ = fs::remove_dir(cgroups.path().join(mark));
    }
}

/// The guest, while it is there: whatever becomes of it, nothing stays.
struct Blank<'a> {
    keeper: &'a Keeper,
    directory: PathBuf,
    mark: String,
    machine: Option<QemuMachine>,
}

impl Drop for Blank<'_> {
    fn drop(&mut self) {
        if let Some(machine) = &self.machine
            && machine.kill().is_err()
        {
            kill_marked(&self.mark);
        }
        remove_group(&self.keeper.place, &self.mark);
        if let Err(e) = fs::remove_dir_all(&self.directory) {
            eprintln!("vyr machines: cannot remove {}: {e}", self.directory.display());
        }
        self.keeper.give_user_back();
    }
}

fn make(keeper: &Keeper, snapshots: &Snapshots, wish: Wish) -> Result<(), String> {
    has_room(&keeper.place.directory, wish.memory_bytes)?;
    let driver = keeper.driver().as_ref().map_err(Clone::clone)?;
    let directory = keeper.place.directory.join(DIRECTORY);
    let mark = record::mark().map_err(|e| format!("no mark: {e}"))?;
    let uid = keeper.lend_user()?;
    let mut blank = Blank { keeper, directory, mark: mark.clone(), machine: None };
    // Only now another one has to go for it.
    snapshots.make_room(|| keeper.kinds(Which::Living))?;
    let directory = blank.directory.clone();
    let begun = DirBuilder::new().mode(0o700).create(&directory).and_then(|()| {
        let record = Record { version: VERSION, mark: mark.clone() };
        let record = serde_json::to_vec(&record).map_err(io::Error::other)?;
        replace(&directory.join(RECORD), &record)?;
        fs::File::open(&keeper.place.directory)?.sync_all()
    });
    begun.map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    let spec = Spec {
        platform: driver.platform.clone(),
        root: wish.root,
        memory_bytes: wish.memory_bytes,
        vcpus: wish.vcpus,
        scratch_bytes: wish.scratch_bytes,
        card: wish.card.then_some((Link::Nowhere, NOBODY)),
        user: uid.map(|uid| (uid, keeper.place.kvm_group.unwrap_or(uid))),
        cgroup: keeper.place.cgroups.is_ok().then(|| mark.clone()),
        snapshot: None,
        mark: Some(mark),
    };
    let kind = driver.qemu.kind(&spec).map_err(|e| text(&e))?;
    if kind != wish.kind {
        return Err("its root disk was changed".into());
    }
    driver.qemu.prepare(&spec, &directory).map_err(|e| text(&e))?;
    let machine = driver.qemu.start(spec, &directory).map_err(|e| text(&e))?;
    let machine = blank.machine.insert(machine);
    let channel = machine.channel(true, BOOT).map_err(|e| text(&e))?;
    machine.snapshot(channel, &snapshots.path(&kind)).map_err(|e| text(&e))?;
    // Before the guest's directory goes: whoever sees that finds the snapshot.
    snapshots.add(kind);
    Ok(())
}

fn has_room(directory: &Path, memory_bytes: u64) -> Result<(), String> {
    let disk = rustix::fs::statvfs(directory).map_err(|e| format!("cannot look for room: {e}"))?;
    let (free, needed) =
        (disk.f_bavail.saturating_mul(disk.f_frsize), memory_bytes.saturating_add(SPARE_BYTES));
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(format!("the disk has {} MiB free, and {} are asked for", mib(free), mib(needed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_for_before_it_is_taken() {
        let directory = tempfile::tempdir().expect("room");
        has_room(directory.path(), u64::MAX >> 1).expect_err("no disk has it");
        has_room(&directory.path().join("none"), 1).expect_err("there is no disk");
    }
}
