//! The host's end of a guest's channel.
//!
//! ```text
//!  socket -> reader thread -> hunt -> frames -> view (phase, sessions, log)   -> who waits
//!  socket <- one lock      <- frames <- callers
//! ```
//!
//! The guest is hostile. The reader never waits for whoever reads the log or a session: each stream
//! is bounded by its window, what the guest says otherwise replaces what it said before, and a guest
//! that breaks a bound is cut off, with the reason. So a flood costs the host at most one window a
//! stream, and control messages are never behind it.
//!
//! A channel that is dropped leaves the guest as it is: the next one is told everything that is so.

mod error;
mod exec;
mod view;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use vyr_channel::{
    Decoder, ExecSpec, FILL, Frame, GUEST_FRAME_MAX, GuestMessage, HostMessage, Hunt, LOG_STREAM,
    LogRecord, Nonce, Phase, Start, VERSION, encode, frame,
};

pub use error::ChannelError;
pub use exec::Exec;
pub use vyr_channel as words;

use view::{Shared, View};
use zeroize::{Zeroize, Zeroizing};

/// A guest that takes nothing for this long has stopped taking.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a guest said last of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How far the instance is.
    pub phase: Phase,
    /// The last result of the health check, and what was seen.
    pub health: Option<(bool, String)>,
    /// Results so far on this connection.
    pub checks: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self { phase: Phase::Blank, health: None, checks: 0 }
    }
}

/// A connection to one guest.
#[derive(Debug)]
pub struct Channel {
    link: Arc<Link>,
}

/// What sessions share with their channel.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) shared: Shared,
    stream: Mutex<UnixStream>,
}

impl Channel {
    /// Connects and greets. `first`: nobody was connected before, so nothing may be left over.
    /// `process`: who has to listen there; the directory is the VMM's, and so is what lies in it.
    ///
    /// # Errors
    /// Nobody listens, or somebody else; the guest did not answer in `time`, or in another version.
    pub fn connect(
        path: &Path,
        process: Option<u32>,
        first: bool,
        time: Duration,
    ) -> Result<Self, ChannelError> {
        let socket = |source| ChannelError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(socket)?;
        Self::over(stream, path, process, first, time)
    }

    /// The same over a stream that is connected already, to the socket at `path`.
    pub(crate) fn over(
        stream: UnixStream,
        path: &Path,
        process: Option<u32>,
        first: bool,
        time: Duration,
    ) -> Result<Self, ChannelError> {
        let end = Instant::now() + time;
        let socket = |source| ChannelError::Connect { path: path.to_owned(), source };
        if let Some(process) = process {
            let peer = socket_peercred(&stream).map_err(|e| socket(e.into()))?.pid;
            if u32::try_from(peer.as_raw_nonzero().get()).ok() != Some(process) {
                return Err(ChannelError::Stranger { path: path.to_owned() });
            }
        }
        stream.set_write_timeout(Some(WRITE_TIMEOUT.min(time))).map_err(socket)?;
        let reading = stream.try_clone().map_err(socket)?;
        let mut nonce = Nonce([0; 16]);
        random(&mut nonce.0)?;
        let link = Arc::new(Link { shared: Shared::default(), stream: Mutex::new(stream) });
        let reader = Arc::clone(&link);
        thread::Builder::new()
            .name("guest-channel".into())
            .spawn(move || {
                let why = read(&reader.shared, reading, nonce);
                reader.shared.close(why);
            })
            .map_err(socket)?;
        let channel = Self { link };
        if !first {
            // Whatever an earlier host had begun ends here.
            channel.link.write(&vec![0; FILL])?;
        }
        channel.link.send(&HostMessage::Hello { version: VERSION, nonce })?;
        channel.link.shared.wait("the guest's answer", end, |view| view.welcomed.then_some(()))?;
        Ok(channel)
    }

    /// How far the instance is.
    pub fn phase(&self) -> Phase {
        self.link.shared.with(|view| view.phase.clone())
    }

    /// The release of the guest's kernel.
    pub fn kernel(&self) -> String {
        self.link.shared.with(|view| view.kernel.clone())
    }

    /// The last result of the health check: whether it passed, and what was seen.
    pub fn health(&self) -> Option<(bool, String)> {
        self.link.shared.with(|view| view.health.clone())
    }

