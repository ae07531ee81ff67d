//! What a node keeps of its services.
//!
//! ```text
//! DATA/services/node          its name in the plans
//!               seed          drawn once; goes into the ids of its instances
//!               plan.json     the services plan that was taken last
//!               releases/HEX  what its releases are made of, and those that may be wanted again
//!               deploy.json   who asked for it, until it has ended; while a plan is taken, both deploys
//!               state.json    what runs, as `vyr_service::run` has it
//!               secrets/HEX   the encrypted files that the plan names, and only those
//! ```
//!
//! Each is replaced whole. `state.json` is written before an order is carried out that was not there
//! before; a plan is written before `state.json` knows of it, so that what is wanted can be looked up.
//! In which order the others are is said where a plan is taken (`deploys`).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_plan::services::{SERVICES_BYTES_MAX, ServiceEntry, ServicesPlan};
use vyr_service::manifest::MANIFEST_BYTES_MAX;
use vyr_service::run::{Run, STATE_BYTES_MAX};

use super::error::ServicesError;
use crate::data_dir::replace;
use crate::network::random_name;

/// Bytes of an encrypted file of secrets: 256 KiB, and what age adds for each recipient.
pub(super) const SEALED_BYTES_MAX: usize = 1 << 20;

/// A deploy that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploying {
    /// Its name: 32 hex digits.
    pub(super) deploy: String,
    /// Who asked.
    pub(super) by: String,
    /// Who approved the plan.
    pub(super) approvers: Vec<String>,
    /// When it was accepted.
    pub(super) begun: Timestamp,
    /// The plan that was in force.
    pub(super) parent: Option<Digest>,
    /// The plan.
    pub(super) plan: Digest,
    /// The one that had not ended when this one began; absent once this one was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) over: Option<Box<Deploying>>,
}

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    directory: PathBuf,
}

impl Desk {
    /// Makes it if it is not there.
    pub(super) fn open(data: &Path) -> Result<Self, ServicesError> {
        let directory = data.join("services");
        for below in ["secrets", "releases"] {
            let path = directory.join(below);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|source| ServicesError::File { path, source })?;
        }
        Ok(Self { directory })
    }

    fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, ServicesError> {
        let path = self.directory.join(name);
        let fail = |source| ServicesError::File { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
        match bytes.len() > most {
            true => Err(fail(io::Error::other("it is too long"))),
            false => Ok(Some(bytes)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ServicesError> {
        let path = self.directory.join(name);
        replace(&path, bytes).map_err(|source| ServicesError::File { path, source })
    }

    fn remove(&self, name: &str) -> Result<(), ServicesError> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(ServicesError::File { path, source: e })
            }
            _ => Ok(()),
        }
    }

    /// The node's name in its plans; none: it never had one.
    pub(super) fn node(&self) -> Result<Option<String>, ServicesError> {
        let text =
            self.read("node", 256)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(text.map(|text| text.trim().to_owned()))
    }

    pub(super) fn keep_node(&self, name: &str) -> Result<(), ServicesError> {
        self.write("node", format!("{name}\n").as_bytes())
    }

    /// The plan that was taken last, with its digest.
    pub(super) fn plan(&self) -> Result<Option<(Digest, ServicesPlan)>, ServicesError> {
        let Some(bytes) = self.read("plan.json", SERVICES_BYTES_MAX)? else { return Ok(None) };
        Ok(Some((Digest::of(&bytes), ServicesPlan::parse(&bytes)?)))
    }

    pub(super) fn keep_plan(&self, bytes: &[u8]) -> Result<(), ServicesError> {
        self.write("plan.json", bytes)
    }

    /// The deploy that has not ended.
    pub(super) fn deploying(&self) -> Result<Option<Deploying>, ServicesError> {
        let Some(bytes) = self.read("deploy.json", 1 << 20)? else { return Ok(None) };
        let path = self.directory.join("deploy.json");
        let read = serde_json::from_slice(&bytes).map_err(io::Error::from);
        read.map(Some).map_err(|source| ServicesError::File { path, source })
    }

    pub(super) fn keep_deploying(&self, of: Option<&Deploying>) -> Result<(), ServicesError> {
        match of {
            None => self.remove("deploy.json"),
            Some(of) => {
                let bytes = serde_json::to_vec(of).map_err(|e| ServicesError::File {
                    path: self.directory.join("deploy.json"),
                    source: e.into(),
                })?;
                self.write("deploy.json", &bytes)
            }
        }
    }

    /// What runs; of a node that never ran anything, a new one.
    pub(super) fn state(&self) -> Result<Run, ServicesError> {
        if let Some(bytes) = self.read("state.json", STATE_BYTES_MAX)? {
            return Ok(Run::parse(&bytes)?);
        }
        let seed = match self.read("seed", 64)? {
            Some(seed) => seed,
            None => {
                let fail =
                    |source| ServicesError::File { path: "the random source".into(), source };
                let seed = random_name().map_err(fail)?.into_bytes();
                self.write("seed", &seed)?;
                seed
            }
        };
        Ok(Run::new(Digest::of(&seed)))
    }

    pub(super) fn keep_state(&self, state: &Run) -> Result<(), ServicesError> {
        self.write("state.json", &state.to_bytes())
    }

    /// The encrypted file of this digest.
    pub(super) fn sealed(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ServicesError> {
        let bytes = self.read(&format!("secrets/{}", digest.hex()), SEALED_BYTES_MAX)?;
        Ok(bytes.filter(|bytes| Digest::of(bytes) == *digest))
    }

    pub(super) fn keep_sealed(&self, bytes: &[u8]) -> Result<(), ServicesError> {
        self.write(&format!("secrets/{}", Digest::of(bytes).hex()), bytes)
    }

    /// What a release is made of.
    pub(super) fn release(&self, id: &Digest) -> Result<Option<ServiceEntry>, ServicesError> {
        let name = format!("releases/{}", id.hex());
        let Some(bytes) = self.read(&name, MANIFEST_BYTES_MAX + 4096)? else { return Ok(None) };
        let path = self.directory.join(name);
        let read = serde_json::from_slice(&bytes).map_err(io::Error::from);
        read.map(Some).map_err(|source| ServicesError::File { path, source })
    }

    pub(super) fn keep_release(&self, entry: &ServiceEntry) -> Result<(), ServicesError> {
        let name = format!("releases/{}", entry.release.digest().hex());
        let bytes = serde_json::to_vec(entry).map_err(|e| ServicesError::File {
            path: self.directory.join(&name),
            source: e.into(),
        })?;
        self.write(&name, &bytes)
    }

    /// Removes what is in `secrets` or `releases` and of none of these digests. What cannot be
    /// removed takes room, and nothing else.
    pub(super) fn keep_only(&self, below: &str, needed: &BTreeSet<Digest>) {
        let needed: BTreeSet<String> = needed.iter().map(Digest::hex).collect();
        let Ok(entries) = fs::read_dir(self.directory.join(below)) else { return };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
