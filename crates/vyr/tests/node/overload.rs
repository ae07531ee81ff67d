//! More work than there is room for.

use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    MetricFilter, Resources, StreamMetricsRequest, SubmitTaskRequest, TaskState, metric,
};

use crate::history::History;
use crate::place::{Place, block, ended, in_time, submission, until};

#[test]
fn what_does_not_fit_is_refused_with_a_time_and_the_rest_ends() {
    let place = Place::new();
    place.config("[node]\nqueue = 10\nslots = 2\nworkers = 1\n");
    let slow = place.put_text("slow", &crate::guests::sleep(20), &[]);
    block(async {
        let daemon = place.ready().await;
        let node_key = daemon.status().await.node_key;
        let mut client = daemon.client().await;
        let messages: Vec<SubmitTaskRequest> =
            (0..200).map(|n: u32| submission(&slow, b"", &n.to_string())).collect();
        let answers = client.control.submit_task(tokio_stream::iter(messages)).await;
        let mut answers = answers.expect("a stream").into_inner();
        let (mut accepted, mut refused) = (Vec::new(), 0);
        while let Some(answer) = in_time("an answer", answers.message()).await.expect("answers") {
            match answer.result.expect("an answer") {
                Answer::TaskId(id) => accepted.push(id),
                Answer::Error(error) => {
                    assert_eq!(error.category, "resource_exhausted", "{error:?}");
                    assert_eq!(error.code, tonic::Code::ResourceExhausted as i32);
                    assert!(error.retryable && error.retry_after_ms > 0, "{error:?}");
                    assert!(!error.hint.is_empty(), "{error:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!(accepted.len() + refused, 200, "each message has an answer");
        assert!(accepted.len() >= 10 && refused > 0, "{} accepted", accepted.len());
        for task in &accepted {
            assert_eq!(ended(&mut client, task).await.state(), TaskState::Completed);
        }
        // There is room again, and a refused key is free.
        until("room", async || client.submit_request(submission(&slow, b"", "199")).await.ok())
            .await;
        drop(client);
        let drained = daemon.stop();
        assert!(drained.success());
        let history = History::audited(place.data(), &node_key);
        let ended: usize = history.ends.values().map(Vec::len).sum();
        assert!(ended >= accepted.len());
    });
}

#[test]
fn caps_of_running_tasks_stay_within_the_budget() {
    const BUDGET: i64 = 256 << 20;
    let place = Place::new();
    place.config("[node]\nmemory = \"256Mi\"\n[ceilings]\nmemory = \"4Gi\"\n");
    let slow = place.put_text("slow", &crate::guests::sleep(10), &[]);
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let mut watcher = daemon.client().await;
        let filter = MetricFilter { name_prefix: "vyr.tasks".into(), interval_ms: 100 };
        let request = StreamMetricsRequest { filter: Some(filter) };
        let metrics = watcher.control.stream_metrics(request).await.expect("metrics");
        let mut metrics = metrics.into_inner();
        // From a cap of which one fits to some of which many do; more than there is, is cut.
        let caps = [4 << 30, 200 << 20, 100 << 20, 60 << 20, 20 << 20];
        let messages: Vec<SubmitTaskRequest> = (0..250)
            .map(|n: usize| SubmitTaskRequest {
                resources: Some(Resources {
                    memory_bytes: caps[n % caps.len()],
                    ..Resources::default()
                }),
                ..submission(&slow, b"", &n.to_string())
            })
            .collect();
        let answers = client.control.submit_task(tokio_stream::iter(messages)).await;
        let mut answers = answers.expect("a stream").into_inner();
        let mut accepted = 0;
        while let Some(answer) = in_time("an answer", answers.message()).await.expect("answers") {
            assert!(matches!(answer.result, Some(Answer::TaskId(_))), "{answer:?}");
            accepted += 1;
        }
        assert_eq!(accepted, 250);
        let (mut most, mut looks) = (0, 0);
        loop {
            let metrics = in_time("metrics", metrics.message()).await.expect("metrics");
            for metric in metrics.expect("no end").metrics {
                if let (true, Some(metric::Value::Gauge(now))) =
                    (metric.name == "vyr.tasks.reserved", metric.value)
                {
                    most = most.max(now);
                    assert!(now <= BUDGET, "{now} bytes are reserved");
                }
            }
            looks += 1;
            let status = daemon.status().await;
            if status.tasks_running + status.tasks_queued == 0 {
                break;
            }
        }
        println!("at most {most} bytes reserved in {looks} looks");
        assert!(most > BUDGET / 4, "nothing was seen");
        drop((client, watcher));
        let node_key = daemon.status().await.node_key;
        assert!(daemon.stop().success());
        let history = History::audited(place.data(), &node_key);
        history.all_ended_once();
        // The largest was cut to the budget and ran, alone.
        assert_eq!(history.reserved_most, BUDGET.unsigned_abs());
        for statement in history.ends.values().flatten() {
            assert_eq!(statement.predicate.state, vyr_journal::TaskState::Completed);
        }
    });
}
