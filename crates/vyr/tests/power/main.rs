//! The power goes off while a node is at work, again and again, and everything it had said is
//! still so.
//!
//! ```text
//!  this program                                   qemu (TCG: no hardware is asked for)
//!    nbd.rs   disk with a volatile cache  <-- virtio-blk -- ext4 <-- vyr up: journal, store
//!    load.rs  clients over the SDK        <-- virtio-serial, relayed --> operator.sock
//!    known.rs what they were told                   guest.rs: this program again, as process 1
//! ```
//!
//! A kill of the emulator alone would lose nothing: what a guest has written is in the host's page
//! cache by then. So the disk is an NBD export of our own that keeps in memory whatever was not
//! flushed; a flush of the guest's kernel arrives as one, and nothing else moves data to the file.
//! At the cut the memory is dropped, or kept in part and out of order, by chance (`disk.rs`). The
//! disk stops first and the emulator is killed after it, so what is acknowledged during the cut was
//! flushed before.
//!
//! A moment is a number of disk commands, of a boot or under load, or an instant while
//! acknowledgements come in; it is drawn from the seed. The boot after a cut is the one that is looked
//! at, and then the one that is cut next. What must hold then:
//!
//! 1. `vyr verify --journal` finds the journal sound, before anything of the node ran.
//! 2. Every event that was seen before is there as it was, under a checkpoint of the same node.
//! 3. Every acknowledged task is there, with its key, and its input has the right bytes.
//! 4. Every end that was shown is the end, and its output has the right bytes.
//! 5. What was accepted ends, exactly once; only what was running at the cut may be `lost`.
//! 6. What was stored or put, and acknowledged, can be read or run.
//! 7. The same key is the same task, also when its answer never came.
//!
//! With `VYR_FULL` set only (`make test-full`): fifty moments take half an hour of two busy cores.
//! `VYR_MOMENTS` says another number, `VYR_SEED` the seed. A seed gives the same moments and the same
//! fates of sectors, but the machine's own timing is not fixed: the image of a run that failed is
//! kept.
//!
//! Without the usual harness, because process 1 of the machine is this program.

mod disk;
#[path = "../emulated/mod.rs"]
mod emulated;
mod guest;
mod guests;
mod image;
mod known;
mod load;
mod machine;
mod nbd;
#[path = "../node/random.rs"]
mod random;

use std::fs::{File, OpenOptions};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::net::UnixStream;
use vyr_api::Client;
use vyr_api::control::put_artifact_request::Part;

use crate::disk::Disk;
use crate::emulated::emulator;
use crate::guest::Found;
use crate::guests::Signer;
use crate::known::Notes;
use crate::machine::Machine;
use crate::random::Random;

/// Nothing in one boot takes a tenth of it on a machine that has nothing else to do.
const HANG: Duration = Duration::from_secs(300);

/// All moments together; far above what they take.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// Moments when `VYR_MOMENTS` does not say.
const MOMENTS: usize = 50;

const LOOK_AGAIN: Duration = Duration::from_millis(2);

const FAULTS_SHOWN: usize = 20;

const HOLDS: &str = "power::what_was_acknowledged_is_there_after_every_power_cut";
const READS: &str = "power::a_sector_of_the_store_that_was_lost_is_found_out";
const NOTICES: &str = "power::a_disk_that_lies_about_flushing_is_found_out";

/// Moments before anything was acknowledged: a node that never ran must come up as well.
const FIRST_STARTS: usize = 5;

/// The image is sparse; fifty moments fill a small part of it.
const DISK_BYTES: u64 = 1 << 30;

