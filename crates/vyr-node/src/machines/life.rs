//! The life of one machine, on a thread of its own: brought up or adopted, followed, brought to its
//! end.
//!
//! ```text
//!  ordered -> prepared -> VMM runs -> guest greets -> told -> followed -> ended | failed
//!  record found -> VMM attached -----> guest greets ----------^
//! ```
//!
//! Its log has a second thread, so that a flood of lines and a full disk hold up nothing else.

use std::fs;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vyr_vm::channel::words::{End, Phase};
use vyr_vm::channel::{Channel, ChannelError, Seen};
use vyr_vm::vmm::{Exit, Machine, QemuMachine, Status, VmmError};

use super::error::{cut, text};
use super::instance::{Instance, POWER_OFF};
use super::keeper::Keeper;
use super::rise::{Handed, Up, bring_up, is_to_blame};
use super::snapshots::Wish;
use super::users::kill_marked;
use super::wire::Ordered;
use super::{Ending, Event, FailedAt, HEALTH_SPACING};

/// For a guest that runs to greet a new host.
const GREET: Duration = Duration::from_secs(60);

/// For a guest to hear what an earlier host had sent already.
const TOLD: Duration = Duration::from_secs(5);

/// Of a machine that nobody can tell any more what it was to run.
const NEVER_TOLD: &str = "the process machines ended while this machine was being started";

/// Times to end are looked at this often while the guest says nothing.
const TICK: Duration = Duration::from_secs(1);

/// For the last lines of a log, once the workload has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A VMM ends so soon after its sockets, or not by itself.
const AFTER_CHANNEL: Duration = Duration::from_secs(5);

/// A failure, and at what.
type Fault = (FailedAt, String);

/// Begins a life.
pub(crate) fn begin(keeper: &Keeper, instance: &Instance, order: Ordered, handed: Handed) {
    let ending = match bring_up(keeper, instance, order, handed) {
        Ok(Up { machine, channel, wish, restored }) => {
            let since = Instant::now();
            let ending = follow(keeper, instance, &machine, &channel, Seen::default(), wish);
            if let (Some((kind, serial)), Some(snapshots)) = (restored, &keeper.snapshots)
                && is_to_blame(instance, &ending, since)
            {
                // The next one boots, and shows whether it was that.
                let why =
                    cut(&format!("a machine that was restored did not run: {}", ending.why()));
                eprintln!("vyr machines: {}: {why}; its snapshot is removed", instance.id);
                snapshots.fail(kind, Some(serial), &why);
            }
            ending
        }
        Err(ending) => ending,
    };
    end(keeper, instance, ending);
}

/// Takes over what an earlier `machines` began.
pub(crate) fn adopt(keeper: &Keeper, instance: &Instance) {
    let (mark, ran) = {
        let inside = instance.lock();
        (inside.record.mark.clone(), inside.record.ran)
    };
    let failed = |at, why: &str| Ending::Failed { at, why: why.to_owned() };
    let ending = match QemuMachine::attach(&instance.directory) {
        Ok(machine) if ran => take_over(keeper, instance, &Arc::new(machine)),
        // It was never told what to run, and nobody else knows.
        Ok(machine) => {
            let _ = machine.kill();
            failed(FailedAt::Boot, NEVER_TOLD)
        }
        Err(VmmError::NotRunning(_)) if ran => Ending::Ended { end: None, exit: Exit::Unknown },
        Err(VmmError::NotRunning(_)) => failed(FailedAt::Vmm, NEVER_TOLD),
        Err(e) => Ending::Failed { at: FailedAt::Vmm, why: text(&e) },
    };
    // Also one whose number nobody wrote down.
    kill_marked(&mark);
    end(keeper, instance, ending);
}

