//! What follows from what is so: instances made and retired, rollouts that go on and end.

use std::collections::BTreeSet;

use vyr_base::form::Name;

use super::defects::{Defect, seeded};
use super::id::InstanceId;
use super::instance::{Instance, State, Step};
use super::reason::{Fault, Reason};
use super::rollout::{Goal, Progress, Service, same};
use super::slot::{Off, Slot};
use super::wanted::SlotSpec;
use super::{ROLLOUT_FAILURES_MAX, Run};
use crate::place::SlotName;

/// What a slot needs.
enum Act {
    Retire(InstanceId, Reason),
    Make(SlotName, Box<SlotSpec>),
}

/// Who may have an instance beside the one that serves.
#[derive(Debug, Clone, Copy)]
enum Surge<'s> {
    Nobody,
    Only(&'s SlotName),
    Anybody,
}

impl Run {
    /// Goes on until nothing follows any more. Each round moves an instance or a rollout, which only
    /// go on, or makes an instance where there is none.
    pub(super) fn settle(&mut self, now: u64) {
        loop {
            let mut changed = self.tick(now);
            let names: Vec<Name> = self.services.keys().cloned().collect();
            for name in &names {
                changed |= self.advance(name, now);
                let acts = self.acts(name, now);
                changed |= !acts.is_empty();
                for act in acts {
                    self.act(act, now);
                }
            }
            changed |= self.publish(now);
            if !changed {
                break;
            }
        }
        self.tidy();
    }

    fn tick(&mut self, now: u64) -> bool {
        let is_due = |one: &&Instance| one.wake_ms().is_some_and(|at| at <= now);
        let due: Vec<InstanceId> =
            self.instances.values().filter(is_due).map(|one| one.id).collect();
        for id in &due {
            self.change(*id, now, |one| {
                one.tick(now);
                true
            });
        }
        !due.is_empty()
    }

