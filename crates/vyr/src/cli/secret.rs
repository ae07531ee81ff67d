//! The commands of secrets.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use vyr_plan::intent::Name;

use super::site::SiteArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Give secrets a value: from stdin, or from a file
    ///
    /// A value is never an argument: others see those. NAME and NAME=- read stdin, NAME=FILE a file.
    /// The line's end of a value of one line is no part of it. To add to secrets that are there they
    /// have to be read, which needs --identity; the first need none.
    Set {
        /// What, and where its value is
        #[arg(value_name = "NAME[=FILE|-]", required = true)]
        secrets: Vec<SecretInput>,
        /// Take every byte, also the line's end of a value of one line
        #[arg(long)]
        exact: bool,
        #[command(flatten)]
        args: SecretArgs,
    },
    /// Print the names of a service's secrets; never a value
    Ls {
        #[command(flatten)]
        args: SecretArgs,
    },
    /// Remove secrets
    Rm {
        /// Which
        #[arg(value_name = "NAME", required = true)]
        names: Vec<SecretInput>,
        #[command(flatten)]
        args: SecretArgs,
    },
    /// Give secrets that are there another value, or encrypt all of them anew
    ///
    /// Without a NAME the values stay, and are encrypted to the recipients of now. Either way the
    /// file is another one, so that the next plan replaces the service's instances.
    Rotate {
        /// What, and where its value is
        #[arg(value_name = "NAME[=FILE|-]")]
        secrets: Vec<SecretInput>,
        /// Take every byte, also the line's end of a value of one line
        #[arg(long)]
        exact: bool,
        #[command(flatten)]
        args: SecretArgs,
    },
    /// Write down that a service has no secrets
    ///
    /// Its file is there and empty. A service whose manifest requires some is refused.
    ConfirmNone {
        #[command(flatten)]
        args: SecretArgs,
    },
}

/// Whose secrets, and with what they are read.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// The service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Name,

    /// What opens them: an age identity file or an ssh-ed25519 private key, readable by you alone
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// A secret's name as it was typed, and where its value is. It is judged later, so that what was
/// typed is not repeated: it may be a value.
#[derive(Clone)]
pub(crate) struct SecretInput {
    /// In front of the first `=`.
    pub(crate) name: String,
    /// Behind it; none: stdin.
    pub(crate) from: Option<PathBuf>,
}

impl std::fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[not shown]")
    }
}

impl FromStr for SecretInput {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, from) = match text.split_once('=') {
            Some((name, "-")) => (name, None),
            Some((name, from)) => (name, Some(PathBuf::from(from))),
            None => (text, None),
        };
        Ok(Self { name: name.to_owned(), from })
    }
}
