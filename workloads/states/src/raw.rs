//! Steps that call `wasi:filesystem` directly: wasi-libc makes one fault, 29, of all those that
//! streams report.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags, filesystem_error_code,
};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::{Fault, number};

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Self::Text(code.name().to_owned())
    }
}

/// Carries out one step in the directory of the first state; `words[0]` begins with `raw`.
pub(crate) fn step(words: &[&str]) -> Result<String, Fault> {
    let (directory, _) = get_directories().into_iter().next().ok_or(Fault::Usage)?;
    match *words {
        ["raw-write", path, offset, length] => {
            let file = open(&directory, path, DescriptorFlags::WRITE)?;
            return Ok(file.write(&vec![b'r'; number(length)?], number(offset)?)?.to_string());
        }
        ["raw-stream", path, offset, length] => {
            let file = open(&directory, path, DescriptorFlags::WRITE)?;
            write(&file.write_via_stream(number(offset)?)?, number(length)?)?;
        }
        ["raw-append", path, length] => {
            let file = open(&directory, path, DescriptorFlags::WRITE)?;
            write(&file.append_via_stream()?, number(length)?)?;
        }
        ["raw-read", path, offset, length] => {
            let file = open(&directory, path, DescriptorFlags::READ)?;
            let (bytes, at_end) = file.read(number(length)?, number(offset)?)?;
            return Ok(format!("{} {at_end}", bytes.len()));
        }
        ["raw-skip", path, length] => {
            let file = open(&directory, path, DescriptorFlags::READ)?;
            let stream = file.read_via_stream(0)?;
            let skipped = stream.blocking_skip(number(length)?);
            return Ok(skipped.map_err(|_| Fault::Text("a stream".into()))?.to_string());
        }
        ["raw-read-unopened", path] => {
            let file = open(&directory, path, DescriptorFlags::WRITE)?;
            file.read(1, 0)?;
        }
        ["raw-write-unopened", path] => {
            let file = open(&directory, path, DescriptorFlags::READ)?;
            file.write(b"x", 0)?;
        }
        ["raw-symlink", path] => directory.symlink_at("/etc", path)?,
        ["raw-link", path, to] => {
            directory.link_at(PathFlags::empty(), path, &directory, to)?;
        }
        ["raw-open", path] => drop(open(&directory, path, DescriptorFlags::READ)?),
        // As many as there may be, then closed.
        ["raw-open-many", path] => {
            let mut open_files = Vec::new();
            loop {
                match open(&directory, path, DescriptorFlags::READ) {
                    Ok(file) => open_files.push(file),
                    Err(_) => return Ok((open_files.len() > 500).to_string()),
                }
            }
        }
        // Reads and writes a file that has no name any more.
        ["raw-unlinked", path] => {
            let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
            let file = open(&directory, path, flags)?;
            directory.unlink_file_at(path)?;
            file.write(b"still here", 0)?;
            let (bytes, _) = file.read(100, 0)?;
            let links = file.stat()?.link_count;
            return Ok(format!("{} {links}", String::from_utf8_lossy(&bytes)));
        }
        _ => return Err(Fault::Usage),
    }
    Ok(String::new())
}

fn open(directory: &Descriptor, path: &str, flags: DescriptorFlags) -> Result<Descriptor, Fault> {
    let create =
        if flags == DescriptorFlags::READ { OpenFlags::empty() } else { OpenFlags::CREATE };
    Ok(directory.open_at(PathFlags::empty(), path, create, flags)?)
}

fn write(stream: &OutputStream, length: usize) -> Result<(), Fault> {
    let data = vec![b's'; length];
    for piece in data.chunks(4096) {
        match stream.blocking_write_and_flush(piece) {
            Ok(()) => {}
            Err(StreamError::Closed) => return Err(Fault::Text("closed".into())),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = filesystem_error_code(&error);
                return Err(code.map_or(Fault::Text("no code".into()), Fault::from));
            }
        }
    }
    Ok(())
}
