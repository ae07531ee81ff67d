//! The disconnected collector of ADR-0008, as a client of the seven calls.
//!
//! ```text
//! gather -> queue (the client's own, on its disk) -> SubmitTask, key collector/<n>
//!                                                    StreamTraces: output digest of n
//! link up: far end says the last number it has -> n+1, n+2, .. with their bytes
//! ```
//!
//! Invariants, each tested: a number names one batch and one task; the far end sees every number
//! once and in order, whenever the client, the link or the node breaks; what the queue had no room
//! for is a number reported as lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vyr_api::Client;
use vyr_api::control::TaskState;
use vyr_base::Digest;

use crate::daemon::{Daemon, block, read_blob, wait};
use crate::submit::request;

/// Who is far away: keeps what arrives, and knows its last number.
#[derive(Default)]
struct FarEnd {
    got: Vec<(u64, Option<Vec<u8>>)>,
}

impl FarEnd {
    fn last(&self) -> u64 {
        self.got.last().map_or(0, |(n, _)| *n)
    }

    /// Every number once and in order.
    fn is_in_order(&self) -> bool {
        self.got.iter().zip(1..).all(|((n, _), expected)| *n == expected)
    }
}

/// What a client keeps on its own disk: batches that did not leave yet, the number of the last one,
/// and which it had to drop.
struct Queue {
    directory: PathBuf,
    room: usize,
}

impl Queue {
    fn open(directory: &Path, room: usize) -> Self {
        fs::create_dir_all(directory).expect("a directory");
        Self { directory: directory.to_owned(), room }
    }

    /// Numbers in the queue; `None` was dropped.
    fn numbers(&self) -> BTreeMap<u64, Option<PathBuf>> {
        let files = fs::read_dir(&self.directory).expect("listed");
        files
            .map(|file| file.expect("an entry").path())
            .filter_map(|path| {
                let number = path.file_stem()?.to_str()?.parse().ok()?;
                let lost = path.extension()? == "lost";
                Some((number, (!lost).then_some(path)))
            })
            .collect()
    }

    /// Takes a batch; without room the oldest one is dropped, and its number kept as lost.
    fn gather(&self, batch: &[u8]) -> u64 {
        let numbers = self.numbers();
        let kept: Vec<u64> =
            numbers.iter().filter(|(_, path)| path.is_some()).map(|(n, _)| *n).collect();
        if kept.len() >= self.room {
            fs::rename(self.path(kept[0], "batch"), self.path(kept[0], "lost")).expect("dropped");
        }
        let next = fs::read_to_string(self.directory.join("last"));
        let n = next.map_or(0, |text| text.parse().expect("a number")) + 1;
        fs::write(self.path(n, "batch"), batch).expect("kept");
        fs::write(self.directory.join("last"), n.to_string()).expect("kept");
        n
    }

    fn forget(&self, n: u64) {
        for kind in ["batch", "lost"] {
            let _ = fs::remove_file(self.path(n, kind));
        }
    }

    fn path(&self, n: u64, kind: &str) -> PathBuf {
        self.directory.join(format!("{n:08}.{kind}"))
    }
}

/// One life of the client: what it holds in memory, and loses in a crash.
struct Collector {
    client: Client,
    artifact: String,
    queue: Queue,
    tasks: BTreeMap<u64, String>,
}

impl Collector {
    async fn new(daemon: &Daemon, artifact: &str, queue: Queue) -> Self {
        let client = daemon.client().await;
        Self { client, artifact: artifact.to_owned(), queue, tasks: BTreeMap::new() }
    }

    /// Submits every batch of the queue that this life has not submitted: one task a batch, and the
    /// same task however often it is done.
    async fn submit(&mut self) {
        for (n, path) in self.queue.numbers() {
            if let Some(path) = path
                && !self.tasks.contains_key(&n)
            {
                let task = self.submit_one(n, 0, &path).await;
                self.tasks.insert(n, task);
            }
        }
    }

    async fn submit_one(&mut self, n: u64, attempt: u32, batch: &Path) -> String {
        let key = match attempt {
            0 => format!("collector/{n}"),
            again => format!("collector/{n}/{again}"),
        };
        let batch = fs::read(batch).expect("a batch");
        let message = request(&self.artifact, &key, &batch);
        self.client.submit_request(message).await.expect("accepted")
    }

    /// The output of a batch, by the digest in its terminal span. A task that died with its node
    /// is tried again under its next key.
    async fn output(&mut self, n: u64, batch: &Path) -> Vec<u8> {
        let mut attempt = 0;
        loop {
            let task = self.tasks.get(&n).expect("submitted").clone();
            let (_, end) = wait(&mut self.client, &task).await;
            if end.reason == "lost" && attempt < 3 {
                attempt += 1;
                let again = self.submit_one(n, attempt, batch).await;
                self.tasks.insert(n, again);
                continue;
            }
            assert_eq!(end.state(), TaskState::Completed, "{end:?}");
            let bytes = read_blob(&mut self.client, &end.output_digest).await.expect("stored");
            assert_eq!(Digest::of(&bytes).to_string(), end.output_digest);
            return bytes;
        }
    }

    /// The link is up: sends what the far end does not have, in order. Stops after `most`
    /// deliveries and before forgetting the last, as a client that crashes there would.
    async fn forward(&mut self, far: &mut FarEnd, most: usize) {
        let last = far.last();
        self.forward_after(last, far, most).await;
    }

