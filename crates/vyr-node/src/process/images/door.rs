//! The way to `images`, from `api`: many may wait for images at once, each for its own.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver as Waiting, Sender as Telling, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vyr_base::{Category, Digest};
use vyr_vm::image::{Accounts, BuildError, Config, Disk, Images, User};
use zeroize::Zeroizing;

use super::words::{Fetch, FetchProgress, ImageError, ImageReason, Order, Said, Secret, What};
use crate::process::wire::{Receiver, encode, write_all};

/// How long the supervisor may take to start it.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Room for an order and all that is in it: a text that is a secret must not be copied by growing.
const ORDER_BYTES: usize = 64 << 10;

/// How often an order is given that nobody answered: it may have ended because nobody had asked for
/// long, or have been killed; what it had is kept.
const TRIES: usize = 2;

/// A root disk that is there.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where it is: read-only, under its own digest.
    pub disk: PathBuf,
    /// That digest.
    pub disk_digest: Digest,
    /// What the image runs.
    pub config: Config,
    /// As whom.
    pub user: User,
    /// Whom it knows.
    pub accounts: Accounts,
}

/// The way to the process `images`.
pub struct ImagesDoor {
    root: PathBuf,
    start: Box<dyn Fn() + Send + Sync>,
    inside: Mutex<Inside>,
}

struct Inside {
    started: Waiting<io::Result<OwnedFd>>,
    open: Option<Arc<Open>>,
    next: u64,
}

/// One life of the process.
struct Open {
    socket: UnixStream,
    /// Who waits, by number; none: it has ended, and answers nobody any more.
    waiting: Mutex<Option<HashMap<u64, Telling<What>>>>,
}

impl std::fmt::Debug for ImagesDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImagesDoor").field("root", &self.root).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unable(why: impl std::fmt::Display) -> ImageError {
    ImageError {
        reason: ImageReason::ImagePullFailed,
        message: format!("the process images does not answer: {why}"),
        category: Category::Transient,
        hint: Some("it is started again when it is asked again".into()),
    }
}

impl ImagesDoor {
    /// `start` asks the supervisor for the process, which then is `started`, or not.
    pub(crate) fn new(
        data: &Path,
        start: impl Fn() + Send + Sync + 'static,
        started: Waiting<io::Result<OwnedFd>>,
    ) -> Self {
        let inside = Mutex::new(Inside { started, open: None, next: 0 });
        Self { root: data.join("images"), start: Box::new(start), inside }
    }

    /// The same without a supervisor: the process is a child of this one, and ends with the thread
    /// that first asked. The number of its latest life is behind the second value; 0: none.
    pub fn alone(data: &Path) -> (Self, Arc<AtomicU32>) {
        let pid = Arc::new(AtomicU32::new(0));
        let (tell, started) = sync_channel(1);
        let (of_start, data_of_start) = (Arc::clone(&pid), data.to_owned());
        let last: Mutex<Option<Child>> = Mutex::new(None);
        let start = move || {
            let mut last = lock(&last);
            if let Some(mut child) = last.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            let socket = super::start(&data_of_start).map(|(child, socket)| {
                of_start.store(child.id(), Ordering::SeqCst);
                *last = Some(child);
                OwnedFd::from(socket)
            });
            // Who asked waits for it.
            let _ = tell.send(socket);
        };
        (Self::new(data, start, started), pid)
    }

    /// The disk of an image, if it was made before; nobody is asked for that.
    ///
    /// # Errors
    /// The images' directory cannot be read.
    pub fn cached(&self, digest: &Digest) -> Result<Option<Fetched>, ImageError> {
        let images = Images::open(&self.root)
            .map_err(|e| ImageError::new(ImageReason::RootfsBuildFailed, &e))?;
        match images.disk(digest) {
            Ok(disk) => {
                let Disk { disk_digest, config, user, accounts, .. } = disk;
                let disk = images.disk_path(&disk_digest);
                Ok(Some(Fetched { disk, disk_digest, config, user, accounts }))
            }
            Err(BuildError::NotBuilt { .. } | BuildError::Record { .. }) => Ok(None),
            Err(e) => Err(ImageError::build(&e)),
        }
    }

