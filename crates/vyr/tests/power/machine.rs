//! A machine that is emulated instruction by instruction, and whose plug can be pulled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use crate::disk::Disk;
use crate::emulated::emulator;
use crate::{guest, nbd};

/// Enough for two processes that compile and run guests; an initramfs is in it twice for a moment.
const MEMORY_MIB: u32 = 1024;

/// A line of the report; most of it are faults.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Runs until it is dropped: the power is gone, and nothing of it is left.
pub(crate) struct Machine {
    emulator: Child,
    disk: Arc<Disk>,
    export: Option<JoinHandle<io::Result<()>>>,
    socket: PathBuf,
    console: PathBuf,
}

impl Machine {
    /// Switches it on. `from`: see `guest`. Gives the machine's port too.
    pub(crate) async fn start(directory: &Path, disk: &Arc<Disk>, from: u64) -> (Self, UnixStream) {
        let console = directory.join("console");
        // The last boot's stays readable beside it.
        let _ = fs::rename(&console, directory.join("console.before"));
        let [export, port] = ["disk.sock", "port.sock"].map(|name| directory.join(name));
        for socket in [&export, &port] {
            let _ = fs::remove_file(socket);
        }
        let served = nbd::serve(&export, Arc::clone(disk)).expect("an export");
        let listener = UnixListener::bind(&port).expect("a socket");
        let word = format!("{}{from}", guest::FROM);
        let initramfs = directory.join("initramfs");
        let mut command = emulator::command(MEMORY_MIB, &initramfs, &word, &console, &port);
        command
            // `writeback` tells the guest that there is a cache which has to be flushed, and passes
            // its flushes on; `unsafe` would drop them.
            .args([
                "-drive",
                &format!(
                    "if=none,id=disk,format=raw,cache=writeback,file=nbd+unix:///?socket={}",
                    export.display()
                ),
            ])
            .args(["-device", "virtio-blk-device,drive=disk"]);
        let emulator = command.spawn().expect("qemu starts");
        let (disk, served) = (Arc::clone(disk), Some(served));
        let machine = Self { emulator, disk, export: served, socket: export, console };
        let accepted = tokio::time::timeout(crate::HANG, listener.accept()).await;
        let port = accepted.expect("qemu connects in time").expect("a connection").0;
        (machine, port)
    }

    pub(crate) fn console_path(&self) -> PathBuf {
        self.console.clone()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // First the disk: nothing that still runs may reach it.
        self.disk.fail_now();
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
        // Somebody the export waits for, should the emulator never have come.
        let _ = std::os::unix::net::UnixStream::connect(&self.socket);
        let ended = self.export.take().map(JoinHandle::join);
        // A defect of the export, not of what is tested, unless something fails already.
        if !std::thread::panicking()
            && let Some(Ok(ended)) = ended
        {
            ended.expect("the export served to the end");
        }
    }
}

/// One line from the port, and not a byte more, which may be the node's; `None` when the machine
/// ended.
pub(crate) async fn line(port: &mut UnixStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        match port.read_u8().await {
            Ok(b'\n') => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(byte) if bytes.len() < LINE_BYTES_MAX => bytes.push(byte),
            _ => return None,
        }
    }
}
