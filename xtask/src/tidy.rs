//! Tidiness: the house rules that are about text, one function each.
//!
//! Line width and layout are rustfmt's, code smells are clippy's. Here is what neither sees:
//! words, names, sizes, white space, and where `unsafe` may stand.
//!
//! A rule looks at files that people write. Generated documents are held by
//! `cargo xtask generate --check`, golden and recorded data by the tests that read them; both
//! are searched for machine paths only.

use crate::fault::Fault;
use crate::generate;
use crate::repo::{Repo, TextFile};
use crate::rust_text::{code_only, has_word};

/// The files in which `unsafe` may stand: the loading of machine code that this node compiled,
/// memory that the kernel and another process write to, perf events, forks and signals in a test,
/// a new key for the kernel's generator of randomness in a guest that was restored, and guests that are there to misbehave. A guest's own unsafe code ends at its sandbox.
const UNSAFE_FILES: &[&str] = &[
    "bench/src/bin/bare.rs",
    "crates/morpheus-bpf/src/counter.rs",
    "crates/morpheus-bpf/src/observe.rs",
    "crates/morpheus/src/bell.rs",
    "crates/morpheus/src/memory.rs",
    "crates/morpheus/src/worker.rs",
    "crates/morpheus/tests/threads/fork_and_signal.rs",
    "crates/vyr-task/src/code.rs",
    "crates/vyr-vm/src/vmm/counter.rs",
    "guest/init/src/random.rs",
    "workloads/nop/src/main.rs",
    "workloads/probe/src/memory.rs",
    "workloads/probe/src/system.rs",
];

/// Longer files say why in their header, in a sentence with these words.
const LINES_MAX: usize = 800;
const LONG_REASON: &str = concat!("long ", "because");
/// How far the header of a file reaches, for that sentence.
const HEADER_LINES: usize = 30;

/// Kinds of file that people write, by extension.
const WRITTEN: &[&str] =
    &["rs", "toml", "md", "sh", "py", "c", "h", "proto", "wit", "wat", "txt", "yml", "yaml"];
/// Files that people write and that have no telling extension.
const WRITTEN_NAMES: &[&str] = &["Makefile", ".gitignore", ".gitattributes", ".ci/run"];
/// Folders of recorded bytes; what looks like a source file there is a test's input.
const RECORDED: &[&str] = &["fuzz/corpus/", "fuzz/seeds/", "bench/results/"];

/// Macros and attributes that mark something unfinished or silenced.
const BANNED_CODE: &[(&str, &str)] = &[
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or leave it out"),
    ("dbg!", "take it out, or use tracing"),
    ("#[allow(", "use #[expect(lint, reason = \"..\")]"),
    ("#![allow(", "use #![expect(lint, reason = \"..\")]"),
    ("#[ignore", "print `not run: reason` and list the test in xtask/not-run.txt"),
];

const BANNED_WORDS: &[&str] = &[concat!("FIX", "ME"), concat!("X", "XX")];

/// Names that say nothing about the thing they name.
const EMPTY_NAMES: &[&str] = &["manager", "managers", "helper", "helpers", "util", "utils"];

/// Directories that only a certain machine has.
const MACHINE_PATHS: &[&str] = &["/root/", "/home/", concat!("/wo", "rk/")];

/// Checks every file of the repository.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Vec<Fault>> {
    let mut faults: Vec<Fault> =
        repo.paths()?.iter().flat_map(|path| file_name_faults(path)).collect();
    for file in repo.texts()? {
        faults.extend(text_faults(&file));
    }
    for path in UNSAFE_FILES {
        if !repo.root.join(path).is_file() {
            faults.push(Fault::new(*path, "is named in xtask/src/tidy.rs and does not exist"));
        }
    }
    Ok(faults)
}

fn text_faults(file: &TextFile) -> Vec<Fault> {
    let mut faults = machine_path_faults(file);
    if is_written(&file.path) {
        faults.extend(length_faults(file));
        faults.extend(white_space_faults(file));
        faults.extend(word_faults(file));
        if file.path.ends_with(".rs") {
            faults.extend(code_faults(file));
        }
    }
    faults
}

