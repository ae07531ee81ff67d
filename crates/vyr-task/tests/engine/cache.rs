//! The code cache against somebody who can write its directory.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use vyr_base::Digest;
use vyr_task::{CacheError, CodeCache, CompileFailure, Compiler, Job, MachineCode, State, compile};

use crate::support::{block_on, engine, guest};

/// The real compiler, in this process, counting its calls.
#[derive(Default)]
struct Counting(Cell<u32>);

impl Compiler for Counting {
    fn compile(&self, mut wasm: File) -> Result<MachineCode, CompileFailure> {
        self.0.set(self.0.get() + 1);
        let mut bytes = Vec::new();
        wasm.read_to_end(&mut bytes).map_err(|e| CompileFailure::Process(e.to_string()))?;
        compile(&bytes).map_err(|e| CompileFailure::Invalid(e.to_string()))
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    wasm: Vec<u8>,
    compiler: Counting,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        Self { directory, wasm: guest(""), compiler: Counting::default() }
    }

    fn cache(&self, secret: u8, compatibility: &str) -> CodeCache {
        CodeCache::open(&self.directory.path().join("cache"), &[secret; 32], compatibility.into())
            .expect("cache")
    }

    /// Gets the code, runs it, and says whether it was compiled.
    fn get(&self, cache: &CodeCache) -> bool {
        let path = self.directory.path().join("guest.wasm");
        fs::write(&path, &self.wasm).expect("write");
        let (code, compiled) =
            cache.get(&Digest::of(&self.wasm), || File::open(&path), &self.compiler).expect("code");
        let engine = engine(1);
        let program = std::sync::Arc::new(engine.load(code).expect("fits"));
        assert_eq!(block_on(engine.run(Job::new(program))).state, State::Completed);
        compiled
    }

    fn file(&self) -> PathBuf {
        let files: Vec<_> = fs::read_dir(self.directory.path().join("cache"))
            .expect("directory")
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "code"))
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

#[test]
fn code_is_compiled_once() {
    let fixture = Fixture::new();
    assert!(fixture.get(&fixture.cache(1, "a")));
    assert!(!fixture.get(&fixture.cache(1, "a")));
    assert_eq!(fixture.compiler.0.get(), 1);
}

#[test]
fn every_flipped_byte_means_compiling_again() {
    let fixture = Fixture::new();
    assert!(fixture.get(&fixture.cache(1, "a")));
    let good = fs::read(fixture.file()).expect("read");
    let some = [0, 7, 8, 9, 40, 41, 4096, good.len() / 2, good.len() - 1];
    for at in some {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(fixture.file(), &bad).expect("write");
        assert!(fixture.get(&fixture.cache(1, "a")), "byte {at} flipped and believed");
    }
    for bad in [&good[..good.len() - 1], &good[..20], &[]] {
        fs::write(fixture.file(), bad).expect("write");
        assert!(fixture.get(&fixture.cache(1, "a")), "cut to {} and believed", bad.len());
    }
}

#[test]
fn an_attacker_without_the_key_replaces_code_and_mac_in_vain() {
    let fixture = Fixture::new();
    // A file that is right in every way, made under another key.
    assert!(fixture.get(&fixture.cache(2, "a")));
    assert!(fixture.get(&fixture.cache(1, "a")), "foreign code was believed");
    assert!(!fixture.get(&fixture.cache(1, "a")));
}

#[test]
fn code_of_another_program_under_this_name_is_not_believed() {
    let mut fixture = Fixture::new();
    let cache = fixture.cache(1, "a");
    assert!(fixture.get(&cache));
    let innocent = fs::read(fixture.file()).expect("read");
    fs::remove_file(fixture.file()).expect("remove");
    fixture.wasm = guest("unreachable (drop (i32.const 1))");
    fixture.wasm = guest("(nop)");
    assert!(fixture.get(&cache));
    fs::write(fixture.file(), innocent).expect("write");
    assert!(fixture.get(&cache), "another program's code was believed");
}

#[test]
fn another_engine_has_code_of_its_own() {
    let fixture = Fixture::new();
    assert!(fixture.get(&fixture.cache(1, "a")));
    assert!(fixture.get(&fixture.cache(1, "b")));
    assert!(!fixture.get(&fixture.cache(1, "a")));
}

#[test]
fn what_is_not_wanted_is_pruned() {
    let fixture = Fixture::new();
    let cache = fixture.cache(1, "a");
    assert!(fixture.get(&cache));
    assert_eq!(cache.prune(|_| true).expect("prune"), (0, 0));
    let (files, bytes) = cache.prune(|_| false).expect("prune");
    assert!(files >= 1 && bytes > 0);
    assert!(fixture.get(&cache));
}

#[test]
fn a_compiler_that_refuses_is_reported_and_leaves_nothing() {
    let mut fixture = Fixture::new();
    fixture.wasm = b"\0asm\x01\0\0\0\xff".to_vec();
    let path = fixture.directory.path().join("bad.wasm");
    fs::write(&path, &fixture.wasm).expect("write");
    let cache = fixture.cache(1, "a");
    let refused = cache.get(&Digest::of(&fixture.wasm), || File::open(&path), &fixture.compiler);
    assert!(matches!(refused, Err(CacheError::Compile(CompileFailure::Invalid(_)))));
    assert!(cache.load(&Digest::of(&fixture.wasm)).expect("no fault").is_none());
}
