//! `vyr check`: everything that is known to be wrong, in one go.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Diagnostic, Digest, Place};
use vyr_node::Result;
use vyr_plan::services::{SERVICES_INVARIANTS, ServicesPlan};
use vyr_plan::{INVARIANTS, Outcome, SinglePoint, single_points};

use super::services::compiled_if_any;
use super::{Compiled, Refused, Site, compiled, refuse};
use crate::cli::CheckArgs;
use crate::output::{self, Out};

#[derive(Serialize)]
struct Checked<'a> {
    kind: &'static str,
    plan_digest: Digest,
    machines: usize,
    clients: usize,
    invariants: usize,
    contracts: &'a [Outcome],
    #[serde(skip_serializing_if = "Option::is_none")]
    single_points: Option<Vec<Single>>,
    /// Absent: the site has no services.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<CheckedServices<'a>>,
}

#[derive(Serialize)]
struct CheckedServices<'a> {
    plan_digest: Digest,
    services: usize,
    slots: usize,
    nodes: usize,
    invariants: usize,
    warnings: Vec<&'a Diagnostic>,
}

impl<'a> CheckedServices<'a> {
    fn of(compiled: &'a Compiled<ServicesPlan>) -> Self {
        let plan = &compiled.plan;
        Self {
            plan_digest: compiled.digest,
            services: plan.services.len(),
            slots: plan.placements.len(),
            nodes: plan.nodes.len(),
            invariants: SERVICES_INVARIANTS.len(),
            warnings: compiled.intent.warnings().collect(),
        }
    }
}

/// Both plans of a site; the second one if it has services.
type Both = (Compiled, Option<Compiled<ServicesPlan>>);

/// Compiles both, or says what is wrong with either, each thing once.
fn both(site: &Site) -> Result<std::result::Result<Both, Refused>> {
    Ok(match (compiled(site)?, compiled_if_any(site)?) {
        (Ok(network), Ok(services)) => Ok((network, services)),
        (Ok(network), Err(refused)) => Err(Refused { outcomes: network.outcomes, ..refused }),
        (Err(refused), Ok(_)) => Err(refused),
        (Err(mut network), Err(services)) => {
            let said = |fault: &Diagnostic| !network.faults.contains(fault);
            let more: Vec<Diagnostic> = services.faults.into_iter().filter(said).collect();
            network.faults.extend(more);
            // What a person must write decides over what a command writes.
            let usage = [network.category, services.category].contains(&Category::Usage);
            if usage {
                network.category = Category::Usage;
            } else if services.category == Category::Conflict {
                network.category = Category::Conflict;
            }
            Err(network)
        }
    })
}

#[derive(Serialize)]
struct Single {
    #[serde(flatten)]
    place: Option<Place>,
    #[serde(flatten)]
    point: SinglePoint,
}

pub(crate) fn check(args: &CheckArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let result = both(&site)?;
    if let Some(file) = &args.junit {
        let text = junit(&result);
        let file = (file.as_os_str() != "-").then_some(file.as_path());
        let mut out = Out::create(file)?;
        out.write(text.as_bytes())?;
        out.finish()?;
    }
    let (compiled, services) = match &result {
        Ok((network, services)) => (network, services.as_ref()),
        Err(refused) => return refuse(refused, json),
    };
    let single = args.spof.then(|| {
        let points = single_points(&compiled.plan).into_iter();
        let at =
            |point: SinglePoint| Single { place: compiled.intent.place(&point.subject), point };
        points.map(at).collect::<Vec<_>>()
    });
    let (machines, clients) = (compiled.plan.machines.len(), compiled.plan.clients.len());
    if json {
        output::json_line(Checked {
            kind: "network",
            plan_digest: compiled.digest,
            machines,
            clients,
            invariants: INVARIANTS.len(),
            contracts: &compiled.outcomes,
            single_points: single,
            services: services.map(CheckedServices::of),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for Single { place, point } in single.iter().flatten() {
        let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        output::print(format!("{place}{}", point.what));
        output::print(format!("  lost:  {}", point.lost));
        output::print(format!("  twice: {}", point.hint));
    }
    output::say(format!(
        "{machines} machines, {clients} clients: {} invariants proved, {} contracts hold",
        INVARIANTS.len(),
        compiled.outcomes.len(),
    ));
    if let Some(services) = services {
        services.warn();
        let CheckedServices { services, slots, nodes, invariants, .. } =
            CheckedServices::of(services);
        output::say(format!(
            "{services} services, {slots} slots on {nodes} nodes: {invariants} invariants proved"
        ));
    }
    if compiled.intent.signers.is_empty() {
        output::say("nobody can approve a plan yet: add a key to operators.allowed_signers");
    }
    Ok(ExitCode::SUCCESS)
}

/// For machines that read test results: a case for each invariant and each contract.
fn junit(result: &std::result::Result<Both, Refused>) -> String {
    let (faults, outcomes, category) = match result {
        Ok((network, _)) => (&[][..], &network.outcomes, None),
        Err(refused) => (&refused.faults[..], &refused.outcomes, Some(refused.category)),
    };
    let has_services = matches!(result, Ok((_, Some(_))));
    let mut cases = String::new();
    let mut failures = 0;
    let mut case = |class: &str, name: &str, fault: Option<String>| {
        let _ = write!(cases, "    <testcase classname=\"{class}\" name=\"{}\"", escaped(name));
        match fault {
            None => cases.push_str("/>\n"),
            Some(text) => {
                failures += 1;
                let first = escaped(text.lines().next().unwrap_or_default());
                let _ = writeln!(
                    cases,
                    "><failure message=\"{first}\">{}</failure></testcase>",
                    escaped(&text)
                );
            }
        }
    };
    let network = INVARIANTS.iter().map(|of| (of.id, of.title));
    let services = SERVICES_INVARIANTS.iter().map(|of| (of.id, of.title));
    // Of a site that gives no plan those of services are told that do not hold.
    let services =
        services.filter(|(id, _)| has_services || faults.iter().any(|fault| fault.id == *id));
    let invariants: Vec<(&str, &str)> = network.chain(services).collect();
    let known = |id: &str| invariants.iter().any(|(known, _)| *known == id);
    // A compilation that did not get as far proved nothing.
    let proved = category.is_none_or(|category| category != Category::Usage)
        || faults.iter().any(|fault| known(fault.id));
    for (id, title) in invariants.iter().filter(|_| proved) {
        let of: Vec<String> =
            faults.iter().filter(|fault| fault.id == *id).map(ToString::to_string).collect();
        let name = format!("{id} {title}");
        case("invariants", &name, (!of.is_empty()).then(|| of.join("\n")));
    }
    for outcome in outcomes {
        let fault = outcome.broken.as_ref().map(|broken| match &broken.packet {
            Some(packet) => format!("{}: {packet}", broken.why),
            None => broken.why.clone(),
        });
        case("contracts", &outcome.name, fault);
    }
    for fault in faults.iter().filter(|fault| !known(fault.id) && fault.id != "contract") {
        case("site", fault.id, Some(fault.to_string()));
    }
    let tests = cases.matches("<testcase").count();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"vyr check\" \
         tests=\"{tests}\" failures=\"{failures}\">\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

fn escaped(text: &str) -> String {
    let clean = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
