//! The orderly end of a node, and two nodes on one directory.

use rustix::process::{Signal, kill_process};
use vyr_api::control::{StreamTracesRequest, TaskState, TraceFilter};

use crate::history::History;
use crate::place::{HANG, Place, block, ended, ends, in_time, is_there, submission, until};

#[test]
fn a_node_that_is_told_to_end_lets_tasks_end_and_takes_no_new_ones() {
    let place = Place::new();
    place.config("[node]\nslots = 2\nworkers = 1\n");
    let slow = place.put_text("slow", &crate::guests::sleep(1_500), &[]);
    let hello = place.put_hello();
    block(async {
        let mut daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let (api, tasks) = (daemon.process("api", None).await, daemon.process("tasks", None).await);
        let mut client = daemon.client().await;
        let mut other = daemon.client().await;
        let mut accepted = Vec::new();
        // Two run; the third waits, and is run by the next node.
        for key in ["a", "b", "c"] {
            let task = client.submit_request(submission(&slow, b"", key)).await;
            accepted.push(task.expect("accepted"));
        }
        until("two running tasks", async || {
            (daemon.status().await.tasks_running == 2).then_some(())
        })
        .await;
        let filter = TraceFilter {
            task_ids: accepted[..2].to_vec(),
            terminal_only: true,
            ..TraceFilter::default()
        };
        let request = StreamTracesRequest { filter: Some(filter) };
        let ends = client.control.stream_traces(request).await.expect("spans");
        let mut ends = ends.into_inner();
        kill_process(daemon.pid(), Signal::TERM).expect("it runs");
        let refused = until("the refusal", async || {
            match other.submit_request(submission(&hello, b"", "")).await {
                // The signal has not arrived yet.
                Ok(task) => {
                    accepted.push(task);
                    None
                }
                Err(refused) => Some(refused),
            }
        })
        .await;
        assert_eq!((refused.category.as_str(), refused.retryable), ("transient", true));
        assert!(refused.message.contains("stopping"), "{refused:?}");
        // Who waits for those that run is told of their ends.
        for _ in 0..2 {
            let span = in_time("an end", ends.message()).await.expect("spans").expect("an end");
            assert_eq!(span.end.expect("terminal").state(), TaskState::Completed);
        }
        drop((client, other, ends));
        let status = in_time("its end", async { daemon.wait() }).await;
        assert_eq!(status.code(), Some(0), "{}", daemon.log());
        assert!(!place.control().exists() && !place.operator().exists(), "sockets are left");
        assert!(!is_there(api) && !is_there(tasks));
        let history = History::audited(place.data(), &node_key);
        assert_eq!(history.ends.len(), 2, "what waited was not begun");

        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        for task in &accepted {
            let end = ended(&mut client, task).await;
            assert_eq!(end.state(), TaskState::Completed, "{end:?}");
        }
        drop(client);
        assert!(daemon.stop().success());
        History::audited(place.data(), &node_key).all_ended_once();
    });
}

#[test]
fn what_outlasts_the_patience_is_lost_and_said_to_be() {
    let place = Place::new();
    place.config("[node]\ndrain = \"300ms\"\n");
    let endless = place.put_text("endless", crate::guests::ENDLESS, &[]);
    block(async {
        let daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let mut client = daemon.client().await;
        let task = client.submit_request(submission(&endless, b"", "")).await.expect("accepted");
        until("a running task", async || (daemon.status().await.tasks_running == 1).then_some(()))
            .await;
        drop(client);
        assert_eq!(daemon.stop().code(), Some(0));
        let daemon = place.ready().await;
        let end = ended(&mut daemon.client().await, &task).await;
        assert_eq!((end.state(), end.reason.as_str()), (TaskState::Failed, "lost"), "{end:?}");
        assert!(daemon.stop().success());
        History::audited(place.data(), &node_key).all_ended_once();
    });
}

#[test]
fn the_second_signal_ends_it_at_once_and_leaves_no_process() {
    let place = Place::new();
    let endless = place.put_text("endless", crate::guests::ENDLESS, &[]);
    block(async {
        let mut daemon = place.ready().await;
        let (api, tasks) = (daemon.process("api", None).await, daemon.process("tasks", None).await);
        let mut client = daemon.client().await;
        client.submit_request(submission(&endless, b"", "")).await.expect("accepted");
        until("a running task", async || (daemon.status().await.tasks_running == 1).then_some(()))
            .await;
        kill_process(daemon.pid(), Signal::TERM).expect("it runs");
        until("the drain", async || {
            client.submit_request(submission(&endless, b"", "")).await.is_err().then_some(())
        })
        .await;
        kill_process(daemon.pid(), Signal::TERM).expect("it drains");
        assert_eq!(daemon.wait().code(), Some(130), "{}", daemon.log());
        assert!(ends(api, HANG) && ends(tasks, HANG));
        assert!(place.ready().await.stop().success());
    });
}

#[test]
fn a_second_node_on_a_directory_is_a_conflict_and_the_first_serves_on() {
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let output = place.command(&["up"]).output().expect("vyr starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{stderr}");
        assert!(stderr.contains("already running"), "{stderr}");
        let end = crate::place::run(&mut daemon.client().await, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        assert!(place.command(&["status"]).status().expect("vyr starts").success());
        assert!(daemon.stop().success());
        let status = place.command(&["status"]).output().expect("vyr starts").status;
        assert_eq!(status.code(), Some(6), "nobody is there any more");
    });
}
