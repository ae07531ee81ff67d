//! Every target under libFuzzer: `VYR_FUZZ_TARGET` names the one that is run.
//!
//! One binary and not one a target, because they would differ in a name only, and each is linked
//! with its instrumentation anew.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vyr_fuzz::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("VYR_FUZZ_TARGET").expect("VYR_FUZZ_TARGET names a target");
    target(&name).unwrap_or_else(|| panic!("no target {name}"))
});

fuzz_target!(|input: &[u8]| TARGET(input));
