//! The reference as a whole process: the least that runs one precompiled guest.
//!
//! ```text
//! bare compile FILE.wasm OUT [--no-interruption]
//! bare run FILE.cwasm [--no-interruption] [--input F] [--sink null|hash|stdout] [--report] [ARG]..
//! ```
//!
//! One engine without a pool, the code mapped from its file, one store, one call. Interruption
//! is that of the product: one epoch every `TICK`, at which the guest yields. Input is read from a
//! file, output is dropped, hashed (as the product hashes) or written to stdout as it comes.
//! It checks nothing: whoever runs it vouches for the code.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use tokio::io::AsyncWrite;
use vyr_base::Hasher;
use vyr_task::{Kind, TICK, engine_settings};
use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::cli::{InputFile, IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{I32Exit, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

const USAGE: &str = "\
usage: bare compile FILE.wasm OUT [--no-interruption]
       bare run FILE.cwasm [--no-interruption] [--input F] [--sink null|hash|stdout] [--report] [ARG]..";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match bare(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bare(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else { bail!("{USAGE}") };
    let options = Options::parse(rest)?;
    match command.as_str() {
        "compile" => compile(&options),
        "run" => run(&options),
        _ => bail!("{USAGE}"),
    }
}

struct Options {
    interruption: bool,
    input: Option<PathBuf>,
    sink: Sink,
    report: bool,
    /// The file, then what belongs to the guest.
    words: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Null,
    Hash,
    Stdout,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            interruption: true,
            input: None,
            sink: Sink::Stdout,
            report: false,
            words: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--no-interruption" => options.interruption = false,
                "--report" => options.report = true,
                "--input" => options.input = Some(value()?.into()),
                "--sink" => {
                    options.sink = match value()?.as_str() {
                        "null" => Sink::Null,
                        "hash" => Sink::Hash,
                        "stdout" => Sink::Stdout,
                        other => bail!("no sink is called {other}"),
                    };
                }
                _ => options.words.push(word.clone()),
            }
        }
        Ok(options)
    }

    fn engine(&self) -> Result<Engine> {
        let mut config = engine_settings();
        config.epoch_interruption(self.interruption);
        Engine::new(&config).map_err(ours)
    }
}

fn compile(options: &Options) -> Result<()> {
    let [from, to] = options.words.as_slice() else { bail!("{USAGE}") };
    let wasm = std::fs::read(from).with_context(|| format!("cannot read {from}"))?;
    let engine = options.engine()?;
    // Bytes 4 to 7 of a module are its version, 1; those of a component are others.
    let code = if wasm.get(4..8) == Some(&[1, 0, 0, 0]) {
        engine.precompile_module(&wasm)
    } else {
        engine.precompile_component(&wasm)
    };
    std::fs::write(to, code.map_err(ours)?).with_context(|| format!("cannot write {to}"))
}

fn run(options: &Options) -> Result<()> {
    let Some((file, arguments)) = options.words.split_first() else { bail!("{USAGE}") };
    let engine = options.engine()?;
    let output = Output::new(options.sink);
    let mut wasi = WasiCtxBuilder::new();
    wasi.arg("guest").args(arguments).stdout(output.clone()).inherit_stderr();
    if let Some(path) = &options.input {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        wasi.stdin(InputFile::new(file));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kind = match Engine::detect_precompiled_file(file).map_err(ours)? {
        Some(wasmtime::Precompiled::Module) => Kind::Module,
        Some(wasmtime::Precompiled::Component) => Kind::Component,
        None => bail!("{file} is not precompiled: bare compile {file} OUT"),
    };
    if options.interruption {
        let engine = engine.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        });
    }
    let start = Instant::now();
    let ended = match kind {
        Kind::Module => {
            let module = map_module(&engine, file)?;
            runtime.block_on(run_module(&engine, &module, wasi.build_p1(), options.interruption))
        }
        Kind::Component => {
            let component = map_component(&engine, file)?;
            let state = State { wasi: wasi.build(), table: ResourceTable::new() };
            runtime.block_on(run_component(&engine, &component, state, options.interruption))
        }
    };
    let exit = match &ended {
        Ok(()) => 0,
        Err(error) => error.downcast_ref::<I32Exit>().map_or(1, |exit| exit.0),
    };
    if exit != 0 {
        return Err(ended.map_or_else(ours, |()| anyhow!("the guest failed")));
    }
    let (bytes, digest) = output.finish();
    if options.report {
        let elapsed_us = start.elapsed().as_micros();
        eprintln!(
            r#"{{"elapsed_us":{elapsed_us},"output_bytes":{bytes},"output_digest":"{digest}"}}"#
        );
    }
    Ok(())
}