fn take_over(keeper: &Keeper, instance: &Instance, machine: &Arc<QemuMachine>) -> Ending {
    let pid = machine.pid();
    instance.lock().machine = Some(Arc::clone(machine));
    let channel = match machine.channel(false, GREET) {
        Ok(channel) => Arc::new(channel),
        Err(e) => return broken(machine, &e, FailedAt::Channel),
    };
    // What it was told just before may still be on its way.
    let told = channel.wait_phase(TOLD, |phase| (*phase != Phase::Blank).then(|| phase.clone()));
    let phase = match told {
        Ok(phase) => phase,
        Err(ChannelError::TimedOut(_)) => {
            let _ = machine.kill();
            return Ending::Failed { at: FailedAt::Boot, why: NEVER_TOLD.to_owned() };
        }
        Err(e) => return broken(machine, &e, FailedAt::Channel),
    };
    // Whoever had these sessions is gone.
    for id in channel.sessions() {
        if let Ok(session) = channel.adopt_exec(id) {
            let _ = session.close();
        }
    }
    {
        let mut inside = instance.lock();
        inside.phase = phase.clone();
        inside.channel = Some(Arc::clone(&channel));
    }
    keeper.queue.event(Event::Adopted { id: instance.id.clone(), pid, phase: phase.clone() });
    follow(keeper, instance, machine, &channel, Seen { phase, ..Seen::default() }, None)
}

/// Hears what the guest says until it is over; then nothing of the machine runs. `wish` is told as soon
/// as its workload runs.
fn follow(
    keeper: &Keeper,
    instance: &Instance,
    machine: &Arc<QemuMachine>,
    channel: &Arc<Channel>,
    mut seen: Seen,
    mut wish: Option<Wish>,
) -> Ending {
    thread::scope(|scope| {
        let lines = scope.spawn(|| drain(instance, channel));
        let mut told = rank(&seen.phase);
        let mut checked: Option<Instant> = None;
        let silence = instance.lock().record.silence_ms.map(Duration::from_millis);
        let mut heard = Instant::now();
        let over = loop {
            if let Some(over) = terminal(&seen.phase) {
                break Ok(over);
            }
            let due = instance.lock().killed_at;
            if due.is_some_and(|at| at <= Instant::now()) {
                let _ = machine.kill();
            }
            let left = due.map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
            // Not less: a machine that was killed closes its channel in a moment.
            let wait = left.clamp(Duration::from_millis(10), TICK);
            // A guest that hangs, or whose VMM was stopped, fails no check: it makes none.
            if let Some(silence) = silence
                && seen.phase == Phase::Running
                && heard.elapsed() >= silence
            {
                heard = Instant::now();
                let said = format!("no word of a check for {} s", silence.as_secs());
                let id = instance.id.clone();
                keeper.queue.event(Event::Health { id, passed: false, said });
            }
            let mut now = match channel.news(&seen, wait) {
                Ok(now) => now,
                Err(ChannelError::TimedOut(_)) => continue,
                Err(e) => break Err(e),
            };
            if now.checks != seen.checks || now.phase != seen.phase {
                heard = Instant::now();
            }
            if rank(&now.phase) > told {
                told = rank(&now.phase);
                instance.lock().phase = now.phase.clone();
                if now.phase == Phase::Running
                    && let (Some(snapshots), Some(wish)) = (&keeper.snapshots, wish.take())
                {
                    snapshots.wish(wish);
                }
                if terminal(&now.phase).is_none() {
                    let (id, phase) = (instance.id.clone(), now.phase.clone());
                    keeper.queue.event(Event::Phase { id, phase });
                }
            }
            if now.checks != seen.checks
                && let Some((passed, said)) = now.health.clone()
            {
                // Only a guest that says more than it was asked for is slowed down by this.
                let since = checked.map_or(HEALTH_SPACING, |at| at.elapsed());
                if since < HEALTH_SPACING {
                    thread::sleep(HEALTH_SPACING - since);
                    now.checks = seen.checks;
                } else {
                    checked = Some(Instant::now());
                    let id = instance.id.clone();
                    keeper.queue.event(Event::Health { id, passed, said });
                }
            }
            seen = now;
        };
        let ending = match over {
            Ok(Ok(end)) => Ending::Ended { end: Some(end), exit: switch_off(machine, channel) },
            Ok(Err((at, why))) => {
                switch_off(machine, channel);
                Ending::Failed { at, why }
            }
            Err(e) => broken(machine, &e, FailedAt::Channel),
        };
        // The machine is gone, and with it the channel: what it still had was taken.
        finish(lines);
        ending
    })
}