    /// Waits for a phase other than the one that was seen, or for a result of the health check after
    /// those that were seen; what is so now. A guest that says much is heard at its last word.
    ///
    /// # Errors
    /// Neither came in `time`; the guest is gone.
    pub fn news(&self, seen: &Seen, time: Duration) -> Result<Seen, ChannelError> {
        let end = Instant::now() + time;
        self.link.shared.wait("a word of the guest", end, |view| {
            let news = view.phase != seen.phase || view.checks != seen.checks;
            news.then(|| view.seen())
        })
    }

    /// Tells the guest who it is and what it runs. What is secret is overwritten here once it is sent.
    ///
    /// # Errors
    /// The guest was told before, or is gone.
    pub fn start(&self, start: Start) -> Result<(), ChannelError> {
        if self.phase() != Phase::Blank {
            return Err(ChannelError::Started);
        }
        let mut message = HostMessage::Start(Box::new(start));
        let mut payload = encode(&message);
        let bytes = Zeroizing::new(frame(&payload));
        let (Frame::Control(payload) | Frame::Data(_, payload)) = &mut payload;
        payload.zeroize();
        if let HostMessage::Start(start) = &mut message {
            start.secrets.zeroize();
        }
        self.link.write(&bytes)
    }

    /// Waits for a phase that `wanted` takes.
    ///
    /// # Errors
    /// None in `time`, or the guest is gone.
    pub fn wait_phase<T>(
        &self,
        time: Duration,
        wanted: impl Fn(&Phase) -> Option<T>,
    ) -> Result<T, ChannelError> {
        let end = Instant::now() + time;
        self.link.shared.wait("the instance's phase", end, |view| wanted(&view.phase))
    }

    /// Waits for a result of the health check that `wanted` takes.
    ///
    /// # Errors
    /// None in `time`, or the guest is gone.
    pub fn wait_health(
        &self,
        time: Duration,
        wanted: impl Fn(bool) -> bool,
    ) -> Result<String, ChannelError> {
        let end = Instant::now() + time;
        self.link.shared.wait("a health check", end, |view| {
            let (passed, seen) = view.health.as_ref()?;
            wanted(*passed).then(|| seen.clone())
        })
    }

    /// Ends the workload: the signal, and SIGKILL once the grace has passed, both in the guest.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn stop(&self, signal: u8, grace: Duration) -> Result<(), ChannelError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.link.send(&HostMessage::Stop { signal, grace_ms })
    }

    /// A signal to the workload.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn signal(&self, signal: u8) -> Result<(), ChannelError> {
        self.link.send(&HostMessage::Signal(signal))
    }

    /// Lets the machine switch itself off. Its last words should have been read.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn power_off(&self) -> Result<(), ChannelError> {
        self.link.send(&HostMessage::PowerOff)
    }

    /// The next lines of the log, at most a window of them; empty at its end. What was taken is not
    /// told again, to nobody.
    ///
    /// # Errors
    /// None in `time`; the guest is gone, or sends no log.
    pub fn read_log(&self, time: Duration) -> Result<Vec<LogRecord>, ChannelError> {
        let end = Instant::now() + time;
        let (records, offset) = self.link.shared.wait("the log", end, View::take_log)??;
        if let Some(offset) = offset {
            self.link.send(&HostMessage::Ack(LOG_STREAM, offset))?;
        }
        Ok(records)
    }

    /// The same for who writes them down: the guest forgets them once `keep` is done. `false` at the
    /// end of the log.
    ///
    /// # Errors
    /// As [`Channel::read_log`].
    pub fn keep_log(
        &self,
        time: Duration,
        keep: impl FnOnce(&[LogRecord]),
    ) -> Result<bool, ChannelError> {
        let end = Instant::now() + time;
        let (records, offset) = self.link.shared.wait("the log", end, View::take_log)??;
        keep(&records);
        if let Some(offset) = offset {
            self.link.send(&HostMessage::Ack(LOG_STREAM, offset))?;
        }
        Ok(!records.is_empty())
    }

    /// Waits until somebody has taken the log to its end.
    ///
    /// # Errors
    /// Nobody did in `time`, or the guest is gone.
    pub fn wait_log_taken(&self, time: Duration) -> Result<(), ChannelError> {
        let end = Instant::now() + time;
        self.link.shared.wait("the end of the log", end, |view| view.log_is_taken().then_some(()))
    }

    /// Starts a session beside the workload.
    ///
    /// # Errors
    /// There are too many; the guest is gone, or does not answer in `time`.
    pub fn exec(&self, spec: ExecSpec, time: Duration) -> Result<Exec, ChannelError> {
        Exec::start(Arc::clone(&self.link), spec, time)
    }

    /// The sessions that an earlier host left, by number.
    pub fn sessions(&self) -> Vec<u16> {
        self.link.shared.with(View::orphans)
    }

    /// Goes on with a session that an earlier host left.
    ///
    /// # Errors
    /// There is none of this number, or somebody has it.
    pub fn adopt_exec(&self, id: u16) -> Result<Exec, ChannelError> {
        Exec::adopt(Arc::clone(&self.link), id)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // Ends the reader. A socket that is closed already is what is wanted.
        let _ = self.link.stream().shutdown(Shutdown::Both);
    }
}

