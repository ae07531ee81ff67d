//! The commands of a site. They need no node, no root, no network and no database: a directory of
//! texts goes in, a plan comes out. What is written is written by `init`, `lock` and `plan sign`,
//! and by options that name a file.

mod change;
mod check;
mod directory;
mod init;
mod lock;
mod people;
mod plan;
mod services;
mod show;
mod sign;
pub(crate) mod verify;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Diagnostic, Digest};
use vyr_node::Result;
use vyr_plan::render::Form;
use vyr_plan::{
    Applied, Diff, Document, Intent, Kind, Lock, Outcome, Plan, allocate, compile,
    diff as diff_plans, prove, run_contracts,
};

pub(crate) use change::{diff, history};
pub(crate) use check::check;
pub(crate) use directory::{Site, read_bounded};
pub(crate) use init::{init, schemas};
pub(crate) use lock::{lock, lock_first};
pub(crate) use people::{client_add, client_ls, client_revoke, client_rotate};
pub(crate) use plan::plan;
pub(crate) use show::{explain, graph};
pub(crate) use sign::{sign, sign_first};

use super::client::{ExportArgs, export};
use crate::cli::{ClientExportArgs, Format};
use crate::output;

/// A site that compiles to a plan of a kind: everything later commands ask about.
pub(crate) struct Compiled<P = Plan> {
    pub(crate) intent: Intent,
    pub(crate) lock: Lock,
    pub(crate) applied: Option<Applied<P>>,
    pub(crate) plan: P,
    pub(crate) digest: Digest,
    pub(crate) outcomes: Vec<Outcome>,
}

impl<P: Document> Compiled<P> {
    /// Says what is taken, and somebody should look at.
    fn warn(&self) {
        if P::KIND == Kind::Services {
            let warnings = self.intent.warnings();
            warnings.for_each(|fault| fault.to_string().lines().for_each(output::say));
        }
    }
}

/// Why a site gives no plan: every fault there is, the worst kind deciding about the exit code.
pub(crate) struct Refused {
    pub(crate) category: Category,
    pub(crate) faults: Vec<Diagnostic>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Refused {
    /// Files that cannot be read.
    pub(crate) fn of(faults: Vec<Diagnostic>) -> Self {
        Self { category: Category::Usage, faults, outcomes: Vec::new() }
    }
}

/// What the commands of a site do with a plan of either kind.
pub(crate) trait OfSite: Document {
    /// Compiles it. The outer error: files that cannot be read.
    fn compiled(site: &Site) -> Result<std::result::Result<Compiled<Self>, Refused>>;

    /// What changes from one to another; none: the empty plan.
    fn compare(before: Option<&Self>, after: Option<&Self>) -> Diff;

    /// How many it has of what, for people.
    fn size(&self) -> BTreeMap<&'static str, usize>;
}

impl OfSite for Plan {
    fn compiled(site: &Site) -> Result<std::result::Result<Compiled, Refused>> {
        compiled(site)
    }

    fn compare(before: Option<&Self>, after: Option<&Self>) -> Diff {
        diff_plans(before, after)
    }

