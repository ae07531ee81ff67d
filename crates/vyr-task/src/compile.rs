//! From Wasm to machine code. Runs in a process of its own with limits (`vyr-node` sees to
//! that): the compiler is the largest piece of code that reads a stranger's bytes.

use wasmtime::Engine;

use crate::code::MachineCode;
use crate::settings::{Kind, engine_settings};

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The bytes are not Wasm of a kind this engine takes.
    #[error("not valid WebAssembly: {0}")]
    Invalid(String),
    /// The engine could not be made.
    #[error("cannot start the compiler: {0}")]
    Engine(String),
}

/// Compiles `wasm`, in this process and without limits.
pub fn compile(wasm: &[u8]) -> Result<MachineCode, CompileError> {
    let kind = kind_of(wasm)?;
    let engine =
        Engine::new(&engine_settings()).map_err(|e| CompileError::Engine(format!("{e:#}")))?;
    let bytes = match kind {
        Kind::Module => engine.precompile_module(wasm),
        Kind::Component => engine.precompile_component(wasm),
    };
    let bytes = bytes.map_err(|e| CompileError::Invalid(one_line(&format!("{e:#}"))))?;
    Ok(MachineCode { kind, bytes })
}

fn kind_of(wasm: &[u8]) -> Result<Kind, CompileError> {
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(Kind::Module),
        Some([0, b'a', b's', b'm', _, 0, 1, 0]) => Ok(Kind::Component),
        _ => Err(CompileError::Invalid("no Wasm header".into())),
    }
}

/// A message that quotes a stranger's names must not bring line breaks or control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wasm_is_named() {
        for bytes in [&b""[..], b"\0asm", b"\x7fELF\x02\x01\x01\0", b"\0asm\x01\0\0\0\xff"] {
            assert!(matches!(compile(bytes), Err(CompileError::Invalid(_))), "{bytes:?}");
        }
    }
}
