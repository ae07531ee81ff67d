//! The streams of `wasi:io` that read and write the files of a state.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::FileError;
use super::bytes::{Secret, wipe};
use super::handle::Handle;
use crate::control::Control;

/// The most one read gives, and the most a stream takes at once: what Wasmtime's own streams do.
const STREAM_BYTES: usize = 64 << 10;

/// Up to `length` bytes from `offset` on, in a buffer no longer than what there is.
pub(super) fn read(handle: &Handle, offset: u64, length: usize) -> Result<Vec<u8>, FileError> {
    let left = handle.stat()?.size.saturating_sub(offset);
    let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
    let read = handle.read(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads a file from an offset on. Never waits.
pub(super) struct Reader {
    pub(super) handle: Arc<Handle>,
    pub(super) offset: u64,
    pub(super) control: Arc<Control>,
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.control.check().map_err(trap)?;
        let bytes = read(&self.handle, self.offset, size.min(STREAM_BYTES)).map_err(failed)?;
        if bytes.is_empty() && size > 0 {
            return Err(StreamError::Closed);
        }
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(Bytes::from_owner(Secret::new(bytes)))
    }
}

/// Writes a file from an offset on, or always at its end. Never waits.
pub(super) struct Writer {
    pub(super) handle: Arc<Handle>,
    pub(super) offset: Option<u64>,
    pub(super) control: Arc<Control>,
}

impl Writer {
    fn write_all(&mut self, mut data: &[u8]) -> StreamResult<()> {
        while !data.is_empty() {
            let (at, written) = self.handle.write(self.offset, data).map_err(failed)?;
            data = &data[written..];
            if let Some(offset) = &mut self.offset {
                *offset = at.saturating_add(written as u64);
            }
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, data: Bytes) -> StreamResult<()> {
        self.control.check().map_err(trap)?;
        if data.len() > STREAM_BYTES {
            return Err(StreamError::trap("wrote more than `check-write` allows"));
        }
        let written = self.write_all(&data);
        // The copy Wasmtime made of the guest's bytes; a splice may share it with somebody.
        if let Ok(mut copy) = data.try_into_mut() {
            wipe(&mut copy);
        }
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.control.check().map_err(trap)?;
        Ok(STREAM_BYTES)
    }
}

fn trap(stopped: crate::control::Stopped) -> StreamError {
    StreamError::Trap(wasmtime::Error::new(stopped))
}

fn failed(error: FileError) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(error))
}

#[cfg(test)]
mod tests {
    use wasmtime::component::ResourceTable;
    use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;

    use super::super::handle::Files;
    use super::super::p2::View;
    use super::super::tree::How;
    use super::super::{Access, BoundState, EphemeralState};
    use super::*;
    use crate::control::CancelHandle;
    use crate::limits::Limits;

    #[test]
    fn a_stopped_task_makes_no_call() {
        let state = EphemeralState::new(1 << 20);
        let states = vec![BoundState { name: "a".into(), state, access: Access::ReadWrite }];
        let cancel = CancelHandle::new();
        let control = Arc::new(Control::new(Limits::default(), cancel.clone()));
        let mut files = Files::new(states, Arc::clone(&control));
        let mut view = View { files: &mut files, table: &mut ResourceTable::new() };
        let (root, path) = view.get_directories().expect("it runs").remove(0);
        assert_eq!(path, "/state/a");
        let how = How { read: true, write: true, create: true, ..How::default() };
        let handle = Arc::new(view.handle(&root).expect("it runs").open("f", how).expect("new"));
        let mut writer =
            Writer { handle: Arc::clone(&handle), offset: None, control: Arc::clone(&control) };
        let mut reader = Reader { handle, offset: 0, control };
        assert!(writer.write(Bytes::from_static(b"hello")).is_ok());
        assert_eq!(reader.read(2).expect("it runs"), "he");
        cancel.cancel();
        assert!(matches!(writer.write(Bytes::from_static(b"x")), Err(StreamError::Trap(_))));
        assert!(matches!(writer.check_write(), Err(StreamError::Trap(_))));
        assert!(matches!(reader.read(2), Err(StreamError::Trap(_))));
        assert!(view.handle(&root).is_err());
        assert!(view.get_directories().is_err());
    }
}
