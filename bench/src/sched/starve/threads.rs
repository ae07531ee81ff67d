//! Plain threads and one queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use morpheus::{Guidance, Worker, checkpoint};

use super::{Arm, Arrival, Plan, Seen, Source, Times, beside_steps};
use crate::sched::place::{Line, work};

enum Task {
    Hog { number: usize, left: u64 },
    Short(Arrival),
}

struct Pool<'a> {
    queue: Mutex<VecDeque<Task>>,
    more: Condvar,
    done: AtomicBool,
    hogs: &'a [Line],
    times: &'a Times,
    guidance: Option<&'a Guidance>,
}

impl Pool<'_> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Task>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether something waits, when that changes; with the lock held.
    fn say(&self, before: bool, after: bool) {
        if let Some(guidance) = self.guidance
            && before != after
        {
            guidance.set_backlog(after);
        }
    }

    fn push(&self, task: Task) {
        let mut queue = self.lock();
        self.say(!queue.is_empty(), true);
        queue.push_back(task);
        drop(queue);
        self.more.notify_one();
    }

    /// The next task; `None` when there is to be none.
    fn take(&self, worker: Option<&Worker>) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if let Some(task) = queue.pop_front() {
                self.say(true, !queue.is_empty());
                return Some(task);
            }
            if self.done.load(Relaxed) {
                return None;
            }
            worker.inspect(|worker| worker.set_idle(true));
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            worker.inspect(|worker| worker.set_idle(false));
        }
    }

    /// Gives way to what waits: in the queue, or else for the processor.
    fn give_way(&self, task: Task) -> Task {
        if self.lock().is_empty() {
            morpheus::yield_now();
        }
        let mut queue = self.lock();
        match queue.pop_front() {
            Some(next) => {
                queue.push_back(task);
                next
            }
            None => task,
        }
    }

    fn serve(&self, plan: &Plan) -> Result<()> {
        let worker = self.guidance.map(Guidance::register).transpose()?;
        let worker = worker.as_ref();
        while let Some(mut task) = self.take(worker) {
            loop {
                worker.inspect(|worker| worker.turn());
                match self.run(plan, task) {
                    Some(next) => task = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Runs it to its end, or until it gives way to what is returned.
    fn run(&self, plan: &Plan, task: Task) -> Option<Task> {
        let (number, mut left) = match task {
            Task::Short(arrival) => {
                work(plan.short_turns());
                self.times.ended(arrival);
                return None;
            }
            Task::Hog { number, left } => (number, left),
        };
        while left > 0 {
            work(plan.step_turns());
            left -= 1;
            self.hogs[number].0.fetch_add(1, Relaxed);
            let asked = match plan.arm {
                Arm::Off => false,
                Arm::Naive => true,
                _ => checkpoint(),
            };
            if asked && left > 0 {
                match self.give_way(Task::Hog { number, left }) {
                    // It was not needed.
                    Task::Hog { number: next, left: same } if next == number => left = same,
                    other => return Some(other),
                }
            }
        }
        // The next piece waits behind what waits.
        if !self.done.load(Relaxed) {
            self.push(Task::Hog { number, left: plan.piece_steps() });
        }
        None
    }
}

pub(super) fn run(plan: &Plan, source: Option<Source>) -> Result<Seen> {
    let guidance = source.as_ref().map(|source| &source.guidance);
    let hogs: Vec<Line> = (0..plan.workers).map(|_| Line::default()).collect();
    let times = Times::default();
    let pool = Pool {
        queue: Mutex::default(),
        more: Condvar::new(),
        done: AtomicBool::new(false),
        hogs: &hogs,
        times: &times,
        guidance,
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.workers).map(|_| scope.spawn(|| pool.serve(plan))).collect();
        for number in 0..plan.workers {
            pool.push(Task::Hog { number, left: plan.piece_steps() });
        }
        let seen = beside_steps(plan, &hogs, &times, |arrival| pool.push(Task::Short(arrival)));
        // With the lock: who looks at it and then waits is told.
        let queue = pool.lock();
        pool.done.store(true, Relaxed);
        pool.more.notify_all();
        drop(queue);
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(Seen { report: guidance.map(Guidance::report), ..seen? })
    })
}
