//! How long a guest that does not end lives on: after `CancelTask`, and over its deadline.
//!
//! The node has one worker and one slot, so that the next task runs only if both are given back: it
//! is run after every cancelled one, and timed as well.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vyr_api::Client;
use vyr_api::control::{CancelTaskRequest, Resources, Span, SubmitTaskRequest, TaskEnd, TaskState};
use vyr_api::operator::GetTaskRequest;
use vyr_task::Kind;

use super::arms::{Built, NodeArm};
use super::report::CancelSample;
use crate::guests::Guest;

/// The node that is measured.
pub(super) const CONFIG: &str = "[node]\nworkers = 1\nslots = 1\n";

/// Cancelled tasks of each case in a round, and overdue ones. 20 rounds have 800 and 200.
const CANCELS: usize = 40;
const OVERDUE: usize = 10;

/// The deadline of the overdue ones.
const DEADLINE_MS: u64 = 30;

/// The epoch of a running guest, in milliseconds: cancels come at each point of it.
const EPOCH_MS: u64 = 10;

/// A task that does not start after so long will not.
const START: Duration = Duration::from_secs(30);

/// What a guest does instead of ending: nothing but loop, or wait in a call of the host.
const WAYS: [(&str, &[&str]); 2] = [("spin", &["spin"]), ("sleep", &["sleep", "3600000"])];

/// One guest in the store.
#[derive(Debug, Clone)]
pub(super) struct Case {
    name: String,
    artifact: String,
}

impl Case {
    /// Each way in both forms, put into the node's store.
    pub(super) async fn put_all(node: &NodeArm) -> Result<Vec<Self>> {
        let mut cases = Vec::new();
        for kind in [Kind::Module, Kind::Component] {
            let guest = Guest::probe(kind);
            for (way, arguments) in WAYS {
                let built = Built::new(&guest, "probe", arguments, &[])?;
                let name = guest.case().replace("probe", way);
                cases.push(Self { name, artifact: node.put(&built).await? });
            }
        }
        Ok(cases)
    }

    /// One round of it.
    pub(super) async fn round(&self, node: &NodeArm) -> Result<CancelSample> {
        let mut client = node.client().await?;
        let mut spans = node.target.watch(&mut client).await?;
        let mut sample = CancelSample { case: self.name.clone(), ..CancelSample::default() };
        for n in 0..CANCELS as u64 {
            let task = client.submit(&self.artifact, b"").await?;
            self.runs(&mut client, &task).await?;
            // Past the start of the guest, and then anywhere between two ticks.
            tokio::time::sleep(Duration::from_millis(EPOCH_MS / 2 + n % EPOCH_MS)).await;
            let request = CancelTaskRequest { task_id: task.clone() };
            let began = Instant::now();
            let (_, span) = tokio::try_join!(client.control.cancel_task(request), spans.message())?;
            sample.cancel_us.push(began.elapsed().as_secs_f64() * 1e6);
            let end = self.end(span, &task)?;
            ensure!(end.state() == TaskState::Cancelled, "{} ended as {end:?}", self.name);
            let began = Instant::now();
            client.submit(&node.target.artifact, b"").await?;
            node.target.next(&mut spans).await?;
            sample.next_us.push(began.elapsed().as_secs_f64() * 1e6);
        }
        for _ in 0..OVERDUE {
            let resources = Resources { deadline_ms: DEADLINE_MS, ..Resources::default() };
            let request = SubmitTaskRequest {
                artifact_digest: self.artifact.clone(),
                resources: Some(resources),
                ..SubmitTaskRequest::default()
            };
            let task = client.submit_request(request).await?;
            let end = self.end(spans.message().await?, &task)?;
            ensure!(end.reason == "deadline", "{} ended as {end:?}", self.name);
            sample.late_us.push(end.run_us as f64 - DEADLINE_MS as f64 * 1e3);
        }
        Ok(sample)
    }

    /// Waits until the journal says that the task runs.
    async fn runs(&self, client: &mut Client, task: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let request = GetTaskRequest { task_id: task.to_owned() };
            match client.operator.get_task(request).await?.into_inner().state() {
                TaskState::Running => return Ok(()),
                TaskState::Accepted if began.elapsed() < START => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                other => anyhow::bail!("{} does not run: {other:?}", self.name),
            }
        }
    }

    fn end(&self, span: Option<Span>, task: &str) -> Result<TaskEnd> {
        let span = span.context("the stream of spans ended")?;
        ensure!(span.task_id == task, "{}: the span of another task", self.name);
        span.end.context("a span that is not terminal")
    }
}
