//! Taking in what happened.

use std::collections::{BTreeMap, BTreeSet};

use vyr_base::Digest;
use vyr_base::form::Name;

use super::defects::{Defect, seeded};
use super::event::{Event, Phase, What};
use super::id::InstanceId;
use super::instance::{Instance, State, Step};
use super::reason::{Fault, Reason};
use super::rollout::{Goal, Progress, Service, Slots, same};
use super::slot::Off;
use super::wanted::Wanted;
use super::{PlanName, REPORTS_MAX, ROLLOUT_FAILURES_MAX, Report, Run, TIME_MAX};

impl Run {
    /// Takes in what happened. False: nothing is other than before but the time and the orders are
    /// the same, so that nothing has to be written down.
    pub fn evolve(&mut self, event: &Event) -> bool {
        let last = self.now_ms;
        self.now_ms = last.max(event.at_ms.min(TIME_MAX));
        let now = self.now_ms;
        let due = self.deadlines().any(|at| last < at && at <= now);
        let changed = match &event.what {
            What::NodeStarted => {
                self.shift(now - last);
                true
            }
            What::Tick => false,
            What::Plan(wanted) => self.take_plan(wanted, now),
            What::Found(machines) => {
                self.found(machines, now);
                true
            }
            What::ImageReady(image) => self.image(image, None, now),
            What::ImageFailed(image, fault) => self.image(image, Some(fault), now),
            What::Started(id) => self.change(*id, now, |one| {
                one.started(now);
                true
            }),
            What::StartFailed(id, fault) => self.change(*id, now, |one| {
                one.gone(Some(fault.clone()), now);
                true
            }),
            What::Guest(id, phase) => self.phase(*id, phase, now),
            What::Health { id, passed, said } => {
                self.change(*id, now, |one| one.checked(*passed, said, now))
            }
            What::Gone(id) => {
                if let Some(gone) = self.strays.get_mut(id) {
                    *gone = true;
                }
                self.change(*id, now, |one| {
                    one.gone(None, now);
                    true
                })
            }
            What::Forgotten(id) => self.forgotten(*id),
            What::Published(generation) => self.published(*generation, now),
            What::Unpublished => {
                self.served.ready.clear();
                self.serving.generation += 1;
                true
            }
            What::Drained(id) => self.change(*id, now, |one| {
                one.drained(now);
                true
            }),
            What::Reported { service, epoch } => {
                self.reports.retain(|of| of.service != *service || of.epoch != *epoch);
                true
            }
            What::Halt(slot) => {
                // Of a slot that nobody has there is nothing to remember.
                let known = self.knows(slot);
                if known {
                    self.slots.entry(slot.clone()).or_default().halted = true;
                }
                known
            }
            What::Resume(slot) => match self.slots.get_mut(slot) {
                Some(record) => {
                    record.halted = false;
                    record.anew();
                    true
                }
                None => false,
            },
        };
        if !changed && !due {
            return false;
        }
        self.settle(now);
        true
    }

    /// Nobody was there for so long: it is nobody's fault.
    fn shift(&mut self, gap_ms: u64) {
        for instance in self.instances.values_mut() {
            instance.shift(gap_ms);
        }
        let retries = self.slots.values_mut().filter_map(|slot| slot.retry_ms.as_mut());
        let rollouts = self.services.values_mut().filter_map(|of| of.rollout.deadline_ms.as_mut());
        for at in retries.chain(rollouts) {
            *at = super::clock(*at, gap_ms);
        }
    }

    /// Whether somebody wants a slot, or may want it again.
    pub fn knows(&self, slot: &crate::place::SlotName) -> bool {
        let service = self.services.get(&slot.service);
        service.is_some_and(|of| of.wanted.contains_key(slot) || of.good.contains_key(slot))
    }

    fn take_plan(&mut self, wanted: &Wanted, now: u64) -> bool {
        if self.plan.is_some_and(|plan| wanted.epoch <= plan.epoch) {
            return false;
        }
        let Wanted { epoch, plan: digest, draining, slots } = wanted;
        let first = self.plan.is_none();
        self.plan = Some(PlanName { epoch: *epoch, digest: *digest, draining: *draining });
        let mut next: BTreeMap<Name, Slots> =
            self.services.keys().map(|name| (name.clone(), Slots::new())).collect();
        for (slot, spec) in slots {
            let of = next.entry(slot.service.clone()).or_default();
            of.insert(slot.clone(), spec.clone());
        }
        for (name, slots) in next {
            let good = match self.services.get_mut(&name) {
                None => Slots::new(),
                Some(service) if same(&service.wanted, &slots) && service.fault().is_none() => {
                    // How it is restarted may be another; what runs is not.
                    service.wanted = slots;
                    if service.rollout.state == Progress::Succeeded {
                        service.good = service.wanted.clone();
                    }
                    continue;
                }
                Some(service) => service.good.clone(),
            };
            self.supersede(&name);
            for (slot, record) in &mut self.slots {
                if slot.service == name {
                    record.anew();
                }
            }
            self.services.insert(name, Service::rolling(slots, good, *epoch, now));
        }
        // Whoever is ready, clients may come to them in other ways now: names, ports and addresses are
        // the plan's, and no instance is another for them. By the first plan nobody is ready yet.
        if !first && !seeded(Defect::WaysNotTold) {
            self.serving.generation += 1;
        }
        true
    }

