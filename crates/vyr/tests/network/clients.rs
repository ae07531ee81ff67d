//! What devices are given is read by the programs that would read it there.

use std::fmt::Write as _;
use std::process::{Command, Output};

use vyr_plan::Plan;
use vyr_plan::render::{self, Form, PrivateKey};
use vyr_space::not_run;

use crate::place::office;

/// A pair of keys that nobody uses.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRcbbHf9aPyfy2PL00dHmzSo=";
const PUBLIC: &str = "07LbRaAAHPn4GbVzSk/9+zmKvGfIpNCQEiMCynu4Th8=";

fn plan() -> Plan {
    office(&[("3UEkAPfmTyV9IYaqPii/uisqPz7I1hjVXsTa7na2kE4=", PUBLIC)])
}

fn files(form: Form) -> Vec<render::File> {
    let key = PrivateKey::parse(PRIVATE).expect("a key");
    render::client(&plan(), "ana-laptop", None, &key, form).expect("it renders")
}

/// The text that a code of the same way holds: without comments.
fn bare(name: &str) -> String {
    let stem = name.rsplit_once('.').expect("an extension").0;
    let file = files(Form::WgQuick).into_iter().find(|of| of.name == format!("{stem}.conf"));
    let text = String::from_utf8(file.expect("the same way").bytes.to_vec()).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.fold(String::new(), |all, line| all + line + "\n")
}

fn run(test: &str, program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(_) => {
            not_run(test, &format!("{program} is not installed"));
            None
        }
    }
}

/// Half blocks as an image that any program reads: PBM, eight dots a module.
fn as_image(terminal: &str) -> String {
    let mut rows: Vec<String> = Vec::new();
    for line in terminal.lines() {
        let cells = line.trim_start_matches(|c| c != 'm').trim_start_matches('m');
        let cells = cells.trim_end_matches("\x1b[0m");
        for upper in [true, false] {
            let dark = |cell: char| match cell {
                '\u{2588}' => true,
                '\u{2580}' => upper,
                '\u{2584}' => !upper,
                _ => false,
            };
            let dots = cells.chars().flat_map(|cell| [dark(cell); 8]);
            let row: String = dots.map(|dark| if dark { "1 " } else { "0 " }).collect();
            rows.extend(std::iter::repeat_n(row, 8));
        }
    }
    let mut image = format!("P1\n{} {}\n", rows[0].len() / 2, rows.len());
    rows.iter().for_each(|row| {
        let _ = writeln!(image, "{row}");
    });
    image
}

#[test]
fn a_telephone_reads_the_code() {
    let test = "clients::a_telephone_reads_the_code";
    let directory = tempfile::tempdir().expect("a temporary directory");
    for form in [Form::QrPng, Form::QrTerminal] {
        for file in files(form) {
            let (name, bytes) = match form {
                Form::QrPng => ("code.png", file.bytes.to_vec()),
                _ => {
                    let text = String::from_utf8(file.bytes.to_vec()).expect("text");
                    ("code.pbm", as_image(&text).into_bytes())
                }
            };
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).expect("it is written");
            let path = path.to_str().expect("UTF-8");
            let arguments = ["--quiet", "--raw", "--nodbus", path];
            let Some(output) = run(test, "zbarimg", &arguments) else { return };
            assert!(output.status.success(), "{}: {output:?}", file.name);
            // It ends each code with a line of its own.
            let read = String::from_utf8_lossy(&output.stdout);
            assert_eq!(read.trim_end(), bare(&file.name).trim_end(), "{}", file.name);
        }
    }
}

#[test]
fn wg_reads_what_wg_quick_is_given() {
    let test = "clients::wg_reads_what_wg_quick_is_given";
    let directory = tempfile::tempdir().expect("a temporary directory");
    for file in files(Form::WgQuick) {
        let path = directory.path().join("vyr-north.conf");
        std::fs::write(&path, &*file.bytes).expect("it is written");
        let path = path.to_str().expect("UTF-8");
        let Some(output) = run(test, "wg-quick", &["strip", path]) else { return };
        assert!(output.status.success(), "{output:?}");
        let stripped = String::from_utf8_lossy(&output.stdout).into_owned();
        for word in ["Address", "DNS", "MTU"] {
            assert!(!stripped.contains(word), "wg-quick knows {word} as its own");
        }
        // Names are not asked for: there may be nobody to ask.
        let numbers = stripped.lines().map(|line| match line.split_once(" = ") {
            Some(("Endpoint", _)) => "Endpoint = 192.0.2.1:51820".to_owned(),
            _ => line.to_owned(),
        });
        let numbers = numbers.collect::<Vec<_>>().join("\n") + "\n";
        assert_eq!(said(&directory, &numbers), "Unable to modify interface");
        let broken = numbers.replace("AllowedIPs = ", "AllowedIPs = 10.0.0.300, ");
        assert_ne!(said(&directory, &broken), "Unable to modify interface");
    }
}

/// How `wg setconf` refuses: it reads the file, and then finds no such interface.
fn said(directory: &tempfile::TempDir, text: &str) -> String {
    let path = directory.path().join("stripped.conf");
    std::fs::write(&path, text).expect("it is written");
    let path = path.to_str().expect("UTF-8");
    let output = Command::new("wg").args(["setconf", "vyr-no-such", path]).output();
    let output = output.expect("it came with wg-quick");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().next_back().and_then(|line| line.split(':').next()).unwrap_or_default().into()
}

#[test]
fn wg_reads_what_machines_are_given() {
    let test = "clients::wg_reads_what_machines_are_given";
    if run(test, "wg", &["--version"]).is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plan = plan();
    for machine in &plan.machines {
        for link in &machine.links {
            let text = render::wireguard(&plan, machine, link).expect("it renders");
            let known = text.replace(render::PRIVATE_KEY_PLACEHOLDER, PRIVATE);
            let numbers = known.replace("north.example.net", "192.0.2.1");
            let numbers = numbers.replace("south.example.net", "192.0.2.2");
            assert_eq!(said(&directory, &numbers), "Unable to modify interface", "{}", link.name);
            // With the placeholder left in it, it is no configuration.
            assert_eq!(said(&directory, &text), "Configuration parsing error", "{}", link.name);
        }
    }
}
