//! Every line of the runbook in `docs/recovery.md`, as it stands there, on the machine it names.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use vyr_space::{Namespace, Plane};

use crate::town::{ROUTER, Town, can_build};

const RUNBOOK: &str = include_str!("../../../../docs/recovery.md");

/// The lines of the runbook: a machine and a command.
fn lines() -> Vec<(&'static str, &'static str)> {
    let block = RUNBOOK.split("```text\n").nth(1).expect("a runbook");
    let block = block.split("```").next().unwrap_or_default();
    let line = |line: &'static str| {
        let (machine, command) = line.split_once(['$', '#']).expect("a machine and a command");
        (machine.trim(), command.trim())
    };
    block.lines().map(line).collect()
}

#[test]
fn the_runbook_has_ten_lines() {
    let lines = lines();
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().any(|(_, command)| command.starts_with("vyr rebuild")));
}

#[test]
fn every_line_of_the_runbook_does_what_it_says() {
    if !can_build("runbook::every_line_of_the_runbook_does_what_it_says") {
        return;
    }
    let town = Town::new("r");
    town.clients(2);
    // The names that the runbook has: a site with its keys, one directory that everybody sees.
    let site = town.path("site");
    for key in ["op", "backup"] {
        fs::copy(town.path(key), site.join(key)).expect("ours");
    }
    let programs = town.path("bin");
    fs::create_dir_all(&programs).expect("a directory");
    // Where WireGuard runs is this test's to say, not the runbook's.
    let script = format!(
        "#!/bin/sh\ncase $1 in apply|drift|rebuild) set -- \"$@\" --backend userspace;; esac\n\
         exec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_vyr")
    );
    fs::write(programs.join("vyr"), script).expect("written");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(programs.join("vyr"), mode).expect("ours");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs.display());
    let run = |space: &Namespace, data: &str, command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", command]).current_dir(&site).stdin(Stdio::null());
        shell.env("PATH", &path).env("VYR_DATA_DIR", town.path(data)).env("USER", "ana");
        shell.env_remove("SUDO_USER").env_remove("SSH_AUTH_SOCK");
        let output = space.inside(|| shell.output().expect("a shell"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {said}");
    };
    let mut machines: BTreeMap<&str, (Namespace, Plane)> = BTreeMap::new();
    let mut unchanged = None;
    for (machine, command) in lines() {
        println!("{machine}: {command}");
        match (machine, command) {
            ("office", command) => run(&town.client, "old", command),
            ("laptop", command) => run(&town.client, "laptop", command),
            ("nas", "poweroff -f") => {
                let (space, plane) = machines.remove("nas").expect("it was on");
                town.burn(space, plane);
                fs::remove_dir_all(town.path("old")).expect("its disk");
            }
            (name @ ("nas" | "new"), command) => {
                let (space, _) = machines.entry(name).or_insert_with(|| {
                    let space = town.host(ROUTER);
                    let plane = Plane::start(&space, &town.link);
                    (space, plane)
                });
                run(space, if name == "nas" { "old" } else { "new" }, command);
            }
            other => panic!("nobody knows {other:?}"),
        }
        if command.starts_with("vyr plan sign") {
            // Ana gets her file, once.
            town.connect();
            unchanged = Some(town.client_file());
        }
    }
    assert_eq!(Some(town.client_file()), unchanged);
    assert!(machines.contains_key("new") && !machines.contains_key("nas"));
}
