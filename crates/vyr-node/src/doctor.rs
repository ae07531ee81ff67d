//! What this machine and this data directory offer, what they do not, and why.

use std::path::Path;

use jiff::Timestamp;
use vyr_base::format_bytes;
use vyr_journal_sql::Reader;
use vyr_task::{Ceilings, Engine, EngineConfig, Limits, PagemapScan};

use crate::data_dir::DataDir;
use crate::process::{Role, confine, group_id};
use crate::report::Report;
use crate::sockets::Sockets;
use crate::trust::Trust;

/// How a facility stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There and used.
    Ok,
    /// Something else is used, or less; the detail says what and why.
    Limited,
    /// Not there.
    Unavailable,
}

/// One line of `vyr doctor`.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was looked at.
    pub facility: &'static str,
    /// How it stands.
    pub status: Status,
    /// What is there, or why not.
    pub detail: String,
}

/// Looks at everything, in a fixed order. `named`: somebody said which data directory.
pub fn examine(data: &DataDir, named: bool) -> Vec<Finding> {
    let finding = |facility, status, detail| Finding { facility, status, detail };
    let mut findings = vec![finding("data", Status::Ok, data.path().display().to_string())];
    findings.push(signers(data));
    findings.push(match data.store().map(|store| store.entries().map(|e| e.len())) {
        Ok(Ok(entries)) => finding("store", Status::Ok, format!("{entries} index entries")),
        Ok(Err(e)) => finding("store", Status::Unavailable, e.to_string()),
        Err(e) => finding("store", Status::Unavailable, e.to_string()),
    });
    findings.push(match Engine::new(EngineConfig::new(1)) {
        Ok(engine) => finding("engine", Status::Ok, reset_detail(&engine)),
        Err(e) => finding("engine", Status::Unavailable, e.to_string()),
    });
    findings.push(if confine::landlock_is_there() {
        finding("landlock", Status::Ok, "guests and compiler can open no path".into())
    } else {
        finding(
            "landlock",
            Status::Unavailable,
            "not in this kernel; seccomp alone keeps guests from opening paths".into(),
        )
    });
    findings.push(if rustix::process::getuid().is_root() {
        let uid = |role: Role| role.uid().map_or_else(String::new, |uid| uid.to_string());
        let (tasks, compile) = (uid(Role::Tasks), uid(Role::Compile));
        finding("uids", Status::Ok, format!("tasks run as {tasks}, the compiler as {compile}"))
    } else {
        let detail = "not root: guests run under your own uid, and could ask for metadata of paths";
        finding("uids", Status::Limited, detail.into())
    });
    findings.push(match crate::machines::examine() {
        Ok(detail) if rustix::process::getuid().is_root() => {
            finding("machines", Status::Ok, detail)
        }
        Ok(detail) => {
            let detail = format!("{detail}; not root: VMMs have your own uid and no cap on memory");
            finding("machines", Status::Limited, detail)
        }
        Err(why) => finding("machines", Status::Unavailable, why),
    });
    findings.push(journal(data));
    findings.extend(sockets(data, named));
    findings.push(finding(
        "limits",
        Status::Ok,
        format!("by default {}", limits(&Limits::default())),
    ));
    let Ceilings(most) = Ceilings::default();
    findings.push(finding("ceilings", Status::Ok, format!("at most {}", limits(&most))));
    findings
}

fn journal(data: &DataDir) -> Finding {
    let finding = |status, detail| Finding { facility: "journal", status, detail };
    let path = data.path().join("node/journal.db");
    if !path.exists() {
        return finding(Status::Ok, "none yet: the first submission makes it".into());
    }
    let read = Reader::open(&path).and_then(|reader| Ok((reader.origin()?, reader.size()?.0)));
    match read {
        Ok((origin, events)) => finding(Status::Ok, format!("{origin}, {events} events")),
        Err(e) => finding(Status::Unavailable, Report::from(e).to_string()),
    }
}

/// Whether a node runs, and who may reach it.
fn sockets(data: &DataDir, named: bool) -> Vec<Finding> {
    let finding = |facility, status, detail| Finding { facility, status, detail };
    let own = Sockets::of(data.path(), named);
    let node = match Sockets::find(data.path(), named) {
        Some(path) => finding("node", Status::Ok, format!("running, on {}", path.display())),
        None => {
            let detail = "not running (vyr up): commands work in process".into();
            finding("node", Status::Ok, detail)
        }
    };
    let group = match (own.directory == Path::new("/run/vyr"), group_id("vyr")) {
        (true, Some(_)) => finding("group", Status::Ok, "members of vyr reach control.sock".into()),
        (true, None) => {
            let detail = "there is no group vyr: control.sock is root's alone (groupadd vyr)";
            finding("group", Status::Limited, detail.into())
        }
        (false, _) => finding("group", Status::Ok, "sockets are this user's alone".into()),
    };
    vec![node, group]
}

fn reset_detail(engine: &Engine) -> String {
    let scan = engine.pagemap_scan();
    let reset = if scan == PagemapScan::Used { "fast" } else { "default" };
    format!("Wasmtime 48, {reset} slot reset; pagemap_scan {}", scan.explain())
}

fn limits(limits: &Limits) -> String {
    format!(
        "{} memory, {} s deadline, {} s processor time, {} output",
        format_bytes(limits.memory_bytes),
        limits.deadline_ms / 1000,
        limits.cpu_ms / 1000,
        format_bytes(limits.output_bytes_max),
    )
}

fn signers(data: &DataDir) -> Finding {
    let finding = |status, detail| Finding { facility: "signers", status, detail };
    match Trust::load(data) {
        Err(e) => finding(Status::Unavailable, format!("{e}: {}", e.causes().join(": "))),
        Ok(trust) if trust.is_dev() => finding(
            Status::Limited,
            "signer: dev (no signer list; the development key of this directory is trusted)".into(),
        ),
        Ok(trust) if trust.signers().entries().is_empty() => {
            finding(Status::Unavailable, "nobody may sign: vyr key trust KEY.pub".into())
        }
        Ok(trust) => {
            let now = Timestamp::now();
            let lines = trust.signers().entries();
            let expired =
                lines.iter().filter(|line| line.valid_before().is_some_and(|at| at <= now)).count();
            let revoked = trust.revoked();
            finding(
                if expired < lines.len() { Status::Ok } else { Status::Unavailable },
                format!("{} on the list, {expired} expired, {revoked} keys revoked", lines.len()),
            )
        }
    }
}
