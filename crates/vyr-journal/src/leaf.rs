//! The leaves of the three events that every task has, written straight into bytes.
//!
//! What an event's canonical form is, its types say, and `serde_json` writes it. It looks at each
//! byte of each string by itself, which was an eighth of the processor time of a busy node's core:
//! most of these bytes are digests, in which nothing needs an escape. The bytes are the same, and a
//! property holds them to that; every other event is left to `serde_json`.

use std::io::Write;

use jiff::Timestamp;
use vyr_base::Digest;

use crate::event::{Accepted, Body, Event, InputRef, Started, StateAccess, StateBinding};
use crate::statement::{
    ArtifactRef, Counted, Limits, NodeInfo, Predicate, SignerRef, Statement, TaskState, Timings,
    Usage,
};

/// Appends the leaf of `event`; `false`: it is of another kind, and nothing was written.
pub(crate) fn write(event: &Event, to: &mut Vec<u8>) -> bool {
    let mut leaf = Leaf(to);
    match &event.body {
        Body::Accepted(accepted) => {
            leaf.raw(r#"{"body":{"event":"task.accepted","payload":"#);
            leaf.accepted(accepted);
        }
        Body::Started(Started { owner, task }) => {
            leaf.raw(r#"{"body":{"event":"task.started","payload":{"owner":"#);
            leaf.string(owner);
            leaf.raw(r#","task":"#);
            leaf.number(*task);
            leaf.raw("}");
        }
        Body::Ended(statement) => {
            leaf.raw(r#"{"body":{"event":"task.ended","payload":"#);
            leaf.statement(statement);
        }
        _ => return false,
    }
    leaf.raw(r#"},"seq":"#);
    leaf.number(event.seq);
    leaf.raw(r#","time":"#);
    leaf.time(event.time);
    leaf.raw(r#","v":"#);
    leaf.number(event.v.into());
    leaf.raw("}");
    true
}

struct Leaf<'a>(&'a mut Vec<u8>);

impl Leaf<'_> {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        // Without a branch in it, so that many bytes are looked at together.
        let escape = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        if text.bytes().fold(false, |any, byte| any | escape(byte)) {
            serde_json::to_writer(&mut *self.0, text)
                .unwrap_or_else(|e| unreachable!("a string is JSON: {e}"));
            return;
        }
        self.raw("\"");
        self.raw(text);
        self.raw("\"");
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                return self.0.extend_from_slice(&digits[start..]);
            }
        }
    }

    /// Something whose text needs no escape.
    fn plain(&mut self, value: impl std::fmt::Display) {
        // Bytes in memory take whatever they are given.
        let _ = write!(self.0, "{value}");
    }

    fn quoted(&mut self, value: impl std::fmt::Display) {
        self.raw("\"");
        self.plain(value);
        self.raw("\"");
    }

    fn digest(&mut self, digest: &Digest) {
        self.quoted(digest);
    }

    fn time(&mut self, time: Timestamp) {
        self.quoted(time);
    }

    fn flag(&mut self, flag: bool) {
        self.raw(if flag { "true" } else { "false" });
    }

    fn or_null<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.raw("null"),
        }
    }

    fn accepted(&mut self, accepted: &Accepted) {
        self.raw(r#"{"artifact":"#);
        self.artifact(&accepted.artifact);
        self.raw(r#","deterministic":"#);
        self.flag(accepted.deterministic);
        self.raw(r#","input":"#);
        self.or_null(accepted.input, |to, InputRef { bytes, digest, inline }| {
            to.raw(r#"{"bytes":"#);
            to.number(bytes);
            to.raw(r#","digest":"#);
            to.digest(&digest);
            to.raw(r#","inline":"#);
            to.flag(inline);
            to.raw("}");
        });
        self.raw(r#","key":"#);
        self.string(&accepted.key);
        self.raw(r#","limits":"#);
        self.limits(&accepted.limits);
        self.raw(r#","priority":"#);
        self.plain(accepted.priority);
        self.raw(r#","signer":"#);
        self.signer(&accepted.signer);
        self.raw(r#","states":["#);
        for (n, binding) in accepted.states.iter().enumerate() {
            if n > 0 {
                self.raw(",");
            }
            self.binding(binding);
        }
        self.raw(r#"],"submitter":"#);
        self.string(&accepted.submitter);
        self.raw(r#","traceparent":"#);
        self.string(&accepted.traceparent);
        self.raw("}");
    }

    fn binding(&mut self, binding: &StateBinding) {
        self.raw(r#"{"access":""#);
        self.raw(match binding.access {
            StateAccess::ReadOnly => "ro",
            StateAccess::ReadWrite => "rw",
        });
        self.raw(r#"","name":"#);
        self.string(&binding.name);
        self.raw(r#","state":"#);
        self.or_null(binding.state, Self::quoted);
        self.raw("}");
    }

    fn statement(&mut self, statement: &Statement) {
        self.raw(r#"{"_type":"#);
        self.string(&statement.kind);
        self.raw(r#","predicate":"#);
        self.predicate(&statement.predicate);
        self.raw(r#","predicateType":"#);
        self.string(&statement.predicate_type);
        self.raw(r#","subject":["#);
        for (n, subject) in statement.subject.iter().enumerate() {
            if n > 0 {
                self.raw(",");
            }
            self.raw(r#"{"digest":{"sha256":"#);
            self.string(&subject.digest.sha256);
            self.raw(r#"},"name":"#);
            self.string(&subject.name);
            self.raw("}");
        }
        self.raw("]}");
    }

    fn predicate(&mut self, predicate: &Predicate) {
        self.raw(r#"{"artifact":"#);
        self.artifact(&predicate.artifact);
        self.raw(r#","deterministic":"#);
        self.flag(predicate.deterministic);
        self.raw(r#","exit_code":"#);
        self.or_null(predicate.exit_code, Self::plain);
        self.raw(r#","input":"#);
        self.counted(&predicate.input);
        self.raw(r#","limits":"#);
        self.limits(&predicate.limits);
        self.raw(r#","message":"#);
        self.or_null(predicate.message.as_deref(), Self::string);
        self.raw(r#","node":{"engine":"#);
        let NodeInfo { engine, guidance, origin, version } = &predicate.node;
        self.string(engine);
        self.raw(r#","guidance":"#);
        self.string(guidance);
        self.raw(r#","origin":"#);
        self.quoted(origin);
        self.raw(r#","version":"#);
        self.string(version);
        self.raw(r#"},"output":"#);
        self.counted(&predicate.output);
        self.raw(r#","reason":"#);
        self.or_null(predicate.reason.as_deref(), Self::string);
        self.raw(r#","signer":"#);
        self.signer(&predicate.signer);
        self.raw(r#","state":""#);
        self.raw(match predicate.state {
            TaskState::Completed => "completed",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        });
        self.raw(r#"","submitter":"#);
        self.string(&predicate.submitter);
        self.raw(r#","task_id":"#);
        self.quoted(predicate.task_id);
        self.raw(r#","timings":{"accepted":"#);
        let Timings { accepted, ended, started } = predicate.timings;
        self.time(accepted);
        self.raw(r#","ended":"#);
        self.time(ended);
        self.raw(r#","started":"#);
        self.or_null(started, Self::time);
        self.raw(r#"},"usage":{"cpu_us":"#);
        let Usage { cpu_us, log_bytes, memory_peak_bytes, run_us } = predicate.usage;
        self.number(cpu_us);
        self.raw(r#","log_bytes":"#);
        self.number(log_bytes);
        self.raw(r#","memory_peak_bytes":"#);
        self.number(memory_peak_bytes);
        self.raw(r#","run_us":"#);
        self.number(run_us);
        self.raw("}}");
    }

    fn artifact(&mut self, ArtifactRef { digest, name }: &ArtifactRef) {
        self.raw(r#"{"digest":"#);
        self.digest(digest);
        self.raw(r#","name":"#);
        self.string(name);
        self.raw("}");
    }

    fn counted(&mut self, Counted { bytes, complete, digest }: &Counted) {
        self.raw(r#"{"bytes":"#);
        self.number(*bytes);
        self.raw(r#","complete":"#);
        self.flag(*complete);
        self.raw(r#","digest":"#);
        self.digest(digest);
        self.raw("}");
    }

    fn limits(&mut self, limits: &Limits) {
        let Limits { cpu_ms, deadline_ms, memory_bytes, output_bytes_max } = *limits;
        self.raw(r#"{"cpu_ms":"#);
        self.number(cpu_ms);
        self.raw(r#","deadline_ms":"#);
        self.number(deadline_ms);
        self.raw(r#","memory_bytes":"#);
        self.number(memory_bytes);
        self.raw(r#","output_bytes_max":"#);
        self.number(output_bytes_max);
        self.raw("}");
    }

    fn signer(&mut self, SignerRef { dev, key_id, principal }: &SignerRef) {
        self.raw(r#"{"dev":"#);
        self.flag(*dev);
        self.raw(r#","key_id":"#);
        self.string(key_id);
        self.raw(r#","principal":"#);
        self.string(principal);
        self.raw("}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::tests::{at, one_of_each, origin, statement};
    use crate::ids::StateId;
    use proptest::prelude::*;

    fn written(body: Body, seq: u64, time: Timestamp) -> (Option<String>, String) {
        let event = Event { body, seq, time, v: crate::event::EVENT_VERSION };
        let mut leaf = b"before ".to_vec();
        let known = write(&event, &mut leaf);
        let leaf = String::from_utf8(leaf).expect("UTF-8");
        let plain = serde_json::to_string(&event).expect("JSON");
        (known.then(|| leaf.strip_prefix("before ").expect("appended").to_owned()), plain)
    }

    #[test]
    fn the_three_events_of_every_task_are_written_here() {
        let known: Vec<bool> = one_of_each()
            .into_iter()
            .map(|event| {
                let (leaf, plain) = written(event.body, event.seq, event.time);
                if let Some(leaf) = &leaf {
                    assert_eq!(*leaf, plain);
                }
                leaf.is_some()
            })
            .collect();
        assert_eq!(known.iter().filter(|known| **known).count(), 3);
    }

    /// Controls, quotes, backslashes and letters of all sizes, in places vectors reach and not.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            ".{0,40}",
            "[ -~]{0,80}",
            prop::collection::vec(any::<char>(), 0..40).prop_map(|all| all.into_iter().collect()),
            prop::sample::select(vec!["\0", "\"", "\\", "\u{7f}", "\u{2028}", "\n", "/"])
                .prop_map(str::to_owned),
        ]
    }

    fn texts<const N: usize>() -> impl Strategy<Value = [String; N]> {
        prop::collection::vec(text(), N).prop_map(|all| {
            all.try_into().unwrap_or_else(|_| unreachable!("as many as were asked for"))
        })
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        let second = Timestamp::MIN.as_second()..Timestamp::MAX.as_second();
        (second, 0..1_000_000_000i32).prop_map(|(second, nano)| {
            Timestamp::new(second, nano - nano % 1_000).unwrap_or_else(|_| at(0))
        })
    }

    proptest! {
        #[test]
        fn an_acceptance_is_as_serde_writes_it(
            [name, key, key_id, principal, submitter, traceparent, state] in texts::<7>(),
            numbers in any::<[u64; 6]>(),
            priority in any::<i32>(),
            flags in any::<[bool; 5]>(),
            states in 0..3usize,
            time in time(),
        ) {
            let digest = Digest::of(name.as_bytes());
            let some = StateBinding {
                access: if flags[0] { StateAccess::ReadOnly } else { StateAccess::ReadWrite },
                name: state,
                state: flags[1].then(|| StateId::new(origin(), numbers[4])),
            };
            let body = Body::Accepted(Arc::new(Accepted {
                artifact: ArtifactRef { digest, name },
                deterministic: flags[2],
                input: flags[3].then_some(InputRef { bytes: numbers[5], digest, inline: flags[4] }),
                key,
                limits: Limits {
                    cpu_ms: numbers[0],
                    deadline_ms: numbers[1],
                    memory_bytes: numbers[2],
                    output_bytes_max: numbers[3],
                },
                priority,
                signer: SignerRef { dev: flags[0], key_id, principal },
                states: vec![some; states],
                submitter,
                traceparent,
            }));
            let (leaf, plain) = written(body, numbers[0], time);
            prop_assert_eq!(leaf, Some(plain));
        }

        #[test]
        fn a_start_is_as_serde_writes_it(owner in text(), task: u64, seq: u64, time in time()) {
            let (leaf, plain) = written(Body::Started(Started { owner, task }), seq, time);
            prop_assert_eq!(leaf, Some(plain));
        }

        #[test]
        fn an_end_is_as_serde_writes_it(
            [kind, name, message, engine, version, reason] in texts::<6>(),
            numbers in any::<[u64; 6]>(),
            exit_code in any::<Option<i32>>(),
            flags in any::<[bool; 5]>(),
            state in prop::sample::select(vec![
                TaskState::Completed, TaskState::Failed, TaskState::Cancelled,
            ]),
            times in [time(), time(), time()],
        ) {
            let mut ended = statement(numbers[0]);
            ended.kind = kind;
            ended.subject[0].name = name;
            if flags[0] {
                ended.subject.push(ended.subject[0].clone());
            }
            let of = &mut ended.predicate;
            (of.deterministic, of.exit_code, of.state) = (flags[1], exit_code, state);
            of.message = flags[2].then_some(message);
            of.reason = flags[3].then_some(reason);
            (of.node.engine, of.node.version) = (engine, version);
            of.output.bytes = numbers[1];
            of.output.complete = flags[4];
            of.usage = Usage {
                cpu_us: numbers[2],
                log_bytes: numbers[3],
                memory_peak_bytes: numbers[4],
                run_us: numbers[5],
            };
            of.timings = Timings {
                accepted: times[0],
                ended: times[1],
                started: flags[0].then_some(times[2]),
            };
            let (leaf, plain) = written(Body::Ended(Box::new(ended)), numbers[1], times[0]);
            prop_assert_eq!(leaf, Some(plain));
        }
    }
}
