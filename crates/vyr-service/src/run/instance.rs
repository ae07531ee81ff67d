//! One life of a slot: what it is doing, and what comes next.
//!
//! ```text
//!  booting: image -> machine -> guest -> check      ready: serve
//!     |  failed, or not wanted any more               |
//!     v                                               v
//!  draining: leave -> wait -> stop -> kill  ---->  stopped | failed: (stop -> kill ->) gone
//! ```
//!
//! An instance that fails is `failed` at once, and its machine is ended afterwards.

use serde::{Deserialize, Serialize};

use super::id::InstanceId;
use super::reason::{End, Fault, Reason};
use super::wanted::SlotSpec;
use super::{STOP_SLACK_MS, clock};
use crate::place::SlotName;

/// The state of an instance, as the interface has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On its way.
    Booting,
    /// It may be connected to.
    Ready,
    /// On its way out.
    Draining,
    /// It ended in order.
    Stopped,
    /// It ended otherwise.
    Failed,
}

impl State {
    /// Whether nothing comes after it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }

    /// As JSON has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What is being done about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Its root disk is fetched. There is no machine.
    Image,
    /// Its machine is started.
    Machine,
    /// The guest prepares itself.
    Guest,
    /// Its process runs, and has to prove itself.
    Check,
    /// It serves.
    Serve,
    /// The ingress has to leave it.
    Leave,
    /// Its connections may end.
    Wait,
    /// Its process was told to end.
    Stop,
    /// Its machine has to end.
    Kill,
    /// There is no machine any more.
    Gone,
}

impl Step {
    /// Whether a machine may be there.
    pub const fn has_machine(self) -> bool {
        !matches!(self, Self::Image | Self::Gone)
    }
}

/// One life of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// How many instances the node had before it.
    pub number: u64,
    /// Whose life it is.
    pub slot: SlotName,
    /// What it runs, and how. It is never changed.
    pub spec: SlotSpec,
    /// How often in a row the slot had to be restarted before it.
    pub restarts: u32,
    /// How it is.
    pub state: State,
    /// What is being done.
    pub step: Step,
    /// Since when it is in its state, in milliseconds.
    pub since_ms: u64,
    /// Why it drains, stopped or failed.
    pub fault: Option<Fault>,
    /// How its process ended, if it was seen.
    pub end: Option<End>,
    /// Checks that passed in a row, as many as count.
    pub passed: u32,
    /// Checks that failed in a row.
    pub failed: u32,
    /// What the last check saw.
    pub seen: Option<String>,
    /// Whether it has a process that can be told to end.
    pub(super) runs: bool,
    /// When its process began to run.
    pub(super) ran_ms: Option<u64>,
    /// When the step has lasted long enough.
    pub(super) deadline_ms: Option<u64>,
    /// When its boot has.
    pub(super) boot_by_ms: Option<u64>,
}

impl Instance {
    pub(super) fn new(
        id: InstanceId,
        number: u64,
        slot: SlotName,
        spec: SlotSpec,
        restarts: u32,
        now: u64,
    ) -> Self {
        Self {
            id,
            number,
            slot,
            spec,
            restarts,
            state: State::Booting,
            step: Step::Image,
            since_ms: now,
            fault: None,
            end: None,
            passed: 0,
            failed: 0,
            seen: None,
            runs: false,
            ran_ms: None,
            deadline_ms: None,
            boot_by_ms: None,
        }
    }

