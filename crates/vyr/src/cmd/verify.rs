//! `vyr verify`: receipts and journals, without a node and without a network.

mod proven;

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
    AuditError, Auditor, CHECKPOINT_BYTES_MAX, Entry, Event, Fault, Frontier, Head, Ledger,
    NodeKeys, RECEIPT_BYTES_MAX, Receipt, SignedCheckpoint, Sound,
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

fn receipt(file: &Path, keys: &NodeKeys, allow_dev: bool, json: bool) -> Result<ExitCode> {
    let receipt = Receipt::parse(&read(file, RECEIPT_BYTES_MAX)?)?;
    proven::show(receipt.verify(keys, allow_dev)?, json)?;
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
