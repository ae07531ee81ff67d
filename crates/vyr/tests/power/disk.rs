//! A disk that forgets what nobody made it keep.
//!
//! ```text
//!  write --> log (the volatile cache) --flush--> file (what outlives a power cut)
//!  read  <-- the file under the log
//!  cut   --> the log is gone, but for what chance keeps of it
//! ```
//!
//! What chance keeps after a cut is what a real cache may have written back by itself: nothing, any
//! sectors, or what came first up to a torn write. So writes that were not flushed arrive out of
//! order, in part, or not at all.
//!
//! One exception: the first 4 KiB, where ext4 has its superblock, are torn never. ext4 writes it in
//! place and relies on the 4 KiB sectors of today's disks; a file system that does not mount any
//! more would say nothing about the node.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::random::Random;

/// What is written whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// Of ext4 on a disk of this size.
const BLOCK: usize = 4096;

/// See above.
const SUPERBLOCK: u64 = 4096;

/// A cache is not endless: past this size the oldest writes go to the file by themselves.
const CACHE_BYTES_MAX: usize = 256 << 20;

/// The power is off, or goes off now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Off;

/// How many commands a disk has seen, and what they did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) flushes: u64,
}

/// What a power cut did to the cache, in sectors; one that was written twice counts twice.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) kept: usize,
    pub(crate) lost: usize,
}

/// A write that no flush has followed yet.
struct Write {
    offset: u64,
    data: Vec<u8>,
}

struct State {
    log: Vec<Write>,
    log_bytes: usize,
    counts: Counts,
    /// Writes and flushes until the power goes off.
    left: Option<u64>,
    /// The seeded defect: a flush is answered, and nothing is kept.
    lies: bool,
}

pub(crate) struct Disk {
    file: File,
    bytes: u64,
    state: Mutex<State>,
    off: watch::Sender<bool>,
}

impl Disk {
    pub(crate) fn new(file: File) -> Self {
        let bytes = file.metadata().expect("a file").len();
        let state = State {
            log: Vec::new(),
            log_bytes: 0,
            counts: Counts::default(),
            left: None,
            lies: false,
        };
        Self { file, bytes, state: Mutex::new(state), off: watch::channel(false).0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().expect("no panic").counts
    }

    /// From now on flushes are answered and not done.
    pub(crate) fn lie(&self) {
        self.state.lock().expect("no panic").lies = true;
    }

    /// Lets the power go off in the midst of the command after `commands` more.
    pub(crate) fn fail_after(&self, commands: u64) {
        self.state.lock().expect("no panic").left = Some(commands);
    }

    /// The power goes off now, if it is not off yet.
    pub(crate) fn fail_now(&self) {
        let _whole = self.state.lock().expect("no panic");
        self.off.send_replace(true);
    }

    /// Becomes true when the power goes off.
    pub(crate) fn off(&self) -> watch::Receiver<bool> {
        self.off.subscribe()
    }

    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Off> {
        let state = self.on()?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).expect("the image can be read");
        let end = offset + length as u64;
        for write in &state.log {
            let (from, to) = (write.offset.max(offset), write.end().min(end));
            if from < to {
                let at = |place: u64, base: u64| usize::try_from(place - base).expect("short");
                bytes[at(from, offset)..at(to, offset)]
                    .copy_from_slice(&write.data[at(from, write.offset)..at(to, write.offset)]);
            }
        }
        Ok(bytes)
    }

    pub(crate) fn write(&self, offset: u64, data: Vec<u8>) -> Result<(), Off> {
        let mut state = self.on()?;
        state.counts.writes += 1;
        state.log_bytes += data.len();
        // First, so that a cut in the midst of this write may keep a part of it.
        state.log.push(Write { offset, data });
        self.tick(&mut state)?;
        while state.log_bytes > CACHE_BYTES_MAX && !state.lies {
            let oldest = state.log.remove(0);
            state.log_bytes -= oldest.data.len();
            self.keep(&oldest.data, oldest.offset);
        }
        Ok(())
    }

    pub(crate) fn flush(&self) -> Result<(), Off> {
        let mut state = self.on()?;
        state.counts.flushes += 1;
        self.tick(&mut state)?;
        if !state.lies {
            for write in std::mem::take(&mut state.log) {
                self.keep(&write.data, write.offset);
            }
            state.log_bytes = 0;
        }
        Ok(())
    }

    /// What is left once the power is gone and nobody talks to the disk. It is on again afterwards.
    pub(crate) fn cut(&self, random: &mut Random) -> Cut {
        let mut state = self.state.lock().expect("no panic");
        let log = std::mem::take(&mut state.log);
        let pieces: Vec<(u64, &[u8])> = log.iter().flat_map(Write::pieces).collect();
        let mut cut = Cut::default();
        let kind = random.below(4);
        let reach = random.below(1 + pieces.len() as u64);
        let chance = 1 + random.below(7);
        for (n, (offset, data)) in pieces.into_iter().enumerate() {
            let keeps = match kind {
                // Nothing; what a cache that writes back only when it is told has done.
                0 => false,
                // What came first.
                1 => (n as u64) < reach,
                // Anything.
                _ => random.below(8) < chance,
            };
            let sectors = data.len() / SECTOR;
            if keeps && !state.lies {
                self.keep(data, offset);
                cut.kept += sectors;
            } else {
                cut.lost += sectors;
            }
        }
        (state.log_bytes, state.left, state.lies) = (0, None, false);
        self.off.send_replace(false);
        cut
    }

