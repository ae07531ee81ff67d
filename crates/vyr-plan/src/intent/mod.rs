//! What a team declared: the files of a site, read and resolved.
//!
//! This module finds what stops a compilation (a name that means nothing, a prefix of the wrong
//! family). What a compiled plan can show to be wrong is left to the invariants in `prove`.

mod contracts;
mod edit;
mod edit_scale;
mod edit_server;
mod resolve;
mod site;
mod text;

pub use contracts::{Contract, ContractsFile, Expect, Place};
pub use edit::{ClientEdit, EditError, Edited, KeyChange, edit_clients};
pub use edit_scale::{ScaleEditError, ScaleEdited, edit_scale};
pub use edit_server::{ServerEditError, ServerEdited, ServerStep, edit_server, find_end};
pub use resolve::{ContractAt, Intent, Operator, ServiceAt, Subject};
pub use site::{
    Activity, Client, ClientsFile, End, Interface, Mesh, Node, OldKey, Operators, Profile,
    Recovery, Server, SiteFile, StagedEnd, State,
};
pub use text::{Address, Host, INTERFACE_CHARS_MAX, Key, Owner, Prefix, Recipient, Service, mesh};
pub use vyr_base::form::{At, FILE_BYTES_MAX, NAME_CHARS_MAX, Name, TextError, schema};

pub(crate) use resolve::{MESH_SUBNET, subnet};

use std::collections::BTreeMap;
use std::sync::LazyLock;

use vyr_base::form::{Reader, Unknown};
use vyr_base::{Diagnostic, Digest, Source};
use vyr_service::manifest;

static SITE: LazyLock<Reader<SiteFile>> = LazyLock::new(|| Reader::new(&text::FORMS, derived));
static CLIENTS: LazyLock<Reader<ClientsFile>> =
    LazyLock::new(|| Reader::new(&text::FORMS, derived));
static CONTRACTS: LazyLock<Reader<ContractsFile>> =
    LazyLock::new(|| Reader::new(&text::FORMS, derived));

/// Keys that people look for, and that are not there on purpose.
fn derived(key: &str) -> Option<Unknown> {
    let derived = ["allowed_ips", "allowedips", "address", "addresses", "routes", "rules"];
    let why = "addresses, AllowedIPs, routes and rules are derived";
    let is_one = derived.contains(&key.to_lowercase().as_str());
    is_one.then_some(Unknown { id: None, why, hint: None })
}

/// The files of a site, as text.
#[derive(Debug, Clone)]
pub struct Files {
    /// `site.toml`.
    pub site: Source,
    /// `clients.toml`; absent: no clients.
    pub clients: Option<Source>,
    /// `operators.allowed_signers`; absent: nobody can sign.
    pub signers: Option<Source>,
    /// `contracts/*.toml`, sorted by name.
    pub contracts: Vec<Source>,
    /// `services/*.toml`, sorted by name.
    pub services: Vec<Source>,
    /// The digests of `secrets/*.age`, by service.
    pub secrets: BTreeMap<String, Digest>,
    /// `vyr.lock`; absent: nothing was allocated.
    pub lock: Option<Source>,
}

/// Faults of one file that are told; a file with more is another file.
const FAULTS_MAX: usize = 200;

impl Files {
    /// A site with a `site.toml` and nothing else.
    pub fn new(site: Source) -> Self {
        let (contracts, services, secrets) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { site, clients: None, signers: None, contracts, services, secrets, lock: None }
    }

    /// Reads them, or says all that is wrong with them.
    pub fn read(self) -> Result<Intent, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let site = SITE.read(&self.site, &mut faults);
        let (clients, all_clients) = match &self.clients {
            Some(source) => {
                let found = CLIENTS.read(source, &mut faults);
                let clients = found.value.map(|file| file.clients).unwrap_or_default();
                (clients, found.whole)
            }
            None => (Vec::new(), true),
        };
        let mut contracts = Vec::new();
        for (file, source) in self.contracts.iter().enumerate() {
            let found = CONTRACTS.read(source, &mut faults);
            let found = found.value.into_iter().flat_map(|found| found.contracts);
            contracts.extend(found.map(|contract| ContractAt { file, contract }));
        }
        let mut services = Vec::new();
        for (file, source) in self.services.iter().enumerate() {
            let stem = source.name().rsplit('/').next().unwrap_or_default();
            match manifest::read(stem.trim_end_matches(".toml"), source) {
                Ok(read) => services.push(ServiceAt { file, read }),
                Err(more) => faults.extend(more),
            }
        }
        let signers = resolve::signers(self.signers.as_ref(), &mut faults);
        let files: Vec<String> = self.names().map(str::to_owned).collect();
        let intent = site.value.map(|site| Intent {
            site,
            clients,
            contracts,
            services,
            signers,
            files: self,
        });
        if let Some(intent) = &intent {
            resolve::resolve(intent, (site.whole, all_clients), &mut faults);
        }
        match intent {
            Some(intent) if !faults.iter().any(Diagnostic::is_error) => Ok(intent),
            _ => Err(in_order(faults, &files)),
        }
    }

    /// Their names, in the order in which their faults are told.
    fn names(&self) -> impl Iterator<Item = &str> {
        let one = [Some(&self.site), self.clients.as_ref(), self.signers.as_ref()];
        let more = self.contracts.iter().chain(&self.services);
        one.into_iter().flatten().chain(more).map(Source::name)
    }
}

/// Reads `site.toml` alone, or says all that is wrong with its form. What it names need not be there.
pub fn read_site(source: &Source) -> Result<SiteFile, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let found = SITE.read(source, &mut faults);
    match found.value {
        Some(site) if !faults.iter().any(Diagnostic::is_error) => Ok(site),
        _ => Err(in_order(faults, &[source.name().to_owned()])),
    }
}

/// Faults in the order of the text, a bounded number a file.
fn in_order(mut faults: Vec<Diagnostic>, files: &[String]) -> Vec<Diagnostic> {
    let file = |fault: &Diagnostic| {
        let name = fault.place.as_ref().map(|place| place.file.as_str());
        files.iter().position(|file| Some(file.as_str()) == name)
    };
    let place = |fault: &Diagnostic| {
        let at = fault.place.as_ref().map(|place| (place.line, place.column));
        (file(fault), at)
    };
    faults.sort_by_cached_key(place);
    let mut told = Vec::new();
    for same in faults.chunk_by(|a, b| file(a) == file(b)) {
        told.extend(same.iter().take(FAULTS_MAX).cloned());
        if let Some(more) = same.len().checked_sub(FAULTS_MAX).filter(|more| *more > 0) {
            let name = file(&same[0]).map_or("the site", |at| &files[at]);
            let fault = Diagnostic::error("too-many", format!("{name} has {more} more faults"));
            told.push(fault.hint("mend these first: one of them may be the cause of the others"));
        }
    }
    told
}
