//! `vyr apply|confirm|rollback|drift` and `vyr server key`: this host's network.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::Digest;
use vyr_node::network::{ApplyRequest, BackendChoice, BackendKind, Network, Outcome, Pending};
use vyr_node::{DataDir, Result};

use super::site::Site;
use crate::cli::{
    ApplyArgs, BackendName, ConfirmArgs, DriftArgs, HostArgs, RollbackArgs, ServerCommand,
};
use crate::output;

#[derive(Serialize)]
struct AppliedBody {
    kind: &'static str,
    plan_digest: Digest,
    base: Option<Digest>,
    machine: String,
    approvers: Vec<String>,
    steps: Vec<String>,
    /// Why connections of keys that are gone are not cut, if this host cannot.
    uncut: Option<String>,
    before: Digest,
    after: Digest,
    /// `nothing`, `shown`, `waits` or `confirmed`.
    outcome: &'static str,
    deadline: Option<Timestamp>,
}

#[derive(Serialize)]
struct EndedBody {
    kind: &'static str,
    plan_digest: Digest,
    base: Option<Digest>,
    outcome: &'static str,
}

#[derive(Serialize)]
struct DriftBody {
    kind: &'static str,
    plan_digest: Digest,
    waits_until: Option<Timestamp>,
    wanted: Digest,
    found: Digest,
    differences: Vec<String>,
}

#[derive(Serialize)]
struct KeyBody {
    link: String,
    public_key: String,
    new: bool,
}

pub(super) fn backend(host: &HostArgs) -> BackendChoice {
    let kind = host.backend.map(|name| match name {
        BackendName::Kernel => BackendKind::Kernel,
        BackendName::Userspace => BackendKind::Userspace,
    });
    BackendChoice::choose(kind, host.sockets.clone())
}

pub(super) fn machine(host: &HostArgs) -> String {
    let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    host.machine.clone().unwrap_or_else(own)
}

/// Who is at the keyboard, for whoever comes second.
fn by() -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = user.filter(|user| !user.is_empty() && user.chars().all(|c| !c.is_control()));
    user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

pub(crate) fn apply(data: &DataDir, args: &ApplyArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let plan = site.plan(&args.plan)?.to_bytes()?;
    let signed = site.approvals(&args.plan)?;
    let machine = machine(&args.host);
    let within = Duration::from_millis(args.confirm_within);
    let applied = Network::open(data.path())?.apply(&ApplyRequest {
        plan: &plan,
        signed: &signed,
        machine: &machine,
        by: &by(),
        within: (!args.no_confirm).then_some(within),
        probes: &args.probes,
        dry_run: args.dry_run,
        backend: backend(&args.host),
    })?;
    if applied.outcome == Outcome::Confirmed {
        advance(&site, &applied.plan)?;
    }
    let (outcome, deadline) = match applied.outcome {
        Outcome::Nothing => ("nothing", None),
        Outcome::Shown => ("shown", None),
        Outcome::Waits(deadline) => ("waits", Some(deadline)),
        Outcome::Confirmed => ("confirmed", None),
    };
    if json {
        output::json_line(AppliedBody {
            kind: "network",
            plan_digest: applied.plan,
            base: applied.base,
            machine,
            approvers: applied.approvers,
            steps: applied.steps,
            uncut: applied.uncut,
            before: applied.before,
            after: applied.after,
            outcome,
            deadline,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for step in &applied.steps {
        output::print(step);
    }
    if let Some(why) = &applied.uncut {
        output::say(format!("warning: open connections of keys that are gone are not cut: {why}"));
    }
    if applied.base.is_none() && applied.outcome != Outcome::Nothing {
        let names = applied.approvers.join(", ");
        output::say(format!("the first plan of this host: {names} and its other operators decide"));
    }
    match applied.outcome {
        Outcome::Nothing => output::say("nothing to do: the host is as the plan says"),
        Outcome::Shown => output::say(format!("{} steps; none was taken", applied.steps.len())),
        Outcome::Waits(deadline) => {
            output::say(format!("taken back at {deadline} unless you run, over a new connection:"));
            output::say(format!("  vyr confirm {}", applied.plan));
            output::say("undo: vyr rollback");
        }
        Outcome::Confirmed => output::say(format!("confirmed {}", applied.plan)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Names the plan as the one that is applied, if it is one of the site's.
fn advance(site: &Site, plan: &Digest) -> Result<()> {
    if site.path(&format!("plans/{}.json", plan.hex())).is_file() {
        site.write("plans/applied.network", format!("{plan}\n").as_bytes())?;
    }
    Ok(())
}

fn ended(change: &Pending, outcome: &'static str, json: bool) -> Result<ExitCode> {
    if json {
        output::json_line(EndedBody {
            kind: "network",
            plan_digest: change.plan,
            base: change.base,
            outcome,
        })?;
    } else {
        output::print(change.plan.to_string());
        output::say(outcome);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn confirm(data: &DataDir, args: &ConfirmArgs, json: bool) -> Result<ExitCode> {
    let change = Network::open(data.path())?.confirm(args.plan.as_ref())?;
    match Site::find(args.site.site.as_deref()) {
        Ok(site) => advance(&site, &change.plan)?,
        // Only who names a site wants it to be one.
        Err(e) if args.site.site.is_some() => return Err(e),
        Err(_) => {}
    }
    ended(&change, "confirmed", json)
}

pub(crate) fn rollback(data: &DataDir, args: &RollbackArgs, json: bool) -> Result<ExitCode> {
    let change = Network::open(data.path())?.rollback(args.plan.as_ref())?;
    ended(&change, "taken back", json)
}

pub(crate) fn drift(data: &DataDir, args: &DriftArgs, json: bool) -> Result<ExitCode> {
    let network = Network::open(data.path())?;
    let standing = network.standing(&machine(&args.host), &backend(&args.host))?;
    let differs = !standing.differences.is_empty();
    if json {
        output::json_line(DriftBody {
            kind: "network",
            plan_digest: standing.plan,
            waits_until: standing.waits,
            wanted: standing.wanted,
            found: standing.found,
            differences: standing.differences,
        })?;
    } else {
        for difference in &standing.differences {
            output::print(difference);
        }
        if let Some(deadline) = standing.waits {
            output::say(format!("{} waits for its confirmation until {deadline}", standing.plan));
        }
        match standing.differences.len() {
            0 => output::say(format!("as {} says", standing.plan)),
            1 => output::say("1 step away from the plan; nothing was changed"),
            n => output::say(format!("{n} steps away from the plan; nothing was changed")),
        }
    }
    Ok(if differs { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

pub(crate) fn server(data: &DataDir, command: ServerCommand, json: bool) -> Result<ExitCode> {
    let ServerCommand::Key { link, next } = command;
    let (key, new) = Network::open(data.path())?.keys().make(&link, next)?;
    if json {
        output::json_line(KeyBody { link, public_key: key.to_string(), new })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(key.to_string());
    if new {
        output::say(format!(
            "the private key stays in {}",
            data.path().join("network/keys").display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
