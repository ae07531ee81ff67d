//! `vyr artifact`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use vyr_artifact::{Namespace, SIGNATURE_BYTES_MAX, Signature, Spec, signed_bytes};
use vyr_base::{Category, Digest, Problem, format_bytes};
use vyr_node::artifact::{self, Admitted, Listed};
use vyr_node::keys::SigningKey;
use vyr_node::{DataDir, FileError, Result, Trust};

use crate::cli::ArtifactCommand;
use crate::output;

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
#[error("artifact {0} has no signature")]
struct NoSignature(Digest);

impl Problem for NoSignature {
    fn category(&self) -> Category {
        Category::NotFound
    }

    fn hint(&self) -> Option<String> {
        Some(format!("vyr artifact sign {} --key FILE", self.0))
    }
}

pub(crate) fn run(data: &DataDir, command: ArtifactCommand, json: bool) -> Result<ExitCode> {
    match command {
        ArtifactCommand::Build { file, name, args, env, states } => {
            let spec = Spec { name, args, env: env.into_iter().collect(), states };
            build(data, &spec, &file, json)?;
        }
        ArtifactCommand::Sign { digest, key, detached } => {
            sign(data, &digest, key.as_deref(), detached.as_deref(), json)?;
        }
        ArtifactCommand::Put { digest } => {
            let admitted = artifact::put_draft(data, &Trust::load(data)?, &digest)?;
            say_admitted(&[admitted], json)?;
        }
        ArtifactCommand::Ls => ls(data, json)?,
        ArtifactCommand::Show { digest, signature, signed_bytes } => {
            show(data, &digest, signature, signed_bytes, json)?;
        }
        ArtifactCommand::Export { digests, output } => export(data, &digests, &output, json)?,
        ArtifactCommand::Import { archive } => {
            let admitted = if archive == Path::new("-") {
                artifact::import(data, &Trust::load(data)?, io::stdin().lock())?
            } else {
                let file = File::open(&archive).map_err(FileError::on("read", &archive))?;
                artifact::import(data, &Trust::load(data)?, io::BufReader::new(file))?
            };
            say_admitted(&admitted, json)?;
        }
        ArtifactCommand::Gc { dry_run, older_than } => {
            gc(data, dry_run, Duration::from_millis(older_than), json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_json<T: Serialize>(body: T) -> Result<()> {
    Ok(output::json(body).map_err(FileError::on("write", Path::new("stdout")))?)
}

#[derive(Serialize)]
struct Named<'a> {
    artifact_digest: Digest,
    name: &'a str,
}

fn build(data: &DataDir, spec: &Spec, file: &Path, json: bool) -> Result<()> {
    let manifest = artifact::build(data, spec, file)?;
    let digest = manifest.digest();
    if json {
        return write_json(Named { artifact_digest: digest, name: manifest.name() });
    }
    output::print(digest.to_string());
    output::say(format!("next: vyr artifact sign {digest} --key FILE"));
    Ok(())
}

#[derive(Serialize)]
struct Signed {
    artifact_digest: Digest,
    key_id: String,
}

fn sign(
    data: &DataDir,
    digest: &Digest,
    key: Option<&Path>,
    detached: Option<&Path>,
    json: bool,
) -> Result<()> {
    let armored = match (key, detached) {
        (Some(path), _) => {
            SigningKey::open(path)?.sign(Namespace::Artifact, &signed_bytes(digest))?
        }
        (None, Some(path)) => {
            let mut text = Vec::new();
            File::open(path)
                .and_then(|file| file.take(SIGNATURE_BYTES_MAX as u64 + 1).read_to_end(&mut text))
                .map_err(FileError::on("read", path))?;
            Signature::parse(&text)?;
            String::from_utf8_lossy(&text).into_owned()
        }
        (None, None) => unreachable!("clap requires one of the two"),
    };
    artifact::add_signature(data, digest, &armored)?;
    let key_id = Signature::parse(armored.as_bytes())?.key_id().to_string();
    if json {
        return write_json(Signed { artifact_digest: *digest, key_id });
    }
    output::print(&key_id);
    output::say(format!("next: vyr artifact put {digest}"));
    Ok(())
}

#[derive(Serialize)]
struct AdmittedList {
    artifacts: Vec<AdmittedOne>,
}

#[derive(Serialize)]
struct AdmittedOne {
    artifact_digest: Digest,
    name: String,
    signer: String,
    signer_key_id: String,
}

fn say_admitted(admitted: &[Admitted], json: bool) -> Result<()> {
    if json {
        let artifacts = admitted
            .iter()
            .map(|one| AdmittedOne {
                artifact_digest: one.manifest.digest(),
                name: one.manifest.name().to_owned(),
                signer: one.signer.principal.clone(),
                signer_key_id: one.signer.key_id.to_string(),
            })
            .collect();
        return write_json(AdmittedList { artifacts });
    }
    for Admitted { manifest, signer } in admitted {
        output::print(manifest.digest().to_string());
        output::say(format!("{} signer: {} {}", manifest.name(), signer.principal, signer.key_id));
    }
    Ok(())
}

#[derive(Serialize)]
struct List {
    artifacts: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    artifact_digest: Digest,
    name: Option<String>,
    wasm_bytes: Option<u64>,
    signer: Option<String>,
    refused: Option<String>,
    in_store: bool,
}

impl From<Listed> for Line {
    fn from(listed: Listed) -> Self {
        let (name, wasm_bytes, fault) = match &listed.manifest {
            Ok(manifest) => (Some(manifest.name().to_owned()), Some(manifest.wasm().size), None),
            Err(e) => (None, None, Some(e.to_string())),
        };
        let (signer, refused) = match listed.signer {
            Ok(signer) => (Some(signer.principal), fault),
            Err(e) => (None, fault.or(Some(e.to_string()))),
        };
        let artifact_digest = listed.entry.digest;
        Self { artifact_digest, name, wasm_bytes, signer, refused, in_store: listed.in_store }
    }
}

fn ls(data: &DataDir, json: bool) -> Result<()> {
    let lines: Vec<Line> =
        artifact::list(data, &Trust::load(data)?)?.into_iter().map(Line::from).collect();
    if json {
        return write_json(List { artifacts: lines });
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(["DIGEST", "NAME", "WASM", "SIGNER", "WHERE"]);
    let mut refusals = Vec::new();
    for line in lines {
        table.add_row([
            line.artifact_digest.to_string(),
            line.name.unwrap_or_else(|| "?".into()),
            line.wasm_bytes.map_or_else(|| "?".into(), format_bytes),
            line.signer.unwrap_or_else(|| "-".into()),
            if line.in_store { "store" } else { "draft" }.into(),
        ]);
        refusals.extend(line.refused);
    }
    for line in table.lines() {
        output::print(line.trim());
    }
    for refusal in refusals {
        output::say(refusal);
    }
    Ok(())
}

fn show(data: &DataDir, digest: &Digest, signature: bool, bytes: bool, json: bool) -> Result<()> {
    let (store, in_store) = artifact::find(data, digest)?;
    let manifest = artifact::manifest(&store, digest)?;
    if bytes {
        return raw(&signed_bytes(digest));
    }
    let signatures = artifact::signatures(&store, digest)?;
    if signature {
        let first = signatures.first().ok_or(NoSignature(*digest))?;
        return raw(first);
    }
    let verdict = Trust::load(data)?.verify(digest, &signatures, jiff::Timestamp::now());
    let (signer, refused) = match verdict {
        Ok(signer) => (Some(signer), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let shown = Shown {
        artifact_digest: *digest,
        name: manifest.name(),
        wasm_digest: manifest.wasm().digest,
        wasm_bytes: manifest.wasm().size,
        args: manifest.args(),
        env: manifest.env(),
        states: manifest.states(),
        signatures: signatures.len(),
        signer: signer.as_ref().map(|signer| signer.principal.as_str()),
        refused,
        in_store,
    };
    if json {
        return write_json(shown);
    }
    let pretty = serde_json::to_string_pretty(&shown).unwrap_or_default();
    output::print(pretty);
    Ok(())
}

#[derive(Serialize)]
struct Shown<'a> {
    artifact_digest: Digest,
    name: &'a str,
    wasm_digest: Digest,
    wasm_bytes: u64,
    args: &'a [String],
    env: &'a std::collections::BTreeMap<String, String>,
    states: &'a [String],
    signatures: usize,
    signer: Option<&'a str>,
    refused: Option<String>,
    in_store: bool,
}

fn raw(bytes: &[u8]) -> Result<()> {
    Ok(io::stdout().write_all(bytes).map_err(FileError::on("write", Path::new("stdout")))?)
}

#[derive(Serialize)]
struct ExportedBody {
    artifact_digests: Vec<Digest>,
    blobs: u64,
    bytes: u64,
}

/// A file appears whole or not at all: it is written beside its place and renamed. What is no file
/// (a pipe, a device) is written to and stays what it is.
fn export(data: &DataDir, digests: &[Digest], to: &PathBuf, json: bool) -> Result<()> {
    let create = |path: &Path| File::create(path).map_err(FileError::on("write", path));
    let exported = if to == Path::new("-") {
        artifact::export(data, digests, io::stdout().lock())?
    } else if std::fs::metadata(to).is_ok_and(|meta| !meta.is_file()) {
        artifact::export(data, digests, io::BufWriter::new(create(to)?))?
    } else {
        let beside = to.with_extension(format!("partial-{}", std::process::id()));
        let write = || -> Result<vyr_store::Exported> {
            let file = create(&beside)?;
            let exported = artifact::export(data, digests, io::BufWriter::new(&file))?;
            file.sync_all()
                .and_then(|()| std::fs::rename(&beside, to))
                .map_err(FileError::on("write", to))?;
            Ok(exported)
        };
        write().inspect_err(|_| drop(std::fs::remove_file(&beside)))?
    };
    if json && to != Path::new("-") {
        let artifact_digests = digests.to_vec();
        let (blobs, bytes) = (exported.blobs, exported.bytes);
        return write_json(ExportedBody { artifact_digests, blobs, bytes });
    }
    output::say(format!("{} blobs, {}", exported.blobs, format_bytes(exported.bytes)));
    Ok(())
}

#[derive(Serialize)]
struct GcBody {
    dry_run: bool,
    removed: Vec<Digest>,
    bytes: u64,
    code_files: Option<u64>,
    code_bytes: Option<u64>,
}

fn gc(data: &DataDir, dry_run: bool, older_than: Duration, json: bool) -> Result<()> {
    let collected = artifact::gc(data, dry_run, older_than)?;
    let removed = || collected.store.removed.iter().chain(&collected.drafts.removed);
    let bytes = removed().map(|(_, size)| size).sum();
    if json {
        return write_json(GcBody {
            dry_run,
            removed: removed().map(|(digest, _)| *digest).collect(),
            bytes,
            code_files: collected.code.map(|(files, _)| files),
            code_bytes: collected.code.map(|(_, bytes)| bytes),
        });
    }
    for (digest, size) in removed() {
        output::print(format!("{digest} {}", format_bytes(*size)));
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    output::say(format!("{} blobs, {} {verb}", removed().count(), format_bytes(bytes)));
    if let Some((files, bytes)) = collected.code {
        output::say(format!("{files} files of compiled code, {} removed", format_bytes(bytes)));
    }
    Ok(())
}
