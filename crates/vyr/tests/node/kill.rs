//! `kill -9` of each process, at any moment, while tasks come in.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use tokio::sync::{mpsc, watch};
use vyr_api::control::SubmitTaskResponse;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::{Client, Endpoint};
use vyr_journal::TaskState;

use crate::history::History;
use crate::place::{Daemon, HANG, Place, block, children, ends, full, in_time, kill, until};
use crate::place::{ended, is_root, is_there, submission};
use crate::random::{Random, seed};

/// Submissions under way at once.
const WINDOW: usize = 32;

/// A client that submits until it is told to stop, and then until all it sent is acknowledged: what
/// breaks off is sent again with the same keys. Gives the task of each key.
async fn load(
    endpoint: Endpoint,
    artifact: String,
    acknowledged: watch::Sender<usize>,
    stop: watch::Receiver<bool>,
) -> BTreeMap<String, String> {
    let mut tasks: BTreeMap<String, String> = BTreeMap::new();
    let mut open: Vec<String> = Vec::new();
    let mut next = 0;
    loop {
        // A node that is being started again is not there for a moment; `in_time` bounds it all.
        let Ok(mut client) = Client::connect(&endpoint).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (sender, receiver) = mpsc::channel(WINDOW);
        let mut sent = std::mem::take(&mut open);
        for key in &sent {
            let _ = sender.try_send(submission(&artifact, key.as_bytes(), key));
        }
        let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let Ok(answers) = client.control.submit_task(messages).await else {
            open = sent;
            continue;
        };
        let mut answers = answers.into_inner();
        loop {
            while sent.len() < WINDOW && !*stop.borrow() {
                let key = format!("key-{next}");
                next += 1;
                let _ = sender.try_send(submission(&artifact, key.as_bytes(), &key));
                sent.push(key);
            }
            if sent.is_empty() {
                return tasks;
            }
            match answers.message().await {
                Ok(Some(SubmitTaskResponse { result: Some(Answer::TaskId(id)) })) => {
                    let key = sent.remove(0);
                    let other = tasks.insert(key.clone(), id.clone());
                    assert_eq!(other, None, "{key} was acknowledged twice");
                    acknowledged.send_replace(tasks.len());
                }
                Ok(Some(SubmitTaskResponse { result: Some(Answer::Error(error)) })) => {
                    assert!(error.retryable, "refused for good: {error:?}");
                    let again = sent.remove(0);
                    let _ = sender.try_send(submission(&artifact, again.as_bytes(), &again));
                    sent.push(again);
                }
                _ => break,
            }
        }
        open = sent;
    }
}

/// Waits until so many more are acknowledged.
async fn more(acknowledged: &mut watch::Receiver<usize>, count: u64) {
    let wanted = *acknowledged.borrow() + usize::try_from(count).expect("small");
    let _ = in_time("progress", acknowledged.wait_for(|done| *done >= wanted)).await;
}

#[test]
fn whatever_is_killed_nothing_accepted_is_lost_and_nothing_ends_twice() {
    let moments = if full() { 200 } else { 12 };
    let mut random = Random::seeded(seed());
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let mut daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let (count, mut acknowledged) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let endpoint = Endpoint::Unix(place.control());
        let client = tokio::spawn(load(endpoint, hello.clone(), count, stopped));
        for moment in 0..moments {
            more(&mut acknowledged, 1 + random.below(100)).await;
            let (api, tasks) =
                (daemon.process("api", None).await, daemon.process("tasks", None).await);
            // Not for anything to happen: so that the moment is any.
            tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
            match moment % 3 {
                0 => {
                    kill(api);
                    daemon.process("api", Some(api)).await;
                }
                1 => {
                    kill(tasks);
                    daemon.process("tasks", Some(tasks)).await;
                }
                _ => {
                    daemon = killed_and_started_again(daemon, &place, random.below(2) == 0).await;
                    assert!(!is_there(api) && !is_there(tasks));
                }
            }
        }
        more(&mut acknowledged, 1).await;
        stop.send_replace(true);
        let tasks = in_time("all acknowledgements", client).await.expect("a client");
        until("the end of all tasks", async || {
            let status = daemon.status().await;
            (status.tasks_queued + status.tasks_running == 0).then_some(())
        })
        .await;
        // The same key is the same task, also now.
        let mut client = daemon.control().await;
        for (key, id) in tasks.iter().step_by(1 + tasks.len() / 50) {
            let again = client.submit_request(submission(&hello, key.as_bytes(), key)).await;
            assert_eq!(again.expect("known"), *id, "{key}");
        }
        drop(client);
        assert!(daemon.stop().success());
        let history = History::audited(place.data(), &node_key);
        history.all_ended_once();
        let mut lost = 0;
        for (key, id) in &tasks {
            match history.end(id) {
                (TaskState::Completed, None) => {}
                (TaskState::Failed, Some("lost")) => lost += 1,
                other => panic!("{key} ended as {other:?}"),
            }
        }
        println!("{} acknowledged, {lost} of them lost, {moments} kills", tasks.len());
        assert!(lost < tasks.len(), "not one completed");
    });
}

/// Kills `up` and starts another, at once or once the children are gone. They end by themselves.
async fn killed_and_started_again(daemon: Daemon, place: &Place, at_once: bool) -> Daemon {
    let left = children(daemon.pid());
    assert!(left.len() >= 2, "{left:?}");
    daemon.kill();
    let gone = || assert!(left.iter().all(|child| ends(*child, HANG)), "children stay behind");
    if !at_once {
        gone();
    }
    let daemon = place.ready().await;
    gone();
    daemon
}

#[test]
fn an_owner_that_dies_after_its_successor_has_begun_is_noticed() {
    const TEST: &str = "kill::an_owner_that_dies_after_its_successor_has_begun_is_noticed";
    if !is_root(TEST) {
        return;
    }
    let place = Place::new();
    let endless = place.put_text("endless", crate::guests::ENDLESS, &[]);
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let task = client.submit_request(submission(&endless, b"", "")).await.expect("accepted");
        until("a running task", async || (daemon.status().await.tasks_running == 1).then_some(()))
            .await;
        // The lock of the owner, held on to as by a process that takes its time to die.
        let api = daemon.process("api", None).await;
        let owners = place.data().canonicalize().expect("data").join("node/owners");
        let lock =
            std::fs::read_dir(format!("/proc/{api}/fd")).expect("a process").find_map(|fd| {
                let fd = fd.expect("a descriptor");
                let to = std::fs::read_link(fd.path()).ok()?;
                to.starts_with(&owners).then(|| fd.file_name().to_str()?.parse::<i32>().ok())?
            });
        let process = rustix::process::pidfd_open(api, PidfdFlags::empty()).expect("a process");
        let flags = PidfdGetfdFlags::empty();
        let held = rustix::process::pidfd_getfd(&process, lock.expect("a lock"), flags);
        let held = held.expect("root may");
        let daemon = killed_and_started_again(daemon, &place, false).await;
        let mut client = daemon.client().await;
        let request = vyr_api::operator::GetTaskRequest { task_id: task.clone() };
        let seen = client.operator.get_task(request).await.expect("known").into_inner();
        assert_eq!(seen.state(), vyr_api::control::TaskState::Running, "its owner may live");
        drop(held);
        assert_eq!(ended(&mut client, &task).await.reason, "lost");
    });
}
