//! Takes what happened to the network into the journal, as soon as it has happened.
//!
//! The process `net`, a command on the same data directory and the confirm timer write it down in
//! `DATA/network/ended`, and tell nobody: a directory that is watched does.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::network::record_changes;
use crate::node::{Node, NodeError};

/// What could not be recorded is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Records what is there now, and from now on what comes, in a thread of its own.
pub(super) fn keep(node: &Arc<Node>) -> Result<(), NodeError> {
    let broken = |what: &str, e: io::Error| NodeError::Invalid(format!("cannot {what}: {e}"));
    let directory = node.data().path().join("network/ended");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|e| broken("make DATA/network/ended", e))?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .and_then(|watch| {
            let written = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
            inotify::add_watch(&watch, &directory, written).map(|_| watch)
        })
        .map_err(|e| broken("watch DATA/network/ended", e.into()))?;
    let node = Arc::downgrade(node);
    let run = move || {
        let mut said = String::new();
        while let Some(node) = node.upgrade() {
            let failed = match record_changes(node.data()) {
                Ok(recorded) => {
                    recorded.bad.iter().for_each(|bad| eprintln!("vyr api: set aside: {bad}"));
                    if recorded.events > 0 {
                        // It sees what others appended at its next turn.
                        node.look();
                    }
                    said.clear();
                    false
                }
                Err(e) => {
                    let why = e.to_string();
                    if why != said {
                        eprintln!("vyr api: what happened to the network is not recorded: {why}");
                        said = why;
                    }
                    true
                }
            };
            drop(node);
            wait(&watch, failed.then_some(AGAIN));
        }
    };
    std::thread::Builder::new()
        .name("vyr-changes".into())
        .spawn(run)
        .map(|_| ())
        .map_err(|e| broken("start a thread", e))
}

/// Waits until something was written there, or for so long.
fn wait(watch: &OwnedFd, most: Option<Duration>) {
    let most = most.and_then(|most| Timespec::try_from(most).ok());
    let mut readable = [PollFd::new(watch, PollFlags::IN)];
    let _ = poll(&mut readable, most.as_ref());
    // Which files, the next look says.
    let mut events = [0_u8; 4096];
    while matches!(rustix::io::read(watch, &mut events), Ok(read) if read > 0) {}
}