impl Link {
    fn stream(&self) -> MutexGuard<'_, UnixStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, message: &HostMessage) -> Result<(), ChannelError> {
        self.write(&frame(&encode(message)))
    }

    /// Sends what a session's input has, in order: who holds the stream takes it.
    pub(crate) fn send_stdin(&self, id: u16) -> Result<(), ChannelError> {
        let mut stream = self.stream();
        while let Some((number, payload)) = self.shared.with(|view| view.next_stdin(id)) {
            self.write_to(&mut stream, &frame(&Frame::Data(number, payload)))?;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.write_to(&mut self.stream(), bytes)
    }

    fn write_to(&self, stream: &mut UnixStream, bytes: &[u8]) -> Result<(), ChannelError> {
        stream.write_all(bytes).map_err(|source| {
            // Half of a frame may be out: the guest mends that when the next host greets.
            let _ = stream.shutdown(Shutdown::Both);
            match self.shared.with(|view| view.closed.clone()) {
                Some(why) => why,
                None => ChannelError::Write(source.kind()),
            }
        })
    }
}

/// Reads until the end; gives why it came.
fn read(shared: &Shared, mut stream: UnixStream, nonce: Nonce) -> ChannelError {
    let mut hunt = Some(Hunt::new(nonce));
    let mut decoder = Decoder::new(GUEST_FRAME_MAX);
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return ChannelError::Closed,
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return ChannelError::Closed,
        };
        if let Some(hunting) = &mut hunt {
            match hunting.feed(&bytes[..count]) {
                Ok(None) => continue,
                Ok(Some(rest)) => {
                    hunt = None;
                    decoder.feed(&rest);
                }
                Err(e) => return e.into(),
            }
        } else {
            decoder.feed(&bytes[..count]);
        }
        loop {
            let result = match decoder.next() {
                Ok(None) => break,
                Ok(Some(Frame::Control(payload))) => vyr_channel::decode_guest(&payload)
                    .map_err(ChannelError::from)
                    .and_then(|message| listen(shared, message, nonce)),
                Ok(Some(Frame::Data(stream, payload))) => {
                    shared.with(|view| view.data(stream, &payload)).map_err(ChannelError::from)
                }
                Err(e) => Err(e.into()),
            };
            if let Err(why) = result {
                let _ = stream.shutdown(Shutdown::Both);
                return why;
            }
        }
    }
}

fn listen(shared: &Shared, message: GuestMessage, nonce: Nonce) -> Result<(), ChannelError> {
    shared.with(|view| match message {
        GuestMessage::Welcome { version, .. } if version != VERSION => {
            Err(ChannelError::Version { host: VERSION, guest: version })
        }
        GuestMessage::Welcome { nonce: of, state, .. } if of == nonce && !view.welcomed => {
            view.welcome(state);
            Ok(())
        }
        GuestMessage::Welcome { .. } => Err(ChannelError::Unasked),
        _ if !view.welcomed => Err(ChannelError::Unasked),
        GuestMessage::Phase(phase) => {
            view.phase = view::bounded(phase);
            Ok(())
        }
        GuestMessage::Exec(state) => {
            view.exec_state(state);
            Ok(())
        }
        GuestMessage::Ack(stream, offset) => Ok(view.ack(stream, offset)?),
        GuestMessage::Health { passed, seen } => {
            view.health = Some((passed, vyr_channel::shortened(&seen)));
            view.checks += 1;
            Ok(())
        }
    })
}

/// Bytes from the host's generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ChannelError> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|_| ChannelError::Random)?;
    }
    Ok(())
}

/// 32 bytes of entropy and the time, as `Start` carries them: both are of this moment.
///
/// # Errors
/// The host's generator does not answer.
pub fn fresh() -> Result<([u8; 32], u64), ChannelError> {
    let mut entropy = [0; 32];
    random(&mut entropy)?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time_ns = u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
    Ok((entropy, time_ns))
}
