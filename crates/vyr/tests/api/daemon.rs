//! A node to talk to, and artifacts to talk about.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, PrivateKey};
use tonic::Status;
use tonic::transport::Channel;
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::{
    ArtifactHead, PutArtifactRequest, PutArtifactResponse, Span, StreamTracesRequest, TaskEnd,
    TraceFilter,
};
use vyr_api::operator::{Chunk, GetTaskRequest, ReadBlobRequest};
use vyr_api::{ApiError, Client, Endpoint};
use vyr_artifact::{Artifact, Namespace, Spec, sign, signed_bytes};
use vyr_base::Digest;

/// Nothing here takes a tenth of it; what does hangs. Not a figure of speed.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// The size of a chunk in our own uploads.
const CHUNK: usize = 256 << 10;

/// `vyr up` on a data directory of its own, which trusts one key. Killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    directory: tempfile::TempDir,
    /// The key whose signatures it trusts.
    pub(crate) key: PrivateKey,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key = new_key();
        let trust = directory.path().join("data/trust");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&trust).expect("a directory");
        let line = key.public_key().to_openssh().expect("a public key");
        let line = format!("ana@example.org namespaces=\"vyr-artifact\" {line}\n");
        fs::write(trust.join("allowed_signers"), line).expect("a trust file");
        let child = up(&directory.path().join("data"));
        Self { child, directory, key }
    }

    /// Kills it as a crash would, and starts it again on the same data.
    pub(crate) fn restart(&mut self) {
        self.end();
        self.child = up(&self.data());
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.data().join("run/control.sock")
    }

    /// A client with all calls.
    pub(crate) async fn client(&self) -> Client {
        let socket = self.data().join("run/operator.sock");
        Client::connect(&Endpoint::Unix(socket)).await.expect("a connection")
    }

    /// The channel to `control.sock`, below any generated client.
    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("unix://{}", self.control_socket().display());
        let endpoint = tonic::transport::Endpoint::from_shared(uri).expect("an address");
        endpoint.connect().await.expect("a connection")
    }

    /// A guest with arguments, signed by the trusted key.
    pub(crate) fn signed(&self, name: &str, args: &[&str]) -> Signed {
        let spec = Spec {
            name: name.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Spec::default()
        };
        Signed::new(&spec, &self.key)
    }

    /// The same, put already; its digest.
    pub(crate) async fn put(&self, name: &str, args: &[&str]) -> String {
        let signed = self.signed(name, args);
        put(&mut self.client().await, signed.parts()).await.expect("put").digest
    }
}

pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("a key")
}

/// Starts a node and waits until it says that it is ready.
fn up(data: &Path) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vyr"))
        .arg("--data-dir")
        .arg(data)
        .arg("up")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("vyr starts");
    let stderr = child.stderr.take().expect("a pipe");
    let (sender, lines) = mpsc::channel();
    // To its end, so that the node never waits for a reader.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(HANG) {
            Ok(line) if line.contains("ready on") => return child,
            Ok(line) => said.push(line),
            Err(_) => panic!("vyr up did not become ready: {said:#?}"),
        }
    }
}

/// An artifact as a client holds it.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) head: ArtifactHead,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

impl Signed {
    pub(crate) fn new(spec: &Spec, key: &PrivateKey) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/bin");
        let wasm = fs::read(root.join(format!("{}.wasip1.wasm", spec.name))).expect("a guest");
        let Artifact { manifest, config } = Artifact::build(spec, &wasm).expect("an artifact");
        let digest = manifest.digest();
        let signature = sign(key, Namespace::Artifact, &signed_bytes(&digest)).expect("signed");
        let head = ArtifactHead {
            digest: digest.to_string(),
            manifest: manifest.bytes().to_vec().into(),
            signature: signature.into_bytes().into(),
        };
        let blobs = [config, wasm].map(|blob| (Digest::of(&blob).to_string(), blob));
        Self { head, blobs: blobs.into() }
    }

    /// The messages of a put.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Head(self.head.clone())];
        for (digest, blob) in &self.blobs {
            parts.push(Part::BlobDigest(digest.clone()));
            let chunks = blob.chunks(CHUNK).map(|chunk| Part::Chunk(chunk.to_vec().into()));
            parts.extend(chunks);
        }
        parts
    }
}

pub(crate) async fn put(
    client: &mut Client,
    parts: Vec<Part>,
) -> Result<PutArtifactResponse, ApiError> {
    let messages = parts.into_iter().map(|part| PutArtifactRequest { part: Some(part) });
    let stream = tokio_stream::iter(messages.collect::<Vec<_>>());
    let put = tokio::time::timeout(HANG, client.control.put_artifact(stream));
    Ok(put.await.expect("in time")?.into_inner())
}

/// Puts bytes into the store; their digest.
pub(crate) async fn put_blob(client: &mut Client, bytes: &[u8]) -> String {
    let chunks: Vec<Chunk> =
        bytes.chunks(CHUNK).map(|chunk| Chunk { data: chunk.to_vec().into() }).collect();
    let answer = client.operator.put_blob(tokio_stream::iter(chunks)).await.expect("put");
    answer.into_inner().digest
}

/// The bytes of the store or journal with that digest.
pub(crate) async fn read_blob(client: &mut Client, digest: &str) -> Result<Vec<u8>, Status> {
    let request = ReadBlobRequest { digest: digest.to_owned() };
    let mut chunks = client.operator.read_blob(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

/// The state of a task as its owner sees it.
pub(crate) async fn state(client: &mut Client, task: &str) -> vyr_api::control::TaskState {
    let request = GetTaskRequest { task_id: task.to_owned() };
    client.operator.get_task(request).await.expect("known").into_inner().state()
}

/// Waits for a task's end.
pub(crate) async fn wait(client: &mut Client, task: &str) -> (Span, TaskEnd) {
    let span = tokio::time::timeout(HANG, client.wait(task)).await.expect("in time");
    let span = span.expect("a terminal span");
    let end = span.end.clone().expect("an end");
    (span, end)
}

/// All spans of a filter that ends.
pub(crate) async fn spans(client: &mut Client, filter: TraceFilter) -> Vec<Span> {
    let request = StreamTracesRequest { filter: Some(filter) };
    let mut stream = client.control.stream_traces(request).await.expect("spans").into_inner();
    let mut spans = Vec::new();
    let all = async {
        while let Some(span) = stream.message().await.expect("a span") {
            spans.push(span);
        }
    };
    tokio::time::timeout(HANG, all).await.expect("in time");
    spans
}

/// A filter for certain tasks.
pub(crate) fn of_tasks(tasks: &[&str]) -> TraceFilter {
    let task_ids = tasks.iter().map(|task| (*task).to_owned()).collect();
    TraceFilter { task_ids, ..TraceFilter::default() }
}

/// Runs a test's client.
pub(crate) fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A refusal, in what a client acts on.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    result: Result<T, ApiError>,
    category: &str,
    words: &[&str],
) -> ApiError {
    let error = result.expect_err("refused");
    assert_eq!(error.category, category, "{error:?}");
    for word in words {
        let told = error.message.contains(word)
            || error.hint.as_ref().is_some_and(|hint| hint.contains(word));
        assert!(told, "{word:?} is not in {error:?}");
    }
    error
}
