//! Why a slot is not as the plan wants it: the one thing that it waits for.

use std::fmt;

use serde::Serialize;

use super::Run;
use super::id::InstanceId;
use super::instance::{Instance, State, Step};
use super::reason::Fault;
use super::rollout::{Goal, Progress, Service};
use super::slot::{Off, Slot};
use super::wanted::{Runs, SlotSpec};
use crate::place::SlotName;

/// What a slot should run, what it runs, and why they differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The slot.
    pub slot: SlotName,
    /// What the plan wants in it; `None`: nothing.
    pub desired: Option<Runs>,
    /// What is there, oldest first; what ended is not.
    pub running: Vec<Running>,
    /// Why they differ; `None`: they do not.
    pub because: Option<Because>,
}

/// An instance that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Its name.
    pub id: InstanceId,
    /// What it runs.
    pub runs: Runs,
    /// How it is.
    pub state: State,
    /// What is being done about it.
    pub step: Step,
    /// Since when it is in its state, in milliseconds.
    pub since_ms: u64,
}

/// What a slot waits for, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "because")]
#[non_exhaustive]
pub enum Because {
    /// An operator stopped it.
    Halted,
    /// Its process did what it had to.
    Completed,
    /// Its policy wants no restart.
    NoRestart {
        /// Why the last instance ended.
        fault: Option<Fault>,
    },
    /// It was tried as often as its policy wants.
    GaveUp {
        /// How often it was restarted.
        restarts: u32,
        /// Why the last instance ended.
        fault: Option<Fault>,
    },
    /// The rollout failed; what served before it serves.
    RolledBack {
        /// Why it failed.
        fault: Fault,
    },
    /// The rollout failed, and what served before it takes its place again.
    RollingBack {
        /// Why it failed.
        fault: Fault,
    },
    /// It waits before another try.
    Backoff {
        /// Until then, in milliseconds.
        until_ms: u64,
        /// How many tries there were in a row.
        restarts: u32,
        /// Why the last one ended.
        fault: Option<Fault>,
    },
    /// The root disk of its image is not here yet.
    FetchesImage,
    /// Its machine is being started.
    StartsMachine,
    /// The guest prepares itself, its prestart included.
    GuestPrepares,
    /// It has no check: it has to run for its grace.
    Settles {
        /// Until then, in milliseconds.
        until_ms: u64,
    },
    /// Its checks have to pass.
    Checked {
        /// How many passed in a row.
        passed: u32,
        /// How many failed in a row since its grace.
        failed: u32,
        /// What the last one saw.
        seen: Option<String>,
    },
    /// It is ready, and the ingress does not know yet.
    NotPublished,
    /// Another slot comes first.
    AfterSlot {
        /// That one.
        slot: SlotName,
    },
    /// An instance of this slot has to end first.
    Ends {
        /// That one.
        id: InstanceId,
        /// What is being done about it.
        step: Step,
    },
    /// Its place is kept until the rollout is over.
    KeptUntilOver,
    /// Nothing wants it any more.
    NotWanted,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |f: &mut fmt::Formatter<'_>, fault: &Option<Fault>| match fault {
            Some(fault) => write!(f, "; the last one: {fault}"),
            None => Ok(()),
        };
        match self {
            Self::Halted => f.write_str("an operator stopped it"),
            Self::Completed => f.write_str("its process ended with 0, and is not wanted again"),
            Self::NoRestart { fault } => {
                f.write_str("its restart policy is never")?;
                last(f, fault)
            }
            Self::GaveUp { restarts, fault } => {
                write!(f, "crash_loop_backoff: given up after {restarts} restarts")?;
                last(f, fault)
            }
            Self::RolledBack { fault } => write!(f, "the rollout failed: {fault}"),
            Self::RollingBack { fault } => write!(f, "the rollout is taken back: {fault}"),
            Self::Backoff { restarts, fault, .. } => {
                write!(f, "waits before restart {restarts}")?;
                last(f, fault)
            }
            Self::FetchesImage => f.write_str("its image is being fetched"),
            Self::StartsMachine => f.write_str("its machine is being started"),
            Self::GuestPrepares => f.write_str("its guest prepares itself"),
            Self::Settles { .. } => f.write_str("it has no check, and has to run for its grace"),
            Self::Checked { passed, failed, seen } => {
                write!(f, "its check has to pass ({passed} passed, {failed} failed in a row)")?;
                match seen {
                    Some(seen) => write!(f, "; the last one: {seen}"),
                    None => f.write_str("; there was none yet"),
                }
            }
            Self::NotPublished => f.write_str("it is ready, and the ingress is being told"),
            Self::AfterSlot { slot } => write!(f, "{slot} comes first"),
            Self::Ends { id, step } => {
                let doing = match step {
                    Step::Leave => "the ingress has to leave it",
                    Step::Wait => "its connections may end",
                    Step::Stop => "its process was told to end",
                    _ => "its machine has to end",
                };
                write!(f, "{id} goes first: {doing}")
            }
            Self::KeptUntilOver => f.write_str("it is kept until the rollout is over"),
            Self::NotWanted => f.write_str("nothing wants it any more"),
        }
    }
}

