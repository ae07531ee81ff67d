//! Guidance of the threads that run guests: it may change when they run, never what they say.

use std::collections::BTreeMap;

use vyr_api::Client;
use vyr_api::control::{CreateStateRequest, Mode, StateBinding, SubmitTaskRequest, TaskState};
use vyr_api::operator::{GetGuidanceRequest, Guidance, GuidedWorker};

use crate::place::{Daemon, Place, block, ended, guest, kill, not_run, run, submission, until};

/// Computes for a while (a round is about a millisecond), then prints eight bytes that depend on it.
fn sum(rounds: u32) -> String {
    format!(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export \"memory\") 1)
        (func (export \"_start\") (local $n i64) (local $x i64)
            (local.set $n (i64.const {rounds}000000))
            (loop $l
                (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 6364136223846793005))
                    (local.get $n)))
                (local.set $n (i64.sub (local.get $n) (i64.const 1)))
                (br_if $l (i64.ne (local.get $n) (i64.const 0))))
            (i64.store (i32.const 16) (local.get $x))
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 8))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"
    )
}

async fn guidance(client: &mut Client) -> Guidance {
    client.operator.get_guidance(GetGuidanceRequest {}).await.expect("an answer").into_inner()
}

fn total(guidance: &Guidance, of: fn(&GuidedWorker) -> u64) -> u64 {
    guidance.workers.iter().map(of).sum()
}

fn timer_hints(worker: &GuidedWorker) -> u64 {
    worker.timer_hints
}

fn kernel_hints(worker: &GuidedWorker) -> u64 {
    worker.kernel_hints
}

/// Waits until the tier is `tier`; the reason for another one, if that is all this machine has.
async fn reach(client: &mut Client, tier: &str) -> Result<(), String> {
    until("an answer that is final", async || {
        let found = guidance(client).await;
        match found.tier == tier {
            true => Some(Ok(())),
            // It comes when the process `guide` has loaded its programs, or has said why not.
            false if found.tier == "timer" || found.why.contains("being asked") => None,
            false => Some(Err(found.why)),
        }
    })
    .await
}

/// Runs all guests there are, several at once so that they wait for each other, and a hog between
/// them: the digest of what each wrote.
async fn outputs(place: &Place, daemon: &Daemon) -> BTreeMap<String, String> {
    let mut client = daemon.client().await;
    let mut requests: Vec<(String, SubmitTaskRequest)> = Vec::new();
    for preview in ["wasip1", "wasip2"] {
        for (name, arguments, input) in [
            ("hello", &[][..], &b""[..]),
            ("nop", &[], b""),
            ("probe", &["echo"], b"what goes in comes out\n"),
            ("probe", &["output", "40000"], b""),
            ("probe", &["recurse", "1000"], b""),
            ("transform", &["--count-by", "kind"], b"{\"kind\":\"a\"}\n{\"kind\":\"b\"}\n"),
        ] {
            let file = guest(&format!("{name}.{preview}"));
            let options: Vec<&str> =
                arguments.iter().flat_map(|argument| ["--arg", argument]).collect();
            let artifact = place.put(name, &file, &options);
            let label = format!("{name} {arguments:?} {preview}");
            requests.push((label, submission(&artifact, input, "")));
        }
        let options = ["--state", "s", "--arg", "write /state/s/x one", "--arg", "read /state/s/x"];
        let states = place.put("states", &guest(&format!("states.{preview}")), &options);
        let state = CreateStateRequest { name: "s".into(), ..Default::default() };
        let state = client.control.create_state(state).await.expect("made").into_inner().state_id;
        let bindings = vec![StateBinding { state_id: state, mode: Mode::Rw.into() }];
        let request =
            SubmitTaskRequest { state_bindings: bindings, ..submission(&states, b"", "") };
        requests.push((format!("states {preview}"), request));
    }
    for rounds in [40, 41, 42, 43] {
        let artifact = place.put_text(&format!("sum{rounds}"), &sum(rounds), &[]);
        requests.push((format!("sum {rounds}"), submission(&artifact, b"", "")));
    }
    let mut tasks = Vec::new();
    for (name, request) in requests {
        tasks.push((name, client.submit_request(request).await.expect("accepted")));
    }
    let mut outputs = BTreeMap::new();
    for (name, task) in tasks {
        let end = ended(&mut client, &task).await;
        assert_eq!(end.state(), TaskState::Completed, "{name}: {end:?}");
        outputs.insert(name, end.output_digest);
    }
    outputs
}

