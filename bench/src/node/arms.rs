//! Both arms as processes on the same disk: a node, and the reference.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::{ArtifactHead, PutArtifactRequest, Span, StreamTracesRequest, TraceFilter};
use vyr_api::operator::{ListEventsRequest, StatusRequest};
use vyr_api::{Client, Endpoint};
use vyr_artifact::{Artifact, Namespace, Spec, signed_bytes};
use vyr_base::Digest;
use vyr_journal::{Body, Event};
use vyr_node::keys::{DEV, SigningKey};
use vyr_node::{DataDir, Sockets};

use super::load::{Target, seq_of};
use super::rows::{Task, Template};
use crate::guests::Guest;
use crate::memory::Resident;
use crate::process::Line;

/// A process that does not serve after this long will not.
const READY: Duration = Duration::from_secs(30);

/// One that does not end after this long is killed: running tasks get 30 s, and none runs.
const END: Duration = Duration::from_secs(10);

/// Between two looks at a process that starts or ends.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A node with the artifact to run.
#[derive(Debug)]
pub(crate) struct NodeArm {
    child: Child,
    data: DataDir,
    /// All its processes, by name.
    pub(crate) processes: Vec<(String, u32)>,
    /// Whom to load.
    pub(crate) target: Target,
}

/// What a node runs: built, and signed by nobody yet.
pub(crate) struct Built {
    artifact: Artifact,
    wasm: bytes::Bytes,
}

impl Built {
    /// `guest`, with its arguments and the states it wants.
    pub(crate) fn new(guest: &Guest, name: &str, args: &[&str], states: &[&str]) -> Result<Self> {
        let [args, states] =
            [args, states].map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        let spec = Spec { name: name.into(), args, env: Default::default(), states };
        Ok(Self { artifact: Artifact::build(&spec, &guest.wasm)?, wasm: guest.wasm.clone() })
    }

    fn digest(&self) -> Digest {
        self.artifact.manifest.digest()
    }
}