#[expect(unsafe_code, reason = "mapping precompiled code is what an embedder does")]
fn map_module(engine: &Engine, file: &str) -> Result<Module> {
    // SAFETY: the file was written by `bare compile` for this benchmark and nobody changes it;
    // Wasmtime refuses code of another version or other settings.
    unsafe { Module::deserialize_file(engine, file) }.map_err(ours)
}

#[expect(unsafe_code, reason = "mapping precompiled code is what an embedder does")]
fn map_component(engine: &Engine, file: &str) -> Result<Component> {
    // SAFETY: as in `map_module`.
    unsafe { Component::deserialize_file(engine, file) }.map_err(ours)
}

async fn run_module(
    engine: &Engine,
    module: &Module,
    wasi: WasiP1Ctx,
    interruption: bool,
) -> wasmtime::Result<()> {
    let mut linker: Linker<WasiP1Ctx> = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
    let mut store = store(engine, wasi, interruption);
    let instance = linker.instantiate_async(&mut store, module).await?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start.call_async(&mut store, ()).await
}

async fn run_component(
    engine: &Engine,
    component: &Component,
    state: State,
    interruption: bool,
) -> wasmtime::Result<()> {
    let mut linker: ComponentLinker<State> = ComponentLinker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let mut store = store(engine, state, interruption);
    let command = Command::instantiate_async(&mut store, component, &linker).await?;
    match command.wasi_cli_run().call_run(&mut store).await? {
        Ok(()) => Ok(()),
        Err(()) => Err(wasmtime::Error::new(I32Exit(1))),
    }
}

fn store<T>(engine: &Engine, state: T, interruption: bool) -> Store<T> {
    let mut store = Store::new(engine, state);
    if interruption {
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
    }
    store
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Standard output: counted, and dropped, hashed or written.
#[derive(Clone)]
struct Output(Arc<Mutex<Written>>);

struct Written {
    sink: Sink,
    bytes: u64,
    hasher: Hasher,
}

impl Output {
    fn new(sink: Sink) -> Self {
        Self(Arc::new(Mutex::new(Written { sink, bytes: 0, hasher: Hasher::new() })))
    }

    /// The bytes written and their digest, `none` unless they were hashed.
    fn finish(&self) -> (u64, String) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hasher = std::mem::take(&mut written.hasher);
        let digest = match written.sink {
            Sink::Hash => hasher.finish().to_string(),
            Sink::Null | Sink::Stdout => "none".into(),
        };
        (written.bytes, digest)
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.bytes += bytes.len() as u64;
        match written.sink {
            Sink::Null => Ok(()),
            Sink::Hash => {
                written.hasher.update(&bytes);
                Ok(())
            }
            Sink::Stdout => std::io::stdout()
                .write_all(&bytes)
                .map_err(|e| StreamError::LastOperationFailed(wasmtime::Error::new(e))),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).sink == Sink::Stdout {
            return std::io::stdout()
                .flush()
                .map_err(|e| StreamError::LastOperationFailed(wasmtime::Error::new(e)));
        }
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(1 << 20)
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only preview 3 asks for this, and preview 3 is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

/// Wasmtime has an error type of its own.
fn ours(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}
