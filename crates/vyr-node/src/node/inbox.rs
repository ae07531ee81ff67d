//! The core's inbox: what callers and processes tell it, taken all at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::core::Command;

/// Commands taken in one turn, and so events in one commit: some milliseconds of work.
const TURN_MAX: usize = 4096;

/// A queue of commands. Who fills it bounds what it puts in (`Node::submit`).
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    commands: Mutex<VecDeque<Command>>,
    filled: Condvar,
}

impl Inbox {
    pub(crate) fn push(&self, command: Command) {
        let mut commands = self.lock();
        commands.push_back(command);
        // The core looks again before it waits; it needs to be woken for the first one only.
        let first = commands.len() == 1;
        drop(commands);
        if first {
            self.filled.notify_one();
        }
    }

    /// All that is there, waiting no longer than until `until` for something to be.
    pub(crate) fn take(&self, until: Option<Instant>, into: &mut Vec<Command>) {
        let mut commands = self.lock();
        while commands.is_empty() {
            let Some(until) = until else {
                commands = self.filled.wait(commands).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            let waited = self.filled.wait_timeout(commands, left);
            commands = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let some = commands.len().min(TURN_MAX);
        into.extend(commands.drain(..some));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
