//! What a node is to do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_base::form::Name;

use super::id::InstanceId;
use super::instance::{Instance, Step};
use super::reason::Fault;
use super::wanted::Runs;
use super::{ENDED_KEPT, Run};
use crate::place::SlotName;

/// Something to be done. It stays in [`Run::orders`](super::Run::orders) until an event says that it
/// was, or that it cannot be: carrying one out twice is the same as once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Have the root disk of an image. `ImageReady`, `ImageFailed`.
    Fetch(Digest),
    /// Have a machine of this name, and tell its guest what it is. `Started`, `StartFailed`; if its
    /// directory says that it ran already, `Gone`.
    Start {
        /// The instance.
        id: InstanceId,
        /// Its slot.
        slot: SlotName,
        /// What it runs.
        runs: Runs,
    },
    /// Have the ingress connect to these and to no other. `Published`.
    Publish {
        /// Which set of backends this is.
        generation: u64,
        /// Those that are ready.
        ready: BTreeSet<InstanceId>,
    },
    /// Say when no connection to it is left. `Drained`.
    Watch(InstanceId),
    /// Send its process the stop signal, once. `Guest` with its end, `Gone`.
    Stop {
        /// The instance.
        id: InstanceId,
        /// How long it may take, in milliseconds; what comes then is ordered then.
        grace_ms: u64,
    },
    /// End its machine. `Gone`, also when there is none.
    Kill(InstanceId),
    /// Remove what is left of it: directory, logs, address. `Forgotten`.
    Forget(InstanceId),
    /// Write down how a rollout ended. `Reported`.
    Report {
        /// Of which service.
        service: Name,
        /// Of which plan.
        epoch: u64,
        /// Why it failed; `None`: it succeeded.
        failed: Option<Fault>,
    },
}

impl Run {
    /// All that is to be done now, those first that make room. It is the same until an event changes
    /// it.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.serving.generation != self.served.generation {
            let ready = self.serving.ready.clone();
            orders.push(Order::Publish { generation: self.serving.generation, ready });
        }
        let mut lives: Vec<&Instance> = self.instances.values().collect();
        lives.sort_by_key(|one| one.number);
        let mut fetched = BTreeSet::new();
        let mut ended: BTreeMap<&SlotName, Vec<&Instance>> = BTreeMap::new();
        for one in lives {
            let id = one.id;
            match one.step {
                Step::Image => {
                    if fetched.insert(one.spec.runs.image) {
                        orders.push(Order::Fetch(one.spec.runs.image));
                    }
                }
                Step::Machine => {
                    let (slot, runs) = (one.slot.clone(), one.spec.runs);
                    orders.push(Order::Start { id, slot, runs });
                }
                Step::Wait => orders.push(Order::Watch(id)),
                Step::Stop => orders.push(Order::Stop { id, grace_ms: one.spec.stop_ms }),
                Step::Kill => orders.push(Order::Kill(id)),
                Step::Gone => ended.entry(&one.slot).or_default().push(one),
                Step::Guest | Step::Check | Step::Serve | Step::Leave => {}
            }
        }
        for (slot, mut lives) in ended {
            // The last that ended are kept for who reads their logs, while somebody wants the slot. One
            // that ran for long may end after many that began later.
            lives.sort_by_key(|one| (one.since_ms, one.number));
            let kept = if self.knows(slot) { ENDED_KEPT } else { 0 };
            let excess = lives.len().saturating_sub(kept);
            orders.extend(lives.into_iter().take(excess).map(|one| Order::Forget(one.id)));
        }
        for (id, gone) in &self.strays {
            orders.push(if *gone { Order::Forget(*id) } else { Order::Kill(*id) });
        }
        for report in &self.reports {
            let super::Report { service, epoch, failed } = report.clone();
            orders.push(Order::Report { service, epoch, failed });
        }
        orders
    }
}
