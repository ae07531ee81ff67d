//! A checkpoint without a hint calls nothing: the machine code of `examples/checkpoint.rs`, built as
//! a program of somebody else's would be, in release.
//!
//! The paths of a function that pass no call must contain its loop and its end. So the call to what
//! answers a hint is beside the loop, behind a branch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// An instruction: what it does, and its operands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Instruction {
    name: String,
    operands: String,
}

/// How an instruction goes on.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Call,
    Jump(u64),
    /// To there, or on.
    Branch(u64),
    Return,
}

impl Instruction {
    /// On processors of which this test knows the words.
    fn flow(&self) -> Flow {
        let name = self.name.as_str();
        // `cbz x0, 1234 <f+0x10>`, `jmp 1234 <f+0x10>`.
        let target = self.operands.split(" <").next().unwrap_or("");
        let target = target.rsplit([' ', ',']).next().unwrap_or("").trim_start_matches("0x");
        let target = || u64::from_str_radix(target, 16).unwrap_or(0);
        match name {
            "call" | "bl" | "blr" | "syscall" | "sysenter" | "int" | "svc" => Flow::Call,
            "ret" => Flow::Return,
            // A tail call leaves, too; where it goes to is not in the function.
            "jmp" | "b" => Flow::Jump(target()),
            "cbz" | "cbnz" | "tbz" | "tbnz" => Flow::Branch(target()),
            _ if name.starts_with("b.") => Flow::Branch(target()),
            _ if name.starts_with('j') => Flow::Branch(target()),
            _ => Flow::Next,
        }
    }
}

type Code = BTreeMap<u64, Instruction>;

/// The instructions of the function whose symbol ends in that name, as `objdump -d` writes them.
fn function(listing: &str, name: &str) -> Code {
    let length = format!("{}{name}", name.len());
    let head = |line: &&str| line.ends_with(">:") && line.contains(&length);
    let mut lines = listing.lines().skip_while(|line| !head(line)).skip(1);
    let mut code = Code::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let (address, text) = line.trim().split_once(':').expect("an address");
        let address = u64::from_str_radix(address, 16).expect("an address");
        // What stands before an instruction is of it.
        let words = text.split_whitespace().filter(|word| !["lock", "rep", "bnd"].contains(word));
        let mut words = words.map(str::to_owned);
        let Some(name) = words.next() else { continue };
        let operands = words.collect::<Vec<_>>().join(" ");
        code.insert(address, Instruction { name, operands });
    }
    code
}

/// Whether a loop and the end can be reached from the beginning without a call.
fn is_free_of_calls(code: &Code) -> bool {
    let next = |at: u64| code.range(at + 1..).next().map(|(address, _)| *address);
    let mut ways: Vec<u64> = code.keys().next().copied().into_iter().collect();
    let (mut seen, mut turns, mut ends) = (BTreeSet::new(), false, false);
    while let Some(at) = ways.pop() {
        let Some(instruction) = code.get(&at) else { continue };
        if !seen.insert(at) {
            continue;
        }
        let flow = instruction.flow();
        if let Flow::Jump(to) | Flow::Branch(to) = flow {
            turns |= to < at && code.contains_key(&to);
            ways.push(to);
        }
        if matches!(flow, Flow::Next | Flow::Branch(_)) {
            ways.extend(next(at));
        }
        ends |= flow == Flow::Return;
    }
    turns && ends
}

fn not_run(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    println!("{name}: not run: {reason}");
    let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") else { return };
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).expect("a log");
    std::io::Write::write_all(&mut log, format!("{name}: {reason}\n").as_bytes()).expect("a line");
}

/// Builds the example as a package of its own: only what the crate needs, none of its tests' needs.
fn listing() -> String {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fast-path");
    std::fs::create_dir_all(&directory).expect("a directory");
    let morpheus = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        "[package]\nname = \"fast-path\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [[bin]]\nname = \"fast-path\"\npath = {:?}\n\
         [dependencies]\nmorpheus = {{ path = {morpheus:?} }}\n[workspace]\n",
        format!("{morpheus}/examples/checkpoint.rs")
    );
    std::fs::write(directory.join("Cargo.toml"), manifest).expect("a manifest");
    // The versions that everything else here is built with.
    let lock = Path::new(morpheus).join("../../Cargo.lock");
    std::fs::copy(lock, directory.join("Cargo.lock")).expect("a lock file");
    let cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(&directory)
        .args(["build", "--release", "--offline", "--target-dir", "target"])
        // The listing needs names.
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .output()
        .expect("cargo starts");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(directory.join("target/release/fast-path"))
        .output()
        .expect("objdump starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_checkpoint_without_a_hint_calls_nothing() {
    if Command::new("objdump").arg("--version").output().is_err() {
        return not_run("objdump is not installed");
    }
    if !["x86_64", "aarch64"].contains(&std::env::consts::ARCH) {
        return not_run("the instructions of this processor are not known to the test");
    }
    let listing = listing();
    let guided = function(&listing, "guided_sum");
    assert!(guided.len() > 5, "it is not in the listing");
    assert!(is_free_of_calls(&guided), "{guided:#?}");
    // What answers is there, so the way to it was seen and not taken.
    let calls = guided.values().filter(|instruction| instruction.flow() == Flow::Call).count();
    assert_eq!(calls, 1, "{guided:#?}");
    let polite = function(&listing, "polite_sum");
    assert!(polite.len() > 5, "it is not in the listing");
    assert!(!is_free_of_calls(&polite), "a system call in each turn is not noticed");
}

#[test]
fn calls_in_a_loop_are_told_from_calls_beside_it() {
    let code = |text: &str| function(&format!("0 <4main>:\n{text}\n\n"), "main");
    let beside = " 1: test %eax\n 2: jne 6 <x+6>\n 3: dec %eax\n 4: jne 1 <x+1>\n 5: ret\n \
                  6: call 99 <answer>\n 7: jmp 3 <x+3>";
    assert!(is_free_of_calls(&code(beside)));
    let inside = " 1: test %eax\n 2: call 99 <answer>\n 3: dec %eax\n 4: jne 1 <x+1>\n 5: ret";
    assert!(!is_free_of_calls(&code(inside)));
    assert!(!is_free_of_calls(&code(&inside.replace("call 99 <answer>", "syscall"))));
    let arm = " 1: cbnz w0, 4 <x+4>\n 2: b.ne 1 <x+1>\n 3: ret\n 4: bl 99 <answer>\n 5: b 2 <x>";
    assert!(is_free_of_calls(&code(arm)));
    assert!(!is_free_of_calls(&code(&arm.replace("cbnz w0, 4 <x+4>", "svc #0x0"))));
}