    fn act(&mut self, act: Act, now: u64) {
        match act {
            Act::Retire(id, reason) => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.retire(reason, now);
                }
            }
            Act::Make(slot, spec) => {
                let record = self.slots.entry(slot.clone()).or_default();
                record.retry_ms = None;
                let restarts = record.restarts;
                let mut id = InstanceId::derive(&self.seed, self.count, &slot);
                while self.instances.contains_key(&id) || self.strays.contains_key(&id) {
                    self.count += 1;
                    id = InstanceId::derive(&self.seed, self.count, &slot);
                }
                let instance = Instance::new(id, self.count, slot, *spec, restarts, now);
                self.instances.insert(id, instance);
                self.count += 1;
            }
        }
    }

    fn live<'a>(&'a self, slot: &'a SlotName) -> impl Iterator<Item = &'a Instance> {
        self.instances.values().filter(move |one| one.slot == *slot && one.is_live())
    }

    fn record(&self, slot: &SlotName) -> Option<&Slot> {
        self.slots.get(slot)
    }

    pub(super) fn is_halted(&self, slot: &SlotName) -> bool {
        self.record(slot).is_some_and(|record| record.halted)
    }

    fn is_completed(&self, slot: &SlotName) -> bool {
        self.record(slot).is_some_and(|record| record.off == Some(Off::Completed))
    }

    /// Whether clients reach it.
    fn serves(&self, instance: &Instance) -> bool {
        instance.state == State::Ready && self.served.ready.contains(&instance.id)
    }

    /// Whether a slot is as it should be: what it should run serves, or ran to its end.
    pub(super) fn is_satisfied(&self, slot: &SlotName, spec: &SlotSpec) -> bool {
        self.is_halted(slot)
            || self.is_completed(slot)
            || self.live(slot).any(|one| one.spec.runs == spec.runs && self.serves(one))
    }

    /// Whether something else than it should run is still in a slot's place.
    fn has_others(&self, slot: &SlotName, spec: &SlotSpec) -> bool {
        self.live(slot).any(|one| one.spec.runs != spec.runs)
    }

    /// The slots of the node that have one instance too many: one at most, for which others wait.
    pub(super) fn crowded(&self) -> BTreeSet<&SlotName> {
        let mut seen = BTreeSet::new();
        let uses = self.instances.values().filter(|one| one.step != Step::Gone);
        uses.map(|one| &one.slot).filter(|slot| !seen.insert(*slot)).collect()
    }

    fn acts(&self, name: &Name, now: u64) -> Vec<Act> {
        let Some(service) = self.services.get(name) else { return Vec::new() };
        let of_service = |one: &&Instance| one.slot.service == *name && one.is_live();
        let mut slots: Vec<&SlotName> = service.goals().keys().collect();
        slots.extend(self.instances.values().filter(of_service).map(|one| &one.slot));
        slots.sort();
        slots.dedup();
        let back = service.fault().is_some();
        let mut acts = Vec::new();
        let mut surge = self.surge(service);
        for slot in slots {
            let goal = if self.is_halted(slot) { Goal::Empty } else { service.goal(slot) };
            match goal {
                Goal::Keep => {}
                Goal::Empty => {
                    let reason = match () {
                        () if self.is_halted(slot) => Reason::TerminatedByOperator,
                        () if back => Reason::RolloutFailed,
                        () if self.plan.is_some_and(|plan| plan.draining) => Reason::NodeDraining,
                        () => Reason::ScaledDown,
                    };
                    acts.extend(self.live(slot).map(|one| Act::Retire(one.id, reason)));
                }
                Goal::Run(spec) => {
                    let reason = if back { Reason::RolloutFailed } else { Reason::Replaced };
                    let others = self.replaced(slot, spec, service);
                    acts.extend(others.into_iter().map(|id| Act::Retire(id, reason)));
                    if self.may_make(slot, spec, surge, now) {
                        if self.live(slot).next().is_some() && !seeded(Defect::SurgeTwice) {
                            surge = Surge::Nobody;
                        }
                        acts.push(Act::Make(slot.clone(), Box::new(spec.clone())));
                    }
                }
            }
        }
        acts
    }

    /// Instances in a slot's place that have to go now: all others once what should run serves; until
    /// then one of those that serve stays.
    fn replaced(&self, slot: &SlotName, spec: &SlotSpec, service: &Service) -> Vec<InstanceId> {
        let mut others: Vec<&Instance> =
            self.live(slot).filter(|one| one.spec.runs != spec.runs).collect();
        if !self.is_satisfied(slot, spec) && !seeded(Defect::DrainBeforeReady) {
            let is_good = |one: &Instance| {
                service.good.get(slot).is_some_and(|good| good.runs == one.spec.runs)
            };
            let ready = others.iter().enumerate().filter(|(_, one)| one.state == State::Ready);
            let stays = ready.max_by_key(|(_, one)| (self.serves(one), is_good(one), one.number));
            if let Some((stays, _)) = stays {
                others.remove(stays);
            }
        }
        others.into_iter().map(|one| one.id).collect()
    }

    /// Whether an instance of what a slot should run may be made.
    fn may_make(&self, slot: &SlotName, spec: &SlotSpec, surge: Surge<'_>, now: u64) -> bool {
        if self.record(slot).is_some_and(|record| !record.may_start(now)) {
            return false;
        }
        if self.live(slot).any(|one| one.spec.runs == spec.runs) {
            return false;
        }
        let mut here =
            self.instances.values().filter(|one| one.slot == *slot && one.step != Step::Gone);
        match (here.next(), here.next()) {
            // It serves nobody: there is nothing to wait for.
            (None, _) => true,
            (Some(one), None) if one.state == State::Ready => match surge {
                Surge::Nobody => false,
                Surge::Only(next) => next == slot,
                Surge::Anybody => true,
            },
            _ => false,
        }
    }

    /// Which slot of a service may have one instance more. A rollout goes on with those that serve
    /// nothing, then one after the other. On the way back there is nothing to be found out.
    fn surge<'s>(&self, service: &'s Service) -> Surge<'s> {
        if seeded(Defect::SurgeTwice) {
            return Surge::Anybody;
        }
        if !self.crowded().is_empty() {
            return Surge::Nobody;
        }
        if !service.is_rolling() {
            return Surge::Anybody;
        }
        let open = service.wanted.iter().filter(|(name, spec)| !self.is_satisfied(name, spec));
        let is_ready = |name: &SlotName, spec: &SlotSpec| {
            self.live(name).any(|one| one.state == State::Ready && one.spec.runs != spec.runs)
        };
        let (serving, empty): (Vec<_>, Vec<_>) =
            open.partition(|(name, spec)| is_ready(name, spec));
        match (serving.first(), empty.is_empty()) {
            (Some((next, _)), true) => Surge::Only(next),
            _ => Surge::Nobody,
        }
    }

    /// Whether a rollout can do nothing but wait for what ends in time by itself.
    fn waits(&self, name: &Name) -> bool {
        let boots = |one: &Instance| one.state == State::Booting;
        let mut own = self.instances.values().filter(|one| one.slot.service == *name);
        if own.any(boots) {
            return false;
        }
        let drains = |one: &Instance| {
            one.state == State::Draining && matches!(one.step, Step::Wait | Step::Stop)
        };
        let crowded = self.crowded();
        let crowds = |one: &Instance| boots(one) && crowded.contains(&one.slot);
        self.instances.values().any(|one| drains(one) || crowds(one))
    }

    /// Where a rollout stands now.
    fn advance(&mut self, name: &Name, now: u64) -> bool {
        if self.waits(name)
            && let Some(service) = self.services.get_mut(name)
        {
            service.progress(now);
        }
        let Some(service) = self.services.get(name) else { return false };
        let late = service.rollout.deadline_ms.is_some_and(|at| at <= now);
        let arrived = service
            .goals()
            .iter()
            .all(|(slot, spec)| self.is_satisfied(slot, spec) && !self.has_others(slot, spec));
        let next = match &service.rollout.state {
            Progress::Rolling { failures, last } => {
                let last = last.clone();
                match self.verdict(service, *failures, last, late) {
                    // There is nothing else to go back to.
                    Some(fault) if same(&service.wanted, &service.good) => Progress::Failed(fault),
                    Some(fault) => Progress::Reverting(fault),
                    None if arrived => Progress::Succeeded,
                    None => return false,
                }
            }
            Progress::Reverting(fault) => {
                let live = self.instances.values().filter(|one| one.is_live());
                let stray = live
                    .filter(|one| one.slot.service == *name)
                    .any(|one| !service.good.contains_key(&one.slot));
                match arrived && !stray || late {
                    true => Progress::Failed(fault.clone()),
                    false => return false,
                }
            }
            Progress::Succeeded | Progress::Failed(_) => return false,
        };
        self.turn(name, next, now);
        true
    }

    /// Why a rollout has failed, if it has.
    fn verdict(
        &self,
        service: &Service,
        failures: u32,
        last: Option<Fault>,
        late: bool,
    ) -> Option<Fault> {
        if failures >= ROLLOUT_FAILURES_MAX {
            return Some(last.unwrap_or_else(|| Fault::new(Reason::CrashLoopBackoff, "")));
        }
        let records = service.wanted.keys().filter_map(|slot| self.record(slot));
        let mut given_up = records.filter(|of| matches!(of.off, Some(Off::Never | Off::GaveUp)));
        if let Some(record) = given_up.next() {
            let fault = record.fault.clone();
            return Some(fault.unwrap_or_else(|| Fault::new(Reason::CrashLoopBackoff, "")));
        }
        late.then(|| {
            let open = service.wanted.iter().find(|(slot, spec)| !self.is_satisfied(slot, spec));
            let said = match (open, last) {
                (_, Some(fault)) => format!("no progress in time; the last fault was {fault}"),
                (Some((slot, _)), None) => format!("no progress in time; {slot} was not ready"),
                (None, None) => "no progress in time".to_owned(),
            };
            Fault::new(Reason::RolloutTimeout, said)
        })
    }

    fn turn(&mut self, name: &Name, next: Progress, now: u64) {
        let Some(service) = self.services.get_mut(name) else { return };
        let epoch = service.rollout.epoch;
        match &next {
            Progress::Succeeded => {
                service.good = service.wanted.clone();
                self.report(name.clone(), epoch, None);
            }
            Progress::Failed(fault) => {
                let fault = fault.clone();
                self.report(name.clone(), epoch, Some(fault));
            }
            Progress::Reverting(_) => {
                // What is tried now is something else.
                for (slot, record) in &mut self.slots {
                    let wanted = service.wanted.get(slot).map(|spec| spec.runs);
                    let good = service.good.get(slot).map(|spec| spec.runs);
                    if slot.service == *name && wanted != good {
                        let fault = record.fault.take();
                        record.anew();
                        record.fault = fault;
                    }
                }
            }
            Progress::Rolling { .. } => {}
        }
        if let Some(service) = self.services.get_mut(name) {
            service.turn(next, now);
        }
    }

    /// What the ingress should connect to, and whom it has left.
    fn publish(&mut self, now: u64) -> bool {
        let ready = self.instances.values().filter(|one| one.state == State::Ready);
        let ready = ready.map(|one| one.id).collect();
        let mut changed = false;
        if self.serving.ready != ready {
            self.serving.ready = ready;
            self.serving.generation += 1;
            changed = true;
        }
        if self.serving.generation != self.served.generation && !seeded(Defect::StopBeforeLeft) {
            return changed;
        }
        for instance in self.instances.values_mut().filter(|one| one.step == Step::Leave) {
            instance.left(now);
            changed = true;
        }
        changed
    }

    /// Removes what nothing can be said about any more.
    fn tidy(&mut self) {
        let Self { services, slots, instances, .. } = self;
        services.retain(|name, of| {
            let over = matches!(of.rollout.state, Progress::Succeeded | Progress::Failed(_));
            let used = instances.values().any(|one| one.slot.service == *name);
            !over || used || !of.wanted.is_empty() || !of.good.is_empty()
        });
        slots.retain(|slot, _| {
            let service = services.get(&slot.service);
            let known = service
                .is_some_and(|of| of.wanted.contains_key(slot) || of.good.contains_key(slot));
            known || instances.values().any(|one| one.slot == *slot)
        });
    }
}