    async fn forward_after(&mut self, last: u64, far: &mut FarEnd, most: usize) {
        self.submit().await;
        let mut sent = 0;
        for (n, batch) in self.queue.numbers() {
            // Arrived before a crash that came before it was forgotten.
            if n > last {
                let bytes = match batch {
                    Some(batch) => Some(self.output(n, &batch).await),
                    None => None,
                };
                far.got.push((n, bytes));
                sent += 1;
                if sent == most {
                    return;
                }
            }
            self.queue.forget(n);
        }
    }
}

fn batch(n: u64) -> Vec<u8> {
    let line = |i: u64| format!("{{\"level\":\"info\",\"batch\":{n},\"reading\":{i}}}\n");
    (0..20).map(line).collect::<String>().into_bytes()
}

/// What a batch becomes, told by a node that nothing happens to.
fn expected(batches: u64) -> Vec<Vec<u8>> {
    let daemon = Daemon::start();
    block(async {
        let artifact = daemon.put("transform", &[]).await;
        let mut client = daemon.client().await;
        let mut outputs = Vec::new();
        for n in 1..=batches {
            let task = client.submit(&artifact, &batch(n)).await.expect("accepted");
            let (_, end) = wait(&mut client, &task).await;
            outputs.push(read_blob(&mut client, &end.output_digest).await.expect("stored"));
        }
        outputs
    })
}

#[track_caller]
fn assert_all(far: &FarEnd, expected: &[Vec<u8>]) {
    assert!(far.is_in_order(), "{:?}", far.got.iter().map(|(n, _)| n).collect::<Vec<_>>());
    let got: Vec<_> =
        far.got.iter().map(|(_, bytes)| bytes.clone().expect("nothing lost")).collect();
    assert!(got == expected, "{} outputs of {}", got.len(), expected.len());
}

#[test]
fn outputs_wait_for_the_link_and_leave_once_and_in_order() {
    let daemon = Daemon::start();
    let place = tempfile::tempdir().expect("a directory");
    let mut far = FarEnd::default();
    block(async {
        let artifact = daemon.put("transform", &[]).await;
        let queue = Queue::open(place.path(), 100);
        // The link is down: batches are computed all the same.
        for n in 1..=5 {
            assert_eq!(queue.gather(&batch(n)), n);
        }
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.submit().await;
        let before = collector.tasks.clone();
        assert_eq!(before.len(), 5);
        // The client crashes, and knows nothing but its queue. It gets the same tasks.
        let queue = Queue::open(place.path(), 100);
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.submit().await;
        assert_eq!(collector.tasks, before);
        // The link is up, and breaks after the second delivery, before it is written down.
        collector.forward(&mut far, 2).await;
        assert_eq!(far.last(), 2);
        for n in 6..=8 {
            collector.queue.gather(&batch(n));
        }
        let queue = Queue::open(place.path(), 100);
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.forward(&mut far, usize::MAX).await;
        assert_eq!(collector.queue.numbers().len(), 0, "nothing is kept that has left");
    });
    assert_all(&far, &expected(8));
}

#[test]
fn a_node_that_crashes_loses_no_batch() {
    let mut daemon = Daemon::start();
    let place = tempfile::tempdir().expect("a directory");
    let mut far = FarEnd::default();
    let artifact = block(daemon.put("transform", &[]));
    block(async {
        let queue = Queue::open(place.path(), 100);
        for n in 1..=12 {
            queue.gather(&batch(n));
        }
        Collector::new(&daemon, &artifact, queue).await.submit().await;
    });
    daemon.restart();
    block(async {
        let queue = Queue::open(place.path(), 100);
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.forward(&mut far, usize::MAX).await;
    });
    assert_all(&far, &expected(12));
}

#[test]
fn what_the_queue_has_no_room_for_is_a_number_reported_as_lost() {
    let daemon = Daemon::start();
    let place = tempfile::tempdir().expect("a directory");
    let mut far = FarEnd::default();
    block(async {
        let artifact = daemon.put("transform", &[]).await;
        let queue = Queue::open(place.path(), 3);
        for n in 1..=5 {
            queue.gather(&batch(n));
        }
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.forward(&mut far, usize::MAX).await;
    });
    assert!(far.is_in_order());
    let lost: Vec<u64> =
        far.got.iter().filter(|(_, bytes)| bytes.is_none()).map(|(n, _)| *n).collect();
    assert_eq!((lost, far.last()), (vec![1, 2], 5));
}

/// The seeded defect: a client that trusts its own notes in place of asking the far end.
#[test]
fn a_client_that_does_not_ask_the_far_end_sends_twice() {
    let daemon = Daemon::start();
    let place = tempfile::tempdir().expect("a directory");
    let mut far = FarEnd::default();
    block(async {
        let artifact = daemon.put("transform", &[]).await;
        let queue = Queue::open(place.path(), 100);
        for n in 1..=3 {
            queue.gather(&batch(n));
        }
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.forward_after(0, &mut far, 2).await;
        let queue = Queue::open(place.path(), 100);
        let mut collector = Collector::new(&daemon, &artifact, queue).await;
        collector.forward_after(0, &mut far, usize::MAX).await;
    });
    assert!(!far.is_in_order(), "the order of numbers shows what was sent twice");
}
