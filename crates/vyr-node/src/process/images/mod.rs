//! The `images` process: it alone of a node's processes speaks with registries and reads layers.
//!
//! ```text
//! api --Order, credentials--> images --HTTPS--> registry
//!      <--progress, done-------  |
//!                                +--tar--> tar2sqfs --> DATA/images/disks/<digest>.squashfs
//! ```
//!
//! It is started when it is first asked and ends when nobody has asked for a minute. Under root it has
//! a user of its own (60806), which `DATA/images` belongs to; it can read what name lookups, TLS and
//! tar2sqfs need, and nothing else of the machine or of the node. What it makes is read by others,
//! under the digest it was asked for.
//!
//! When it is killed what arrived stays, and the next one goes on with it. It is never asked for a
//! disk that is there: a registry that cannot be reached stops nothing that runs already.
//!
//! Deliberately elsewhere: how images are pulled and disks made (`vyr_vm::image`), which images are
//! wanted (`vyr-service`).

mod door;
mod words;

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vyr_base::{Category, Problem};
use vyr_vm::image::{Credentials, Images, Limits, Progress, Reference, Registry, Source};

use super::confine::confine_images;
use super::wire::{Receiver, Sender};
use super::{Role, this_binary};
pub use door::{Fetched, ImagesDoor};
pub use words::{Fetch, FetchProgress, ImageError, ImageReason};
use words::{Order, Said, Secret, What};

/// Images at once: one arrives while the disk of another is made.
const WORKERS: usize = 2;

/// Orders that wait. A node that starts everything anew has fewer different images.
const QUEUE_MAX: usize = 256;

/// Nobody has asked for so long: what comes next may start it again.
const IDLE: Duration = Duration::from_secs(60);

/// Between two words about progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// Starts it, with one end of a socket as its standard input.
pub(super) fn start(data: &Path) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(this_binary());
    command.arg(Role::Images.argument()).arg(data).env_clear();
    // Where tar2sqfs is, and whom TLS believes.
    for name in ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let child = command
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

/// The life of the process, from inside. Its argument: the data directory.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let fail = |what: String| {
        eprintln!("vyr images: {what}");
        7
    };
    let [data] = arguments else { return 2 };
    let root = Path::new(data).join("images");
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).map(UnixStream::from);
    let both = socket.map_err(io::Error::from).and_then(|s| Ok((s.try_clone()?, s)));
    let (reader, writer) = match both {
        Ok(both) => both,
        Err(e) => return fail(format!("no socket on stdin: {e}")),
    };
    let prepared = match (rustix::process::getuid().is_root(), Role::Images.uid()) {
        (true, Some(uid)) => Images::prepare(&root, uid),
        _ => Images::open(&root).map(drop),
    };
    if let Err(e) = prepared {
        return fail(said(&e));
    }
    // From here on paths are below it: what is above may be closed to this process.
    if let Err(e) = std::env::set_current_dir(&root) {
        return fail(format!("cannot enter {}: {e}", root.display()));
    }
    if let Err(e) = confine_images(&root) {
        return fail(e.to_string());
    }
    match Images::open(Path::new(".")) {
        Ok(images) => run(images, reader, writer),
        Err(e) => fail(said(&e)),
    }
}

/// A problem and what is beneath it, in a line.
fn said(problem: &dyn Problem) -> String {
    ImageError::new(ImageReason::ImagePullFailed, problem).message
}

