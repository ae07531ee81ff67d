//! The same asked of several hosts: the first alone, then the others, a line for each.
//!
//! Invariants:
//! 1. When a change fails, no host is begun with any more; who was not is told as not tried.
//! 2. What is no change is asked of every host, whatever the others say.
//! 3. The exit code is that of the first host, in the order asked, that failed.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::{Category, Digest};
use vyr_node::{Report, Result};

use super::nodes::Node;
use crate::output::{self, ErrorFields};

/// In which order hosts are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// The first is waited for before any other is asked.
    pub(super) first_alone: bool,
    /// How many are asked at a time.
    pub(super) at_a_time: usize,
    /// After a failure no other is asked.
    pub(super) stop: bool,
}

impl Order {
    /// For what changes nothing, or only ends a change.
    pub(super) const EACH: Self = Self { first_alone: false, at_a_time: 1, stop: false };
}

/// What one host did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// In one word, or a few.
    pub(super) word: &'static str,
    /// The plan it is about.
    pub(super) plan: Option<Digest>,
    /// Steps that were taken, or what differs.
    pub(super) steps: Vec<String>,
    /// When it is taken back.
    pub(super) deadline: Option<Timestamp>,
    /// It was done, and the answer is no.
    pub(super) is_no: bool,
}

/// Asks each. `tell` is called as answers come; what is none was not tried.
pub(super) fn each<T: Sync, D: Send>(
    order: Order,
    all: &[T],
    ask: impl Fn(&T) -> Result<D> + Sync,
    mut tell: impl FnMut(&T, &Result<D>),
) -> Vec<Option<Result<D>>> {
    let mut answers: Vec<Option<Result<D>>> = all.iter().map(|_| None).collect();
    let stopped = AtomicBool::new(false);
    let one = |of: &T| {
        let answer = ask(of);
        if order.stop && answer.is_err() {
            stopped.store(true, Ordering::SeqCst);
        }
        answer
    };
    let alone = usize::from(order.first_alone && !all.is_empty());
    for (of, place) in all.iter().zip(&mut answers).take(alone) {
        let answer = one(of);
        tell(of, &answer);
        *place = Some(answer);
    }
    let next = AtomicUsize::new(alone);
    let (send, receive) = channel();
    std::thread::scope(|scope| {
        for _ in 0..order.at_a_time.min(all.len().saturating_sub(alone)) {
            let (send, next, stopped, one) = (send.clone(), &next, &stopped, &one);
            scope.spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(of) = all.get(at) else { break };
                    if send.send((at, one(of))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        for (at, answer) in receive {
            tell(&all[at], &answer);
            answers[at] = Some(answer);
        }
    });
    answers
}

#[derive(Serialize)]
struct NodeBody<'a> {
    kind: &'static str,
    node: &'a str,
    outcome: &'a str,
    plan_digest: Option<Digest>,
    steps: &'a [String],
    deadline: Option<Timestamp>,
    error: Option<ErrorFields>,
}

#[derive(Serialize)]
struct SummaryBody {
    kind: &'static str,
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    asked: usize,
    done: usize,
    failed: usize,
    not_tried: usize,
    /// Whether `plans/applied.network` names the plan now.
    advanced: bool,
}

/// Tells what one host did.
pub(super) fn tell(node: &Node, answer: &Result<Done>, json: bool) -> Result<()> {
    let name = node.name.as_str();
    match answer {
        Ok(done) if json => output::json_line(NodeBody {
            kind: "network",
            node: name,
            outcome: done.word,
            plan_digest: done.plan,
            steps: &done.steps,
            deadline: done.deadline,
            error: None,
        }),
        Ok(done) => {
            for step in &done.steps {
                // What would be done, or differs, is the answer; what was done accompanies it.
                match done.is_no || done.word == "shown" {
                    true => output::print(line_of(name, step)),
                    false => output::say(line_of(name, step)),
                }
            }
            output::print(format!("{name}: {}", done.word));
            Ok(())
        }
        Err(report) if json => output::json_line(NodeBody {
            kind: "network",
            node: name,
            outcome: "failed",
            plan_digest: None,
            steps: &[],
            deadline: None,
            error: Some(ErrorFields::of(report)),
        }),
        Err(report) => {
            output::print(format!("{name}: failed: {}", output::visible(&report.to_string())));
            output::beneath(report);
            Ok(())
        }
    }
}

/// A step of a host in one line: it is the host's own text.
fn line_of(name: &str, step: &str) -> String {
    format!("{name}: {}", output::visible(step))
}

/// Tells who was not tried, and how it went together; gives the exit code.
pub(super) fn close(
    nodes: &[Node],
    answers: &[Option<Result<Done>>],
    advanced: bool,
    json: bool,
) -> Result<ExitCode> {
    for (node, _) in nodes.iter().zip(answers).filter(|(_, answer)| answer.is_none()) {
        let (name, outcome) = (node.name.as_str(), "not tried");
        match json {
            true => output::json_line(NodeBody {
                kind: "network",
                node: name,
                outcome,
                plan_digest: None,
                steps: &[],
                deadline: None,
                error: None,
            })?,
            false => output::print(format!("{name}: {outcome}")),
        }
    }
    let count = |wanted: fn(&Option<Result<Done>>) -> bool| {
        answers.iter().filter(|answer| wanted(answer)).count()
    };
    let (failed, not_tried) = (count(|a| matches!(a, Some(Err(_)))), count(Option::is_none));
    let done = answers.len() - failed - not_tried;
    if json {
        let summary = Summary { asked: answers.len(), done, failed, not_tried, advanced };
        output::json_line(SummaryBody { kind: "network", summary })?;
    } else {
        let left = match not_tried {
            0 => String::new(),
            left => format!(", {left} not tried"),
        };
        output::say(format!("{done} of {} done, {failed} failed{left}", answers.len()));
    }
    Ok(match first_failure(answers) {
        Some(category) => ExitCode::from(category.exit_code()),
        None => ExitCode::SUCCESS,
    })
}

fn first_failure(answers: &[Option<std::result::Result<Done, Report>>]) -> Option<Category> {
    answers.iter().flatten().find_map(|answer| match answer {
        Err(report) => Some(report.category()),
        Ok(done) => done.is_no.then_some(Category::Failure),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::nodes::NodesError;
    use super::*;

    /// Asks hosts of which some fail; whom it asked.
    fn asked(order: Order, failing: &[usize]) -> Vec<usize> {
        let asked = Mutex::new(Vec::new());
        let all: Vec<usize> = (0..8).collect();
        let answers = each(
            order,
            &all,
            |at| {
                asked.lock().expect("nobody panics").push(*at);
                match failing.contains(at) {
                    true => Err(NodesError::Nobody.into()),
                    false => Ok(()),
                }
            },
            |_, _| {},
        );
        let mut asked = asked.into_inner().expect("nobody panics");
        asked.sort_unstable();
        let told: Vec<usize> = (0..8).filter(|at| answers[*at].is_some()).collect();
        assert_eq!(asked, told, "who was asked is told so, and nobody else");
        asked
    }

    /// What must hold of a change that fails at the first host, and at the fourth.
    fn stops(order: Order) -> bool {
        asked(order, &[0]) == [0] && asked(order, &[3]) == [0, 1, 2, 3]
    }

    #[test]
    fn a_change_that_fails_is_tried_nowhere_else() {
        let order = Order { first_alone: true, at_a_time: 1, stop: true };
        assert!(stops(order));
        assert!(!stops(Order { stop: false, ..order }), "the judge sees who does not stop");
        let many = Order { at_a_time: 4, ..order };
        assert_eq!(asked(many, &[0]), [0], "the first is alone");
        assert!(asked(Order { first_alone: false, ..many }, &[]).len() == 8);
    }

    #[test]
    fn what_is_no_change_is_asked_of_everybody() {
        assert_eq!(asked(Order::EACH, &[0, 3]).len(), 8);
        assert_eq!(asked(Order { at_a_time: 100, ..Order::EACH }, &[1]).len(), 8);
        assert_eq!(asked(Order { at_a_time: 3, first_alone: true, stop: true }, &[]).len(), 8);
    }

    #[test]
    fn what_a_host_says_moves_no_cursor_and_begins_no_line() {
        let line = line_of("north", "add \u{1b}[2Jpeer\nsouth: confirmed\u{9b}1A");
        assert!(!line.contains(char::is_control), "{line:?}");
        assert_eq!(line, r"north: add \u{1b}[2Jpeer\nsouth: confirmed\u{9b}1A");
    }

    #[test]
    fn the_exit_code_is_that_of_the_first_that_failed() {
        let fail = |error: NodesError| Some(Err(Report::from(error)));
        let no = || Some(Ok(Done { is_no: true, ..Done::default() }));
        let yes = || Some(Ok(Done::default()));
        let missing = || fail(NodesError::Nobody);
        assert_eq!(first_failure(&[yes(), None]), None);
        assert_eq!(first_failure(&[yes(), no(), missing()]), Some(Category::Failure));
        assert_eq!(first_failure(&[missing(), no()]), Some(Category::NotFound));
    }
}
