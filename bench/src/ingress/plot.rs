//! The plot: every round that counts as a dot, one row of dots a proxy.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::{CONNECT, HAPROXY, STREAM, VYR};
use crate::plot::{Area, BLUE, FONT, ORANGE, PANEL_HEIGHT, WIDTH, failed};
use crate::sample::Rounds;
use crate::stats::median;

const PANELS: [(&str, &str, &str); 3] = [
    ("Streams, MiB a second", STREAM, "mib_per_s"),
    ("Streams, processor time of the proxy, ms a GiB", STREAM, "cpu_ms_per_gib"),
    ("Connections by server name, a second", CONNECT, "per_s"),
];
const ARMS: [(&str, RGBColor); 2] = [(VYR, BLUE), (HAPROXY, ORANGE)];

/// Draws what `rounds` have into `file`.
pub(super) fn draw(rounds: &Rounds, file: &Path) -> Result<()> {
    let height = PANEL_HEIGHT * u32::try_from(PANELS.len())? / 2;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, panel) in root.split_evenly((PANELS.len(), 1)).iter().zip(PANELS) {
        draw_panel(area, rounds, panel)?;
    }
    root.present().map_err(failed)
}

fn draw_panel(
    area: &Area<'_>,
    rounds: &Rounds,
    (caption, case, figure): (&str, &str, &str),
) -> Result<()> {
    let values = ARMS.map(|(arm, _)| rounds.figures(case, arm, figure));
    let most = values.iter().flatten().copied().fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 16))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..most, 0.0..ARMS.len() as f64)
        .map_err(failed)?;
    let name = |at: &f64| match at {
        at if (*at - 0.5).abs() < 0.01 => ARMS[0].0.to_owned(),
        at if (*at - 1.5).abs() < 0.01 => ARMS[1].0.to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(5)
        .y_label_formatter(&name)
        .label_style((FONT, 12))
        .draw()
        .map_err(failed)?;
    for (row, ((_, colour), values)) in ARMS.iter().zip(&values).enumerate() {
        let y = row as f64 + 0.5;
        let dots = values.iter().map(|x| Circle::new((*x, y), 3, colour.mix(0.4).filled()));
        chart.draw_series(dots).map_err(failed)?;
        let middle = median(values).map(|x| Circle::new((x, y), 6, colour.filled()));
        chart.draw_series(middle).map_err(failed)?;
    }
    Ok(())
}
