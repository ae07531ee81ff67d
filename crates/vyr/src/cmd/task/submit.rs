//! `vyr task submit`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vyr_api::Client;
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::submit_task_request::InputRef;
use vyr_api::control::{
    ArtifactHead, Mode, PutArtifactRequest, Resources, StateBinding, SubmitTaskRequest,
};
use vyr_api::operator::Chunk;
use vyr_base::{Category, Digest, Problem};
use vyr_node::node::INLINE_BYTES_MAX;
use vyr_node::{DataDir, FileError, Result, put_file, sign_file};

use super::{Body, each_line, ends, id};
use crate::cli::{Access, SubmitArgs};
use crate::cmd::link::{Hands, Link, Place, refused};
use crate::cmd::run::{Named, name_program};
use crate::output;

/// Bytes in one message of a blob.
const CHUNK: usize = 256 << 10;

/// Messages on their way to the node.
const WAITING: usize = 8;

/// Why the command line does not make sense.
#[derive(Debug, thiserror::Error)]
enum SubmitError {
    #[error("artifact {0} declares states, and no node is running that could hold them")]
    States(Digest),
}

impl Problem for SubmitError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("start a node: vyr up".into())
    }
}

pub(crate) fn run(place: &Place, args: &SubmitArgs, json: bool) -> Result<ExitCode> {
    let program = name_program(&args.program)?;
    let input = args.input.as_deref().map(Source::open).transpose()?;
    let lines = args.each_line.as_deref().map(Source::open).transpose()?;
    let link = match Link::found(place)? {
        Some(link) => link,
        None if args.bind.is_empty() => {
            let hands = if lines.is_some() { Hands::Many } else { Hands::One };
            Link::here(&place.open()?, hands)?
        }
        None => return Err(place.no_node("a state").into()),
    };
    let artifact = match program {
        Named::Artifact(digest) => digest,
        Named::File(path) => put(&link, &place.open()?, &path, args.key_file.as_deref())?,
    };
    if link.is_here() {
        without_states(&place.open()?, &artifact)?;
    }
    let request = request(args, &artifact);
    let code = match lines {
        Some(lines) => each_line::run(&link, request, lines, args, json),
        None => one(&link, request, input, args, json),
    };
    link.end();
    code
}

/// A node that ends with this command cannot hold states; said before anything is accepted.
fn without_states(data: &DataDir, artifact: &Digest) -> Result<()> {
    // What is wrong with the artifact is the node's to say.
    let Ok(manifest) = vyr_node::artifact::manifest(&data.store()?, artifact) else {
        return Ok(());
    };
    match manifest.states().is_empty() {
        true => Ok(()),
        false => Err(SubmitError::States(*artifact).into()),
    }
}

fn request(args: &SubmitArgs, artifact: &Digest) -> SubmitTaskRequest {
    let mode = |access| match access {
        Access::Ro => Mode::Ro,
        Access::Rw => Mode::Rw,
    };
    let bind = |(state, access): &(String, Access)| StateBinding {
        state_id: state.clone(),
        mode: mode(*access).into(),
    };
    SubmitTaskRequest {
        artifact_digest: artifact.to_string(),
        input_ref: None,
        state_bindings: args.bind.iter().map(bind).collect(),
        resources: Some(Resources {
            memory_bytes: args.memory.unwrap_or(0),
            deadline_ms: args.deadline.unwrap_or(0),
            cpu_ms: args.cpu.unwrap_or(0),
            output_bytes_max: args.output_max.unwrap_or(0),
            priority: args.priority,
            deterministic: args.deterministic,
        }),
        idempotency_key: args.key.clone().unwrap_or_default(),
        traceparent: String::new(),
    }
}