fn is_written(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    !generate::is_generated(path)
        && !RECORDED.iter().any(|folder| path.starts_with(folder))
        && (WRITTEN.contains(&extension) || WRITTEN_NAMES.contains(&path))
}

fn file_name_faults(path: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if path.chars().any(|c| !c.is_ascii_graphic()) {
        faults.push(Fault::new(path, "a file name is visible ASCII without spaces"));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Some(stem) = name.strip_suffix(".rs")
        && stem.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
    {
        faults.push(Fault::new(path, "the name of a Rust file is snake_case"));
    }
    if let Some(word) = empty_word(path) {
        faults.push(Fault::new(path, format!("`{word}` names nothing: say what the file is for")));
    }
    faults
}

fn machine_path_faults(file: &TextFile) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in numbered(&file.text) {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
            faults.push(Fault::line(
                &file.path,
                number,
                format!("{path} is a path of one machine"),
            ));
        }
    }
    faults
}

/// Whether `path` stands in `line` as the beginning of an absolute path that goes on.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + path.len()..].chars().next();
        let inside = before.is_some_and(|c| c.is_alphanumeric() || "._-/".contains(c));
        !inside && after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
}

fn length_faults(file: &TextFile) -> Vec<Fault> {
    let lines = file.text.lines().count();
    let excused = file.text.lines().take(HEADER_LINES).any(|line| line.contains(LONG_REASON));
    if lines <= LINES_MAX || excused {
        return Vec::new();
    }
    let what = format!(
        "{lines} lines, more than {LINES_MAX}: split it, or say in its header that it is \
         {LONG_REASON} .."
    );
    vec![Fault::new(&file.path, what)]
}

