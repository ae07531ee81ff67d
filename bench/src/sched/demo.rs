//! What short tasks gain, within half a minute: a table, bars in text, and the plot.

use std::fmt::Write as _;

use anyhow::Result;

use super::report::{Report, Settings};
use super::starve::{Arm, Cells, Prepared, Runtime};
use super::{Options, Part, Scale, round};
use crate::environment::Environment;
use crate::rounds::rounds;
use crate::sample::Rounds;
use crate::stats::median;

/// Rounds: enough to see, too few to decide.
const ROUNDS: usize = 3;

const PIECE_MS: u64 = 10;

const ARMS: [Arm; 3] = [Arm::Off, Arm::Timer(1), Arm::Observe];

/// Signs of the longest bar.
const BAR: f64 = 50.0;

/// What was seen.
#[derive(Debug)]
pub struct Shown {
    /// For a terminal.
    pub text: String,
    /// With every sample.
    pub report: Report,
}

/// Measures a little, and writes the report and the plot.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Shown> {
    let cells = Cells { pieces_ms: vec![PIECE_MS], arms: ARMS.into() };
    let mut prepared: Option<Prepared> = None;
    let found = rounds(ROUNDS, |number| {
        progress(&format!("short tasks beside hogs: round {} of {ROUNDS}", number + 1));
        round(Part::Starve, &cells, Scale::Full, number, &mut prepared)
    })?;
    let environment = Environment::of_this_machine("not asked");
    let settings = Settings { rounds: ROUNDS, quick: true, ..Settings::default() };
    let rounds = Rounds(found);
    let text = text(&rounds);
    let report = Report::new(settings, environment, vec![(Part::Starve, rounds)]);
    report.write(&options.out)?;
    Ok(Shown { text, report })
}

fn text(rounds: &Rounds) -> String {
    let ms = |case: &str, arm: Arm, figure: &str| {
        median(&rounds.figures(case, arm.name(), figure)).map(|ns| ns / 1e6)
    };
    let mut out = format!(
        "short tasks of 0.1 ms beside hogs with pieces of {PIECE_MS} ms, medians of {ROUNDS} \
         rounds\n\n{:8} {:11} {:>9} {:>9} {:>9} {:>18}\n",
        "", "guidance", "p50, ms", "p99, ms", "p999, ms", "hogs, ms a second",
    );
    let mut bars = String::from("\np99 from 0.1 ms on; five signs more are twice as long\n\n");
    for runtime in Runtime::ALL {
        let case = &runtime.case(PIECE_MS);
        for arm in ARMS {
            // Writing to a String does not fail.
            let _ = write!(out, "{:8} {:11}", runtime.name(), arm.name());
            if let Some(reason) = rounds.reason(case, arm.name()) {
                let _ = writeln!(out, " not run: {reason}");
                continue;
            }
            for figure in ["p50_ns", "p99_ns", "p999_ns"] {
                match ms(case, arm, figure) {
                    Some(ms) => _ = write!(out, " {ms:9.2}"),
                    None => _ = write!(out, " {:>9}", "-"),
                }
            }
            let hogs = median(&rounds.figures(case, arm.name(), "hog_ms_per_s"));
            let _ = writeln!(out, " {:18.0}", hogs.unwrap_or(0.0));
            if let Some(ms) = ms(case, arm, "p99_ns") {
                let bar = "#".repeat(signs(ms));
                let _ = writeln!(bars, "{:8} {:11} {bar} {ms:.2} ms", runtime.name(), arm.name());
            }
        }
    }
    out + &bars
}

/// Signs of a bar: logarithmic, because the longest is a hundred times the shortest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between one and the longest bar"
)]
fn signs(ms: f64) -> usize {
    ((ms / 0.1).log2() * 5.0).clamp(1.0, BAR) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;
    use crate::rounds::Round;
    use crate::sample::Sample;

    #[test]
    fn a_bar_grows_with_the_logarithm_and_has_an_end() {
        assert_eq!([signs(0.0), signs(0.1), signs(0.2), signs(0.8)], [1, 1, 5, 15]);
        assert_eq!(signs(1e9), 50);
    }

    #[test]
    fn what_was_not_run_says_so_beside_what_was() {
        let case = Runtime::Wasm.case(PIECE_MS);
        let off = Sample::new(&case, "off").with("p99_ns", 8e6).with("hog_ms_per_s", 1_990.0);
        let observe = Sample::not_run(&case, "observe", "built without bpf".into());
        let round = Round {
            number: 0,
            counts: true,
            disturbance: Disturbance::default(),
            data: vec![off, observe],
        };
        let text = text(&Rounds(vec![round]));
        assert!(text.contains("wasm     off                 -      8.00         -"), "{text}");
        assert!(text.contains("wasm     observe     not run: built without bpf"), "{text}");
    }
}
