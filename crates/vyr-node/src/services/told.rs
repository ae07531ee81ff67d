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

#[cfg(test)]
mod tests {
    use vyr_base::Digest;
    use vyr_service::manifest::RestartPolicy;
    use vyr_service::run::{
        BOOT_MS, Event as Happened, Gate, Restart, Run, Runs, SlotSpec, State, Wanted,
    };

    use super::*;

    /// One instance whose machine is being started, and whose it is. It is ready as soon as it runs.
    fn started() -> (Run, InstanceId) {
        let mut run = Run::new(Digest::of(b"a node"));
        let runs = Runs {
            release: Digest::of(b"a release").into(),
            image: Digest::of(b"an image"),
            secrets: None,
        };
        let spec = SlotSpec {
            runs,
            restart: Restart { policy: RestartPolicy::Never, max_retries: 0, backoff_ms: 1 },
            gate: Gate { health: None, grace_ms: 0 },
            boot_ms: BOOT_MS,
            drain_ms: 1,
            stop_ms: 1,
        };
        let slots = [("web/http/0".parse().expect("a slot"), spec)].into();
        let plan = Digest::of(b"a plan");
        let wanted = Wanted { epoch: 1, plan, draining: false, slots };
        for what in [What::Found(BTreeMap::new()), What::Plan(wanted)] {
            run.evolve(&Happened { at_ms: 1, what });
        }
        run.evolve(&Happened { at_ms: 1, what: What::ImageReady(runs.image) });
        let id = *run.instances().keys().next().expect("it is wanted");
        assert!(run.instances()[&id].step.has_machine(), "{:?}", run.orders());
        (run, id)
    }

    /// What is told of its machine, one after the other; what the instance then is, in words.
    fn told(run: &mut Run, id: InstanceId, events: Vec<Event>) -> (State, Option<&'static str>) {
        for what in events.into_iter().flat_map(of_event) {
            run.evolve(&Happened { at_ms: 2, what });
        }
        let one = &run.instances()[&id];
        (one.state, one.fault.as_ref().map(|fault| fault.reason.word()))
    }

    fn name(id: InstanceId) -> MachineId {
        MachineId::new(&id.to_string()).expect("an id")
    }

    /// It came to run.
    fn ran(id: InstanceId) -> Vec<Event> {
        let began = Began::Booted { instead: None };
        let phase = |phase| Event::Phase { id: name(id), phase };
        let phases = [GuestPhase::Preparing, GuestPhase::Prestart, GuestPhase::Running];
        let phases = phases.into_iter().map(phase);
        [Event::Started { id: name(id), pid: 7, began }].into_iter().chain(phases).collect()
    }

    const KILLED: End = End { code: None, signal: Some(9), oom_killed: true };

    fn guest(code: Option<u8>, signal: Option<u8>, oom_killed: bool) -> Option<GuestEnd> {
        Some(GuestEnd { code, signal, oom_killed })
    }

    #[test]
    fn an_instance_that_ran_has_the_reason_of_its_end() {
        let off = Exit::Code(0);
        let cases = [
            // What its guest said counts, however its VMM ended.
            (guest(Some(0), None, false), off, State::Stopped, "exited", "code 0"),
            (guest(Some(3), None, false), off, State::Failed, "exited", "code 3"),
            (guest(Some(3), None, false), Exit::Signal(9), State::Failed, "exited", "code 3"),
            (guest(Some(3), None, false), Exit::OutOfMemory, State::Failed, "exited", "code 3"),
            (guest(None, Some(11), false), off, State::Failed, "exited", "signal 11"),
            (guest(None, Some(9), true), off, State::Failed, "oom_killed", "signal 9"),
            // A process of its own was killed, and it ended by itself.
            (guest(Some(137), None, true), off, State::Failed, "oom_killed", "137"),
            // It said nothing.
            (None, Exit::OutOfMemory, State::Failed, "oom_killed", "signal 9"),
            (None, off, State::Failed, "vmm_gone", "without a word"),
            (None, Exit::Code(1), State::Failed, "vmm_gone", "without a word"),
            (None, Exit::Signal(9), State::Failed, "vmm_gone", "without a word"),
            (None, Exit::Unknown, State::Failed, "vmm_gone", "without a word"),
        ];
        for (end, exit, state, reason, said) in cases {
            let (mut run, id) = started();
            let ready = told(&mut run, id, ran(id)).0;
            assert!(matches!(ready, State::Booting | State::Ready), "{ready:?}");
            let ended = vec![Event::Ended { id: name(id), end, exit }];
            let seen = told(&mut run, id, ended);
            assert_eq!(seen, (state, Some(reason)), "{end:?} {exit:?}");
            let fault = run.instances()[&id].fault.clone().expect("it has one");
            assert!(fault.said.contains(said), "{end:?} {exit:?}: {fault:?}");
            assert!(!run.instances()[&id].step.has_machine(), "{end:?} {exit:?}");
        }
    }

