//! What `ping -D` says of the packets that were answered, and of the time without an answer.

use anyhow::{Context, Result};

use super::place::{Ear, Job};
use crate::space::Namespace;

/// A hundred packets a second.
const EVERY: &str = "0.01";

/// A packet that was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    /// When: seconds since 1970.
    pub(super) at_s: f64,
    /// The way there and back, milliseconds.
    pub(super) ms: f64,
}

/// Starts so many packets to `address`; a second later than the last it gives up.
pub(super) fn start(space: &Namespace, address: &str, count: usize) -> Result<Job> {
    let seconds = u32::try_from(count / 100 + 20)?;
    let mut command = space.timed(seconds, "ping");
    command.args(["-D", "-i", EVERY, "-c", &count.to_string(), "-W", "1", address]);
    Job::start(space, command, Ear::Out)
}

/// The answers that came, in order. Lines that are none are passed over.
pub(super) fn answers(said: &str) -> Vec<Answer> {
    let answer = |line: &str| {
        let (at, rest) = line.strip_prefix('[')?.split_once(']')?;
        let ms = rest.split_once("bytes from")?.1.split_once("time=")?.1.split(' ').next()?;
        let answer = Answer { at_s: at.parse().ok()?, ms: ms.parse().ok()? };
        (answer.at_s.is_finite() && answer.ms.is_finite()).then_some(answer)
    };
    said.lines().filter_map(answer).collect()
}

/// The first answer after a moment, seconds since 1970. Answers before it are counted.
pub(super) fn first_after(ping: &mut Job, moment_s: f64) -> Result<(f64, usize)> {
    let mut early = 0;
    loop {
        let line = ping.until("bytes from").context("no answer")?;
        let answer = answers(&line).pop().with_context(|| format!("what is {line:?}"))?;
        if answer.at_s >= moment_s {
            return Ok((answer.at_s, early));
        }
        early += 1;
    }
}

/// The longest time between two answers, milliseconds.
pub(super) fn gap_ms(answers: &[Answer]) -> f64 {
    let gaps = answers.windows(2).map(|two| (two[1].at_s - two[0].at_s) * 1e3);
    gaps.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_are_counted() {
        let said = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\
                    [1795301306.100000] 64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.250 ms\n\
                    [1795301306.110000] From 10.0.0.9 icmp_seq=2 Destination Host Unreachable\n\
                    [1795301306.150000] 64 bytes from 10.0.0.1: icmp_seq=3 ttl=64 time=1.5 ms\n\
                    [x] 64 bytes from 10.0.0.1: icmp_seq=4 ttl=64 time=NaN ms\n\
                    [1] 64 bytes from 10.0.0.1: icmp_seq=5 ttl=64 time=NaN ms\n\n\
                    2 packets transmitted\n";
        let found = answers(said);
        assert_eq!(found.iter().map(|answer| answer.ms).collect::<Vec<_>>(), [0.25, 1.5]);
        assert!((gap_ms(&found) - 50.0).abs() < 0.01, "{found:?}");
        assert_eq!(gap_ms(&found[..1]), 0.0);
    }
}
