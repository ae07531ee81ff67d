//! What the node's other processes tell, in the words of the state machine.

use std::collections::BTreeMap;

use vyr_service::run::{End, Fault, InstanceId, Phase, Reason, What};
use vyr_vm::channel::words::{End as GuestEnd, Failure, Phase as GuestPhase, Stage};
use vyr_vm::vmm::Exit;

use crate::machines::{Began, Ending, Event, FailedAt, Known, MachineId};
use crate::process::{ImageError, ImageReason};

/// Whose machine it is; none: of nobody that this node ever had.
fn instance(id: &MachineId) -> Option<InstanceId> {
    id.as_str().parse().ok()
}

/// How a machine came to run, if it is told here, and whose it is.
pub(super) fn began(event: &Event) -> Option<(InstanceId, Began)> {
    match event {
        Event::Started { id, began, .. } => Some((instance(id)?, began.clone())),
        _ => None,
    }
}

/// The same of all machines there are.
pub(super) fn all_began(known: &[Known]) -> Vec<(InstanceId, Began)> {
    known.iter().filter_map(|of| Some((instance(&of.id)?, of.began.clone()?))).collect()
}

/// What an event of `machines` means; some mean two things.
pub(super) fn of_event(event: Event) -> Vec<What> {
    let Some(id) = instance(event.id()) else { return Vec::new() };
    match event {
        Event::Started { .. } => vec![What::Started(id)],
        Event::Phase { phase, .. } | Event::Adopted { phase, .. } => {
            vec![What::Guest(id, of_phase(phase))]
        }
        Event::Health { passed, said, .. } => vec![What::Health { id, passed, said }],
        Event::Ended { end, exit, .. } => {
            let end = what_ended(end, exit).map(|end| What::Guest(id, Phase::Ended(end)));
            end.into_iter().chain([What::Gone(id)]).collect()
        }
        Event::Failed { at, why, .. } => {
            let fault = Fault::new(reason(at), why);
            // Whichever of the two fits how far it was counts; the other one says nothing new.
            vec![
                What::StartFailed(id, fault.clone()),
                What::Guest(id, Phase::Failed(fault)),
                What::Gone(id),
            ]
        }
    }
}

/// All machines there are.
pub(super) fn found(known: &[Known]) -> BTreeMap<InstanceId, Phase> {
    let phase = |of: &Known| match &of.ended {
        None => of_phase(of.phase.clone()),
        Some(Ending::Ended { end, exit }) => {
            what_ended(*end, *exit).map_or(Phase::Gone, Phase::Ended)
        }
        Some(Ending::Failed { at, why }) => Phase::Failed(Fault::new(reason(*at), why)),
    };
    known.iter().filter_map(|of| Some((instance(&of.id)?, phase(of)))).collect()
}

fn of_phase(phase: GuestPhase) -> Phase {
    match phase {
        GuestPhase::Blank | GuestPhase::Preparing | GuestPhase::Prestart => Phase::Starting,
        GuestPhase::Running | GuestPhase::Stopping => Phase::Running,
        GuestPhase::Ended(end) => Phase::Ended(of_end(end)),
        GuestPhase::Failed(Failure { stage, why }) => {
            Phase::Failed(Fault::new(reason(FailedAt::Guest(stage)), why))
        }
    }
}

fn of_end(end: GuestEnd) -> End {
    End { code: end.code, signal: end.signal, oom_killed: end.oom_killed }
}

/// How a workload ended, by what its guest said and how its VMM did.
fn what_ended(end: Option<GuestEnd>, exit: Exit) -> Option<End> {
    match (end, exit) {
        (Some(end), _) => Some(of_end(end)),
        // The host's cap is above the guest's memory: what passes it is still the instance's doing.
        (None, Exit::OutOfMemory) => Some(End { code: None, signal: Some(9), oom_killed: true }),
        (None, _) => None,
    }
}

fn reason(at: FailedAt) -> Reason {
    match at {
        FailedAt::Platform | FailedAt::Disk | FailedAt::Vmm => Reason::VmmStartFailed,
        FailedAt::Boot => Reason::BootTimeout,
        FailedAt::Channel => Reason::VmmGone,
        FailedAt::Guest(stage) => match stage {
            Stage::Network => Reason::NetworkSetupFailed,
            Stage::Secrets => Reason::SecretsInjectionFailed,
            Stage::Prestart => Reason::PrestartFailed,
            Stage::Workload => Reason::EntrypointFailed,
            Stage::Seed | Stage::Root | Stage::Memory => Reason::GuestSetupFailed,
        },
    }
}

/// Why an image is not here.
pub(super) fn images_fault(error: &ImageError) -> Fault {
    let reason = match error.reason {
        ImageReason::ImagePullFailed => Reason::ImagePullFailed,
        ImageReason::ImagePullTimeout => Reason::ImagePullTimeout,
        ImageReason::ImageTooLarge => Reason::ImageTooLarge,
        ImageReason::ImageLayerInvalid => Reason::ImageLayerInvalid,
        ImageReason::RootfsBuildFailed => Reason::RootfsBuildFailed,
    };
    Fault::new(reason, &error.message)
}