/// Something to read: a file or stdin.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    path: PathBuf,
    /// In bytes, of a file.
    pub(super) size: Option<u64>,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::new(io::stdin()), path: path.to_owned(), size: None });
        }
        let file = File::open(path).map_err(FileError::on("read", path))?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        Ok(Self { reader: Box::new(file), path: path.to_owned(), size })
    }

    /// At most `most` bytes more.
    fn piece(&mut self, most: usize) -> Result<Bytes> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(most as u64).read_to_end(&mut bytes);
        read.map_err(FileError::on("read", &self.path))?;
        Ok(bytes.into())
    }

    /// For somebody who reads by lines.
    pub(super) fn into_parts(self) -> (Box<dyn Read + Send>, PathBuf) {
        (self.reader, self.path)
    }
}

fn one(
    link: &Link,
    mut request: SubmitTaskRequest,
    input: Option<Source>,
    args: &SubmitArgs,
    json: bool,
) -> Result<ExitCode> {
    let body = link.with(async |mut client: Client| {
        let digest = match input {
            None => Digest::of(b"").to_string(),
            Some(source) => {
                let (input, digest) = put_input(&mut client, source).await?;
                request.input_ref = Some(input);
                digest
            }
        };
        let artifact = request.artifact_digest.clone();
        let task = client.submit_request(request).await.map_err(refused)?;
        let mut body = Body::accepted(task.clone(), &artifact, &digest);
        if args.wait || link.is_here() {
            if !json {
                // Known from here on, whatever becomes of this command.
                output::print(&task);
            }
            ends(client, &[id(&task)?], |ended| {
                body = ended;
                Ok(())
            })
            .await?;
        } else if !json {
            output::print(&task);
        }
        Ok(body)
    })?;
    let completed = body.completed();
    if json {
        output::json_line(body)?;
    } else if body.ended() {
        output::say(format!("vyr: {}", body.verdict()));
        output::say(format!("  output: vyr task output {}", body.task_id));
    }
    Ok(ExitCode::from(u8::from(args.wait && !completed)))
}

/// A small input as it is, a large one by digest, once the node has it.
async fn put_input(client: &mut Client, mut source: Source) -> Result<(InputRef, String)> {
    let first = source.piece(INLINE_BYTES_MAX + 1)?;
    if first.len() <= INLINE_BYTES_MAX {
        let digest = Digest::of(&first).to_string();
        return Ok((InputRef::Inline(first), digest));
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    // Reading may wait for a person at a keyboard, so it has a thread.
    let reading = tokio::task::spawn_blocking(move || -> Result<()> {
        let mut next = first;
        while !next.is_empty() {
            if sender.blocking_send(Chunk { data: next }).is_err() {
                break;
            }
            next = source.piece(CHUNK)?;
        }
        Ok(())
    });
    let stored = client.operator.put_blob(ReceiverStream::new(receiver)).await;
    // What could not be read must not run as if it were all.
    reading.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
    let digest = stored.map_err(refused)?.into_inner().digest;
    Ok((InputRef::InputDigest(digest.clone()), digest))
}

/// Builds, signs and puts a file; a node elsewhere gets it over the link.
fn put(link: &Link, data: &DataDir, path: &Path, key: Option<&Path>) -> Result<Digest> {
    if link.is_here() {
        return Ok(put_file(data, path, Vec::new(), key)?.manifest.digest());
    }
    let signed = sign_file(data, path, Vec::new(), key)?;
    let manifest = &signed.artifact.manifest;
    let digest = manifest.digest();
    let head = ArtifactHead {
        digest: digest.to_string(),
        manifest: manifest.bytes().to_vec().into(),
        signature: signed.signature.into_bytes().into(),
    };
    let mut parts = vec![Part::Head(head)];
    for (blob, bytes) in [
        (manifest.config().digest, Bytes::from(signed.artifact.config)),
        (manifest.wasm().digest, Bytes::from(signed.wasm)),
    ] {
        parts.push(Part::BlobDigest(blob.to_string()));
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + CHUNK);
            parts.push(Part::Chunk(bytes.slice(at..end)));
            at = end;
        }
    }
    let messages = parts.into_iter().map(|part| PutArtifactRequest { part: Some(part) });
    link.with(async |mut client: Client| {
        let messages = tokio_stream::iter(messages);
        client.control.put_artifact(messages).await.map_err(refused)?;
        Ok(())
    })?;
    Ok(digest)
}
