//! `vyr verify`: receipts and journals, without a node and without a network.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use vyr_base::{Category, Digest, Problem};
use vyr_journal::{
    AuditError, Auditor, CHECKPOINT_BYTES_MAX, Checkpoint, EVENT_VERSION, Entry, Event, Fault,
    Frontier, Head, Ledger, NetworkChange, NetworkStatement, NodeKeys, Origin, RECEIPT_BYTES_MAX,
    Receipt, SignedCheckpoint, Sound, Stated, Statement, TaskState, Verified,
};
use vyr_journal_sql::{JournalError, Reader};
use vyr_node::{DataDir, FileError, Report, Result, keys};

use super::link::Place;
use super::site;
use crate::cli::VerifyArgs;
use crate::output;

/// A file of keys has a line for each node.
const KEYS_BYTES_MAX: usize = 1 << 20;

/// Rows of the journal in one read.
const ROWS: u64 = 512;

/// What cannot be checked, or is not what it was.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("there is no journal at {0}")]
    NoJournal(String),
    #[error("the node's key is not in {0} any more")]
    NoKey(String),
    #[error("{0}")]
    Changed(AuditError),
    #[error("journal was changed: {0}")]
    Unreadable(JournalError),
}

impl Problem for VerifyError {
    fn category(&self) -> Category {
        match self {
            Self::NoJournal(_) => Category::NotFound,
            Self::NoKey(_) => Category::Auth,
            Self::Changed(e) => e.category(),
            Self::Unreadable(JournalError::Damaged { .. }) => Category::Auth,
            Self::Unreadable(e) => e.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoJournal(_) => Some("the first task makes it: vyr task submit FILE".into()),
            Self::NoKey(_) => Some("pass its public half: --trust KEYS".into()),
            Self::Changed(e) => e.hint(),
            Self::Unreadable(_) => Some("restore the journal from a copy that verifies".into()),
        }
    }
}

pub(crate) fn run(
    place: impl FnOnce() -> Result<Place>,
    args: &VerifyArgs,
    json: bool,
) -> Result<ExitCode> {
    if let Some(file) = &args.file
        && site::verify::is_plan(&start(file)?)
    {
        return site::verify::run(file, args.trust.as_deref(), args.threshold, json);
    }
    let trust = args.trust.as_deref().map(trust).transpose()?;
    match &args.file {
        Some(file) => receipt(file, &trust.unwrap_or_default(), args.allow_dev, json),
        None => {
            let since = args.since.as_deref().map(checkpoint).transpose()?;
            journal(&place()?.open()?, trust, since, json)
        }
    }
}

/// The first bytes of a file: enough to tell a plan from a receipt.
fn start(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(FileError::on("read", file))?;
    opened.take(16).read_to_end(&mut bytes).map_err(FileError::on("read", file))?;
    Ok(bytes)
}

/// Reads a file, and of a longer one no more than shows that it is too long.
fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(FileError::on("read", path))?;
    Ok(bytes)
}

fn trust(path: &Path) -> Result<NodeKeys> {
    Ok(NodeKeys::parse(&read(path, KEYS_BYTES_MAX)?)?)
}