    /// At what a machine can fail, and the reason that it is.
    const FAILED: [(FailedAt, &str); 12] = [
        (FailedAt::Platform, "vmm_start_failed"),
        (FailedAt::Disk, "vmm_start_failed"),
        (FailedAt::Vmm, "vmm_start_failed"),
        (FailedAt::Boot, "boot_timeout"),
        (FailedAt::Channel, "vmm_gone"),
        (FailedAt::Guest(Stage::Seed), "guest_setup_failed"),
        (FailedAt::Guest(Stage::Root), "guest_setup_failed"),
        (FailedAt::Guest(Stage::Network), "network_setup_failed"),
        (FailedAt::Guest(Stage::Secrets), "secrets_injection_failed"),
        (FailedAt::Guest(Stage::Memory), "guest_setup_failed"),
        (FailedAt::Guest(Stage::Prestart), "prestart_failed"),
        (FailedAt::Guest(Stage::Workload), "entrypoint_failed"),
    ];

    #[test]
    fn a_machine_that_fails_says_at_what_however_far_it_was() {
        for (at, reason) in FAILED {
            for far in 0..=4 {
                let (mut run, id) = started();
                told(&mut run, id, ran(id).into_iter().take(far).collect());
                let why = "because of a test".to_owned();
                let failed = Event::Failed { id: name(id), at, why };
                let seen = told(&mut run, id, vec![failed.clone()]);
                assert_eq!(seen, (State::Failed, Some(reason)), "{at:?} after {far}");
                let one = &run.instances()[&id];
                assert_eq!(one.fault.as_ref().expect("it has one").said, "because of a test");
                assert!(!one.step.has_machine(), "{at:?} after {far}");
                // Once more says nothing new.
                let before = run.clone();
                told(&mut run, id, vec![failed]);
                assert_eq!(run.instances(), before.instances(), "{at:?} after {far}");
            }
        }
    }

    #[test]
    fn what_is_found_after_a_start_is_what_would_have_been_told() {
        let (_, id) = started();
        let failure = Failure { stage: Stage::Prestart, why: "no".into() };
        let fault = Fault::new(Reason::PrestartFailed, "no");
        let ended = |end, exit| Some(Ending::Ended { end, exit });
        let cases = [
            (GuestPhase::Blank, None, Phase::Starting),
            (GuestPhase::Preparing, None, Phase::Starting),
            (GuestPhase::Prestart, None, Phase::Starting),
            (GuestPhase::Running, None, Phase::Running),
            (GuestPhase::Stopping, None, Phase::Running),
            (GuestPhase::Failed(failure), None, Phase::Failed(fault)),
            (GuestPhase::Running, ended(None, Exit::Signal(9)), Phase::Gone),
            (GuestPhase::Running, ended(None, Exit::OutOfMemory), Phase::Ended(KILLED)),
            (
                GuestPhase::Running,
                ended(guest(Some(3), None, false), Exit::Unknown),
                Phase::Ended(End { code: Some(3), signal: None, oom_killed: false }),
            ),
        ];
        let known = |phase, ended| Known {
            id: name(id),
            pid: None,
            uid: None,
            phase,
            began: Some(Began::Restored),
            ended,
        };
        for (phase, ended, expected) in cases {
            let found = found(&[known(phase.clone(), ended)]);
            assert_eq!(found, [(id, expected)].into(), "{phase:?}");
        }
        for (at, reason) in FAILED {
            let ended = Some(Ending::Failed { at, why: "no".into() });
            match &found(&[known(GuestPhase::Running, ended)])[&id] {
                Phase::Failed(fault) => assert_eq!(fault.reason.word(), reason, "{at:?}"),
                other => panic!("{at:?}: {other:?}"),
            }
        }
        let all = all_began(&[known(GuestPhase::Running, None)]);
        assert_eq!(all, [(id, Began::Restored)]);
    }

    #[test]
    fn a_machine_of_nobody_is_of_nobody() {
        let (mut run, id) = started();
        let before = run.clone();
        for other in ["blank-1", "0123", "0123456789abcdeg", "0123456789abcdef0"] {
            let other = MachineId::new(other).expect("a name");
            let ended = Event::Ended { id: other.clone(), end: None, exit: Exit::Code(0) };
            assert_eq!(of_event(ended.clone()), []);
            assert_eq!(began(&ended), None);
            told(&mut run, id, vec![ended]);
        }
        assert_eq!(run, before);
    }
}
