//! Threads, not tasks: what the kernel knows, seen from outside.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};

use morpheus::{Options, tokio as guided};
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, not_run};

const WORKERS: usize = 4;
const TASKS: u64 = 10_000;

/// The maps that this process has open: number and name, and how often it does.
fn open_maps() -> BTreeMap<u32, String> {
    let files = std::fs::read_dir("/proc/self/fdinfo").expect("descriptors");
    let number = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
        line.trim().parse::<u32>().ok()
    };
    files
        .filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok())
        .filter_map(|text| number(&text))
        .map(|id| (id, bpftool(&["map", "show", "id", &id.to_string()])))
        .filter_map(|(id, shown)| Some((id, string(&shown, "name")?)))
        .collect()
}

/// What bpftool says, as JSON.
fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").arg("--json").args(arguments).output().expect("it starts");
    String::from_utf8(output.stdout).expect("text")
}

/// A field of a flat JSON object that holds a string.
fn string(json: &str, field: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{field}\":\""))?;
    rest.split_once('"').map(|(text, _)| text.to_owned())
}

/// A field of a flat JSON object that holds a number.
fn number(json: &str, field: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{field}\":"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The flat objects of a JSON array of them.
fn objects(json: &str) -> impl Iterator<Item = &str> {
    json.split('{').skip(1)
}

/// The entries of a map. An entry of bpftool's has one key.
fn entries(id: u32) -> usize {
    let dump = bpftool(&["map", "dump", "id", &id.to_string()]);
    dump.matches("\"key\":").count().max(1) / if dump.contains("\"formatted\"") { 2 } else { 1 }
}

#[test]
fn the_kernel_knows_of_workers_and_of_no_tasks() {
    if Command::new("bpftool").arg("version").output().is_err() {
        return not_run("bpftool is not installed");
    }
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let on_hint: Box<dyn Fn() + Send + Sync> = Box::new(|| {});
    let options = Options { workers: WORKERS, on_hint: Some(on_hint), ..Default::default() };
    let guidance = place.guidance(options);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    guided::guide(builder.worker_threads(WORKERS), &guidance);
    let runtime = builder.build().expect("a runtime");
    // All workers at once, so that each is registered by a task of its own.
    let all = Arc::new(Barrier::new(WORKERS + 1));
    for _ in 0..WORKERS {
        let all = Arc::clone(&all);
        runtime.spawn(async move {
            guided::checkpoint().await;
            all.wait();
        });
    }
    all.wait();
    let registered = || guidance.report().workers.iter().filter(|w| w.registered).count();
    assert_eq!(registered(), WORKERS);

    // Only the kernel holds the map of the blocks open. Nobody else here has four workers.
    let own: Vec<u32> = objects(&bpftool(&["map", "show"]))
        .filter(|map| string(map, "name").as_deref() == Some("blocks"))
        .filter(|map| number(map, "max_entries") == Some(WORKERS as u64))
        .filter_map(|map| u32::try_from(number(map, "id")?).ok())
        .collect();
    let [blocks] = own[..] else { panic!("{own:?} is not one map of our blocks") };
    assert_eq!(entries(blocks), WORKERS);

    let (ran, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    for _ in 0..TASKS {
        let (ran, stop) = (Arc::clone(&ran), Arc::clone(&stop));
        // One that is there until the end, as most of them would be in a program that waits.
        runtime.spawn(async move {
            guided::checkpoint().await;
            ran.fetch_add(1, Relaxed);
            while !stop.load(Relaxed) {
                tokio::task::yield_now().await;
            }
        });
    }
    crate::place::until("all tasks are there", || ran.load(Relaxed) == TASKS);
    assert_eq!(entries(blocks), WORKERS, "entries while {TASKS} tasks are there");
    let while_they_run = open_maps();
    stop.store(true, Relaxed);
    runtime.shutdown_timeout(std::time::Duration::from_secs(20));
    assert_eq!(entries(blocks), WORKERS, "entries after {TASKS} tasks");
    assert_eq!(registered(), 0);

    let mut names: Vec<&str> = while_they_run.values().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let known = ["bell", "bells", "morpheus.rodata", "processes", "running", "workers"];
    assert_eq!(names, known, "maps of this process");
}
