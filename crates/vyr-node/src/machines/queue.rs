//! What waits to be said to `api`: answers, and of each machine at most one event of a kind.
//!
//! Somebody who does not listen costs a bounded amount: a later phase or result of a health check
//! takes the place of the one that waits. Ends and beginnings happen once, and none is dropped.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, PoisonError};

use super::wire::{Answer, Said};
use super::{Event, MachinesError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<(Said, Option<OwnedFd>)>>,
    bell: Condvar,
}

impl Queue {
    pub(crate) fn event(&self, event: Event) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let same = waiting.iter_mut().rev().find_map(|(said, _)| match said {
            Said::Event(other) if replaces(&event, other) => Some(other),
            _ => None,
        });
        match same {
            Some(other) => *other = event,
            None => waiting.push_back((Said::Event(event), None)),
        }
        self.bell.notify_all();
    }

    pub(crate) fn answer(
        &self,
        number: u64,
        answer: Result<(Answer, Option<OwnedFd>), MachinesError>,
    ) {
        let (answer, beside) = match answer {
            Ok((answer, beside)) => (Ok(answer), beside),
            Err(e) => (Err(e), None),
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((Said::Answer(number, answer), beside));
        self.bell.notify_all();
    }

    /// Waits for the next.
    pub(crate) fn next(&self) -> (Said, Option<OwnedFd>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(next) = waiting.pop_front() {
                return next;
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Whether who hears the later one need not hear the earlier.
fn replaces(later: &Event, earlier: &Event) -> bool {
    let kind = matches!(
        (later, earlier),
        (Event::Phase { .. }, Event::Phase { .. }) | (Event::Health { .. }, Event::Health { .. })
    );
    kind && later.id() == earlier.id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::{Began, MachineId};
    use vyr_vm::channel::words::Phase;

    #[test]
    fn a_flood_is_its_last_word_and_beginnings_stay() {
        let (a, b) = (MachineId::new("a").expect("a name"), MachineId::new("b").expect("a name"));
        let queue = Queue::default();
        let began = Began::Restored;
        queue.event(Event::Started { id: a.clone(), pid: 1, began: began.clone() });
        for n in 0..1000 {
            for id in [&a, &b] {
                queue.event(Event::Health {
                    id: id.clone(),
                    passed: n % 2 == 1,
                    said: n.to_string(),
                });
            }
            queue.event(Event::Phase { id: a.clone(), phase: Phase::Running });
        }
        queue.answer(7, Ok((Answer::Done, None)));
        let mut came = Vec::new();
        loop {
            match queue.next().0 {
                Said::Event(event) => came.push(event),
                Said::Answer(number, _) => {
                    assert_eq!(number, 7);
                    break;
                }
            }
        }
        let health =
            |id: &MachineId| Event::Health { id: id.clone(), passed: true, said: "999".into() };
        let phase = Event::Phase { id: a.clone(), phase: Phase::Running };
        let started = Event::Started { id: a.clone(), pid: 1, began };
        assert_eq!(came, [started, health(&a), health(&b), phase]);
    }
}
