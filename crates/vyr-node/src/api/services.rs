//! Services over the operator's interface: plans in, steps, logs and sessions out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use vyr_api::operator::{
    DeployPart, DeployStep, ExecEnd, ExecInput, ExecOutput, ExecStart, Instance, LogLine, Slot,
    deploy_part, exec_input, exec_output,
};
use vyr_base::Digest;
use vyr_journal::{DeployOutcome, SessionEnd};
use vyr_plan::Signed;
use vyr_plan::services::SERVICES_BYTES_MAX;
use vyr_service::place::SlotName;
use vyr_service::run::{Because, Outcome, State, Why};
use vyr_vm::channel::words::{ExecEnd as GuestEnd, LogSource, Window};

use super::convert::status;
use super::put;
use crate::machines::Began;
use crate::machines::wire::{ExecFrame, LogLine as Line};
use crate::node::NodeError;
use crate::services::{
    Asked, CLIENT_GONE, DeployRequest, Services, ServicesError, Session, Taken, View,
};

/// Approvals of one plan.
const APPROVALS_MAX: usize = 256;
/// Bytes of all encrypted files of one deploy.
const SEALED_BYTES_MAX: usize = 64 << 20;

/// A refusal as it is answered.
pub(super) fn refused(error: ServicesError) -> Status {
    status(NodeError::Other(error.into()))
}

/// Reads a deploy, bounded.
pub(super) async fn read_deploy(
    mut parts: Streaming<DeployPart>,
    by: String,
) -> Result<DeployRequest, Status> {
    let invalid = |why: &str| status(NodeError::Invalid(why.to_owned()));
    let mut request = DeployRequest {
        plan: Vec::new(),
        signed: Vec::new(),
        node: None,
        by,
        sealed: BTreeMap::new(),
    };
    let (mut begun, mut sealed_bytes) = (false, 0);
    while let Some(part) = put::next(&mut parts).await? {
        match part.part {
            Some(deploy_part::Part::Head(head)) if !begun => {
                begun = true;
                if head.approvals.len() > APPROVALS_MAX {
                    return Err(invalid("a plan has at most 256 approvals"));
                }
                request.node = Some(head.node).filter(|node| !node.is_empty());
                let approvals = head.approvals.into_iter().enumerate();
                request.signed = approvals
                    .map(|(number, of)| Signed {
                        name: format!("approval {}", number + 1),
                        text: of.text.into(),
                        signature: of.signature.into(),
                    })
                    .collect();
            }
            Some(deploy_part::Part::Plan(piece)) if begun => {
                if request.plan.len() + piece.len() > SERVICES_BYTES_MAX {
                    return Err(invalid("the plan is longer than a services plan may be"));
                }
                request.plan.extend_from_slice(&piece);
            }
            Some(deploy_part::Part::Sealed(bytes)) if begun => {
                sealed_bytes += bytes.len();
                if sealed_bytes > SEALED_BYTES_MAX {
                    return Err(invalid("the files of secrets are too large together"));
                }
                request.sealed.insert(Digest::of(&bytes), bytes.into());
            }
            _ => return Err(invalid("a deploy begins with its head, which comes once")),
        }
    }
    match begun {
        true => Ok(request),
        false => Err(invalid("a deploy begins with its head")),
    }
}

/// Tells how a deploy goes, until it has ended or nobody listens.
pub(super) async fn follow(
    services: Arc<Services>,
    taken: Taken,
    to: mpsc::Sender<Result<DeployStep, Status>>,
) {
    let first = DeployStep {
        deploy: taken.deploy.clone(),
        plan_digest: taken.plan.to_string(),
        node: taken.node,
        approvers: taken.approvers,
        ..DeployStep::default()
    };
    if to.send(Ok(first)).await.is_err() {
        return;
    }
    let mut turns = services.changed();
    let mut told: BTreeSet<String> = BTreeSet::new();
    loop {
        turns.mark_unchanged();
        let view = services.view();
        let now = lines(&view);
        for line in now.difference(&told) {
            let step = DeployStep { said: line.clone(), ..DeployStep::default() };
            if to.send(Ok(step)).await.is_err() {
                return;
            }
        }
        told = now;
        if let Some(ended) = view.ended.as_ref().filter(|ended| ended.deploy == taken.deploy) {
            let outcome = ended.outcome.word().to_owned();
            let last = DeployStep { outcome, why: ended.why.clone(), ..DeployStep::default() };
            let _ = to.send(Ok(last)).await;
            return;
        }
        // A deploy that ended in an earlier life of the node, or of a plan that is in force: how it went is
        // what is left to be told. A node that stands still shows what was before it took this one.
        if view.stuck.is_none() && view.deploying.is_none() {
            let _ = to.send(Ok(in_force(&view))).await;
            return;
        }
        tokio::select! {
            changed = turns.changed() => if changed.is_err() { return },
            () = to.closed() => return,
        }
    }
}

