//! Bytes on their way to a component. The canonical ABI wants them in a buffer of the host's, which
//! it frees as it is; so the calls that hand contents out keep a second reference, and wipe the
//! buffer at the next such call or when the task ends.
//!
//! Preview 1 needs none of this: it copies from a state into the guest's memory directly.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::filesystem::types::{Descriptor, ErrorCode};
use wasmtime_wasi::p2::bindings::io::streams::{self, Host as _};
use wasmtime_wasi::p2::{DynInputStream, StreamResult};

use super::bytes::wipe;
use super::p2::{View, view};
use crate::run::TaskState;

/// The names under which Wasmtime 48 links its interfaces. Were they others, nothing would be
/// replaced, and the test that looks for contents in memory would find some.
const STREAMS: &str = "wasi:io/streams@0.2.12";
const FILES: &str = "wasi:filesystem/types@0.2.12";

/// A buffer that the canonical ABI copies from.
pub(super) type Loan = Arc<Vec<u8>>;

/// What was lent in the last call.
#[derive(Default)]
pub(super) struct Loans(Vec<Loan>);

impl Loans {
    /// Wipes what the last call lent: it has been copied since.
    pub(super) fn settle(&mut self) {
        for mut loan in self.0.drain(..) {
            if let Some(bytes) = Arc::get_mut(&mut loan) {
                wipe(bytes);
            }
        }
    }

    pub(super) fn lend(&mut self, bytes: Vec<u8>) -> Loan {
        let loan = Arc::new(bytes);
        self.0.push(Arc::clone(&loan));
        loan
    }
}

impl Drop for Loans {
    fn drop(&mut self) {
        self.settle();
    }
}

impl View<'_> {
    fn lend(&mut self, bytes: Vec<u8>) -> Loan {
        // What a task without states reads is its input, which is elsewhere too.
        if self.files.has_states() { self.files.loans.lend(bytes) } else { Arc::new(bytes) }
    }

    fn lend_read(
        &mut self,
        read: StreamResult<bytes::Bytes>,
    ) -> wasmtime::Result<Result<Loan, streams::StreamError>> {
        Ok(match read {
            Ok(bytes) => Ok(self.lend(bytes.into())),
            Err(error) => Err(self.table.convert_stream_error(error)?),
        })
    }
}

type Store<'a> = StoreContextMut<'a, TaskState>;

/// Replaces the calls of `wasi:io` and `wasi:filesystem` that hand contents out.
pub(super) fn add_to_linker(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    let mut streams = linker.instance(STREAMS)?;
    streams.func_wrap(
        "[method]input-stream.read",
        |mut store: Store<'_>, (stream, length): (Resource<DynInputStream>, u64)| {
            let mut view = view(store.data_mut());
            view.files.loans.settle();
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let read = view.table.get_mut(&stream)?.read(length);
            Ok((view.lend_read(read)?,))
        },
    )?;
    streams.func_wrap_async(
        "[method]input-stream.blocking-read",
        |mut store: Store<'_>, (stream, length): (Resource<DynInputStream>, u64)| {
            Box::new(async move {
                let mut view = view(store.data_mut());
                view.files.loans.settle();
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let read = view.table.get_mut(&stream)?.blocking_read(length).await;
                Ok((view.lend_read(read)?,))
            })
        },
    )?;
    linker.instance(FILES)?.func_wrap(
        "[method]descriptor.read",
        |mut store: Store<'_>, (fd, length, offset): (Resource<Descriptor>, u64, u64)| {
            let mut view = view(store.data_mut());
            view.files.loans.settle();
            let read: Result<(Vec<u8>, bool), ErrorCode> = match view.read_at(&fd, length, offset) {
                Ok(read) => Ok(read),
                Err(error) => Err(error.downcast()?),
            };
            Ok((read.map(|(bytes, at_end)| (view.lend(bytes), at_end)),))
        },
    )
}
