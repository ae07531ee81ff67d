//! A world that carries orders out: images, machines with guests, an ingress. What it does is what
//! a test says that a release does.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::{START, rules};

/// What becomes of instances of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// They serve.
    Good,
    /// The image cannot be had, for this reason.
    NoImage(Reason),
    /// The machine does not start.
    NoMachine,
    /// The process ends as soon as it runs, with this code.
    Ends(u8),
    /// Its checks fail.
    Sick,
    /// There is no check, ever.
    Silent,
}

/// A node and all that it has to do with.
pub(super) struct World {
    pub(super) run: Run,
    pub(super) now: u64,
    /// Machines that are there.
    pub(super) machines: BTreeMap<InstanceId, Phase>,
    /// What the ingress connects to.
    pub(super) ingress: BTreeSet<InstanceId>,
    pub(super) natures: BTreeMap<Runs, Nature>,
    /// Whether processes do not listen to signals.
    pub(super) deaf: bool,
    /// Whether connections never end.
    pub(super) busy: bool,
    /// Orders that were carried out.
    pub(super) done: Vec<Order>,
    /// How many served in the worst moment since it was last asked for.
    pub(super) least: usize,
    ids: BTreeSet<InstanceId>,
    /// The first rule that was broken.
    pub(super) broken: Option<String>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            run: Run::new(Digest::of(b"seed")),
            now: START,
            machines: BTreeMap::new(),
            ingress: BTreeSet::new(),
            natures: BTreeMap::new(),
            deaf: false,
            busy: false,
            done: Vec::new(),
            least: usize::MAX,
            ids: BTreeSet::new(),
            broken: None,
        }
    }

    pub(super) fn is(mut self, release: u8, nature: Nature) -> Self {
        self.natures.insert(super::runs(release), nature);
        self
    }

    /// Tells the node, and judges what it makes of it.
    pub(super) fn tell(&mut self, what: What) -> bool {
        let before = self.run.clone();
        let event = Event { at_ms: self.now, what };
        let changed = self.run.evolve(&event);
        if self.broken.is_none() {
            self.broken = rules::judge(&before, &event, changed, &self.run, &mut self.ids).err();
        }
        self.least = self.least.min(self.ingress.intersection(&self.alive()).count());
        changed
    }

    fn alive(&self) -> BTreeSet<InstanceId> {
        let runs = self.machines.iter().filter(|(_, phase)| **phase == Phase::Running);
        runs.map(|(id, _)| *id).collect()
    }

    fn nature(&self, runs: &Runs) -> Nature {
        self.natures.get(runs).copied().unwrap_or(Nature::Good)
    }

    fn nature_of_image(&self, image: &Digest) -> Nature {
        let mut natures = self.natures.iter();
        natures.find(|(runs, _)| runs.image == *image).map_or(Nature::Good, |(_, nature)| *nature)
    }

    /// Carries an order out as the world is; `lucky` false: it fails if it can.
    pub(super) fn carry_out(&mut self, order: &Order, lucky: bool) {
        self.done.push(order.clone());
        match order {
            Order::Fetch(image) => match self.nature_of_image(image) {
                Nature::NoImage(reason) => {
                    self.tell(What::ImageFailed(*image, Fault::new(reason, "says the registry")));
                }
                _ if !lucky => {
                    let fault = Fault::new(Reason::ImagePullTimeout, "by chance");
                    self.tell(What::ImageFailed(*image, fault));
                }
                _ => {
                    self.tell(What::ImageReady(*image));
                }
            },
            Order::Start { id, runs, .. } => {
                if self.nature(runs) == Nature::NoMachine || !lucky {
                    let fault = Fault::new(Reason::VmmStartFailed, "says the machine");
                    self.tell(What::StartFailed(*id, fault));
                    return;
                }
                self.machines.insert(*id, Phase::Starting);
                self.tell(What::Started(*id));
            }
            Order::Publish { generation, ready } => {
                self.ingress.clone_from(ready);
                self.tell(What::Published(*generation));
            }
            Order::Watch(id) => {
                if !self.busy {
                    self.tell(What::Drained(*id));
                }
            }
            Order::Stop { id, .. } => {
                if !self.deaf {
                    let end = End { code: None, signal: Some(15), oom_killed: false };
                    self.end(*id, end);
                }
            }
            Order::Kill(id) => {
                self.machines.remove(id);
                self.tell(What::Gone(*id));
            }
            Order::Forget(id) => {
                self.machines.remove(id);
                self.tell(What::Forgotten(*id));
            }
            Order::Report { service, epoch, .. } => {
                self.tell(What::Reported { service: service.clone(), epoch: *epoch });
            }
        }
    }

    /// A guest's process ends.
    pub(super) fn end(&mut self, id: InstanceId, end: End) {
        if let Some(phase) = self.machines.get_mut(&id) {
            *phase = Phase::Ended(end);
            self.tell(What::Guest(id, Phase::Ended(end)));
        }
    }

    /// What guests do by themselves.
    pub(super) fn guests(&mut self) {
        for (id, phase) in self.machines.clone() {
            let Some(one) = self.run.instances().get(&id) else { continue };
            let nature = self.nature(&one.spec.runs);
            let asked = one.spec.gate.health.is_some();
            let waits = matches!(one.step, Step::Check);
            match (phase, nature) {
                (Phase::Starting, _) => {
                    self.machines.insert(id, Phase::Running);
                    self.tell(What::Guest(id, Phase::Running));
                }
                (Phase::Running, Nature::Ends(code)) => {
                    let end = End { code: Some(code), signal: None, oom_killed: false };
                    self.end(id, end);
                }
                (Phase::Running, Nature::Good) if waits && asked => {
                    self.tell(What::Health { id, passed: true, said: "200".into() });
                }
                (Phase::Running, Nature::Sick) if waits && asked => {
                    self.now += 10_000;
                    self.tell(What::Health { id, passed: false, said: "500".into() });
                }
                _ => {}
            }
        }
    }

    /// Everybody does what he is told until nothing is left to be done, or so many rounds. Time goes
    /// on only when nothing else does, and not past `until`.
    pub(super) fn settle(&mut self, until: u64) {
        for _ in 0..2_000 {
            let before = self.run.clone();
            let orders = self.run.orders();
            for order in &orders {
                // An order before it may have made this one needless.
                if self.run.orders().contains(order) {
                    self.carry_out(order, true);
                }
            }
            self.guests();
            if self.run != before {
                continue;
            }
            match self.run.wake_ms().filter(|at| *at <= until) {
                Some(at) => {
                    self.now = at;
                    self.tell(What::Tick);
                }
                None => return,
            }
        }
        panic!("it does not come to rest: {:?}", self.run.orders());
    }

    /// As [`settle`](Self::settle), for an hour.
    pub(super) fn settled(mut self) -> Self {
        self.settle(self.now + 3_600_000);
        self.sound();
        self
    }

    /// A plan comes, and everybody does what follows.
    pub(super) fn with(mut self, wanted: Wanted) -> Self {
        self.least = usize::MAX;
        self.tell(What::Plan(wanted));
        self.settled()
    }

    #[track_caller]
    pub(super) fn sound(&self) {
        assert_eq!(self.broken, None);
    }

    /// Which releases clients reach, by slot.
    pub(super) fn reached(&self) -> Vec<(String, Runs)> {
        let mut found: Vec<(String, Runs)> = self
            .ingress
            .iter()
            .filter(|id| self.machines.get(*id) == Some(&Phase::Running))
            .filter_map(|id| self.run.instances().get(id))
            .map(|one| (one.slot.to_string(), one.spec.runs))
            .collect();
        found.sort();
        found
    }

    /// As [`reached`](Self::reached) should be.
    pub(super) fn expects(&self, slots: &[(&str, u8)]) {
        let wanted: Vec<(String, Runs)> =
            slots.iter().map(|(name, n)| ((*name).to_owned(), super::runs(*n))).collect();
        assert_eq!(self.reached(), wanted);
    }
}
