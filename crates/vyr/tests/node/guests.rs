//! Guests that do not want to end, and the loss of the process that runs them.

use vyr_api::Client;
use vyr_api::control::{
    CancelTaskRequest, CreateStateRequest, Mode, Resources, StateBinding, SubmitTaskRequest,
    TaskState,
};
use vyr_api::operator::ListStatesRequest;

use crate::history::History;
use crate::place::{Place, block, ended, guest, in_time, kill, run, submission, until};

/// Never ends, and never calls the host.
pub(crate) const ENDLESS: &str = "(module (memory (export \"memory\") 1)
    (func (export \"_start\") (loop $l (br $l))))";

/// Never ends, and spends its time in single instructions that each touch 48 MiB.
const FILL: &str = "(module (memory (export \"memory\") 769)
    (func (export \"_start\") (loop $l
        (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x3000000))
        (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3000000))
        (br $l))))";

/// Never ends, and spends its time in calls of the host: sleeps of an hour.
const SLEEPY: &str = "(module (import \"wasi_snapshot_preview1\" \"poll_oneoff\"
        (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export \"memory\") 1)
    (func (export \"_start\") (loop $l
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256)))
        (br $l))))";

/// Never ends, and asks for memory that it does not get.
const GREEDY: &str = "(module (memory (export \"memory\") 1)
    (func (export \"_start\") (loop $l
        (drop (memory.grow (i32.const 16))) (br $l))))";

/// A guest that waits so many milliseconds, then completes.
pub(crate) fn sleep(ms: u64) -> String {
    let ns = format!("(i64.const {})", ms * 1_000_000);
    SLEEPY.replacen("(i64.const 3600000000000)", &ns, 1).replacen("(br $l)", "", 1)
}

/// Waits until a task runs.
async fn runs(client: &mut Client, task: &str) {
    until("the start of a task", async || {
        let request = vyr_api::operator::GetTaskRequest { task_id: task.to_owned() };
        let state = client.operator.get_task(request).await.expect("known").into_inner().state();
        assert!(matches!(state, TaskState::Accepted | TaskState::Running), "{state:?}");
        (state == TaskState::Running).then_some(())
    })
    .await;
}

#[test]
fn a_guest_that_ignores_everything_is_ended_and_the_next_one_runs() {
    let place = Place::new();
    // One worker: what it does not give back, nobody else gets.
    place.config("[node]\nworkers = 1\nslots = 1\n");
    let hello = place.put_hello();
    let stubborn = [("endless", ENDLESS), ("fill", FILL), ("sleepy", SLEEPY), ("greedy", GREEDY)]
        .map(|(name, text)| (name, place.put_text(name, text, &[])));
    block(async {
        let daemon = place.ready().await;
        let tasks = daemon.process("tasks", None).await;
        let mut client = daemon.client().await;
        for (name, artifact) in &stubborn {
            let task = client.submit_request(submission(artifact, b"", "")).await;
            let task = task.expect("accepted");
            runs(&mut client, &task).await;
            let cancel = CancelTaskRequest { task_id: task.clone() };
            client.control.cancel_task(cancel.clone()).await.expect("cancelled");
            let end = ended(&mut client, &task).await;
            assert_eq!(end.state(), TaskState::Cancelled, "{name}: {end:?}");
            let again = client.control.cancel_task(cancel).await.expect("as often as one likes");
            assert_eq!(again.into_inner().state(), TaskState::Cancelled);

            let mut request = submission(artifact, b"", "");
            request.resources = Some(Resources { deadline_ms: 300, ..Resources::default() });
            let end = run(&mut client, request).await;
            assert_eq!(end.reason, "deadline", "{name}: {end:?}");

            let end = run(&mut client, submission(&hello, b"", "")).await;
            assert_eq!(end.state(), TaskState::Completed, "after {name}: {end:?}");
        }
        assert_eq!(daemon.process("tasks", None).await, tasks, "it was the same all the time");
    });
}

