//! `vyr check`: everything that is known to be wrong, in one go.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::{Category, Digest, Place};
use vyr_node::Result;
use vyr_plan::{INVARIANTS, Outcome, SinglePoint, single_points};

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
    let result = compiled(&site)?;
    if let Some(file) = &args.junit {
        let text = junit(&result);
        let file = (file.as_os_str() != "-").then_some(file.as_path());
        let mut out = Out::create(file)?;
        out.write(text.as_bytes())?;
        out.finish()?;
    }
    let compiled = match result {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
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
    if compiled.intent.signers.is_empty() {
        output::say("nobody can approve a plan yet: add a key to operators.allowed_signers");
    }
    Ok(ExitCode::SUCCESS)
}

/// For machines that read test results: a case for each invariant and each contract.
fn junit(result: &std::result::Result<Compiled, Refused>) -> String {
    let (faults, outcomes, category) = match result {
        Ok(compiled) => (&[][..], &compiled.outcomes, None),
        Err(refused) => (&refused.faults[..], &refused.outcomes, Some(refused.category)),
    };
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
    let known = |id: &str| INVARIANTS.iter().any(|invariant| invariant.id == id);
    // A compilation that did not get as far proved nothing.
    let proved = category.is_none_or(|category| category != Category::Usage)
        || faults.iter().any(|fault| known(fault.id));
    for invariant in INVARIANTS.iter().filter(|_| proved) {
        let of: Vec<String> = faults
            .iter()
            .filter(|fault| fault.id == invariant.id)
            .map(ToString::to_string)
            .collect();
        let name = format!("{} {}", invariant.id, invariant.title);
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