/// How the plan that was taken last went, long ago.
fn in_force(view: &View) -> DeployStep {
    let (outcome, why) = match view.run.outcome() {
        Outcome::Failed(faults) => {
            let faults = faults.iter().map(|(service, fault)| format!("{service}: {fault}"));
            (DeployOutcome::Failed, faults.collect::<Vec<_>>().join("; "))
        }
        Outcome::Succeeded | Outcome::Rolling => {
            (DeployOutcome::Succeeded, "it is in force".to_owned())
        }
    };
    DeployStep { outcome: outcome.word().to_owned(), why, ..DeployStep::default() }
}

/// What is to be told of each slot now.
fn lines(view: &View) -> BTreeSet<String> {
    let mut lines: BTreeSet<String> =
        view.unable.iter().map(|why| format!("tried again: {why}")).collect();
    lines.extend(view.stuck.iter().map(|why| format!("the node stands still: {why}")));
    for why in slots(view) {
        if let Some(because) = &why.because {
            lines.insert(format!("{}: {because}", why.slot));
        } else if let Some(instance) = why.running.last() {
            lines.insert(format!("{}: {} is {}", why.slot, instance.id, instance.state.word()));
        }
    }
    lines
}

/// All slots that somebody knows.
fn slots(view: &View) -> Vec<Why> {
    let run = &view.run;
    let wanted = run.services().values().flat_map(|of| of.wanted.keys().chain(of.good.keys()));
    let lives = run.instances().values().map(|of| &of.slot);
    let all: BTreeSet<&SlotName> = run.slots().keys().chain(wanted).chain(lives).collect();
    all.into_iter().filter_map(|slot| run.why(slot)).collect()
}

/// The view as the interface says it.
pub(super) fn services(view: &View) -> vyr_api::operator::Services {
    let of_slot = |why: &Why| Slot {
        slot: why.slot.to_string(),
        release: why.desired.map(|runs| runs.release.to_string()).unwrap_or_default(),
        because: why.because.as_ref().map(ToString::to_string).unwrap_or_default(),
        because_word: why.because.as_ref().map(word).unwrap_or_default(),
        instances: instances(view, &why.slot),
    };
    vyr_api::operator::Services {
        node: view.node.clone().unwrap_or_default(),
        plan_digest: view.plan.as_ref().map(|(digest, _)| digest.to_string()).unwrap_or_default(),
        epoch: view.plan.as_ref().map_or(0, |(_, plan)| plan.epoch),
        deploying: view.deploying.clone().unwrap_or_default(),
        stuck: view.stuck.clone().unwrap_or_default(),
        slots: slots(view).iter().map(of_slot).collect(),
        now_ms: view.now_ms,
        unable: view.unable.iter().cloned().collect(),
    }
}

/// The tag of its JSON.
fn word(because: &Because) -> String {
    let value = serde_json::to_value(because).unwrap_or_default();
    value["because"].as_str().unwrap_or_default().to_owned()
}

fn instances(view: &View, slot: &SlotName) -> Vec<Instance> {
    let prefix = view.plan.as_ref().zip(view.node.as_ref());
    let prefix = prefix.and_then(|((_, plan), node)| plan.node(node)).map(|node| node.prefix);
    let instance = |of: &vyr_service::run::Instance| Instance {
        instance: of.id.to_string(),
        slot: of.slot.to_string(),
        release: of.spec.runs.release.to_string(),
        image_digest: of.spec.runs.image.to_string(),
        state: of.state.word().to_owned(),
        since_ms: of.since_ms,
        restarts: of.restarts,
        reason: of.fault.as_ref().map(|of| of.reason.word().to_owned()).unwrap_or_default(),
        said: of.fault.as_ref().map(|of| of.said.clone()).unwrap_or_default(),
        serving: of.state == State::Ready && view.run.is_served(of.id),
        address: prefix
            .map(|prefix| of.id.address(prefix.network()).to_string())
            .unwrap_or_default(),
        began: view.came_up.get(&of.id).map(|began| began.word().to_owned()).unwrap_or_default(),
        began_why: view.came_up.get(&of.id).and_then(Began::instead).unwrap_or_default().to_owned(),
    };
    view.run.of_slot(slot).into_iter().map(instance).collect()
}

/// Passes the lines of a log on. Blocks until its end, or until nobody listens.
pub(super) fn pass_log(
    socket: OwnedFd,
    instance: &str,
    to: &mpsc::Sender<Result<LogLine, Status>>,
) {
    let mut from = io::BufReader::new(UnixStream::from(socket));
    loop {
        let line = match Line::read(&mut from) {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(e) => {
                let _ = to.blocking_send(Err(Status::unavailable(e.to_string())));
                return;
            }
        };
        let record = line.record;
        let stream = match record.source {
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
            LogSource::Dropped => "dropped",
        };
        let dropped = record.dropped().unwrap_or(0);
        let line = LogLine {
            instance: instance.to_owned(),
            number: line.number,
            unix_nano: record.time_ns,
            stream: stream.to_owned(),
            cut: record.cut,
            dropped,
            line: if dropped == 0 { record.line.into() } else { bytes::Bytes::new() },
        };
        if to.blocking_send(Ok(line)).is_err() {
            return;
        }
    }
}