    /// Whether it serves, or may come to it.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Booting | State::Ready)
    }

    fn to(&mut self, state: State, now: u64) {
        assert!(
            !self.state.is_terminal() && state > self.state,
            "an instance only goes on: {:?} to {state:?}",
            self.state
        );
        (self.state, self.since_ms) = (state, now);
    }

    fn step(&mut self, step: Step, lasts_ms: Option<u64>, now: u64) {
        self.step = step;
        self.deadline_ms = lasts_ms.map(|lasts| clock(now, lasts));
    }

    /// Its machine may be started from now on.
    pub(super) fn image_is_here(&mut self, now: u64) {
        if self.step == Step::Image {
            self.step(Step::Machine, None, now);
            self.boot_by_ms = Some(clock(now, self.spec.boot_ms));
        }
    }

    pub(super) fn started(&mut self, now: u64) {
        if self.step == Step::Machine {
            self.step(Step::Guest, None, now);
        }
    }

    /// Its process runs.
    pub(super) fn running(&mut self, now: u64) {
        self.started(now);
        if self.step == Step::Guest {
            let gate = self.spec.gate;
            let settles = gate.health.is_none();
            self.step(Step::Check, settles.then_some(gate.grace_ms), now);
            (self.runs, self.ran_ms) = (true, Some(now));
            let lasts = self.spec.boot_ms.saturating_add(gate.grace_ms);
            self.boot_by_ms = (!settles).then(|| clock(now, lasts));
        }
    }

    pub(super) fn ready(&mut self, now: u64) {
        if self.step == Step::Check {
            self.to(State::Ready, now);
            self.step(Step::Serve, None, now);
            self.boot_by_ms = None;
        }
    }

    /// Whether this changed anything but the counts.
    pub(super) fn checked(&mut self, passed: bool, said: &str, now: u64) -> bool {
        let Some(needed) = self.spec.gate.health else { return false };
        if !matches!(self.step, Step::Check | Step::Serve) {
            return false;
        }
        if self.step == Step::Serve && passed && self.failed == 0 {
            return false;
        }
        self.seen = Some(Fault::new(Reason::HealthcheckFailed, said).said);
        if passed {
            (self.passed, self.failed) = (self.passed.saturating_add(1), 0);
            if self.passed >= needed.success {
                self.ready(now);
            }
            return true;
        }
        self.passed = 0;
        let grace_over = clock(self.ran_ms.unwrap_or(now), self.spec.gate.grace_ms) <= now;
        if self.step == Step::Serve || grace_over {
            self.failed = self.failed.saturating_add(1);
            if self.failed >= needed.failure {
                self.fail(Fault::new(Reason::HealthcheckFailed, said), now);
            }
        }
        true
    }

    /// It is `failed`; what is left of it is ended.
    pub(super) fn fail(&mut self, fault: Fault, now: u64) {
        if !self.is_live() {
            return;
        }
        self.to(State::Failed, now);
        self.fault = Some(fault);
        self.close(now);
    }

    /// Its process never ran, says the guest.
    pub(super) fn failed_in_guest(&mut self, fault: Fault, now: u64) {
        if !self.step.has_machine() {
            return;
        }
        self.runs = false;
        match self.state {
            State::Draining => {
                self.to(State::Stopped, now);
                self.close(now);
            }
            State::Stopped | State::Failed => self.close(now),
            State::Booting | State::Ready => self.fail(fault, now),
        }
    }

    /// A machine that was thought to be gone is there.
    pub(super) fn came_back(&mut self) {
        (self.step, self.runs) = (Step::Kill, false);
    }

    /// Its process ended.
    pub(super) fn ended(&mut self, end: End, now: u64) {
        if !self.step.has_machine() || self.end.is_some() {
            return;
        }
        (self.end, self.runs) = (Some(end), false);
        match self.state {
            State::Booting | State::Ready if end.is_success() => {
                self.to(State::Stopped, now);
                self.fault = Some(Fault::new(Reason::Exited, end.to_string()));
            }
            State::Booting | State::Ready => {
                let reason = if end.oom_killed { Reason::OomKilled } else { Reason::Exited };
                self.to(State::Failed, now);
                self.fault = Some(Fault::new(reason, end.to_string()));
            }
            State::Draining => self.to(State::Stopped, now),
            State::Stopped | State::Failed => {}
        }
        self.close(now);
    }

    /// Its machine is not there.
    pub(super) fn gone(&mut self, fault: Option<Fault>, now: u64) {
        if !self.step.has_machine() {
            return;
        }
        self.runs = false;
        match self.state {
            State::Booting | State::Ready => {
                let lost = || Fault::new(Reason::VmmGone, "its machine ended without a word");
                self.to(State::Failed, now);
                self.fault = Some(fault.unwrap_or_else(lost));
            }
            State::Draining => self.to(State::Stopped, now),
            State::Stopped | State::Failed => {}
        }
        self.step(Step::Gone, None, now);
        self.boot_by_ms = None;
    }

    /// It is not wanted any more. What was never served has nothing to leave.
    pub(super) fn retire(&mut self, reason: Reason, now: u64) {
        if !self.is_live() {
            return;
        }
        self.fault = Some(Fault::new(reason, ""));
        let serves = self.state == State::Ready;
        if self.step.has_machine() {
            self.to(State::Draining, now);
        } else {
            self.to(State::Stopped, now);
        }
        match serves {
            true => {
                self.step(Step::Leave, None, now);
                self.boot_by_ms = None;
            }
            false => self.close(now),
        }
    }

    /// The ingress has left it.
    pub(super) fn left(&mut self, now: u64) {
        if self.step == Step::Leave {
            self.step(Step::Wait, Some(self.spec.drain_ms), now);
        }
    }

    /// No connection is left.
    pub(super) fn drained(&mut self, now: u64) {
        if self.step == Step::Wait {
            self.close(now);
        }
    }

    /// Ends what is left of it: the process if it has one, then the machine.
    fn close(&mut self, now: u64) {
        self.boot_by_ms = None;
        match self.step.has_machine() {
            false => self.step(Step::Gone, None, now),
            true if self.runs => {
                let lasts = self.spec.stop_ms.saturating_add(STOP_SLACK_MS);
                self.step(Step::Stop, Some(lasts), now);
            }
            true => self.step(Step::Kill, None, now),
        }
    }

    /// What has lasted long enough by now.
    pub(super) fn tick(&mut self, now: u64) {
        if self.boot_by_ms.is_some_and(|by| by <= now) {
            let said = match (self.step, &self.seen) {
                (Step::Machine, _) => "its machine did not start".to_owned(),
                (Step::Check, Some(seen)) => format!("no check passed: {seen}"),
                (Step::Check, None) => "no check was made".to_owned(),
                _ => "its process did not begin".to_owned(),
            };
            self.boot_by_ms = None;
            self.fail(Fault::new(Reason::BootTimeout, said), now);
            return;
        }
        if self.deadline_ms.is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.step {
            Step::Check => self.ready(now),
            Step::Wait => self.close(now),
            Step::Stop => self.step(Step::Kill, None, now),
            // It has no time of its own, or there is none any more.
            _ => self.deadline_ms = None,
        }
    }

    /// When `tick` has something to do.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        [self.deadline_ms, self.boot_by_ms].into_iter().flatten().min()
    }

    /// The node was away for so long.
    pub(super) fn shift(&mut self, gap_ms: u64) {
        for at in [&mut self.deadline_ms, &mut self.boot_by_ms].into_iter().flatten() {
            *at = clock(*at, gap_ms);
        }
    }
}
