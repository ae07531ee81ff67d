//! What a Wasm binary is, told from its first eight bytes.
//!
//! A module and a component share the magic `\0asm`; the next four bytes differ: a module has
//! version 1, a component has a 16-bit version (13 so far) and the 16-bit layer 1 (component
//! model, `Binary.md`). Nothing else is looked at: whether the rest is valid is the compiler's
//! question, in its own process.

use std::fmt;

use vyr_base::{Category, Problem};

const MAGIC: [u8; 4] = *b"\0asm";
const MODULE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [13, 0, 1, 0];

/// Which kind of Wasm binary, and thereby which WASI world it is run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WasmKind {
    /// A core module, run as a WASI preview 1 command.
    Module,
    /// A component, run as a WASI preview 2 command.
    Component,
}

/// Why bytes are not a Wasm binary we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SniffError {
    /// Fewer than eight bytes.
    #[error("wasm binary is truncated: {bytes} of the first {} bytes", WasmKind::HEAD_BYTES)]
    Truncated {
        /// How many bytes there are.
        bytes: usize,
    },
    /// The magic is missing, but the text format begins like this.
    #[error("file is WebAssembly text, not a binary")]
    Text,
    /// The magic is missing.
    #[error("file is not a wasm binary: it begins with {head:02x?}")]
    NotWasm {
        /// The first four bytes.
        head: [u8; 4],
    },
    /// The magic is there and the version is neither a module's nor a component's.
    #[error("wasm binary has unknown version {version:02x?}")]
    UnknownVersion {
        /// Bytes five to eight.
        version: [u8; 4],
    },
}

impl WasmKind {
    /// How many bytes [`WasmKind::sniff`] looks at.
    pub const HEAD_BYTES: usize = 8;

    /// Tells the kind from the first eight bytes; more bytes are not looked at.
    pub fn sniff(bytes: &[u8]) -> Result<Self, SniffError> {
        let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(SniffError::Truncated { bytes: bytes.len() });
        };
        if *magic != MAGIC {
            let text = bytes.trim_ascii_start();
            let is_text = [&b"(module"[..], b"(component", b";;", b"(;"];
            return Err(if is_text.iter().any(|start| text.starts_with(start)) {
                SniffError::Text
            } else {
                SniffError::NotWasm { head: *magic }
            });
        }
        match rest.first_chunk::<4>() {
            None => Err(SniffError::Truncated { bytes: bytes.len() }),
            Some(&MODULE) => Ok(Self::Module),
            Some(&COMPONENT) => Ok(Self::Component),
            Some(&version) => Err(SniffError::UnknownVersion { version }),
        }
    }

    /// The `os` of the artifact's config: `wasip1` or `wasip2` (CNCF Wasm OCI artifact format).
    pub const fn os(self) -> &'static str {
        match self {
            Self::Module => "wasip1",
            Self::Component => "wasip2",
        }
    }

    /// The kind whose config says `os`.
    pub fn from_os(os: &str) -> Option<Self> {
        [Self::Module, Self::Component].into_iter().find(|kind| kind.os() == os)
    }
}

impl fmt::Display for WasmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "module",
            Self::Component => "component",
        })
    }
}

impl Problem for SniffError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Truncated { .. } => "copy the file again, or build it again".to_owned(),
            Self::Text => "turn it into a binary: wasm-tools parse FILE -o FILE.wasm".to_owned(),
            Self::NotWasm { head: [0x7f, b'E', b'L', b'F'] } => {
                "this is a native program; build it for wasm32-wasip1 or wasm32-wasip2".to_owned()
            }
            Self::NotWasm { .. } => "pass the .wasm file the compiler wrote".to_owned(),
            Self::UnknownVersion { .. } => {
                "build a version 1 module or a component of the released component model".to_owned()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn modules_and_components_are_told_apart() {
        assert_eq!(WasmKind::sniff(b"\0asm\x01\0\0\0"), Ok(WasmKind::Module));
        assert_eq!(WasmKind::sniff(b"\0asm\x0d\0\x01\0rest"), Ok(WasmKind::Component));
        assert_eq!(WasmKind::Module.os(), "wasip1");
        assert_eq!(WasmKind::Component.os(), "wasip2");
        assert_eq!(WasmKind::from_os("wasip2"), Some(WasmKind::Component));
        assert_eq!(WasmKind::from_os("linux"), None);
    }

    #[test]
    fn everything_else_is_named() {
        assert_eq!(WasmKind::sniff(b""), Err(SniffError::Truncated { bytes: 0 }));
        assert_eq!(WasmKind::sniff(b"\0asm\x01\0\0"), Err(SniffError::Truncated { bytes: 7 }));
        assert_eq!(WasmKind::sniff(b"  (module)"), Err(SniffError::Text));
        assert_eq!(
            WasmKind::sniff(b"\0asm\x01\0\x01\0"),
            Err(SniffError::UnknownVersion { version: [1, 0, 1, 0] })
        );
        let elf = WasmKind::sniff(b"\x7fELF\x02\x01\x01\0").expect_err("not wasm");
        assert_eq!(elf, SniffError::NotWasm { head: *b"\x7fELF" });
        assert!(elf.hint().expect("has a hint").contains("native program"));
    }

    proptest! {
        #[test]
        fn only_two_heads_are_taken(bytes in any::<Vec<u8>>()) {
            let known = bytes.starts_with(b"\0asm\x01\0\0\0") || bytes.starts_with(b"\0asm\x0d\0\x01\0");
            prop_assert_eq!(WasmKind::sniff(&bytes).is_ok(), known);
        }
    }
}
