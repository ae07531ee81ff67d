//! A machine restored from a snapshot beside one that boots, both by the driver and with the same
//! specification, their disks included. The snapshot is made once, before.

use std::path::Path;

use anyhow::{Context, Result};

use super::bare::Bare;
use super::{COLD, RESTORED};
use crate::rounds::alternate;
use crate::sample::Sample;

pub(super) const START: &str = "a start of a machine by its driver";

/// Both arms.
pub(super) fn round(bare: &Bare, snapshot: &Path, number: usize) -> Result<Vec<Sample>> {
    let arms = alternate(&[RESTORED, COLD], number).into_iter();
    let measured = arms.map(|arm| {
        let from = (arm == RESTORED).then(|| snapshot.to_owned());
        let boot = bare.by_driver(from).context(arm)?;
        let sample = Sample::new(START, arm).with("running_ms", boot.running_ms);
        Ok(sample.with("answer_ms", boot.answer_ms))
    });
    measured.collect()
}
