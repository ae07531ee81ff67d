//! The plot: every round as a dot, their median as a larger one, logarithmic.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::Part;
use super::report::Report;
use super::starve::{Arm, PIECES_MS, Runtime};
use crate::plot::{Area, BLUE, FONT, GREEN, GREY, ORANGE, PANEL_HEIGHT, WIDTH, failed, legend};
use crate::sample::Rounds;
use crate::stats::median;

const RED: RGBColor = RGBColor(213, 94, 0);
const SKY: RGBColor = RGBColor(86, 180, 233);
const PINK: RGBColor = RGBColor(204, 121, 167);
const BROWN: RGBColor = RGBColor(120, 94, 60);

fn colour(arm: &str) -> RGBColor {
    match arm {
        "observe" | "hint" => BLUE,
        "psi" => SKY,
        "timer 1 ms" => ORANGE,
        "timer 4 ms" => RED,
        "timer 10 ms" => PINK,
        "naive" => BROWN,
        "tokio's budget" => GREEN,
        _ => GREY,
    }
}

/// A name and the rounds of each arm.
struct Group {
    name: String,
    arms: Vec<(String, Vec<f64>)>,
}

struct Panel {
    caption: String,
    groups: Vec<Group>,
}

fn starve(rounds: &Rounds) -> Vec<Panel> {
    let panel = |runtime: Runtime, what: &str, figure: &dyn Fn(&str, &str) -> Vec<f64>| {
        let groups = PIECES_MS.iter().map(|piece_ms| {
            let case = runtime.case(*piece_ms);
            let arms = Arm::ALL.iter().map(|arm| (arm.name().into(), figure(&case, arm.name())));
            Group { name: format!("pieces of {piece_ms} ms"), arms: arms.collect() }
        });
        Panel { caption: format!("{}: {what}", runtime.name()), groups: groups.collect() }
    };
    let p99 = |case: &str, arm: &str| -> Vec<f64> {
        rounds.figures(case, arm, "p99_ns").iter().map(|ns| ns / 1e3).collect()
    };
    let hogs = |case: &str, arm: &str| -> Vec<f64> {
        rounds.by_round(case, |of| Some(of(arm, "hog_ms_per_s")? / of("off", "hog_ms_per_s")?))
    };
    let mut panels: Vec<Panel> = Runtime::ALL
        .into_iter()
        .map(|runtime| panel(runtime, "short tasks beside hogs, p99, us", &p99))
        .collect();
    let throughput = |runtime| panel(runtime, "hogs' throughput by that without guidance", &hogs);
    panels.extend(Runtime::ALL.into_iter().map(throughput));
    panels
}

fn yields(rounds: &Rounds) -> Panel {
    let groups = ["native", "wasm"].into_iter().map(|case| {
        let arms = ["observe", "timer 1 ms"].into_iter().map(|arm| {
            let us = rounds.figures(case, arm, "p99_ns").iter().map(|ns| ns / 1e3).collect();
            (arm.to_owned(), us)
        });
        Group { name: case.into(), arms: arms.collect() }
    });
    Panel { caption: "From hint to yield, p99, us".into(), groups: groups.collect() }
}

/// Draws what `report` has into `file`; no file when it has nothing to draw.
pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let mut panels = Vec::new();
    panels.extend(report.part(Part::Starve).map(starve).into_iter().flatten());
    panels.extend(report.part(Part::Yield).map(yields));
    panels.retain(|panel| values(panel).next().is_some());
    if panels.is_empty() {
        return Ok(());
    }
    let height = PANEL_HEIGHT * u32::try_from(panels.len())?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        draw_panel(area, panel)?;
    }
    root.present().map_err(failed)
}

fn values(panel: &Panel) -> impl Iterator<Item = f64> + '_ {
    let arms = panel.groups.iter().flat_map(|group| &group.arms);
    arms.flat_map(|(_, values)| values).copied().filter(|value| *value > 0.0)
}

fn draw_panel(area: &Area<'_>, panel: &Panel) -> Result<()> {
    let least = values(panel).fold(f64::INFINITY, f64::min) * 0.8;
    let most = values(panel).fold(0.0, f64::max) * 1.25;
    let width = panel.groups.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.caption, (FONT, 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..width + 0.6, (least..most).log_scale())
        .map_err(failed)?;
    let name = |x: &f64| {
        let group =
            panel.groups.iter().zip(0..).find(|(_, n)| (x - f64::from(*n) - 0.5).abs() < 0.01);
        group.map_or_else(String::new, |(group, _)| group.name.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .x_labels(0)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 12))
        .draw()
        .map_err(failed)?;
    let mut shown: Vec<&str> = Vec::new();
    for (group, n) in panel.groups.iter().zip(0_u32..) {
        let arms: Vec<_> = group.arms.iter().filter(|(_, values)| !values.is_empty()).collect();
        let step = 0.8 / arms.len().max(1) as f64;
        for ((arm, values), place) in arms.into_iter().zip(0_u32..) {
            let x = f64::from(n) + 0.1 + step * (f64::from(place) + 0.5);
            let colour = colour(arm);
            let middle = median(values).map(|y| Circle::new((x, y), 5, colour.filled()));
            let each = values.iter().map(|y| Circle::new((x, *y), 2, colour.mix(0.5).filled()));
            let points: Vec<_> = each.chain(middle).collect();
            let series = chart.draw_series(points).map_err(failed)?;
            if !shown.contains(&arm.as_str()) {
                shown.push(arm);
                series
                    .label(arm.clone())
                    .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
            }
        }
    }
    let names = (0..panel.groups.len()).map(|n| {
        let x = n as f64 + 0.5;
        let style = (FONT, 12).into_font().color(&BLACK);
        EmptyElement::at((x, least)) + Text::new(name(&x), (-40, 6), style)
    });
    chart.draw_series(names).map_err(failed)?;
    legend(chart, SeriesLabelPosition::UpperRight)
}

#[cfg(test)]
mod tests {
    use super::super::report::Settings;
    use super::*;
    use crate::environment::{Disturbance, Environment};
    use crate::rounds::Round;
    use crate::sample::Sample;

    fn report(parts: Vec<(Part, Rounds)>) -> Report {
        let environment = Environment::of_this_machine("not asked");
        Report::new(Settings::default(), environment, parts)
    }

    #[test]
    fn nothing_to_draw_makes_no_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("sched.svg");
        draw(&report(Vec::new()), &file).expect("nothing to do");
        let not_run = Sample::not_run("native", "observe", "no kernel".into());
        let round = Round {
            number: 0,
            counts: true,
            disturbance: Disturbance::default(),
            data: vec![not_run],
        };
        draw(&report(vec![(Part::Yield, Rounds(vec![round]))]), &file).expect("nothing to do");
        assert!(!file.exists());
    }
}
