//! `vyr apply|confirm|rollback|drift` and `vyr server key`: this host's network, and others'.
//!
//! Where a host is makes no difference to what is asked and told of it: `Host` is the one way.
//! Several at once are `fleet`, which hosts are meant `nodes`, who is left to confirm `asked`.

mod asked;
mod fleet;
mod here;
mod journal;
mod nodes;
mod rotate;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::{Category, Digest};
use vyr_net::words::{
    Answer, Applied, Apply, BackendWish, Bytes, Outcome, Request, SignedText, Standing, WireGuardIn,
};
use vyr_node::network::{
    BackendChoice, Ended, Host, Network, RemoteError, rebuild_carried, refusal, serve_words,
};
use vyr_node::{DataDir, Result};

use self::asked::Asked;
use self::fleet::{Done, Order, close, each, tell};
use self::here::here;
use self::journal::receipt;
pub(super) use self::journal::recorded;
pub(super) use self::nodes::node;
use self::nodes::{Node, NodesError, Target};
use self::rotate::{list, rotate};
use super::link::Place;
use super::site::Site;
use crate::cli::{
    ApplyArgs, BackendName, ConfirmArgs, DriftArgs, HostArgs, NetworkCommand, NodeArgs,
    RollbackArgs, ServerCommand,
};
use crate::output::{self, Out};

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

pub(super) fn backend(host: &HostArgs) -> BackendWish {
    let kind = host.backend.map(|name| match name {
        BackendName::Kernel => WireGuardIn::Kernel,
        BackendName::Userspace => WireGuardIn::Userspace,
    });
    BackendWish { kind, sockets: host.sockets.clone() }
}

/// The name of this host in its plan, and what reads it, as far as they were said.
pub(super) fn who(network: &Network, host: &HostArgs) -> Result<(String, BackendChoice)> {
    let said = host.backend.is_some() || host.sockets.is_some();
    Ok(network.who(host.machine.clone(), said.then(|| backend(host).into()))?)
}

/// Who is at the keyboard, for whoever comes second.
pub(super) fn by() -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let fits = |user: &String| (1..=64).contains(&user.len()) && !user.contains(char::is_control);
    user.filter(fits).unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

pub(crate) fn apply(
    place: impl Fn() -> Result<Place>,
    args: &ApplyArgs,
    json: bool,
) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let plan = site.plan(&args.plan)?.to_bytes()?;
    let approvals = site.approvals(&args.plan)?.into_iter().map(|of| SignedText {
        name: of.name,
        text: Bytes(of.text),
        signature: Bytes(of.signature),
    });
    let request = Apply {
        plan: Bytes(plan),
        approvals: approvals.collect(),
        machine: args.host.machine.clone(),
        by: by(),
        within_ms: (!args.no_confirm).then_some(args.confirm_within),
        probes: args.probes.clone(),
        dry_run: args.dry_run,
        backend: backend(&args.host),
        site_commit: site.commit(),
    };
    let target = Target::choose(&args.node, args.site.site.as_deref(), Some(&args.plan), place)?;
    match target {
        Target::Here(host) => {
            canary_is_among(args, &[])?;
            let applied = host.apply(request)?;
            if applied.outcome == Outcome::Confirmed {
                Asked::confirmed(&site, &applied.plan, [])?;
            }
            told(applied, "", json)
        }
        Target::One(site, node) => {
            canary_is_among(args, std::slice::from_ref(&node))?;
            if !args.dry_run {
                Asked::begin(&site, &args.plan, [node.name.as_str()])?;
            }
            let machine = request.machine.clone().or(node.machine);
            let applied = node.host.apply(Apply { machine, ..request })?;
            if matches!(applied.outcome, Outcome::Confirmed | Outcome::Nothing) {
                settle(&site, &applied.plan, &[&node.name], json)?;
            }
            told(applied, &format!(" --node {}", node.name), json)
        }
        Target::Many(site, nodes) => apply_many(&site, nodes, args, &request, json),
    }
}

fn canary_is_among(args: &ApplyArgs, nodes: &[Node]) -> Result<usize> {
    let Some(canary) = &args.canary else { return Ok(0) };
    let found = nodes.iter().position(|node| node.name == *canary);
    Ok(found.ok_or_else(|| NodesError::Canary(canary.clone()))?)
}

