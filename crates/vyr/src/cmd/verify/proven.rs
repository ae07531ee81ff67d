//! What a receipt proves, as people and programs read it.

use serde::Serialize;
use vyr_base::Digest;
use vyr_journal::{
    Checkpoint, Deploy, EVENT_VERSION, Event, NetworkChange, Origin, Stated, Statement, TaskState,
    Verified,
};
use vyr_node::Result;

use crate::output;

/// Says what was proven: one object on stdout, or lines.
pub(super) fn show(verified: Verified, json: bool) -> Result<()> {
    match verified.stated.clone() {
        Stated::Task(statement) => {
            let proven = Proven::new(verified, *statement);
            if json {
                return output::json_line(proven);
            }
            proven.print();
        }
        Stated::Network(statement) => {
            let proven = ProvenOf::new(verified, statement.predicate.change);
            if json {
                return output::json_line(proven);
            }
            print_change(&proven.what);
            proven.print();
        }
        Stated::Deploy(statement) => {
            let proven = ProvenOf::new(verified, statement.predicate.deploy);
            if json {
                return output::json_line(proven);
            }
            print_deploy(&proven.what);
            proven.print();
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Proven {
    verified: bool,
    task_id: String,
    state: TaskState,
    exit_code: Option<i32>,
    reason: Option<String>,
    artifact_digest: Digest,
    input_digest: Digest,
    output_digest: Digest,
    receipt_digest: Digest,
    file_digest: Digest,
    signer: String,
    signer_key_id: String,
    dev: bool,
    submitter: String,
    node: String,
    node_key_id: String,
    origin: Origin,
    seq: u64,
    size: u64,
    root: Digest,
    timings: vyr_journal::Timings,
    limits: vyr_journal::Limits,
}

/// A change of the network, or a deploy, that a receipt proves.
#[derive(Serialize)]
struct ProvenOf<T> {
    verified: bool,
    #[serde(flatten)]
    what: T,
    receipt_digest: Digest,
    file_digest: Digest,
    node: String,
    node_key_id: String,
    origin: Origin,
    seq: u64,
    size: u64,
    root: Digest,
}

/// The digest of the event that states it.
fn receipt_digest(verified: &Verified) -> Digest {
    let (seq, time, v) = (verified.seq, verified.time, EVENT_VERSION);
    Digest::of(&Event { body: verified.stated.clone().into_body(), seq, time, v }.to_leaf())
}

impl<T> ProvenOf<T> {
    fn new(verified: Verified, what: T) -> Self {
        let Checkpoint { origin, size, root } = verified.checkpoint;
        Self {
            verified: true,
            what,
            receipt_digest: receipt_digest(&verified),
            file_digest: verified.receipt,
            node: verified.signer.principal,
            node_key_id: verified.signer.key_id.to_string(),
            origin,
            seq: verified.seq,
            size,
            root,
        }
    }

    fn print(&self) {
        output::say(format!("node: {} {}", self.node, self.node_key_id));
        output::say(format!("event {} of {}, {} events", self.seq, self.origin, self.size));
    }
}

fn approved_by(approvers: &[String]) {
    if !approvers.is_empty() {
        output::say(format!("approved by: {}", output::visible(&approvers.join(", "))));
    }
}

fn print_change(of: &NetworkChange) {
    output::print(format!("{} {} ({})", of.change, of.outcome.word(), output::visible(&of.why)));
    output::print(format!("plan     {}", of.plan));
    output::print(format!("before   {}", of.before));
    let after = of.after.map_or_else(|| "not read back".to_owned(), |after| after.to_string());
    output::print(format!("after    {after}"));
    let (by, host) = (output::visible(&of.by), output::visible(&of.host));
    output::say(format!("{} on {host}, by {by}", of.timings.ended));
    approved_by(&of.approvers);
    output::say(format!("interfaces: {}", output::visible(&of.interfaces.join(", "))));
    if let Some(commit) = &of.site_commit {
        output::say(format!("commit of the site: {}", output::visible(commit)));
    }
}

fn print_deploy(of: &Deploy) {
    output::print(format!("{} {} ({})", of.deploy, of.outcome.word(), output::visible(&of.why)));
    output::print(format!("plan     {}", of.plan));
    for release in &of.releases {
        let service = output::visible(&release.service);
        output::print(format!("release  {} {service} {}", release.release, release.image));
    }
    let (by, machine) = (output::visible(&of.by), output::visible(&of.machine));
    output::say(format!("{} on {machine}, by {by}", of.timings.ended));
    approved_by(&of.approvers);
}

impl Proven {
    fn new(verified: Verified, statement: Statement) -> Self {
        let Checkpoint { origin, size, root } = verified.checkpoint;
        let (seq, receipt_digest) = (verified.seq, receipt_digest(&verified));
        let of = statement.predicate;
        Self {
            verified: true,
            task_id: of.task_id.to_string(),
            state: of.state,
            exit_code: of.exit_code,
            reason: of.reason,
            artifact_digest: of.artifact.digest,
            input_digest: of.input.digest,
            output_digest: of.output.digest,
            receipt_digest,
            file_digest: verified.receipt,
            signer: of.signer.principal,
            signer_key_id: of.signer.key_id,
            dev: of.signer.dev,
            submitter: of.submitter,
            node: verified.signer.principal,
            node_key_id: verified.signer.key_id.to_string(),
            origin,
            seq,
            size,
            root,
            timings: of.timings,
            limits: of.limits,
        }
    }

    fn print(self) {
        let state = serde_json::to_value(self.state).unwrap_or_default();
        let why = self.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        output::print(format!("{} {}{why}", self.task_id, state.as_str().unwrap_or_default()));
        output::print(format!("artifact {}", self.artifact_digest));
        output::print(format!("input    {}", self.input_digest));
        output::print(format!("output   {}", self.output_digest));
        output::say(format!("signer: {} {}", self.signer, self.signer_key_id));
        output::say(format!("node: {} {}", self.node, self.node_key_id));
        output::say(format!("event {} of {}, {} events", self.seq, self.origin, self.size));
    }
}