impl Run {
    /// What a slot should run, what it runs and why they differ; `None`: nobody knows the slot.
    pub fn why(&self, slot: &SlotName) -> Option<Why> {
        let service = self.services.get(&slot.service);
        let lives: Vec<&Instance> =
            self.of_slot(slot).into_iter().filter(|one| one.step != Step::Gone).collect();
        if !self.knows(slot) && lives.is_empty() {
            return None;
        }
        let wanted = service.and_then(|of| of.wanted.get(slot));
        let because = match service {
            Some(service) => self.because(slot, service, &lives),
            None => Some(Because::NotWanted),
        };
        let running = lives.iter().map(|one| Running {
            id: one.id,
            runs: one.spec.runs,
            state: one.state,
            step: one.step,
            since_ms: one.since_ms,
        });
        Some(Why {
            slot: slot.clone(),
            desired: wanted.map(|spec| spec.runs),
            running: running.collect(),
            because,
        })
    }

    fn because(&self, slot: &SlotName, service: &Service, lives: &[&Instance]) -> Option<Because> {
        let leaving = lives.iter().find(|one| !one.is_live());
        let ends = leaving.map(|one| Because::Ends { id: one.id, step: one.step });
        if self.is_halted(slot) {
            return Some(Because::Halted);
        }
        let spec = match service.goal(slot) {
            Goal::Run(spec) => spec,
            Goal::Keep => return Some(Because::KeptUntilOver),
            Goal::Empty => {
                return match (&service.rollout.state, lives.is_empty()) {
                    (Progress::Failed(fault), true) => Some(rolled_back(fault)),
                    (Progress::Reverting(fault), _) => Some(rolling_back(fault)),
                    _ => ends.or(Some(Because::NotWanted)),
                };
            }
        };
        let own = lives.iter().find(|one| one.is_live() && one.spec.runs == spec.runs);
        let what = match own {
            Some(one) => self.boots(one),
            None => self.not_there(slot, service, spec, lives).or(ends.clone()),
        };
        let wanted = service.wanted.get(slot).is_some_and(|wanted| wanted.runs == spec.runs);
        match (&service.rollout.state, what) {
            // What runs is not what the plan wants, and that is the news.
            (Progress::Failed(fault), None) if !wanted => Some(rolled_back(fault)),
            (Progress::Reverting(fault), _) if !wanted => Some(rolling_back(fault)),
            (_, Some(what)) => Some(what),
            (_, None) => ends,
        }
    }

    /// What the instance that should run still waits for.
    fn boots(&self, one: &Instance) -> Option<Because> {
        match one.step {
            Step::Image => Some(Because::FetchesImage),
            Step::Machine => Some(Because::StartsMachine),
            Step::Guest => Some(Because::GuestPrepares),
            Step::Check => Some(match one.spec.gate.health {
                Some(_) => Because::Checked {
                    passed: one.passed,
                    failed: one.failed,
                    seen: one.seen.clone(),
                },
                None => Because::Settles { until_ms: one.deadline_ms.unwrap_or_default() },
            }),
            Step::Serve if !self.is_served(one.id) => Some(Because::NotPublished),
            _ => None,
        }
    }

    /// Why there is no instance of what should run.
    fn not_there(
        &self,
        slot: &SlotName,
        service: &Service,
        spec: &SlotSpec,
        lives: &[&Instance],
    ) -> Option<Because> {
        if let Some(Slot { off, retry_ms, restarts, fault, .. }) = self.slots.get(slot) {
            let (restarts, fault) = (*restarts, fault.clone());
            match (off, retry_ms) {
                (Some(Off::Completed), _) => return Some(Because::Completed),
                (Some(Off::Never), _) => return Some(Because::NoRestart { fault }),
                (Some(Off::GaveUp), _) => return Some(Because::GaveUp { restarts, fault }),
                (None, Some(until_ms)) if *until_ms > self.now_ms => {
                    return Some(Because::Backoff { until_ms: *until_ms, restarts, fault });
                }
                _ => {}
            }
        }
        if lives.len() > 1 || lives.iter().any(|one| !one.is_live()) {
            return None;
        }
        let crowded = self.crowded().into_iter().find(|other| *other != slot);
        let mut open = service.wanted.iter().filter(|(name, spec)| !self.is_satisfied(name, spec));
        let first = open.find(|(name, _)| *name != slot).map(|(name, _)| name);
        debug_assert!(!self.is_satisfied(slot, spec), "there is no instance of it");
        let slot = crowded.or(first)?.clone();
        Some(Because::AfterSlot { slot })
    }
}

fn rolled_back(fault: &Fault) -> Because {
    Because::RolledBack { fault: fault.clone() }
}

fn rolling_back(fault: &Fault) -> Because {
    Because::RollingBack { fault: fault.clone() }
}
