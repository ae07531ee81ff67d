//! Spans that wait for their turn: at most so many, and all that do not fit are counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::node::{Metrics, TaskSpan};

/// The queue, with what was taken out of it and is not accounted for yet.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    batch_ready: Notify,
    queue_max: usize,
    batch_max: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<TaskSpan>,
    under_way: usize,
}

impl Queue {
    pub(super) fn new(queue_max: usize, batch_max: usize, metrics: Arc<Metrics>) -> Self {
        let inner = Mutex::default();
        Self { inner, batch_ready: Notify::new(), queue_max, batch_max, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a span, or drops it.
    pub(super) fn push(&self, span: TaskSpan) {
        let mut inner = self.lock();
        // What is under way takes its room until it is accounted for.
        if inner.waiting.len() + inner.under_way >= self.queue_max {
            drop(inner);
            return self.dropped(1);
        }
        inner.waiting.push_back(span);
        if inner.waiting.len() >= self.batch_max {
            self.batch_ready.notify_one();
        }
    }

    /// Waits until there may be a full batch.
    pub(super) async fn batch_ready(&self) {
        self.batch_ready.notified().await;
    }

    /// Takes a full batch; if `any`, also one that is not.
    pub(super) fn take(&self, any: bool) -> Option<Vec<TaskSpan>> {
        let mut inner = self.lock();
        let take = inner.waiting.len().min(self.batch_max);
        if take == 0 || (take < self.batch_max && !any) {
            return None;
        }
        inner.under_way = take;
        Some(inner.waiting.drain(..take).collect())
    }

    /// What was taken last arrived, but for `rejected`.
    pub(super) fn sent(&self, rejected: u64) {
        let taken = std::mem::take(&mut self.lock().under_way) as u64;
        let rejected = rejected.min(taken);
        add(&self.metrics.otlp_sent, taken - rejected);
        self.dropped(rejected);
    }

    /// What was taken last did not arrive.
    pub(super) fn lost(&self) {
        let taken = std::mem::take(&mut self.lock().under_way);
        self.dropped(taken as u64);
    }

    /// Nobody takes any more: all that is left is lost.
    pub(super) fn abandon(&self) {
        let inner = std::mem::take(&mut *self.lock());
        self.dropped((inner.waiting.len() + inner.under_way) as u64);
    }

    /// Counts spans that never came here.
    pub(super) fn dropped(&self, spans: u64) {
        add(&self.metrics.otlp_dropped, spans);
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        let inner = self.lock();
        inner.waiting.len() + inner.under_way
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
