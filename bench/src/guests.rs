//! The guests that are measured: the committed ones, built into this crate, and made-up ones of
//! any size.
//!
//! Both sides of `--against` must run the same bytes, so a run can be given a directory of
//! guests; without one it uses those it was built with.

use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use vyr_task::Kind;

/// One guest in one form.
#[derive(Debug, Clone)]
pub struct Guest {
    /// `nop`, `hello`, `transform` or `probe`.
    pub name: &'static str,
    /// What it was built for.
    pub kind: Kind,
    /// Its bytes.
    pub wasm: Bytes,
}

/// Names, forms and bytes of the guests this crate was built with.
const BUILT_IN: [(&str, Kind, &[u8]); 6] = [
    ("nop", Kind::Module, include_bytes!("../../workloads/bin/nop.wasip1.wasm")),
    ("nop", Kind::Component, include_bytes!("../../workloads/bin/nop.wasip2.wasm")),
    ("hello", Kind::Module, include_bytes!("../../workloads/bin/hello.wasip1.wasm")),
    ("hello", Kind::Component, include_bytes!("../../workloads/bin/hello.wasip2.wasm")),
    ("transform", Kind::Module, include_bytes!("../../workloads/bin/transform.wasip1.wasm")),
    ("transform", Kind::Component, include_bytes!("../../workloads/bin/transform.wasip2.wasm")),
];

impl Guest {
    /// Every guest, from `directory` if there is one.
    pub fn all(directory: Option<&Path>) -> Result<Vec<Self>> {
        let guest = |(name, kind, built_in): (&'static str, Kind, &'static [u8])| {
            let mut guest = Self { name, kind, wasm: Bytes::from_static(built_in) };
            if let Some(directory) = directory {
                let path = directory.join(guest.file_name());
                let read = std::fs::read(&path);
                guest.wasm =
                    read.with_context(|| format!("cannot read {}", path.display()))?.into();
            }
            Ok(guest)
        };
        BUILT_IN.into_iter().map(guest).collect()
    }

    /// The one that misbehaves as its arguments say; never a case by itself.
    pub(crate) fn probe(kind: Kind) -> Self {
        let wasm: &[u8] = match kind {
            Kind::Module => include_bytes!("../../workloads/bin/probe.wasip1.wasm"),
            Kind::Component => include_bytes!("../../workloads/bin/probe.wasip2.wasm"),
        };
        Self { name: "probe", kind, wasm: Bytes::from_static(wasm) }
    }

    /// The name of its case: `hello-p1`.
    pub fn case(&self) -> String {
        format!("{}-{}", self.name, form(self.kind))
    }

    /// The name of its file: `hello.wasip1.wasm`.
    pub fn file_name(&self) -> String {
        format!("{}.wasi{}.wasm", self.name, form(self.kind))
    }
}

fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::Module => "p1",
        Kind::Component => "p2",
    }
}

/// A module of `functions` functions that nothing calls and a `_start` that returns at once.
///
/// Its machine code is as large as wanted and its run takes no time, so loading and running it
/// bounds from above the time to the first instruction of a guest of that size.
pub fn synthetic_module(functions: u32) -> Vec<u8> {
    core_module(functions, "_start", &[END])
}

/// The same as a component that exports `wasi:cli/run`.
pub fn synthetic_component(functions: u32) -> Vec<u8> {
    let core = core_module(functions, "run", &[I32_CONST, 0, END]);
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    section(&mut component, 1, &core);
    component.extend_from_slice(COMPONENT_TAIL);
    component
}

/// What follows the core module, from this text:
///
/// ```text
/// (core instance (instantiate 0))
/// (func (result (result)) (canon lift (core func 0 "run")))
/// (instance (export "run" (func 0)))
/// (export "wasi:cli/run@0.2.0" (instance 0))
/// ```
const COMPONENT_TAIL: &[u8] = b"\
    \x02\x04\x01\0\0\0\
    \x07\x08\x02\x6a\0\0\x40\0\0\0\
    \x06\x09\x01\0\0\x01\0\x03run\
    \x08\x06\x01\0\0\0\0\x01\
    \x05\x0a\x01\x01\x01\0\x03run\x01\0\
    \x0b\x18\x01\0\x12wasi:cli/run@0.2.0\x05\0\0";

