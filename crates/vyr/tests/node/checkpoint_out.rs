//! The command that gets each signed checkpoint: fed, counted when it fails, ended when it hangs.

use std::fs;
use std::path::Path;

use vyr_api::control::{
    MetricFilter, StreamMetricsRequest, SubmitTaskRequest, TaskState, metric::Value,
};
use vyr_journal::SignedCheckpoint;

use crate::place::{Daemon, HANG, Place, block, ends, in_time, is_there, run, submission, until};

/// A node on `place` that gives its checkpoints to `out`.
async fn with_out(place: &Place, out: &str) -> (Daemon, SubmitTaskRequest) {
    let hello = place.put_hello();
    // TOML's own way to quote nothing.
    place.config(&format!("[node]\ncheckpoint_out = '{out}'\n"));
    (place.ready().await, submission(&hello, b"", ""))
}

/// What the node says of checkpoints that did not get out.
async fn unwritten(daemon: &Daemon) -> u64 {
    let prefix = "vyr.journal.checkpoints_unwritten".to_owned();
    let filter = MetricFilter { name_prefix: prefix, interval_ms: 100 };
    let request = StreamMetricsRequest { filter: Some(filter) };
    let metrics = daemon.client().await.control.stream_metrics(request).await.expect("metrics");
    let seen = in_time("metrics", metrics.into_inner().message()).await.expect("metrics");
    match seen.expect("no end").metrics.first().and_then(|metric| metric.value.clone()) {
        Some(Value::Counter(count)) => count,
        other => panic!("not a counter: {other:?}"),
    }
}

/// The checkpoint in a file, if all of it is there.
fn checkpoint(kept: &Path) -> Option<SignedCheckpoint> {
    SignedCheckpoint::parse(&fs::read(kept).ok()?).ok()
}

/// Whether the journal is sound and fits the checkpoint in `kept`.
fn fits(place: &Place, kept: &Path) -> bool {
    let since = kept.to_str().expect("UTF-8");
    let checked = place.command(&["verify", "--journal", "--since", since]).output();
    checked.expect("vyr starts").status.success()
}

#[test]
fn a_command_gets_each_signed_checkpoint_and_the_last_one_covers_all() {
    let place = Place::new();
    let (script, kept) = (place.path("slow"), place.path("kept"));
    // Slower than the end of a node without it.
    fs::write(&script, "sleep 2; cat >\"$1.new\" && mv \"$1.new\" \"$1\"\n").expect("a script");
    block(async {
        let command = format!("| sh {} {}", script.display(), kept.display());
        let (daemon, hello) = with_out(&place, &command).await;
        let mut client = daemon.client().await;
        run(&mut client, hello.clone()).await;
        let early = until("a checkpoint", async || checkpoint(&kept)).await;
        run(&mut client, hello).await;
        let events = daemon.status().await.events;
        assert!(early.checkpoint().size < events, "{early:?}");
        assert_eq!(unwritten(&daemon).await, 0, "{}", daemon.log());
        drop(client);
        // The last checkpoint is made, and kept, while the node ends.
        let log = daemon.log();
        assert!(daemon.stop().success(), "{log}");
        assert_eq!(checkpoint(&kept).expect("whole").checkpoint().size, events);
        assert!(fits(&place, &kept));
        // And the judge sees what it looks for: another journal does not fit it.
        let other = Place::new();
        other.vyr(&["task", "submit", &other.put_hello()]);
        assert!(!fits(&other, &kept));
    });
}

#[test]
fn a_command_that_fails_is_counted_and_said_once_and_delays_nobody() {
    let place = Place::new();
    block(async {
        let (daemon, hello) = with_out(&place, "| false").await;
        let mut client = daemon.client().await;
        for _ in 0..2 {
            let before = unwritten(&daemon).await;
            assert_eq!(run(&mut client, hello.clone()).await.state(), TaskState::Completed);
            until("a failure", async || (unwritten(&daemon).await > before).then_some(())).await;
        }
        let log = daemon.log();
        let said = log.lines().filter(|line| line.contains("did not get out")).count();
        assert_eq!(said, 1, "{log}");
        assert!(log.contains("false: exit code 1"), "{log}");
        drop(client);
        assert!(daemon.stop().success());
    });
}

#[test]
fn what_cannot_be_started_is_said_and_an_empty_command_is_refused() {
    let place = Place::new();
    block(async {
        let (daemon, hello) = with_out(&place, "| /nowhere/at/all --now").await;
        run(&mut daemon.client().await, hello).await;
        until("a failure", async || (unwritten(&daemon).await > 0).then_some(())).await;
        let log = daemon.log();
        assert!(log.contains("/nowhere/at/all --now: it could not be started"), "{log}");
        assert!(daemon.stop().success());
    });
    let output = place.command(&["up", "--checkpoint-out", "| "]).output().expect("vyr starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no command after the |"));
}

#[test]
fn a_command_that_hangs_is_ended_with_what_it_started_and_delays_nobody() {
    let place = Place::new();
    let (script, pids) = (place.path("hang"), place.path("pids"));
    fs::write(&script, format!("sleep 1000 & echo $$ $! >>{}; wait\n", pids.display()))
        .expect("a script");
    block(async {
        let (daemon, hello) = with_out(&place, &format!("| sh {}", script.display())).await;
        let mut client = daemon.client().await;
        run(&mut client, hello.clone()).await;
        let hung = until("a command that hangs", async || {
            let text = fs::read_to_string(&pids).ok()?;
            let line = text.lines().next()?;
            let numbers = line.split(' ').filter_map(|word| word.parse().ok());
            let pids: Vec<_> = numbers.filter_map(rustix::process::Pid::from_raw).collect();
            (pids.len() == 2).then_some(pids)
        })
        .await;
        assert_eq!(run(&mut client, hello).await.state(), TaskState::Completed);
        assert!(hung.iter().all(|pid| is_there(*pid)), "it was ended too soon");
        assert!(hung.iter().all(|pid| ends(*pid, HANG)), "it was not ended");
        until("a failure", async || (unwritten(&daemon).await > 0).then_some(())).await;
        assert!(daemon.log().contains("longer than 10 s"), "{}", daemon.log());
        // The one that hangs now ends with the node, whatever ends the node.
        let text = until("the next", async || {
            let text = fs::read_to_string(&pids).ok()?;
            (text.lines().count() > 1).then_some(text)
        })
        .await;
        let now = text.lines().last().and_then(|line| line.split(' ').next()?.parse().ok());
        let now = now.and_then(rustix::process::Pid::from_raw).expect("a pid");
        drop(client);
        daemon.kill();
        assert!(ends(now, HANG), "it outlives the node");
        // What it started is no child of ours; the test ends what is left of it.
        for pid in fs::read_to_string(&pids).expect("pids").split_whitespace() {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    });
}
