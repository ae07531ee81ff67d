//! A VMM that is being started: it is ended unless it came to run, and says why it did not.

use std::path::Path;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::Duration;

use super::process::Handle;
use super::{VmmError, console};

/// What the VMM itself says.
const LOG: &str = "vmm.log";

/// A VMM's interface closes a moment before it ends.
const CLOSING: Duration = Duration::from_secs(5);

/// A VMM that did not come to run is ended.
pub(super) struct Guard<'a> {
    child: Option<Child>,
    directory: &'a Path,
    /// Who writes down what the VMM says.
    words: Option<JoinHandle<()>>,
}

impl<'a> Guard<'a> {
    /// Keeps what the child says from here on.
    pub(super) fn new(mut child: Child, directory: &'a Path) -> Result<Self, VmmError> {
        let stderr = child.stderr.take();
        let mut guard = Self { child: Some(child), directory, words: None };
        if let Some(stderr) = stderr {
            let log = directory.join(LOG);
            // When this process ends the VMM's words go nowhere; it does not mind.
            guard.words = Some(console::keep(stderr, &log).map_err(VmmError::file("make", log))?);
        }
        Ok(guard)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// It runs: nobody ends it from here.
    pub(super) fn into_child(mut self) -> Option<Child> {
        self.child.take()
    }

    /// An error, which is told in the VMM's own words if it ended of it.
    pub(super) fn explain(mut self, error: VmmError) -> VmmError {
        match error {
            VmmError::Gone { why, .. } if self.has_ended() => {
                VmmError::Start { said: self.said().unwrap_or(why) }
            }
            other => other,
        }
    }

    fn has_ended(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let ended = Handle::of_child(child.id()).and_then(|it| it.ended(CLOSING));
        ended.unwrap_or(false)
    }

    /// The last line of what it said, bounded. It has ended, so nothing more comes.
    fn said(&mut self) -> Option<String> {
        if let Some(words) = self.words.take() {
            words.join().ok()?;
        }
        let bytes = console::read(&self.directory.join(LOG)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.chars().filter(|c| !c.is_control()).take(500).collect())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended already is only waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