fn main() -> ExitCode {
    // A container may have any program as its process 1; the machine's kernel adds a word.
    if std::process::id() == 1 && std::env::args().any(|word| word.starts_with(guest::FROM)) {
        println!("process 1 ends: {:?}", guest::live());
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // Two machines at once on two cores would only wait for each other.
    arguments.test_threads = Some(1);
    let mut trials = vec![
        trial("disk::what_is_flushed_stays_and_the_rest_is_up_to_chance", || {
            disk::trials::what_is_flushed_stays_and_the_rest_is_up_to_chance();
        }),
        trial("disk::the_power_goes_off_at_the_command_it_was_set_to", || {
            disk::trials::the_power_goes_off_at_the_command_it_was_set_to();
        }),
        trial("disk::a_lie_costs_what_was_flushed", disk::trials::a_lie_costs_what_was_flushed),
        trial("disk::a_superblock_is_not_torn", disk::trials::a_superblock_is_not_torn),
    ];
    if std::env::var_os("VYR_FULL").is_some() {
        trials.push(trial(NOTICES, a_disk_that_lies_about_flushing_is_found_out));
        trials.push(trial(READS, a_sector_of_the_store_that_was_lost_is_found_out));
        trials.push(trial(HOLDS, what_was_acknowledged_is_there_after_every_power_cut));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        body();
        Ok(())
    })
}

fn can_run(test: &str) -> bool {
    emulator::can_run(test, &[])
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().expect("a runtime").block_on(work)
}

/// When the power goes off.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// At this disk command of a boot, perhaps while it repairs what the last cut left.
    Boot(u64),
    /// At this disk command under load.
    Command(u64),
    /// So long after so many more acknowledgements.
    Time { acknowledged: u64, ms: u64 },
    /// Not at all: the last boot is looked at, and everything once more.
    Never,
}

impl Moment {
    fn draw(n: usize, random: &mut Random) -> Self {
        match random.below(8) {
            // A first start of some 160 commands, which the next boot has to go on with.
            _ if n < FIRST_STARTS => Self::Boot(random.below(60)),
            0 => Self::Boot(random.below(200)),
            1..=5 => Self::Command(random.below(500)),
            _ => Self::Time { acknowledged: 1 + random.below(60), ms: random.below(300) },
        }
    }
}

/// A disk and what is known of it, over many boots.
struct Run {
    directory: tempfile::TempDir,
    disk: Arc<Disk>,
    signer: Signer,
    /// What most tasks run; whether its put was acknowledged.
    artifact: (String, Vec<Part>),
    put: bool,
    notes: Notes,
    seed: u64,
    random: Random,
    boots: usize,
    cuts_with_loss: usize,
    lost_sectors: usize,
    /// Under the next load the disk lies.
    lies: bool,
    begun: Instant,
}