#[test]
fn a_dead_tasks_process_loses_what_it_ran_and_the_states_it_held() {
    let place = Place::new();
    let endless = place.put_text("endless", ENDLESS, &[]);
    let hello = place.put_hello();
    let options = ["--state", "a", "--state", "b", "--arg", "read /state/a/x"];
    let states = place.put("states", &guest("states.wasip1"), &options);
    block(async {
        let daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let tasks = daemon.process("tasks", None).await;
        let mut client = daemon.client().await;
        let create = |name: &str| CreateStateRequest { name: name.into(), ..Default::default() };
        let a = client.control.create_state(create("a")).await.expect("made").into_inner().state_id;
        let running = client.submit_request(submission(&endless, b"", "")).await;
        let running = running.expect("accepted");
        runs(&mut client, &running).await;
        // Neither is bound; nor will they be.
        let waits = SubmitTaskRequest {
            resources: Some(Resources { deadline_ms: 5_000, ..Resources::default() }),
            ..submission(&states, b"", "")
        };
        let waits = client.submit_request(waits).await.expect("accepted");
        // Bound to `a`, and waiting for `b`.
        let bound = SubmitTaskRequest {
            state_bindings: vec![StateBinding { state_id: a.clone(), mode: Mode::Rw.into() }],
            ..submission(&states, b"", "")
        };
        let bound = client.submit_request(bound).await.expect("accepted");

        kill(tasks);
        assert_eq!(ended(&mut client, &running).await.reason, "lost");
        assert_eq!(ended(&mut client, &bound).await.reason, "state_lost");
        // Its time runs as before.
        let end = ended(&mut client, &waits).await;
        assert_eq!((end.reason.as_str(), end.state()), ("deadline", TaskState::Failed), "{end:?}");
        let mut listed = client.operator.list_states(ListStatesRequest {}).await.expect("a list");
        let left = listed.get_mut().message().await.expect("a list");
        assert!(left.is_none(), "{left:?}");
        let late = SubmitTaskRequest {
            state_bindings: vec![StateBinding { state_id: a, mode: Mode::Rw.into() }],
            ..submission(&states, b"", "")
        };
        let late = client.submit_request(late).await.expect_err("it is gone");
        assert_eq!(late.category, "not_found", "{late:?}");

        let end = run(&mut client, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed, "{end:?}");
        assert_ne!(daemon.process("tasks", Some(tasks)).await, tasks);
        drop(client);
        assert!(daemon.stop().success());
        History::audited(place.data(), &node_key).all_ended_once();
    });
}

#[test]
fn states_made_while_tasks_is_killed_again_and_again_are_there_or_refused() {
    let place = Place::new();
    let options = ["--state", "a", "--arg", "write /state/a/x hello", "--arg", "read /state/a/x"];
    let states = place.put("states", &guest("states.wasip1"), &options);
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let mut client = daemon.client().await;
        run(&mut client, submission(&hello, b"", "")).await;
        let (mut made, mut refused, mut completed, mut lost) = (0, 0, 0, 0);
        let mut before = None;
        for _ in 0..8 {
            let tasks = daemon.process("tasks", before).await;
            kill(tasks);
            before = Some(tasks);
            // Before, while and after the next one is started.
            let mut open = Vec::new();
            for _ in 0..20 {
                let create = CreateStateRequest { name: "a".into(), ..Default::default() };
                let created = in_time("an answer", client.control.create_state(create)).await;
                let state_id = match created {
                    Ok(created) => created.into_inner().state_id,
                    Err(status) => {
                        let error = vyr_api::ApiError::from(status);
                        assert!(error.retryable, "{error:?}");
                        refused += 1;
                        continue;
                    }
                };
                made += 1;
                let request = SubmitTaskRequest {
                    state_bindings: vec![StateBinding { state_id, mode: Mode::Rw.into() }],
                    ..submission(&states, b"", "")
                };
                match client.submit_request(request).await {
                    Ok(task) => open.push(task),
                    Err(error) => assert_eq!(error.category, "not_found", "{error:?}"),
                }
            }
            for task in open {
                let end = ended(&mut client, &task).await;
                match end.reason.as_str() {
                    "" => completed += 1,
                    "lost" | "state_lost" => lost += 1,
                    _ => panic!("{end:?}"),
                }
            }
            let end = run(&mut client, submission(&hello, b"", "")).await;
            assert_eq!(end.reason, "");
        }
        // Only we killed it: a state that is not there costs nobody the process.
        let status = daemon.status().await;
        let tasks = status.processes.iter().find(|process| process.name == "tasks");
        assert_eq!(tasks.map(|process| process.restarts), Some(8), "some died by themselves");
        println!("{made} made, {refused} refused, {completed} completed, {lost} lost");
        assert!(completed > 0);
        drop(client);
        assert!(daemon.stop().success());
        History::audited(place.data(), &node_key).all_ended_once();
    });
}
