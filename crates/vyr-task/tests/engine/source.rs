//! Workers that read their jobs themselves: one of them always reads, whatever the others run.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use vyr_task::{CancelHandle, Engine, Job, OnDone, Outcome, Reason, Source, State, Work, Workers};

use crate::support::{engine, guest, load};

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test has read next.
enum Said {
    Work(Work),
    /// Said when this is read.
    Ping(Sender<()>),
    Broken,
}

struct Reader {
    said: Receiver<Said>,
    outcomes: Sender<Outcome>,
    /// How many threads read at once.
    reading: Arc<AtomicUsize>,
}

impl Source for Reader {
    fn next(&mut self, into: &mut VecDeque<(Work, OnDone)>) -> io::Result<bool> {
        assert_eq!(self.reading.fetch_add(1, Ordering::SeqCst), 0, "two threads read");
        let said = self.said.recv();
        self.reading.fetch_sub(1, Ordering::SeqCst);
        match said {
            Ok(Said::Work(work)) => {
                let outcomes = self.outcomes.clone();
                into.push_back((work, Box::new(move |outcome| drop(outcomes.send(outcome)))));
            }
            Ok(Said::Ping(answer)) => drop(answer.send(())),
            Ok(Said::Broken) => return Err(io::Error::other("it broke")),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

type Served = std::thread::JoinHandle<io::Result<()>>;

fn serve(engine: &Engine, threads: usize) -> (Sender<Said>, Receiver<Outcome>, Served) {
    let (say, said) = channel();
    let (done, outcomes) = channel();
    let reader = Reader { said, outcomes: done, reading: Arc::default() };
    let engine = engine.clone();
    let served = std::thread::spawn(move || Workers::serve(&engine, threads, reader, || ()));
    (say, outcomes, served)
}

fn run(job: Job) -> Said {
    Said::Work(Work::Run(Box::new(job)))
}

fn is_read(say: &Sender<Said>) {
    let (answer, answered) = channel();
    say.send(Said::Ping(answer)).expect("somebody reads");
    answered.recv_timeout(PATIENCE).expect("nobody reads");
}

#[test]
fn all_jobs_run_and_the_end_comes_after_them() {
    let engine = engine(4);
    let good = load(&engine, &guest(""));
    let (say, outcomes, served) = serve(&engine, 2);
    for n in 0..500 {
        let said = match n % 5 {
            4 => Said::Work(Work::Known(Outcome::not_run(Reason::Invalid, "no".into()))),
            _ => run(Job::new(Arc::clone(&good))),
        };
        say.send(said).expect("somebody reads");
    }
    drop(say);
    served.join().expect("no panic").expect("no error");
    let ended: Vec<Outcome> = outcomes.iter().collect();
    let completed = ended.iter().filter(|outcome| outcome.state == State::Completed).count();
    assert_eq!((ended.len(), completed), (500, 400));
}

/// As many guests as threads that run, and more: a cancellation has still to be read.
#[test]
fn somebody_reads_while_every_thread_runs() {
    let engine = engine(8);
    let endless = load(&engine, &guest("(loop $again (br $again))"));
    let (say, outcomes, served) = serve(&engine, 2);
    let cancels: Vec<CancelHandle> = (0..6)
        .map(|_| {
            let job = Job::new(Arc::clone(&endless));
            let cancel = job.cancel.clone();
            say.send(run(job)).expect("somebody reads");
            is_read(&say);
            cancel
        })
        .collect();
    assert!(outcomes.try_recv().is_err(), "an endless guest ended");
    cancels.iter().for_each(CancelHandle::cancel);
    for _ in cancels {
        let outcome = outcomes.recv_timeout(PATIENCE).expect("it ends");
        assert_eq!(outcome.state, State::Cancelled, "{outcome:?}");
    }
    is_read(&say);
    drop(say);
    served.join().expect("no panic").expect("no error");
}

#[test]
fn why_a_source_broke_is_told_after_its_jobs_ended() {
    let engine = engine(1);
    let (say, outcomes, served) = serve(&engine, 1);
    say.send(run(Job::new(load(&engine, &guest(""))))).expect("somebody reads");
    say.send(Said::Broken).expect("somebody reads");
    let broken = served.join().expect("no panic").expect_err("it broke");
    assert_eq!(broken.to_string(), "it broke");
    assert_eq!(outcomes.iter().count(), 1);
}

/// An outcome may wait for those that follow it, but not for jobs that never come.
#[test]
fn what_has_ended_is_passed_on_when_nothing_follows() {
    let engine = engine(2);
    let good = load(&engine, &guest(""));
    let ended = Arc::new(AtomicUsize::new(0));
    let (passed, passes) = channel();
    let gathered = Arc::clone(&ended);
    let settled = move || match gathered.swap(0, Ordering::SeqCst) {
        0 => {}
        some => drop(passed.send(some)),
    };
    let workers = Workers::start(&engine, 1, 16, settled).expect("threads");
    for jobs in [1, 6, 1, 12] {
        for _ in 0..jobs {
            let ended = Arc::clone(&ended);
            workers.submit(Job::new(Arc::clone(&good)), move |_| {
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        let mut seen = 0;
        while seen < jobs {
            seen += passes.recv_timeout(PATIENCE).expect("it is passed on");
        }
    }
}
