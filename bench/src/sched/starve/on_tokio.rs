//! Tokio's runtime of many threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Result;
use morpheus::{Guidance, Worker, checkpoint};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{coop, yield_now};

use super::{Arm, Plan, Seen, Source, Times, beside_steps};
use crate::sched::place::{Line, work};

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

fn build(plan: &Plan, source: Option<&Source>) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(plan.workers);
    match (plan.arm, source) {
        // Without tokio's budget, which would be a second timer.
        (Arm::Timer(_), Some(source)) => {
            let registrar = source.guidance.registrar();
            builder
                .on_thread_start(move || WORKER.set(registrar.register().ok()))
                .on_thread_stop(|| drop(WORKER.take()));
        }
        (_, Some(source)) => {
            morpheus::tokio::guide(&mut builder, &source.guidance);
        }
        (_, None) => {}
    }
    Ok(builder.build()?)
}

async fn hog(plan: Plan, number: usize, hogs: Arc<[Line]>, done: Arc<AtomicBool>) {
    while !done.load(Relaxed) {
        for _ in 0..plan.piece_steps() {
            work(plan.step_turns());
            hogs[number].0.fetch_add(1, Relaxed);
            match plan.arm {
                Arm::Off => {}
                Arm::Naive => yield_now().await,
                Arm::Budget => coop::consume_budget().await,
                Arm::Psi | Arm::Observe => morpheus::tokio::checkpoint().await,
                Arm::Timer(_) => {
                    if checkpoint() {
                        yield_now().await;
                    }
                }
            }
        }
        yield_now().await;
    }
}

pub(super) fn run(plan: &Plan, source: Option<Source>) -> Result<Seen> {
    let runtime = build(plan, source.as_ref())?;
    let hogs: Arc<[Line]> = (0..plan.workers).map(|_| Line::default()).collect();
    let (times, done) = (Arc::new(Times::default()), Arc::new(AtomicBool::new(false)));
    for number in 0..plan.workers {
        runtime.spawn(hog(*plan, number, Arc::clone(&hogs), Arc::clone(&done)));
    }
    let turns = plan.short_turns();
    let seen = beside_steps(plan, &hogs, &times, |arrival| {
        let times = Arc::clone(&times);
        runtime.spawn(async move {
            work(turns);
            times.ended(arrival);
        });
    });
    let report = source.as_ref().map(|source| &source.guidance).map(Guidance::report);
    done.store(true, Relaxed);
    // Waits for its threads.
    drop(runtime);
    Ok(Seen { report, ..seen? })
}
