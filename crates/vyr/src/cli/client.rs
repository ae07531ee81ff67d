//! The commands of people's devices and their keys.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use vyr_plan::intent::{Key, Name, Owner, TextError};

use super::network::HostArgs;
use super::site::SiteArgs;

/// People's devices
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    Add(ClientAddArgs),
    Ls(ClientLsArgs),
    Export(ClientExportArgs),
    Rotate(ClientRotateArgs),
    Move(ClientMoveArgs),
    Revoke(ClientRevokeArgs),
}

/// Add a device: one line in clients.toml, every other byte as it was
///
/// The key is active with the next plan: vyr lock, vyr plan sign, vyr apply.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["public_key", "key"])))]
pub(crate) struct ClientAddArgs {
    /// The device; its addresses come from this name, which never changes
    pub(crate) id: Name,

    /// Who holds it; for people, and in no plan
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Owner,

    /// What it connects to
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) interface: Name,

    /// What it may reach
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Name,

    /// Its public key, where the user made the pair: wg genkey, wg pubkey
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Option<Key>,

    /// Make the pair here: the private key is written into this new file, and nowhere else
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// List devices: each key, its state, its addresses if they are locked
#[derive(Debug, Args)]
pub(crate) struct ClientLsArgs {
    /// On a host of the site: when each key last shook hands there, and who has not moved
    #[arg(long)]
    pub(crate) live: bool,

    #[command(flatten)]
    pub(crate) host: HostArgs,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Give a device another key, without a gap: staged first, then in the place of the old one
///
/// With a new key: it is staged beside the active one, and a host moves the device's addresses to it
/// when it first shakes hands (vyr client move). With --finish, after that: the staged key becomes
/// the active one, and the old one is retired.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("how").required(true).args(["public_key", "key", "finish"])))]
pub(crate) struct ClientRotateArgs {
    /// The device
    pub(crate) id: Name,

    /// Its new public key, where the user made the pair
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Option<Key>,

    /// Make the pair here: the private key is written into this new file, and nowhere else
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// The staged key has taken over: it becomes the active one
    #[arg(long)]
    pub(crate) finish: bool,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Let staged keys of this host take over that are in use
///
/// A staged key that shook hands, and whose old one did not after it, gets the device's addresses,
/// as the plan in force allows. Says of each how far it is. Needs root, on the host.
#[derive(Debug, Args)]
pub(crate) struct ClientMoveArgs {
    /// Only this device
    #[arg(conflicts_with = "watch")]
    pub(crate) id: Option<String>,

    /// Look on until ended: every 10 ms while a key is staged, once a second else
    #[arg(long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) host: HostArgs,
}

/// Refuse a device's keys, or one key, for good
///
/// With the next plan its connections are cut. The key never returns; the device may, with another.
#[derive(Debug, Args)]
pub(crate) struct ClientRevokeArgs {
    /// The device, or one public key of it
    #[arg(value_name = "ID|KEY")]
    pub(crate) which: Revoked,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// What is revoked.
#[derive(Debug, Clone)]
pub(crate) enum Revoked {
    /// All keys of a device.
    Client(Name),
    /// One key.
    Key(Key),
}

impl FromStr for Revoked {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        // No name is a key: it would be too long.
        match text.parse() {
            Ok(key) => Ok(Self::Key(key)),
            Err(_) => text.parse().map(Self::Client),
        }
    }
}

/// Write what a device is given, from the plan and its private key
///
/// The key stays where it was made: it is read, compared with the plan, and goes into the
/// configuration and nowhere else. An interface on two servers gives two files: one up at a time.
#[derive(Debug, Args)]
pub(crate) struct ClientExportArgs {
    /// The device
    pub(crate) id: String,

    /// Its private key, as `wg genkey` made it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,

    /// Only for this server
    #[arg(long, value_name = "SERVER")]
    pub(crate) server: Option<String>,

    /// What the device reads
    #[arg(long, value_enum, default_value_t = Format::WgQuick)]
    pub(crate) format: Format,

    /// Where the files go; - for stdout [default: here, and stdout for qr]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Replace files that are there
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// What a device reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A file for wg-quick and WireGuard's own applications
    WgQuick,
    /// A NetworkManager keyfile
    Networkmanager,
    /// Two files of systemd-networkd
    Networkd,
    /// A QR code on the terminal
    Qr,
    /// A QR code as a picture
    Png,
}
