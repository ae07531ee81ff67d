//! The plot: what a tunnel by Vyr takes by one typed by hand, and seconds people wait.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::change::ROLLBACK;
use super::people::{FAILOVER, REBUILD};
use super::report::Report;
use super::tunnel::{FULL, HALF, THROUGHPUT};
use super::{BY_HAND, HEAD};
use crate::plot::{Columns, PANEL_HEIGHT, WIDTH, failed};

/// Figures of a tunnel that have a reference: name in the plot, case, figure.
pub(super) const BESIDE: [(&str, &str, &str); 6] = [
    ("Mbit/s", THROUGHPUT, "mbit_s"),
    ("CPU s/GB", THROUGHPUT, "cpu_s_per_gb"),
    ("p50, full", FULL, "p50_ms"),
    ("p99, full", FULL, "p99_ms"),
    ("p50, half", HALF, "p50_ms"),
    ("p99, half", HALF, "p99_ms"),
];

/// Seconds: name in the plot, case, figure.
const SECONDS: [(&str, &str, &str); 4] = [
    ("rebuild, first packet", REBUILD, "s"),
    ("rebuild, done", REBUILD, "rebuilt_s"),
    ("failover", FAILOVER, "s"),
    ("after the deadline", ROLLBACK, "s"),
];

/// Draws what `report` has into `file`; no file when it has nothing to draw.
pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let full = |columns: Vec<(String, Vec<f64>)>| -> Vec<(String, Vec<f64>)> {
        columns.into_iter().filter(|(_, values)| !values.is_empty()).collect()
    };
    let ratios = BESIDE
        .map(|(name, case, figure)| (name.to_owned(), report.ratios(case, figure, HEAD, BY_HAND)));
    let seconds =
        SECONDS.map(|(name, case, figure)| (name.to_owned(), report.figures(case, HEAD, figure)));
    let panels = [
        Columns {
            caption: "By the same, typed by hand: every round",
            columns: full(ratios.into()),
            line: Some((1.0, "the same")),
            dots: HEAD,
        },
        Columns {
            caption: "Seconds, every round",
            columns: full(seconds.into()),
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
        let file = directory.path().join("net.svg");
        let report = Report::empty(Environment::of_this_machine("not used"), 20, false);
        draw(&report, &file).expect("nothing to do");
        assert!(!file.exists());
    }
}
