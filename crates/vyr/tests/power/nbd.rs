//! The disk as an NBD export, for the one client that the machine's emulator is.
//!
//! From the specification (nbd, doc/proto.md) only what that client needs: the fixed newstyle
//! handshake with one export, simple replies, READ, WRITE, FLUSH and FUA. QEMU's block layer keeps
//! nothing of a raw NBD disk itself: what the guest writes arrives here, a flush of the guest's disk
//! arrives as FLUSH, and nothing else does.
//!
//! When the power goes off the client is not answered any more, and is not told either: it is as
//! good as dead, and is killed next.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::disk::{Disk, Off};

const MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Fixed newstyle, no zeroes after the handshake.
const HANDSHAKE_FLAGS: u16 = 0b11;

const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;

const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = (1 << 31) + 1;

/// Has flags, FLUSH, FUA.
const EXPORT_FLAGS: u16 = 0b1101;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
const FLAG_FUA: u16 = 1;

/// What a client may ask for at once: the specification's default.
const REQUEST_BYTES_MAX: u32 = 32 << 20;

/// Serves `disk` at `path` to whoever connects first, until they leave.
pub(crate) fn serve(path: &Path, disk: Arc<Disk>) -> io::Result<JoinHandle<io::Result<()>>> {
    let listener = UnixListener::bind(path)?;
    Ok(std::thread::spawn(move || {
        let mut client = listener.accept()?.0;
        match handshake(&mut client, &disk).and_then(|goes| match goes {
            true => commands(&mut client, &disk),
            false => Ok(()),
        }) {
            // Killed: that is how a client of ours ends.
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof) => Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe) => Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionReset) => Ok(()),
            ended => ended,
        }
    }))
}

fn number<const N: usize>(client: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn wrong(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("nbd: {what}"))
}

/// `true`: the client wants the export.
fn handshake(client: &mut UnixStream, disk: &Disk) -> io::Result<bool> {
    client.write_all(MAGIC)?;
    client.write_all(OPTION_MAGIC)?;
    client.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
    let _flags: [u8; 4] = number(client)?;
    loop {
        if number(client)? != *OPTION_MAGIC {
            return Err(wrong("no option"));
        }
        let option = u32::from_be_bytes(number(client)?);
        let length = u32::from_be_bytes(number(client)?);
        if length > 4096 {
            return Err(wrong(format_args!("an option of {length} bytes")));
        }
        io::copy(&mut client.take(length.into()), &mut io::sink())?;
        let mut reply = |kind: u32, data: &[u8]| {
            let mut bytes = REPLY_MAGIC.to_be_bytes().to_vec();
            bytes.extend(option.to_be_bytes());
            bytes.extend(kind.to_be_bytes());
            bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
            bytes.extend(data);
            client.write_all(&bytes)
        };
        match option {
            OPT_GO | OPT_INFO => {
                // NBD_INFO_EXPORT: the size, and what may be asked of it.
                let mut info = 0u16.to_be_bytes().to_vec();
                info.extend(disk.bytes().to_be_bytes());
                info.extend(EXPORT_FLAGS.to_be_bytes());
                reply(REP_INFO, &info)?;
                reply(REP_ACK, &[])?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            OPT_ABORT => {
                reply(REP_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(REP_ERR_UNSUP, &[])?,
        }
    }
}

fn commands(client: &mut UnixStream, disk: &Disk) -> io::Result<()> {
    loop {
        if u32::from_be_bytes(number(client)?) != REQUEST_MAGIC {
            return Err(wrong("no request"));
        }
        let flags = u16::from_be_bytes(number(client)?);
        let kind = u16::from_be_bytes(number(client)?);
        let cookie: [u8; 8] = number(client)?;
        let offset = u64::from_be_bytes(number(client)?);
        let length = u32::from_be_bytes(number(client)?);
        let inside = offset.checked_add(length.into()).is_some_and(|end| end <= disk.bytes());
        if length > REQUEST_BYTES_MAX || !inside {
            return Err(wrong(format_args!("{length} bytes at {offset} of command {kind}")));
        }
        let length = length as usize;
        let done = match kind {
            CMD_READ => disk.read(offset, length),
            CMD_WRITE => {
                let mut data = vec![0; length];
                client.read_exact(&mut data)?;
                let done = disk.write(offset, data);
                // A flush keeps more than this one write; a disk may always keep more.
                match flags & FLAG_FUA {
                    0 => done,
                    _ => done.and_then(|()| disk.flush()),
                }
                .map(|()| Vec::new())
            }
            CMD_FLUSH => disk.flush().map(|()| Vec::new()),
            CMD_DISC => return Ok(()),
            _ => return Err(wrong(format_args!("command {kind} was not offered"))),
        };
        match done {
            Ok(data) => {
                let mut reply = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
                reply.extend([0; 4]);
                reply.extend(cookie);
                reply.extend(data);
                client.write_all(&reply)?;
            }
            // Silence; the end of the stream is the end of the client.
            Err(Off) => return io::copy(client, &mut io::sink()).map(|_| ()),
        }
    }
}