impl NodeArm {
    /// Starts `vyr up` on a new data directory below `directory`, with `environment` added and
    /// configured by `config`, and puts `guest` into it.
    pub(crate) async fn start(
        vyr: &Path,
        directory: &Path,
        guest: &Guest,
        environment: &[(&'static str, String)],
        config: &str,
    ) -> Result<Self> {
        let data = directory.join("node");
        let wasm = directory.join(guest.file_name());
        fs::write(&wasm, &guest.wasm)?;
        // Makes the development key, and says what the guest prints.
        let line = Line::new(vyr).arg("--data-dir").arg(&data).arg("run").arg(&wasm);
        let output = Digest::of(&line.run()?.stdout).to_string();
        fs::write(data.join("vyr.toml"), config)?;
        let data = DataDir::open(&data)?;
        let errors = fs::File::create(directory.join("node.log"))?;
        let child = Command::new(vyr)
            .arg("--data-dir")
            .arg(data.path())
            .arg("up")
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .context("cannot start vyr up")?;
        let socket = Sockets::of(data.path(), true).operator();
        let target = Target { endpoint: Endpoint::Unix(socket), artifact: String::new(), output };
        let mut arm = Self { child, data, processes: Vec::new(), target };
        let mut client = arm.ready().await?;
        let status = client.operator.status(StatusRequest {}).await?.into_inner();
        arm.processes = status.processes.into_iter().map(|of| (of.name, of.pid)).collect();
        let built = Built::new(guest, "benchmark", &[], &[])?;
        arm.target.artifact = arm.put(&built).await?;
        Ok(arm)
    }

    async fn ready(&mut self) -> Result<Client> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("vyr up ended ({status})");
            }
            if let Ok(mut client) = Client::connect(&self.target.endpoint).await
                && client.operator.status(StatusRequest {}).await.is_ok()
            {
                return Ok(client);
            }
            ensure!(began.elapsed() < READY, "vyr up does not serve");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.target.endpoint).await?)
    }

    /// Signs an artifact with the development key and puts it; its digest.
    pub(crate) async fn put(&self, built: &Built) -> Result<String> {
        let digest = built.digest();
        let failed = |report: vyr_node::Report| anyhow!("{report}");
        let key = SigningKey::open(&self.data.keys()?.join(DEV)).map_err(failed)?;
        let signature = key.sign(Namespace::Artifact, &signed_bytes(&digest)).map_err(failed)?;
        let manifest = &built.artifact.manifest;
        let head = ArtifactHead {
            digest: digest.to_string(),
            manifest: manifest.bytes().to_vec().into(),
            signature: signature.into_bytes().into(),
        };
        let blob = |digest: &Digest| Part::BlobDigest(digest.to_string());
        let mut parts = vec![
            Part::Head(head),
            blob(&manifest.config().digest),
            Part::Chunk(built.artifact.config.clone().into()),
            blob(&manifest.wasm().digest),
        ];
        parts.extend(built.wasm.chunks(1 << 20).map(|chunk| Part::Chunk(chunk.to_vec().into())));
        let parts = parts.into_iter().map(|part| PutArtifactRequest { part: Some(part) });
        let mut client = self.client().await?;
        let put = client.control.put_artifact(tokio_stream::iter(parts)).await?.into_inner();
        Ok(put.digest)
    }

    /// Runs one task and reads what it left in the journal.
    pub(crate) async fn one_task(&self) -> Result<Task> {
        let mut client = self.client().await?;
        let filter = TraceFilter { terminal_only: true, live_only: true, ..Default::default() };
        let request = StreamTracesRequest { filter: Some(filter) };
        let mut spans = client.control.stream_traces(request).await?.into_inner();
        let id = client.submit(&self.target.artifact, b"").await?;
        let span: Span = spans.message().await?.context("no span")?;
        ensure!(span.task_id == id, "another task's span");
        let of = seq_of(&id)?;
        let (mut accepted, mut started, mut ended) = (None, None, None);
        let request = ListEventsRequest { from: of, limit: 0, follow: false };
        let mut events = client.operator.list_events(request).await?.into_inner();
        while let Some(event) = events.message().await? {
            let place = match Event::from_leaf(&event.leaf)?.body {
                Body::Accepted(_) if event.seq == of => &mut accepted,
                Body::Started(body) if body.task == of => &mut started,
                Body::Ended(statement) if statement.predicate.task_id.seq() == of => &mut ended,
                _ => continue,
            };
            *place = Some(Template::new(&event.leaf)?);
        }
        let mut output = Vec::new();
        let request = vyr_api::operator::GetTaskRequest { task_id: id };
        let mut chunks = client.operator.get_output(request).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            output.extend_from_slice(&chunk.data);
        }
        Ok(Task {
            accepted: accepted.context("no task.accepted")?,
            started: started.context("no task.started")?,
            ended: ended.context("no task.ended")?,
            input: Vec::new(),
            output,
            span,
        })
    }

    /// The process to count the processor time of, with all it started.
    pub(crate) fn root(&self) -> u32 {
        self.child.id()
    }

    /// Memory of each process.
    pub(crate) fn memory(&self) -> Result<Vec<(String, Resident)>> {
        let of = |(name, pid): &(String, u32)| {
            let resident = Resident::of(&pid.to_string());
            Ok((name.clone(), resident.with_context(|| format!("{name} does not tell"))?))
        };
        self.processes.iter().map(of).collect()
    }

    /// Ends it, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let began = Instant::now();
        while began.elapsed() < END {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "vyr up ended with {status}");
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        bail!("vyr up did not end in {} s", END.as_secs())
    }
}

impl Drop for NodeArm {
    fn drop(&mut self) {
        // Its children end with it. After `stop` there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reference.
#[derive(Debug)]
pub(crate) struct ReferenceArm {
    child: Child,
    pub(crate) target: Target,
}

impl ReferenceArm {
    /// Starts `program` with the rows of `task`; its journal lies below `directory`.
    pub(crate) fn start(
        program: &Path,
        directory: &Path,
        task: &Task,
        like: &Target,
    ) -> Result<Self> {
        let parts = directory.join("task");
        task.save(&parts)?;
        let socket: PathBuf = directory.join("r.sock");
        let mut child = Command::new(program)
            .arg("--socket")
            .arg(&socket)
            .arg("--journal")
            .arg(directory.join("reference.db"))
            .arg("--task")
            .arg(&parts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut ready = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        let target = Target { endpoint: Endpoint::Unix(socket), ..like.clone() };
        let arm = Self { child, target };
        ensure!(ready == "ready\n", "the reference does not serve");
        Ok(arm)
    }

    pub(crate) fn root(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ReferenceArm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
