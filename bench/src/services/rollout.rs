//! The next release takes the place of the one before, while clients come at a steady rate.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vyr_vm::vmm::Accelerator;

use super::HEAD;
use super::load::{Load, Step, search};
use super::place::{INGRESS, Place};
use crate::sample::Sample;

pub(super) const ROLLOUT: &str = "a rollout while clients come";

/// Connections a second that are asked for, where guests run on the processor.
const RATE_KVM: f64 = 200.0;
/// The least where they are emulated.
const RATE_TCG_MIN: f64 = 20.0;

/// Before the rollout begins, and after the old instance is gone.
const BEFORE_AND_AFTER: Duration = Duration::from_secs(1);

/// At which rate, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rate {
    pub(super) per_s: f64,
    pub(super) why: String,
    pub(super) steps: Vec<Step>,
}

impl Rate {
    /// Brings one instance up and finds what it can do. The last instance stays.
    pub(super) fn find(place: &Place, accelerator: &Accelerator, window: Duration) -> Result<Self> {
        place.deploy(1)?;
        place.until_running(1)?;
        let (steps, sustained) = search(&place.space, INGRESS, window)?;
        let (per_s, why) = choose(accelerator, sustained);
        Ok(Self { per_s, why, steps })
    }
}

fn choose(accelerator: &Accelerator, sustained: Option<f64>) -> (f64, String) {
    let of_steady = match sustained {
        Some(rate) => format!("the steady state sustains {rate:.0}"),
        None => "the steady state sustains less than that".to_owned(),
    };
    match accelerator {
        Accelerator::Kvm => (RATE_KVM, format!("KVM; {of_steady}")),
        Accelerator::Tcg(_) => {
            let half = sustained.unwrap_or_default() / 2.0;
            let (rate, which) = match half > RATE_TCG_MIN {
                true => (half, "half of it"),
                false => (RATE_TCG_MIN, "the least"),
            };
            (rate, format!("TCG: {which}; {of_steady}"))
        }
    }
}

/// One rollout.
pub(super) fn round(
    place: &Place,
    rate: &Rate,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Sample>> {
    let load = Load::start(&place.space, INGRESS, rate.per_s)?;
    std::thread::sleep(BEFORE_AND_AFTER);
    let begun = Instant::now();
    place.deploy(1)?;
    place.until_running(1)?;
    let seconds = begun.elapsed().as_secs_f64();
    std::thread::sleep(BEFORE_AND_AFTER);
    let counted = load.end().context("clients")?;
    if let Some(why) = &counted.why {
        progress(&format!("{} connections failed: {why}", counted.failed));
    }
    let ms = |share| counted.times.quantile_ns(share) as f64 / 1e6;
    let sample = Sample::new(ROLLOUT, HEAD)
        .with_times(&counted.times)
        .with("failed", counted.failed as f64)
        .with("per_s", counted.per_s())
        .with("p50_ms", ms(0.5))
        .with("p99_ms", ms(0.99))
        .with("s", seconds);
    Ok(vec![sample])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_what_is_asked_for_or_says_why_not() {
        let tcg = Accelerator::Tcg("no KVM".into());
        assert_eq!(choose(&Accelerator::Kvm, Some(900.0)).0, 200.0);
        let (rate, why) = choose(&tcg, Some(90.0));
        assert_eq!((rate, why.as_str()), (45.0, "TCG: half of it; the steady state sustains 90"));
        let (rate, why) = choose(&tcg, Some(30.0));
        assert_eq!((rate, why.as_str()), (20.0, "TCG: the least; the steady state sustains 30"));
        let (rate, why) = choose(&tcg, None);
        assert_eq!(rate, 20.0);
        assert!(why.ends_with("sustains less than that"), "{why}");
    }
}