#[test]
fn a_guest_says_the_same_in_every_tier() {
    const TEST: &str = "guidance::a_guest_says_the_same_in_every_tier";
    block(async {
        let mut said = BTreeMap::new();
        for wanted in ["off", "psi", "observe"] {
            let place = Place::new();
            place.config(&format!("[node]\nworkers = 2\nslots = 8\nguidance = \"{wanted}\"\n"));
            let daemon = place.ready().await;
            let mut client = daemon.client().await;
            if let Err(why) = reach(&mut client, wanted).await {
                not_run(TEST, &format!("the tier {wanted}: {why}"));
                continue;
            }
            let outputs = outputs(&place, &daemon).await;
            assert!(outputs.len() >= 18, "{outputs:?}");
            let seen = guidance(&mut client).await;
            assert_eq!(seen.tier, wanted);
            // Not the timer's: nobody was asked to stand in.
            assert_eq!(total(&seen, timer_hints), 0, "{seen:?}");
            if wanted != "observe" {
                assert_eq!(total(&seen, kernel_hints), 0, "{seen:?}");
            }
            said.insert(wanted, outputs);
            assert!(daemon.stop().success());
        }
        let first = &said["off"];
        // Another sum would have been seen.
        assert_ne!(first["sum 40"], first["sum 41"]);
        for (tier, outputs) in &said {
            assert_eq!(outputs, first, "{tier} and off");
        }
    });
}

#[test]
fn when_guide_is_killed_a_timer_takes_over_and_outputs_stay() {
    const TEST: &str = "guidance::when_guide_is_killed_a_timer_takes_over_and_outputs_stay";
    let place = Place::new();
    place.config("[node]\nworkers = 1\nslots = 4\n");
    let long = place.put_text("long", &sum(1500), &[]);
    let short = place.put_text("short", &sum(1), &[]);
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        if let Err(why) = reach(&mut client, "observe").await {
            return not_run(TEST, &format!("the tier observe: {why}"));
        }
        let alone = run(&mut client, submission(&long, b"", "")).await;
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let task = client.submit_request(submission(&long, b"", "")).await;
            tasks.push(task.expect("accepted"));
        }
        until("hints of the kernel", async || {
            (total(&guidance(&mut client).await, kernel_hints) > 0).then_some(())
        })
        .await;
        kill(daemon.process("guide", None).await);
        until("the timer", async || (guidance(&mut client).await.tier == "timer").then_some(()))
            .await;
        let frozen = total(&guidance(&mut client).await, kernel_hints);
        run(&mut client, submission(&short, b"", "")).await;
        until("a hint of the timer", async || {
            (total(&guidance(&mut client).await, timer_hints) > 0).then_some(())
        })
        .await;
        for task in tasks {
            let end = ended(&mut client, &task).await;
            assert_eq!(end.state(), TaskState::Completed, "{end:?}");
            assert_eq!(end.output_digest, alone.output_digest);
        }
        let after = guidance(&mut client).await;
        assert_eq!(total(&after, kernel_hints), frozen, "the programs have gone: {after:?}");
        let status = daemon.status().await;
        let said = &status.settings["guidance"];
        assert!(said.starts_with("timer"), "{said}");
        assert!(daemon.stop().success());
    });
}

#[test]
fn where_guidance_is_off_nobody_is_hinted_and_there_is_no_guide() {
    let place = Place::new();
    place.config("[node]\nworkers = 1\nslots = 4\nguidance = \"off\"\n");
    let long = place.put_text("long", &sum(100), &[]);
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let task = client.submit_request(submission(&long, b"", "")).await;
            tasks.push(task.expect("accepted"));
        }
        for task in tasks {
            assert_eq!(ended(&mut client, &task).await.state(), TaskState::Completed);
        }
        let seen = guidance(&mut client).await;
        assert_eq!(seen.tier, "off");
        let hints = |worker: &GuidedWorker| {
            worker.kernel_hints + worker.psi_hints + worker.timer_hints + worker.own_hints
        };
        assert_eq!(total(&seen, hints), 0, "{seen:?}");
        let processes = daemon.status().await.processes;
        assert!(processes.iter().all(|process| process.name != "guide"), "{processes:?}");
        assert!(daemon.stop().success());
    });
}
