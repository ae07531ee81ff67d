//! The kernel's programs: what they may know, where they may stand and what they may call.
//!
//! Maps are keyed by what is on this list and by nothing else: a thread, a processor, a process.
//! There is no key for a task. The calls on the list read and count; none of them stops, moves or
//! slows a thread, allocates, or reads a process's memory.

use std::path::Path;

use crate::fault::Fault;
use crate::repo::Repo;

const C: &str = "bpf/morpheus.bpf.c";
const RUST: &str = "crates/morpheus-bpf/src";

/// A map: its name, its type, the type of its key, and what the key stands for.
struct Known {
    name: &'static str,
    kind: &'static str,
    key: &'static str,
    /// For who reads this list.
    _stands_for: &'static str,
}

const MAPS: &[Known] = &[
    Known { name: "workers", kind: "TASK_STORAGE", key: "int", _stands_for: "a thread, by pidfd" },
    Known { name: "running", kind: "ARRAY", key: "u32", _stands_for: "a processor" },
    Known { name: "processes", kind: "ARRAY_OF_MAPS", key: "u32", _stands_for: "a process" },
    Known { name: "bells", kind: "ARRAY_OF_MAPS", key: "u32", _stands_for: "a process" },
];

/// Maps made at run time, to be in those of maps: a worker's number, and no key at all.
const MADE: &[(&str, &str)] = &[("blocks", "Array"), ("bell", "RingBuf")];

/// Where programs are attached: places that look on.
const PLACES: &[&str] =
    &["tp_btf/sched_switch", "?tp_btf/sched_switch", "tp_btf/sched_wakeup", "perf_event"];

/// What they call, with the headers that declare it and a field that is named alike.
const CALLS: &[&str] = &[
    "bpf_core_field_exists",
    "bpf_core_read",
    "bpf_get_current_task_btf",
    "bpf_get_smp_processor_id",
    "bpf_helpers",
    "bpf_ktime_get_ns",
    "bpf_map_lookup_elem",
    "bpf_ringbuf_output",
    "bpf_storage",
    "bpf_task_storage_get",
    "bpf_tracing",
];

/// Compares the sources with the lists.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Vec<Fault>> {
    let text = repo.read(C)?;
    let mut faults = in_c(&text);
    faults.extend(acts_in_c(&text));
    for path in repo.paths()? {
        if path.starts_with(RUST) && Path::new(&path).extension().is_some_and(|e| e == "rs") {
            faults.extend(in_rust(&path, &repo.read(&path)?));
        }
    }
    Ok(faults)
}

/// Each definition ends with `} name SEC(".maps")`, and begins with the `struct` before it.
fn in_c(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut left: Vec<&str> = MAPS.iter().map(|known| known.name).collect();
    let lines: Vec<&str> = text.lines().collect();
    for (end, line) in lines.iter().enumerate() {
        if !line.contains("SEC(\".maps\")") {
            continue;
        }
        let fault = |what: String| Fault::line(C, end + 1, what);
        let name = line.trim_start_matches(['}', ' ']).split(' ').next().unwrap_or_default();
        let Some(known) = MAPS.iter().find(|known| known.name == name) else {
            faults.push(fault(format!("the map `{name}` is not on the list of xtask/src/bpf.rs")));
            continue;
        };
        left.retain(|other| *other != name);
        let begin = lines[..end].iter().rposition(|line| line.starts_with("struct")).unwrap_or(end);
        let body = lines[begin..end].join("\n");
        let inside = |call: &str| -> Option<String> {
            let (_, rest) = body.split_once(call)?;
            Some(rest.split_once(')')?.0.trim().to_owned())
        };
        let kind = inside("__uint(type, BPF_MAP_TYPE_").unwrap_or_default();
        let key = inside("__type(key,").unwrap_or_default();
        if (kind.as_str(), key.as_str()) != (known.kind, known.key) {
            let Known { kind: expected, key: of, .. } = known;
            faults.push(fault(format!(
                "the map `{name}` is {kind} by `{key}`, not {expected} by `{of}`"
            )));
        }
    }
    faults.extend(left.iter().map(|name| Fault::new(C, format!("the map `{name}` is gone"))));
    faults
}

/// Each section is a known place, each word that begins like a helper's name is a known call.
fn acts_in_c(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut fault = |what: String| faults.push(Fault::line(C, number + 1, what));
        for (place, _) in line.match_indices("SEC(\"") {
            let name = line[place + 5..].split('"').next().unwrap_or_default();
            if ![".maps", "license"].contains(&name) && !PLACES.contains(&name) {
                fault(format!("`{name}` is no place on the list of xtask/src/bpf.rs"));
            }
        }
        for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let helper = word.starts_with("bpf_") || word.starts_with("scx_bpf_");
            if helper && !CALLS.contains(&word) {
                fault(format!("`{word}` is no call on the list of xtask/src/bpf.rs"));
            }
        }
    }
    faults
}

/// Maps made from Rust name their type.
fn in_rust(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (place, _) in line.match_indices("MapType::") {
            let rest = &line[place + "MapType::".len()..];
            let word = |text: &str| -> String {
                text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            };
            let kind = word(rest);
            let name = rest.split_once('"').map(|(_, name)| word(name)).unwrap_or_default();
            if !MADE.contains(&(name.as_str(), kind.as_str())) {
                let what = format!("the map `{name}` ({kind}) is not on the list");
                faults.push(Fault::line(path, number + 1, what));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../bpf/morpheus.bpf.c");

    #[test]
    fn the_programs_have_the_maps_of_the_list() {
        assert!(in_c(GOOD).is_empty());
    }

    #[test]
    fn a_map_by_task_is_refused() {
        let more = "struct {\n    __uint(type, BPF_MAP_TYPE_HASH);\n    __type(key, u64);\n} tasks SEC(\".maps\");\n";
        let faults = in_c(&format!("{GOOD}{more}"));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].to_string().contains("`tasks` is not on the list"), "{}", faults[0]);
    }

    #[test]
    fn another_key_or_type_or_a_missing_map_is_refused() {
        for (from, to) in [
            ("__type(key, int);", "__type(key, u64);"),
            ("BPF_MAP_TYPE_TASK_STORAGE", "BPF_MAP_TYPE_HASH"),
            ("} running SEC(\".maps\");", "} running;"),
        ] {
            let changed = GOOD.replacen(from, to, 1);
            assert_ne!(changed, GOOD);
            assert_eq!(in_c(&changed).len(), 1, "{from}");
        }
    }

    #[test]
    fn a_program_that_could_act_is_refused() {
        assert!(acts_in_c(GOOD).is_empty());
        for more in [
            "SEC(\"struct_ops/enqueue\") int f(void) { return 0; }",
            "int f(void) { return bpf_send_signal(9); }",
            "int f(void *at) { return bpf_probe_read_user(&x, 8, at); }",
            "int f(void) { scx_bpf_kick_cpu(0, 0); }",
        ] {
            assert_eq!(acts_in_c(&format!("{GOOD}{more}\n")).len(), 1, "{more}");
        }
    }

    #[test]
    fn a_map_made_from_rust_must_be_known_too() {
        assert!(in_rust("a.rs", "map(MapType::Array, \"blocks\", 4)").is_empty());
        assert_eq!(in_rust("a.rs", "map(MapType::Hash, \"tasks\", 8)").len(), 1);
    }
}
