//! What a team declared: the files of a site, read and resolved.
//!
//! This module finds what stops a compilation (a name that means nothing, a prefix of the wrong
//! family). What a compiled plan can show to be wrong is left to the invariants in `prove`.

mod at;
mod contracts;
mod read;
mod resolve;
mod site;
mod text;

pub use at::At;
pub use contracts::{Contract, ContractsFile, Expect, Place};
pub use read::{FILE_BYTES_MAX, schema};
pub use resolve::{ContractAt, Intent, Operator, Subject};
pub use site::{
    Client, ClientsFile, End, Interface, Mesh, Node, Operators, Profile, Recovery, Server,
    SiteFile, State,
};
pub use text::{
    Address, Host, INTERFACE_CHARS_MAX, Key, NAME_CHARS_MAX, Name, Owner, Prefix, Recipient,
    Service, TextError,
};

pub(crate) use read::conflict_markers;

use vyr_base::{Diagnostic, Source};

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
    /// `vyr.lock`; absent: nothing was allocated.
    pub lock: Option<Source>,
}

impl Files {
    /// Reads them, or says all that is wrong with them.
    pub fn read(self) -> Result<Intent, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let site = read::read::<SiteFile>(&self.site, &mut faults);
        let clients = match &self.clients {
            Some(source) => read::read::<ClientsFile>(source, &mut faults).map(|file| file.clients),
            None => Some(Vec::new()),
        };
        let mut contracts = Vec::new();
        for (file, source) in self.contracts.iter().enumerate() {
            let found = read::read::<ContractsFile>(source, &mut faults);
            let found = found.into_iter().flat_map(|found| found.contracts);
            contracts.extend(found.map(|contract| ContractAt { file, contract }));
        }
        let signers = resolve::signers(self.signers.as_ref(), &mut faults);
        match (site, clients) {
            (Some(site), Some(clients)) if faults.is_empty() => {
                let intent = Intent { site, clients, contracts, signers, files: self };
                resolve::resolve(&intent, &mut faults);
                if faults.iter().any(Diagnostic::is_error) { Err(faults) } else { Ok(intent) }
            }
            _ => Err(faults),
        }
    }
}
