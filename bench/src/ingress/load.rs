//! The backend and the clients of both proxies.
//!
//! A client that begins with a TLS record gets one byte and the end. One that begins with a zero has
//! said in eight bytes how many it wants.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The host that a hello asks for.
pub(super) const HOST: &str = "app.example";

/// Threads of the backend: more than there are streams or clients.
const BACKEND_THREADS: usize = 16;
const BLOCK_BYTES: usize = 256 << 10;
/// A read that takes longer than this is a fault of the proxy.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// Answers until the process ends.
pub(super) struct Backend(SocketAddr);

impl Backend {
    pub(super) fn start() -> Result<Self> {
        let listener = Arc::new(TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?);
        for _ in 0..BACKEND_THREADS {
            let listener = Arc::clone(&listener);
            std::thread::spawn(move || {
                let block = vec![0x5a; BLOCK_BYTES];
                loop {
                    if let Ok((stream, _)) = listener.accept() {
                        // A client that leaves early is the client's matter.
                        let _ = answer(stream, &block);
                    }
                }
            });
        }
        Ok(Self(listener.local_addr()?))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0
    }
}

fn answer(mut stream: TcpStream, block: &[u8]) -> io::Result<()> {
    let mut head = [0; 512];
    let came = stream.read(&mut head)?;
    if came == 0 {
        return Ok(());
    }
    if head[0] != 0 {
        stream.write_all(b"x")?;
    } else {
        stream.read_exact(&mut head[came..8.max(came)])?;
        let mut left = u64::from_be_bytes(head[..8].try_into().unwrap_or_default());
        while left > 0 {
            let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            stream.write_all(&block[..now])?;
            left -= now as u64;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    // Until the client has ended too, so that nothing is reset.
    while stream.read(&mut head)? > 0 {}
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READ_TIME_MAX))?;
    Ok(stream)
}

/// Seconds in which `streams` at once each bring `bytes`.
pub(super) fn stream(address: SocketAddr, streams: u64, bytes: u64) -> Result<f64> {
    let one = || -> Result<()> {
        let mut stream = connect(address)?;
        stream.write_all(&bytes.to_be_bytes())?;
        let (mut block, mut all) = (vec![0; BLOCK_BYTES], 0);
        loop {
            match stream.read(&mut block)? {
                0 => break,
                came => all += came as u64,
            }
        }
        ensure!(all == bytes, "{all} of {bytes} bytes came");
        Ok(())
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..streams).map(|_| scope.spawn(one)).collect();
        all.into_iter().try_for_each(|one| one.join().ok().context("a thread panicked")?)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds in which `clients` at once together make `connections`, one after the other each.
pub(super) fn connections(address: SocketAddr, clients: usize, connections: usize) -> Result<f64> {
    let (hello, begun) = (hello(), AtomicUsize::new(0));
    let client = || -> Result<()> {
        while begun.fetch_add(1, Ordering::Relaxed) < connections {
            let mut stream = connect(address)?;
            stream.write_all(&hello)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(answer == b"x", "another answer");
        }
        Ok(())
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        all.into_iter().try_for_each(|one| one.join().ok().context("a thread panicked")?)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// A client hello for [`HOST`], with padding as long as a usual one.
fn hello() -> Vec<u8> {
    let two = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let (name, padding) = (HOST.as_bytes(), [0; 180]);
    let lengths = [two(name.len() + 5), two(name.len() + 3)].concat();
    let server = [&[0, 0][..], &lengths, &[0], &two(name.len()), name].concat();
    let padding = [&[0, 21][..], &two(padding.len()), &padding].concat();
    let versions = [0, 43, 0, 3, 2, 3, 4];
    let extensions = [&server[..], &versions, &padding].concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&two(extensions.len()));
    body.extend_from_slice(&extensions);
    [&[22, 3, 1][..], &two(body.len() + 4), &[1, 0], &two(body.len()), &body].concat()
}
