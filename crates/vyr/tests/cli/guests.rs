//! Guests that are not among the committed ones: those that announce themselves, and those that
//! are made to hurt a compiler.

/// Prints `ready` and never ends, so that a test can wait for a guest that surely runs.
pub(crate) fn ready_and_spin() -> Vec<u8> {
    text(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\06\00\00\00ready\n")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
                (loop (br 0))))"#,
    )
}

/// Asks for more table elements than there may be, and traps when it does not get them.
pub(crate) fn table_hungry() -> Vec<u8> {
    text(
        r#"(module
            (memory (export "memory") 1)
            (table $t 1 funcref)
            (func (export "_start")
                (if (i32.eq (table.grow $t (ref.null func) (i32.const 100000000)) (i32.const -1))
                    (then unreachable))))"#,
    )
}

/// A module that this engine has nothing to start in.
pub(crate) fn without_a_start() -> Vec<u8> {
    text(r#"(module (memory (export "memory") 1))"#)
}

/// Imports what no host of ours has.
pub(crate) fn with_an_import_named(name: &str) -> Vec<u8> {
    let name = escaped(name);
    text(&format!(
        r#"(module (import "env" "{name}" (func)) (memory (export "memory") 1)
            (func (export "_start") (call 0)))"#
    ))
}

/// Exports nothing that could be started, under this name.
pub(crate) fn with_an_export_named(name: &str) -> Vec<u8> {
    let name = escaped(name);
    text(&format!(r#"(module (memory (export "memory") 1) (func (export "{name}")))"#))
}

fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("\\{byte:02x}")).collect()
}

fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("a module")
}

/// `count` empty functions; the first is the entry point.
pub(crate) fn many_functions(count: usize) -> Vec<u8> {
    module(&vec![vec![0, END]; count])
}

/// One function of a few KiB that takes Cranelift far longer than its size suggests: `locals`
/// locals, all alive around a nest of 2000 loops, so that each loop head merges each of them.
pub(crate) fn compile_bomb(locals: usize) -> Vec<u8> {
    const LOOPS: usize = 2000;
    let mut body = vec![1];
    unsigned(&mut body, locals);
    body.push(I32);
    for _ in 0..LOOPS {
        body.extend([LOOP, EMPTY, LOCAL_GET, 0, BR_IF, 0]);
    }
    for local in 0..locals {
        for (instruction, index) in [
            (LOCAL_GET, local),
            (LOCAL_GET, (local * 7 + 1) % locals),
            (I32_ADD, 0),
            (LOCAL_SET, (local * 13 + 5) % locals),
        ] {
            body.push(instruction);
            if instruction != I32_ADD {
                unsigned(&mut body, index);
            }
        }
    }
    body.extend([END; LOOPS + 1]);
    module(&[body])
}

const I32: u8 = 0x7f;
const EMPTY: u8 = 0x40;
const LOOP: u8 = 0x03;
const END: u8 = 0x0b;
const BR_IF: u8 = 0x0d;
const LOCAL_GET: u8 = 0x20;
const LOCAL_SET: u8 = 0x21;
const I32_ADD: u8 = 0x6a;

/// A command module of functions without parameters and results, written by hand: a text of a
/// million functions would be slower to read than the module is to compile.
fn module(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    section(&mut wasm, 1, &[1, 0x60, 0, 0]);
    let mut functions = Vec::new();
    unsigned(&mut functions, bodies.len());
    functions.resize(functions.len() + bodies.len(), 0);
    section(&mut wasm, 3, &functions);
    section(&mut wasm, 5, &[1, 0, 1]);
    section(&mut wasm, 7, b"\x02\x06memory\x02\0\x06_start\0\0");
    let mut code = Vec::new();
    unsigned(&mut code, bodies.len());
    for body in bodies {
        unsigned(&mut code, body.len());
        code.extend(body);
    }
    section(&mut wasm, 10, &code);
    wasm
}

fn section(wasm: &mut Vec<u8>, id: u8, content: &[u8]) {
    wasm.push(id);
    unsigned(wasm, content.len());
    wasm.extend(content);
}

/// LEB128, as the binary format writes every number.
fn unsigned(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}