impl Run {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let image = directory.path().join("disk");
        File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).expect("an image");
        // Tables are written now, not later by a thread of the machine's kernel.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        let mkfs = Command::new("mkfs.ext4").args(["-q", "-F", "-E", options]).arg(&image).status();
        assert!(mkfs.expect("mkfs.ext4 runs").success());
        let file = OpenOptions::new().read(true).write(true).open(&image).expect("the image");
        let signer = Signer::new();
        image::initramfs(&directory.path().join("initramfs"), &signer.trust());
        let seed = random::seed();
        Self {
            directory,
            disk: Arc::new(Disk::new(file)),
            artifact: signer.artifact("flip"),
            signer,
            put: false,
            notes: Notes::new(),
            seed,
            random: Random::seeded(seed),
            boots: 0,
            cuts_with_loss: 0,
            lost_sectors: 0,
            lies: false,
            begun: Instant::now(),
        }
    }

    /// Boots, looks at everything, puts load on it and pulls the plug. What is wrong is among the
    /// faults of `notes`.
    async fn boot(&mut self, moment: Moment) {
        let start = Instant::now();
        self.boots += 1;
        self.notes.with(known::Known::begin);
        let mut off = self.disk.off();
        if let Moment::Boot(commands) = moment {
            self.disk.fail_after(commands);
        }
        let from = match moment {
            Moment::Never => 0,
            _ => self.notes.with(|known| known.looked_at()),
        };
        let counts = self.disk.counts();
        let (machine, port) = Machine::start(self.directory.path(), &self.disk, from).await;
        let ready = tokio::select! {
            _ = off.wait_for(|off| *off) => Err("the power went off".to_owned()),
            ready = tokio::time::timeout(HANG, self.ready(port)) => {
                ready.unwrap_or_else(|_| Err("a boot takes too long".into()))
            }
        };
        let booted = (start.elapsed().as_secs_f32(), self.disk.counts());
        let acknowledged = self.notes.with(|known| known.totals().acknowledged);
        let console = machine.console_path();
        match ready {
            Ok(client) if !matches!(moment, Moment::Never) => {
                self.cut_under_load(client, moment, machine).await;
            }
            Ok(_) => drop(machine),
            Err(why) => {
                let expected = matches!(moment, Moment::Boot(_)) && *self.disk.off().borrow();
                drop(machine);
                if !expected {
                    self.fault(format!("{why}: {}", emulator::end_of(&console)));
                }
            }
        }
        let cut = self.disk.cut(&mut self.random);
        let all = self.disk.counts();
        let more = self.notes.with(|known| known.totals().acknowledged) - acknowledged;
        println!(
            "boot {}: {moment:?}: {} writes and {} flushes in {:.1} s, then {} and {} in {:.1} s, \
             {more} acknowledged; of what was not flushed {} sectors are lost, {} kept",
            self.boots,
            booted.1.writes - counts.writes,
            booted.1.flushes - counts.flushes,
            booted.0,
            all.writes - booted.1.writes,
            all.flushes - booted.1.flushes,
            start.elapsed().as_secs_f32() - booted.0,
            cut.lost,
            cut.kept,
        );
        self.lost_sectors += cut.lost;
        self.cuts_with_loss += usize::from(cut.lost > 0);
    }

    fn fault(&self, what: String) {
        self.notes.with(|known| known.fault(what));
    }

    /// Waits for the node and compares everything.
    async fn ready(&mut self, mut port: UnixStream) -> Result<Client, String> {
        let found = machine::line(&mut port).await.ok_or("the machine did not come up")?;
        let found: Found = serde_json::from_str(&found).map_err(|e| format!("{found:?}: {e}"))?;
        known::compare_found(&self.notes, &found);
        match machine::line(&mut port).await.as_deref() {
            Some("ready") => {}
            other => return Err(format!("the node did not come up: {other:?}")),
        }
        let client = Client::over(port).await;
        let mut client = client.map_err(|e| format!("no connection: {e}"))?;
        let failed = |e| format!("the node does not answer: {e:?}");
        if !self.put {
            load::put(&mut client, &self.artifact.1).await.map_err(failed)?;
            self.put = true;
        }
        known::compare(&self.notes, &mut client).await.map_err(failed)?;
        Ok(client)
    }

    /// Puts load on a machine that is as it should be, until its moment.
    async fn cut_under_load(&mut self, client: Client, moment: Moment, machine: Machine) {
        let mut off = self.disk.off();
        if let Moment::Command(commands) = moment {
            self.disk.fail_after(commands);
        }
        if self.lies {
            self.disk.lie();
        }
        let another = self.signer.artifact(&format!("flip-{}", self.boots));
        let (notes, artifact) = (self.notes.clone(), self.artifact.0.clone());
        let before = notes.with(|known| known.totals().acknowledged);
        let mut load = tokio::spawn(load::load(client, notes, self.boots, artifact, another));
        let notes = self.notes.clone();
        let time = async {
            // A cut of a boot that came too late for it is one under load.
            let (wanted, ms) = match moment {
                Moment::Time { acknowledged, ms } => (acknowledged, ms),
                Moment::Boot(_) => (1, 0),
                Moment::Command(_) | Moment::Never => (u64::MAX, 0),
            };
            while ((notes.with(|known| known.totals().acknowledged) - before) as u64) < wanted {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            tokio::time::sleep(Duration::from_millis(ms)).await;
        };
        let console = machine.console_path();
        let cut = tokio::select! {
            _ = off.wait_for(|off| *off) => Ok(()),
            () = time => Ok(()),
            _ = &mut load => Err("the node ended the connection"),
            () = tokio::time::sleep(HANG) => Err("its moment does not come"),
        };
        drop(machine);
        if let Err(why) = cut {
            self.fault(format!("{why}: {}", emulator::end_of(&console)));
        }
        // What was answered before the cut is still read.
        if !load.is_finished() && tokio::time::timeout(HANG, load).await.is_err() {
            self.fault("the clients do not notice that the machine is gone".into());
        }
    }

    /// Fails, with what is wrong and how to see it again; the image stays.
    fn expect_sound(mut self) -> Self {
        let faults = self.notes.with(known::Known::take_faults);
        if faults.is_empty() {
            return self;
        }
        self.directory.disable_cleanup(true);
        panic!(
            "after {} boots {} faults:\n{}\nthe image is {}; again: \
             VYR_FULL=1 VYR_SEED={} cargo test -p vyr --test power -- --exact {HOLDS}",
            self.boots,
            faults.len(),
            faults[..faults.len().min(FAULTS_SHOWN)].join("\n"),
            self.directory.path().join("disk").display(),
            self.seed,
        );
    }
}

