//! The way to a node: over its socket where one listens, else to a node in this process on the
//! same data directory. Both speak the same interface, so that a command is written once.
//!
//! ```text
//!  Link::found  --operator.sock, else control.sock-->  vyr up
//!  Link::here   --one end of a socket pair-->          a node of this process, its own tasks only
//!  Records                                             the journal read, nothing started
//! ```

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use vyr_api::{ApiError, Client, ConnectError, Endpoint};
use vyr_base::{Category, Problem};
use vyr_node::api::{About, Access, Records, serve_here};
use vyr_node::node::{Budget, Host, LocalHost, Node, NodeConfig, Retention};
use vyr_node::process::CompilerProcess;
use vyr_node::{DataDir, Result, Sockets};
use vyr_task::{Ceilings, Limits};

/// Tasks that may wait in a node of this process; a stream of lines comes back for the rest.
const QUEUE_MAX: usize = 4096;

/// Tasks at once in a node of this process.
const SLOTS: u32 = 32;

/// A state is not for this process to end.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What the node refused, with our exit code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) ApiError);

impl Problem for Refused {
    fn category(&self) -> Category {
        category(&self.0)
    }

    fn hint(&self) -> Option<String> {
        match self.0.code {
            tonic::Code::Unimplemented => Some(
                "this socket has only the calls of submitters; ask the node's owner, or name \
                 another --data-dir"
                    .into(),
            ),
            _ => self.0.hint.clone(),
        }
    }
}

/// The exit category of the word that the interface uses.
pub(crate) fn category(error: &ApiError) -> Category {
    if error.code == tonic::Code::Unimplemented {
        return Category::Auth;
    }
    match error.category.as_str() {
        "usage" | "unsupported_artifact" => Category::Usage,
        "auth" => Category::Auth,
        "not_found" => Category::NotFound,
        "conflict" => Category::Conflict,
        "transient" | "resource_exhausted" => Category::Transient,
        "failure" => Category::Failure,
        _ => Category::Internal,
    }
}

/// For `map_err`.
pub(crate) fn refused(error: impl Into<ApiError>) -> Refused {
    Refused(error.into())
}

/// Why there is no way to a node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("no node is running on {data}, and {what} needs one")]
    NoNode { data: String, what: &'static str },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot set up the way to the node")]
    SetUp(#[source] io::Error),
    #[error("task {task} is run by another process")]
    Elsewhere { task: String },
    #[error("task {task} has not ended, and no node is running that could end it")]
    Abandoned { task: String },
}

impl Problem for LinkError {
    fn category(&self) -> Category {
        match self {
            Self::NoNode { .. } | Self::Connect(_) => Category::Transient,
            Self::SetUp(_) => Category::Internal,
            Self::Elsewhere { .. } | Self::Abandoned { .. } => Category::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoNode { .. } => Some("start one: vyr up".into()),
            Self::Connect(_) => Some("see whether it is ready: vyr status".into()),
            Self::SetUp(_) => None,
            Self::Elsewhere { .. } => Some("end the vyr command that submitted it".into()),
            Self::Abandoned { .. } => {
                Some("start a node, which runs it: vyr up (or wait with --timeout)".into())
            }
        }
    }
}

/// A data directory that was named or chosen, not opened yet.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    named: bool,
}

impl Place {
    pub(crate) fn choose(option: Option<PathBuf>) -> Result<Self> {
        let (path, named) = DataDir::choose(option)?;
        // As the node does, which opened it: by whatever name, its sockets are in one place.
        Ok(Self { path: path.canonicalize().unwrap_or(path), named })
    }

    pub(crate) fn open(&self) -> Result<DataDir> {
        Ok(DataDir::open(&self.path)?)
    }

    /// That `what` cannot be had, because there is no node.
    pub(crate) fn no_node(&self, what: &'static str) -> LinkError {
        LinkError::NoNode { data: self.path.display().to_string(), what }
    }

    /// The way for something that only a running node can do.
    pub(crate) fn node(&self, what: &'static str) -> Result<Link> {
        Link::found(self)?.ok_or_else(|| self.no_node(what).into())
    }

