//! `tests/cmd/*.md` and the README: documentation that is run.
//!
//! Each file has a data directory of its own and stands in a directory that looks like the root of
//! the repository, so that its commands can name `workloads/bin`; what they write lands beside it.
//! `TRYCMD=overwrite cargo test -p vyr transcripts` writes what the commands say now.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};

use camino::Utf8Path;

use crate::common::{HANG, Place, VYR, root};

/// Runs the blocks of one file, in order.
fn transcript(file: &Utf8Path) {
    let place = Place::new();
    // trycmd runs a case `NAME.md` in `NAME.in`.
    let stage = place.path("case.in");
    fs::create_dir(&stage).expect("a directory");
    for entry in root().read_dir_utf8().expect("the repository") {
        let entry = entry.expect("an entry");
        symlink(entry.path(), stage.join(entry.file_name())).expect("a link");
    }
    let case = place.path("case.md");
    symlink(file, &case).expect("a link");
    let cases = trycmd::TestCases::new();
    cases.register_bin("vyr", std::path::Path::new(VYR)).timeout(HANG).case(&case);
    cases.env("VYR_DATA_DIR", ".vyr");
    cases.env("LC_ALL", "C.UTF-8");
    cases.run();
}

#[test]
fn each_transcript_says_what_the_command_says() {
    let directory = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd");
    let mut files: Vec<_> = directory
        .read_dir_utf8()
        .expect("transcripts")
        .map(|entry| entry.expect("an entry").into_path())
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        println!("{}", file.file_name().unwrap_or_default());
        transcript(&file);
    }
}

#[test]
fn the_readme_says_what_the_command_says() {
    let readme = root().join("README.md");
    let text = fs::read_to_string(&readme).expect("a README");
    assert!(text.contains("```console\n$ vyr run "), "it shows nothing that is run");
    transcript(&readme);
}

/// The twin: a transcript that does not say what the command says fails.
#[test]
fn a_false_transcript_fails() {
    let place = Place::new();
    let true_one = "```console\n$ vyr run nginx\n? 2\nerror: nginx is [..]\n  hint: [..]\n\n```\n";
    for (text, holds) in [
        (true_one.to_owned(), true),
        (true_one.replace("? 2", "? 3"), false),
        (true_one.replace("error: nginx", "error: apache"), false),
        (true_one.replace("  hint: [..]\n", ""), false),
    ] {
        let file = place.path("transcript.md");
        fs::write(&file, text).expect("a file");
        let ran = catch_unwind(AssertUnwindSafe(|| transcript(&file)));
        assert_eq!(ran.is_ok(), holds);
    }
}
