//! The plot: what a table of medians does not show.
//!
//! One SVG, up to three panels: every round's rate by that of `bare`; the times of single tasks
//! from the middle to the slowest; warm starts by size of code.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use vyr_task::Kind;

use crate::arms::Arm;
use crate::rates::Times;
use crate::report::Report;
use crate::stats::median;
use crate::targets::slope;

pub(crate) const WIDTH: u32 = 960;
pub(crate) const PANEL_HEIGHT: u32 = 380;
pub(crate) const FONT: &str = "sans-serif";

/// Colours that a reader who sees no red and green tells apart (Okabe and Ito 2008).
pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(crate) const GREEN: RGBColor = RGBColor(0, 158, 115);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(crate) const GREY: RGBColor = RGBColor(110, 110, 110);

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel = fn(&Area<'_>, &Report) -> Result<()>;

/// Draws what `report` has into `file`; no file when it has nothing to draw.
pub(crate) fn draw(report: &Report, file: &Path) -> Result<()> {
    let mut panels: Vec<Panel> = Vec::new();
    if !report.rates.is_empty() {
        panels.extend([ratios as Panel, times as Panel]);
    }
    if !report.loads.is_empty() {
        panels.push(loads);
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

pub(crate) fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// Each round's rate by that of `bare` in the same round, and their medians.
fn ratios(area: &Area<'_>, report: &Report) -> Result<()> {
    let columns: Vec<(String, &crate::rates::CaseRates, usize)> = report
        .rates
        .iter()
        .flat_map(|case| {
            crate::rates::THREADS
                .map(|threads| (format!("{} x{threads}", case.case), case, threads))
        })
        .collect();
    let most = columns
        .iter()
        .flat_map(|(_, case, threads)| case.ratios(Arm::Engine, *threads))
        .fold(1.1, f64::max);
    let width = columns.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("Tasks a second by those of bare Wasmtime, every round", (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..width, 0.0..most * 1.3)
        .map_err(failed)?;
    let label = |x: &f64| {
        let column = columns.iter().enumerate().find(|(n, _)| (x - (*n as f64 + 0.5)).abs() < 0.01);
        column.map_or_else(String::new, |(_, (name, ..))| name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .x_labels(0)
        .y_labels(8)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 12))
        .draw()
        .map_err(failed)?;
    chart
        .draw_series(LineSeries::new([(0.0, 0.8), (width, 0.8)], GREY.stroke_width(1)))
        .map_err(failed)?
        .label("target for hello, 0.80")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], GREY));
    for (arm, colour, shift) in [(Arm::Engine, BLUE, 0.35), (Arm::Workers, ORANGE, 0.65)] {
        let points = columns.iter().enumerate().flat_map(|(n, (_, case, threads))| {
            let ratios = case.ratios(arm, *threads);
            let x = n as f64 + shift;
            let middle = median(&ratios).map(|y| Circle::new((x, y), 5, colour.filled()));
            let each = ratios.into_iter();
            let each = each.map(move |y| Circle::new((x, y), 2, colour.mix(0.5).filled()));
            each.chain(middle).collect::<Vec<_>>()
        });
        chart
            .draw_series(points)
            .map_err(failed)?
            .label(arm.name())
            .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
    }
    let names = (0..columns.len()).map(|n| {
        let x = n as f64 + 0.5;
        let style = (FONT, 11).into_font().color(&BLACK);
        // Two heights, so that neighbours do not run into each other.
        let y = if n % 2 == 0 { 0.02 } else { 0.08 } * most;
        EmptyElement::at((x, y)) + Text::new(label(&x), (-30, -6), style)
    });
    chart.draw_series(names).map_err(failed)?;
    legend(chart, SeriesLabelPosition::UpperRight)
}

/// How long the slowest share of tasks takes, for `hello` on one thread.
fn times(area: &Area<'_>, report: &Report) -> Result<()> {
    let curves: Vec<(String, RGBColor, &Times)> = report
        .rates
        .iter()
        .filter(|case| case.case.starts_with("hello"))
        .flat_map(|case| case.times.iter().map(move |times| (case, times)))
        .filter(|(_, times)| times.threads == 1)
        .zip([GREY, BLUE, PURPLE, GREEN])
        .map(|((case, times), colour)| {
            (format!("{} {}", case.case, times.arm.name()), colour, times)
        })
        .collect();
    let most = curves.iter().map(|(.., t)| t.p999_ns).max().unwrap_or(1_000) as f64 / 1_000.0;
    let least = curves.iter().map(|(.., t)| t.p50_ns).min().unwrap_or(1_000) as f64 / 1_000.0;
    let mut chart = ChartBuilder::on(area)
        .caption("Time of a hello task on one thread, us", (FONT, 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .margin_right(60)
        .build_cartesian_2d(0.0..4.0, (least * 0.8..most * 4.0).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&|x| match x {
            x if *x < 0.5 => "all".into(),
            x => format!("slowest 1 in {:.0}", 10f64.powf(*x)),
        })
        .y_label_formatter(&|y| if *y < 10.0 { format!("{y:.1}") } else { format!("{y:.0}") })
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 12))
        .draw()
        .map_err(failed)?;
    for (name, colour, times) in curves {
        chart
            .draw_series(LineSeries::new(tail(times), colour.stroke_width(2)))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    legend(chart, SeriesLabelPosition::UpperLeft)
}

/// For each bucket, the decimal logarithm of one in how many tasks is slower, and its time in us.
fn tail(times: &Times) -> Vec<(f64, f64)> {
    let total: u64 = times.buckets.iter().map(|(_, count)| count).sum();
    let mut left = total;
    let mut points = Vec::new();
    for (end_ns, count) in &times.buckets {
        points.push(((total as f64 / left.max(1) as f64).log10(), *end_ns as f64 / 1_000.0));
        left -= count;
    }
    points.retain(|(one_in, _)| *one_in <= 4.0);
    points
}

/// Warm starts by size of code, with the fitted lines.
fn loads(area: &Area<'_>, report: &Report) -> Result<()> {
    let points: Vec<(Kind, f64, f64)> = report
        .loads
        .iter()
        .filter_map(|loaded| {
            let ms = median(&loaded.totals_us())? / 1_000.0;
            Some((loaded.kind, loaded.code_bytes as f64 / MIB, ms))
        })
        .collect();
    let most = |of: fn(&(Kind, f64, f64)) -> f64| points.iter().map(of).fold(0.1, f64::max) * 1.05;
    let (most_mib, most_ms) = (most(|(_, mib, _)| *mib), most(|(.., ms)| *ms));
    let mut chart = ChartBuilder::on(area)
        .caption("Warm start by size of machine code: ms, MiB", (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..most_mib, 0.0..most_ms)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 12))
        .draw()
        .map_err(failed)?;
    for (kind, name, colour) in
        [(Kind::Module, "modules (p1)", BLUE), (Kind::Component, "components (p2)", ORANGE)]
    {
        let of_kind = points.iter().filter(|(of, ..)| *of == kind);
        let circles = of_kind.map(|(_, mib, ms)| Circle::new((*mib, *ms), 4, colour.filled()));
        chart
            .draw_series(circles.collect::<Vec<_>>())
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        if let Some(line) = slope(report, kind) {
            let at = |mib: f64| (mib, (line.intercept + line.slope * mib) / 1_000.0);
            let ends = [at(0.0), at(most_mib)];
            chart.draw_series(LineSeries::new(ends, colour.stroke_width(1))).map_err(failed)?;
        }
    }
    legend(chart, SeriesLabelPosition::UpperLeft)
}

/// Values side by side: every round's as a dot in a column of its name, and their median.
pub(crate) struct Columns<'a> {
    pub(crate) caption: &'a str,
    /// Names, and the values of each round.
    pub(crate) columns: Vec<(String, Vec<f64>)>,
    /// A line across, and what it means.
    pub(crate) line: Option<(f64, &'a str)>,
    /// What the dots are of.
    pub(crate) dots: &'a str,
}

impl Columns<'_> {
    pub(crate) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let values = self.columns.iter().flat_map(|(_, values)| values);
        let most = values.fold(1.0_f64, |a, b| a.max(*b)) * 1.2;
        let width = self.columns.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(self.caption, (FONT, 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            // Names are below what is drawn.
            .build_cartesian_2d(0.0..width, -0.1 * most..most)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .x_labels(0)
            .y_label_formatter(&|y| if *y < 0.0 { String::new() } else { format!("{y:.1}") })
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 12))
            .draw()
            .map_err(failed)?;
        if let Some((height, name)) = self.line {
            chart
                .draw_series(LineSeries::new(
                    [(0.0, height), (width, height)],
                    GREY.stroke_width(1),
                ))
                .map_err(failed)?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], GREY));
        }
        let points = self.columns.iter().enumerate().flat_map(|(n, (_, values))| {
            let x = n as f64 + 0.5;
            let middle = median(values).map(|y| Circle::new((x, y), 5, BLUE.filled()));
            let each = values.iter().map(move |y| Circle::new((x, *y), 2, BLUE.mix(0.5).filled()));
            each.chain(middle).collect::<Vec<_>>()
        });
        chart
            .draw_series(points)
            .map_err(failed)?
            .label(self.dots)
            .legend(|(x, y)| Circle::new((x + 8, y), 5, BLUE.filled()));
        let names = self.columns.iter().enumerate().map(|(n, (name, _))| {
            let style = (FONT, 12).into_font().color(&BLACK);
            let at = (n as f64 + 0.5, -0.03 * most);
            EmptyElement::at(at) + Text::new(name.clone(), (-30, -6), style)
        });
        chart.draw_series(names).map_err(failed)?;
        legend(chart, SeriesLabelPosition::UpperRight)
    }
}

pub(crate) fn legend<'a, X, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    place: SeriesLabelPosition,
) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(place)
        .label_font((FONT, 12))
        .background_style(WHITE.mix(0.8))
        .border_style(GREY.mix(0.5))
        .draw()
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_at_all_tasks_and_ends_within_the_plot() {
        let times = Times {
            arm: Arm::Engine,
            threads: 1,
            p50_ns: 1,
            p99_ns: 1,
            p999_ns: 1,
            most_ns: 1,
            buckets: vec![(1_000, 90), (2_000, 9), (4_000, 1)],
        };
        let points = tail(&times);
        assert_eq!(points[0], (0.0, 1.0));
        assert!((points[1].0 - 1.0).abs() < 1e-9 && (points[2].0 - 2.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_to_draw_makes_no_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("task.svg");
        draw(&Report::default(), &file).expect("nothing to do");
        assert!(!file.exists());
    }
}
