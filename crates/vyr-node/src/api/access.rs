//! Who may call: uid, gid or the name in a client's certificate, mapped to roles. Default deny.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo};
use tonic::{Extensions, Status};
use vyr_api::{control, error_status};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::node::Caller;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Watch their own tasks and the node's metrics.
    Observe,
    /// That, and put artifacts, submit tasks, make states.
    Submit,
    /// Everything, with everybody's tasks.
    Operate,
}

/// A line of `[access]` that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} in [access] is not uid:N, gid:N or cert:NAME")]
pub struct AccessError(pub String);

/// The `[access]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    by_uid: BTreeMap<u32, Role>,
    by_gid: BTreeMap<u32, Role>,
    by_certificate: BTreeMap<String, Role>,
}

impl Access {
    /// The table as the configuration has it. Root and the node's own user operate it always:
    /// they can read its memory anyway.
    pub fn new(table: &BTreeMap<String, Role>, own_uid: u32) -> Result<Self, AccessError> {
        let mut access = Self::default();
        for (who, role) in table {
            let bad = || AccessError(who.chars().take(80).collect());
            match who.split_once(':').ok_or_else(bad)? {
                ("uid", n) => access.by_uid.insert(n.parse().map_err(|_| bad())?, *role),
                ("gid", n) => access.by_gid.insert(n.parse().map_err(|_| bad())?, *role),
                ("cert", name) if !name.is_empty() => {
                    access.by_certificate.insert(name.to_owned(), *role)
                }
                _ => return Err(bad()),
            };
        }
        access.by_uid.insert(0, Role::Operate);
        access.by_uid.insert(own_uid, Role::Operate);
        Ok(access)
    }

    /// Who is calling, if they may do what needs `role`.
    pub(super) fn allow(&self, extensions: &Extensions, role: Role) -> Result<Caller, Status> {
        let (name, has) = self.identify(extensions);
        match has {
            Some(has) if has >= role => Ok(Caller { name, operator: has == Role::Operate }),
            _ => Err(error_status(&control::Error {
                category: "auth".into(),
                message: format!("{name} may not do this"),
                hint: format!("ask the node's owner to add it to [access], such as {name:?}"),
                retryable: false,
                retry_after_ms: 0,
                code: tonic::Code::PermissionDenied as i32,
            })),
        }
    }

    fn identify(&self, extensions: &Extensions) -> (String, Option<Role>) {
        if let Some(peer) = extensions.get::<UdsConnectInfo>().and_then(|info| info.peer_cred) {
            let by_uid = self.by_uid.get(&peer.uid());
            let by_gid = self.by_gid.get(&peer.gid());
            return (format!("uid:{}", peer.uid()), by_uid.max(by_gid).copied());
        }
        let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = tls.and_then(TlsConnectInfo::peer_certs);
        let name = certificates.and_then(|all| name_of(all.first()?.as_ref()));
        match name {
            Some(name) => {
                let role = self.by_certificate.get(&name).copied();
                (format!("cert:{name}"), role)
            }
            None => ("nobody".to_owned(), None),
        }
    }
}

/// The first DNS name of a certificate, which the handshake has checked against the client CA.
fn name_of(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_allowed() {
        let table = [("uid:1000".to_owned(), Role::Submit), ("cert:ci".to_owned(), Role::Observe)];
        let access = Access::new(&table.into(), 500).expect("valid");
        assert_eq!(access.by_uid.get(&1000), Some(&Role::Submit));
        assert_eq!(access.by_uid.get(&500), Some(&Role::Operate));
        assert_eq!(access.by_uid.get(&7), None);
        assert!(access.allow(&Extensions::default(), Role::Observe).is_err(), "no credentials");
        for bad in ["1000", "uid:", "uid:x", "user:ana", "cert:", "uid:-1"] {
            let table = [(bad.to_owned(), Role::Submit)].into();
            assert!(Access::new(&table, 0).is_err(), "{bad}");
        }
    }
}
