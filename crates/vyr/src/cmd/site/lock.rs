//! `vyr lock`: the only command that allocates.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::Serialize;
use vyr_base::Category;
use vyr_node::Result;
use vyr_plan::{Lock, allocate};

use super::{Refused, Site, refuse};
use crate::cli::LockArgs;
use crate::output;

#[derive(Serialize)]
struct Locked<'a> {
    changed: bool,
    added: Vec<&'a str>,
    removed: Vec<&'a str>,
}

pub(crate) fn lock(args: &LockArgs, json: bool) -> Result<ExitCode> {
    let site = Site::find(args.site.site.as_deref())?;
    let files = site.files()?;
    let applied = site.applied()?;
    let refused = |faults| Refused { category: Category::Usage, faults, outcomes: Vec::new() };
    let (text, old) = match &files.lock {
        None => (String::new(), Lock::default()),
        Some(source) => match Lock::parse(source) {
            Ok(lock) => (source.text().to_owned(), lock),
            Err(faults) => return refuse(&refused(faults), json),
        },
    };
    let intent = match files.read() {
        Ok(intent) => intent,
        Err(faults) => return refuse(&refused(faults), json),
    };
    let new = match allocate(&intent, &old, applied.as_ref()) {
        Ok(lock) => lock.to_string(),
        Err(faults) => return refuse(&refused(faults), json),
    };
    let changed = new != text;
    if changed {
        site.write("vyr.lock", new.as_bytes())?;
    }
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (text.lines().collect(), new.lines().collect());
    let added: Vec<&str> = after.difference(&before).copied().collect();
    let removed: Vec<&str> = before.difference(&after).copied().collect();
    if json {
        output::json_line(Locked { changed, added, removed })?;
        return Ok(ExitCode::SUCCESS);
    }
    added.iter().for_each(|line| output::print(format!("+ {line}")));
    removed.iter().for_each(|line| output::print(format!("- {line}")));
    match changed {
        true => {
            output::say("wrote vyr.lock: commit it with what you changed");
            output::say("undo: git checkout vyr.lock");
        }
        false => output::say("vyr.lock is as it should be"),
    }
    Ok(ExitCode::SUCCESS)
}
