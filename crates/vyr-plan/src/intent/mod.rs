//! What a team declared: the files of a site, read and resolved.
//!
//! This module finds what stops a compilation (a name that means nothing, a prefix of the wrong
//! family). What a compiled plan can show to be wrong is left to the invariants in `prove`.

mod at;
mod contracts;
mod edit;
mod read;
mod resolve;
mod site;
mod stand_in;
mod text;
mod twice;

pub use at::At;
pub use contracts::{Contract, ContractsFile, Expect, Place};
pub use edit::{ClientEdit, EditError, Edited, KeyChange, edit_clients};
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

/// Faults of one file that are told; a file with more is another file.
const FAULTS_MAX: usize = 200;

impl Files {
    /// Reads them, or says all that is wrong with them.
    pub fn read(self) -> Result<Intent, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let site = read::read::<SiteFile>(&self.site, &mut faults);
        let (clients, all_clients) = match &self.clients {
            Some(source) => {
                let found = read::read::<ClientsFile>(source, &mut faults);
                let clients = found.value.map(|file| file.clients).unwrap_or_default();
                (clients, found.whole)
            }
            None => (Vec::new(), true),
        };
        let mut contracts = Vec::new();
        for (file, source) in self.contracts.iter().enumerate() {
            let found = read::read::<ContractsFile>(source, &mut faults);
            let found = found.value.into_iter().flat_map(|found| found.contracts);
            contracts.extend(found.map(|contract| ContractAt { file, contract }));
        }
        let signers = resolve::signers(self.signers.as_ref(), &mut faults);
        let files: Vec<String> = self.names().map(str::to_owned).collect();
        let intent =
            site.value.map(|site| Intent { site, clients, contracts, signers, files: self });
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
        one.into_iter().flatten().chain(&self.contracts).map(Source::name)
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
