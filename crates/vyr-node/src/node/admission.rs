//! Which waiting task runs next, and whether there is room for it.
//!
//! Higher priority first, then older first, and no overtaking: a large task at the head waits until
//! it fits, and nothing behind it starts meanwhile, so that it cannot starve.
//!
//! Invariant: what runs never has larger caps together than the budget.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use vyr_journal::Limits;

/// What tasks that run may have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Sum of memory caps, in bytes.
    pub memory_bytes: u64,
    /// Sum of processor shares, in thousandths of a processor. A task's share is its processor
    /// time over its deadline, at most one processor.
    pub cpu_millis: u64,
    /// Tasks.
    pub tasks: u64,
}

/// What one task counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    memory_bytes: u64,
    cpu_millis: u64,
}

impl Need {
    fn of(limits: &Limits) -> Self {
        let share = limits.cpu_ms.saturating_mul(1000) / limits.deadline_ms.max(1);
        Self { memory_bytes: limits.memory_bytes, cpu_millis: share.clamp(1, 1000) }
    }
}

/// Tasks that are ready to run, and those that do.
#[derive(Debug)]
pub(crate) struct Admission {
    budget: Budget,
    used: Budget,
    ready: BTreeMap<(Reverse<i32>, u64), Need>,
    running: HashMap<u64, Need>,
}

impl Admission {
    pub(crate) fn new(budget: Budget) -> Self {
        let used = Budget { memory_bytes: 0, cpu_millis: 0, tasks: 0 };
        Self { budget, used, ready: BTreeMap::new(), running: HashMap::new() }
    }

    /// Adds a task to those that are ready.
    pub(crate) fn ready(&mut self, task: u64, priority: i32, limits: &Limits) {
        self.ready.insert((Reverse(priority), task), Need::of(limits));
    }

    /// Takes it off again.
    pub(crate) fn remove(&mut self, task: u64, priority: i32) {
        self.ready.remove(&(Reverse(priority), task));
    }

    /// The next task that fits, which from now on runs.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let (key, need) = self.ready.first_key_value()?;
        let (key, need) = (*key, *need);
        let used = Budget {
            memory_bytes: self.used.memory_bytes.saturating_add(need.memory_bytes),
            cpu_millis: self.used.cpu_millis.saturating_add(need.cpu_millis),
            tasks: self.used.tasks + 1,
        };
        let most = &self.budget;
        if used.memory_bytes > most.memory_bytes
            || used.cpu_millis > most.cpu_millis
            || used.tasks > most.tasks
        {
            return None;
        }
        self.used = used;
        self.ready.remove(&key);
        self.running.insert(key.1, need);
        Some(key.1)
    }

    /// Counts a task that runs already.
    pub(crate) fn running(&mut self, task: u64, limits: &Limits) {
        let need = Need::of(limits);
        self.used.memory_bytes = self.used.memory_bytes.saturating_add(need.memory_bytes);
        self.used.cpu_millis = self.used.cpu_millis.saturating_add(need.cpu_millis);
        self.used.tasks += 1;
        self.running.insert(task, need);
    }

    /// A task has ended.
    pub(crate) fn ended(&mut self, task: u64) {
        if let Some(need) = self.running.remove(&task) {
            self.used.memory_bytes -= need.memory_bytes;
            self.used.cpu_millis -= need.cpu_millis;
            self.used.tasks -= 1;
        }
    }

    /// What runs now.
    pub(crate) fn used(&self) -> Budget {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory_bytes: u64) -> Limits {
        Limits { cpu_ms: 100, deadline_ms: 1000, memory_bytes, output_bytes_max: 0 }
    }

    fn admission(memory_bytes: u64) -> Admission {
        Admission::new(Budget { memory_bytes, cpu_millis: 1000, tasks: 4 })
    }

    #[test]
    fn priority_first_then_age_and_no_overtaking() {
        let mut tasks = admission(100);
        tasks.ready(1, 0, &limits(60));
        tasks.ready(2, 0, &limits(60));
        tasks.ready(3, 5, &limits(10));
        tasks.ready(4, 0, &limits(1));
        assert_eq!((tasks.next(), tasks.next()), (Some(3), Some(1)));
        assert_eq!(tasks.next(), None, "the fourth would fit, but the second is before it");
        tasks.ended(1);
        assert_eq!((tasks.next(), tasks.next()), (Some(2), Some(4)));
    }

    #[test]
    fn caps_never_exceed_the_budget() {
        let mut tasks = admission(100);
        for task in 0..100 {
            tasks.ready(task, 0, &limits(1 + task % 40));
        }
        let mut running = Vec::new();
        for round in 0..200 {
            while let Some(task) = tasks.next() {
                running.push(task);
            }
            let used = tasks.used();
            assert!(used.memory_bytes <= 100 && used.tasks <= 4 && used.cpu_millis <= 1000);
            assert_eq!(used.memory_bytes, running.iter().map(|t| 1 + t % 40).sum::<u64>());
            if !running.is_empty() {
                tasks.ended(running.remove(round % running.len()));
            }
        }
        assert_eq!((tasks.ready.len(), tasks.used().tasks), (0, 0));
    }
}