    /// A rollout that is not over ends with the next plan.
    fn supersede(&mut self, name: &Name) {
        let Some(service) = self.services.get(name) else { return };
        let epoch = service.rollout.epoch;
        let fault = match &service.rollout.state {
            Progress::Rolling { .. } => Fault::new(Reason::Superseded, "another plan came"),
            Progress::Reverting(fault) => fault.clone(),
            Progress::Succeeded | Progress::Failed(_) => return,
        };
        self.report(name.clone(), epoch, Some(fault));
    }

    pub(super) fn report(&mut self, service: Name, epoch: u64, failed: Option<Fault>) {
        self.reports.push(Report { service, epoch, failed });
        let excess = self.reports.len().saturating_sub(REPORTS_MAX);
        self.reports.drain(..excess);
    }

    fn image(&mut self, image: &Digest, fault: Option<&Fault>, now: u64) -> bool {
        let waits = |one: &&Instance| one.step == Step::Image && one.spec.runs.image == *image;
        let ids: Vec<InstanceId> =
            self.instances.values().filter(waits).map(|one| one.id).collect();
        for id in &ids {
            self.change(*id, now, |one| {
                match fault {
                    None => one.image_is_here(now),
                    Some(fault) => one.fail(fault.clone(), now),
                }
                true
            });
        }
        !ids.is_empty()
    }

    fn phase(&mut self, id: InstanceId, phase: &Phase, now: u64) -> bool {
        self.change(id, now, |one| {
            match phase {
                Phase::Starting => one.started(now),
                Phase::Running => one.running(now),
                Phase::Ended(end) => one.ended(*end, now),
                Phase::Failed(fault) => one.failed_in_guest(fault.clone(), now),
                Phase::Gone => one.gone(None, now),
            }
            true
        })
    }

    fn found(&mut self, machines: &BTreeMap<InstanceId, Phase>, now: u64) {
        let ours: Vec<(InstanceId, Step)> =
            self.instances.values().map(|one| (one.id, one.step)).collect();
        for (id, step) in ours {
            match machines.get(&id) {
                Some(phase) => {
                    self.phase(id, phase, now);
                    if step == Step::Gone
                        && *phase != Phase::Gone
                        && let Some(one) = self.instances.get_mut(&id)
                    {
                        one.came_back();
                    }
                }
                // It was not started yet, and will be.
                None if step == Step::Machine => {}
                None => {
                    self.phase(id, &Phase::Gone, now);
                }
            }
        }
        for (id, phase) in machines {
            if !self.instances.contains_key(id) {
                self.strays.insert(*id, *phase == Phase::Gone);
            }
        }
        self.strays.retain(|id, gone| *gone || machines.contains_key(id));
    }

    fn forgotten(&mut self, id: InstanceId) -> bool {
        let stray = self.strays.get(&id) == Some(&true);
        if stray {
            self.strays.remove(&id);
        }
        let ended = self.instances.get(&id).is_some_and(|one| one.step == Step::Gone);
        if ended {
            self.instances.remove(&id);
        }
        stray || ended
    }

    fn published(&mut self, generation: u64, now: u64) -> bool {
        // What an older set said does not matter: the newest is still ordered.
        if generation != self.serving.generation || generation == self.served.generation {
            return false;
        }
        let new: BTreeSet<InstanceId> =
            self.serving.ready.difference(&self.served.ready).copied().collect();
        self.served = self.serving.clone();
        for id in new {
            let service = self.instances.get(&id).map(|one| one.slot.service.clone());
            if let Some(service) = service.and_then(|name| self.services.get_mut(&name)) {
                service.progress(now);
            }
        }
        true
    }

    /// Changes an instance by something that happened to it. What it says is whether that matters.
    pub(super) fn change(
        &mut self,
        id: InstanceId,
        now: u64,
        how: impl FnOnce(&mut Instance) -> bool,
    ) -> bool {
        let Some(instance) = self.instances.get_mut(&id) else {
            return self.strays.contains_key(&id);
        };
        let (before, since) = (instance.state, instance.since_ms);
        let changed = how(instance);
        if instance.state.is_terminal() && matches!(before, State::Booting | State::Ready) {
            let ready_for = if before == State::Ready { now.saturating_sub(since) } else { 0 };
            self.ended(id, ready_for, now);
        }
        changed
    }

    /// An instance came to its end by itself.
    fn ended(&mut self, id: InstanceId, ready_for_ms: u64, now: u64) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(service) = self.services.get_mut(&instance.slot.service) else { return };
        match service.goal(&instance.slot) {
            Goal::Run(spec) if spec.runs == instance.spec.runs => {}
            // Nothing waits for it: what should run is another.
            _ => return,
        }
        let record = self.slots.entry(instance.slot.clone()).or_default();
        record.forgive(ready_for_ms);
        record.ended(instance, now);
        if let Progress::Rolling { failures, last } = &mut service.rollout.state
            && record.off != Some(Off::Completed)
        {
            let is_final = instance.fault.as_ref().is_some_and(|fault| fault.reason.is_final());
            *failures = if is_final { ROLLOUT_FAILURES_MAX } else { failures.saturating_add(1) };
            last.clone_from(&instance.fault);
        }
    }
}