/// Takes orders until nobody has more.
fn run(images: Images, reader: UnixStream, writer: UnixStream) -> u8 {
    let busy = Arc::new(AtomicUsize::new(0));
    let writer = Arc::new(Mutex::new(Sender::new(writer)));
    let images = Arc::new(images);
    let (queue, orders) = sync_channel::<Order>(QUEUE_MAX);
    let orders = Arc::new(Mutex::new(orders));
    for number in 0..WORKERS {
        let (images, writer) = (Arc::clone(&images), Arc::clone(&writer));
        let (orders, busy) = (Arc::clone(&orders), Arc::clone(&busy));
        let work = move || {
            loop {
                let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(order) = order else { return };
                let id = order.id;
                let what = match fetch(&images, order, &writer) {
                    Ok(()) => What::Done,
                    Err(error) => What::Failed(Box::new(error)),
                };
                tell(&writer, id, what);
                busy.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let started = std::thread::Builder::new().name(format!("vyr-image-{number}")).spawn(work);
        if let Err(e) = started {
            eprintln!("vyr images: cannot start a thread: {e}");
            return 7;
        }
    }
    let mut receiver = Receiver::new(reader);
    if let Err(e) = receiver.set_timeout(Some(IDLE)) {
        eprintln!("vyr images: {e}");
        return 7;
    }
    loop {
        match receiver.next::<Order>() {
            Ok(Some((order, _))) => take(&queue, &busy, &writer, order),
            Ok(None) => return 0,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if busy.load(Ordering::SeqCst) == 0 {
                    return 0;
                }
            }
            Err(e) => {
                eprintln!("vyr images: {e}");
                return 7;
            }
        }
    }
}

fn take(queue: &SyncSender<Order>, busy: &AtomicUsize, writer: &Mutex<Sender>, order: Order) {
    busy.fetch_add(1, Ordering::SeqCst);
    match queue.try_send(order) {
        Ok(()) => {}
        Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => {
            busy.fetch_sub(1, Ordering::SeqCst);
            let error = ImageError {
                reason: ImageReason::ImagePullFailed,
                message: format!("{QUEUE_MAX} images wait already"),
                category: Category::Transient,
                hint: Some("try again when some of them have arrived".into()),
            };
            tell(writer, order.id, What::Failed(Box::new(error)));
        }
    }
}

fn tell(writer: &Mutex<Sender>, id: u64, what: What) {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    // If nobody reads any more, the end of this process is near.
    let _ = writer.send(&Said { id, what }, &[]).and_then(|()| writer.flush());
}

/// From an order to the disk.
fn fetch(images: &Images, order: Order, writer: &Mutex<Sender>) -> Result<(), ImageError> {
    let limits = Limits::default();
    let Order { id, reference, plain_http, credentials, ask } = order;
    let refused = |problem: &dyn Problem| ImageError::new(ImageReason::ImagePullFailed, problem);
    let reference: Reference = reference.parse().map_err(|e| refused(&e))?;
    let digest = reference.digest().map_err(|e| refused(&e))?;
    let is_made = images.disk(&digest).is_ok();
    if is_made && !ask {
        return Ok(());
    }
    let credentials = credentials.and_then(|Secret(text)| Credentials::from_encoded(text));
    let registry = Registry::new(&reference, plain_http, credentials, &limits);
    if ask {
        registry.check(&reference).map_err(|e| refused(&e))?;
    }
    if is_made {
        return Ok(());
    }
    // What was pulled before, by whomever, needs no registry.
    if images.show(&digest, &limits).is_err() {
        let source = Source::Registry(&registry, &reference);
        let told =
            Told { id, writer, total: Cell::new(0), here: Cell::new(0), last: Cell::new(None) };
        images.pull(&source, &limits, &told).map_err(|e| ImageError::pull(&e))?;
    }
    tell(writer, id, What::Progress(FetchProgress::Building));
    images.build(&digest, &limits, false).map(drop).map_err(|e| ImageError::build(&e))
}

/// Tells how far a pull is, now and then.
struct Told<'a> {
    id: u64,
    writer: &'a Mutex<Sender>,
    total: Cell<u64>,
    here: Cell<u64>,
    last: Cell<Option<Instant>>,
}

impl Told<'_> {
    fn say(&self) {
        let progress =
            FetchProgress::Pulling { bytes: self.here.get(), total_bytes: self.total.get() };
        tell(self.writer, self.id, What::Progress(progress));
        self.last.set(Some(Instant::now()));
    }
}

impl Progress for Told<'_> {
    fn total(&self, bytes: u64) {
        self.total.set(bytes);
        self.say();
    }

    fn advance(&self, bytes: u64) {
        self.here.set(self.here.get().saturating_add(bytes));
        let whole = self.here.get() >= self.total.get();
        if whole || self.last.get().is_none_or(|last| last.elapsed() >= PROGRESS_PAUSE) {
            self.say();
        }
    }
}
