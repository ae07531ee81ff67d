//! The plot: every round's throughput by that of the reference, and the middle of sequential times.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::report::{Load, LoadRounds, Report, Way};
use crate::plot::{Area, BLUE, Columns, FONT, GREEN, ORANGE, PANEL_HEIGHT, WIDTH, failed, legend};

/// Draws what `report` has into `file`; no file when it has nothing to draw.
pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let mut panels: Vec<fn(&Area<'_>, &Report) -> Result<()>> = Vec::new();
    if !report.loads.is_empty() {
        panels.push(ratios);
    }
    if !report.sequential.is_empty() {
        panels.push(times);
    }
    if panels.is_empty() {
        return Ok(());
    }
    let height = PANEL_HEIGHT * u32::try_from(panels.len())?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        panel(area, report)?;
    }
    root.present().map_err(failed)
}

/// Each round's rate by that of the reference in the same round, and their medians.
fn ratios(area: &Area<'_>, report: &Report) -> Result<()> {
    let columns: Vec<(String, Vec<f64>)> = report
        .loads
        .iter()
        .map(|rounds: &LoadRounds| {
            let name = match rounds.load {
                Load::Streaming => "streaming".into(),
                Load::Clients(_) => rounds.load.to_string(),
            };
            (name, rounds.ratios())
        })
        .collect();
    let line = Some((0.5, "target for streaming and 64 clients, 0.50"));
    let caption = "Durable tasks a second by those of the reference, every round";
    Columns { caption, columns, line, dots: "node" }.draw(area)
}

/// The middle of each round's sequential times.
fn times(area: &Area<'_>, report: &Report) -> Result<()> {
    let ways: Vec<(Way, RGBColor, Vec<f64>)> =
        [(BLUE, Way::Node), (ORANGE, Way::Reference), (GREEN, Way::Commits)]
            .into_iter()
            .map(|(colour, way)| (way, colour, report.sequential(way, |sample| sample.p50_us)))
            .collect();
    let most = ways.iter().flat_map(|(.., p50)| p50).fold(1.0_f64, |a, b| a.max(*b)) * 1.3;
    let rounds = ways.iter().map(|(.., p50)| p50.len()).max().unwrap_or(0) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("One task after the other: median of each round, us", (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..rounds + 1.0, 0.0..most)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("round that counts")
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 12))
        .draw()
        .map_err(failed)?;
    for (way, colour, p50) in ways {
        let points = p50.into_iter().enumerate();
        let points = points.map(|(n, us)| Circle::new((n as f64 + 1.0, us), 4, colour.filled()));
        chart
            .draw_series(points)
            .map_err(failed)?
            .label(way.name())
            .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
    }
    legend(chart, SeriesLabelPosition::UpperRight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_draw_makes_no_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("node.svg");
        draw(&Report::default(), &file).expect("nothing to do");
        assert!(!file.exists());
    }
}