    /// The way for something that only reads.
    pub(crate) fn reads(&self) -> Result<Reads> {
        Ok(match Link::found(self)? {
            Some(link) => Reads::Node(link),
            None => Reads::Records(Records::open(&self.open()?)?),
        })
    }
}

/// Where records are read.
pub(crate) enum Reads {
    /// From a node.
    Node(Link),
    /// From the data directory; `None`: nothing was ever recorded there.
    Records(Option<Records>),
}

/// What a node of this process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    /// Run one task.
    One,
    /// Run many tasks at once.
    Many,
    /// Run nothing.
    None,
}

/// A connection to a node.
pub(crate) struct Link {
    client: Client,
    runtime: Runtime,
    here: Option<Arc<Node>>,
}

/// A host that starts nothing: for what needs a ledger and no guest.
struct NoTasks;

impl Host for NoTasks {
    fn start_tasks(&mut self) -> io::Result<UnixStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stop_tasks(&mut self) {}
}

impl Link {
    /// To the node that listens for this place, if one does.
    pub(crate) fn found(place: &Place) -> Result<Option<Self>> {
        let Some(socket) = Sockets::find(&place.path, place.named) else { return Ok(None) };
        let runtime = runtime()?;
        let client = runtime.block_on(Client::connect(&Endpoint::Unix(socket)));
        Ok(Some(Self { client: client.map_err(LinkError::from)?, runtime, here: None }))
    }

    /// To a node of this process, which runs what is submitted through this link and nothing else.
    pub(crate) fn here(data: &DataDir, hands: Hands) -> Result<Self> {
        let cores = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let (slots, workers) = match hands {
            Hands::Many => (SLOTS, cores.min(SLOTS)),
            Hands::One | Hands::None => (1, 1),
        };
        let host: Box<dyn Host> = match hands {
            Hands::None => Box::new(NoTasks),
            _ => Box::new(LocalHost::new(slots, workers).map_err(LinkError::SetUp)?),
        };
        let Ceilings(most) = Ceilings::default();
        let config = NodeConfig {
            // Whatever fits the ceilings fits; the slots bound how many run.
            budget: Budget {
                memory_bytes: most.memory_bytes * u64::from(slots),
                cpu_millis: 1000 * u64::from(slots),
                tasks: slots.into(),
            },
            queue_max: QUEUE_MAX,
            // Sealing is for a node that stays.
            retention: Retention { tasks: i64::MAX.cast_unsigned() },
            state_idle: NEVER,
            checkpoint_out: None,
            adopt: false,
        };
        let node = Node::start(data, config, host, Arc::new(CompilerProcess::default()))?;
        let node = Arc::new(node);
        let own = rustix::process::geteuid().as_raw();
        let access = Access::new(&std::collections::BTreeMap::new(), own)
            .unwrap_or_else(|e| unreachable!("an empty table: {e}"));
        let limits = Limits::default();
        let about = About {
            processes: Arc::new(Vec::new),
            telemetry: None,
            limits,
            ceilings: Ceilings::default(),
            network: None,
            services: None,
        };
        let (ours, theirs) = UnixStream::pair().map_err(LinkError::SetUp)?;
        let runtime = runtime()?;
        runtime.spawn(serve_here(Arc::clone(&node), access, about, theirs));
        let client = runtime.block_on(async {
            ours.set_nonblocking(true).map_err(LinkError::SetUp)?;
            let ours = tokio::net::UnixStream::from_std(ours).map_err(LinkError::SetUp)?;
            Ok::<_, LinkError>(Client::over(ours).await?)
        })?;
        Ok(Self { client, runtime, here: Some(node) })
    }

    /// Whether the node is in this process.
    pub(crate) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Does some work with a client.
    pub(crate) fn with<T>(&self, work: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
        self.runtime.block_on(work(self.client.clone()))
    }

    /// Stops a node of this process, which signs its last checkpoint. What is recorded can still
    /// be read.
    pub(crate) fn stop(&self) {
        if let Some(node) = &self.here {
            node.stop(Duration::ZERO);
        }
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.stop();
        self.runtime.shutdown_background();
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build().map_err(LinkError::SetUp)?)
}
