//! A disk that fills up under a node, for real: a small tmpfs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use vyr_api::ApiError;
use vyr_journal::TaskState;

use crate::history::History;
use crate::place::{Place, block, ended, in_time, is_root, not_run, run, submission, until};

const SIZE_BYTES: usize = 24 << 20;
const PAGE_BYTES: usize = 4096;

/// A mounted tmpfs; unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said aloud, when this process may not mount.
    pub(crate) fn mount(test: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE_BYTES}"), "vyr-node-test"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            not_run(test, "may not mount");
        }
        mounted.then_some(Self(directory))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Takes all space there is.
    pub(crate) fn fill(&self) {
        let mut filler = File::options().append(true).create(true).open(self.filler());
        let filler = filler.as_mut().expect("a file");
        while filler.write_all(&[1; PAGE_BYTES]).is_ok() {}
    }

    pub(crate) fn clear(&self) {
        fs::remove_file(self.filler()).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn told(refused: &ApiError) {
    assert_eq!((refused.category.as_str(), refused.retryable), ("transient", true), "{refused:?}");
    assert!(refused.message.contains("the journal cannot be written"), "{refused:?}");
    assert!(refused.message.contains("full"), "it does not say what is wrong: {refused:?}");
    assert!(refused.hint.as_deref().is_some_and(|hint| hint.contains("space")), "{refused:?}");
    assert!(refused.retry_after.is_some(), "{refused:?}");
}

#[test]
fn a_full_disk_is_told_loses_nothing_and_is_survived() {
    const TEST: &str = "disk_full::a_full_disk_is_told_loses_nothing_and_is_survived";
    if !is_root(TEST) {
        return;
    }
    let Some(disk) = SmallDisk::mount(TEST) else { return };
    let place = Place::with_data(disk.data());
    let hello = place.put_hello();
    let sleep = place.put_text("sleep", &crate::guests::sleep(500), &[]);
    block(async {
        let daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let api = daemon.process("api", None).await;
        let mut client = daemon.client().await;
        run(&mut client, submission(&hello, b"", "before")).await;
        run(&mut client, submission(&sleep, b"", "ready")).await;
        // Accepted before the disk is full; its end comes when it is.
        let during = client.submit_request(submission(&sleep, b"", "during")).await;
        let during = during.expect("accepted");
        let mut acknowledged = vec![during.clone()];
        disk.fill();
        // What lies in the journal's file already may take some more events.
        let mut refusals = 0;
        for n in 0..10_000 {
            let input = vec![7; 60_000];
            match client.submit_request(submission(&hello, &input, &n.to_string())).await {
                Ok(task) => acknowledged.push(task),
                Err(refused) => {
                    told(&refused);
                    refusals += 1;
                    disk.fill();
                }
            }
            if refusals == 20 {
                break;
            }
        }
        assert_eq!(refusals, 20, "{} were acknowledged", acknowledged.len());
        // Others are served meanwhile, if they want nothing written.
        let status = daemon.status().await;
        assert!(status.events > 0);
        disk.clear();
        for task in &acknowledged {
            let end = ended(&mut client, task).await;
            assert_eq!(end.reason, "", "{end:?}");
        }
        // In service again, by itself and in the same process.
        let mut last = None;
        until("service again", async || {
            let again = client.submit_request(submission(&hello, b"", "after")).await;
            again.inspect_err(|refused| last = Some(refused.clone())).ok()
        })
        .await;
        let end = run(&mut client, submission(&hello, b"", "after")).await;
        assert_eq!(end.reason, "", "{last:?}");
        assert_eq!(daemon.process("api", None).await, api);
        until("the end of all tasks", async || {
            let status = daemon.status().await;
            (status.tasks_queued + status.tasks_running == 0).then_some(())
        })
        .await;
        drop(client);
        assert!(daemon.stop().success());
        let history = History::audited(place.data(), &node_key);
        history.all_ended_once();
        for task in &acknowledged {
            assert_eq!(history.end(task).0, TaskState::Completed, "{task}");
        }
        println!("{} acknowledged around {refusals} refusals", acknowledged.len());
    });
}

#[test]
fn a_node_does_not_start_on_a_full_disk_and_says_why() {
    const TEST: &str = "disk_full::a_node_does_not_start_on_a_full_disk_and_says_why";
    if !is_root(TEST) {
        return;
    }
    let Some(disk) = SmallDisk::mount(TEST) else { return };
    let place = Place::with_data(disk.data());
    disk.fill();
    block(async {
        let mut daemon = place.start();
        let status = in_time("its end", async { daemon.wait() }).await;
        assert!(!status.success());
        let log = daemon.log();
        assert!(log.contains("full") || log.contains("space"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    });
    disk.clear();
    block(async { assert!(place.ready().await.stop().success()) });
    assert!(Path::new(&disk.data()).join("node/journal.db").is_file());
}
