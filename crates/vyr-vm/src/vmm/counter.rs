//! The rate of the host's time stamp counter.
//!
//! An emulated guest that reads its counter is given the host's, from an origin of its own. The guest's
//! kernel cannot measure its rate in finite time, so it is told; and keeps time by it.

use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two readings. Each is good to a fraction of a microsecond, so the rate is good to some parts
/// in a million, as a crystal is.
const APART: Duration = Duration::from_millis(50);

/// Somebody else may run in the middle of a reading. Of so many the closest counts.
const READINGS: usize = 20;

/// The rate of the host's time stamp counter in kHz, measured once in a process's life, which takes 50 ms;
/// `None` on a host without such a counter, and where it does not run evenly: stops as processors sleep,
/// or changes with their speed.
pub fn rate_khz() -> Option<u64> {
    static RATE: OnceLock<Option<u64>> = OnceLock::new();
    *RATE.get_or_init(|| {
        let processors = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        if !is_even(&processors) {
            return None;
        }
        let (first, begun) = reading()?;
        sleep(APART);
        let (second, ended) = reading()?;
        let ns = ended.duration_since(begun).as_nanos();
        let khz = u128::from(second.wrapping_sub(first)) * 1_000_000 / ns.max(1);
        u64::try_from(khz).ok()
    })
}

/// Whether every processor of `/proc/cpuinfo` says so of its counter.
fn is_even(processors: &str) -> bool {
    let mut flags = processors.lines().filter(|line| line.starts_with("flags")).peekable();
    let says = |line: &str, flag: &str| line.split_whitespace().any(|word| word == flag);
    flags.peek().is_some()
        && flags.all(|line| says(line, "constant_tsc") && says(line, "nonstop_tsc"))
}

/// The counter, and when it was that.
fn reading() -> Option<(u64, Instant)> {
    let mut closest: Option<(Duration, u64, Instant)> = None;
    for _ in 0..READINGS {
        let before = Instant::now();
        let count = counter()?;
        let width = before.elapsed();
        if closest.is_none_or(|(least, _, _)| width < least) {
            closest = Some((width, count, before + width / 2));
        }
    }
    closest.map(|(_, count, at)| (count, at))
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "there is no other way to read it")]
fn counter() -> Option<u64> {
    // SAFETY: every processor of x86-64 has the instruction, and Linux lets every process use it
    // unless the process itself gave that up.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_believed_if_all_processors_vouch_for_it() {
        let good = "processor : 0\nflags\t: fpu constant_tsc nonstop_tsc\n";
        assert!(is_even(good) && is_even(&good.repeat(2)));
        for bad in ["flags : constant_tsc\n", "flags : constant_tsc nonstop_tsc_s3\n"] {
            assert!(!is_even(bad) && !is_even(&format!("{good}{bad}")), "{bad}");
        }
        assert!(!is_even("") && !is_even("processor : 0\n"));
    }

    #[test]
    fn the_rate_is_that_of_the_counter() {
        // Where it is not even guests are not told of it.
        let Some(khz) = rate_khz() else {
            let test = "vmm::counter::tests::the_rate_is_that_of_the_counter";
            return vyr_space::not_run(test, "the host's counter does not run evenly");
        };
        let (first, begun) = reading().expect("it has one");
        sleep(Duration::from_millis(200));
        let (second, ended) = reading().expect("it has one");
        let told = u128::from(second - first) * 1_000_000 / u128::from(khz);
        let real = ended.duration_since(begun).as_nanos();
        // A wrong rate is wrong by far more than somebody in the middle of every reading.
        assert!(told.abs_diff(real) < real / 100, "{told} ns of {real}, at {khz} kHz");
    }
}