fn white_space_faults(file: &TextFile) -> Vec<Fault> {
    // Make's recipes begin with a tab, by its grammar.
    let tabs_are_grammar = file.path == "Makefile";
    let mut faults = Vec::new();
    for (number, line) in numbered(&file.text) {
        if line.contains('\t') && !tabs_are_grammar {
            faults.push(Fault::line(&file.path, number, "a tab: use spaces"));
        }
        if line.ends_with([' ', '\t', '\r']) {
            faults.push(Fault::line(&file.path, number, "white space at the end of the line"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        faults.push(Fault::new(&file.path, "the last line has no end"));
    }
    faults
}

fn word_faults(file: &TextFile) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in numbered(&file.text) {
        for word in BANNED_WORDS.iter().filter(|word| has_word(line, word)) {
            faults.push(Fault::line(&file.path, number, format!("{word} is banned: mend it now")));
        }
    }
    faults
}

fn code_faults(file: &TextFile) -> Vec<Fault> {
    let code = code_only(&file.text);
    let unsafe_is_named = UNSAFE_FILES.contains(&file.path.as_str());
    let mut faults = Vec::new();
    for (number, line) in numbered(&code) {
        for (banned, instead) in BANNED_CODE.iter().filter(|(banned, _)| has_code(line, banned)) {
            faults.push(Fault::line(&file.path, number, format!("{banned} is banned: {instead}")));
        }
        if !unsafe_is_named && has_word(line, "unsafe") {
            let what = "unsafe outside the files named in xtask/src/tidy.rs";
            faults.push(Fault::line(&file.path, number, what));
        }
        for name in declared_names(line) {
            if let Some(word) = empty_word(name) {
                let what = format!("`{name}`: {word} says nothing, name what it does");
                faults.push(Fault::line(&file.path, number, what));
            }
        }
    }
    faults
}

/// As `contains`, but `xtodo!` is not `todo!`.
fn has_code(line: &str, banned: &str) -> bool {
    line.match_indices(banned).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The names of the types and modules that a line of code declares.
fn declared_names(line: &str) -> Vec<&str> {
    let words: Vec<&str> = line
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let is_keyword = |w: &str| matches!(w, "struct" | "enum" | "trait" | "type" | "union" | "mod");
    words.windows(2).filter(|pair| is_keyword(pair[0])).map(|pair| pair[1]).collect()
}

/// The first word of a CamelCase, snake_case or kebab-case name that is an empty one.
fn empty_word(name: &str) -> Option<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && previous_is_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        previous_is_lower = c.is_lowercase();
    }
    words.into_iter().find(|word| EMPTY_NAMES.contains(&word.as_str()))
}

/// The lines of a text with their numbers, from 1; a carriage return stays in its line.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.split('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let file = TextFile { path: path.to_owned(), text: text.to_owned() };
        text_faults(&file).iter().map(Fault::to_string).collect()
    }

    /// One defect a rule: each must be found, once, and the clean file must pass.
    #[test]
    fn each_seeded_defect_is_found_and_the_clean_file_is_not() {
        let clean = "//! A file.\n\nfn main() {}\n";
        assert_eq!(faults("a/src/x.rs", clean), Vec::<String>::new());
        let defects = [
            "fn f() { todo!() }\n".to_owned(),
            "fn f() { unimplemented!(\"later\") }\n".to_owned(),
            "fn f() { dbg!(1); }\n".to_owned(),
            "#[allow(dead_code)]\nfn f() {}\n".to_owned(),
            "#![allow(dead_code)]\nfn f() {}\n".to_owned(),
            "#[test]\n#[ignore]\nfn f() {}\n".to_owned(),
            format!("// {}: later\n", concat!("FIX", "ME")),
            format!("// {} later\n", concat!("X", "XX")),
            "\tfn f() {}\n".to_owned(),
            "fn f() {} \n".to_owned(),
            "fn f() {}\r\n".to_owned(),
            "fn f() {}".to_owned(),
            format!("// see {}{}\n", "/ro", "ot/.profile"),
            format!("const A: &str = \"{}{}\";\n", "/ho", "me/ana/a"),
            format!("// see {}{}\n", "/wo", "rk/main"),
            "unsafe fn f() {}\n".to_owned(),
            "struct TaskManager;\n".to_owned(),
            "pub(crate) trait ParseHelper {}\n".to_owned(),
            "mod utils;\n".to_owned(),
        ];
        for defect in defects {
            assert_eq!(faults("a/src/x.rs", &defect).len(), 1, "{defect}");
        }
    }

    #[test]
    fn words_in_comments_and_strings_are_not_code() {
        let text = "// unsafe and todo! are words here.\nconst A: &str = \"dbg! unsafe\";\n";
        assert_eq!(faults("a/src/x.rs", text), Vec::<String>::new());
    }

    #[test]
    fn unsafe_may_stand_in_the_named_file_only() {
        let text = "fn f() { unsafe { g() } }\n";
        assert_eq!(faults(UNSAFE_FILES[0], text).len(), 0);
        assert_eq!(faults("crates/vyr-task/src/pool.rs", text).len(), 1);
    }

    #[test]
    fn a_long_file_needs_its_reason_in_its_header() {
        let body = "fn f() {}\n".repeat(LINES_MAX);
        assert_eq!(faults("x.rs", &body).len(), 0);
        assert_eq!(faults("x.rs", &format!("//! Long.\n{body}")).len(), 1);
        assert_eq!(
            faults("x.rs", &format!("//! It is {LONG_REASON} a table is.\n{body}")).len(),
            0
        );
        assert_eq!(faults("x.rs", &format!("{body}// It is {LONG_REASON}.\n")).len(), 1);
    }

    #[test]
    fn a_path_inside_another_path_is_not_a_machine_path() {
        for text in ["see bench/work/a", "/run/root/b", "https://example.org/home/c", "/home/"] {
            assert_eq!(faults("x.md", &format!("{text}\n")), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_makefile_has_tabs_and_generated_text_is_not_ours_to_lay_out() {
        assert_eq!(faults("Makefile", "all:\n\ttrue\n").len(), 0);
        assert_eq!(faults("docs/man/vyr.1", ".TH vyr \n").len(), 0);
        assert_eq!(faults("docs/roadmap.md", "one \n").len(), 1);
    }

    #[test]
    fn file_names_are_plain_and_say_something() {
        assert_eq!(file_name_faults("crates/vyr-base/src/digest.rs"), []);
        for path in ["src/task_manager.rs", "src/utils/a.rs", "a b.md", "src/Digest.rs", "é.md"] {
            assert_eq!(file_name_faults(path).len(), 1, "{path}");
        }
    }
}