fn checkpoint(path: &Path) -> Result<SignedCheckpoint> {
    Ok(SignedCheckpoint::parse(&read(path, CHECKPOINT_BYTES_MAX)?)?)
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

/// A change of the network that a receipt proves.
#[derive(Serialize)]
struct ProvenChange {
    verified: bool,
    #[serde(flatten)]
    change: NetworkChange,
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

impl ProvenChange {
    fn new(verified: Verified, statement: NetworkStatement) -> Self {
        let Checkpoint { origin, size, root } = verified.checkpoint;
        Self {
            verified: true,
            change: statement.predicate.change,
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

    fn print(self) {
        let of = self.change;
        output::print(format!(
            "{} {} ({})",
            of.change,
            of.outcome.word(),
            output::visible(&of.why)
        ));
        output::print(format!("plan     {}", of.plan));
        output::print(format!("before   {}", of.before));
        let after = of.after.map_or_else(|| "not read back".to_owned(), |after| after.to_string());
        output::print(format!("after    {after}"));
        let by = output::visible(&of.by);
        let approvers = output::visible(&of.approvers.join(", "));
        output::say(format!("{} on {}, by {by}", of.timings.ended, output::visible(&of.host)));
        if !approvers.is_empty() {
            output::say(format!("approved by: {approvers}"));
        }
        output::say(format!("interfaces: {}", output::visible(&of.interfaces.join(", "))));
        if let Some(commit) = of.site_commit {
            output::say(format!("commit of the site: {}", output::visible(&commit)));
        }
        output::say(format!("node: {} {}", self.node, self.node_key_id));
        output::say(format!("event {} of {}, {} events", self.seq, self.origin, self.size));
    }
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
}

fn receipt(file: &Path, keys: &NodeKeys, allow_dev: bool, json: bool) -> Result<ExitCode> {
    let receipt = Receipt::parse(&read(file, RECEIPT_BYTES_MAX)?)?;
    let verified = receipt.verify(keys, allow_dev)?;
    let proven = match verified.stated.clone() {
        Stated::Task(statement) => Proven::new(verified, *statement),
        Stated::Network(statement) => {
            let proven = ProvenChange::new(verified, *statement);
            if json {
                output::json_line(proven)?
            } else {
                proven.print()
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    if json {
        output::json_line(proven)?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = serde_json::to_value(proven.state).unwrap_or_default();
    let why = proven.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    output::print(format!("{} {}{why}", proven.task_id, state.as_str().unwrap_or_default()));
    output::print(format!("artifact {}", proven.artifact_digest));
    output::print(format!("input    {}", proven.input_digest));
    output::print(format!("output   {}", proven.output_digest));
    output::say(format!("signer: {} {}", proven.signer, proven.signer_key_id));
    output::say(format!("node: {} {}", proven.node, proven.node_key_id));
    output::say(format!("event {} of {}, {} events", proven.seq, proven.origin, proven.size));
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Audited {
    verified: bool,
    events: u64,
    root: Digest,
    checkpoints: u64,
    proven: u64,
    faults: Vec<Told>,
    more: u64,
}

#[derive(Serialize)]
struct Told {
    event: Option<u64>,
    fault: String,
}

/// The names are those of a journal that is as it was.
#[derive(Serialize)]
struct Refused {
    verified: bool,
    proven: u64,
    faults: Vec<Told>,
    more: u64,
    error: output::ErrorFields,
}

fn journal(
    data: &DataDir,
    trust: Option<NodeKeys>,
    since: Option<SignedCheckpoint>,
    json: bool,
) -> Result<ExitCode> {
    let path = data.journal();
    if !path.exists() {
        return Err(VerifyError::NoJournal(path.display().to_string()).into());
    }
    let keys = match trust {
        Some(keys) => keys,
        // A new one, made now, would make every checkpoint a stranger's.
        None if !path.with_file_name("key").exists() => {
            return Err(VerifyError::NoKey(data.path().display().to_string()).into());
        }
        None => NodeKeys::parse(keys::node_key_line(data)?.as_bytes())?,
    };
    let audited = Reader::open(&path).and_then(|reader| audit(&reader, &keys, since));
    match audited.map_err(VerifyError::Unreadable)? {
        Ok(sound) => {
            let Sound { size, root, proven, checkpoints, .. } = sound;
            if json {
                let faults = Vec::new();
                let (events, verified, more) = (size, true, 0);
                output::json_line(Audited {
                    verified,
                    events,
                    root,
                    checkpoints,
                    proven,
                    faults,
                    more,
                })?;
            } else {
                output::print(format!("{size} events, root {root}"));
                output::say(format!("{proven} of them under {checkpoints} signed checkpoints"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let told = |fault: &Fault| Told {
                event: Some(fault.at()).filter(|at| *at != u64::MAX),
                fault: with_causes(fault),
            };
            let faults: Vec<Told> = error.faults.iter().map(told).collect();
            let (proven, more) = (error.proven, error.more);
            let report = Report::from(VerifyError::Changed(error));
            if !json {
                for Told { fault, .. } in &faults {
                    output::say(format!("fault: {fault}"));
                }
                return Err(report);
            }
            let error = output::ErrorFields::of(&report);
            output::json_line(Refused { verified: false, proven, faults, more, error })?;
            Ok(ExitCode::from(report.category().exit_code()))
        }
    }
}

fn with_causes(fault: &Fault) -> String {
    let mut text = fault.to_string();
    let mut next = std::error::Error::source(fault);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// Reads all of a journal. An error is one that cannot be read on.
fn audit(
    reader: &Reader,
    keys: &NodeKeys,
    since: Option<SignedCheckpoint>,
) -> std::result::Result<std::result::Result<Sound, AuditError>, JournalError> {
    reader.stand_still()?;
    let checkpoints = reader.checkpoints()?;
    let origin = match reader.origin() {
        Ok(origin) => origin,
        // The first event is damaged: any checkpoint names the journal as well.
        Err(e) => checkpoints
            .iter()
            .find_map(|(_, text, signature)| SignedCheckpoint::from_parts(text, signature).ok())
            .map(|signed| signed.checkpoint().origin)
            .ok_or(e)?,
    };
    let size = reader.size()?.0;
    let frontier = reader.frontier()?;
    let root = Frontier::from_bytes(&frontier).map_or(Digest::of(b""), |frontier| frontier.root());
    let mut ledger = Ledger::new(origin, 0);
    let allowed = |event: &Event| {
        if event.seq > ledger.next_seq() {
            // What was between was sealed.
            ledger = Ledger::after_dropped(origin, event.seq);
        }
        ledger.evolve(event).map_err(|impossible| impossible.why)
    };
    let head = Head { size, root, frontier };
    let mut auditor = Auditor::new(origin, head, keys, Timestamp::now(), allowed);
    for (_, text, signature) in &checkpoints {
        auditor.stored_checkpoint(text, signature);
    }
    if let Some(since) = since {
        auditor.kept_checkpoint(since);
    }
    let bar = bar(size);
    let mut next = Some(0);
    while let Some(from) = next {
        let rows = reader.rows(from, ROWS)?;
        next = rows.last().and_then(|row| row.seq.checked_add(1));
        for row in &rows {
            auditor.entry(Entry { seq: row.seq, leaf: row.leaf.as_deref(), hash: row.hash });
        }
        bar.inc(rows.len() as u64);
    }
    bar.finish_and_clear();
    Ok(auditor.finish(reader.tiles()?))
}

fn bar(size: u64) -> ProgressBar {
    if !rustix::termios::isatty(io::stderr().as_fd()) {
        return ProgressBar::hidden();
    }
    let template = "events {bar:40} {pos}/{len} {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