fn told(applied: Applied, node: &str, json: bool) -> Result<ExitCode> {
    if json {
        output::json_line(AppliedBody {
            kind: "network",
            plan_digest: applied.plan,
            base: applied.base,
            machine: applied.machine,
            approvers: applied.approvers,
            steps: applied.steps,
            uncut: applied.uncut.clone(),
            before: applied.before,
            after: applied.after,
            outcome: applied.outcome.word(),
            deadline: applied.deadline,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for step in &applied.steps {
        output::print(output::visible(step));
    }
    if let Some(why) = &applied.uncut {
        output::say(format!(
            "warning: connections that are not allowed any more are not cut: {why}"
        ));
    }
    if applied.base.is_none() && applied.outcome != Outcome::Nothing {
        let names = applied.approvers.join(", ");
        output::say(format!("the first plan of this host: {names} and its other operators decide"));
    }
    match applied.outcome {
        Outcome::Nothing => output::say("nothing to do: the host is as the plan says"),
        Outcome::Shown => output::say(format!("{} steps; none was taken", applied.steps.len())),
        Outcome::Waits => {
            let deadline = applied.deadline.map(|at| at.to_string()).unwrap_or_default();
            output::say(format!("taken back at {deadline} unless you run, over a new connection:"));
            output::say(format!("  vyr confirm {}{node}", applied.plan));
            output::say(format!("undo: vyr rollback{node}"));
        }
        Outcome::Confirmed => output::say(format!("confirmed {}", applied.plan)),
    }
    Ok(ExitCode::SUCCESS)
}

fn apply_many(
    site: &Site,
    mut nodes: Vec<Node>,
    args: &ApplyArgs,
    request: &Apply,
    json: bool,
) -> Result<ExitCode> {
    if args.host.machine.is_some() {
        return Err(NodesError::Machine(nodes.len()).into());
    }
    let canary = canary_is_among(args, &nodes)?;
    nodes[..=canary].rotate_right(1);
    if !args.dry_run {
        Asked::begin(site, &args.plan, nodes.iter().map(|node| node.name.as_str()))?;
    }
    let order =
        Order { first_alone: true, at_a_time: usize::from(args.parallel), stop: !args.dry_run };
    let mut all_told = Ok(());
    let answers = each(
        order,
        &nodes,
        |node| apply_and_look(node, request),
        |node, answer| {
            if all_told.is_ok() {
                all_told = tell(node, answer, json);
            }
        },
    );
    all_told?;
    let settled = |done: &Done| done.word != "shown" && done.deadline.is_none();
    let confirmed: Vec<&str> = nodes
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| matches!(answer, Some(Ok(done)) if settled(done)))
        .map(|(node, _)| node.name.as_str())
        .collect();
    let advanced = match args.dry_run {
        true => false,
        false => settle(site, &args.plan, &confirmed, json)?,
    };
    let waits = |answer: &Option<Result<Done>>| match answer {
        Some(Ok(done)) => done.deadline,
        _ => None,
    };
    let first = answers.iter().filter_map(waits).min();
    let code = close(&nodes, &answers, advanced, json)?;
    if let (Some(deadline), false) = (first, json) {
        let whom = whom(&args.node);
        output::say(format!("taken back from {deadline} on unless you run:"));
        output::say(format!("  vyr confirm {}{whom}", args.plan));
        output::say(format!("undo: vyr rollback{whom}"));
    }
    Ok(code)
}

/// The options that name the same hosts.
fn whom(args: &NodeArgs) -> String {
    if args.all {
        return " --all".into();
    }
    args.nodes.iter().map(|name| format!(" --node {name}")).collect()
}

/// Changes a host and, over a new connection, looks whether it is what it should be.
fn apply_and_look(node: &Node, request: &Apply) -> Result<Done> {
    let machine = request.machine.clone().or_else(|| node.machine.clone());
    let applied = node.host.apply(Apply { machine: machine.clone(), ..request.clone() })?;
    let word = match applied.outcome {
        Outcome::Nothing => "nothing",
        Outcome::Shown => "shown",
        Outcome::Waits | Outcome::Confirmed => "applied",
    };
    if word == "applied" {
        let looked = node.host.standing(machine, request.backend.clone());
        let looked = looked.and_then(|standing| match standing.differences.first() {
            None if standing.plan == applied.plan => Ok(()),
            first => Err(NodesError::ReadBack(first.cloned().unwrap_or_default()).into()),
        });
        looked.map_err(|report| {
            let mut said = refusal(&report);
            said.message = format!("it was applied, but then: {}", said.message);
            RemoteError::from(said)
        })?;
    }
    let Applied { plan, steps, deadline, .. } = applied;
    Ok(Done { word, plan: Some(plan), steps, deadline, is_no: false })
}

/// Takes note of who is confirmed; whether the site's pointer names the plan now.
fn settle(site: &Site, plan: &Digest, names: &[&str], json: bool) -> Result<bool> {
    let advanced = Asked::confirmed(site, plan, names.iter().copied())?;
    if let (false, false, Some(asked)) = (advanced, json, Asked::read(site)?) {
        let left: Vec<&str> = asked.left.iter().map(String::as_str).collect();
        output::say(format!("not confirmed yet: {}", left.join(", ")));
        output::say("plans/applied.network names the plan when all of them are");
    }
    Ok(advanced)
}

fn ended(change: &Ended, outcome: &'static str, json: bool) -> Result<ExitCode> {
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

pub(crate) fn confirm(
    place: impl Fn() -> Result<Place>,
    args: &ConfirmArgs,
    json: bool,
) -> Result<ExitCode> {
    let named = args.site.site.as_deref();
    match Target::choose(&args.node, named, args.plan.as_ref(), place)? {
        Target::Here(host) => {
            let change = host.confirm(args.plan)?;
            match Site::find(named) {
                Ok(site) => drop(Asked::confirmed(&site, &change.plan, [])?),
                // Only who names a site wants it to be one.
                Err(e) if named.is_some() => return Err(e),
                Err(_) => {}
            }
            ended(&change, "confirmed", json)
        }
        Target::One(site, node) => {
            let change = node.host.confirm(args.plan)?;
            // What nobody named here is not made the site's by whoever answers.
            let known = Asked::read(&site)?.is_some_and(|asked| asked.plan == change.plan);
            if args.plan.is_some() || known {
                settle(&site, &change.plan, &[&node.name], json)?;
            } else if !json {
                output::say("the site did not ask for this plan, and does not call it applied");
            }
            ended(&change, "confirmed", json)
        }
        Target::Many(site, nodes) => confirm_many(&site, &nodes, args.plan, json),
    }
}

fn confirm_many(site: &Site, nodes: &[Node], plan: Option<Digest>, json: bool) -> Result<ExitCode> {
    let asked = Asked::read(site)?.filter(|asked| plan.is_none_or(|plan| plan == asked.plan));
    let plan = plan.or(asked.as_ref().map(|asked| asked.plan));
    let is_applied = site.applied()?.map(|applied| applied.digest) == plan;
    if let (Some(plan), None, false) = (&plan, &asked, is_applied) {
        // Somebody else applied it; who cannot be confirmed now is left all the same.
        Asked::begin(site, plan, nodes.iter().map(|node| node.name.as_str()))?;
    }
    let ask = |node: &Node| {
        // Who was as the plan says when it was asked has nothing to confirm.
        if asked.as_ref().is_some_and(|asked| !asked.left.contains(&node.name)) {
            return Ok(Done { word: "nothing", plan, ..Done::default() });
        }
        let change = node.host.confirm(plan)?;
        Ok(Done { word: "confirmed", plan: Some(change.plan), ..Done::default() })
    };
    let (mut all_told, mut noted) = (Ok(()), Ok(false));
    let answers = each(Order::EACH, nodes, ask, |node, answer| {
        // At once: whoever ends this command does not make it forget who is confirmed.
        if let (Some(plan), Ok(_), Ok(_)) = (&plan, answer, &noted) {
            noted = Asked::confirmed(site, plan, [node.name.as_str()]);
        }
        if all_told.is_ok() {
            all_told = tell(node, answer, json);
        }
    });
    all_told?;
    let advanced = match plan {
        Some(plan) => noted? || settle(site, &plan, &[], json)?,
        // What nobody named here is not made the site's by whoever answers.
        None => false,
    };
    close(nodes, &answers, advanced, json)
}

pub(crate) fn rollback(
    place: impl Fn() -> Result<Place>,
    args: &RollbackArgs,
    json: bool,
) -> Result<ExitCode> {
    match Target::choose(&args.node, args.site.site.as_deref(), args.plan.as_ref(), place)? {
        Target::Here(host) | Target::One(_, Node { host, .. }) => {
            ended(&host.rollback(args.plan)?, "taken back", json)
        }
        Target::Many(_, nodes) => {
            let ask = |node: &Node| {
                let change = node.host.rollback(args.plan)?;
                Ok(Done { word: "taken back", plan: Some(change.plan), ..Done::default() })
            };
            of_each(&nodes, ask, json)
        }
    }
}

/// Asks every one and tells of it.
fn of_each(
    nodes: &[Node],
    ask: impl Fn(&Node) -> Result<Done> + Sync,
    json: bool,
) -> Result<ExitCode> {
    let mut all_told = Ok(());
    let answers = each(Order::EACH, nodes, ask, |node, answer| {
        if all_told.is_ok() {
            all_told = tell(node, answer, json);
        }
    });
    all_told?;
    close(nodes, &answers, false, json)
}

pub(crate) fn drift(
    place: impl Fn() -> Result<Place>,
    args: &DriftArgs,
    json: bool,
) -> Result<ExitCode> {
    let wish = backend(&args.host);
    let machine = args.host.machine.clone();
    match Target::choose(&args.node, args.site.site.as_deref(), None, place)? {
        Target::Here(host) => stands(host.standing(machine, wish)?, json),
        Target::One(_, node) => stands(node.host.standing(machine.or(node.machine), wish)?, json),
        Target::Many(_, nodes) => {
            if machine.is_some() {
                return Err(NodesError::Machine(nodes.len()).into());
            }
            let ask = |node: &Node| {
                let standing = node.host.standing(node.machine.clone(), wish.clone())?;
                let is_no = !standing.differences.is_empty();
                let word = if is_no { "differs" } else { "as the plan says" };
                let Standing { plan, waits: deadline, differences: steps, .. } = standing;
                Ok(Done { word, plan: Some(plan), steps, deadline, is_no })
            };
            of_each(&nodes, ask, json)
        }
    }
}

fn stands(standing: Standing, json: bool) -> Result<ExitCode> {
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
            output::print(output::visible(difference));
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

#[derive(Serialize)]
struct StartedBody {
    kind: &'static str,
    plan_digest: Digest,
    steps: Vec<String>,
    before: Digest,
    after: Digest,
    /// `nothing` or `confirmed`.
    outcome: &'static str,
}

pub(crate) fn run(
    place: impl Fn() -> Result<Place>,
    command: NetworkCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        NetworkCommand::Start(host) => start(&place()?.open()?, &host, json),
        NetworkCommand::Receipt { change, output } => {
            let file = receipt(&place()?, change.as_deref())?;
            let mut out = Out::create(output.as_deref())?;
            out.write(&file)?;
            out.finish()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn start(data: &DataDir, host: &HostArgs, json: bool) -> Result<ExitCode> {
    // As it was applied, unless somebody knows better now.
    let named = host.backend.is_some() || host.sockets.is_some();
    let choice = named.then(|| backend(host).into());
    let network = Network::open(data.path())?;
    let started = network.start(host.machine.as_deref(), choice, &by())?;
    let nothing = started.outcome == vyr_node::network::Outcome::Nothing;
    if json {
        output::json_line(StartedBody {
            kind: "network",
            plan_digest: started.plan,
            steps: started.steps,
            before: started.before,
            after: started.after,
            outcome: if nothing { "nothing" } else { "confirmed" },
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for step in &started.steps {
        output::print(step);
    }
    output::say(match nothing {
        true => format!("nothing to do: the host is as {} says", started.plan),
        false => format!("started {}", started.plan),
    });
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn server(
    place: impl Fn() -> Result<Place>,
    command: ServerCommand,
    json: bool,
) -> Result<ExitCode> {
    let (link, next, named, site, remote) = match command {
        ServerCommand::Rotate(args) => return rotate(&place, &args, json),
        ServerCommand::Ls(args) => return list(&place, &args, json),
        ServerCommand::Key { link, next, node, site, remote } => (link, next, node, site, remote),
    };
    let host: Host = match named {
        Some(named) => node(&Site::find(site.site.as_deref())?, &named, None, &remote)?.host,
        None => here(&place()?)?,
    };
    let key = host.link_key(link.clone(), next)?;
    if json {
        let (public_key, new) = (key.public_key.to_string(), key.new);
        output::json_line(KeyBody { link, public_key, new })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(key.public_key.to_string());
    if key.new {
        output::say(format!("the private key stays in {}", key.directory.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The other end of `--node`: answers on stdin and stdout, and ends when they do.
pub(crate) fn agent(data_dir: Option<PathBuf>) -> Result<ExitCode> {
    let answer = |request: Request| {
        let place = Place::choose(data_dir.clone())?;
        let answer = || match request {
            Request::Rebuild(asked) => {
                let made = rebuild_carried(&place.open()?, *asked)?;
                Ok(Answer::Rebuilt(Box::new(made)))
            }
            other => here(&place)?.ask(other),
        };
        recorded(data_dir.clone(), answer())
    };
    // Nobody would hear how a change ended: the timer hears that this process does, and takes it back.
    let gone = || std::process::exit(i32::from(Category::Transient.exit_code()));
    serve_words(io::stdin(), io::stdout(), answer, gone)?;
    Ok(ExitCode::SUCCESS)
}
