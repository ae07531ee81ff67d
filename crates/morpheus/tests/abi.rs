//! `bpf/morpheus.h` and the control block in Rust are the same memory: a C compiler says where each
//! field of the header is and what each constant is, and it is compared with what Rust says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use morpheus::{Block, Hints, Reason, Runtime, State, Yield};

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/morpheus.h");

/// The name of each figure in C, and what it is in Rust.
fn figures() -> Vec<(String, u64)> {
    macro_rules! fields {
        ($c:literal, $rust:ty: $($field:ident),*) => {
            vec![
                (format!("sizeof(struct {})", $c), size_of::<$rust>()),
                $((
                    format!("offsetof(struct {}, {})", $c, stringify!($field)),
                    offset_of!($rust, $field),
                ), (
                    format!("sizeof(((struct {} *)0)->{})", $c, stringify!($field)),
                    // All fields of a line are atomic integers, whose sizes are those of integers.
                    size_of_field(|block: &$rust| size_of_val(&block.$field)),
                )),*
            ]
        };
    }
    let places = [
        fields!("morpheus_hints", Hints: preempt_seq, generation, pressure, reserved_word, psi, timer,
            deadline_ns, own, reserved_near, hint_ns, reason, reserved_half, budget_remaining_ns, kernel,
            dropped, looks, critical_looks),
        fields!("morpheus_runtime", Runtime: ack_seq, critical_depth, state, escapable, backlog,
            yield_reason, slice_ns, turn_ns, yields),
        fields!("morpheus_block", Block: hints, runtime),
    ];
    let mut figures: Vec<(String, u64)> =
        places.concat().into_iter().map(|(name, size)| (name, size as u64)).collect();
    let constants = [
        ("MORPHEUS_ABI", u64::from(morpheus::ABI)),
        ("MORPHEUS_LINE", size_of::<Hints>() as u64),
        ("MORPHEUS_BLOCK", size_of::<Block>() as u64),
        ("MORPHEUS_WORKERS_MAX", morpheus::wire::WORKERS_MAX as u64),
        ("MORPHEUS_PROCESSES_MAX", morpheus::wire::PROCESSES_MAX as u64),
        ("MORPHEUS_SLICE_MIN", morpheus::SLICE_MIN_NS),
        ("MORPHEUS_SLICE_DEFAULT", morpheus::SLICE_DEFAULT_NS),
        ("MORPHEUS_SLICE_MAX", morpheus::SLICE_MAX_NS),
        ("MORPHEUS_NO_REASON", 0),
        ("MORPHEUS_SLICE", Reason::Slice as u64),
        ("MORPHEUS_BACKLOG", Reason::Backlog as u64),
        ("MORPHEUS_WAKEUP", Reason::Wakeup as u64),
        ("MORPHEUS_PRESSURE", Reason::Pressure as u64),
        ("MORPHEUS_TIMER", Reason::Timer as u64),
        ("MORPHEUS_FREE", State::Free as u64),
        ("MORPHEUS_IDLE", State::Idle as u64),
        ("MORPHEUS_RUNNING", State::Running as u64),
        ("MORPHEUS_NOT_YIELDED", 0),
        ("MORPHEUS_YIELD_HINT", Yield::Hint as u64),
        ("MORPHEUS_YIELD_BUDGET", Yield::Budget as u64),
        ("MORPHEUS_YIELD_ASKED", Yield::Asked as u64),
        ("MORPHEUS_ESCAPABLE", 1),
    ];
    figures.extend(constants.map(|(name, value)| (name.to_owned(), value)));
    figures
}

/// The size of a field, by a look at a block that nobody has.
fn size_of_field<T>(look: impl Fn(&T) -> usize) -> usize
where
    Block: Part<T>,
{
    look(Block::new().part())
}

/// A block has one of each of its parts.
trait Part<T> {
    fn part(&self) -> &T;
}

impl Part<Hints> for Block {
    fn part(&self) -> &Hints {
        &self.hints
    }
}