const END: u8 = 0x0b;
const I32_CONST: u8 = 0x41;
const I32: u8 = 0x7f;

/// Instructions of one made-up function; each takes about 24 bytes of machine code.
const STEPS: u32 = 60;

/// A module with one exported function, `name`, whose body is `body`, and `functions` more.
fn core_module(functions: u32, name: &str, body: &[u8]) -> Vec<u8> {
    // The exported function has type 0: no parameters, and a result when the body leaves one.
    let results: &[u8] = if body.len() > 1 { &[1, I32] } else { &[0] };
    let types = [&[2, 0x60, 0][..], results, &[0x60, 1, I32, 1, I32]].concat();
    let mut of_functions = Vec::new();
    unsigned(&mut of_functions, functions + 1);
    of_functions.push(0);
    of_functions.extend((0..functions).map(|_| 1));
    let mut exports = vec![1];
    text(&mut exports, name);
    exports.extend([0, 0]);
    let mut code = Vec::new();
    unsigned(&mut code, functions + 1);
    function(&mut code, body);
    for n in 0..functions {
        function(&mut code, &made_up(n));
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [(1, &types), (3, &of_functions), (7, &exports), (10, &code)] {
        section(&mut module, id, content);
    }
    module
}

/// `x = (x * constant) xor constant`, with constants that differ, so that no compiler makes one
/// function of two.
fn made_up(n: u32) -> Vec<u8> {
    const LOCAL_GET: u8 = 0x20;
    const I32_MUL: u8 = 0x6c;
    const I32_XOR: u8 = 0x73;
    let mut body = vec![LOCAL_GET, 0];
    for step in 0..STEPS {
        let constant = (n * STEPS + step).wrapping_mul(2_654_435_761) | 1;
        body.push(I32_CONST);
        signed(&mut body, constant.cast_signed());
        body.push(if step % 2 == 0 { I32_MUL } else { I32_XOR });
    }
    body.push(END);
    body
}

fn function(code: &mut Vec<u8>, body: &[u8]) {
    // One byte more: no locals.
    unsigned(code, length(body) + 1);
    code.push(0);
    code.extend_from_slice(body);
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    unsigned(module, length(content));
    module.extend_from_slice(content);
}

fn text(out: &mut Vec<u8>, text: &str) {
    unsigned(out, length(text.as_bytes()));
    out.extend_from_slice(text.as_bytes());
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a made-up guest is smaller than 4 GiB")
}

/// LEB128.
fn unsigned(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Signed LEB128.
fn signed(out: &mut Vec<u8>, mut value: i32) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_module_compiles_and_grows_with_its_functions() {
        let small = vyr_task::compile(&synthetic_module(1)).expect("valid");
        let large = vyr_task::compile(&synthetic_module(200)).expect("valid");
        assert!(large.bytes.len() > small.bytes.len() + 200 * 256, "{}", large.bytes.len());
    }

    #[test]
    fn a_made_up_component_is_what_its_text_says() {
        let text = r#"(component
            (core module (type (func (result i32))) (type (func (param i32) (result i32)))
              (func (export "run") (type 0) i32.const 0))
            (core instance (instantiate 0))
            (func (result (result)) (canon lift (core func 0 "run")))
            (instance (export "run" (func 0)))
            (export "wasi:cli/run@0.2.0" (instance 0)))"#;
        assert_eq!(wat::parse_str(text).expect("valid text"), synthetic_component(0));
    }

    #[test]
    fn every_committed_guest_is_there_once() {
        let guests = Guest::all(None).expect("built in");
        let cases: Vec<String> = guests.iter().map(Guest::case).collect();
        assert_eq!(
            cases,
            ["nop-p1", "nop-p2", "hello-p1", "hello-p2", "transform-p1", "transform-p2"]
        );
        assert_eq!(guests[3].file_name(), "hello.wasip2.wasm");
    }
}