    fn size(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([("machines", self.machines.len()), ("clients", self.clients.len())])
    }
}

/// Intent and lock, or what is wrong with the files. The outer error: files that cannot be read.
pub(crate) fn read(site: &Site) -> Result<std::result::Result<(Intent, Lock), Refused>> {
    let files = site.files()?;
    let mut faults = Vec::new();
    let lock = match files.lock.as_ref().map(Lock::parse) {
        None => Lock::default(),
        Some(Ok(lock)) => lock,
        Some(Err(bad)) => {
            faults.extend(bad);
            Lock::default()
        }
    };
    let intent = match files.read() {
        Ok(intent) if faults.is_empty() => return Ok(Ok((intent, lock))),
        Ok(_) => Vec::new(),
        Err(more) => more,
    };
    faults.extend(intent);
    Ok(Err(Refused { category: Category::Usage, faults, outcomes: Vec::new() }))
}

/// Compiles the network, proves, tests. The outer error: files that cannot be read.
pub(crate) fn compiled(site: &Site) -> Result<std::result::Result<Compiled, Refused>> {
    compiled_as(site, false)
}

/// The same; `as_is`: which plan comes next is no matter, because nobody will sign or apply this one.
/// After a confirmation the lock still names the plan that was confirmed.
fn compiled_as(site: &Site, as_is: bool) -> Result<std::result::Result<Compiled, Refused>> {
    let applied = site.applied()?;
    let refuse = |category, faults| Ok(Err(Refused { category, faults, outcomes: Vec::new() }));
    let (intent, old) = match read(site)? {
        Ok(read) => read,
        Err(refused) => return Ok(Err(refused)),
    };
    // A site that has no lock yet is told that first.
    let as_is = as_is && site.path("vyr.lock").is_file();
    let old = if as_is { old.over(applied.as_ref()) } else { old };
    let stale = old.stale(&intent, applied.as_ref());
    // What a stale lock hides is found as well: with the lock that would be written.
    let lock = match stale.is_empty() {
        true => old,
        false => match allocate(&intent, &old, applied.as_ref()) {
            Ok(lock) => lock,
            Err(more) => return refuse(Category::Usage, [stale, more].concat()),
        },
    };
    let plan = match compile(&intent, &lock) {
        Ok(plan) => plan,
        Err(more) => return refuse(Category::Usage, [stale, more].concat()),
    };
    let parent = applied.as_ref().map(|applied| &applied.plan);
    let violations = prove(&plan, parent);
    if !violations.is_empty() {
        let found = violations.iter().map(|violation| violation.diagnostic(&intent));
        return refuse(Category::Usage, stale.into_iter().chain(found).collect());
    }
    let outcomes = run_contracts(&intent, &plan, parent);
    if !stale.is_empty() {
        return Ok(Err(Refused { category: Category::Conflict, faults: stale, outcomes }));
    }
    if outcomes.iter().any(|outcome| outcome.broken.is_some()) {
        let broken = outcomes.iter().filter_map(|outcome| broken(&intent, outcome)).collect();
        return Ok(Err(Refused { category: Category::Failure, faults: broken, outcomes }));
    }
    let digest = plan.digest()?;
    Ok(Ok(Compiled { intent, lock, applied, plan, digest, outcomes }))
}

/// Compiles, and leaves the writing to `cmd::client`.
pub(crate) fn client_export(args: ClientExportArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let compiled = match compiled_as(&site, true)? {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
    };
    let form = match args.format {
        Format::WgQuick => Form::WgQuick,
        Format::Networkmanager => Form::NetworkManager,
        Format::Networkd => Form::Networkd,
        Format::Qr => Form::QrTerminal,
        Format::Png => Form::QrPng,
    };
    let ClientExportArgs { id, key, server, out, force, .. } = args;
    // What says nothing new is the plan in force, whatever its number would be.
    let plan = match compiled.applied {
        Some(Applied { plan, .. }) if over(&compiled.plan, &plan) == plan => plan,
        _ => compiled.plan,
    };
    export(&plan, &ExportArgs { id, key, server, form, out, force }, json)
}

/// A plan with the number and the parent of another one.
fn over(plan: &Plan, other: &Plan) -> Plan {
    Plan { epoch: other.epoch, parent: other.parent, ..plan.clone() }
}

/// A contract that does not hold, as a fault of its file.
fn broken(intent: &Intent, outcome: &Outcome) -> Option<Diagnostic> {
    let broken = outcome.broken.as_ref()?;
    let (source, contract) = intent.contracts.iter().find_map(|at| {
        let source = intent.files.contracts.get(at.file)?;
        (at.contract.name.as_str() == outcome.name).then_some((source, &at.contract))
    })?;
    let what = format!("contract {} is broken: {} was expected", outcome.name, outcome.expect);
    let why = match &broken.packet {
        Some(packet) => format!("{}\n  packet: {packet}", broken.why),
        None => broken.why.clone(),
    };
    let fault = Diagnostic::error("contract", what).at(source.place(contract.name.span())).why(why);
    Some(fault.hint("change the intent, or the contract if the team agrees"))
}

#[derive(Serialize)]
struct RefusedBody<'a> {
    error: RefusedError,
    diagnostics: &'a [Diagnostic],
    contracts: &'a [Outcome],
}

#[derive(Serialize)]
struct RefusedError {
    category: Category,
    message: String,
    hint: Option<String>,
    retryable: bool,
}

/// Says every fault, and gives the exit code.
pub(crate) fn refuse(refused: &Refused, json: bool) -> Result<ExitCode> {
    let Refused { category, faults, outcomes } = refused;
    let count = faults.iter().filter(|fault| fault.is_error()).count();
    let noun = match category {
        Category::Failure => "contract",
        _ => "fault",
    };
    let message = format!("no plan: {count} {noun}{}", if count == 1 { "" } else { "s" });
    let hint = (*category == Category::Conflict).then(|| "vyr lock".to_owned());
    if json {
        let error = RefusedError { category: *category, message, hint, retryable: false };
        output::json_line(RefusedBody { error, diagnostics: faults, contracts: outcomes })?;
    } else {
        for fault in faults {
            // A fault has lines of its own; what it quotes was made visible by its place.
            fault.to_string().lines().for_each(output::say);
        }
        output::say(format!("error: {message}"));
        if let Some(hint) = hint {
            output::say(format!("  hint: {hint}"));
        }
    }
    Ok(ExitCode::from(category.exit_code()))
}
