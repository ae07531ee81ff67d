//! What interrupts a thread, and what is not the same process any more.

#![expect(unsafe_code, reason = "forks, and handles signals")]

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use morpheus::{
    Block, Guidance, GuidanceError, Options, Reason, SLICE_MIN_NS, Source, checkpoint,
    is_registered,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::place::{LONG, Place, acknowledged};

/// How a child ended; one that does not is killed.
fn end_of(child: i32) -> Option<i32> {
    let child = Pid::from_raw(child).expect("a child");
    let end = Instant::now() + 2 * LONG;
    loop {
        if let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG).expect("ours") {
            return status.exit_status();
        }
        if Instant::now() > end {
            kill_process(child, Signal::KILL).expect("ours");
            waitpid(Some(child), WaitOptions::empty()).expect("ours");
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs in a child of a fork, where a panic would go on in the parent's code.
fn exit(code: i32) -> ! {
    // SAFETY: ends this process and nothing else.
    unsafe { libc::_exit(code) }
}

#[test]
fn a_child_of_a_fork_is_nobodys_worker_and_may_become_its_own() {
    let place = Place::new(2);
    let worker = place.guidance.register().expect("a block");
    assert!(place.hint(worker.number(), Reason::Slice));
    // SAFETY: what the child does is in this function: it allocates, which this C library allows
    // after a fork, takes no lock that another thread may hold, and ends without going back.
    let child = unsafe { libc::fork() };
    if child == 0 {
        if is_registered() || checkpoint() {
            exit(1);
        }
        worker.set_backlog(true);
        worker.set_idle(true);
        worker.set_slice_ns(1);
        if !matches!(place.guidance.register(), Err(GuidanceError::Forked)) {
            exit(2);
        }
        drop(worker);
        drop(place.guidance);
        let options = Options { workers: 1, slice_ns: SLICE_MIN_NS, ..Options::default() };
        let Ok(own) = Guidance::timer(options, Duration::from_millis(1)) else { exit(3) };
        let Ok(worker) = own.register() else { exit(4) };
        let end = Instant::now() + LONG;
        while !checkpoint() {
            if Instant::now() > end {
                exit(5);
            }
        }
        drop(worker);
        drop(own);
        exit(if is_registered() { 6 } else { 0 });
    }
    assert_eq!(end_of(child), Some(0), "the number of the check in the child that failed");
    let block = place.blocks.get(worker.number()).expect("a block");
    let runtime = &block.runtime;
    let asked = [&runtime.backlog, &runtime.state].map(|field| field.load(Relaxed));
    assert_eq!(asked, [0, morpheus::State::Running as u32], "the child wrote here");
    assert_eq!(runtime.slice_ns.load(Relaxed), 0, "the child wrote here");
    assert!(place.report(worker.number()).registered);
    assert!(checkpoint(), "the hint was for the parent, and it is there still");
    assert_eq!(acknowledged(&place.report(worker.number())), 1);
}

#[test]
fn a_child_that_lives_on_does_not_keep_a_guidance_from_ending() {
    let guidance = Guidance::timer(Options::default(), Duration::from_millis(1)).expect("a timer");
    let (stop, stopped) = std::os::unix::net::UnixStream::pair().expect("a pair");
    // SAFETY: the child reads from a descriptor and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(stop);
        let _ = rustix::io::read(&stopped, &mut [0_u8; 1]);
        exit(0);
    }
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(guidance);
        done.send(()).expect("somebody waits");
    });
    let ended = is_done.recv_timeout(LONG);
    drop(stop);
    assert_eq!(end_of(child), Some(0));
    ended.expect("it ends while the child has its descriptors");
}

/// The block of the worker that is interrupted, and what its handler gave and was given.
static BLOCK: AtomicPtr<Block> = AtomicPtr::new(std::ptr::null_mut());
static GIVEN: AtomicU64 = AtomicU64::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: no block, or one that lives until the test has ended those who send the signal.
    let Some(block) = (unsafe { BLOCK.load(Relaxed).as_ref() }) else { return };
    GIVEN.fetch_add(u64::from(block.hint(Source::Kernel, Reason::Wakeup, 1)), Relaxed);
    ASKED.fetch_add(u64::from(checkpoint()), Relaxed);
}

/// Signals come between any two steps of the worker's own checkpoints, each with a checkpoint.
#[test]
fn a_checkpoint_in_a_signal_handler_leaves_counts_right() {
    const SIGNALS: usize = 50_000;
    let place = Place::new(1);
    let worker = place.guidance.register().expect("a block");
    let block = place.blocks.get(worker.number()).expect("a block");
    BLOCK.store(std::ptr::from_ref(block).cast_mut(), Relaxed);
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: a handler that does what may be done in one: loads, additions, a clock.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    // SAFETY: it has no arguments, and tells who this is.
    let thread = unsafe { libc::pthread_self() };
    let (mut given, mut asked) = (0, 0);
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let end = Instant::now() + LONG;
            for _ in 0..SIGNALS {
                // SAFETY: the thread waits for this one, so it is there.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                if Instant::now() > end {
                    break;
                }
            }
        });
        while !sender.is_finished() {
            given += u64::from(block.hint(Source::Kernel, Reason::Slice, 1));
            asked += u64::from(checkpoint());
        }
    });
    BLOCK.store(std::ptr::null_mut(), Relaxed);
    asked += u64::from(checkpoint());
    let (there_given, there_asked) = (GIVEN.load(Relaxed), ASKED.load(Relaxed));
    assert!(asked > 0 && there_asked > 0, "{asked} here, {there_asked} in the handler");
    let (given, asked) = (given + there_given, asked + there_asked);
    assert_eq!(asked, given, "each hint is answered once");
    let report = place.report(worker.number());
    assert_eq!((report.kernel_hints, acknowledged(&report)), (given, given));
    assert_eq!(report.yields[0].1, given);
    assert_eq!(block.runtime.yields.load(Relaxed), given);
}
