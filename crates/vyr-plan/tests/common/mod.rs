//! The worked site, read and compiled.

use vyr_base::Source;
use vyr_plan::{Applied, Files, Intent, Lock, Plan, allocate, compile};

/// Its files.
pub(crate) fn files() -> Files {
    let source = |name: &str, text: &str| Source::new(name, text);
    Files {
        clients: Some(source(
            "clients.toml",
            include_str!("../../../../examples/office/clients.toml"),
        )),
        signers: Some(source(
            "operators.allowed_signers",
            include_str!("../../../../examples/office/operators.allowed_signers"),
        )),
        contracts: vec![source(
            "contracts/access.toml",
            include_str!("../../../../examples/office/contracts/access.toml"),
        )],
        ..Files::new(source("site.toml", include_str!("../../../../examples/office/site.toml")))
    }
}

/// Reads files that are good.
pub(crate) fn read(files: Files) -> Intent {
    files.read().unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}", faults.join("\n"))
    })
}

/// The worked site's intent.
pub(crate) fn office() -> Intent {
    read(files())
}

/// Lock and plan of an intent that compiles.
pub(crate) fn plan(intent: &Intent, applied: Option<&Applied>) -> (Lock, Plan) {
    let lock = allocate(intent, &Lock::default(), applied).expect("there is room");
    let plan = compile(intent, &lock).expect("it compiles");
    (lock, plan)
}