fn finish(lines: thread::ScopedJoinHandle<'_, ()>) {
    // A log that panicked says so on stderr; the machine has ended all the same.
    let _ = lines.join();
}

/// Writes the log down until the guest is gone.
fn drain(instance: &Instance, channel: &Channel) {
    loop {
        match channel.keep_log(TICK, |records| instance.log.append(records)) {
            Ok(true) | Err(ChannelError::TimedOut(_)) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

fn switch_off(machine: &QemuMachine, channel: &Channel) -> Exit {
    // Where the log cannot be taken there is nothing to wait for.
    let _ = channel.wait_log_taken(LAST_WORDS);
    let _ = channel.power_off();
    machine.wait(POWER_OFF).or_else(|_| machine.kill()).unwrap_or(Exit::Unknown)
}

/// The end of a machine whose channel ended: by itself, or because of what the guest did there.
pub(crate) fn broken(machine: &QemuMachine, error: &ChannelError, at: FailedAt) -> Ending {
    let closed = matches!(
        error,
        ChannelError::Closed | ChannelError::Connect { .. } | ChannelError::Write(_)
    );
    if closed && let Ok(exit) = machine.wait(AFTER_CHANNEL) {
        return Ending::Ended { end: None, exit };
    }
    let exit = match machine.status() {
        Status::Ended(exit) => Some(exit),
        Status::Running => None,
    };
    let _ = machine.kill();
    match exit {
        Some(exit) if closed => Ending::Ended { end: None, exit },
        _ => Ending::Failed { at, why: text(error) },
    }
}

/// Writes the end down, frees what it used, and tells it.
fn end(keeper: &Keeper, instance: &Instance, ending: Ending) {
    // The record first: a user is free from then on, and nothing of it runs.
    if let Err(e) = instance.end(&ending) {
        eprintln!("vyr machines: cannot write the record of {}: {e}", instance.id);
    }
    for name in ["scratch.img", "scratch.new"] {
        let _ = fs::remove_file(instance.directory.join(name));
    }
    let _ = fs::remove_dir_all(instance.directory.join("run"));
    if let Ok(cgroups) = &keeper.place.cgroups {
        let mark = instance.lock().record.mark.clone();
        // Of a VMM that ended while nobody was there; else it is gone already.
        let _ = fs::remove_dir(cgroups.path().join(mark));
    }
    instance.log.close();
    keeper.queue.event(ending.event(instance.id.clone()));
}

/// How a workload is over, if it is.
fn terminal(phase: &Phase) -> Option<Result<End, Fault>> {
    match phase {
        Phase::Ended(end) => Some(Ok(*end)),
        Phase::Failed(failure) => Some(Err((FailedAt::Guest(failure.stage), cut(&failure.why)))),
        _ => None,
    }
}

/// A guest only goes forward; what it says otherwise is not told.
fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Blank => 0,
        Phase::Preparing => 1,
        Phase::Prestart => 2,
        Phase::Running => 3,
        Phase::Stopping => 4,
        Phase::Ended(_) | Phase::Failed(_) => 5,
    }
}

/// Starts the thread of a life.
pub(crate) fn spawn(
    keeper: &Arc<Keeper>,
    instance: &Arc<Instance>,
    life: impl FnOnce(&Keeper, &Instance) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (keeper, instance) = (Arc::clone(keeper), Arc::clone(instance));
    thread::Builder::new().name("vyr-machine".into()).spawn(move || life(&keeper, &instance))
}