    /// Makes an image's disk be there, and waits for it; blocks. A disk that is there needs no
    /// registry, unless it is to be asked. `progress` is told how far it is.
    ///
    /// # Errors
    /// The reason, with what was said.
    pub fn fetch(
        &self,
        fetch: &Fetch,
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<Fetched, ImageError> {
        if !fetch.ask
            && let Some(found) = self.cached(&fetch.digest)?
        {
            return Ok(found);
        }
        for _ in 0..TRIES {
            let Some(said) = self.order(fetch)? else { continue };
            while let Ok(what) = said.recv() {
                match what {
                    What::Progress(far) => progress(far),
                    What::Failed(error) => return Err(*error),
                    What::Done => {
                        let missing = || unable("it made another disk than it was asked for");
                        return self.cached(&fetch.digest)?.ok_or_else(missing);
                    }
                }
            }
        }
        Err(unable("it ended before it answered; what arrived is kept"))
    }

    /// Gives an order; none: the process has ended meanwhile.
    fn order(&self, fetch: &Fetch) -> Result<Option<Waiting<What>>, ImageError> {
        let mut inside = lock(&self.inside);
        inside.next += 1;
        let id = inside.next;
        let reference = fetch.reference.pinned(fetch.digest).to_string();
        let secret = |it: &vyr_vm::image::Credentials| Secret(Zeroizing::new(it.encoded().into()));
        let credentials = fetch.credentials.as_ref().map(secret);
        let Fetch { plain_http, ask, .. } = *fetch;
        let order = Order { id, reference, plain_http, credentials, ask };
        let mut bytes = Zeroizing::new(Vec::with_capacity(ORDER_BYTES));
        encode(&order, 0, &mut bytes).map_err(unable)?;
        let open = match inside.open.take().filter(|open| lock(&open.waiting).is_some()) {
            Some(open) => open,
            None => self.start(&inside)?,
        };
        inside.open = Some(Arc::clone(&open));
        let (tell, said) = channel();
        match &mut *lock(&open.waiting) {
            Some(waiting) => waiting.insert(id, tell),
            None => return Ok(None),
        };
        Ok(write_all(&open.socket, &bytes).is_ok().then_some(said))
    }

    fn start(&self, inside: &Inside) -> Result<Arc<Open>, ImageError> {
        (self.start)();
        let started = inside.started.recv_timeout(START_PATIENCE);
        let started = started.map_err(|_| unable("it was not started in time"))?;
        let socket = UnixStream::from(started.map_err(unable)?);
        let reader = socket.try_clone().map_err(unable)?;
        let open = Arc::new(Open { socket, waiting: Mutex::new(Some(HashMap::new())) });
        let of_reader = Arc::clone(&open);
        std::thread::Builder::new()
            .name("vyr-images".into())
            .spawn(move || of_reader.listen(reader))
            .map_err(unable)?;
        Ok(open)
    }
}

impl Open {
    /// Passes on what is said, to its end.
    fn listen(&self, reader: UnixStream) {
        let mut receiver = Receiver::new(reader);
        while let Ok(Some((Said { id, what }, _))) = receiver.next::<Said>() {
            let mut waiting = lock(&self.waiting);
            let Some(waiting) = waiting.as_mut() else { break };
            let is_last = !matches!(what, What::Progress(_));
            // Who waited may have gone.
            if let Some(tell) = waiting.get(&id) {
                let _ = tell.send(what);
            }
            if is_last {
                waiting.remove(&id);
            }
        }
        // Who waits hears that nobody says anything any more.
        *lock(&self.waiting) = None;
    }
}