fn what_was_acknowledged_is_there_after_every_power_cut() {
    if !can_run(HOLDS) {
        return;
    }
    let moments = std::env::var("VYR_MOMENTS").ok().map(|text| text.parse().expect("a number"));
    let moments = moments.unwrap_or(MOMENTS);
    block(async {
        let mut run = Run::new();
        for n in 0..moments {
            let moment = Moment::draw(n, &mut run.random);
            run.boot(moment).await;
            run = run.expect_sound();
            let time = run.begun.elapsed();
            assert!(time < LIMIT, "{n} moments took {} s", time.as_secs());
        }
        run.boot(Moment::Never).await;
        let run = run.expect_sound();
        let totals = run.notes.with(|known| known.totals());
        println!(
            "{moments} cuts, {} boots in {} s; {} cuts lost writes, {} sectors in all\n{totals:?}",
            run.boots,
            run.begun.elapsed().as_secs(),
            run.cuts_with_loss,
            run.lost_sectors,
        );
        if moments > 2 * FIRST_STARTS {
            // Else the disk kept everything, and nothing was shown.
            assert!(run.cuts_with_loss * 2 > moments, "the cuts cost too little");
            assert!(totals.completed > totals.lost, "most tasks complete");
        }
    });
}

/// The defect that all of this is about, seeded: the same suite must notice it.
fn a_disk_that_lies_about_flushing_is_found_out() {
    if !can_run(NOTICES) {
        return;
    }
    block(async {
        let mut run = Run::new();
        run.boot(Moment::Time { acknowledged: 10, ms: 0 }).await;
        run.lies = true;
        run.boot(Moment::Time { acknowledged: 20, ms: 0 }).await;
        run = run.expect_sound();
        run.boot(Moment::Never).await;
        let faults = run.notes.with(known::Known::take_faults);
        let gone = faults.iter().filter(|fault| fault.ends_with("is gone")).count();
        println!("{} faults, {gone} tasks are gone, such as:", faults.len());
        for fault in faults.iter().take(3) {
            println!("  {fault}");
        }
        assert!(gone >= 20, "20 were acknowledged and forgotten: {faults:#?}");
    });
}

/// A second one: contents are read, not only looked for.
fn a_sector_of_the_store_that_was_lost_is_found_out() {
    if !can_run(READS) {
        return;
    }
    block(async {
        let mut run = Run::new();
        let key = loop {
            assert!(run.boots < 5, "no large input was acknowledged");
            run.boot(Moment::Time { acknowledged: 30, ms: 0 }).await;
            run = run.expect_sound();
            if let Some(key) = run.notes.with(|known| known.acknowledged_large()) {
                break key;
            }
        };
        assert!(run.disk.erase(&guests::input_of(&key)[..disk::SECTOR]), "it is not on the disk");
        run.boot(Moment::Never).await;
        let faults = run.notes.with(known::Known::take_faults);
        println!("{} faults, such as: {:?}", faults.len(), faults.first());
        let input = vyr_base::Digest::of(&guests::input_of(&key)).to_string();
        let told =
            |fault: &String| fault.starts_with("the input of event") && fault.contains(&input);
        assert!(faults.iter().any(told), "the input of {key} is another: {faults:#?}");
    });
}