    /// The seeded defect of one sector: that which holds `content`, at the beginning of a block of the
    /// file system, becomes zeroes. `false`: there is none.
    pub(crate) fn erase(&self, content: &[u8]) -> bool {
        let mut piece = vec![0; BLOCK * 256];
        for offset in (0..self.bytes).step_by(piece.len()) {
            self.file.read_exact_at(&mut piece, offset).expect("the image can be read");
            if let Some(n) = piece.chunks(BLOCK).position(|block| block.starts_with(content)) {
                self.keep(&[0; SECTOR], offset + (n * BLOCK) as u64);
                return true;
            }
        }
        false
    }

    /// Only when the power is on.
    fn on(&self) -> Result<std::sync::MutexGuard<'_, State>, Off> {
        let state = self.state.lock().expect("no panic");
        if *self.off.borrow() { Err(Off) } else { Ok(state) }
    }

    fn tick(&self, state: &mut State) -> Result<(), Off> {
        match &mut state.left {
            Some(0) => {
                self.off.send_replace(true);
                Err(Off)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn keep(&self, data: &[u8], offset: u64) {
        self.file.write_all_at(data, offset).expect("the image can be written");
    }
}

impl Write {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }

    /// The parts that are kept or lost each by itself.
    fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let whole = usize::try_from(SUPERBLOCK.saturating_sub(self.offset)).unwrap_or(0);
        let (whole, rest) = self.data.split_at(whole.min(self.data.len()));
        let rest_at = self.offset + whole.len() as u64;
        let sectors = rest.chunks(SECTOR).enumerate();
        let sectors = sectors.map(move |(n, data)| (rest_at + (n * SECTOR) as u64, data));
        std::iter::once((self.offset, whole)).filter(|(_, data)| !data.is_empty()).chain(sectors)
    }
}

/// The disk itself, in every build.
pub(crate) mod trials {
    use super::*;

    /// Far behind the superblock.
    const AT: u64 = 1 << 20;

    fn disk() -> Disk {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4 << 20).expect("a size");
        Disk::new(file)
    }

    fn sectors(disk: &Disk, count: usize) -> Vec<u8> {
        let bytes = disk.read(AT, count * SECTOR).expect("on");
        bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    pub(crate) fn what_is_flushed_stays_and_the_rest_is_up_to_chance() {
        let (mut lost, mut kept, mut mixed) = (0, 0, 0);
        for seed in 0..200 {
            let disk = disk();
            disk.write(AT, vec![1; 8 * SECTOR]).expect("on");
            disk.flush().expect("on");
            disk.write(AT, vec![2; 8 * SECTOR]).expect("on");
            assert_eq!(sectors(&disk, 8), [2; 8], "a cache is read through");
            disk.cut(&mut Random::seeded(seed));
            let left = sectors(&disk, 8);
            assert!(left.iter().all(|byte| matches!(byte, 1 | 2)), "{left:?}");
            match left.iter().filter(|byte| **byte == 2).count() {
                0 => lost += 1,
                8 => kept += 1,
                _ => mixed += 1,
            }
        }
        assert!(lost > 20 && mixed > 20 && kept > 0, "{lost} {mixed} {kept}");
    }

    pub(crate) fn the_power_goes_off_at_the_command_it_was_set_to() {
        let disk = disk();
        disk.fail_after(2);
        disk.write(AT, vec![1; SECTOR]).expect("on");
        disk.flush().expect("on");
        let off = disk.off();
        assert!(!*off.borrow());
        assert_eq!(disk.write(AT, vec![2; SECTOR]), Err(Off));
        assert!(*off.borrow());
        assert_eq!((disk.flush(), disk.read(AT, SECTOR)), (Err(Off), Err(Off)));
        disk.cut(&mut Random::seeded(0));
        assert!(matches!(sectors(&disk, 1)[..], [1 | 2]));
    }

    pub(crate) fn a_lie_costs_what_was_flushed() {
        let disk = disk();
        disk.lie();
        disk.write(AT, vec![1; SECTOR]).expect("on");
        disk.flush().expect("on");
        assert_eq!(sectors(&disk, 1), [1]);
        let cut = disk.cut(&mut Random::seeded(0));
        assert_eq!((sectors(&disk, 1), cut.lost), (vec![0], 1));
    }

    pub(crate) fn a_superblock_is_not_torn() {
        for seed in 0..200 {
            let disk = disk();
            disk.write(0, vec![1; 16 * SECTOR]).expect("on");
            disk.cut(&mut Random::seeded(seed));
            let first = disk.read(0, 8 * SECTOR).expect("on");
            assert!(first.iter().all(|byte| *byte == first[0]));
        }
    }
}