impl Part<Runtime> for Block {
    fn part(&self) -> &Runtime {
        &self.runtime
    }
}

impl Part<Self> for Block {
    fn part(&self) -> &Self {
        self
    }
}

/// What a C compiler makes of the same names with that header.
fn compiled(twin: &str, header: &str) -> BTreeMap<String, u64> {
    let mut program = String::from("#include <stdio.h>\n#include <stddef.h>\n");
    program += "#include \"morpheus.h\"\nint main(void) {\n";
    for (name, _) in figures() {
        writeln!(program, "printf(\"%s=%llu\\n\", \"{name}\", (unsigned long long)({name}));")
            .expect("text");
    }
    program += "}\n";
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("abi-{}-{twin}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("morpheus.h"), header).expect("a header");
    std::fs::write(directory.join("abi.c"), program).expect("a source");
    let gcc = Command::new("gcc")
        .current_dir(&directory)
        .args(["-std=c11", "-Wall", "-Werror", "-o", "abi", "abi.c"])
        .output()
        .expect("gcc starts");
    assert!(gcc.status.success(), "{}", String::from_utf8_lossy(&gcc.stderr));
    let output = Command::new(directory.join("abi")).output().expect("it starts");
    std::fs::remove_dir_all(directory).expect("it was there");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once('=').expect("a figure");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn has_gcc() -> bool {
    if Command::new("gcc").arg("--version").output().is_ok() {
        return true;
    }
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    println!("{name}: not run: gcc is not installed");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log);
        std::io::Write::write_all(
            &mut log.expect("a log"),
            format!("{name}: gcc is not installed\n").as_bytes(),
        )
        .expect("a line");
    }
    false
}

fn differences(c: &BTreeMap<String, u64>) -> Vec<String> {
    figures()
        .into_iter()
        .filter(|(name, rust)| c.get(name) != Some(rust))
        .map(|(name, rust)| format!("{name}: {:?} in C, {rust} in Rust", c.get(&name)))
        .collect()
}

#[test]
fn the_header_and_the_control_block_are_the_same() {
    if !has_gcc() {
        return;
    }
    let header = std::fs::read_to_string(HEADER).expect("the header");
    assert_eq!(differences(&compiled("same", &header)), Vec::<String>::new());
    let pressure = "unsigned int pressure;";
    let generation = "unsigned int generation;";
    let moved =
        header.replace(pressure, "?").replace(generation, pressure).replace('?', generation);
    assert_eq!(differences(&compiled("moved", &moved)).len(), 2, "two fields changed places");
    let renumbered = header.replace("MORPHEUS_BACKLOG = 2", "MORPHEUS_BACKLOG = 20");
    assert_eq!(differences(&compiled("renumbered", &renumbered)).len(), 1, "a number changed");
}

/// Whoever adds a name to the header adds it here.
#[test]
fn every_name_of_the_header_is_compared() {
    let header = std::fs::read_to_string(HEADER).expect("the header");
    let known: Vec<String> = figures().into_iter().map(|(name, _)| name).collect();
    // What says how the header is written, and processors, which only the programs count.
    let own = ["MORPHEUS_H", "MORPHEUS_ASSERT", "MORPHEUS_CPUS_MAX"];
    let words = header.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    for word in words.filter(|word| word.starts_with("MORPHEUS_")) {
        assert!(own.contains(&word) || known.iter().any(|name| name == word), "{word}");
    }
    let fields = header.lines().filter_map(|line| {
        let line = line.trim();
        let of = ["unsigned ", "struct "].iter().any(|start| line.starts_with(start));
        let name = line.strip_suffix(';')?.rsplit(' ').next()?;
        (of && !name.contains([']', '*'])).then_some(name)
    });
    let mut count = 0;
    for field in fields {
        count += 1;
        let end = format!(", {field})");
        assert!(known.iter().any(|name| name.ends_with(&end)), "{field}");
    }
    assert_eq!(count, 27, "fields that were found");
}
