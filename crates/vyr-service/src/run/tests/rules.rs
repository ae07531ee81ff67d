//! The invariants, as one judge sees them: what was, what happened, what is.

use std::collections::{BTreeMap, BTreeSet};

use super::super::rollout::Goal;
use super::super::*;

/// Which rule a step broke. `ids` are all that there ever were.
pub(super) fn judge(
    before: &Run,
    event: &Event,
    changed: bool,
    after: &Run,
    ids: &mut BTreeSet<InstanceId>,
) -> Result<(), String> {
    if !changed && before.orders() != after.orders() {
        return Err("it said that nothing changed, and orders did".into());
    }
    forms(after)?;
    lives(before, after, ids)?;
    memory(after)?;
    ingress(before, after)?;
    starts(before, event, after)
}

/// What is true of every state, whatever happened. Chaos keeps to it as well.
pub(super) fn forms(run: &Run) -> Result<(), String> {
    for one in run.instances().values() {
        let fits = match one.state {
            State::Booting => {
                matches!(one.step, Step::Image | Step::Machine | Step::Guest | Step::Check)
            }
            State::Ready => one.step == Step::Serve,
            State::Draining => {
                matches!(one.step, Step::Leave | Step::Wait | Step::Stop | Step::Kill)
            }
            State::Stopped | State::Failed => {
                matches!(one.step, Step::Stop | Step::Kill | Step::Gone)
            }
        };
        if !fits {
            return Err(format!("{} is {:?} at {:?}", one.id, one.state, one.step));
        }
        if one.is_live() != one.fault.is_none() {
            return Err(format!("{} is {:?} with {:?}", one.id, one.state, one.fault));
        }
    }
    if run.wake_ms().is_some_and(|at| at <= run.now_ms) {
        return Err("it wants to be woken in the past".into());
    }
    let ready = run.instances().values().filter(|one| one.state == State::Ready);
    if run.serving.ready != ready.map(|one| one.id).collect() {
        return Err("the ingress is to have others than those that are ready".into());
    }
    Ok(())
}

/// Lives go on and do not change; ids do not return.
pub(super) fn lives(
    before: &Run,
    after: &Run,
    ids: &mut BTreeSet<InstanceId>,
) -> Result<(), String> {
    for (id, one) in after.instances() {
        let Some(was) = before.instances().get(id) else {
            if !ids.insert(*id) {
                return Err(format!("{id} returned"));
            }
            continue;
        };
        if was.spec != one.spec || was.slot != one.slot || was.number != one.number {
            return Err(format!("{id} was changed"));
        }
        if one.state < was.state || was.state.is_terminal() && one.state != was.state {
            return Err(format!("{id} went from {:?} to {:?}", was.state, one.state));
        }
        if was.state.is_terminal() && was.fault != one.fault {
            return Err(format!("{id} ended for another reason afterwards"));
        }
    }
    Ok(())
}

/// Two instances in one slot at most, and on the node in one slot only.
fn memory(run: &Run) -> Result<(), String> {
    let mut used: BTreeMap<&SlotName, usize> = BTreeMap::new();
    for one in run.instances().values().filter(|one| one.step != Step::Gone) {
        *used.entry(&one.slot).or_default() += 1;
    }
    let crowded: Vec<_> = used.iter().filter(|(_, count)| **count > 1).collect();
    match crowded.as_slice() {
        [] | [(_, 2)] => Ok(()),
        _ => Err(format!("more than one instance too many: {crowded:?}")),
    }
}

/// Who is ready leaves only for another one, and is ended only once the ingress has left it.
fn ingress(before: &Run, after: &Run) -> Result<(), String> {
    for (id, one) in after.instances() {
        let told = matches!(one.step, Step::Wait | Step::Stop | Step::Kill);
        if one.state == State::Draining && told && after.is_served(*id) {
            return Err(format!("{id} is ended while clients are sent to it"));
        }
        let was = before.instances().get(id).map(|was| was.state);
        if was != Some(State::Ready) || one.state != State::Draining {
            continue;
        }
        let Some(service) = after.services().get(&one.slot.service) else { continue };
        let halted = after.slots().get(&one.slot).is_some_and(|slot| slot.halted);
        let spec = match service.goal(&one.slot) {
            _ if halted => continue,
            Goal::Empty => continue,
            Goal::Keep => return Err(format!("{id} had to be kept")),
            Goal::Run(spec) => spec,
        };
        let done = after.slots().get(&one.slot).is_some_and(|of| of.off == Some(Off::Completed));
        let stays = after.instances().values().any(|other| {
            other.slot == one.slot && other.state == State::Ready && after.is_served(other.id)
        });
        if spec.runs == one.spec.runs || !(stays || done) {
            return Err(format!("{id} left, and nothing serves in its place"));
        }
    }
    Ok(())
}

/// What was stopped is not started, and nothing is started too early.
fn starts(before: &Run, event: &Event, after: &Run) -> Result<(), String> {
    for (id, one) in after.instances() {
        if before.instances().contains_key(id) {
            continue;
        }
        let Some(was) = before.slots().get(&one.slot) else { continue };
        let resumed = matches!(&event.what, What::Resume(slot) if *slot == one.slot);
        let new_plan = matches!(event.what, What::Plan(_));
        let turned = before.services().get(&one.slot.service).map(|of| &of.rollout.state)
            != after.services().get(&one.slot.service).map(|of| &of.rollout.state);
        if was.halted && !resumed {
            return Err(format!("{id} was started in a slot that an operator stopped"));
        }
        if resumed || new_plan || turned {
            continue;
        }
        if was.off.is_some() || was.retry_ms.is_some_and(|at| at > after.now_ms) {
            return Err(format!("{id} was started before its time"));
        }
    }
    Ok(())
}
