//! What std does not give as a number: the monotonic clock itself, and bytes from the host.
#![expect(unsafe_code, reason = "libc calls; std exposes neither the clock nor the bytes")]

use std::io;
use std::time::SystemTime;

pub(crate) fn wall_ns() -> io::Result<u128> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map(|since| since.as_nanos()).map_err(io::Error::other)
}

pub(crate) fn monotonic_ns() -> io::Result<i128> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the length of the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec))
}

/// WASI's `random_get` (preview 1) or `get-random-bytes` (preview 2), by way of wasi-libc.
pub(crate) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // SAFETY: `bytes` is writable for its whole length.
    if unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes)
}
