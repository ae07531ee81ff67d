//! The plot: starts by their references, and where the time of a deploy goes.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::deploy::{DEPLOY, FIGURES};
use super::report::{DEPLOY_MAX, Report};
use super::start::START;
use super::{BY_HAND, COLD, HEAD, RESTORED};
use crate::plot::{Columns, PANEL_HEIGHT, WIDTH, failed};

/// Draws what `report` has into `file`; no file when it has nothing to draw.
pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let full = |columns: Vec<(String, Vec<f64>)>| -> Vec<(String, Vec<f64>)> {
        columns.into_iter().filter(|(_, values)| !values.is_empty()).collect()
    };
    let start = |figure| report.ratios(START, figure, RESTORED, COLD);
    let ratios = [
        ("deploy", report.ratios(DEPLOY, "ms", HEAD, BY_HAND)),
        ("since taken", report.ratios_of(DEPLOY, (HEAD, "taken_ms"), (BY_HAND, "ms"))),
        ("restored, runs", start("running_ms")),
        ("restored, answers", start("answer_ms")),
    ];
    let ours = FIGURES.map(|name| (name.to_owned(), report.figures(DEPLOY, HEAD, name)));
    let by_hand = ["boot_ms", "ms"]
        .map(|name| (format!("by hand, {name}"), report.figures(DEPLOY, BY_HAND, name)));
    let panels = [
        Columns {
            caption: "By the boot beside it: every round",
            columns: full(ratios.map(|(name, values)| (name.to_owned(), values)).into()),
            line: Some((DEPLOY_MAX, "a deploy's bound")),
            dots: HEAD,
        },
        Columns {
            caption: "Milliseconds of a deploy, every round",
            columns: full(ours.into_iter().chain(by_hand).collect()),
            line: None,
            dots: HEAD,
        },
    ];
    let panels: Vec<&Columns<'_>> = panels.iter().filter(|of| !of.columns.is_empty()).collect();
    if panels.is_empty() {
        return Ok(());
    }
    let height = PANEL_HEIGHT * u32::try_from(panels.len())?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        panel.draw(area)?;
    }
    root.present().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn nothing_to_draw_makes_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("services.svg");
        let report = Report::empty(Environment::of_this_machine("not used"), 20, false);
        draw(&report, &file).expect("nothing to do");
        assert!(!file.exists());
    }
}
