//! A plan as texts: what a machine and what a device is given.
//!
//! Everything stands in the plan already; a renderer spells it and decides nothing. The same plan
//! gives the same bytes.
//!
//! Invariants:
//! 1. What a plan's text could break (a name with a space, an endpoint with a line break) is
//!    refused, not escaped: a compiled plan has none.
//! 2. No text of a machine has a key: one placeholder stands where its private one belongs. A
//!    device's key is in its files, and in nothing that is printed about them.

mod client;
mod firewall;
mod key;
mod qr;
mod server;

use std::fmt;

use vyr_base::{Category, Problem, canonical};
use zeroize::Zeroizing;

use crate::intent::Key;

pub use client::{Form, KeyUse, client, key_use};
pub use firewall::{FIREWALL_FILE, TABLE, firewall, set_name};
pub use key::PrivateKey;
pub use server::{PRIVATE_KEY_PLACEHOLDER, server, wireguard};

/// A file of whoever gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, below a directory of its reader's choice.
    pub name: String,
    /// What is in it.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether a private key is in it.
    pub secret: bool,
}

impl File {
    fn open(name: impl Into<String>, text: String) -> Self {
        Self { name: name.into(), bytes: Zeroizing::new(text.into_bytes()), secret: false }
    }
}

/// A secret's bytes are not shown.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("File");
        shown.field("name", &self.name).field("secret", &self.secret);
        match self.secret {
            true => shown.finish_non_exhaustive(),
            false => shown.field("text", &String::from_utf8_lossy(&self.bytes)).finish(),
        }
    }
}

/// Why a plan has no such text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// It is another site's, or misspelt.
    #[error("the plan has no machine {0}")]
    NoMachine(String),
    /// It is another site's, or misspelt.
    #[error("the plan has no client {0}")]
    NoClient(String),
    /// It is not a way of this client.
    #[error("{client} has no way by {server}")]
    NoServer {
        /// The client.
        client: String,
        /// The server that was named.
        server: String,
        /// Those that it has a way by.
        servers: String,
    },
    /// Not what `wg genkey` writes.
    #[error("it is no WireGuard private key")]
    NotAKey,
    /// It belongs to another device, or to none.
    #[error("the private key is not {client}'s: its public key is {found}")]
    WrongKey {
        /// The client.
        client: String,
        /// The public key that belongs to the private one.
        found: Key,
    },
    /// More than the largest QR code holds.
    #[error("{0} bytes do not fit into a QR code")]
    QrTooLong(usize),
    /// The image could not be made.
    #[error("the QR code could not be made into an image")]
    Image(#[source] png::EncodingError),
    /// A plan that no compiler of ours made.
    #[error("{what} cannot be written: {text:?}")]
    Unfit {
        /// What it is.
        what: &'static str,
        /// As the plan has it.
        text: String,
    },
    /// A value that JSON has no form for.
    #[error("the firewall has no JSON form")]
    Form(#[source] canonical::CanonicalError),
}

impl Problem for RenderError {
    fn category(&self) -> Category {
        match self {
            Self::NoMachine(_) | Self::NoClient(_) | Self::NoServer { .. } => Category::NotFound,
            Self::Unfit { .. } | Self::NotAKey | Self::QrTooLong(_) => Category::Usage,
            Self::WrongKey { .. } => Category::Auth,
            Self::Form(_) | Self::Image(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoMachine(_) => "its machines: vyr graph".into(),
            Self::Unfit { .. } => "compile the plan again from the site: vyr plan".into(),
            Self::NoClient(_) => "its clients: vyr client ls".into(),
            Self::NoServer { servers, .. } => format!("it has a way by {servers}"),
            Self::NotAKey => "44 characters of base64, as `wg genkey` writes them".into(),
            Self::WrongKey { client, .. } => {
                format!("take the key made on {client}, or put its public key into clients.toml")
            }
            Self::QrTooLong(_) => "export it as a file: --format wg-quick".into(),
            Self::Form(_) | Self::Image(_) => {
                "this is a fault of vyr: please report it with the plan".into()
            }
        })
    }
}

/// `text`, if it is a word of letters, digits and `marks`, a letter first, and not too long.
fn word<'a>(
    what: &'static str,
    text: &'a str,
    marks: &str,
    bytes_max: usize,
) -> Result<&'a str, RenderError> {
    let good = text.len() <= bytes_max
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c));
    if good { Ok(text) } else { Err(RenderError::Unfit { what, text: text.into() }) }
}

/// The name of a link, as the kernel takes it: 15 bytes and a zero.
fn link_name(name: &str) -> Result<&str, RenderError> {
    word("a link's name", name, "-", 15)
}

/// An endpoint, as every reader of ours takes it.
fn endpoint(text: &str) -> Result<&str, RenderError> {
    let good = text.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c));
    let good = good && text.contains(':');
    if good { Ok(text) } else { Err(RenderError::Unfit { what: "an endpoint", text: text.into() }) }
}

/// A list as WireGuard's files have it.
fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