/// What a session is to run.
pub(super) fn asked(start: ExecStart) -> Result<(String, Asked, Option<Window>), Status> {
    if start.argv.is_empty() {
        return Err(status(NodeError::Invalid("a session runs something: name a program".into())));
    }
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let asked = Asked {
        argv: start.argv,
        env: start.env.into_iter().collect(),
        user: text(start.user),
        workdir: text(start.workdir),
    };
    Ok((start.target, asked, start.terminal.map(|of| window(&of))))
}

fn window(of: &vyr_api::operator::Window) -> Window {
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Window { rows: short(of.rows), columns: short(of.columns) }
}

/// What a client says to its session; none: nothing that means anything.
fn frame(input: ExecInput) -> Option<ExecFrame> {
    Some(match input.input? {
        exec_input::Input::Data(data) => ExecFrame::Input(data.into()),
        exec_input::Input::End(_) => ExecFrame::EndInput,
        exec_input::Input::Resize(of) => ExecFrame::Resize(window(&of)),
        exec_input::Input::Signal(signal) => ExecFrame::Signal(u8::try_from(signal).ok()?),
        exec_input::Input::Start(_) => return None,
    })
}

/// Both directions of a session. Whoever hangs up ends it; whoever is told of its end finds it in the
/// journal.
pub(super) fn pass_session(
    socket: OwnedFd,
    session: Session,
    mut input: Streaming<ExecInput>,
    to: mpsc::Sender<Result<ExecOutput, Status>>,
) -> io::Result<()> {
    let from = UnixStream::from(socket);
    let mut into = from.try_clone()?;
    let (frames, mut waiting) = mpsc::channel::<ExecFrame>(8);
    let client_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&client_gone);
    tokio::spawn(async move {
        while let Ok(Some(said)) = input.message().await {
            let Some(frame) = frame(said) else { continue };
            for frame in pieces(frame) {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        }
        gone.store(true, Ordering::SeqCst);
    });
    tokio::task::spawn_blocking(move || {
        while let Some(frame) = waiting.blocking_recv() {
            if frame.write(&mut into).is_err() {
                return;
            }
        }
        // The client is gone, and so is its session.
        let _ = into.flush();
        let _ = into.shutdown(std::net::Shutdown::Write);
    });
    tokio::task::spawn_blocking(move || {
        let mut from = io::BufReader::new(from);
        while let Ok(Some(frame)) = ExecFrame::read(&mut from) {
            let end = match &frame {
                ExecFrame::Ended(end) => Some(ended(end)),
                _ => None,
            };
            let Some(output) = output(frame) else { continue };
            let output = Ok(ExecOutput { output: Some(output) });
            if let Some(end) = end {
                session.end(end);
                let _ = to.blocking_send(output);
                return;
            }
            if to.blocking_send(output).is_err() {
                return session.end(SessionEnd::Failed(CLIENT_GONE.into()));
            }
        }
        let why = match client_gone.load(Ordering::SeqCst) {
            true => CLIENT_GONE,
            false => "it was cut off: its instance ended, or the process machines did",
        };
        session.end(SessionEnd::Failed(why.into()));
        let _ = to.blocking_send(Err(Status::unavailable("the session was cut off")));
    });
    Ok(())
}

/// As the journal says it.
fn ended(end: &GuestEnd) -> SessionEnd {
    match end {
        GuestEnd::Code(code) => SessionEnd::Code(*code),
        GuestEnd::Signal(signal) => SessionEnd::Signal(*signal),
        GuestEnd::Failed(why) => SessionEnd::Failed(why.clone()),
    }
}

/// A frame has a longest size, and a message of a client another.
fn pieces(frame: ExecFrame) -> Vec<ExecFrame> {
    match frame {
        ExecFrame::Input(data) if data.len() > crate::machines::wire::FRAME_MAX => {
            let pieces = data.chunks(crate::machines::wire::FRAME_MAX);
            pieces.map(|piece| ExecFrame::Input(piece.to_vec())).collect()
        }
        other => vec![other],
    }
}

fn output(frame: ExecFrame) -> Option<exec_output::Output> {
    Some(match frame {
        ExecFrame::Output(bytes) => exec_output::Output::Stdout(bytes.into()),
        ExecFrame::Errors(bytes) => exec_output::Output::Stderr(bytes.into()),
        ExecFrame::Ended(end) => exec_output::Output::End(match end {
            GuestEnd::Code(code) => ExecEnd { code: code.into(), ..ExecEnd::default() },
            GuestEnd::Signal(signal) => ExecEnd {
                code: 128 + u32::from(signal),
                signal: signal.into(),
                ..ExecEnd::default()
            },
            GuestEnd::Failed(why) => ExecEnd { code: 126, failed: why, ..ExecEnd::default() },
        }),
        ExecFrame::Input(_) | ExecFrame::EndInput | ExecFrame::Resize(_) | ExecFrame::Signal(_) => {
            return None;
        }
    })
}
