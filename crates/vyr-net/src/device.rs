//! A WireGuard device as both ways of speaking to one have it.

use std::net::SocketAddr;

use ipnet::IpNet;
use vyr_plan::intent::Key;
use zeroize::Zeroizing;

use crate::diff::AllowedIps;
use crate::error::NetError;

/// Peers of one device. A plan of ten thousand clients has them on several.
pub(crate) const PEERS_MAX: usize = 100_000;
/// Prefixes of all peers of one device.
pub(crate) const ALLOWED_IPS_MAX: usize = 1_000_000;

/// What a device says of itself. It has no field for a private or a preshared key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) public_key: Option<Key>,
    pub(crate) listen_port: u16,
    pub(crate) fwmark: u32,
    pub(crate) peers: Vec<DevicePeer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicePeer {
    pub(crate) public_key: Key,
    pub(crate) has_preshared: bool,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) keepalive_s: u16,
    pub(crate) handshake_unix_s: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) allowed_ips: Vec<IpNet>,
}

impl DevicePeer {
    pub(crate) fn new(public_key: Key) -> Self {
        Self {
            public_key,
            has_preshared: false,
            endpoint: None,
            keepalive_s: 0,
            handshake_unix_s: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            allowed_ips: Vec::new(),
        }
    }
}

/// A key that nobody prints.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// What changes of a device, in one set.
#[derive(Default)]
pub(crate) struct Change {
    /// All zeros: no key.
    pub(crate) private_key: Option<Secret>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) fwmark: Option<u32>,
    pub(crate) peers: Vec<PeerChange>,
}

pub(crate) enum PeerChange {
    Set {
        peer: Key,
        new: bool,
        allowed_ips: Option<AllowedIps>,
        endpoint: Option<SocketAddr>,
        keepalive_s: Option<u16>,
        /// All zeros: none.
        preshared: Option<Secret>,
    },
    Remove(Key),
}

/// A way of speaking to devices.
pub(crate) trait Devices {
    /// Whether the device of this link is reached here.
    fn carries(&self, link: &str, kind: Option<&str>) -> bool;
    /// What a device is.
    fn get(&mut self, link: &str) -> Result<Device, NetError>;
    /// Changes one.
    fn set(&mut self, link: &str, change: &Change) -> Result<(), NetError>;
}
