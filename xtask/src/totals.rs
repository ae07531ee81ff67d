//! Test totals, read from what the test runners print at their end.

use std::ops::AddAssign;

/// Counts of tests; `skipped` are those the runner itself left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Totals {
    /// The sum over every closing line in `lines`, of whichever runner.
    pub(crate) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sum = Self::default();
        for line in lines {
            // libtest: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ..`
            // nextest: `Summary [ 0.1s] 3/4 tests run: 2 passed (1 slow), 1 failed, 1 skipped`
            let counts = match line.trim_start() {
                line if line.starts_with("test result: ") => line.split_once(". "),
                line if line.starts_with("Summary [") => line.split_once(" run: "),
                _ => None,
            };
            if let Some((_, counts)) = counts {
                sum += Self::count(counts);
            }
        }
        sum
    }

    fn count(counts: &str) -> Self {
        let mut totals = Self::default();
        let mut depth = 0_usize;
        let outside: String = counts
            .chars()
            .filter(|c| {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => return depth == 0,
                }
                false
            })
            .collect();
        for part in outside.split([',', ';']) {
            let Some((number, kind)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match kind.trim() {
                "passed" => totals.passed += number,
                "failed" | "timed out" | "exec failed" => totals.failed += number,
                "skipped" | "ignored" => totals.skipped += number,
                _ => {}
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_are_read_and_summed() {
        let lines = [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "     Summary [   0.105s] 12/14 tests run: 9 passed (2 slow, 1 flaky), 2 failed, 1 timed out, 2 skipped",
            "     Summary [   0.001s] 1 test run: 1 passed, 0 skipped",
        ];
        assert_eq!(Totals::read(lines), Totals { passed: 13, failed: 3, skipped: 3 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(
            Totals::read(["5 passed", "warning: Summary [ of a test run: 1 failed"]),
            Totals::default()
        );
    }
}
