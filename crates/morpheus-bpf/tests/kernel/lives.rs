//! Threads that end, and threads that begin: an identity is of one thread and no other.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::Duration;

use morpheus::{Block, Options};
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, answers, hog, pin, turns, until};
use crate::wire::{Client, attempts, run_since_ever};

/// Runs on the first processor until another worker there was hinted so often: the kernel looked.
fn until_others_are_hinted(place: &Place, times: usize) {
    let guidance = place.guidance(Options { workers: 1, ..Default::default() });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            let _worker = guidance.register().expect("a block");
            assert_eq!(answers(times), times);
            stop.store(true, Relaxed);
        });
        hog(0, &stop);
    });
}

#[test]
fn a_worker_that_ends_leaves_its_block_to_another() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let client = Client::new(&place.socket);
    let blocks = client.hello(1).expect("a welcome");
    let block = blocks.get(0).expect("a block");
    run_since_ever(block);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        let mut generations = Vec::new();
        for _ in 0..3 {
            let worker = scope.spawn(|| {
                pin(0);
                let mut generation = 0;
                // The agent has to notice that the one before has ended.
                until("the block is free", || {
                    client
                        .register(0)
                        .is_ok_and(|number| block.hints.generation.load(Relaxed) == number)
                });
                generation += block.hints.generation.load(Relaxed);
                let before = attempts(block);
                turns("the kernel looks", || attempts(block) > before);
                generation
            });
            // It never unregisters.
            generations.push(worker.join().expect("it ends"));
        }
        generations.dedup();
        assert_eq!(generations.len(), 3, "{generations:?}");
        stop.store(true, Relaxed);
    });
}

#[test]
fn a_thread_that_comes_after_a_worker_gets_no_hints_before_it_registers() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let client = Client::new(&place.socket);
    let blocks = client.hello(1).expect("a welcome");
    let block = blocks.get(0).expect("a block");
    run_since_ever(block);
    let register_and_run = |is_registered: bool| {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                pin(0);
                if is_registered {
                    client.register(0).expect("a block");
                }
                let before = attempts(block);
                until_others_are_hinted(&place, 10);
                attempts(block) - before
            });
            thread.join().expect("it ends")
        })
    };
    assert!(register_and_run(true) > 0, "a worker that runs is hinted");
    until("the agent notices its end", || block.hints.generation.load(Relaxed) == 0);
    // What another registration would write; only the thread's identity is missing.
    block.hints.generation.store(1, Relaxed);
    assert_eq!(register_and_run(false), 0, "it inherited from a thread that ended");
    assert!(register_and_run(true) > 0, "it registered");
}

/// What the kernel tried to say to a block while something else wakes up a hundred times.
fn attempts_while_others_wake_up(block: &Block) -> u64 {
    let before = attempts(block);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    });
    attempts(block) - before
}

#[test]
fn the_child_of_a_worker_is_no_worker() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let client = Client::new(&place.socket);
    let blocks = client.hello(1).expect("a welcome");
    let block = blocks.get(0).expect("a block");
    run_since_ever(block);
    let (tell, told) = channel();
    let (go, gone) = channel::<()>();
    let stop = AtomicBool::new(false);
    let (client, stop) = (&client, &stop);
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            pin(0);
            client.register(0).expect("a block");
            // It computes on this processor for as long as its input is open.
            let mut child = Command::new("sh")
                .args(["-c", "while :; do :; done & read line; kill $!"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("a child");
            tell.send(()).expect("somebody waits");
            // Not on a processor, so whoever is hinted here is its child.
            let _ = gone.recv();
            drop(child.stdin.take());
            child.wait().expect("ours");
            turns("the worker is told to stop", || stop.load(Relaxed));
        });
        told.recv().expect("the child was started");
        until("the worker sleeps", || {
            // Two times a tick without an attempt: it is off the processor.
            let before = attempts(block);
            std::thread::sleep(Duration::from_millis(5));
            attempts(block) == before
        });
        assert_eq!(attempts_while_others_wake_up(block), 0, "its child is taken for it");
        drop(go);
        until("it runs again", || attempts_while_others_wake_up(block) > 0);
        stop.store(true, Relaxed);
        worker.join().expect("it ends");
    });
}
