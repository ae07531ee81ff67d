//! `vyr explain` and `vyr graph`.

use std::process::ExitCode;

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use vyr_base::{Category, Problem};
use vyr_node::Result;
use vyr_plan::intent::{Place, Service, TextError};
use vyr_plan::services::{ServicesPlan, explain_services};
use vyr_plan::{
    Applied, Explanation, Intent, Matrix, explain as explained, explain_packets, matrix, svg,
};

use super::services::compiled_if_any;
use super::{Site, compiled, refuse};
use crate::cli::{ExplainArgs, GraphArgs};
use crate::output::{self, Out};

#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("nothing in the plan is known as {0:?}")]
    Unknown(String),
    #[error("{text:?} is not understood")]
    Text { text: String, source: TextError },
}

impl Problem for ExplainError {
    fn category(&self) -> Category {
        match self {
            Self::Unknown(_) => Category::NotFound,
            Self::Text { .. } => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => {
                Some("an address, prefix, rule, key, name, slot or invariant; or FROM TO".into())
            }
            Self::Text { source, .. } => source.hint.clone(),
        }
    }
}

#[derive(Serialize)]
struct Explained {
    explanations: Vec<Explanation>,
}

pub(crate) fn explain(args: &ExplainArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let compiled = match compiled(&site)? {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
    };
    let explanations = match &args.to {
        None => {
            let mut found = explained(&compiled.intent, &compiled.lock, &compiled.plan, &args.id);
            found.extend(of_services(&site, &compiled.intent, &args.id)?);
            found
        }
        Some(to) => {
            let place = |text: &str| {
                let fail = |source| ExplainError::Text { text: text.into(), source };
                text.parse::<Place>().map_err(fail)
            };
            let fail = |source| ExplainError::Text { text: args.service.clone(), source };
            let service = args.service.parse::<Service>().map_err(fail)?;
            let (from, to) = (place(&args.id)?, place(to)?);
            vec![explain_packets(&compiled.intent, &compiled.plan, &from, &to, service)]
        }
    };
    if explanations.is_empty() {
        return Err(ExplainError::Unknown(args.id.clone()).into());
    }
    if json {
        output::json_line(Explained { explanations })?;
        return Ok(ExitCode::SUCCESS);
    }
    for explanation in &explanations {
        output::print(format!("{}: {}", explanation.id, explanation.what));
        for reason in &explanation.because {
            match &reason.place {
                Some(place) => output::print(format!("  {} ({place})", reason.text)),
                None => output::print(format!("  {}", reason.text)),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the services plan knows. A site whose services do not compile still says why a slot has no
/// node.
fn of_services(site: &Site, intent: &Intent, id: &str) -> Result<Vec<Explanation>> {
    let compiled = compiled_if_any(site)?.ok().flatten();
    let plan = compiled.as_ref().map(|compiled| &compiled.plan);
    let applied: Option<Applied<ServicesPlan>> = site.applied_of()?;
    let applied = applied.as_ref().map(|applied| &applied.plan);
    Ok(explain_services(intent, plan, applied, id))
}

#[derive(Serialize)]
struct Graphed<'a> {
    kind: &'static str,
    matrix: &'a Matrix,
}

pub(crate) fn graph(args: &GraphArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let compiled = match compiled(&site)? {
        Ok(compiled) => compiled,
        Err(refused) => return refuse(&refused, json),
    };
    if let Some(file) = args.svg.as_deref() {
        let mut out = Out::create((file.as_os_str() != "-").then_some(file))?;
        out.write(svg(&compiled.plan).as_bytes())?;
        out.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    let matrix = matrix(&compiled.plan);
    if json {
        output::json_line(Graphed { kind: "network", matrix: &matrix })?;
        return Ok(ExitCode::SUCCESS);
    }
    for machine in &compiled.plan.machines {
        output::print(machine.name.as_str());
        for link in &machine.links {
            let routes: Vec<String> = link.routes.iter().map(ToString::to_string).collect();
            let at = link.endpoint.as_deref().unwrap_or("not found from outside");
            output::print(format!(
                "  {} {} ({at}), {} peers",
                link.name,
                routes.join(" "),
                link.peers.len()
            ));
        }
    }
    // A row for each destination: sources are few, and stand side by side on a terminal.
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    let sources = matrix.rows.iter().map(|row| row.source.clone());
    table.set_header([String::from("reaches")].into_iter().chain(sources));
    for (number, column) in matrix.columns.iter().enumerate() {
        let cells = matrix.rows.iter().map(|row| row.cells[number].word().to_owned());
        table.add_row([column.clone()].into_iter().chain(cells));
    }
    table.lines().for_each(|line| output::print(line.trim_end()));
    Ok(ExitCode::SUCCESS)
}
